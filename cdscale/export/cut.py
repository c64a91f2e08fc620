"""Which part of a store is exported: months that readers get, tiles that an area meets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cdscale.errors import SpecError, StoreError, explain
from cdscale.grid import Area, Tile, covered
from cdscale.kernels import Bool
from cdscale.months import Month, Months
from cdscale.spec.cube import CubeSpec
from cdscale.store import Plane, Store, read_spec
from cdscale.store.overviews import Blocks

SHOWN = (
    "state",
    "from_class",
    "to_class",
    "first_month",
    "confirmed_month",
    "last_month",
    "confidence",
    "support",
    "flags",
    "probability",
    "change",
    "quality",
    "change_month",
)
"""Variables that are exported unless others are named; the rest is what the next month needs."""


@dataclass(frozen=True)
class Cut:
    """A part of a store."""

    path: Path
    spec: CubeSpec
    months: tuple[Month, ...]
    tiles: tuple[Tile, ...]
    area: Area | None = None

    @property
    def store(self) -> Store:
        """The store itself."""
        return Store(self.path, self.spec)

    @property
    def pixel_km2(self) -> float:
        """Area of a pixel: one size on an equal-area grid."""
        return (self.spec.grid.resolution / 1000) ** 2

    def holds(self, tile: Tile, month: Month) -> bool:
        """Whether a tile has anything but fill values in a month."""
        return any(file.exists() for file in self.store.files(tile, month))

    def read(self, tile: Tile, month: Month, names: Iterable[str] = ()) -> Blocks:
        """Variables of a tile as stored, fill values outside of the area.

        Raises
        ------
        StoreError
            When a shard is damaged.
        """
        rows, columns = self.spec.window.slices(self.spec.grid, tile)
        plane = Plane(self.path, self.spec)
        wanted = tuple(names) or tuple(v.name for v in self.spec.variables)
        blocks = {name: plane.one(name, month, rows, columns) for name in wanted}
        inside_YX = self.inside(tile)
        if inside_YX is not None:
            for name, block_YX in blocks.items():
                fill = self.spec.variable(name).fill
                blocks[name] = np.where(inside_YX, block_YX, np.asarray(fill, block_YX.dtype))
        return blocks

    def inside(self, tile: Tile) -> Bool | None:
        """Pixels of a tile whose centre lies in the area; None where all are wanted."""
        if self.area is None:
            return None
        return np.asarray(covered(self.area, self.spec.grid.geobox(tile)), bool)


def cut(
    path: Path, *, months: Months | None = None, area: Area | None = None, unpublished: bool = False
) -> Cut:
    """Choose a part of a store.

    Parameters
    ----------
    path : Path
        The store.
    months : Months, optional
        Which; by default all that are published.
    area : Area, optional
        Where; by default everywhere.
    unpublished : bool
        Months as well that are not complete, or are just being made.

    Raises
    ------
    SpecError
        When the store has none of these months, or they are not published, or the area lies
        outside of it.
    StoreError
        When there is no store, or it holds no map.
    """
    spec = read_spec(path)
    if any(v.bands for v in spec.variables):
        raise StoreError(
            explain(f"{path} holds no maps", expected="urban.zarr or change.zarr", got=spec.product)
        )
    published = Store(path, spec).published()
    offered = tuple(spec.months) if unpublished else published
    wanted = tuple(months) if months is not None else offered
    if absent := [m for m in wanted if m not in spec.months]:
        raise SpecError(
            explain(
                f"{path} has no such months",
                expected=f"months of {spec.months}",
                got=str(Months.of(absent)),
            )
        )
    hidden = [m for m in wanted if m not in offered]
    if hidden or not wanted:
        what = str(Months.of(hidden)) if hidden else "no month"
        raise SpecError(
            explain(
                f"{path}: {what} is not published" if hidden else f"{path}: no month is published",
                expected=f"months of {Months.of(published)}" if published else None,
                do="Complete the run first, or say --unpublished.",
            )
        )
    window = spec.window
    every = [Tile(window.ix + x, window.iy + y) for y in range(window.ny) for x in range(window.nx)]
    if area is not None:
        near = frozenset(_near(spec, area))
        every = [tile for tile in every if tile in near]
    if not every:
        raise SpecError(
            explain(
                f"the area has no pixel in {path}",
                expected=f"an area that meets {_extent(spec)}",
                got=", ".join(f"{value:g}" for value in area.bounds) if area is not None else None,
            )
        )
    return Cut(path, spec, wanted, tuple(every), area)


def _near(spec: CubeSpec, area: Area) -> tuple[Tile, ...]:
    try:
        return spec.grid.tiles(area)
    except SpecError:  # it reaches beyond the lattice: what lies on it counts
        window = spec.window
        return tuple(
            Tile(window.ix + x, window.iy + y)
            for y in range(window.ny)
            for x in range(window.nx)
            if spec.grid.footprint(Tile(window.ix + x, window.iy + y)).intersects(area.geometry)
        )


def _extent(spec: CubeSpec) -> str:
    corners = [
        spec.grid.footprint(Tile(spec.window.ix + x, spec.window.iy + y)).bounds
        for x in (0, spec.window.nx - 1)
        for y in (0, spec.window.ny - 1)
    ]
    west, south, east, north = zip(*corners, strict=True)
    return f"{min(west):.4f}, {min(south):.4f}, {max(east):.4f}, {max(north):.4f} (degrees)"


def refuse_existing(paths: Iterable[Path], *, overwrite: bool) -> None:
    """Refuse before anything is written to write over what is there.

    Raises
    ------
    SpecError
        Naming the first file, and how many there are.
    """
    there = [path for path in paths if path.exists()]
    if there and not overwrite:
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise SpecError(
            explain(
                f"there is {there[0]} already{more}",
                do="Choose another --out, or say --overwrite.",
            )
        )
