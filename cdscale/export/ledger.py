"""The ledger of completeness as GeoParquet: one row for each tile and month."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from cdscale.completeness import TileMonth, tile_months
from cdscale.grid import LON_LAT, Tile
from cdscale.progress import Progress
from cdscale.spec.cube import SensorQuality

NAME = "completeness.parquet"
"""Where a run leaves it, in its output folder."""
REASONS = ("unused", "set_aside", "failed")
"""What is listed with its reasons."""
CODES = [
    (variable, code.name) for variable in ("s2_quality", "s1_quality") for code in SensorQuality
]


def write_ledger(progress: Progress, path: Path) -> Path:
    """Write what is known of each tile and month as GeoParquet 1.1.

    Columns: ``month``, ``tile``, ``state``, ``reason``; how many scenes were ``expected``,
    ``used``, ``unused``, ``set_aside`` and ``failed``, and which, in ``..._list``, those that were
    not used as ``id: reason``; ``s2_quality_valid`` and so on, pixels of each code, null where
    there is no receipt; ``geometry``, the outline of the tile in degrees, and ``bbox``, its bounds.
    Months are row groups, so that memory does not grow with them.

    Parameters
    ----------
    progress : Progress
        Where the run stands.
    path : Path
        A file, replaced as a whole.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    OSError
        When it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    outlines = _Outlines(progress)
    schema = _schema().with_metadata({b"geo": outlines.metadata})
    try:
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for _, rows in groupby(tile_months(progress), key=lambda row: row.month):
                writer.write_table(pa.table(_columns(list(rows), outlines), schema=schema))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


class _Outlines:
    """Outlines of tiles in degrees, each made once."""

    def __init__(self, progress: Progress) -> None:
        job = progress.job
        self._place = {tile: i for i, tile in enumerate(job.tiles)}
        self._shapes = np.array([job.footprint(tile) for tile in job.tiles], dtype=object)
        self._wkb = np.array(shapely.to_wkb(self._shapes), dtype=object)
        self._bounds = shapely.bounds(self._shapes)

    @cached_property
    def metadata(self) -> bytes:
        """What GeoParquet says of its geometry, as geopandas writes it."""
        frame = geopandas.GeoDataFrame(geometry=self._shapes, crs=LON_LAT)
        buffer = pa.BufferOutputStream()
        frame.to_parquet(buffer, index=False, schema_version="1.1.0", write_covering_bbox=True)
        said: bytes = pq.read_schema(pa.BufferReader(buffer.getvalue())).metadata[b"geo"]
        return said

    def columns(self, tiles: Iterable[Tile]) -> Iterator[tuple[str, Any]]:
        """Geometry and bounds of tiles."""
        at = [self._place[tile] for tile in tiles]
        yield "geometry", pa.array(self._wkb[at], pa.binary())
        sides = [pa.array(self._bounds[at, side]) for side in range(4)]
        yield "bbox", pa.StructArray.from_arrays(sides, _SIDES)


_SIDES = ["xmin", "ymin", "xmax", "ymax"]


def _schema() -> pa.Schema:
    texts = [(name, pa.string()) for name in ("month", "tile", "state", "reason")]
    counts = [(name, pa.int32()) for name in ("expected", "used", *REASONS)]
    lists = [(f"{name}_list", pa.list_(pa.string())) for name in ("expected", "used", *REASONS)]
    pixels = [(f"{variable}_{code}", pa.int64()) for variable, code in CODES]
    box = pa.struct([(side, pa.float64()) for side in _SIDES])
    return pa.schema([*texts, *counts, *lists, *pixels, ("geometry", pa.binary()), ("bbox", box)])


def _columns(rows: list[TileMonth], outlines: _Outlines) -> dict[str, Any]:
    """One month, column by column."""
    columns: dict[str, Any] = {
        name: [str(getattr(row, name)) for row in rows]
        for name in ("month", "tile", "state", "reason")
    }
    for name in ("expected", "used", *REASONS):
        columns[name] = [len(getattr(row, name)) for row in rows]
    for name in ("expected", "used"):
        columns[f"{name}_list"] = [list(getattr(row, name)) for row in rows]
    for name in REASONS:
        columns[f"{name}_list"] = [
            [f"{id}: {reason}" for id, reason in getattr(row, name).items()] for row in rows
        ]
    for variable, code in CODES:
        counts = [row.pixels.get(variable) for row in rows]
        columns[f"{variable}_{code}"] = [None if c is None else c.get(code, 0) for c in counts]
    columns.update(outlines.columns(row.tile for row in rows))
    return columns
