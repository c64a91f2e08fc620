"""The kinds of networks that can be trained, and what each does its own way.

A run (checkpoints, resume, the curve, interrupts, the card's frame) is the same for all. A kind is
a subpackage with one :class:`Course`, named ``COURSE``, and a line in :data:`KINDS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from cdscale.errors import SpecError, explain
from cdscale.learn.training.recipe import Recipe

if TYPE_CHECKING:
    from torch import nn

    from cdscale.learn.training.data import Data
    from cdscale.learn.training.module import Training
    from cdscale.spec.card import ModelCard

KINDS = {
    "pair": "cdscale.learn.training.pair",
    "month": "cdscale.learn.training.month",
    "images": "cdscale.learn.training.images",
}
"""Module of each kind; imported when a recipe of it is read."""

R = TypeVar("R", bound=Recipe)
D = TypeVar("D", bound="Data")


@dataclass(frozen=True)
class Measured:
    """Figures of finished weights on held-out places.

    ``accuracy`` goes into the card: ``how`` in words, then for each of ``val`` and ``show`` that
    has places a mapping of variants, each with ``pooled`` figures.
    """

    threshold: float
    accuracy: dict[str, Any]


@dataclass(frozen=True)
class Course(Generic[R, D]):
    """What one kind does its own way.

    Parameters
    ----------
    recipe : type of Recipe
        What a recipe of this kind is read as.
    data : callable
        From the recipe with all its places named, the root of the data set, and the number of
        processes that draw batches: the data of a run.
    module : callable
        From recipe, network with random weights, data and drafted card: the network under training.
    measure : callable
        From recipe, root, finished network in evaluation mode, and card: its figures.
    """

    recipe: type[R]
    data: Callable[[R, Path, int], D]
    module: Callable[[R, nn.Module, D, ModelCard], Training]
    measure: Callable[[R, Path, nn.Module, ModelCard], Measured]


def course_of(kind: object, where: str) -> Course[Any, Any]:
    """The course of a kind.

    Raises
    ------
    SpecError
        When there is none of this name.
    """
    if not isinstance(kind, str) or kind not in KINDS:
        raise SpecError(explain(f"{where}: kind", expected=f"one of {', '.join(KINDS)}", got=kind))
    found: Course[Any, Any] = import_module(KINDS[kind]).COURSE
    return found
