"""Statistics of zones as a table: one row for each zone, month, variable and class."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

from cdscale.query.areas import DIGITS
from cdscale.query.ground import Sampled
from cdscale.query.zonal import Key, Statistics

COLUMNS: dict[str, type] = {
    "month": str, "variable": str, "band": str, "class": str, "km2": float, "mean": float,
    "missing_share": float, "zone_km2": float, "outside_share": float,
}  # fmt: skip
"""After the one of the field: ``km2`` of the class, or with a value; ``missing_share`` of the zone
in the store; ``zone_km2`` of it there, and ``outside_share`` of it elsewhere."""
ON_GROUND: dict[str, type] = {"ground_km2": float, "ground_low": float, "ground_high": float}
"""With a sample that was interpreted: the class on the ground, with its 95 % interval."""
Row = dict[str, Any]
Columns = dict[str, type]


def columns_of(field: str, sampled: Sampled | None = None) -> Columns:
    """Columns of a table and their types, in order."""
    return {column_of(field): str, **COLUMNS, **(ON_GROUND if sampled else {})}


def column_of(field: str) -> str:
    """Name of the column of the zones: that of the field, unless another column has it."""
    return f"{field}_" if field in COLUMNS else field


def rows(found: Statistics, field: str, sampled: Sampled | None = None) -> Iterator[Row]:
    """The rows of a table, in the order of zones, months and variables."""
    column = column_of(field)
    for zone in found.zones:
        whole = {"zone_km2": round(zone.km2, DIGITS), "outside_share": round(zone.outside, 6)}
        for key in zone.tallies:
            month, variable, band = key
            missing = round(zone.missing(key), 6)
            for line in zone.lines(key):
                yield {
                    column: zone.zone.name,
                    "month": str(month),
                    "variable": variable,
                    "band": band,
                    "class": line.label,
                    "km2": round(line.km2, DIGITS),
                    "mean": None if line.mean is None else round(line.mean, 6),
                    "missing_share": missing,
                    **whole,
                    **(_on_ground(sampled, zone.zone.name, key, line.label) if sampled else {}),
                }


def _on_ground(sampled: Sampled, zone: str, key: Key, label: str) -> Row:
    there = sampled.zones.get(zone, {}).get(label) if key == sampled.key else None
    if there is None:
        return dict.fromkeys(ON_GROUND)
    values = (there.km2, there.low, there.high)
    return dict(zip(ON_GROUND, (round(v, DIGITS) for v in values), strict=True))


def as_csv(table: list[Row], columns: Columns) -> bytes:
    """Comma-separated, a header first; what is not there is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue().encode()


def as_json(table: list[Row], columns: Columns) -> bytes:
    """A list of objects, a row each."""
    del columns
    lines = ",\n".join(json.dumps(row, allow_nan=False, ensure_ascii=False) for row in table)
    return f"[\n{lines}\n]\n".encode()


def as_parquet(table: list[Row], columns: Columns) -> bytes:
    """Parquet: text and float64 columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [(name, pa.string() if kind is str else pa.float64()) for name, kind in columns.items()]
    )
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(table, schema=schema), sink)
    return bytes(sink.getvalue())


FORMATS: dict[str, Callable[[list[Row], Columns], bytes]] = {
    "csv": as_csv,
    "json": as_json,
    "parquet": as_parquet,
}
