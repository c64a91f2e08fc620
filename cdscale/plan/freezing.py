"""From a spec to a run that is settled: its scenes found, its cards read, nothing left open."""

from __future__ import annotations

from pathlib import Path

from cdscale import models, scenes
from cdscale.errors import ModelError, PlanError, SpecError, StoreError, explain
from cdscale.months import Month
from cdscale.spec.card import ModelCard
from cdscale.spec.job import STORES, Job
from cdscale.spec.run import RunSpec
from cdscale.spec.scene import SceneTable
from cdscale.spec.task import Stage
from cdscale.store import exists, outside_stores, read_job, read_spec


def freeze(spec: RunSpec, *, refresh: bool = False) -> Job:
    """Spec, scenes and cards of a run; the scenes as found by its first search.

    Parameters
    ----------
    spec : RunSpec
        What is asked for.
    refresh : bool
        Ask the catalogue again, although the run has asked before.

    Raises
    ------
    UserError
        When the spec does not fit together, the catalogue has nothing, or a card refuses.
    """
    spec.tiles()
    outside_stores(spec.folder, "the output")
    spec = _with_earlier_pairs(spec)
    choices = {name: getattr(spec.models, name) for name in ("urban", "change")}
    cards = {name: _card(choice.card) for name, choice in choices.items() if choice is not None}
    for name, card in cards.items():
        _does(card, name)
        card.refuse_precision(choices[name].precision, force=choices[name].force)
    table = None if refresh else _frozen_scenes(spec)
    if table is None:
        table = scenes.search(spec)
    for name, card in cards.items():
        card.refuse(
            s2_bands=spec.cube.s2_bands,
            simulated=table.simulated,
            force=getattr(spec.models, name).force,
        )
        _halo_fits(spec, card)
    return Job(spec=spec, scenes=table, cards=cards)


def _with_earlier_pairs(spec: RunSpec) -> RunSpec:
    """A spec that names no pairs keeps those that its store compares already.

    A period that grows month by month then adds a map each time, and the older maps stay part of
    the run: they are made anew where a scene of their months comes late.
    """
    now, path = spec.pairs(), spec.folder / STORES[Stage.CHANGE]
    if spec.models.change is None or spec.models.change.pairs or not exists(path):
        return spec
    made = read_spec(path).reference
    stored = {Month.parse(later): Month.parse(earlier) for later, earlier in made.items()}
    kept = {m: e for m, e in stored.items() if m in spec.period and e in spec.period}
    if kept.keys() <= now.keys():
        return spec
    pairs = tuple(f"{earlier},{later}" for later, earlier in sorted((kept | now).items()))
    change = spec.models.change.model_copy(update={"pairs": pairs})
    models = spec.models.model_copy(update={"change": change})
    return spec.model_copy(update={"models": models})


def _card(name: str) -> ModelCard:
    """A card whose weights are there: workers would miss them only after the cube is made."""
    card = models.load_card(name)
    models.family_of(card)
    weights = models.folder_of(name) / Path(card.weights).name
    try:
        got = models.sha256_of(weights)
    except OSError as err:
        got = str(err.strerror)
    if got != card.weights_sha256:
        raise ModelError(
            explain(
                f"the weights of model {card.name} are not what its card was written for",
                expected=f"{weights} with the sha256 {card.weights_sha256}",
                got=got,
                do="Train it with its recipe, restore the file, or choose another model.",
            )
        )
    return card


def _does(card: ModelCard, task: str) -> None:
    """Raise for a network of another task: it would read other images, or say something else."""
    if card.task != task:
        raise ModelError(
            explain(
                f"models.{task}: model {card.name} is no network of this task",
                expected=f"a card whose task is {task}",
                got=card.task,
                do="`cdscale models list` tells what each model does.",
            )
        )


def _frozen_scenes(spec: RunSpec) -> SceneTable | None:
    """The table of an earlier run in the same folder, if it searched for the same."""
    try:
        table = read_job(spec.folder / "run").scenes
    except (OSError, ValueError, SpecError, StoreError):
        return None
    return table if table.search == scenes.search_key(spec) else None


def _halo_fits(spec: RunSpec, card: ModelCard) -> None:
    if card.halo > spec.grid.tile or spec.grid.tile % card.stride:
        raise PlanError(
            explain(
                f"model {card.name} does not fit tiles of {spec.grid.tile} pixels",
                expected=f"at least {card.halo} pixels, and a multiple of {card.stride}",
                got=spec.grid.tile,
                do="Set grid.tile in the spec.",
            )
        )
