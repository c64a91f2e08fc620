"""What recipes of networks on images alone say."""

from __future__ import annotations

from typing import ClassVar, Literal

from cdscale.learn.data import DataSet
from cdscale.learn.images import Reading
from cdscale.learn.images.reading import SAYS
from cdscale.learn.training.recipe import Recipe, Rule
from cdscale.spec.base import Frozen

LAND = {"land_before", "land_after"}


class Loss(Frozen):
    """Of what the network says."""

    kind: Literal["cross_entropy", "jaccard", "dice"] = "cross_entropy"
    """Of networks of classes of change: S. Cummings 2021 has Jaccard or Dice. The others have
    cross entropy, weighted inversely to the frequency of each class in the training scenes."""
    land_cover: float = 0.05
    """Strategy 4.1: share of each date's land cover beside the change (the paper's lambda)."""
    clip: float = 100.0
    """Largest weight of a class, and of change against no change."""
    absent: Literal["counted", "skipped"] = "counted"
    """Jaccard and Dice: classes that no pixel of a batch has cost 1, as published, or nothing."""


class Sampling(Frozen):
    """Random crops; each epoch draws others."""

    crop: int
    """Pixels a side."""
    batch: int
    crops_per_epoch: int
    near_change: float = 0.0
    """Share of the crops that hold a changed pixel for certain, as far as there is one."""
    turn: bool = True
    """Crops come in a random one of the eight orientations of a square."""

    @property
    def steps(self) -> int:
        """Batches of an epoch; a rest that fills no batch is not drawn."""
        return self.crops_per_epoch // self.batch


class Pseudo(Frozen):
    """Labels that a model has written (``cdscale pseudo-label``) for samples that have none."""

    splits: tuple[str, ...]
    """Published splits whose samples get them."""
    folder: str = "pseudo"
    """Of the labels; relative to that of the data set."""
    share: float = 0.5
    """Of the crops. The true labels have the rest, and all of the validation."""


class ImagesRecipe(Recipe):
    """Training of a network on two images of one sensor.

    ``classes``: codes of land cover, or of change with 0, no change. The threshold is that of a
    change output of its own (strategies 3 and 4); elsewhere the likeliest class decides.
    """

    task: ClassVar = "semantic-change"
    layers: ClassVar = frozenset({"before", "after", "change"})
    samples: ClassVar = "pairs of images with a change label"

    kind: Literal["images"]
    loss: Loss = Loss()
    sampling: Sampling
    land_epochs: int = 0
    """Strategies 3 and 4.2: in the first so many epochs land cover is learned alone. Then it is
    frozen, and change is learned with an optimiser and a schedule of its own."""
    validation_windows: int = 0
    """Of each held-out scene, in validations while training; 0: all. The final figures rest on
    every pixel."""
    pseudo: Pseudo | None = None

    @property
    def reading(self) -> Reading:
        """How the network's outputs are read."""
        return Reading.of(self.network.family, self.classes, self.threshold or 0.5)

    def rules(self, data: DataSet) -> list[Rule]:
        """See :class:`~cdscale.learn.training.recipe.Recipe`."""
        says = SAYS.get(self.network.family)
        of_change = says == "classes of change"
        two = says == "change and land cover"
        overlap = self.loss.kind != "cross_entropy"
        strange = [s for s in (self.pseudo.splits if self.pseudo else ()) if s not in data.splits]
        whole = self.sampling.batch >= 2 and self.sampling.steps >= 1 and self.sampling.crop >= 32
        return [
            *super().rules(data),
            ("s2_bands", bool(self.s2_bands), f"some of {', '.join(data.bands)}", "none"),
            ("s1_bands", not self.s1_bands, "none: both images are of one sensor",
             ", ".join(self.s1_bands)),
            ("data", of_change or set(data.layers) >= LAND, "labels of land cover at both dates",
             self.data),
            ("classes", len(self.classes) > 1, "two or more", len(self.classes)),
            ("loss.kind", of_change or not overlap,
             "cross_entropy: only classes of change are learned by overlap", self.loss.kind),
            ("loss", min(self.loss.clip, self.loss.land_cover) >= 0, "nothing below 0",
             self.loss.model_dump()),
            ("sampling", whole, "a batch of 2 or more, crops for one, of 32 pixels or more",
             self.sampling.model_dump()),
            ("sampling.near_change", 0 <= self.sampling.near_change <= 1, "0 to 1",
             self.sampling.near_change),
            ("land_epochs", 0 <= self.land_epochs < self.epochs, f"below {self.epochs} epochs",
             self.land_epochs),
            ("land_epochs", two or not self.land_epochs,
             "0: only hrscd-3 and hrscd-4 are trained in two stages", self.land_epochs),
            ("ema", not (self.ema and self.land_epochs),
             "0 where land cover is frozen: an average would go on moving", self.ema),
            ("patience", not (self.patience and self.land_epochs),
             "0 where land cover is learned first: it would end the run there", self.patience),
            ("validation_windows", self.validation_windows >= 0, "0 or more",
             self.validation_windows),
            ("pseudo", of_change or self.pseudo is None, "none: only classes of change have any",
             self.network.family),
            ("pseudo.splits", not strange, f"some of {', '.join(data.splits)}",
             ", ".join(strange)),
            ("pseudo.share", self.pseudo is None or 0 < self.pseudo.share < 1, "between 0 and 1",
             self.pseudo and self.pseudo.share),
        ]  # fmt: skip
