"""The log of change events: GeoParquet to which each publication adds rows, and never takes any.

``current`` and ``since`` are asked of it: what is there now, and what has happened since a month or
a publication. The file is written anew beside the old one and takes its place, so that whoever is
killed leaves the old one; where nothing has happened it is not touched.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from cdscale.errors import SpecError, StoreError, explain
from cdscale.export.cut import Cut, refuse_existing
from cdscale.export.cut import cut as part_of
from cdscale.export.events import Event, Kind, When, current, revise, since
from cdscale.export.patches import MMU_PX, Patch, find
from cdscale.grid import LON_LAT, Tile, reproject, to_lon_lat
from cdscale.integrity import run_of
from cdscale.months import Month, Months
from cdscale.spec.base import fingerprint
from cdscale.spec.job import Job
from cdscale.spec.overview import STATE
from cdscale.spec.task import Stage, Task
from cdscale.store import Ledger

NAME = "events.parquet"
KEY = b"cdscale"
"""Under which a log says what it is a log of."""
TABLES = (".parquet", ".gpkg", ".geojson")
_TEXT, _REAL, _WHOLE, _LIST = pa.string(), pa.float64(), pa.int64(), pa.list_(pa.string())
_SIDES = ("xmin", "ymin", "xmax", "ymax")
COLUMNS: dict[str, pa.DataType] = {
    "event_id": _TEXT,
    "revision": pa.int32(),
    "publication": pa.int32(),
    "kind": _TEXT,
    "month": _TEXT,
    "reference_month": _TEXT,
    "state": _TEXT,
    "from_class": _TEXT,
    "to_class": _TEXT,
    "first_month": _TEXT,
    "confirmed_month": _TEXT,
    "last_month": _TEXT,
    "area_km2": _REAL,
    "pixels": _WHOLE,
    "confidence_mean": _REAL,
    "confidence_max": _REAL,
    "support_mean": _REAL,
    "support_max": _WHOLE,
    "merged_into": _TEXT,
    "split_from": _TEXT,
    "anchor": _TEXT,
    "lon": _REAL,
    "lat": _REAL,
    "tiles": _LIST,
    "scenes": _LIST,
    "geometry": pa.binary(),
    "bbox": pa.struct([(side, _REAL) for side in _SIDES]),
}
"""Of the log, in order; months are text like 2018-03."""


@dataclass(frozen=True)
class Log:
    """A log of events."""

    path: Path
    about: dict[str, Any]
    """What it is a log of: see :func:`about`."""
    rows: tuple[Event, ...] = ()

    @property
    def publication(self) -> int:
        """The last one; 0 before the first."""
        return max((row.publication for row in self.rows), default=0)

    @property
    def current(self) -> list[Event]:
        """Events that are there, as they stand now."""
        return [event for event in current(self.rows).values() if not event.gone]

    def since(self, mark: str) -> list[Event]:
        """Rows after a month, like ``2018-03``, or after a publication, like ``4``.

        Raises
        ------
        SpecError
            When it is neither.
        """
        return since(self.rows, int(mark) if mark.isdecimal() else Month.parse(mark))


def about(cut: Cut, mmu: int) -> dict[str, Any]:
    """What decides which events a store has; a log holds those of one such choice."""
    return {
        "title": cut.spec.title,
        "structure": cut.spec.structure,
        "grid": cut.spec.grid.name,
        "crs": cut.spec.grid.crs,
        "pixel_km2": cut.pixel_km2,
        "mmu": mmu,
        "area": fingerprint(cut.area.geojson) if cut.area is not None else "",
        "comment": cut.spec.attrs.get("comment", ""),
        "models": cut.spec.attrs.get("models", {}),
    }


def update(path: Path, cut: Cut, mmu: int, *, overwrite: bool = False) -> tuple[Log, int]:
    """Add to a log what has happened since; the log, and how many rows are new.

    Parameters
    ----------
    path : Path
        The log; made where there is none.
    cut : Cut
        What of which store.
    mmu : int
        Pixels of an event, at least.
    overwrite : bool
        Begin a log anew where there is one.

    Raises
    ------
    SpecError
        When there is a log of something else.
    StoreError
        When the store has no events, does not read, or the log cannot be written.
    """
    told = about(cut, mmu)
    log = Log(path, told) if overwrite or not path.exists() else read(path)
    if log.about != told:
        field = next(key for key in told if log.about.get(key) != told[key])
        raise SpecError(
            explain(
                f"{path} is a log of other events: its {field} differs",
                expected=told[field],
                got=log.about.get(field),
                do="Choose another --out, or say --overwrite to begin anew.",
            )
        )
    longer = _followed(log, cut, mmu)
    new = len(longer.rows) - len(log.rows)
    if new or overwrite or not path.exists():
        _write(longer)
    return longer, new


def _followed(log: Log, cut: Cut, mmu: int) -> Log:
    """A log with what the months of a store add to it, as one publication."""
    rows, publication = list(log.rows), log.publication + 1
    scenes = _Scenes(cut)
    for month in _months(cut, log):
        earlier = cut.spec.reference.get(str(month)) if pairs(cut) else None
        when = When(str(month), publication, earlier)
        added = revise(rows, find(cut, month, mmu), when)
        rows += [replace(event, scenes=scenes.behind(event)) for event in added]
    return replace(log, rows=tuple(rows))


def least_pixels(store: Path) -> int:
    """Pixels of an event as the run that made a store has it; the default where it is not kept."""
    try:
        return run_of(store)[0].spec.changes.mmu
    except StoreError:
        return MMU_PX


def follow(store: str, months: Months, mmu: int = 0) -> geopandas.GeoDataFrame:
    """Events that stand in the last of some months, followed from the first; without a log.

    Parameters
    ----------
    store : str
        Path of the store.
    months : Months
        Which, published or not.
    mmu : int
        Pixels of an event, at least; 0: as an export has it.

    Raises
    ------
    StoreError
        When there is no store on a disk, or it has no change.
    """
    if "://" in store:
        raise StoreError(
            explain(
                f"events are followed in stores on disks, and {store} is none",
                do="Name a log of events, or copy the store to a disk.",
            )
        )
    part, least = (
        part_of(Path(store), months=months, unpublished=True),
        mmu or least_pixels(Path(store)),
    )
    log = _followed(Log(Path(), about(part, least)), part, least)
    return frame(log.current, log.about)


def pairs(cut: Cut) -> bool:
    """Whether the events are those of a pair network: each month a comparison of its own."""
    return STATE not in {v.name for v in cut.spec.variables}


def _months(cut: Cut, log: Log) -> list[Month]:
    """Months to look at: those after the log's last; where there are none, the last one again."""
    if pairs(cut) or not log.rows:
        return list(cut.months)
    known = max(Month.parse(row.month) for row in log.rows)
    return [m for m in cut.months if m > known] or [m for m in cut.months[-1:] if m == known]


# -------------------------------------------------------------------------------------- scenes


@dataclass(frozen=True)
class _Scenes:
    """Which scenes stand behind an event, where the run that made the store is beside it."""

    cut: Cut

    @cached_property
    def _job(self) -> Job | None:
        try:
            return run_of(self.cut.path)[0]
        except StoreError:
            return None

    @cached_property
    def _used(self) -> dict[tuple[str, str], tuple[str, ...]]:
        return {}

    @cached_property
    def _shapes(self) -> dict[str, Any]:
        return {s.id: s.polygon for s in self._job.scenes.scenes} if self._job else {}

    def behind(self, event: Event) -> tuple[str, ...]:
        """Scenes used on its tiles, from its first month to its last, that cover part of it."""
        if self._job is None:
            return ()
        crs = self.cut.spec.grid.crs
        outline = reproject(event.patch.geometry, crs, LON_LAT, resolution=1000)
        found: set[str] = set()
        for month in self._months(event):
            for tile in event.patch.tiles:
                found.update(self._of(tile, month))
        return tuple(
            sorted(s for s in found if s in self._shapes and outline.intersects(self._shapes[s]))
        )

    def _months(self, event: Event) -> list[str]:
        patch = event.patch
        if event.reference_month is not None:
            return [event.reference_month, event.month]
        first, last = patch.first_month or event.month, patch.last_month or event.month
        return [str(m) for m in self.cut.spec.months if first <= str(m) <= last]

    def _of(self, tile: str, month: str) -> tuple[str, ...]:
        if (tile, month) not in self._used and self._job is not None:
            task = Task(Stage.COMPOSE, Month.parse(month), Tile.parse(tile))
            receipt = Ledger(self._job.ledger_folder).read(task)
            self._used[tile, month] = receipt.scenes if receipt is not None else ()
        return self._used.get((tile, month), ())


# --------------------------------------------------------------------------------------- files


def read(path: Path) -> Log:
    """A log from its file.

    Raises
    ------
    SpecError
        When it is none.
    """
    try:
        table = pq.read_table(path)
        told = json.loads(table.schema.metadata[KEY])
        return Log(path, told, tuple(_event(row) for row in table.to_pylist()))
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as err:
        raise SpecError(
            explain(
                f"{path} is no log of events",
                expected="a file that `cdscale export geoparquet` wrote",
                got=" ".join(str(err).split())[:160],
                do="Choose another --out, or say --overwrite to replace it.",
            )
        ) from None


def check_tables(paths: Iterable[Path], *, overwrite: bool) -> None:
    """Refuse tables that cannot be written, before anything is.

    Raises
    ------
    SpecError
        When an ending is none of :data:`TABLES`, or a file is there.
    """
    every = list(paths)
    for path in every:
        if path.suffix not in TABLES:
            raise SpecError(
                explain(f"table {path}", expected=f"a file ending in {', '.join(TABLES)}")
            )
    refuse_existing(every, overwrite=overwrite)


def write_table(rows: list[Event], told: dict[str, Any], path: Path, *, overwrite: bool) -> None:
    """Write some rows of a log as a table of their own: GeoParquet, GeoPackage or GeoJSON.

    Raises
    ------
    SpecError
        When the ending is another, or the file is there.
    StoreError
        When it cannot be written.
    """
    check_tables([path], overwrite=overwrite)
    if path.suffix == ".parquet":
        _write(Log(path, told, tuple(rows)))
        return
    table = frame(rows, told)
    for name in (n for n, kind in COLUMNS.items() if kind == _LIST):
        table[name] = [", ".join(values) for values in table[name]]
    part = path.with_name(f".part-{path.name}")  # the ending says how
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        if path.suffix == ".geojson":  # which is always in degrees
            table.to_crs(LON_LAT).to_file(part, driver="GeoJSON")
        else:
            table.to_file(part, driver="GPKG", layer="events")
        os.replace(part, path)
    except OSError as err:
        raise StoreError(explain(f"cannot write {path}: {err.strerror}")) from None
    finally:
        part.unlink(missing_ok=True)


def frame(rows: list[Event], told: dict[str, Any]) -> geopandas.GeoDataFrame:
    """Rows of a log as a table of geopandas, in the CRS of the grid."""
    plain = {name: column for name, column in _columns(rows, told).items() if name != "bbox"}
    geometry = shapely.from_wkb(np.array(plain.pop("geometry"), object))
    return geopandas.GeoDataFrame(plain, geometry=geometry, crs=told["crs"])


def _write(log: Log) -> None:
    """GeoParquet 1.1 in the grid's CRS, as a whole."""
    columns = _columns(log.rows, log.about)
    schema = pa.schema(list(COLUMNS.items())).with_metadata(
        {b"geo": _geo(columns["geometry"], log.about["crs"]), KEY: json.dumps(log.about).encode()}
    )
    temporary = log.path.with_name(f".{log.path.name}.{os.getpid()}")
    try:
        log.path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns, schema=schema), temporary, compression="zstd")
        os.replace(temporary, log.path)
    except OSError as err:
        raise StoreError(explain(f"cannot write {log.path}: {err.strerror}")) from None
    finally:
        temporary.unlink(missing_ok=True)


def _geo(wkb: list[bytes], crs: str) -> bytes:
    """What GeoParquet says of its geometry, as geopandas writes it."""
    frame = geopandas.GeoDataFrame(geometry=shapely.from_wkb(np.array(wkb, object)), crs=crs)
    buffer = pa.BufferOutputStream()
    frame.to_parquet(buffer, index=False, schema_version="1.1.0", write_covering_bbox=True)
    said: bytes = pq.read_schema(pa.BufferReader(buffer.getvalue())).metadata[b"geo"]
    return said


def _columns(rows: Iterable[Event], told: dict[str, Any]) -> dict[str, list[Any]]:
    plain = [_row(event, told) for event in rows]
    return {name: [row[name] for row in plain] for name in COLUMNS}


def _row(event: Event, told: dict[str, Any]) -> dict[str, Any]:
    patch = event.patch
    x, y = shapely.get_coordinates(patch.geometry.representative_point())[0]
    lon, lat = to_lon_lat(x, y, told["crs"])
    row = {name: getattr(event, name) for name in Event.__dataclass_fields__}
    row |= {name: getattr(patch, name) for name in Patch.__dataclass_fields__}
    return row | {
        "kind": str(event.kind),
        "area_km2": round(patch.pixels * told["pixel_km2"], 9),
        "lon": round(lon, 7),
        "lat": round(lat, 7),
        "tiles": list(patch.tiles),
        "scenes": list(event.scenes),
        "geometry": shapely.to_wkb(patch.geometry),
        "bbox": dict(zip(_SIDES, patch.geometry.bounds, strict=True)),
    }


def _event(row: dict[str, Any]) -> Event:
    names = Patch.__dataclass_fields__.keys()
    patch = {name: row[name] for name in names}
    patch["geometry"] = shapely.from_wkb(row["geometry"])
    patch["tiles"] = tuple(row["tiles"])
    own = {name: row[name] for name in Event.__dataclass_fields__ if name != "patch"}
    own |= {"kind": Kind(row["kind"]), "scenes": tuple(row["scenes"])}
    return Event(patch=Patch(**patch), **own)
