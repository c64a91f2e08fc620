"""``models``: the networks that there are, and what their cards say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from cdscale.cli.app import AsJson, app
from cdscale.display import out, print_json
from cdscale.models import family_of, list_cards, load_card
from cdscale.spec.card import ModelCard, card_path

models = typer.Typer(help="Networks with weights: what they are for, and what they are worth.")
app.add_typer(models, name="models", no_args_is_help=True)


@models.command("list")
def list_(as_json: AsJson = False) -> None:
    """Every model that comes with cdscale."""
    cards = list_cards()
    if as_json:
        print_json([card.model_dump(mode="json") for card in cards])
        return
    table = Table(box=None, pad_edge=False)
    for column in ("name", "task", "family", "bands", "trained on"):
        table.add_column(column)
    for card in cards:
        bands = " ".join((*card.s2_bands, *card.s1_bands))
        origin = "simulated scenes" if card.training.simulated else "real scenes"
        table.add_row(card.name, card.task, card.family, bands, origin)
    out.print(table)


@models.command()
def show(
    name: Annotated[str, typer.Argument(help="Name of a model, or a .card.yaml file.")],
    as_json: AsJson = False,
) -> None:
    """One card: inputs, training, licence, figures and limits."""
    card = load_card(name)
    if as_json:
        print_json(card)
        return
    training = card.training
    rows = {
        "": card.title,
        "version": card.version,
        "network": f"{card.family} ({family_of(card).source})",
        "predicts": _way(card),
        "reads": " ".join((*card.s2_bands, *card.s1_bands)),
        "says": ", ".join(f"{code} {what}" for code, what in card.classes.items()),
        "threshold": f"{card.threshold:g}",
        "trained on": training.data + (" (SIMULATED)" if training.simulated else ""),
        "split": training.split,
        "recipe": training.recipe,
        "licence": training.licence,
        "limits": "\n".join(card.limits),
    }
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for what, text in rows.items():
        table.add_row(what or card.name, text)
    out.print(table)
    for line in _figures(card.accuracy):
        out.print(line, markup=False, highlight=False, soft_wrap=True)


@models.command()
def join(
    cards: Annotated[list[str], typer.Argument(help="Two or more models or .card.yaml files.")],
    name: Annotated[str, typer.Option(help="Name of the ensemble.")],
    to: Annotated[Path, typer.Option(help="Folder for its weights and card.")] = Path(),
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="By default the mean over members.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make one model of several alike: it says the mean of their probabilities."""
    from cdscale.models.ensemble import join as make

    card = make(cards, name, to, threshold)
    if as_json:
        print_json(card)
        return
    out.print(
        f"{card_path(to, card.name)}: {card.members} members, threshold {card.threshold:g}; "
        "its accuracy is to be measured with `cdscale evaluate`",
        markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip


def _way(card: ModelCard) -> str:
    """How many networks, and in how many orientations."""
    members = f"mean of {card.members} networks" if card.members > 1 else "one network"
    if len(card.views) > 1:
        members += f" that read an image in {len(card.views)} ways"
    return members + (", eight orientations each" if card.tta == "d4" else "")


def _figures(found: object, path: str = "") -> list[str]:
    """Figures of a card, one group a line."""
    if not isinstance(found, dict):
        return [f"{path}: {found}"]
    if found and all(isinstance(value, int | float) for value in found.values()):
        said = ", ".join(f"{name} {value:g}" for name, value in found.items())
        return [f"{path}: {said}"]
    lines = []
    for name, value in found.items():
        lines += _figures(value, f"{path} {name}".strip())
    return lines
