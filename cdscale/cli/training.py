"""``train``: from a recipe and a data set to weights with a card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cdscale.cli.app import AsJson, app
from cdscale.display import err, out, print_json
from cdscale.errors import SpecError, explain
from cdscale.models import load_card

if TYPE_CHECKING:
    from cdscale.learn.training import How, Recipe
    from cdscale.spec.card import ModelCard


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe that ships, or a .yaml file.")],
    data: Annotated[Path, typer.Option(metavar="ROOT", help="Folder of the data set.")],
    to: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the run.")],
    fold: Annotated[
        str, typer.Option(help="Hold out fold K of whole places instead, or `all`, one by one.")
    ] = "",
    seed: Annotated[int | None, typer.Option(help="Instead of the recipe's.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Instead of the recipe's.")] = None,
    precision: Annotated[
        Literal["float32", "bfloat16"] | None, typer.Option(help="Instead of the recipe's.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from where it stopped.")] = False,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="Where the network trains.")
    ] = "auto",
    threads: Annotated[int, typer.Option(min=0, help="Of the CPU; 0: as torch finds it.")] = 0,
    workers: Annotated[int, typer.Option(min=0, help="Processes that draw crops.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Train a network; out come weights, a card, and the curve of the run.

    Ctrl-C keeps the state of the last whole epoch; --resume goes on from there.
    """
    from cdscale.learn.training import How, load_recipe, resolved, table

    said = load_recipe(recipe)
    changes = {"seed": seed, "epochs": epochs, "precision": precision}
    said = said.model_copy(update={k: v for k, v in changes.items() if v is not None})
    said = resolved(said.checked(f"recipe {recipe}"), data)
    quiet = (lambda _: None) if as_json else _say
    how = How(resume=resume, device=device, threads=threads, workers=workers, say=quiet)
    runs = _runs(said, fold, to)
    cards = [_run(one, data, folder, how) for one, folder in runs]
    if fold == "all":
        rows = table(cards, to / "folds.csv")
        if as_json:
            print_json(rows)
        else:
            for row in rows:
                _say(", ".join(f"{name} {value}" for name, value in row.items()))
    elif as_json:
        print_json(cards[0])


def _runs(recipe: Recipe, fold: str, to: Path) -> list[tuple[Recipe, Path]]:
    """Each run that is asked for, with its folder."""
    if not fold:
        return [(recipe, to)]
    split = recipe.split
    places = tuple(sorted((*split.train, *split.val, *split.show)))
    if fold == "all":
        numbers = range(1, recipe.folds.count + 1)
        return [(recipe.fold(number, places), to / f"fold{number}") for number in numbers]
    if not fold.isdecimal():
        raise SpecError(
            explain("--fold", expected=f"1 to {recipe.folds.count}, or all", got=repr(fold))
        )
    return [(recipe.fold(int(fold), places), to)]


def _run(recipe: Recipe, data: Path, folder: Path, how: How) -> ModelCard:
    """One run, and the picture of its curve; one that is finished is left as it is."""
    from cdscale.export.curves import plot_curve
    from cdscale.learn.training import train

    try:
        path = train(recipe, data, folder, how)
    except KeyboardInterrupt:
        err.print(f"The last whole epoch is kept in {folder}; --resume goes on from it.")
        raise
    plot_curve(folder / "curve.csv", folder / "curve.png")
    card = load_card(str(path))
    how.say(f"{path}: threshold {card.threshold:g}")
    for part in ("val", "show"):
        for name, found in card.accuracy.get(part, {}).items():
            told = ", ".join(f"{figure} {value:g}" for figure, value in found["pooled"].items())
            how.say(f"{part} {name}: {told}")
    return card


def _say(text: str) -> None:
    out.print(text, markup=False, highlight=False, soft_wrap=True)
