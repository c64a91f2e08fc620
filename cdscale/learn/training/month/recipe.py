"""What recipes of networks on months alone say."""

from __future__ import annotations

from typing import ClassVar, Literal

from cdscale.learn.data import DataSet
from cdscale.learn.losses import MissingOpticalRule
from cdscale.learn.training.recipe import Recipe, Rule
from cdscale.models.missing_optical import STRIDE
from cdscale.spec.base import Frozen

_REBUILT = ("separate", "shared", "code")
"""Ways to make optical features from radar."""
_FILLED = ("mean", "token")
"""Ways to put the same for all in their place."""


class MonthSampling(Frozen):
    """One random crop of each sample an epoch; what does not fill a batch is left out."""

    crop: int = 64
    """Rows and columns."""
    batch: int = 16


class MonthAugment(Frozen):
    """Sizes of the random operations on a crop."""

    turn: bool = True
    """Mirrored or not, and turned by 0, 90, 180 or 270 degrees."""
    season: float = 0.0
    """Standard deviation of the gain of reflectance, over all bands; half of it again per band."""
    s1_gain_db: float = 0.0
    """Standard deviation of the gain of backscatter, in dB."""
    s2_drop: float = 0.0
    """Probability that a sample is taken as one without optical image (modality dropout)."""


class MonthRecipe(Recipe):
    """Training of a network on months. ``classes``: what 0 and 1 mean."""

    task: ClassVar = "urban"
    layers: ClassVar = frozenset({"s1", "image", "urban"})
    samples: ClassVar = "months with radar, optical image and urban label"

    kind: Literal["month"]
    loss: MissingOpticalRule = MissingOpticalRule()
    sampling: MonthSampling = MonthSampling()
    augment: MonthAugment = MonthAugment()

    @property
    def stand_in(self) -> str:
        """What stands in for missing optical features: a way of ``missing-optical``, or none."""
        if self.network.family != "missing-optical":
            return "none"
        return str(self.network.options.get("recon", "separate"))

    def rules(self, data: DataSet) -> list[Rule]:
        """See :class:`~cdscale.learn.training.recipe.Recipe`."""
        sampling, augment, rule = self.sampling, self.augment, self.normalisation
        whole = rule.s2_standardise == "training" and rule.s1_standardise == "none"
        rebuilt = self.stand_in in _REBUILT
        simulable = rebuilt or self.stand_in in _FILLED
        return [
            *super().rules(data),
            ("s1_bands", bool(self.s1_bands), "one or more", "none"),
            ("normalisation", whole, "s2_standardise: training and s1_standardise: none",
             f"{rule.s2_standardise} and {rule.s1_standardise}"),
            ("sampling.crop", sampling.crop >= STRIDE, f"{STRIDE} or more", sampling.crop),
            ("sampling.batch", sampling.batch >= 1, "1 or more", sampling.batch),
            ("augment.s2_drop", 0 <= augment.s2_drop < 1, "0 or more and below 1",
             augment.s2_drop),
            ("augment", min(augment.season, augment.s1_gain_db) >= 0, "gains of 0 or more",
             min(augment.season, augment.s1_gain_db)),
            ("loss.phi", rebuilt or self.loss.phi == 0,
             "0: this network reconstructs no features", self.loss.phi),
            ("loss.simulated", simulable or self.loss.simulated == 0,
             "0: nothing stands in for missing features of this network", self.loss.simulated),
        ]  # fmt: skip
