"""What an evaluation found: figures of each sample, of all together, and what is to be known."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cdscale.learn.data import DataSet
from cdscale.spec.card import ModelCard

Figures = dict[str, float]
"""Figures by name; NaN where a figure cannot be told."""


@dataclass(frozen=True)
class Evaluation:
    """Accuracy of one model on one split.

    Parameters
    ----------
    about : mapping
        Model, data and the way in which the model was asked, as plain data.
    samples : mapping
        Figures of each scene, or of each site.
    summary : mapping
        Figures of all: ``pooled``, ``mean over images`` and others, by name.
    notes : tuple of str
        What a reader of the figures must know.
    """

    about: Mapping[str, Any]
    samples: Mapping[str, Figures]
    summary: Mapping[str, Figures]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON: figures that cannot be told are None."""
        return {
            **self.about,
            "samples": {key: _plain(figures) for key, figures in self.samples.items()},
            "summary": {name: _plain(figures) for name, figures in self.summary.items()},
            "notes": list(self.notes),
        }


def _plain(figures: Figures) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else round(value, 6) for name, value in figures.items()}


def acquaintance(card: ModelCard, data: DataSet, split: str, places: Iterable[str]) -> str:
    """Say which places of a split a model has met, from the split that its card names.

    Cards name them by role: ``train: paris, pisa; val: rennes``. A card that names no place of
    the data set, but the split, has met all of it.

    Returns
    -------
    str
        A sentence, or nothing when none is named.
    """
    met: dict[str, list[str]] = {}
    wanted = set(places)
    for part in re.split(r"[;|\n]", card.training.split):
        role, colon, names = part.partition(":")
        for name in re.findall(r"[\w.-]+", names if colon else part):
            if name in wanted:
                met.setdefault(role.strip() if colon else "training", []).append(name)
    if met:
        said = "; ".join(
            f"{role}: {', '.join(dict.fromkeys(names))}" for role, names in met.items()
        )
        return f"The card names places of this split as its own ({said}): no test of the model."
    own = re.search(rf"\b({re.escape(data.name)}|{re.escape(data.title)})\b", _of(card), re.I)
    if own and re.search(rf"\b{re.escape(split)}\b", card.training.split):
        return (
            f"The card says that the model was trained on the {split} split of {data.name}: "
            "no test of it."
        )
    return ""


def _of(card: ModelCard) -> str:
    return f"{card.training.data} {card.training.split}"
