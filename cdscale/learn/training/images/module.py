"""A network on images under training: its loss, what a validation finds, and its two stages.

Strategies 3 and 4.2 of R. Caye Daudt et al. are trained one part after the other. In the first
``land_epochs`` epochs the land cover part has an optimiser of its own; then it is frozen, batch
statistics and all, and the change part has another, over its parameters alone.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from cdscale.learn.data import data_set
from cdscale.learn.images import Counter, Labels, SceneMapper, SemanticCounts
from cdscale.learn.losses import SemanticLabels
from cdscale.learn.metrics import Curve
from cdscale.learn.training.images.data import ImagesData
from cdscale.learn.training.images.loss import loss_of
from cdscale.learn.training.images.recipe import ImagesRecipe
from cdscale.learn.training.module import Training, channels_last
from cdscale.learn.training.schedules import make_optimiser, make_schedule
from cdscale.models.hrscd import SemanticChange
from cdscale.spec.card import ModelCard

CHANGE = ("kappa", "f1", "precision", "recall", "overall")
LAND = ("land_kappa", "land_overall")


class ImagesTraining(Training):
    """Training of a network on images.

    Parameters
    ----------
    recipe : ImagesRecipe
        Loss, stages, optimiser, schedule, average and seed.
    network : nn.Module
        With random weights.
    data : ImagesData
        Class weights, held-out scenes, and batches of an epoch.
    card : ModelCard
        How held-out scenes are mapped.
    """

    recipe: ImagesRecipe

    def __init__(
        self, recipe: ImagesRecipe, network: nn.Module, data: ImagesData, card: ModelCard
    ) -> None:
        super().__init__(recipe, network, data.steps)
        self.card, self.weights, self.val = card, data.weights, data.val
        self.reading = recipe.reading
        self.counter = Counter(self.reading, data_set(recipe.data))
        self.second = False
        """Whether land cover is frozen."""
        land = LAND if self.reading.has_land else ()
        classes = ("classes_miou",) if self.reading.says == "classes of change" else ()
        level = ("threshold",) if self.reading.has_threshold else ()
        self.columns = (*CHANGE, *land, *classes, *level, "score")
        self.told = {"kappa": "kappa", "land cover": "land_kappa", "mIoU": "classes_miou"}
        self.told = {words: name for words, name in self.told.items() if name in self.columns}
        self._counts, self._curve = SemanticCounts(), Curve()

    @property
    def threshold(self) -> float:
        """The recipe's, or the best of the last validation."""
        return self.recipe.threshold or self.figures.get("threshold", 0.5)

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        """Of what the network says, or of its land cover alone in the first of two stages."""
        before, after, *labels = batch
        dates = channels_last(before), channels_last(after)
        first = self.recipe.land_epochs and not self.second
        said = self.network.land_cover_of(*dates) if first else self.network(*dates)
        if isinstance(said, Tensor):
            said = SemanticChange(said, None, None)
        parts = (None if x is None else x.float() for x in (said.change, said.before, said.after))
        truth = SemanticLabels(*labels)
        return loss_of(SemanticChange(*parts), truth, self.weights, self.recipe.loss, self.reading)

    # ---------------------------------------------------------------------------------- two stages

    def configure_optimizers(self) -> Any:
        """The recipe's optimiser and schedule; in two stages, over the part that learns."""
        recipe, network = self.recipe, self.network
        if not recipe.land_epochs:
            return super().configure_optimizers()
        if self.second:
            learning: nn.Module = nn.ModuleList((network.change_encoder, network.change_decoder))
            epochs = recipe.epochs - recipe.land_epochs
        else:
            learning, epochs = network.land_cover, recipe.land_epochs
        optimiser = make_optimiser(recipe.optimiser, learning)
        stage = recipe.model_copy(update={"epochs": epochs})
        schedule, interval = make_schedule(stage, optimiser, self.steps)
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": schedule, "interval": interval},
        }

    def on_train_epoch_start(self) -> None:
        """Begin the second stage when its first epoch begins."""
        due = 0 < self.recipe.land_epochs <= self.current_epoch
        if due and not self.second:
            self._freeze()
            self.trainer.strategy.setup_optimizers(self.trainer)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say which stage it is of."""
        checkpoint["second"] = self.second

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on in the stage that it is of, before its optimiser is made."""
        if checkpoint["second"]:
            self._freeze()

    def _freeze(self) -> None:
        self.second = True
        self.network.freeze_land_cover()

    # ---------------------------------------------------------------------------------- validation

    def on_validation_epoch_start(self) -> None:
        """Nothing is counted yet."""
        self._counts, self._curve = SemanticCounts(), Curve()

    def validation_step(self, batch: tuple[Tensor, ...], index: int) -> None:
        """Count the pixels of one scene, or of the recipe's number of windows of it."""
        del index
        recipe, sample = self.recipe, self.val[int(batch[0])]
        self.kept.eval()
        scene = SceneMapper.of(self.card, self.kept, recipe.threshold or 0.5, recipe.tta)
        for window, found in scene.maps(sample, recipe.validation_windows):
            labels = Labels.read(sample, window)
            self._counts += self.counter.count(found, labels)
            if self.reading.has_threshold:
                self._curve.add(found.probability_YX, labels.change_YX)

    def on_validation_epoch_end(self) -> None:
        """Figures of all scenes pooled, at the recipe's threshold or at the best.

        ``score``, by which weights are chosen: kappa of change; of land cover where there is no
        more; mean IoU of classes of change. Of two stages the second scores above the first.
        """
        counts, figures = self._counts, {}
        if self.reading.has_threshold:
            figures["threshold"] = self.recipe.threshold or self._curve.best()[0]
            if not self.recipe.threshold:
                best = self._curve.at(figures["threshold"])
                counts = SemanticCounts(best, counts.tables, counts.unseen)
        figures |= {name: value for name, value in counts.flat().items() if name in self.columns}
        for name in self.columns[:-1]:
            figures.setdefault(name, 0.0)
        self.found(figures | {"score": self._score(figures)})

    def _score(self, figures: dict[str, float]) -> float:
        says = self.reading.says
        if says == "land cover":
            return figures["land_kappa"]
        if says == "classes of change":
            return figures["classes_miou"]
        if not self.recipe.land_epochs:
            return figures["kappa"]
        return 1 + figures["kappa"] if self.second else (figures["land_kappa"] - 1) / 2
