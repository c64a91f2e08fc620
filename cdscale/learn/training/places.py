"""Places of a recipe: which there are, and what is trained on, validated on and shown.

Shape suffixes: none; no pixel is read here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from cdscale.errors import ReadError, SpecError, explain
from cdscale.learn.data import Sample, data_set
from cdscale.learn.training.recipe import EACH, Recipe, Split

R = TypeVar("R", bound=Recipe)


def samples_of(recipe: Recipe, root: Path) -> tuple[Sample, ...]:
    """All samples of the published splits that the recipe takes places from.

    Raises
    ------
    ReadError
        When the data set is not there.
    """
    data = data_set(recipe.data)
    published = dict.fromkeys(recipe.published.values())
    return tuple(sample for split in published for sample in data.samples(root, split))


def require_label(sample: Sample, layer: str) -> None:
    """Refuse a sample that cannot be trained or validated on.

    Raises
    ------
    ReadError
        When it has no label of this name.
    """
    if not sample.has(layer):
        raise ReadError(
            explain(
                f"{sample.data} {sample.key}: no {layer} label",
                expected="labels of all places that are trained or validated on",
                do="Take other places, or check the folder with `cdscale data check`.",
            ),
            permanent=True,
        )


def resolved(recipe: R, root: Path) -> R:
    """The recipe with all its places named.

    Raises
    ------
    SpecError
        When it names a place that the published splits do not have.
    ReadError
        When the data set is not there.
    """
    data, named = data_set(recipe.data), recipe.split.named
    published = {
        split: tuple(dict.fromkeys(sample.place for sample in data.samples(root, split)))
        for split in dict.fromkeys(recipe.published.values())
    }
    known = tuple(dict.fromkeys(place for own in published.values() for place in own))
    if strange := [place for place in named if place not in known]:
        raise SpecError(
            explain(
                f"recipe {recipe.name}: {', '.join(strange)} not in {recipe.data} at {root}",
                expected=f"some of {', '.join(known)}",
                do="Check the folder with `cdscale data check`, or change the recipe's split.",
            )
        )
    free = {
        part: tuple(place for place in published[split] if place not in named)
        for part, split in recipe.published.items()
    }
    split = recipe.split
    train, val, show = split.train or free["train"], split.val, split.show
    if recipe.published_split == EACH:
        val, show = val or free.get("val", ()), show or free.get("show", ())
    if not train:
        raise SpecError(explain(f"recipe {recipe.name}: no place is left to train on"))
    return recipe.model_copy(update={"split": Split(train=train, val=val, show=show)})
