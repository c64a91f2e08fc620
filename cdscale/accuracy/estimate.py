"""From an error matrix of a stratified sample to accuracies and areas with their intervals.

Equations are those of P. Olofsson et al., Remote Sensing of Environment 148 (2014) 42-57. Strata
are the classes of the map; samples of a stratum are a simple random sample of its pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cdscale.errors import SpecError, explain

Z95 = 1.959963984540054
"""Of a normal distribution: 95 % lie within so many standard deviations of its mean."""


@dataclass(frozen=True)
class Share:
    """An estimate and its standard error; NaN where the sample says nothing."""

    value: float
    error: float

    @property
    def interval(self) -> float:
        """Half the width of the 95 % confidence interval."""
        return Z95 * self.error

    def times(self, factor: float) -> Share:
        """In another unit."""
        return Share(self.value * factor, self.error * factor)


@dataclass(frozen=True)
class Estimates:
    """What a stratified sample says of a map, and of the ground.

    Parameters
    ----------
    classes : tuple of str
        In the order of rows (map) and columns (reference).
    matrix : int array
        Samples, (map class, reference class).
    proportions : float array
        Share of the whole area in each cell, (map class, reference class): equation 4.
    mapped_km2 : tuple of float
        Area of each class as the map has it.
    overall : Share
        Overall accuracy: equations 1 and 5.
    users, producers : tuple of Share
        Of each class: equations 2 and 6, 3 and 7. NaN for the producer's accuracy of a class that
        the reference never names, and for the user's of one that the map has nowhere.
    area_km2 : tuple of Share
        Of each class on the ground, adjusted for the map's errors: equations 8 to 11.
    """

    classes: tuple[str, ...]
    matrix: NDArray[np.int64]
    proportions: NDArray[np.float64]
    mapped_km2: tuple[float, ...]
    overall: Share
    users: tuple[Share, ...]
    producers: tuple[Share, ...]
    area_km2: tuple[Share, ...]


def estimate(
    counts: Mapping[tuple[str, str], int],
    mapped_km2: Mapping[str, float],
    classes: tuple[str, ...] = (),
) -> Estimates:
    """Area-adjusted accuracies and areas.

    Parameters
    ----------
    counts : mapping of (str, str) to int
        Samples of each map class and reference class.
    mapped_km2 : mapping of str to float
        Area of each map class: of each stratum. Its order is that of the answer.
    classes : tuple of str
        What else the reference may name: a class that the map has nowhere may be found on the
        ground. It has an area there, and no user's accuracy.

    Returns
    -------
    Estimates
        With standard errors; ``interval`` of each is half of the 95 % confidence interval.

    Raises
    ------
    SpecError
        When a class has no area, a map class has fewer than two samples (its variance is unknown),
        or the reference names a class that is in neither.
    """
    _check(counts, mapped_km2, classes)
    on_ground = {reference for _, reference in counts}
    classes = (*mapped_km2, *(c for c in classes if c in on_ground and c not in mapped_km2))
    n = np.array([[counts.get((i, j), 0) for j in classes] for i in classes], np.int64)
    area = np.array([mapped_km2.get(name, 0.0) for name in classes], np.float64)
    total = float(area.sum())
    # A class without a stratum has no samples, and no area that they would stand for.
    weight, rows = area / total, np.where(area > 0, n.sum(axis=1), 2)
    share = n / rows[:, None]
    p = weight[:, None] * share
    of_cell = weight[:, None] ** 2 * share * (1 - share) / (rows[:, None] - 1)
    right, spread = np.diag(share), np.diag(of_cell)
    ground = p.sum(axis=0)
    errors = np.sqrt(of_cell.sum(axis=0))
    return Estimates(
        classes=classes,
        matrix=n,
        proportions=p,
        mapped_km2=tuple(area.tolist()),
        overall=Share(float(np.trace(p)), float(math.sqrt(spread.sum()))),
        users=tuple(
            Share(float(u), math.sqrt(u * (1 - u) / (k - 1))) if a else Share(math.nan, math.nan)
            for u, k, a in zip(right, rows, area, strict=True)
        ),
        producers=tuple(_producers(j, share, area, rows) for j in range(len(classes))),
        area_km2=tuple(
            Share(float(v), float(e)).times(total) for v, e in zip(ground, errors, strict=True)
        ),
    )


def areas(
    counts: Mapping[tuple[str, str], int],
    mapped_km2: Mapping[str, float],
    classes: tuple[str, ...],
) -> dict[str, Share]:
    """Square kilometres of classes on the ground in part of a map: equations 8 to 11.

    Parameters
    ----------
    counts : mapping of (str, str) to int
        Samples of each map class and reference class in that part; of each map class of
        ``mapped_km2`` two or more.
    mapped_km2 : mapping of str to float
        Area of each map class in it; a class that it does not have is left out.
    classes : tuple of str
        Of the whole map: those that the reference may name.
    """
    found = {name: Share(0.0, 0.0) for name in classes}
    for mapped, area in mapped_km2.items():
        n = np.array([counts.get((mapped, name), 0) for name in classes], np.float64)
        share = n / n.sum()
        error = area * np.sqrt(share * (1 - share) / (n.sum() - 1))
        for name, value, own in zip(classes, area * share, error, strict=True):
            so_far = found[name]
            found[name] = Share(so_far.value + float(value), math.hypot(so_far.error, float(own)))
    return found


def _producers(
    j: int, share: NDArray[np.float64], area: NDArray[np.float64], rows: NDArray[np.int64]
) -> Share:
    """Producer's accuracy of one class: equations 3 and 7."""
    on_ground = float((area * share[:, j]).sum())
    if on_ground == 0:
        return Share(math.nan, math.nan)
    value = float(area[j] * share[j, j]) / on_ground
    terms = area**2 * share[:, j] * (1 - share[:, j]) / (rows - 1)
    own = terms[j] * (1 - value) ** 2
    others = value**2 * (terms.sum() - terms[j])
    return Share(value, math.sqrt(own + others) / on_ground)


def _check(
    counts: Mapping[tuple[str, str], int],
    mapped_km2: Mapping[str, float],
    classes: tuple[str, ...],
) -> None:
    known = dict.fromkeys((*mapped_km2, *classes))
    foreign = {mapped for mapped, _ in counts} - mapped_km2.keys()
    foreign |= {reference for _, reference in counts} - known.keys()
    if foreign:
        raise SpecError(
            explain(
                "the sample names classes that the map does not have",
                expected=", ".join(known),
                got=", ".join(sorted(foreign)),
            )
        )
    for name, area in mapped_km2.items():
        if not (math.isfinite(area) and area > 0):
            raise SpecError(
                explain(f"stratum {name}", expected="an area above 0 km2", got=f"{area:g}")
            )
        found = sum(number for (mapped, _), number in counts.items() if mapped == name)
        if found < 2:
            raise SpecError(
                explain(
                    f"stratum {name}",
                    expected="two interpreted samples or more: of fewer there is no variance",
                    got=found,
                    do="Interpret more of its points, or leave out a class that has no pixel.",
                )
            )
