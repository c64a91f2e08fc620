"""Samples whose label of change a model has written.

A label is ``<key of the sample>.tif``, one band of uint8 on the grid of the images: codes, and 255
where the model was not sure (:mod:`cdscale.evaluation.pseudo` writes them).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from cdscale.errors import ReadError, explain
from cdscale.learn.data import IGNORED, Label, Sample, Source, data_set, units
from cdscale.learn.training.images.recipe import ImagesRecipe


@dataclass(frozen=True)
class Codes(units.Table):
    """Codes of a model's classes, and 255."""

    @classmethod
    def of(cls, classes: dict[int, str]) -> Codes:
        """Those of a recipe."""
        return cls((*((code, code) for code in sorted(classes)), (IGNORED, IGNORED)))


def pseudo_samples(recipe: ImagesRecipe, root: Path) -> tuple[Sample, ...]:
    """Samples of the recipe's pseudo splits that have no label but a model's; none without any.

    Raises
    ------
    ReadError
        When the folder holds no label of these samples, or the data set is not there.
    """
    if recipe.pseudo is None:
        return ()
    folder = root / recipe.pseudo.folder
    listed = [
        s for split in recipe.pseudo.splits for s in data_set(recipe.data).samples(root, split)
    ]
    bare = [s for s in listed if not s.has("change") and s.place not in recipe.split.named]
    found = [_with(s, folder / f"{s.key}.tif", Codes.of(recipe.classes)) for s in bare]
    kept = tuple(s for s in found if s.has("change"))
    if not kept:
        raise ReadError(
            explain(
                f"recipe {recipe.name}: pseudo-labels in {folder}",
                expected=f"labels of samples of {', '.join(recipe.pseudo.splits)} without any",
                got="none",
                do="Write them with a trained model: 'cdscale pseudo-label'.",
            ),
            permanent=True,
        )
    return kept


def _with(sample: Sample, path: Path, codes: Codes) -> Sample:
    """The sample with a label file in the place of its own, if there is such a file."""
    there = (Source(path, (1,)),) if path.is_file() else ()
    label = Label("change", there, codes, ("uint8",), (1,))
    layers = tuple(label if layer.name == "change" else layer for layer in sample.layers)
    return replace(sample, layers=layers)
