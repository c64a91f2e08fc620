"""``accuracy``: which pixels to interpret, and what they say of the map and of the ground."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from cdscale.cli.app import AsJson, app
from cdscale.display import out, print_json
from cdscale.errors import SpecError, explain
from cdscale.months import Month

accuracy = typer.Typer(
    help="Accuracy and area of a map from a sample that people interpret.", no_args_is_help=True
)
app.add_typer(accuracy, name="accuracy")


@accuracy.command()
def design(
    store: Annotated[Path, typer.Argument(help="change.zarr, or another store with classes.")],
    to: Annotated[Path, typer.Option("--out", help="The points: a .csv or .gpkg file.")],
    month: Annotated[str, typer.Option(help="Which month; by default the last published.")] = "",
    variable: Annotated[str, typer.Option(help="Whose classes are the strata.")] = "change",
    size: Annotated[int, typer.Option(help="Points in all.")] = 500,
    least: Annotated[int, typer.Option(help="Points of each class, at least.")] = 50,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Draw a stratified random sample of a map's pixels, for people to interpret."""
    from cdscale.accuracy import Choice, draw, write_sample
    from cdscale.store import Store, read_spec

    found = Store(store, read_spec(store))
    published = found.published()
    if not month and not published:
        raise SpecError(explain(f"{store}: no month is published", do="Complete the run first."))
    chosen = Month.parse(month) if month else published[-1]
    made = draw(found, variable, chosen, Choice(size=size, least=least, seed=seed))
    write_sample(made, to)
    counts = {name: sum(p.mapped == name for p in made.points) for name in made.mapped_km2}
    if as_json:
        told = {"month": made.month, "mapped_km2": made.mapped_km2, "points": counts}
        print_json({"sample": str(to), **told})
        return
    table = Table("class on the map", "km2", "points")
    for name, area in made.mapped_km2.items():
        table.add_row(name, f"{area:,.2f}", str(counts[name]))
    out.print(table)
    out.print(f"{len(made.points)} points of {made.month} in {to}: fill in the column reference")
    out.print("with a class of the list, without looking at the map. Then:")
    out.print(f"  cdscale accuracy estimate {to}", soft_wrap=True)


@accuracy.command()
def estimate(
    sample: Annotated[Path, typer.Argument(help="The interpreted points, .csv or .gpkg.")],
    as_json: AsJson = False,
) -> None:
    """Accuracies, and the area of each class on the ground, with 95 % confidence intervals."""
    from cdscale.accuracy import estimate as estimated
    from cdscale.accuracy import read_sample

    made, seen = read_sample(sample)
    found = estimated(made.counts(seen), made.mapped_km2, made.classes)
    left = len(made.points) - len(seen)
    if as_json:
        print_json(_plain(found, made.month, left))
        return
    table = Table("class", "mapped km2", "on the ground km2", "user's", "producer's")
    for i, name in enumerate(found.classes):
        area = found.area_km2[i]
        table.add_row(
            name,
            f"{found.mapped_km2[i]:,.2f}",
            f"{area.value:,.2f} ± {area.interval:,.2f}",
            _cell(found.users[i]),
            _cell(found.producers[i]),
        )
    out.print(table)
    out.print(f"Overall accuracy {_cell(found.overall)}; ± is half of the 95 % interval.")
    if left:
        out.print(f"{left} of {len(made.points)} points have no reference and were left out.")


def _cell(share: Any) -> str:
    if math.isnan(share.value):
        return "–"
    return f"{share.value:.3f} ± {share.interval:.3f}"


def _plain(found: Any, month: str, left: int) -> dict[str, Any]:
    def told(share: Any) -> dict[str, float | None]:
        pair = {"value": share.value, "error": share.error, "interval_95": share.interval}
        return {k: None if math.isnan(v) else round(v, 6) for k, v in pair.items()}

    rows = zip(
        found.classes, found.mapped_km2, found.area_km2, found.users, found.producers, strict=True
    )
    return {
        "month": month,
        "points_without_reference": left,
        "overall": told(found.overall),
        "classes": {
            name: {
                "mapped_km2": round(mapped, 6),
                "area_km2": told(area),
                "users": told(user),
                "producers": told(producer),
            }
            for name, mapped, area, user, producer in rows
        },
        "matrix": found.matrix.tolist(),
    }
