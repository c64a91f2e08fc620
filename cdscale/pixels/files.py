"""What a file must be before its pixels are believed.

GDAL reads a block that has no place in the file as no data. A header that came short looks just
like that: the rest of the table of blocks reads as zeros, no error is told, and the scene has a
hole. So each block of a window that has no place is a suspicion, and is looked into.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import rasterio
import requests
import shapely
from affine import Affine
from rasterio.crs import CRS
from rasterio.dtypes import in_dtype_range
from rasterio.io import MemoryFile
from rasterio.windows import Window

from cdscale.errors import explain
from cdscale.grid import Bounds, GeoBox, reproject
from cdscale.pixels import tiff
from cdscale.pixels.access import ASK_TIMEOUT, Target
from cdscale.spec.scene import Asset

DRIVERS = ["GTiff", "JP2OpenJPEG"]
"""What may be opened: no driver whose files name other files."""
LARGEST_SIDE = 1 << 20
LARGEST_BLOCK = 1 << 29
"""Bytes of one block as decoded; a small file may claim any size."""
LARGEST_WINDOW = 1 << 26
"""Bytes of a window that is fetched as a whole; what is larger is read in parts."""
AGREEING = 3
"""So many answers are doubted that lack blocks, where only GDAL can ask."""
ALIGNED = 1e-3
"""Pixels by which a GeoBox may be off and still lie on the pixels of a file."""
METRES_PER_DEGREE = 111_320.0


class Unfit(Exception):
    """The file was read, and is not what can be used: another try will not change it."""


class Incomplete(Exception):
    """The file did not come in full."""


@contextmanager
def opened(target: Target) -> Iterator[rasterio.DatasetReader]:
    """A file of one band that may be read.

    Raises
    ------
    Unfit
        For several bands, complex numbers, or sizes that no scene has.
    Incomplete
        When it does not say where it lies.
    """
    with rasterio.DatasetReader(target.path, driver=DRIVERS, sharing=False) as file:
        name = target.source.asset.href.partition("?")[0]
        height, width = file.block_shapes[0]
        size = height * width * np.dtype(file.dtypes[0]).itemsize
        if file.count != 1:
            raise Unfit(f"expected exactly 1 band, but {name} has {file.count}")
        if file.dtypes[0].startswith("complex"):
            raise Unfit(f"expected reflectance, power or dB, but {name} has complex numbers")
        if max(file.shape) > LARGEST_SIDE or size > LARGEST_BLOCK:
            raise Unfit(
                explain(
                    f"{name} is too large",
                    expected=f"at most {LARGEST_SIDE} pixels a side, {LARGEST_BLOCK} bytes a block",
                    got=f"{file.shape[0]} x {file.shape[1]} pixels, {size} bytes",
                )
            )
        if file.crs is None or file.transform == Affine.identity():
            # So it is as well where only half of the header came.
            raise Incomplete(f"{name} does not say where it lies")
        yield file


def nodata_of(file: rasterio.DatasetReader, asset: Asset) -> float | None:
    """What stands for no data: what the file says, else what is known of its collection.

    Told only after resampling, it would already have been mixed into the pixels beside it: the
    dark rim of a swath.
    """
    if file.nodata is None and asset.nodata is not None:
        return asset.nodata if in_dtype_range(asset.nodata, file.dtypes[0]) else None
    return None if file.nodata is None else float(file.nodata)


def pixel_ratio(file: rasterio.DatasetReader, geobox: GeoBox) -> float:
    """Size of a pixel of the file in pixels of the GeoBox."""
    metres = file.res[0] * (METRES_PER_DEGREE if file.crs.is_geographic else 1.0)
    return float(metres / abs(geobox.resolution.x))


def window_of(file: rasterio.DatasetReader, geobox: GeoBox) -> Window | None:
    """Pixels of the file from which those of a GeoBox are made; ``None`` where there are none."""
    whole = Window(0, 0, file.width, file.height)
    outline = _outline(Bounds(*geobox.boundingbox), str(geobox.crs), file.crs.to_wkt())
    if not all(map(math.isfinite, outline)):
        return whole  # so far away that its CRS ends: what overlaps is for the warper to find
    # The kernel reaches two pixels, of the coarser of both grids, and one is for rounding.
    margin = 3 * math.ceil(max(1.0, 1 / pixel_ratio(file, geobox)))
    return _pixels(outline, ~file.transform, whole, margin)


def _pixels(bounds: Bounds, to_pixels: Affine, whole: Window, margin: int) -> Window | None:
    """Pixels that a rectangle covers, and some more on each side."""
    corners = [to_pixels * (x, y) for x in bounds[::2] for y in bounds[1::2]]
    left = max(0, math.floor(min(x for x, _ in corners)) - margin)
    top = max(0, math.floor(min(y for _, y in corners)) - margin)
    right = min(whole.width, math.ceil(max(x for x, _ in corners)) + margin)
    bottom = min(whole.height, math.ceil(max(y for _, y in corners)) + margin)
    if left >= right or top >= bottom:
        return None
    return Window(left, top, right - left, bottom - top)


def reach_of(file: rasterio.DatasetReader, geobox: GeoBox) -> Window:
    """Pixels of a GeoBox that a file may reach; the others need no warp to be empty."""
    whole = Window(0, 0, geobox.shape[1], geobox.shape[0])
    outline = _outline(Bounds(*file.bounds), file.crs.to_wkt(), str(geobox.crs))
    if not all(map(math.isfinite, outline)):
        return whole
    margin = 3 * math.ceil(max(1.0, pixel_ratio(file, geobox)))
    return _pixels(outline, ~geobox.affine, whole, margin) or Window(0, 0, 0, 0)


def place_of(file: rasterio.DatasetReader, geobox: GeoBox) -> tuple[int, int] | None:
    """Row and column of the file where a GeoBox begins whose pixels are the file's own.

    ``None`` where they are not: another CRS, another size, or shifted.
    """
    if not _same_crs(str(geobox.crs), file.crs.to_wkt()):
        return None
    between = ~file.transform * geobox.affine
    row, column = round(between.f), round(between.c)
    shift = abs(between.f - row) + abs(between.c - column)
    # A size that is a little off adds up over the width of the GeoBox.
    drift = sum(abs(value) for value in (between.a - 1, between.b, between.d, between.e - 1))
    return (row, column) if shift + drift * max(geobox.shape) < ALIGNED else None


@contextmanager
def in_memory(file: rasterio.DatasetReader, window: Window) -> Iterator[rasterio.DatasetReader]:
    """A window of a file as a file of its own, fetched in requests side by side.

    A warp reads row by row of its own blocks, each after the one before: over a network most of
    its time would be spent waiting.
    """
    values = file.read(1, window=window)
    with (
        MemoryFile() as memory,
        memory.open(
            driver="GTiff",
            height=values.shape[0],
            width=values.shape[1],
            count=1,
            dtype=values.dtype,
            crs=file.crs,
            transform=file.window_transform(window),
            nodata=file.nodata,
        ) as copy,
    ):
        copy.write(values, 1)
        copy.close()
        with memory.open() as again:
            yield again


def worth_fetching(file: rasterio.DatasetReader, window: Window) -> bool:
    """Whether a window may be held in memory as a whole."""
    size = window.height * window.width * np.dtype(file.dtypes[0]).itemsize
    return bool(size <= LARGEST_WINDOW)


@lru_cache(maxsize=1024)
def _outline(bounds: Bounds, source: str, target: str) -> Bounds:
    # Every asset of every scene of a zone asks for the same; finding a way from one CRS to another
    # takes longer than to read a small tile.
    outline = shapely.box(*bounds)
    bent = reproject(outline, source, target, resolution=outline.length / 84)
    return Bounds(*bent.bounds)


@lru_cache(maxsize=256)
def _same_crs(one: str, other: str) -> bool:
    return bool(CRS.from_string(one) == CRS.from_wkt(other))


# ---------------------------------------------------------------------------- blocks without place


@dataclass(frozen=True)
class _Blocks:
    """How a file is cut into blocks."""

    file: rasterio.DatasetReader

    @property
    def across(self) -> int:
        return math.ceil(int(self.file.width) / int(self.file.block_shapes[0][1]))

    @property
    def count(self) -> int:
        height, block = int(self.file.height), int(self.file.block_shapes[0][0])
        return self.across * math.ceil(height / block)

    def of(self, window: Window) -> list[int]:
        """Numbers of the blocks of a window, and of the one after each row of them.

        A table that ends in the middle of a number leaves a wrong place behind, and none after it.
        """
        height, width = self.file.block_shapes[0]
        left, right = window.col_off // width, (window.col_off + window.width - 1) // width
        top, bottom = window.row_off // height, (window.row_off + window.height - 1) // height
        numbers = {
            row * self.across + column
            for row in range(top, bottom + 1)
            for column in range(left, right + 2)
        }
        return sorted(number for number in numbers if number < self.count)

    def placeless(self, numbers: list[int]) -> list[int]:
        """Those that the file, as it came, has no place for."""
        return [number for number in numbers if not self._has_place(number)]

    def _has_place(self, number: int) -> bool:
        where = f"{number % self.across}_{number // self.across}"
        tags = (self.file.get_tag_item(f"BLOCK_{what}_{where}", "TIFF", bidx=1)
                for what in ("OFFSET", "SIZE"))  # fmt: skip
        return all(tag is not None and int(tag) > 0 for tag in tags)


def check_blocks(file: rasterio.DatasetReader, window: Window, target: Target) -> None:
    """See that blocks which the file seems to lack are really not there.

    Raises
    ------
    Incomplete
        When the file has them, or cannot tell: its header did not come in full.
    """
    if file.driver != "GTiff":
        return
    blocks = _Blocks(file)
    missing = blocks.placeless(blocks.of(window))
    if not missing:
        return
    fetch = _fetcher(target)
    if fetch is None:
        # Nothing but GDAL can ask for it: several separate answers have to agree.
        if target.number < AGREEING:
            raise Incomplete(f"{len(missing)} blocks have no place in it")
        return
    there = tiff.places(fetch)
    # GDAL cuts one large strip into lines; what is there is then told for all of them.
    short = there[missing].any() if len(there) == blocks.count else not there.all()
    if short:
        raise Incomplete("its header came short")


def _fetcher(target: Target) -> Callable[[int, int], bytes] | None:
    """What reads bytes of a file and fails unless all of them came."""
    url = target.plain_url
    if url:
        return lambda start, length: _fetch_http(url, start, length)
    if target.source.remote:
        return None
    return lambda start, length: _fetch_local(Path(target.path), start, length)


def _fetch_http(url: str, start: int, length: int) -> bytes:
    try:
        answer = requests.get(
            url,
            headers={"Range": f"bytes={start}-{start + length - 1}"},
            timeout=ASK_TIMEOUT,
            allow_redirects=False,
        )
    except requests.RequestException as err:
        raise Incomplete(f"its header did not come ({type(err).__name__})") from None
    _, _, size = answer.headers.get("Content-Range", "").partition("/")
    if answer.status_code != 206 or not size.isdigit():
        raise Incomplete(f"its header did not come (HTTP {answer.status_code})")
    if len(answer.content) != max(0, min(length, int(size) - start)):
        raise Incomplete("its header came short")
    return answer.content


def _fetch_local(path: Path, start: int, length: int) -> bytes:
    with path.open("rb") as stream:
        stream.seek(start)
        return stream.read(length)
