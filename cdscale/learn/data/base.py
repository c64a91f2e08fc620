"""The vocabulary of all data sets: a :class:`DataSet` lists frozen samples; a sample reads.

A sample is a key, a grid and named layers; nothing but headers is touched until a layer is read,
whole or in a window. The names of layers are the same everywhere:

======================  ==========================================================================
``before``, ``after``   optical images of two dates, (B, Y, X) float32: reflectance, or colours 0..1
``image``               the optical image of one date
``s1_before``, ...      backscatter of two dates in linear power, (P, Y, X) float32
``s1``                  backscatter of one date
``change``              (Y, X) uint8: 0 no change, 1 change, or the new class (see ``classes``)
``land_before``, ...    land cover of two dates, (Y, X) uint8
``land``, ``urban``     land cover, or 1 = built-up, of one date
======================  ==========================================================================

NaN is "nothing there" in images, 255 in labels. A layer that a sample lacks (a test city's label, a
month without optical image) reads as all nothing, so that training needs no special case; ``has``
tells.

Shape suffixes: B band, P polarisation, Y row, X column.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cdscale.errors import ReadError, SpecError, explain
from cdscale.grid import GeoBox
from cdscale.learn.data.download import Download
from cdscale.learn.data.files import Codes, Floats, Raw, Window, header, read_raw, unreadable
from cdscale.learn.data.fitting import Fit, misfit, place, resize, same_grid
from cdscale.learn.data.report import Finding, Report
from cdscale.learn.data.units import IGNORED

Task = Literal["change", "semantic change", "urban"]


@dataclass(frozen=True)
class Source:
    """Some bands of one file."""

    path: Path
    indexes: tuple[int, ...]
    """Of the bands in the file, from 1."""


@dataclass(frozen=True)
class Image:
    """An image layer: from which files its bands come, and how they become physical."""

    name: str
    bands: tuple[str, ...]
    sources: tuple[Source, ...]
    """In the order of ``bands``; none: the sample lacks this layer."""
    decode: Callable[[Raw], Floats]
    dtypes: tuple[str, ...]
    """Types that the published files have."""
    count: int
    """Bands that each published file has."""
    fit: Fit = "same"


@dataclass(frozen=True)
class Label:
    """A layer of class codes, pixel for pixel on the grid of its sample."""

    name: str
    sources: tuple[Source, ...]
    decode: Callable[[tuple[Raw, ...]], Codes]
    dtypes: tuple[str, ...]
    count: tuple[int, ...]
    """Bands that a published file may have."""


@dataclass(frozen=True)
class Sample:
    """One scene, pair or month: what there is, and how to read it."""

    data: str
    """Name of its data set."""
    key: str
    """Unique in the data set, and good for a file name."""
    place: str
    """What must be held out whole: samples of one place see the same ground."""
    when: tuple[str, ...]
    """Dates or months as ISO text, before and after; empty where the layout has none."""
    grid_file: Path
    """The file whose pixels are those of the labels."""
    layers: tuple[Image | Label, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """All layers, those that the sample lacks included."""
        return tuple(layer.name for layer in self.layers)

    @property
    def labelled(self) -> bool:
        """Whether any label is there."""
        return any(isinstance(layer, Label) and layer.sources for layer in self.layers)

    def has(self, name: str) -> bool:
        """Whether a layer is there to be read."""
        return any(layer.name == name and layer.sources for layer in self.layers)

    def layer(self, name: str) -> Image | Label:
        """A layer by name.

        Raises
        ------
        SpecError
            When samples of this data set have no such layer.
        """
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise SpecError(
            explain(f"{self.data} {self.key}: no layer {name!r}", expected=", ".join(self.names))
        )

    def grid(self) -> GeoBox:
        """Pixels, CRS and transform of labels and predictions, from a header.

        CRS is None, and the transform that of pixels, where the layout has no georeference.

        Raises
        ------
        ReadError
            When the file that gives it is absent or damaged.
        """
        return header(self.grid_file).geobox

    def read(
        self, name: str, bands: tuple[str, ...] | None = None, window: Window | None = None
    ) -> Any:
        """Read a layer.

        Parameters
        ----------
        name : str
            Such as ``before``.
        bands : tuple of str, optional
            Of an image: which, in which order; by default all.
        window : Window, optional
            Only this part of the scene. Layers that are stored on the grid of the scene are read in
            the window alone, whatever the size of the scene.

        Returns
        -------
        ndarray
            An image (B, Y, X) float32 in physical units, NaN where there is nothing; a label (Y, X)
            uint8, 255 where nothing is known.

        Raises
        ------
        SpecError
            When samples of this data set have no such layer, or the layer no such band.
        ReadError
            When a file is absent, damaged, of another size or place, or holds unknown codes; or
            when the window reaches beyond the scene.
        """
        layer = self.layer(name)
        shape = header(self.grid_file).shape
        part = Window.whole(shape) if window is None else window
        if not part.inside(shape):
            raise ReadError(
                explain(
                    f"{self.data} {self.key}: a window beyond the scene",
                    expected=f"inside {shape[0]} rows and {shape[1]} columns",
                    got=part,
                ),
                permanent=True,
            )
        if isinstance(layer, Label):
            return self._label(layer, part)
        return self._image(layer, layer.bands if bands is None else bands, part)

    def _label(self, layer: Label, part: Window) -> Codes:
        if not layer.sources:
            return np.full((part.height, part.width), IGNORED, np.uint8)
        for source in layer.sources:
            self._fits(source, "same", layer.count)
        return layer.decode(tuple(read_raw(s.path, s.indexes, part) for s in layer.sources))

    def _image(self, layer: Image, bands: tuple[str, ...], part: Window) -> Floats:
        if strange := [band for band in bands if band not in layer.bands]:
            raise SpecError(
                explain(
                    f"{self.data} {self.key}: {layer.name} has no band {', '.join(strange)}",
                    expected=f"some of {', '.join(layer.bands)}",
                )
            )
        if not layer.sources:
            return np.full((len(bands), part.height, part.width), np.nan, np.float32)
        planes: dict[str, Floats] = {}
        names = iter(layer.bands)
        for source in layer.sources:
            own = [(next(names), index) for index in source.indexes]
            if wanted := {name: index for name, index in own if name in bands}:
                read = self._planes(layer, source.path, tuple(wanted.values()), part)
                planes |= dict(zip(wanted, read, strict=True))
        return np.stack([planes[band] for band in bands])

    def _planes(self, layer: Image, path: Path, indexes: tuple[int, ...], part: Window) -> Floats:
        """Some bands of one file in a window of the scene."""
        self._fits(Source(path, indexes), layer.fit, (layer.count,))
        own, grid = header(path), header(self.grid_file)
        if layer.fit == "same" or (layer.fit == "place" and same_grid(own, grid)):
            return layer.decode(read_raw(path, indexes, part))
        whole = layer.decode(read_raw(path, indexes))
        fitted = resize(whole, grid.shape) if layer.fit == "resize" else place(whole, own, grid)
        return fitted[:, *part.slices]

    def _fits(self, source: Source, fit: Fit, counts: tuple[int, ...]) -> None:
        own = header(source.path)
        why = misfit(own, header(self.grid_file), fit)
        if own.count not in counts:
            why = f"bands: expected {' or '.join(map(str, counts))}; got {own.count}"
        if why:
            raise unreadable(source.path, why)


@dataclass(frozen=True)
class DataSet:
    """What is known of a published data set, and how its folder is listed and checked."""

    name: str
    title: str
    citation: str
    licence: str
    task: Task
    splits: tuple[str, ...]
    layers: tuple[str, ...]
    bands: tuple[str, ...]
    """Of the optical images, in the order of the files."""
    classes: Mapping[int, str]
    """Of the layer that the task is about."""
    download: Download
    listed: Callable[[Path, str], tuple[Sample, ...]]
    checked: Callable[[Path, bool], Report]

    def as_dict(self) -> dict[str, Any]:
        """What there is to tell, as plain data."""
        return {
            "name": self.name,
            "title": self.title,
            "task": self.task,
            "splits": list(self.splits),
            "layers": list(self.layers),
            "bands": list(self.bands),
            "classes": {str(code): name for code, name in self.classes.items()},
            "licence": self.licence,
            "citation": self.citation,
            "page": self.download.page,
            "archives": [vars(archive) for archive in self.download.archives],
            "steps": list(self.download.steps),
        }

    def samples(self, root: Path, split: str) -> tuple[Sample, ...]:
        """All samples of a split, in a fixed order; no pixels are read.

        Raises
        ------
        SpecError
            When the data set has no such split.
        ReadError
            When the folder, or a list in it, is not there or is not to be trusted.
        """
        if split not in self.splits:
            raise SpecError(
                explain(
                    f"{self.name}: no split {split!r}", expected=f"one of {', '.join(self.splits)}"
                )
            )
        if not root.is_dir():
            raise unreadable(root, "no such folder")
        return self.listed(root, split)

    def check(self, root: Path, *, deep: bool = False) -> Report:
        """Say whether a folder is whole, and everything that is wrong with it.

        Parameters
        ----------
        root : Path
            The folder.
        deep : bool
            Read every pixel; by default headers alone.
        """
        if not root.is_dir():
            finding = Finding("missing", ".", f"no such folder: {root}")
            return Report(self.name, root, deep, False, (), (finding,))
        return self.checked(root, deep)
