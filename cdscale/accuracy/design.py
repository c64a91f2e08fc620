"""Which pixels to interpret: how many of each class of the map, and which."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cdscale.accuracy.sample import Design, Point
from cdscale.errors import SpecError, StoreError, explain
from cdscale.grid import Tile, to_lon_lat
from cdscale.months import Month
from cdscale.store import Store


@dataclass(frozen=True)
class Choice:
    """What is asked of a design.

    Parameters
    ----------
    size : int
        Points in all.
    least : int
        Of each class, as far as it has so many pixels: 50 to 100 for the rare ones (Olofsson et
        al. 2014, section 5.1.1). The rest goes to the classes by their area.
    seed : int
        Of the draw: the same seed and map give the same points.
    """

    size: int = 500
    least: int = 50
    seed: int = 0


def needed(weights: Mapping[str, float], expected: Mapping[str, float], error: float) -> int:
    """Points that a standard error of the overall accuracy takes.

    Parameters
    ----------
    weights : mapping of str to float
        Share of the area of each map class.
    expected : mapping of str to float
        User's accuracy that is expected of each class.
    error : float
        Standard error of the overall accuracy that is wanted, 0.01 for one percent.

    Returns
    -------
    int
        ``(sum of W_i sqrt(U_i (1 - U_i)) / error)^2``, rounded up: Olofsson et al. 2014,
        equation 13 (W. G. Cochran, Sampling Techniques, 1977, equation 5.25).

    Raises
    ------
    SpecError
        When an accuracy or the error is not above 0 and below 1, or a class has none.
    """
    for name in weights:
        if not 0 < expected.get(name, math.nan) < 1:
            raise SpecError(
                explain(
                    f"expected user's accuracy of {name}",
                    expected="between 0 and 1, for each class of the map",
                    got=expected.get(name, "none"),
                )
            )
    if not 0 < error < 1:
        raise SpecError(explain("standard error", expected="between 0 and 1", got=f"{error:g}"))
    spread = sum(w * math.sqrt(expected[k] * (1 - expected[k])) for k, w in weights.items())
    return math.ceil((spread / error) ** 2 - 1e-9)


def allocate(pixels: Mapping[str, int], choice: Choice) -> dict[str, int]:
    """Points of each class: the least for all, and the rest by area.

    Raises
    ------
    SpecError
        When there are too few points for two of each class, or no pixels.
    """
    present = {name: number for name, number in pixels.items() if number}
    if not present:
        raise SpecError(explain("the map has no pixel with a class"))
    least = {name: min(choice.least, number) for name, number in present.items()}
    short = choice.size - sum(least.values())
    if choice.least < 2 or short < 0:
        raise SpecError(
            explain(
                "points of the sample",
                expected=f"at least 2 of each class, and {sum(least.values())} in all",
                got=f"{choice.least} of each, and {choice.size}",
                do="Ask for more points, or for fewer of each class.",
            )
        )
    whole = sum(present.values())
    wanted = {name: choice.size * number / whole for name, number in present.items()}
    over = {name: max(0.0, wanted[name] - least[name]) for name in present}
    scale = short / sum(over.values()) if sum(over.values()) else 0.0
    return {
        name: min(present[name], least[name] + math.floor(over[name] * scale)) for name in present
    }


@dataclass
class _Stratum:
    """Pixels of one class as tiles go by: how many, and which of them are wanted."""

    name: str
    pixels: int = 0
    wanted: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))


def draw(store: Store, variable: str, month: Month, choice: Choice) -> Design:
    """A stratified random sample of a map's pixels.

    The map goes by twice, tile by tile: once to count, once to find the pixels of the ranks that
    were drawn. Memory does not grow with the map.

    Parameters
    ----------
    store : Store
        Of the map.
    variable : str
        One of codes with meanings, such as ``change``.
    month : Month
        Which.
    choice : Choice
        How many, and by which seed.

    Raises
    ------
    SpecError
        When there is no such variable or month, or the points do not fit.
    StoreError
        When the store does not read.
    """
    codes = _codes(store, variable, month)
    strata = {code: _Stratum(name) for code, name in codes.items()}
    for _, values_YX in _tiles(store, variable, month):
        for code, stratum in strata.items():
            stratum.pixels += int(np.count_nonzero(values_YX == code))
    numbers = allocate({s.name: s.pixels for s in strata.values()}, choice)
    rng = np.random.default_rng(choice.seed)
    for stratum in strata.values():
        count = numbers.get(stratum.name, 0)
        stratum.wanted = np.sort(rng.choice(stratum.pixels, count, replace=False, shuffle=False))
    points = list(_found(store, variable, month, strata))
    # Interpreters shall not see from the order of the points what the map says of them.
    order = rng.permutation(len(points))
    km2 = (store.spec.grid.resolution / 1000) ** 2
    return Design(
        map=store.spec.title,
        variable=variable,
        month=str(month),
        crs=store.spec.grid.crs,
        seed=choice.seed,
        mapped_km2={s.name: s.pixels * km2 for s in strata.values() if s.pixels},
        classes=tuple(codes.values()),
        points=tuple(points[i].model_copy(update={"id": k + 1}) for k, i in enumerate(order)),
    )


def _found(
    store: Store, variable: str, month: Month, strata: Mapping[int, _Stratum]
) -> Iterator[Point]:
    """The pixels of the ranks that were drawn, in the order of tiles."""
    seen = dict.fromkeys(strata, 0)
    for tile, values_YX in _tiles(store, variable, month):
        affine = store.spec.grid.geobox(tile).affine
        for code, stratum in strata.items():
            at = np.flatnonzero(values_YX == code)
            first, seen[code] = seen[code], seen[code] + len(at)
            low, high = np.searchsorted(stratum.wanted, (first, seen[code]))
            for rank in stratum.wanted[low:high]:
                row, column = divmod(int(at[rank - first]), values_YX.shape[1])
                x, y = affine * (column + 0.5, row + 0.5)
                lon, lat = to_lon_lat(x, y, store.spec.grid.crs)
                yield Point(id=0, lon=lon, lat=lat, x=x, y=y, mapped=stratum.name)


def _tiles(store: Store, variable: str, month: Month) -> Iterator[tuple[Tile, NDArray[np.uint8]]]:
    window = store.spec.window
    for iy in range(window.iy, window.iy + window.ny):
        for ix in range(window.ix, window.ix + window.nx):
            tile = Tile(ix, iy)
            try:
                yield tile, store.read(variable, tile, month)
            except (OSError, RuntimeError, ValueError) as err:  # a checksum, a shard cut short
                raise StoreError(
                    explain(
                        f"{store.path} is damaged: tile {tile} does not read",
                        got=" ".join(str(err).split())[:200],
                        do="Use `cdscale verify` with --repair.",
                    )
                ) from None


def _codes(store: Store, name: str, month: Month) -> dict[int, str]:
    """Codes of a variable that a sample can stand on."""
    coded = {v.name: v.meanings for v in store.spec.variables if v.meanings}
    if name not in coded:
        raise SpecError(
            explain(
                f"{store.path}: no strata in {name!r}",
                expected=f"a variable of classes: {', '.join(coded) or 'this store has none'}",
            )
        )
    _check_month(store, month)
    return coded[name]


def _check_month(store: Store, month: Month) -> None:
    published: Sequence[Month] = store.published()
    if month not in published:
        raise SpecError(
            explain(
                f"{store.path}: {month} is not published",
                expected=f"one of {_listed(published)}",
                got=str(month),
            )
        )


def _listed(months: Iterable[Month]) -> str:
    return ", ".join(map(str, months)) or "(none: the run is not complete)"
