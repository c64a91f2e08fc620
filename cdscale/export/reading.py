"""Stores as the report reads them: decimated views for pictures, counts inside the area.

Only tasks whose receipts hold are read, tile by tile, so that neither memory nor the size of a
picture grows with the area. Shapes: ``YX`` rows and columns.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import shapely
import xarray as xr
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from cdscale.errors import StoreError
from cdscale.grid import Area, Tile, Window, covered
from cdscale.kernels import Bool, Float
from cdscale.months import Month
from cdscale.progress import Progress
from cdscale.spec.cube import ChangeState, CubeSpec, Variable
from cdscale.spec.job import Job
from cdscale.spec.task import Receipt, Stage, Task
from cdscale.store import Plane, exists, planes, read_spec

MOST_PX = 1200
"""Along the longer side of a picture."""
STRIP = 64
"""Rows of a picture that are taken from an overview at once."""
MOST_PARTS = 4
"""Of a scattered area, drawn one by one."""
FILLED = 1 / 3
"""Share of the enclosing rectangle from which an area is drawn as one."""
MOST_TILES = 400
"""Of a view whose composites are drawn: of a larger one, whose pictures would take the reading of
a whole month, change alone is drawn, from the store's overviews."""
MOST_READ = 4000
"""Edge tiles and months that are read to count what lies inside of the area; of more, the share of
a tile that lies inside is taken of its counts."""
NOT_PROCESSED = "not_processed"
SENSORS = {"s2_quality": "optical", "s1_quality": "radar"}
SETTLED = (ChangeState.confirmed, ChangeState.high_confidence, ChangeState.finished)
"""States that count as change; a provisional one may still be given up."""
Counts = dict[str, int]


# ---------------------------------------------------------------------------------------- views


@dataclass(frozen=True)
class View:
    """A rectangle of a run's stores, and every how many pixels it is looked at."""

    job: Job
    tiles: tuple[Tile, ...]
    rows: range
    columns: range

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a picture."""
        return len(self.rows), len(self.columns)

    @property
    def step(self) -> int:
        """Every which pixel is drawn."""
        return self.rows.step

    @property
    def vast(self) -> bool:
        """Whether it is too large to read a month of it."""
        return len(self.tiles) > MOST_TILES

    @property
    def inside_YX(self) -> Bool:
        """Where its pixels lie in the area of interest."""
        whole = self.job.spec.window().geobox(self.job.spec.lattice)
        y, x = (slice(axis.start, axis[-1] + axis.step) for axis in (self.rows, self.columns))
        box = whole[y, x]
        return covered(self.job.spec.aoi, box if self.step == 1 else box.zoom_to(self.shape))

    @cached_property
    def extent_km(self) -> tuple[float, float, float, float]:
        """Left, right, bottom and top in kilometres of the grid's CRS."""
        grid, box = self.job.spec.lattice, self.job.spec.window().geobox(self.job.spec.lattice)
        west, north = box.boundingbox.left, box.boundingbox.top
        edges = (
            west + self.columns[0] * grid.resolution,
            west + (self.columns[-1] + self.step) * grid.resolution,
            north - (self.rows[-1] + self.step) * grid.resolution,
            north - self.rows[0] * grid.resolution,
        )
        left, right, bottom, top = (edge / 1000 for edge in edges)
        return left, right, bottom, top

    @cached_property
    def outlines_km(self) -> list[NDArray[np.float64]]:
        """Rings of the area of interest, kilometres, as finely as the picture can show them."""
        grid = self.job.spec.lattice
        polygon = shapely.simplify(self.job.spec.aoi.to_crs(grid.crs), self.step * grid.resolution)
        rings = shapely.get_rings(shapely.get_parts(polygon))
        return [shapely.get_coordinates(ring) / 1000 for ring in rings]


def views(job: Job, progress: Progress) -> tuple[tuple[View, ...], int]:
    """What to draw of a run: its area as one, or a scattered area's largest parts.

    Returns
    -------
    tuple of View
        None where nothing was composed.
    int
        Parts that are left out.
    """
    window = job.spec.window()
    scattered = len(job.tiles) < FILLED * window.nx * window.ny
    parts = clusters(job.tiles) if scattered else [job.tiles]
    composed = {t.tile for t in job.tasks(Stage.COMPOSE) if progress.receipt(t) is not None}
    parts = [part for part in parts if composed.intersection(part)]
    parts.sort(key=lambda part: (-len(part), part[0]))
    drawn = (_view(job, part) for part in parts[:MOST_PARTS])
    return tuple(view for view in drawn if view is not None), max(0, len(parts) - MOST_PARTS)


def clusters(tiles: Iterable[Tile]) -> list[tuple[Tile, ...]]:
    """Groups of tiles that touch, corners included, each in order."""
    left = set(tiles)
    found = []
    for seed in sorted(left):
        if seed not in left:
            continue
        left.discard(seed)
        group, edge = [seed], [seed]
        while edge:
            near = [tile for tile in edge.pop().neighbours() if tile in left]
            left.difference_update(near)
            group += near
            edge += near
        found.append(tuple(sorted(group)))
    return found


def _view(job: Job, tiles: tuple[Tile, ...]) -> View | None:
    """The part of these tiles that the area of interest needs, with a margin."""
    grid, whole = job.spec.lattice, job.spec.window()
    around = grid.window(tiles)
    limits = around.geobox(grid).extent.geom
    wanted = shapely.intersection(job.spec.aoi.to_crs(grid.crs), limits)
    if wanted.is_empty:
        return None
    box = whole.geobox(grid).boundingbox
    west, south, east, north = wanted.bounds
    top, left = _corner(grid.tile_px, whole, around)
    bottom, right = top + around.ny * grid.tile_px, left + around.nx * grid.tile_px
    margin = 0.03 * max(east - west, north - south) + 2 * grid.resolution
    y = _span((box.top - north - margin, box.top - south + margin), grid.resolution, (top, bottom))
    x = _span((west - margin - box.left, east + margin - box.left), grid.resolution, (left, right))
    step = math.ceil(max(y[1] - y[0], x[1] - x[0]) / MOST_PX)
    return View(job, tiles, range(*y, step), range(*x, step))


def _corner(tile_px: int, whole: Window, part: Window) -> tuple[int, int]:
    return (part.iy - whole.iy) * tile_px, (part.ix - whole.ix) * tile_px


def _span(
    metres: tuple[float, float], resolution: float, limits: tuple[int, int]
) -> tuple[int, int]:
    first = max(math.floor(metres[0] / resolution), limits[0])
    last = min(math.ceil(metres[1] / resolution), limits[1])
    return first, max(last, first + 1)


# --------------------------------------------------------------------------------------- pixels


@dataclass
class Product:
    """One store of a run: values as stored, and the fill value where a task is not done."""

    job: Job
    stage: Stage
    progress: Progress
    unreadable: dict[str, str] = field(default_factory=dict)
    """Tasks whose pixels do not read back although their receipts hold, and why."""

    @cached_property
    def layout(self) -> CubeSpec:
        """What the store holds, months of other runs included."""
        path = self.job.store_path(self.stage)
        return read_spec(path) if exists(path) else self.job.layouts[self.stage]

    @cached_property
    def dataset(self) -> xr.Dataset:
        """Lazy and without a graph: there are as many chunks as there is land."""
        path = self.job.store_path(self.stage)
        dataset: xr.Dataset = xr.open_zarr(
            path, consolidated=True, chunks=None, mask_and_scale=False, decode_times=False
        )
        return dataset

    def read(self, name: str, task: Task, at: dict[str, Any]) -> NDArray[Any] | None:
        """Values of a task at these indices; None where they do not read, which is remembered."""
        month = self.layout.months.index(task.month)
        try:
            return np.asarray(self.dataset[name].isel(month=month, **at).values)
        except (OSError, ValueError, RuntimeError) as err:
            self.unreadable[str(task)] = f"{type(err).__name__}: {err}"
            return None

    def picture(self, name: str, month: Month, view: View, band: str = "") -> NDArray[Any]:
        """One variable, or one of its bands, of a month in a view: (y, x).

        From an overview where the view skips pixels and the store has one of the month.
        """
        variable = self.layout.variable(name)
        if (plane := self._overview(month, view)) is not None:
            return self._seen_from_afar(plane, name, month, view)
        chosen = {variable.band_dim: variable.bands.index(band)} if band else {}
        image_YX = np.full(view.shape, variable.fill, variable.dtype)
        for task, source, target in self._seen(month, view):
            block = self.read(name, task, {**source, **chosen})
            if block is not None:
                image_YX[target] = block
        return image_YX

    def _overview(self, month: Month, view: View) -> Plane | None:
        """The coarsest overview of a month that is no coarser than a view."""
        fine = [p for p in self._planes if p.level is not None and p.level.factor <= view.step]
        there = [plane for plane in fine if month in plane.published()]
        return there[-1] if there else None

    @cached_property
    def _planes(self) -> tuple[Plane, ...]:
        path = self.job.store_path(self.stage)
        return tuple(planes(path, self.layout)) if exists(path) else ()

    def _seen_from_afar(self, plane: Plane, name: str, month: Month, view: View) -> NDArray[Any]:
        factor = 1 if plane.level is None else plane.level.factor
        rows, columns = (np.asarray(axis) // factor for axis in (view.rows, view.columns))
        image_YX = np.empty(view.shape, self.layout.variable(name).dtype)
        try:
            for top in range(0, len(rows), STRIP):  # of a level much finer than the view, too
                part = rows[top : top + STRIP]
                y, x = slice(part[0], part[-1] + 1), slice(columns[0], columns[-1] + 1)
                strip_YX = plane.one(name, month, y, x)
                image_YX[top : top + STRIP] = strip_YX[np.ix_(part - part[0], columns - columns[0])]
        except StoreError as err:
            self.unreadable[f"overview {plane.group.name} of {self.stage}/{month}"] = str(err)
            image_YX[:] = self.layout.variable(name).fill
        return image_YX

    def done(self, month: Month, view: View) -> Bool:
        """Where tasks of a month are done: (y, x)."""
        done_YX = np.zeros(view.shape, bool)
        for _, _, target in self._seen(month, view):
            done_YX[target] = True
        return done_YX

    def _seen(
        self, month: Month, view: View
    ) -> Iterator[tuple[Task, dict[str, slice], tuple[slice, slice]]]:
        """Done tasks that a view looks at: where their pixels lie, and where they are drawn."""
        for tile in view.tiles:
            task = Task(self.stage, month, tile)
            if self.progress.receipt(task) is None:
                continue
            region = self.layout.region(tile, month)
            rows, to_rows = _strided(view.rows, region["y"])
            columns, to_columns = _strided(view.columns, region["x"])
            if to_rows.stop > to_rows.start and to_columns.stop > to_columns.start:
                yield task, {"y": rows, "x": columns}, (to_rows, to_columns)


def _strided(view: range, tile: slice) -> tuple[slice, slice]:
    """Indices of a tile that a view looks at: in the store, and in the picture."""
    first = max(0, math.ceil((tile.start - view.start) / view.step))
    last = min(len(view), math.ceil((tile.stop - view.start) / view.step))
    start = view.start + first * view.step
    stop = min(view.start + last * view.step, tile.stop)
    return slice(start, stop, view.step), slice(first, max(first, last))


# --------------------------------------------------------------------------------------- counts


def days_since_1970(month: Month) -> int:
    """First day of a month as ``change_month`` holds it."""
    return int(month.to_numpy().astype("datetime64[D]").astype(np.int64))


@dataclass
class Tally:
    """Pixels of each code inside the area of interest, by stage, month and variable.

    A tile that lies wholly inside has its counts in the receipt; those on the edge are read, unless
    there are too many: then the share of a tile that lies inside is taken of its counts.
    """

    products: dict[Stage, Product]
    inside: int = 0
    """Pixels of the grid whose centre lies in the area."""
    exact: bool = True
    """Whether every tile on the edge was read."""
    codes: dict[tuple[Stage, Month, str], Counts] = field(default_factory=dict)
    first: dict[Month, dict[int, int]] = field(default_factory=dict)
    """Of the last month of a series: days since 1970 to pixels whose change counts by then."""
    undone: dict[tuple[Stage, Month], int] = field(default_factory=dict)
    """Pixels in tiles without a valid receipt."""
    valid: dict[str, Float] = field(default_factory=dict)
    """Share of valid pixels of each tile's part of the area, (tile, month), of ``optical`` and
    ``radar``; NaN where a task is not done."""
    _rows: dict[Tile, int] = field(default_factory=dict)

    def count(self, job: Job) -> Tally:
        """Go through every tile once."""
        grid, area = job.spec.lattice, job.spec.aoi
        polygon = area.to_crs(grid.crs)
        shapely.prepare(polygon)
        shape = len(job.tiles), len(job.spec.period)
        self.valid = {name: np.full(shape, np.nan, np.float32) for name in SENSORS.values()}
        edge = sum(not polygon.covers(grid.geobox(t).extent.geom) for t in job.tiles)
        self.exact = edge * len(job.spec.period) <= MOST_READ
        self._rows = {tile: i for i, tile in enumerate(job.tiles)}
        for tile in job.tiles:
            mask_YX = _mask(area, polygon, job, tile)
            number = grid.tile_px**2 if mask_YX is None else int(mask_YX.sum())
            self.inside += number
            for product in self.products.values():
                for month in product.layout.months:
                    task = Task(product.stage, month, tile)
                    self._count(product, task, product.progress.receipt(task), mask_YX)
        return self

    def codes_of(self, stage: Stage, month: Month) -> Counts:
        """Counts of the first quality variable of a stage and month, without what was not done."""
        names = [name for s, m, name in self.codes if (s, m) == (stage, month)]
        counts = self.codes.get((stage, month, names[0]), {}) if names else {}
        return {name: n for name, n in counts.items() if n and name != NOT_PROCESSED}

    def _note_valid(self, job: Job, task: Task, sensor: str, counts: Counts) -> None:
        if task.month in job.spec.period and (whole := sum(counts.values())):
            place = self._rows[task.tile], job.spec.period.index(task.month)
            self.valid[sensor][place] = counts.get("valid", 0) / whole

    def _count(
        self, product: Product, task: Task, receipt: Receipt | None, mask_YX: Bool | None
    ) -> None:
        px = product.job.spec.grid.tile
        number = px**2 if mask_YX is None else int(mask_YX.sum())
        if receipt is None:
            at = task.stage, task.month
            self.undone[at] = self.undone.get(at, 0) + number
        for variable, names in _coded(product.layout):
            known = receipt.pixels.get(variable.name) if receipt else {NOT_PROCESSED: number}
            if receipt and known is not None and mask_YX is not None and not self.exact:
                known = {name: round(n * number / px**2) for name, n in known.items()}
            elif receipt and (mask_YX is not None or known is None):
                values = self._inside(product, variable.name, task, mask_YX)
                found = _counted(values).items()
                known = {names.get(value, "no_data"): n for value, n in found}
                known = known or {NOT_PROCESSED: number}
            place = self.codes.setdefault((task.stage, task.month, variable.name), {})
            for name, n in (known or {}).items():
                name = NOT_PROCESSED if name == "outside" else name
                place[name] = place.get(name, 0) + n
            if receipt and known and variable.name in SENSORS:
                self._note_valid(product.job, task, SENSORS[variable.name], known)
        if receipt and task.month == self._last_of_series(product):
            self._count_months(product, task, mask_YX)

    @staticmethod
    def _last_of_series(product: Product) -> Month | None:
        """The month whose every tile is read for when changes began, where they may all be read."""
        job = product.job
        series = product.stage is Stage.CHANGE and "urban" in job.cards
        return job.spec.period.last if series and len(job.tiles) <= MOST_TILES else None

    def _count_months(self, product: Product, task: Task, mask_YX: Bool | None) -> None:
        """When the changes of a series began that count by now."""
        values = self._inside(product, "first_month", task, mask_YX)
        state = self._inside(product, "state", task, mask_YX)
        if values.size == state.size:  # both read
            days = self.first.setdefault(task.month, {})
            for day, n in _counted(values[np.isin(state, SETTLED)]).items():
                days[day] = days.get(day, 0) + n

    def _inside(
        self, product: Product, name: str, task: Task, mask_YX: Bool | None
    ) -> NDArray[Any]:
        region = product.layout.region(task.tile, task.month)
        values_YX = product.read(name, task, {"y": region["y"], "x": region["x"]})
        if values_YX is None:
            return np.empty(0, np.int32)
        return values_YX.ravel() if mask_YX is None else values_YX[mask_YX]


def _counted(values: NDArray[Any]) -> Counter[int]:
    """How often each integer occurs; they lie close together, so that nothing need be sorted."""
    low = int(values.min()) if values.size else 0
    numbers = np.bincount(values.astype(np.int64) - low)
    return Counter({low + int(i): int(numbers[i]) for i in np.flatnonzero(numbers)})


def _coded(layout: CubeSpec) -> Iterator[tuple[Variable, dict[int, str]]]:
    for variable in layout.variables:
        if meanings := variable.meanings:
            yield variable, meanings


def _mask(area: Area, polygon: BaseGeometry, job: Job, tile: Tile) -> Bool | None:
    """Pixels of a tile inside the area; None where all of them are."""
    geobox = job.spec.lattice.geobox(tile)
    return None if polygon.covers(geobox.extent.geom) else covered(area, geobox)
