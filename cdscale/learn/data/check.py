"""Checks that all layouts share: files of a sample, and the places that a folder should have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from cdscale.errors import CdscaleError, ReadError
from cdscale.learn.data.base import Image, Label, Sample
from cdscale.learn.data.files import Header, Window, WrongCodes, cut_short, header, windows
from cdscale.learn.data.fitting import misfit
from cdscale.learn.data.report import Inspection, Kind, made_up_places
from cdscale.learn.data.units import IGNORED

SIDE = 2048
"""Pixels are read in squares of this side, so that a scene of any size fits into memory."""


def inspect(inspection: Inspection, sample: Sample) -> None:
    """Check every file of a sample: there, readable, of the published form, on one grid.

    In a deep inspection all pixels are read and decoded too.
    """
    try:
        grid = header(sample.grid_file)
    except ReadError as err:
        _unread(inspection, sample.grid_file, err)
        grid = None
    for layer in sample.layers:
        sound = [_file(inspection, layer, source.path, grid) for source in layer.sources]
        if inspection.deep and grid is not None and all(sound) and sound:
            _pixels(inspection, sample, layer, grid)


def expect_places(
    inspection: Inspection,
    found: Mapping[str, Sequence[str]],
    published: Mapping[str, Sequence[str]],
) -> None:
    """Report published places that are not found; a miniature is measured by its own list.

    Parameters
    ----------
    inspection : Inspection
        Receives the findings.
    found, published : mapping of str to sequence of str
        Places by split. Of a split that ``found`` does not have nothing is expected.
    """
    made_up = made_up_places(inspection.root)
    wanted = published if made_up is None else made_up
    for split, places in wanted.items():
        for place in sorted(set(places) - set(found.get(split, places))):
            inspection.error("missing", inspection.root, f"{place} of the {split} split")


def expect_shape(inspection: Inspection, sample: Sample, shape: tuple[int, int]) -> None:
    """Report a scene of another size than the published one; miniatures may be of any size."""
    if made_up_places(inspection.root) is not None or not sample.grid_file.exists():
        return
    try:
        got = header(sample.grid_file).shape
    except ReadError:
        return
    if got != shape:
        inspection.error("shape", sample.grid_file, f"expected {shape} as published; got {got}")


def _file(inspection: Inspection, layer: Image | Label, path: Path, grid: Header | None) -> bool:
    """Whether one file is as published, as far as its header tells."""
    try:
        own, short = header(path), cut_short(path)
    except ReadError as err:
        _unread(inspection, path, err)
        return False
    faults: list[tuple[Kind, str]] = []
    if short:
        faults.append(("unreadable", f"cut short: {short}; fetch it again"))
    counts = (layer.count,) if isinstance(layer, Image) else layer.count
    if own.count not in counts:
        expected = " or ".join(map(str, counts))
        faults.append(("bands", f"expected {expected} as published; got {own.count}"))
    if strange := sorted(set(own.dtypes) - set(layer.dtypes)):
        expected = " or ".join(layer.dtypes)
        faults.append(("dtype", f"expected {expected}; got {', '.join(strange)}"))
    fit = layer.fit if isinstance(layer, Image) else "same"
    if grid is not None and (why := misfit(own, grid, fit)):
        kind: Kind = "shape" if why.startswith("shape") else "crs"
        faults.append((kind, why.removeprefix(f"{kind}: ")))
    for found, reason in faults:
        inspection.error(found, path, reason)
    return not faults


def _pixels(inspection: Inspection, sample: Sample, layer: Image | Label, grid: Header) -> None:
    """Read and decode a whole layer, and see that there is something in it."""
    path = layer.sources[0].path
    something = False
    try:
        for window in _parts(layer, grid.shape):
            values = sample.read(layer.name, window=window)
            there = values != IGNORED if isinstance(layer, Label) else np.isfinite(values)
            something |= bool(there.any())
    except WrongCodes as err:
        inspection.error("codes", path, str(err))
    except CdscaleError as err:
        inspection.error("unreadable", path, str(err))
    else:
        if not something:
            inspection.error("empty", path, f"{layer.name} has no valid pixel")


def _parts(layer: Image | Label, shape: tuple[int, int]) -> Iterator[Window]:
    # What is resized or placed is read whole for every window.
    if isinstance(layer, Label) or layer.fit == "same":
        yield from windows(shape, SIDE)
    else:
        yield Window.whole(shape)


def _unread(inspection: Inspection, path: Path, err: ReadError) -> None:
    if path.exists():
        inspection.error("unreadable", path, str(err))
    else:
        inspection.error("missing", path, "not there")
