"""A network on months under training: its loss, and what a validation finds."""

from __future__ import annotations

from torch import Tensor, nn

from cdscale.learn.metrics import Curve
from cdscale.learn.training.mapping import Mapping
from cdscale.learn.training.module import Training, channels_last
from cdscale.learn.training.month.data import MonthData
from cdscale.learn.training.month.figures import count_month, sets_of
from cdscale.learn.training.month.loss import month_loss
from cdscale.learn.training.month.recipe import MonthRecipe
from cdscale.spec.card import ModelCard

FIGURES = ("f1", "iou", "precision", "recall")


class MonthTraining(Training):
    """Training of a network on months.

    Parameters
    ----------
    recipe : MonthRecipe
        Loss, optimiser, schedule, average and seed.
    network : nn.Module
        With random weights.
    data : MonthData
        Batches of an epoch.
    card : ModelCard
        How held-out months are mapped.
    """

    recipe: MonthRecipe

    def __init__(
        self, recipe: MonthRecipe, network: nn.Module, data: MonthData, card: ModelCard
    ) -> None:
        super().__init__(recipe, network, data.steps)
        self.how, self.sets = Mapping.of(card, recipe.tta), sets_of(recipe)
        self.columns = (*(f"{s}_{f}" for s in self.sets for f in FIGURES), "threshold", "score")
        self.told = {f"F1 {name}": f"{name}_f1" for name in self.sets}
        self._curves: dict[str, Curve] = {}

    @property
    def threshold(self) -> float:
        """The recipe's, or the best of the last validation."""
        return self.recipe.threshold or self.figures.get("threshold", 0.5)

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        """That of System C."""
        s1, s2, seen, label = batch
        inputs = channels_last(s1), channels_last(s2), seen, label
        return month_loss(self.network, inputs, self.recipe.loss).float()

    def on_validation_epoch_start(self) -> None:
        """Nothing is counted yet."""
        self._curves = {name: Curve() for name in self.sets}

    def validation_step(self, batch: tuple[Tensor, ...], index: int) -> None:
        """Count the pixels of one whole month."""
        del index
        self.kept.eval()
        count_month(self._curves, self.kept, batch, self.how)

    def on_validation_epoch_end(self) -> None:
        """Figures of all months pooled, at the recipe's threshold or the best over all pixels.

        ``score``, by which weights are chosen, is the F1 over all pixels.
        """
        threshold = self.recipe.threshold or self._curves["all"].best()[0]
        figures = {"threshold": threshold}
        for name, curve in self._curves.items():
            counts = curve.at(threshold)
            figures |= {f"{name}_{figure}": getattr(counts, figure) for figure in FIGURES}
        self.found(figures | {"score": figures["all_f1"]})
