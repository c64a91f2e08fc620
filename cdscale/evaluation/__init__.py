"""Trained networks on published data sets: figures where there are labels, maps where not.

``scenes``   a scene of a data set through a network, by the code of the pipeline
``change``   figures of change maps
``urban``    figures of monthly maps of built-up area
``semantic`` figures of maps of semantic change
``maps``     a GeoTIFF for each scene
``pseudo``   labels that a model writes for scenes without any
``report``   what an evaluation found
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdscale.errors import SpecError, explain
from cdscale.evaluation.change import score_change
from cdscale.evaluation.maps import MapOfSample, map_samples
from cdscale.evaluation.pseudo import Labelled, label_samples
from cdscale.evaluation.report import Evaluation, acquaintance
from cdscale.evaluation.scenes import Mapper, Way, threshold_of
from cdscale.evaluation.semantic import score_semantic
from cdscale.evaluation.urban import score_urban
from cdscale.learn.data import Sample, data_set
from cdscale.models import family_of

__all__ = [
    "Evaluation",
    "Labelled",
    "MapOfSample",
    "Split",
    "Way",
    "evaluate",
    "label_samples",
    "map_samples",
]

LABEL = {"pair": "change", "month": "urban", "images": "change"}
"""The layer that a network of each kind is measured by."""


@dataclass(frozen=True)
class Split:
    """Which samples.

    Parameters
    ----------
    data : str
        Name of a data set.
    root : Path
        Folder of the copy.
    split : str
        Such as ``train``.
    """

    data: str
    root: Path
    split: str


def evaluate(
    model: str,
    split: Split,
    way: Way | None = None,
    threshold: float | None = None,
    *,
    legacy: bool = False,
    each: Callable[[Sequence[Sample]], Iterable[Sample]] = iter,
) -> Evaluation:
    """Accuracy of a model on a split of a data set.

    Parameters
    ----------
    model : str
        Name of a shipped model, or the path of a ``.card.yaml`` file.
    split : Split
        Which samples; those without a label are named in the notes.
    way : Way, optional
        With radar or without, and test-time augmentation.
    threshold : float, optional
        By default that of the card.
    legacy : bool
        Count as some historical figures were counted too; of change networks alone.
    each : callable
        Goes through the samples, and may show how far it is.

    Raises
    ------
    ModelError
        When there is no such model, or it cannot read the data set.
    SpecError
        When there is no such data set or split, none of its samples has a label, ``legacy`` is
        asked of another task, or a threshold of a network that has none.
    ReadError
        When the folder, or a file of a sample, cannot be read.
    """
    way, data = way or Way(), data_set(split.data)
    mapper = Mapper.open(model, data, way)
    card, kind = mapper.card, family_of(mapper.card).kind
    labelled, bare = _labelled(split, LABEL[kind])
    used = threshold_of(card, threshold)
    level = card.threshold if used is None else used
    if legacy and kind != "pair":
        raise SpecError(explain(f"legacy tiles of {card.name}", expected="a network of change"))
    if kind == "pair":
        rows, summary, notes = score_change(mapper, each(labelled), level, legacy=legacy)
    elif kind == "month":
        rows, summary, notes = score_urban(mapper, each(labelled), level)
    else:
        rows, summary, notes = score_semantic(mapper, each(labelled), level, data)
    warned = acquaintance(card, data, split.split, [sample.place for sample in labelled])
    if bare:
        notes = (*notes, f"Without a label, and left out: {', '.join(bare)}.")
    about: dict[str, Any] = {
        "model": card.name,
        "version": card.version,
        "task": card.task,
        "data": data.name,
        "split": split.split,
        "threshold": used,
        "card_threshold": None if used is None else card.threshold,
        "radar": bool(card.s1_bands) and way.radar,
        "tta": way.orientations(card),
        "precision": way.precision,
        "members": card.members,
    }
    return Evaluation(about, rows, summary, (*((warned,) if warned else ()), *notes))


def _labelled(split: Split, label: str) -> tuple[list[Sample], list[str]]:
    """Samples that have the label, and the keys of those that have none."""
    samples = data_set(split.data).samples(split.root, split.split)
    labelled = [sample for sample in samples if sample.has(label)]
    if not labelled:
        raise SpecError(
            explain(
                f"{split.data}, split {split.split}, in {split.root}",
                expected=f"samples with the label {label!r}",
                got=f"{len(samples)} samples without it",
                do="Add the labels to the copy, or map without them: 'cdscale predict'.",
            )
        )
    return labelled, [sample.key for sample in samples if not sample.has(label)]
