"""Trained networks on published data sets: figures where there are labels, maps where not.

``scenes``   a scene of a data set through a network, by the code of the pipeline
``change``   figures of change maps
``urban``    figures of monthly maps of built-up area
``maps``     a GeoTIFF for each scene
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
from cdscale.evaluation.report import Evaluation, acquaintance
from cdscale.evaluation.scenes import Mapper, Way
from cdscale.evaluation.urban import score_urban
from cdscale.learn.data import Sample, data_set
from cdscale.models import family_of

__all__ = ["Evaluation", "MapOfSample", "Split", "Way", "evaluate", "map_samples"]

LABEL = {"pair": "change", "month": "urban"}
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
        When there is no such data set or split, none of its samples has a label, or ``legacy`` is
        asked of another task.
    ReadError
        When the folder, or a file of a sample, cannot be read.
    """
    way, data = way or Way(), data_set(split.data)
    mapper = Mapper.open(model, data, way)
    card, kind = mapper.card, family_of(mapper.card).kind
    labelled, bare = _labelled(split, LABEL[kind])
    used = card.threshold if threshold is None else threshold
    if kind == "pair":
        rows, summary, notes = score_change(mapper, each(labelled), used, legacy=legacy)
    elif legacy:
        raise SpecError(explain(f"legacy tiles of {card.name}", expected="a network of change"))
    else:
        rows, summary, notes = score_urban(mapper, each(labelled), used)
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
        "card_threshold": card.threshold,
        "radar": bool(card.s1_bands) and way.radar,
        "tta": way.orientations(card),
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
