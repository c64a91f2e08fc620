"""``query``: what a store says of a point or an area."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cdscale.cli.app import AsJson, app
from cdscale.display import show_answer
from cdscale.grid import Area
from cdscale.spec.base import read_yaml

query = typer.Typer(help="Ask a store about a point or an area.", no_args_is_help=True)
app.add_typer(query, name="query")

Unpublished = Annotated[
    bool, typer.Option("--unpublished", help="Show months as well that are not complete.")
]


@query.command()
def point(
    store: Annotated[Path, typer.Argument(help="cube.zarr, urban.zarr or change.zarr.")],
    lon: Annotated[float, typer.Option(help="Longitude, degrees.")],
    lat: Annotated[float, typer.Option(help="Latitude, degrees.")],
    unpublished: Unpublished = False,
    as_json: AsJson = False,
) -> None:
    """Every value of a store at one place, month by month."""
    from cdscale.query import point as ask

    show_answer(ask(store, lon, lat, unpublished=unpublished), as_json=as_json)


@query.command()
def area(
    store: Annotated[Path, typer.Argument(help="cube.zarr, urban.zarr or change.zarr.")],
    geojson: Annotated[Path, typer.Argument(help="Polygons in degrees.")],
    unpublished: Unpublished = False,
    as_json: AsJson = False,
) -> None:
    """What a store says of an area, month by month: means, and square kilometres of each class."""
    from cdscale.query import area as ask

    where = Area.from_geojson(read_yaml(geojson), where=str(geojson))
    show_answer(ask(store, where, unpublished=unpublished), as_json=as_json)
