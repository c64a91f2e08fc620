"""A network on pairs under training: its loss, and what a validation finds.

Shape suffixes: B sample, C channel, Y row, X column.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cdscale.learn.labels import IGNORED
from cdscale.learn.losses import multiclass_dice, power_jaccard, weighted_nll
from cdscale.learn.metrics import Curve
from cdscale.learn.training.mapping import Mapping
from cdscale.learn.training.module import Training, channels_last
from cdscale.learn.training.pair.data import ChangeData
from cdscale.learn.training.pair.mapping import map_pair
from cdscale.learn.training.pair.recipe import Loss, PairRecipe
from cdscale.models.patch import SIDE, PatchNet
from cdscale.spec.card import ModelCard

VARIANTS = ("s1s2", "s2")
"""Maps from both sensors, and with radar withheld."""


class ChangeTraining(Training):
    """Training of a network on pairs.

    Parameters
    ----------
    recipe : PairRecipe
        Loss, optimiser, schedule, average and seed.
    network : nn.Module
        With random weights.
    data : ChangeData
        Class weights, and batches of an epoch.
    card : ModelCard
        How held-out places are mapped.
    """

    recipe: PairRecipe

    def __init__(
        self, recipe: PairRecipe, network: nn.Module, data: ChangeData, card: ModelCard
    ) -> None:
        super().__init__(recipe, network, data.steps)
        self.how, self.weights = Mapping.of(card, recipe.tta), data.weights
        self.variants = VARIANTS if recipe.s1_bands else VARIANTS[1:]
        figures = ("f1", "precision", "recall", "threshold")
        self.columns = (*(f"{v}_{f}" for v in self.variants for f in figures), "score")
        self.told = {f"F1 {v}": f"{v}_f1" for v in self.variants}
        self._curves: dict[str, Curve] = {}

    @property
    def threshold(self) -> float:
        """The recipe's, or the best of the last validation."""
        return self.recipe.threshold or self.figures.get("s2_threshold", 0.5)

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        """The sum of the recipe's terms."""
        *inputs, label = batch
        logits, label = self._answer([channels_last(x) for x in inputs], label)
        return loss_of(logits.float(), label, self.weights, self.recipe.loss)

    def _answer(self, inputs: list[Tensor], label: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and the label that they answer: of a patch classifier, that of its centre."""
        if not isinstance(self.network, PatchNet):
            return self.network(*inputs), label
        if label.shape[-1] != SIDE:
            return self.network(*inputs), label
        middle = slice(SIDE // 2, SIDE // 2 + 1)
        return self.network.classify(*inputs)[..., None, None], label[:, middle, middle]

    def on_validation_epoch_start(self) -> None:
        """Nothing is counted yet."""
        self._curves = {name: Curve() for name in self.variants}

    def validation_step(self, batch: tuple[Tensor, ...], index: int) -> None:
        """Count the pixels of one whole place."""
        del index
        s2, s1, label = batch
        self.kept.eval()
        for name, curve in self._curves.items():
            radar = torch.full_like(s1, torch.nan) if name == "s2" else s1
            curve.add(map_pair(self.kept, s2, radar, self.how), label.cpu().numpy())

    def on_validation_epoch_end(self) -> None:
        """Figures of all places pooled, at the recipe's threshold or at the best.

        ``score``, by which weights are chosen, is the mean F1 of the variants.
        """
        figures: dict[str, float] = {}
        for name, curve in self._curves.items():
            threshold = self.recipe.threshold or curve.best()[0]
            counts = curve.at(threshold)
            figures |= {
                f"{name}_f1": counts.f1, f"{name}_precision": counts.precision,
                f"{name}_recall": counts.recall, f"{name}_threshold": threshold,
            }  # fmt: skip
        f1 = [figures[f"{name}_f1"] for name in self._curves]
        self.found(figures | {"score": sum(f1) / len(f1)})


def loss_of(
    logits_BCYX: Tensor, label_BYX: Tensor, weights: tuple[float, float], rule: Loss
) -> Tensor:
    """The sum of the recipe's terms."""
    loss = logits_BCYX.new_zeros(())
    if rule.nll:
        loss = loss + rule.nll * weighted_nll(logits_BCYX, label_BYX, weights)
    if rule.jaccard:
        counted = label_BYX != IGNORED
        probability = logits_BCYX.softmax(dim=1)[:, 1] * counted
        loss = loss + rule.jaccard * power_jaccard(probability, (label_BYX == 1) & counted)
    if rule.dice:
        loss = loss + rule.dice * multiclass_dice(logits_BCYX, label_BYX)
    return loss
