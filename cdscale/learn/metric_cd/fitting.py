"""The optimisation of one image: from two dates to the probability of change, and nothing kept.

Shape suffixes: B band, C channel, F feature, Y row, X column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from cdscale.errors import ModelError, explain
from cdscale.learn.losses import (
    Evidence,
    context_term,
    mahalanobis,
    mean_absolute,
    metric_cd_loss,
    standardised,
)
from cdscale.learn.metric_cd.jitter import jittered
from cdscale.learn.metric_cd.recipe import MetricCd
from cdscale.models.blocks import run
from cdscale.models.metric_cd import ResidualPrior


@dataclass(frozen=True)
class Step:
    """How far a run is: this iteration of this tile, both from 1, and the loss before it."""

    tile: int
    tiles: int
    iteration: int
    iterations: int
    loss: float


Report = Callable[[int, float], None]
"""Is told each iteration, from 1, and the loss before it."""


@dataclass(frozen=True, eq=False)
class Dates:
    """Two images of one tile, colour-corrected, about [0, 1], finite: (B, Y, X) each.

    Pixels that are not ``seen_YX`` hold the same in both.
    """

    before_BYX: Tensor
    after_BYX: Tensor
    seen_YX: Tensor


def fit(dates: Dates, recipe: MetricCd, extractor: nn.Module, report: Report) -> Tensor:
    """Fit a new network to one image, and read the probability of change from it.

    The network stays in training mode: its normalisations take the statistics of this image.

    Parameters
    ----------
    dates : Dates
        On the device where to compute.
    recipe : MetricCd
        Everything else.
    extractor : nn.Module
        A :class:`cdscale.models.extractors.Extractor` on that device. It is left as it is: what
        is optimised is a copy.
    report : callable
        Is told every iteration.

    Returns
    -------
    Tensor
        (Y, X) in [0, 1], NaN where not seen.
    """
    device = dates.after_BYX.device
    with torch.random.fork_rng(devices=[]):
        # Drawn on the CPU, so that a seed means the same network on every device.
        torch.manual_seed(recipe.seed)
        network = ResidualPrior(
            len(dates.after_BYX), recipe.blocks, width=recipe.width, recompute=recipe.recompute
        )
    network = network.to(device).train()
    views = _Views(dates, recipe, extractor)
    parameters = [*network.parameters(), *views.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=recipe.rate)
    input_BCYX = views.difference_BYX.abs()[None]
    for iteration in range(1, recipe.iterations + 1):
        probability_YX = run(network, input_BCYX)[0, 0]
        loss = metric_cd_loss(views.evidence(probability_YX), recipe.rule)
        _check_finite(loss, iteration, recipe)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        report(iteration, float(loss.detach()))
    with torch.no_grad():
        probability_YX = run(network, input_BCYX)[0, 0]
    return probability_YX.masked_fill(~dates.seen_YX, torch.nan)


class _Views:
    """Distances between the dates: once where the extractor is fixed, else for every iteration."""

    def __init__(self, dates: Dates, recipe: MetricCd, extractor: nn.Module) -> None:
        self._dates = dates
        self._rule = recipe.rule
        self.difference_BYX = dates.before_BYX - dates.after_BYX
        trained = recipe.train_features and any(True for _ in extractor.parameters())
        self._extractor = deepcopy(extractor).requires_grad_(trained)
        self._draws = torch.Generator().manual_seed(recipe.seed)
        self._image_YX = self._distance(self.difference_BYX)
        self._trained = trained
        self._features = () if trained else tuple(self._compared(*self._maps()))

    def parameters(self) -> Iterator[nn.Parameter]:
        """What of the extractor is optimised."""
        return (weight for weight in self._extractor.parameters() if weight.requires_grad)

    def evidence(self, probability_YX: Tensor) -> Evidence:
        """What the objective is made of, at this iteration."""
        context = torch.zeros((), device=probability_YX.device)
        features = self._features
        if self._trained:
            before, after = self._maps()
            features = tuple(self._compared(before, after))
            if self._rule.context:
                other = [self._extracted(jittered(x, self._draws)) for x in self._both()]
                context = context_term([*before, *after], [*other[0], *other[1]])
        return Evidence(probability_YX, self._image_YX, features, context)

    def _both(self) -> tuple[Tensor, Tensor]:
        return self._dates.before_BYX, self._dates.after_BYX

    def _maps(self) -> tuple[list[Tensor], list[Tensor]]:
        before, after = (self._extracted(image) for image in self._both())
        return before, after

    def _extracted(self, image_BYX: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self._extractor(image_BYX[None])
        return [found[0] for found in maps]

    def _compared(self, before: list[Tensor], after: list[Tensor]) -> Iterator[Tensor]:
        """Distance at every level, NaN where a pixel of its cell is not seen."""
        for one_FYX, two_FYX in zip(before, after, strict=True):
            if self._rule.mode == "notebook":
                one_FYX, two_FYX = standardised(one_FYX), standardised(two_FYX)
            yield self._distance(one_FYX - two_FYX)

    def _distance(self, difference_CYX: Tensor) -> Tensor:
        absent = (~self._dates.seen_YX).to(difference_CYX)[None]
        cells = functional.adaptive_max_pool2d(absent, difference_CYX.shape[-2:])
        # Before the distance: what is absent has no part in the covariance.
        counted = difference_CYX.masked_fill(cells > 0, torch.nan)
        return mean_absolute(counted) if self._rule.mode == "notebook" else mahalanobis(counted)


def _check_finite(loss: Tensor, iteration: int, recipe: MetricCd) -> None:
    if not bool(torch.isfinite(loss)):
        raise ModelError(
            explain(
                f"Metric-CD: the loss at iteration {iteration}",
                expected="a finite number",
                got=float(loss.detach()),
                do=f"Lower the learning rate of {recipe.rate}, or look for values in the images "
                "that are no measurements.",
            )
        )
