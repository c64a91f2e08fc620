"""Labels of change that a model writes for scenes that have none, where it is sure enough.

A label is ``<key of the sample>.tif`` on the grid of the images, one band of uint8: the class, and
255 where the model is less sure than asked, or there is no image. Recipes with ``pseudo`` train on
them (S. Cummings et al., EarthVision 2021: the likeliest class, however unsure).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
from rasterio.windows import Window as RasterWindow

from cdscale.errors import ModelError, ReadError, SpecError, StoreError, explain
from cdscale.evaluation.scenes import Mapper, Way
from cdscale.learn.data import IGNORED, DataSet, Sample
from cdscale.learn.images import SceneMapper
from cdscale.learn.images.reading import SAYS


@dataclass(frozen=True)
class Labelled:
    """What became of one scene.

    Parameters
    ----------
    key : str
        Of the sample.
    path : Path
        Of its label.
    pixels, sure, changed : int
        With images; of these, with a label; of these, in a class of change.
    error : str
        Why there is no label; empty where there is one.
    """

    key: str
    path: Path
    pixels: int = 0
    sure: int = 0
    changed: int = 0
    error: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return vars(self) | {"path": str(self.path), "error": self.error or None}


def label_samples(
    model: str, data: DataSet, samples: Sequence[Sample], folder: Path, sure: float, way: Way
) -> Callable[[Iterable[Sample]], Iterator[Labelled]]:
    """Prepare to label samples; calling what comes labels them, one after another.

    Parameters
    ----------
    model : str
        Name of a shipped model, or the path of a ``.card.yaml`` file; an ensemble too.
    data : DataSet
        That the samples are of.
    samples : sequence of Sample
        Those that have a label of change are passed over.
    folder : Path
        Where the labels go.
    sure : float
        Least probability of a class that is written; 0: all are, as published.
    way : Way
        Test-time augmentation.

    Raises
    ------
    ModelError
        When there is no such model, it cannot read the data set, or it says no classes of change.
    SpecError
        When no sample lacks a label, or ``sure`` is no probability.
    StoreError
        When a label cannot be written.
    """
    bare = {sample.key for sample in samples if not sample.has("change")}
    if not bare or not 0 <= sure <= 1:
        raise SpecError(
            explain(
                f"pseudo-labels of {data.name}",
                expected="samples without a label of change, and a probability from 0 to 1",
                got=f"{len(bare)} such samples, and {sure:g}",
                do="Name a split without labels; true labels are never replaced.",
            )
        )
    mapper = Mapper.open(model, data, way)
    if SAYS.get(mapper.card.family) != "classes of change":
        raise ModelError(
            explain(
                f"pseudo-labels by {mapper.card.name}",
                expected="a network of classes of change",
                got=f"one of family {mapper.card.family}",
            )
        )
    scene = mapper.scene()

    def run(each: Iterable[Sample]) -> Iterator[Labelled]:
        for sample in each:
            if sample.key in bare:
                yield _one(scene, sample, folder / f"{sample.key}.tif", sure)

    return run


def _one(scene: SceneMapper, sample: Sample, path: Path, sure: float) -> Labelled:
    """Write the label of one scene, window by window; it appears when it is whole."""
    part = path.with_name(f".{path.name}.part")
    pixels, kept, changed = 0, 0, 0
    try:
        grid = sample.grid()
        crs = None if grid.crs is None else str(grid.crs)
        path.parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(
                part, "w", driver="GTiff", count=1, dtype="uint8", height=grid.shape[0],
                width=grid.shape[1], crs=crs, transform=grid.affine, compress="deflate",
            ) as file:  # fmt: skip
                for at, found in scene.maps(sample):
                    seen_YX = found.change_YX != IGNORED
                    sure_YX = seen_YX & (found.certainty_YX >= sure)
                    code_YX = np.where(sure_YX, found.change_YX, np.uint8(IGNORED))
                    place = RasterWindow(at.left, at.top, at.width, at.height)
                    file.write(code_YX, 1, window=place)
                    pixels += int(seen_YX.sum())
                    kept += int(sure_YX.sum())
                    changed += int((sure_YX & (found.change_YX > 0)).sum())
        os.replace(part, path)
    except ReadError as err:
        return Labelled(sample.key, path, error=str(err))
    except (RasterioIOError, OSError) as err:
        raise StoreError(explain(f"cannot write {path}", got=" ".join(str(err).split()))) from None
    finally:
        with suppress(FileNotFoundError, NotADirectoryError):
            part.unlink()
    return Labelled(sample.key, path, pixels, kept, changed)
