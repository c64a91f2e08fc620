"""Everything that decides a run of Metric-CD, as data; no field of it names a label."""

from __future__ import annotations

from typing import Literal

from cdscale.errors import SpecError, explain
from cdscale.learn.losses import RULES, MetricRule
from cdscale.learn.metric_cd.colour import ColourRule
from cdscale.models.blocks import require
from cdscale.spec.base import Frozen


class MetricCd(Frozen):
    """One optimisation per image; see :data:`RECIPES` for the three of them."""

    rule: MetricRule = RULES["centred"]
    colour: tuple[ColourRule, ...] = (ColourRule(),)
    """Corrections of date 1, one after the other."""
    unit: Literal["spread", "range"] = "spread"
    """What becomes [0, 1] of each band of date 2, and of date 1 in its colours: 2.5 standard
    deviations around the mean, so that bright roofs do not squeeze the rest, or all of it."""
    blocks: int = 32
    """Residual blocks, N."""
    width: int = 32
    iterations: int = 80
    rate: float = 1e-5
    """Of Adam."""
    train_features: bool = False
    """Whether the extractor is optimised too, where it has weights at all."""
    threshold: float | Literal["otsu"] = "otsu"
    """Of the probability. With the rule ``centred`` never less than its median, so that no more
    than half of a scene is marked."""
    seed: int = 0
    side: int = 512
    """Pixels a side of a tile."""
    overlap: int = 64
    """Pixels by which tiles overlap, at least, and over which they are blended."""
    recompute: bool = True
    """See :class:`cdscale.models.metric_cd.ResidualPrior`."""

    def checked(self) -> MetricCd:
        """The same recipe, if it can be run.

        Raises
        ------
        ModelError
            When a number is out of range.
        """
        counts = {name: getattr(self, name) for name in ("blocks", "width", "iterations")}
        for name, got in counts.items():
            require(got >= 1, f"Metric-CD: {name}", "1 or more", got)
        require(0 < self.rate < 1e6, "Metric-CD: learning rate", "above 0 and below 1e6", self.rate)
        require(self.seed >= 0, "Metric-CD: seed", "0 or more", self.seed)
        held = self.side >= 2 and 0 <= 2 * self.overlap <= self.side
        room = "a side from 2 pixels, and an overlap of up to half of it"
        require(held, "Metric-CD: tiles", room, f"{self.side} and {self.overlap}")
        require(bool(self.colour), "Metric-CD: colour corrections", "1 or more", 0)
        for rule in self.colour:
            rule.checked()
        return self


RECIPES = {
    "centred": MetricCd(rate=1e-4),
    "paper": MetricCd(
        rule=RULES["paper"], colour=(ColourRule(kernel="auto"),), train_features=True, threshold=0.5
    ),
    "notebook": MetricCd(
        rule=RULES["notebook"],
        # A regression of date 1 on date 2 through their covariances, then 11 terms on all pixels.
        colour=(
            ColourRule(kernel="linear", beta=1, ridge=0),
            ColourRule(kernel="auto", beta=1, ridge=0),
        ),
        unit="range",
        iterations=50,
        rate=1e-4,
        threshold=0.97,
    ),
}
"""By mode. In ``paper`` an extractor without weights is not optimised, and has no context term.
``paper`` and ``notebook`` are for comparison: see :class:`~cdscale.learn.losses.\
MetricRule` for why the first marks more than half of a scene in the end.

The rate of ``centred`` is the best of 1e-5, 1e-4 and 1e-3 by AUC on one train city of OSCD (4
blocks, 40 iterations: 0.836, 0.915 and 0.871 in Bercy); the linear correction that of the kernels
by which distances order the pixels of three cities best. Both were chosen with labels; no run
uses any."""


def recipe_named(mode: str) -> MetricCd:
    """The recipe of a mode.

    Raises
    ------
    SpecError
        When there is none of that name; the message lists them.
    """
    if mode not in RECIPES:
        raise SpecError(
            explain("mode of Metric-CD", expected=f"one of {', '.join(RECIPES)}", got=mode)
        )
    return RECIPES[mode]
