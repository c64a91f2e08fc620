"""A map for each scene of a split, as GeoTIFF on the grid of its label; no label is read.

Shape suffixes: Y row, X column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cdscale.errors import ReadError, SpecError, explain
from cdscale.evaluation.scenes import Mapper, Way, threshold_of
from cdscale.export.change_map import ABSENT, MapGrid, change_map, class_map
from cdscale.grid import GeoBox
from cdscale.learn.data import DataSet, Sample
from cdscale.learn.images import Reading
from cdscale.models import ModelCard, family_of

WHAT = {"pair": "change", "month": "urban"}
"""What a network of a kind that tells one class from the rest maps."""


@dataclass(frozen=True)
class MapOfSample:
    """What became of one scene.

    Parameters
    ----------
    key : str
        Of the sample.
    path : Path
        Of its map.
    pixels, positive : int
        Of which something is said; of these, in class 1, or in any class of change.
    error : str
        Why there is no map; empty where there is one.
    counted : str
        What the positive pixels are.
    """

    key: str
    path: Path
    pixels: int = 0
    positive: int = 0
    error: str = ""
    counted: str = "in class 1"

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "sample": self.key,
            "map": None if self.error else str(self.path),
            "pixels": self.pixels,
            "positive": self.positive,
            "error": self.error or None,
        }


def map_samples(
    model: str,
    data: DataSet,
    samples: Sequence[Sample],
    folder: Path,
    way: Way | None = None,
    threshold: float | None = None,
) -> Callable[[Iterable[Sample]], Iterator[MapOfSample]]:
    """Prepare to map samples; calling what comes maps them, one after another.

    Parameters
    ----------
    model : str
        Name of a shipped model, or the path of a ``.card.yaml`` file.
    data : DataSet
        That the samples are of.
    samples : sequence of Sample
        All that are to be mapped.
    folder : Path
        Where ``<key of the sample>.tif`` goes; a map that is there is replaced once its successor
        is whole, or left as it is when the scene cannot be read.
    way : Way, optional
        With radar or without, and test-time augmentation.
    threshold : float, optional
        By default that of the card; a pixel of this probability is class 1. Networks that say the
        likeliest class have none.

    Returns
    -------
    callable
        Takes the samples, wrapped in what shows progress, say, and yields one
        :class:`MapOfSample` for each: a scene that cannot be read has an error there, and the
        others go on.

    Raises
    ------
    ModelError
        When there is no such model, or it cannot read the data set.
    SpecError
        When there is no sample, a map would replace a file of the data set, or a threshold is
        asked of a network that has none.
    StoreError
        When a map cannot be written.
    """
    if not samples:
        raise SpecError(
            explain(f"{data.name}: nothing to map", expected="one sample or more", got=0)
        )
    _check_apart(samples, folder)
    mapper = Mapper.open(model, data, way or Way())
    used = threshold_of(mapper.card, threshold)
    semantic = family_of(mapper.card).kind == "images"

    def run(each: Iterable[Sample]) -> Iterator[MapOfSample]:
        for sample in each:
            path = folder / f"{sample.key}.tif"
            if semantic:
                yield _semantic(mapper, sample, path, used)
            else:
                yield _one(mapper, sample, path, mapper.card.threshold if used is None else used)

    return run


def _one(mapper: Mapper, sample: Sample, path: Path, threshold: float) -> MapOfSample:
    card = mapper.card
    what = WHAT[family_of(card).kind]
    try:
        grid = sample.grid()
        if what == "change":
            probability_YX = mapper.change(sample)
        else:
            probability_YX = mapper.urban(sample).probability_YX
    except ReadError as err:
        return MapOfSample(sample.key, path, error=str(err))
    positive_YX = probability_YX >= threshold
    said = f"{card.name} {card.version}, threshold {threshold:g}"
    with change_map(path, _place(grid), said, f"probability of {what}", what) as file:
        file.write(positive_YX, probability_YX)
    seen = int(np.isfinite(probability_YX).sum())
    return MapOfSample(sample.key, path, seen, int(positive_YX.sum()))


def _semantic(mapper: Mapper, sample: Sample, path: Path, threshold: float | None) -> MapOfSample:
    """Window by window: no scene is in memory whole."""
    card, scene = mapper.card, mapper.scene(threshold)
    bands = _bands(card, scene.reading)
    how = "the likeliest class" if threshold is None else f"threshold {threshold:g}"
    seen, positive = 0, 0
    try:
        grid = sample.grid()
        with class_map(path, _place(grid), f"{card.name} {card.version}, {how}", bands) as file:
            for at, found in scene.maps(sample):
                file.write(
                    found.change_YX, found.probability_YX, at.top, at.left, further=found.land_YX
                )
                there_YX = found.change_YX != ABSENT
                seen += int(there_YX.sum())
                positive += int((there_YX & (found.change_YX > 0)).sum())
    except ReadError as err:
        return MapOfSample(sample.key, path, error=str(err))
    return MapOfSample(sample.key, path, seen, positive, counted="changed")


def _bands(card: ModelCard, reading: Reading) -> tuple[str, ...]:
    """Descriptions of the bands of a map."""
    classes = ", ".join(f"{code} = {name}" for code, name in sorted(card.classes.items()))
    score = "probability of change"
    if reading.says == "classes of change":
        return f"change to ({classes}, {ABSENT} = absent)", score
    land = f"({classes}, {ABSENT} = absent)"
    change = f"change (1 = change, 0 = none, {ABSENT} = absent)"
    return change, score, f"land cover before {land}", f"land cover after {land}"


def _place(grid: GeoBox) -> MapGrid:
    crs = None if grid.crs is None else str(grid.crs)
    return MapGrid(grid.shape[1], grid.shape[0], crs, grid.affine)


def _check_apart(samples: Sequence[Sample], folder: Path) -> None:
    """Refuse to write maps among the files of the data set under their very names."""
    own = {source.path.resolve() for s in samples for layer in s.layers for source in layer.sources}
    for sample in samples:
        if (path := folder / f"{sample.key}.tif").resolve() in own:
            raise SpecError(
                explain(f"the map would replace a file of the data set: {path}", do="Name another.")
            )
