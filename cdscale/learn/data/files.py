"""Files of data sets: headers, raw values of a window, and names that come from untrusted lists.

A data set is somebody else's folder. Files are opened by the driver that their suffix names, so
that a text in the guise of an image leads GDAL nowhere else, and names in its lists are refused
when they are more than a name.

Shape suffixes: B band, Y row, X column.
"""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError, RasterioIOError
from rasterio.windows import Window as RasterWindow

from cdscale.errors import ReadError, explain
from cdscale.grid import GeoBox

Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]

DRIVERS = {".tif": "GTiff", ".tiff": "GTiff", ".png": "PNG", ".bmp": "BMP"}
"""The formats of the published layouts."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_PNG_END = b"IEND\xaeB`\x82"


class WrongCodes(ReadError):
    """A label holds values that its layout does not know."""


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels of a scene: first row and column, and size."""

    top: int
    left: int
    height: int
    width: int

    @classmethod
    def whole(cls, shape: tuple[int, int]) -> Window:
        """All of a scene of a shape (rows, columns)."""
        return cls(0, 0, *shape)

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns, for arrays and GeoBoxes."""
        return (
            slice(self.top, self.top + self.height),
            slice(self.left, self.left + self.width),
        )

    def inside(self, shape: tuple[int, int]) -> bool:
        """Whether it lies in a scene of a shape, and is not empty."""
        return (
            min(self.top, self.left) >= 0
            and min(self.height, self.width) > 0
            and self.top + self.height <= shape[0]
            and self.left + self.width <= shape[1]
        )


def windows(shape: tuple[int, int], side: int) -> Iterator[Window]:
    """Cut a scene into squares, each pixel in exactly one; the last of a row or column is smaller.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the scene.
    side : int
        Side of a square.
    """
    for top in range(0, shape[0], side):
        for left in range(0, shape[1], side):
            yield Window(top, left, min(side, shape[0] - top), min(side, shape[1] - left))


@dataclass(frozen=True)
class Header:
    """What a file says of itself; ``crs`` is empty where it has no georeference."""

    shape: tuple[int, int]
    count: int
    dtypes: tuple[str, ...]
    crs: str
    transform: Affine
    descriptions: tuple[str, ...]

    @property
    def geobox(self) -> GeoBox:
        """The pixel grid."""
        return GeoBox(self.shape, self.transform, self.crs or None)


@dataclass(frozen=True)
class Raw:
    """Stored numbers of some bands, and how the file says they are to be read."""

    path: Path
    values_BYX: NDArray[Any]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    nodata: float | None
    palette: tuple[int, ...] | None
    """Red of each index, when the first band is an index into colours."""

    def floats(self) -> Floats:
        """Scaled as the file says, NaN where it says no data, (B, Y, X)."""
        scale = np.asarray(self.scales, np.float32)[:, None, None]
        values: Floats = self.values_BYX.astype(np.float32) * scale
        values += np.asarray(self.offsets, np.float32)[:, None, None]
        if self.nodata is not None:
            values[self.values_BYX == self.nodata] = np.nan
        return values


def is_name(text: str) -> bool:
    """Whether a text from a list is a mere name: no slash, no dot, no blank."""
    return _NAME.fullmatch(text) is not None


def safe_name(text: str, where: Path) -> str:
    """Give back a name from a list of the data set, if it is one.

    Raises
    ------
    ReadError
        When it could lead out of the folder: it holds a slash, a dot or another special character.
    """
    if not is_name(text):
        raise ReadError(
            explain(
                f"{where}: refused a name that could lead out of the data set",
                expected="letters, digits, '-' and '_'",
                got=repr(text[:80]),
                do="Take the list from the official source.",
            ),
            permanent=True,
        )
    return text


def read_text(path: Path) -> str:
    """A list or a table of a data set.

    Raises
    ------
    ReadError
        When it is not there, or is not UTF-8 text.
    """
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise unreadable(path, err) from None


def header(path: Path) -> Header:
    """Size, bands, types and georeference of a file; no pixels are read.

    Raises
    ------
    ReadError
        When the file is not there or is no image.
    """
    try:
        stat = path.stat()
    except OSError as err:
        raise unreadable(path, err) from None
    return _header(path, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=4096)
def _header(path: Path, _changed: int, _size: int) -> Header:
    with opened(path) as file:
        return Header(
            shape=(int(file.height), int(file.width)),
            count=int(file.count),
            dtypes=tuple(file.dtypes),
            crs=str(file.crs) if file.crs else "",
            transform=file.transform,
            descriptions=tuple(text or "" for text in file.descriptions),
        )


def read_raw(path: Path, indexes: Iterable[int], window: Window | None = None) -> Raw:
    """Stored numbers of some bands, in a window or of the whole file.

    Parameters
    ----------
    path : Path
        The file.
    indexes : iterable of int
        Bands, from 1.
    window : Window, optional
        Only this part; must lie inside the file.

    Raises
    ------
    ReadError
        When the file is not there, is damaged where it is read, or has too few bands.
    """
    bands = list(indexes)
    if path.suffix.lower() in (".bmp", ".png") and path.is_file() and (short := cut_short(path)):
        # GDAL's BMP and PNG drivers fill what is missing and say nothing.
        raise unreadable(path, short)
    with opened(path) as file:
        if max(bands) > file.count:
            raise ReadError(
                explain(
                    f"{path}: too few bands", expected=f"at least {max(bands)}", got=file.count
                ),
                permanent=True,
            )
        part = None
        if window is not None:
            part = RasterWindow(window.left, window.top, window.width, window.height)
        return Raw(
            path=path,
            values_BYX=file.read(bands, window=part),
            scales=tuple(file.scales[band - 1] for band in bands),
            offsets=tuple(file.offsets[band - 1] for band in bands),
            nodata=file.nodata,
            palette=_palette(file),
        )


def cut_short(path: Path) -> str:
    """What shows, without decoding a pixel, that a download was cut short; empty if nothing does.

    TIFF: the last block of a band reaches beyond the end of the file. PNG: no end mark. BMP: the
    file is smaller than its header says.
    """
    size = path.stat().st_size
    suffix = path.suffix.lower()
    if suffix == ".png":
        return "" if _tail(path, len(_PNG_END)) == _PNG_END else "the PNG has no end mark"
    if suffix == ".bmp":
        with path.open("rb") as file:
            start = file.read(6)
        said = int.from_bytes(start[2:6], "little")
        return f"{size} bytes, its header says {said}" if said > size else ""
    with opened(path) as file:
        for band, (rows, columns) in enumerate(file.block_shapes, 1):
            last = f"{(file.width - 1) // columns}_{(file.height - 1) // rows}"
            offset = file.get_tag_item(f"BLOCK_OFFSET_{last}", "TIFF", bidx=band)
            length = file.get_tag_item(f"BLOCK_SIZE_{last}", "TIFF", bidx=band)
            if offset and length and int(offset) + int(length) > size:
                return f"{size} bytes, its last block ends at {int(offset) + int(length)}"
    return ""


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A file opened by the driver of its suffix.

    Raises
    ------
    ReadError
        For everything that goes wrong while it is open.
    """
    driver = DRIVERS.get(path.suffix.lower())
    if driver is None:
        known = ", ".join(DRIVERS)
        raise unreadable(path, f"expected one of the suffixes {known}")
    try:
        with warnings.catch_warnings():
            # Labels, PNG and BMP have no georeference: their pixels are those of the image.
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path, driver=driver) as file:
                yield file
    except (RasterioIOError, RasterioError, OSError) as err:
        raise unreadable(path, err) from None


def unreadable(path: Path, why: object) -> ReadError:
    """The error of a file that does not read."""
    return ReadError(
        explain(f"cannot read {path}", got=why, do="Run 'cdscale data check' on the folder."),
        permanent=True,
    )


def _palette(file: Any) -> tuple[int, ...] | None:
    if file.colorinterp[0] is not ColorInterp.palette:
        return None
    colours = file.colormap(1)
    return tuple(colours[index][0] for index in range(len(colours)))


def _tail(path: Path, length: int) -> bytes:
    with path.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - length))
        return file.read()
