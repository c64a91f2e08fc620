"""``export``: maps, a catalogue of them, and change events, for whoever does not read Zarr."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cdscale.cli.app import AsJson, app
from cdscale.display import out, print_json, shown
from cdscale.errors import SpecError, explain
from cdscale.grid import Area
from cdscale.months import Months
from cdscale.spec.base import read_yaml

if TYPE_CHECKING:
    from cdscale.export.cut import Cut

export = typer.Typer(help="Write maps, catalogues and events from a store.", no_args_is_help=True)
app.add_typer(export, name="export")

StorePath = Annotated[Path, typer.Argument(metavar="STORE", help="urban.zarr or change.zarr.")]
Out = Annotated[Path, typer.Option("--out", help="Folder to write to.", metavar="DIR")]
MonthsOption = Annotated[
    str | None,
    typer.Option("--months", help="Like 2018-03..2018-06; by default all.", metavar="MONTHS"),
]
AreaOption = Annotated[
    Path | None,
    typer.Option("--area", help="Polygons in degrees: only what lies in them.", metavar="FILE"),
]
Variables = Annotated[
    str, typer.Option("--variables", help="Like state,first_month.", metavar="NAMES")
]
Unpublished = Annotated[
    bool, typer.Option("--unpublished", help="Months as well that are not complete.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]


def _area(path: Path | None) -> Area | None:
    return None if path is None else Area.from_geojson(read_yaml(path), where=str(path))


def _part(store: Path, months: str | None, area: Path | None, *, unpublished: bool) -> Cut:
    """What of a store is wanted."""
    from cdscale.export.cut import cut

    named = None if months is None else Months.parse(months)
    return cut(store, months=named, area=_area(area), unpublished=unpublished)


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _folder(path: Path) -> Path:
    if path.exists() and not path.is_dir():
        raise SpecError(explain(f"--out {path}", expected="a folder", got="a file"))
    from cdscale.store import outside_stores

    return outside_stores(path, "--out")


def _told(files: tuple[Path, ...], *, as_json: bool) -> None:
    if as_json:
        print_json({"files": [str(path) for path in files]})
        return
    size = sum(path.stat().st_size for path in files)
    out.print(f"{len(files)} files, {size / 1e6:.1f} MB: {shown(files[0])} and on.")


@export.command()
def cog(
    store: StorePath,
    to: Out,
    months: MonthsOption = None,
    area: AreaOption = None,
    variables: Variables = "",
    unpublished: Unpublished = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Cloud-optimised GeoTIFFs: one of each variable and month, with colours and overviews."""
    from cdscale.export.rasters import chosen, write_cogs

    part = _part(store, months, area, unpublished=unpublished)
    names = chosen(part, _names(variables))
    _told(write_cogs(part, _folder(to), names, overwrite=overwrite), as_json=as_json)


@export.command("geotiff-mosaic")
def geotiff_mosaic(
    store: StorePath,
    to: Out,
    months: MonthsOption = None,
    area: AreaOption = None,
    variables: Variables = "",
    unpublished: Unpublished = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """A GeoTIFF of each tile, and a VRT of each variable and month that opens as one raster."""
    from cdscale.export.rasters import chosen, write_mosaic

    part = _part(store, months, area, unpublished=unpublished)
    names = chosen(part, _names(variables))
    _told(write_mosaic(part, _folder(to), names, overwrite=overwrite), as_json=as_json)


@export.command()
def stac(
    store: StorePath,
    to: Out,
    months: MonthsOption = None,
    area: AreaOption = None,
    unpublished: Unpublished = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """A STAC collection, and an item of each month; it names the COGs and events in the folder."""
    from cdscale.export.stac import write_stac

    part = _part(store, months, area, unpublished=unpublished)
    _told(write_stac(part, _folder(to), overwrite=overwrite), as_json=as_json)


@export.command()
def geoparquet(
    store: StorePath,
    to: Annotated[
        Path, typer.Option("--out", help="The log, or a folder for events.parquet.", metavar="FILE")
    ],
    months: MonthsOption = None,
    area: AreaOption = None,
    mmu: Annotated[
        int | None, typer.Option(help="Pixels of an event, at least; by default as the run's spec.")
    ] = None,
    since: Annotated[
        str,
        typer.Option(help="With --difference: after this month or publication.", metavar="MARK"),
    ] = "",
    difference: Annotated[
        Path | None,
        typer.Option(help="Write what has happened --since here too.", metavar="FILE"),
    ] = None,
    current: Annotated[
        Path | None, typer.Option(help="Write the events that stand here too.", metavar="FILE")
    ] = None,
    unpublished: Unpublished = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Change events: a log to which each publication adds what has become of them.

    Tables for --difference and --current end in .parquet, .gpkg or .geojson.
    """
    from cdscale.export import event_log
    from cdscale.store import outside_stores

    if bool(since) != (difference is not None):
        raise SpecError(explain("--since and --difference go together", do="Give both, or none."))
    if mmu is not None and mmu < 1:
        raise SpecError(explain("--mmu", expected="1 pixel or more", got=mmu))
    part = _part(store, months, area, unpublished=unpublished)
    path = to / event_log.NAME if to.is_dir() else to
    if path.suffix != ".parquet":
        raise SpecError(explain(f"--out {path}", expected="a folder, or a file ending in .parquet"))
    tables = [table for table in (difference, current) if table is not None]
    for place in (path, *tables):
        outside_stores(place, "the table")
    event_log.check_tables(tables, overwrite=overwrite)
    log, new = event_log.update(
        path, part, event_log.least_pixels(store) if mmu is None else mmu, overwrite=overwrite
    )
    if difference is not None:
        event_log.write_table(log.since(since), log.about, difference, overwrite=overwrite)
    if current is not None:
        event_log.write_table(log.current, log.about, current, overwrite=overwrite)
    if as_json:
        print_json(
            {
                "log": str(path),
                "rows": len(log.rows),
                "new": new,
                "publication": log.publication,
                "current": len(log.current),
            }
        )
        return
    area_km2 = sum(event.patch.pixels for event in log.current) * part.pixel_km2
    out.print(
        f"{new} new rows in {shown(path)}, publication {log.publication}; "
        f"{len(log.current)} events stand, {area_km2:.2f} km2."
    )
