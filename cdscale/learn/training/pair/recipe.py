"""What recipes of networks on pairs alone say."""

from __future__ import annotations

from typing import ClassVar, Literal

from cdscale.learn.augment import Augment, Sampling
from cdscale.learn.data import DataSet
from cdscale.learn.training.recipe import Recipe, Rule
from cdscale.spec.base import Frozen


class Loss(Frozen):
    """Weights of the terms that are added; 0 leaves a term out."""

    nll: float = 1.0
    """Weighted negative log-likelihood."""
    lambda_fp: float = 10.0
    """In its class weights, which are those of the training split's pixels: more, fewer alarms."""
    jaccard: float = 0.0
    """Power Jaccard of the change class."""
    dice: float = 0.0
    """Dice of both classes."""


class PairRecipe(Recipe):
    """Training of a network on pairs of dates. ``classes``: what 0 and 1 mean."""

    task: ClassVar = "change"
    layers: ClassVar = frozenset({"before", "after", "change"})
    samples: ClassVar = "pairs with a change label"

    kind: Literal["pair"]
    loss: Loss = Loss()
    sampling: Sampling = Sampling()
    augment: Augment = Augment()

    def rules(self, data: DataSet) -> list[Rule]:
        """See :class:`~cdscale.learn.training.recipe.Recipe`."""
        return [
            *super().rules(data),
            ("s2_bands", bool(self.s2_bands), f"some of {', '.join(data.bands)}", "none"),
            ("s1_bands", not self.s1_bands or "s1_before" in data.layers,
             f"none: {self.data} has no radar", ", ".join(self.s1_bands)),
            ("sampling", self.sampling.batch >= 2 and self.sampling.steps >= 1,
             "a batch of 2 or more, and crops for one", self.sampling.model_dump()),
            ("loss", self.loss.nll + self.loss.jaccard + self.loss.dice > 0,
             "one term above 0", "none"),
        ]  # fmt: skip
