"""Recipes of networks on pairs: everything that decides a training run, as data.

A recipe is a YAML file. ``extends: NAME`` (one that ships, or a file beside it) takes another as
the start: what a recipe says replaces what the other says, mapping by mapping, so that a row of a
table is a few lines. A recipe whose name begins with ``base-`` is there to be extended alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cdscale.errors import SpecError, explain
from cdscale.learn.augment import Augment, Sampling
from cdscale.learn.data import data_set
from cdscale.learn.recipe import Split
from cdscale.models.families import FAMILIES
from cdscale.spec.base import Frozen, read_yaml
from cdscale.spec.card import Normalisation

RECIPES = Path(__file__).parents[1] / "recipes"
"""Folder of the recipes that come with the package."""

_BASE = "base-"


class Folds(Frozen):
    """Cross-validation over whole places."""

    count: int = 4
    seed: int = 0
    together: tuple[tuple[str, ...], ...] = ()
    """Places that see one another's ground, or the same days: never on both sides."""


class Network(Frozen):
    """A family of :mod:`cdscale.models.families`, and its constructor's options."""

    family: str
    options: dict[str, Any]


class Loss(Frozen):
    """Weights of the terms that are added; 0 leaves a term out."""

    nll: float = 1.0
    """Weighted negative log-likelihood."""
    lambda_fp: float = 10.0
    """In its class weights, which are those of the training split's pixels: more, fewer alarms."""
    jaccard: float = 0.0
    """Power Jaccard of the change class."""
    dice: float = 0.0
    """Dice of both classes."""


class Optimiser(Frozen):
    """Adam with weight decay as L2 penalty, AdamW, or SGD."""

    kind: Literal["adam", "adamw", "sgd"] = "adam"
    rate: float = 1e-3
    weight_decay: float = 0.0
    momentum: float = 0.9
    """Of SGD."""
    nesterov: bool = False
    clip: float = 0.0
    """Largest norm of the gradient; 0: as it comes."""


class Schedule(Frozen):
    """The learning rate over a run; ``rate`` of the optimiser is the highest."""

    kind: Literal["constant", "exponential", "one_cycle", "cosine", "cosine_restarts"] = "constant"
    gamma: float = 0.95
    """``exponential``: factor after each epoch."""
    warmup: float = 0.0
    """``one_cycle`` and ``cosine``: share of the run in which the rate rises."""
    floor: float = 0.01
    """``cosine`` and ``cosine_restarts``: lowest rate, as a share of the highest."""
    period: int = 10
    """``cosine_restarts``: epochs to the first restart; each later period is twice the last."""


class Recipe(Frozen):
    """Training of a network on pairs of dates."""

    kind: Literal["pair"]
    name: str
    version: str
    title: str
    data: str
    """Name of the data set."""
    published_split: str = "train"
    """The split of the publication that places are taken from."""
    split: Split
    """Whole places. No ``train``: all that are in neither ``val`` nor ``show``."""
    folds: Folds = Folds()
    s2_bands: tuple[str, ...]
    s1_bands: tuple[str, ...] = ()
    normalisation: Normalisation = Normalisation()
    """Moments of the training split are measured where they are asked for and not stated."""
    network: Network
    loss: Loss = Loss()
    optimiser: Optimiser = Optimiser()
    schedule: Schedule = Schedule()
    sampling: Sampling = Sampling()
    augment: Augment = Augment()
    epochs: int
    validate_every: int = 1
    """Epochs."""
    patience: int = 0
    """Stop after so many validations without a better one; 0: never."""
    keep: Literal["best", "last"] = "best"
    """Whose weights go out: those of the best validation, or of the last epoch."""
    threshold: float = 0.0
    """Of the probability of change; 0: the one of the highest F1 in validation."""
    tta: Literal[1, 4, 8] = 1
    """In validation, maps are means over so many turned and mirrored copies."""
    ema: float = 0.0
    """Decay per step of the average of the weights that is validated and kept; 0: none."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the forward pass in training; weights and loss stay float32."""
    seed: int = 0
    classes: dict[int, str]
    """What 0 and 1 mean."""
    licence: str
    limits: tuple[str, ...] = ()

    @property
    def steps(self) -> int:
        """Of the whole run."""
        return self.epochs * self.sampling.steps

    def checked(self, where: str) -> Recipe:
        """Refuse what no network could be trained with; returns the recipe.

        Raises
        ------
        SpecError
            Naming what is wrong, and what would do.
        """
        for what, held, expected, got in self._rules():
            if not held:
                raise SpecError(explain(f"{where}: {what}", expected=expected, got=got))
        return self

    def _rules(self) -> list[tuple[str, bool, object, object]]:
        data = data_set(self.data)
        layers = {"before", "after", "change"}
        pairs = [name for name, family in FAMILIES.items() if family.kind == "pair"]
        strange = [band for band in self.s2_bands if band not in data.bands]
        named = (*self.split.train, *self.split.val, *self.split.show)
        twice = sorted({place for place in named if named.count(place) > 1})
        blind = not self.split.val and (self.keep == "best" or self.threshold == 0)
        aligned = len(self.normalisation.s2_mean) in (0, 1, len(self.s2_bands))
        return [
            ("data", layers <= set(data.layers), "pairs with a change label", self.data),
            ("network.family", self.network.family in pairs, f"one of {', '.join(pairs)}",
             self.network.family),
            ("s2_bands", bool(self.s2_bands) and not strange,
             f"some of {', '.join(data.bands)}", ", ".join(strange) or "none"),
            ("s1_bands", not self.s1_bands or "s1_before" in data.layers,
             f"none: {self.data} has no radar", ", ".join(self.s1_bands)),
            ("split", not twice, "every place once", ", ".join(twice)),
            ("split.val", not blind, "a place, or `keep: last` and a threshold", "none"),
            ("normalisation.s2_mean", aligned, "one value, or one for each band",
             len(self.normalisation.s2_mean)),
            ("epochs", self.epochs >= 1, "1 or more", self.epochs),
            ("validate_every", self.validate_every >= 1, "1 or more", self.validate_every),
            ("sampling", self.sampling.batch >= 2 and self.sampling.steps >= 1,
             "a batch of 2 or more, and crops for one", self.sampling.model_dump()),
            ("ema", 0 <= self.ema < 1, "0 or more and below 1", self.ema),
            ("threshold", 0 <= self.threshold < 1, "0 or more and below 1", self.threshold),
            ("optimiser.rate", self.optimiser.rate > 0, "above 0", self.optimiser.rate),
            ("schedule.warmup", 0 <= self.schedule.warmup < 1, "0 or more and below 1",
             self.schedule.warmup),
            ("schedule.period", self.schedule.period >= 1, "1 or more", self.schedule.period),
            ("loss", self.loss.nll + self.loss.jaccard + self.loss.dice > 0,
             "one term above 0", "none"),
        ]  # fmt: skip

    def fold(self, number: int, places: tuple[str, ...]) -> Recipe:
        """The recipe of one fold of the cross-validation.

        Parameters
        ----------
        number : int
            From 1.
        places : tuple of str
            All that take part: those of train, val and show.

        Returns
        -------
        Recipe
            Trained on all but that fold; its name says which.

        Raises
        ------
        SpecError
            When there is no such fold, or there are fewer groups of places than folds.
        """
        parts = deal(places, self.folds)
        if not 1 <= number <= len(parts):
            raise SpecError(
                explain(f"recipe {self.name}: fold", expected=f"1 to {len(parts)}", got=number)
            )
        val = parts[number - 1]
        train = tuple(place for place in places if place not in val)
        return self.model_copy(
            update={"name": f"{self.name}-fold{number}", "split": Split(train=train, val=val)}
        )


def deal(places: tuple[str, ...], folds: Folds) -> tuple[tuple[str, ...], ...]:
    """Deal places out to folds, group by group, the largest group first, always to the smallest.

    Raises
    ------
    SpecError
        When there are fewer groups than folds, or fewer than two folds.
    """
    together = [tuple(p for p in group if p in places) for group in folds.together]
    alone = [(p,) for p in places if not any(p in group for group in together)]
    groups = [group for group in (*together, *alone) if group]
    if not 2 <= folds.count <= len(groups):
        raise SpecError(
            explain("folds", expected=f"2 to {len(groups)} folds of places", got=folds.count)
        )
    shuffled = [groups[k] for k in np.random.default_rng(folds.seed).permutation(len(groups))]
    dealt: list[list[str]] = [[] for _ in range(folds.count)]
    for group in sorted(shuffled, key=len, reverse=True):
        min(dealt, key=len).extend(group)
    return tuple(tuple(sorted(part)) for part in dealt)


def shipped() -> tuple[str, ...]:
    """Names of the recipes that come with the package."""
    names = (path.stem for path in sorted(RECIPES.glob("*.yaml")))
    return tuple(
        name
        for name in names
        if not name.startswith(_BASE) and _extended(RECIPES / f"{name}.yaml").get("kind") == "pair"
    )


def load_recipe(name_or_path: str) -> Recipe:
    """Read a recipe, by the name of one that ships or by its path.

    Raises
    ------
    SpecError
        When there is none of that name, it does not read, or nothing can be trained with it.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = RECIPES / f"{Path(name_or_path).name}.yaml"
        if name_or_path.startswith(_BASE) or not path.is_file():
            raise SpecError(
                explain(
                    "no such recipe",
                    expected=f"one of {', '.join(shipped())}, or a path to *.yaml",
                    got=name_or_path,
                )
            )
    data = _extended(path)
    if data.get("kind") != "pair":
        raise SpecError(
            explain(
                f"{path}: kind of the recipe", expected="pair", got=data.get("kind"),
                do="Only networks on pairs of dates are trained with this command.",
            )
        )  # fmt: skip
    return Recipe.check(data, where=str(path)).checked(str(path))


def _extended(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Plain data of a recipe, laid over that of the one that it extends."""
    if path.resolve() in seen:
        raise SpecError(explain(f"{path}: it extends itself", got=" > ".join(p.name for p in seen)))
    data = read_yaml(path)
    if not isinstance(data, dict):
        raise SpecError(explain(f"{path} is no recipe", expected="a mapping of YAML"))
    own = dict(data)
    base = own.pop("extends", None)
    if base is None:
        return own
    if not isinstance(base, str):
        raise SpecError(explain(f"{path}: extends", expected="a name or a path", got=base))
    beside = path.parent / base
    where = beside if beside.suffix in (".yaml", ".yml") else RECIPES / f"{base}.yaml"
    return _laid_over(_extended(where, (*seen, path.resolve())), own)


def _laid_over(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Values of ``over`` where it has any; mappings are merged."""
    merged = dict(under)
    for name, value in over.items():
        old = merged.get(name)
        # The options of another family are none of this one.
        whole = name == "network"
        both = isinstance(old, dict) and isinstance(value, dict) and not whole
        merged[name] = _laid_over(old or {}, value) if both else value
    return merged
