"""What recipes of all kinds share: everything that decides a training run, as data.

A recipe is a YAML file; :mod:`cdscale.learn.training.loading` reads it. Its ``kind`` says how the
network is fed (see :mod:`cdscale.models.families`), and so which class holds it.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

import numpy as np

from cdscale.errors import SpecError, explain
from cdscale.learn.data import DataSet, data_set
from cdscale.models.families import FAMILIES
from cdscale.spec.base import Frozen
from cdscale.spec.card import Normalisation

EACH = "each"
"""As ``published_split``: train, val and show are the publication's train, val and test."""

_PUBLISHED = {"train": "train", "val": "val", "show": "test"}

Rule = tuple[str, bool, object, object]
"""What is checked, whether it holds, what was expected, what came."""


class Split(Frozen):
    """Whole places. ``show`` decides nothing: its figures are for the reader alone."""

    train: tuple[str, ...] = ()
    val: tuple[str, ...] = ()
    show: tuple[str, ...] = ()

    @property
    def named(self) -> tuple[str, ...]:
        """All places that it names."""
        return (*self.train, *self.val, *self.show)


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
    """Training of a network of any kind; each kind adds what it alone has.

    Class attributes that a kind states: ``task`` of the card, ``layers`` that its data sets have,
    and ``samples``, what such a data set holds, in words.
    """

    task: ClassVar[Literal["change", "urban", "semantic-change"]]
    layers: ClassVar[frozenset[str]]
    samples: ClassVar[str]

    kind: str
    name: str
    version: str
    title: str
    data: str
    """Name of the data set."""
    published_split: str = "train"
    """The split of the publication that places are taken from, or :data:`EACH`."""
    split: Split = Split()
    """Whole places. No ``train``: all of the published split that are in neither ``val`` nor
    ``show``. Under :data:`EACH` a part that names none has all of the publication's part."""
    folds: Folds = Folds()
    s2_bands: tuple[str, ...]
    """Of the optical images, as the data set names them."""
    s1_bands: tuple[str, ...] = ()
    normalisation: Normalisation = Normalisation()
    """Moments of the training split are measured where they are asked for and not stated."""
    network: Network
    optimiser: Optimiser = Optimiser()
    schedule: Schedule = Schedule()
    epochs: int
    validate_every: int = 1
    """Epochs."""
    patience: int = 0
    """Stop after so many validations without a better one; 0: never."""
    keep: Literal["best", "last"] = "best"
    """Whose weights go out: those of the best validation, or of the last epoch."""
    threshold: float = 0.0
    """Of the probability; 0: the one of the highest F1 in validation."""
    tta: Literal[1, 4, 8] = 1
    """In validation, maps are means over so many turned and mirrored copies."""
    ema: float = 0.0
    """Decay per step of the average of the weights that is validated and kept; 0: none."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the forward pass in training; weights and loss stay float32."""
    seed: int = 0
    classes: dict[int, str]
    """What the codes of the map mean."""
    licence: str
    limits: tuple[str, ...] = ()

    @property
    def published(self) -> dict[str, str]:
        """Which published split each part takes its places from."""
        if self.published_split != EACH:
            return dict.fromkeys(_PUBLISHED, self.published_split)
        known = data_set(self.data).splits
        return {part: name for part, name in _PUBLISHED.items() if name in known}

    @property
    def stated(self) -> Normalisation:
        """The rule of the inputs as far as the recipe states it; one value is for all bands."""
        rule, bands = self.normalisation, len(self.s2_bands)
        mean, std = (v * bands if len(v) == 1 else v for v in (rule.s2_mean, rule.s2_std))
        told: dict[str, object] = {}
        if rule.s2_standardise == "training":
            told = {"s2_mean": mean, "s2_std": std}
        if not self.s1_bands:
            told["s1_standardise"] = "none"
        return rule.model_copy(update=told)

    @property
    def asks_moments(self) -> bool:
        """Whether mean and standard deviation of the training places have to be measured."""
        rule = self.normalisation
        return rule.s2_standardise == "training" and not rule.s2_mean and bool(self.s2_bands)

    def checked(self, where: str) -> Self:
        """Refuse what no network could be trained with; returns the recipe.

        Raises
        ------
        SpecError
            Naming what is wrong, and what would do.
        """
        for what, held, expected, got in self.rules(data_set(self.data)):
            if not held:
                raise SpecError(explain(f"{where}: {what}", expected=expected, got=got))
        return self

    def rules(self, data: DataSet) -> list[Rule]:
        """All that has to hold; a kind adds its own."""
        families = [name for name, family in FAMILIES.items() if family.kind == self.kind]
        strange = [band for band in self.s2_bands if band not in data.bands]
        named = self.split.named
        twice = sorted({place for place in named if named.count(place) > 1})
        held_out = bool(self.split.val) or (self.published_split == EACH and "val" in data.splits)
        blind = not held_out and (self.keep == "best" or self.threshold == 0)
        aligned = len(self.normalisation.s2_mean) in (0, 1, len(self.s2_bands))
        return [
            ("data", self.layers <= set(data.layers), self.samples, self.data),
            ("published_split", self.published_split in (*data.splits, EACH),
             f"one of {', '.join(data.splits)}, or {EACH}", self.published_split),
            ("network.family", self.network.family in families, f"one of {', '.join(families)}",
             self.network.family),
            ("s2_bands", not strange, f"some of {', '.join(data.bands)}", ", ".join(strange)),
            ("split", not twice, "every place once", ", ".join(twice)),
            ("split.val", not blind, "a place, or `keep: last` and a threshold", "none"),
            ("normalisation.s2_mean", aligned, "one value, or one for each band",
             len(self.normalisation.s2_mean)),
            ("epochs", self.epochs >= 1, "1 or more", self.epochs),
            ("validate_every", self.validate_every >= 1, "1 or more", self.validate_every),
            ("ema", 0 <= self.ema < 1, "0 or more and below 1", self.ema),
            ("threshold", 0 <= self.threshold < 1, "0 or more and below 1", self.threshold),
            ("optimiser.rate", self.optimiser.rate > 0, "above 0", self.optimiser.rate),
            ("schedule.warmup", 0 <= self.schedule.warmup < 1, "0 or more and below 1",
             self.schedule.warmup),
            ("schedule.period", self.schedule.period >= 1, "1 or more", self.schedule.period),
        ]  # fmt: skip

    def fold(self, number: int, places: tuple[str, ...]) -> Self:
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
