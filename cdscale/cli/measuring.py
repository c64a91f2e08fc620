"""``evaluate``, ``predict``, ``pseudo-label``: trained networks on the published data sets."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.progress import track
from rich.table import Table

from cdscale.cli.app import INCOMPLETE, AsJson, app
from cdscale.display import err, out, print_json

if TYPE_CHECKING:
    from cdscale.evaluation import Evaluation, Way
    from cdscale.learn.data import Sample

WithoutRadar = Annotated[bool, typer.Option("--without-radar", help="Withhold Sentinel-1.")]
Tta = Annotated[
    bool | None,
    typer.Option(
        "--tta/--no-tta", help="Average eight orientations, or not; by default as the card says."
    ),
]
Rounded = Annotated[
    Literal["float32", "bfloat16"],
    typer.Option("--precision", help="Of the arithmetic; bfloat16 as far as the card allows."),
]
Threshold = Annotated[float | None, typer.Option(min=0, max=1, help="By default that of the card.")]
AnyModel = "Name of a model, or a .card.yaml file."


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help=AnyModel)],
    data: Annotated[str, typer.Option(help="Name of the data set; see `cdscale data list`.")],
    root: Annotated[Path, typer.Option(help="Folder of your copy.")],
    split: Annotated[str, typer.Option(help="Such as test.")],
    without_radar: WithoutRadar = False,
    tta: Tta = None,
    precision: Rounded = "float32",
    threshold: Threshold = None,
    legacy_tiles: Annotated[
        bool, typer.Option("--legacy-tiles", help="Also as some published figures were counted.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Accuracy of a model on labelled scenes: each scene, pooled, and mean over images."""
    from cdscale.evaluation import Split
    from cdscale.evaluation import evaluate as measure

    found = measure(
        model,
        Split(data, root, split),
        _way(without_radar, tta, precision),
        threshold,
        legacy=legacy_tiles,
        each=_shown("scenes"),
    )
    if as_json:
        print_json(found.as_dict())
    else:
        _show(found)


@app.command()
def predict(
    name: Annotated[str, typer.Argument(help="Name of the data set; see `cdscale data list`.")],
    root: Annotated[Path, typer.Argument(help="Folder of your copy.")],
    model: Annotated[str, typer.Option(help=AnyModel)],
    to: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the maps.")],
    split: Annotated[str, typer.Option(help="Such as test.")] = "test",
    without_radar: WithoutRadar = False,
    tta: Tta = None,
    precision: Rounded = "float32",
    threshold: Threshold = None,
    as_json: AsJson = False,
) -> None:
    """Map every scene of a split; band 1 is the class, band 2 the probability. Needs no labels.

    Networks of semantic change add land cover before and after as bands 3 and 4, where they say it.
    Status 1 where a scene could not be read; the others are mapped all the same.
    """
    from cdscale.evaluation import map_samples
    from cdscale.learn.data import data_set

    known = data_set(name)
    samples = known.samples(root, split)
    run = map_samples(model, known, samples, to, _way(without_radar, tta, precision), threshold)
    maps = []
    for found in run(_shown("maps")(samples)):
        maps.append(found)
        if as_json:
            continue
        if found.error:
            err.print(f"{found.key}: no map: {found.error}", markup=False)
        else:
            share = 100 * found.positive / max(found.pixels, 1)
            out.print(f"{found.path}: {share:.2f} % {found.counted}", markup=False)
    failed = sum(bool(found.error) for found in maps)
    if as_json:
        print_json([found.as_dict() for found in maps])
    elif failed:
        err.print(f"{failed} of {len(maps)} scenes could not be read.", markup=False)
    if failed:
        raise typer.Exit(INCOMPLETE)


@app.command("pseudo-label")
def pseudo_label(
    name: Annotated[str, typer.Argument(help="Name of the data set; see `cdscale data list`.")],
    root: Annotated[Path, typer.Argument(help="Folder of your copy.")],
    model: Annotated[str, typer.Option(help=AnyModel)],
    split: Annotated[str, typer.Option(help="Such as val; its unlabelled scenes are labelled.")],
    to: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="By default the folder `pseudo` of the copy."),
    ] = None,
    sure: Annotated[
        float, typer.Option(help="Least probability of a class that is written; 0: all are.")
    ] = 0.0,
    tta: Tta = None,
    as_json: AsJson = False,
) -> None:
    """Write the classes of change that a model sees where there are no labels, to train on.

    One file for each scene, 255 where the model is not sure. Recipes with `pseudo` train on them.
    Status 1 where a scene could not be read.
    """
    from cdscale.evaluation import label_samples
    from cdscale.learn.data import data_set

    known = data_set(name)
    samples = known.samples(root, split)
    folder = root / "pseudo" if to is None else to
    run = label_samples(model, known, samples, folder, sure, _way(False, tta, "float32"))
    labels = list(run(_shown("labels")(samples)))
    failed = [found for found in labels if found.error]
    if as_json:
        print_json([found.as_dict() for found in labels])
    else:
        for found in failed:
            err.print(f"{found.key}: no label: {found.error}", markup=False)
        pixels, kept, changed = (
            sum(getattr(found, part) for found in labels) for part in ("pixels", "sure", "changed")
        )
        out.print(
            f"{len(labels) - len(failed)} labels in {folder}: {100 * kept / max(pixels, 1):.2f} % "
            f"of the pixels, of which {100 * changed / max(kept, 1):.2f} % changed",
            markup=False,
        )
    if failed:
        raise typer.Exit(INCOMPLETE)


def _way(without_radar: bool, tta: bool | None, precision: Rounded) -> Way:
    from cdscale.evaluation import Way

    return Way(not without_radar, "card" if tta is None else "d4" if tta else "none", precision)


def _shown(what: str) -> Callable[[Sequence[Sample]], Iterable[Sample]]:
    """Goes through samples with a bar, where somebody looks."""

    def each(samples: Sequence[Sample]) -> Iterable[Sample]:
        return track(samples, what, console=err, transient=True, disable=not err.is_terminal)

    return each


def _show(found: Evaluation) -> None:
    about = found.about
    said = [_decided(about), "radar" if about["radar"] else "no radar"]
    if about["tta"] == "d4":
        said.append("eight orientations")
    if about["precision"] != "float32":
        said.append(about["precision"])
    if about["members"] > 1:
        said.append(f"{about['members']} members")
    title = f"{about['model']} on {about['data']}, split {about['split']} ({', '.join(said)})"
    out.print(title, markup=False)
    out.print(_table(found.samples))
    for name, figures in found.summary.items():
        told = ", ".join(f"{what} {_figure(value)}" for what, value in figures.items())
        out.print(f"{name}: {told}", markup=False)
    for note in found.notes:
        out.print(note, markup=False)


def _decided(about: Mapping[str, Any]) -> str:
    """How a pixel comes to its class."""
    used, card = about["threshold"], about["card_threshold"]
    if used is None:
        return "the likeliest class"
    return f"threshold {used:g}" + ("" if used == card else f"; the card's is {card:g}")


def _table(rows: Mapping[str, Mapping[str, float]]) -> Table:
    """One row for each, one column for each figure that any of them has."""
    columns = list(dict.fromkeys(name for figures in rows.values() for name in figures))
    table = Table(box=None, pad_edge=False)
    table.add_column(no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    for key, figures in rows.items():
        table.add_row(key, *(_figure(figures.get(name)) for name in columns))
    return table


def _figure(value: Any) -> str:
    """Counts as they are, ratios to four places."""
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.4f}" if abs(value) <= 1 and value != int(value) else f"{value:g}"
