"""Pairs of raster files, read block by block.

Shape suffixes: B band, Y row, X column.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from cdscale.classical.blocks import Image, Pair
from cdscale.errors import ReadError, explain

DRIVERS = {
    ".tif": "GTiff", ".tiff": "GTiff", ".png": "PNG", ".bmp": "BMP", ".jpg": "JPEG",
    ".jpeg": "JPEG", ".jp2": "JP2OpenJPEG",
}  # fmt: skip
"""Formats that hold pixels themselves: one that names other files could name any."""
SIDE = 1024
"""Rows and columns of a block, halo not counted."""
_OFF = 0.01
"""Pixels by which two grids may lie apart and still be one."""


@dataclass(frozen=True)
class RasterPair:
    """Two co-registered raster files as the blocks of one image, which can be gone over again.

    Absent is what a file calls no data, masks, or makes transparent, and NaN. Numbers are those
    that the files hold: scales and offsets are not applied.

    Parameters
    ----------
    before, after : Path
        GeoTIFF, PNG, BMP, JPEG or JPEG 2000.
    bands : int
        Of each date; transparency is not one.
    width, height : int
        In pixels.
    crs, transform : Any
        Of the file that has a place, date 1 first; None and the identity where neither has.
    halo, side : int
        Context and size of a block.
    """

    before: Path
    after: Path
    bands: int
    width: int
    height: int
    crs: Any = None
    transform: Any = field(default=rasterio.Affine.identity())
    halo: int = 0
    side: int = SIDE

    @classmethod
    def open(cls, before: Path, after: Path) -> RasterPair:
        """Look at two files.

        Raises
        ------
        ReadError
            When one cannot be read, or when they are not of one grid or have other bands.
        """
        with _opened(before) as one, _opened(after) as two:
            _check_alike(before, one, after, two)
            # One of them may be a plain picture on the grid of the other.
            placed = one if one.crs or not two.crs else two
            crs, transform = placed.crs, placed.transform
            return cls(before, after, len(_bands(one)), one.width, one.height, crs, transform)

    def cut(self, side: int, halo: int) -> RasterPair:
        """The same pair in other blocks."""
        return replace(self, side=side, halo=halo)

    @property
    def whole(self) -> Pair:
        """Both files at once."""
        return self.part(slice(0, self.height), slice(0, self.width))

    def part(self, rows: slice, columns: slice) -> Pair:
        """Some rows and columns of both files, without context.

        Raises
        ------
        ReadError
            When the files do not give them.
        """
        return next(self.cut(self.side, 0)._parts([(rows, columns)]))

    def __iter__(self) -> Iterator[Pair]:
        """The blocks, read when they are asked for."""
        return self._parts(
            (
                slice(row, min(row + self.side, self.height)),
                slice(left, min(left + self.side, self.width)),
            )
            for row in range(0, self.height, self.side)
            for left in range(0, self.width, self.side)
        )

    def _parts(self, places: Iterable[tuple[slice, slice]]) -> Iterator[Pair]:
        with _opened(self.before) as one, _opened(self.after) as two:
            for rows, columns in places:
                first, second = (self._read(file, rows, columns) for file in (one, two))
                yield Pair(first, second, self.halo, rows.start, columns.start)

    def _read(self, file: Any, rows: slice, columns: slice) -> Image:
        """One block of one file with its context; NaN beyond the file and where absent."""
        top, left = rows.start - self.halo, columns.start - self.halo
        bottom, right = rows.stop + self.halo, columns.stop + self.halo
        y0, x0 = max(top, 0), max(left, 0)
        y1, x1 = min(bottom, self.height), min(right, self.width)
        window = Window(x0, y0, x1 - x0, y1 - y0)
        try:
            values_BYX = file.read(_bands(file), window=window, out_dtype="float64")
            # Band by band: a dataset's mask leaves out only what lacks every band.
            there_BYX = file.read_masks(_bands(file), window=window) > 0
        except (RasterioError, OSError) as err:
            raise _unreadable(Path(file.name), err) from None
        values_BYX[~there_BYX] = np.nan
        block_BYX = np.full((len(values_BYX), bottom - top, right - left), np.nan)
        block_BYX[:, y0 - top : y1 - top, x0 - left : x1 - left] = values_BYX
        return block_BYX


def _bands(file: Any) -> list[int]:
    """Numbers of the bands that are not transparency."""
    kinds = zip(file.indexes, file.colorinterp, strict=True)
    return [index for index, kind in kinds if kind is not ColorInterp.alpha]


def _check_alike(before: Path, one: Any, after: Path, two: Any) -> None:
    """Refuse two files that do not show the same pixels in the same bands."""
    for path, file in ((before, one), (after, two)):
        if ColorInterp.palette in file.colorinterp:
            raise ReadError(
                explain(
                    f"{path}: bands",
                    expected="intensities",
                    got="numbers of colours in a palette",
                    do="Convert it to RGB.",
                ),
                permanent=True,
            )
        if any(dtype.startswith("complex") for dtype in file.dtypes):
            raise ReadError(
                explain(
                    f"{path}: bands",
                    expected="intensities",
                    got="complex numbers",
                    do="Convert it to power or amplitude.",
                ),
                permanent=True,
            )
    facts = {
        "width and height": ((one.width, one.height), (two.width, two.height)),
        "number of bands": (len(_bands(one)), len(_bands(two))),
    }
    if one.crs and two.crs:
        facts["CRS"] = (one.crs, two.crs)
    for what, (first, second) in facts.items():
        if first != second:
            raise _apart(before, after, what, first, second)
    if one.crs and two.crs and not _same_place(one, two):
        raise _apart(before, after, "place", tuple(one.bounds), tuple(two.bounds))


def _same_place(one: Any, two: Any) -> bool:
    corners = ((0, 0), (one.width, 0), (0, one.height))
    return all(
        max(map(abs, np.subtract(~one.transform * (two.transform * corner), corner))) < _OFF
        for corner in corners
    )


def _apart(before: Path, after: Path, what: str, first: Any, second: Any) -> ReadError:
    return ReadError(
        explain(
            f"{after} is not of the grid of {before}: {what}",
            expected=first,
            got=second,
            do="Resample one of them onto the grid of the other (gdalwarp, or rioxarray's "
            "reproject_match).",
        ),
        permanent=True,
    )


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    driver = DRIVERS.get(path.suffix.lower())
    if driver is None:
        raise _unreadable(path, f"a name that ends in {path.suffix or 'nothing'}")
    try:
        with warnings.catch_warnings():
            # A photograph has no place, and needs none.
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            file = rasterio.open(path, driver=driver)
    except (RasterioError, OSError) as err:
        raise _unreadable(path, err) from None
    with file:
        yield file


def _unreadable(path: Path, err: object) -> ReadError:
    return ReadError(
        explain(
            f"cannot read {path}",
            expected=f"an image ({', '.join(DRIVERS)})",
            got=" ".join(str(err).split()),
        ),
        permanent=True,
    )
