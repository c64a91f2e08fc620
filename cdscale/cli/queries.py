"""``query`` and ``stats``: what a store says of a point, an area, or many areas."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from cdscale import errors
from cdscale.cli.app import AsJson, app
from cdscale.display import err, out, show_answer, show_evidence
from cdscale.errors import SpecError
from cdscale.months import Months

query = typer.Typer(help="Ask a store about a point or an area.", no_args_is_help=True)
app.add_typer(query, name="query")

StoreAt = Annotated[
    str, typer.Argument(metavar="STORE", help="cube.zarr, urban.zarr or change.zarr: path or s3://")
]
Unpublished = Annotated[
    bool, typer.Option("--unpublished", help="Show months as well that are not complete.")
]
MonthsText = Annotated[
    str, typer.Option("--months", help="Like 2022-04..2022-06; by default all published ones.")
]
Variables = Annotated[
    list[str] | None, typer.Option("--variable", help="Of these alone; may be repeated.")
]
Lon = Annotated[float | None, typer.Option(help="Longitude, degrees.")]
Lat = Annotated[float | None, typer.Option(help="Latitude, degrees.")]
Easting = Annotated[float | None, typer.Option("--x", help="Easting, of --crs.")]
Northing = Annotated[float | None, typer.Option("--y", help="Northing, of --crs.")]
Crs = Annotated[str, typer.Option(help="Of --x and --y, like EPSG:32632.")]
FileCrs = Annotated[str, typer.Option("--crs", help="Of the polygons, where the file has none.")]


@query.command()
def point(
    store: StoreAt,
    lon: Lon = None,
    lat: Lat = None,
    x: Easting = None,
    y: Northing = None,
    crs: Crs = "",
    months: MonthsText = "",
    variable: Variables = None,
    unpublished: Unpublished = False,
    as_json: AsJson = False,
) -> None:
    """Every value of a store at one place, month by month."""
    from cdscale.query import point as ask

    where = _spot((lon, lat), (x, y), crs)
    wanted = _wanted(months, variable, unpublished)
    show_answer(ask(_source(store), where, wanted), as_json=as_json)


@query.command()
def area(
    store: StoreAt,
    polygons: Annotated[Path, typer.Argument(help="Polygons: GeoJSON, GeoPackage, …")],
    crs: FileCrs = "",
    months: MonthsText = "",
    variable: Variables = None,
    unpublished: Unpublished = False,
    as_json: AsJson = False,
) -> None:
    """What a store says of an area, month by month: means, and square kilometres of each class."""
    from cdscale.query import Zones
    from cdscale.query import area as ask

    where = Zones.read(polygons, crs=crs)
    wanted = _wanted(months, variable, unpublished)
    show_answer(ask(_source(store), where, wanted), as_json=as_json)


@query.command()
def explain(
    store: StoreAt,
    lon: Lon = None,
    lat: Lat = None,
    x: Easting = None,
    y: Northing = None,
    crs: Crs = "",
    months: MonthsText = "",
    unpublished: Unpublished = False,
    as_json: AsJson = False,
) -> None:
    """What stands behind a pixel: scenes, clear days, series, models and their versions."""
    from cdscale.query import explain as ask

    where = _spot((lon, lat), (x, y), crs)
    told = ask(_source(store), where, _wanted(months, None, unpublished))
    show_evidence(told, as_json=as_json)


@app.command()
def stats(
    store: StoreAt,
    polygons: Annotated[Path, typer.Argument(help="Polygons: GeoJSON, GeoPackage, …")],
    by: Annotated[str, typer.Option(help="Field that names the zones.")],
    crs: FileCrs = "",
    months: MonthsText = "",
    variable: Variables = None,
    unpublished: Unpublished = False,
    sample: Annotated[
        Path | None,
        typer.Option(help="Interpreted points: areas on the ground, too, with 95 % intervals."),
    ] = None,
    form: Annotated[str, typer.Option("--format", help="csv, json or parquet.")] = "",
    to: Annotated[Path | None, typer.Option("--out", help="File; by default printed.")] = None,
) -> None:
    """Square kilometres of each class, and means, zone by zone and month by month."""
    from cdscale.query import Zones, statistics
    from cdscale.query.ground import ground
    from cdscale.query.tables import FORMATS, columns_of, rows

    form = form or (to.suffix[1:] if to and to.suffix[1:] in FORMATS else "csv")
    if form not in FORMATS:
        raise SpecError(errors.explain("--format", expected=", ".join(FORMATS), got=form))
    if form == "parquet" and to is None:
        raise SpecError(errors.explain("Parquet is not printed", do="Name a file: --out FILE."))
    if to is not None and not to.parent.is_dir():
        raise SpecError(errors.explain(f"--out {to}: there is no folder {to.parent}"))
    if to is not None:
        _check_free(to, polygons)
    zones, source = Zones.read(polygons, by=by, crs=crs), _source(store)
    found = statistics(source, zones, _wanted(months, variable, unpublished))
    if not found.about.months:
        raise SpecError(
            errors.explain(
                f"{store}: no month is published", do="Complete the run, or --unpublished."
            )
        )
    sampled = None if sample is None else ground(source, zones, found, sample)
    for note in (*found.notes, *(sampled.notes if sampled else ())):
        err.print(f"note: {escape(note)}", soft_wrap=True)
    table = list(rows(found, zones.field, sampled))
    data = FORMATS[form](table, columns_of(zones.field, sampled))
    if to is None:
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
        return
    _write_whole(to, data)
    out.print(f"{len(found.zones)} zones, {len(found.about.months)} months: {to}", soft_wrap=True)


def _check_free(to: Path, polygons: Path) -> None:
    from cdscale.store import outside_stores

    outside_stores(to, "--out")
    if to.is_dir():
        raise SpecError(errors.explain(f"--out {to}", expected="a file", got="a folder"))
    if to.exists() and polygons.exists() and to.samefile(polygons):
        raise SpecError(errors.explain(f"--out {to} would replace the polygons"))


def _write_whole(path: Path, data: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    part.replace(path)


def _source(store: str) -> Any:
    from cdscale.store import find, open_source

    return open_source(find(store))


def _wanted(months: str, variables: list[str] | None, unpublished: bool) -> Any:
    from cdscale.query import Wanted

    named = frozenset(Months.parse(months)) if months else frozenset()
    return Wanted(named, tuple(variables or ()), unpublished)


Pair = tuple[float | None, float | None]


def _spot(degrees: Pair, metres: Pair, crs: str) -> Any:
    """A place by --lon and --lat, or by --x, --y and --crs."""
    from cdscale.query import Spot

    (lon, lat), (x, y) = degrees, metres
    if lon is not None and lat is not None and (x, y, crs) == (None, None, ""):
        return Spot.checked(lon, lat)
    if x is not None and y is not None and crs and (lon, lat) == (None, None):
        return Spot.checked(x, y, crs)
    raise typer.BadParameter("give --lon and --lat in degrees, or --x, --y and --crs together")
