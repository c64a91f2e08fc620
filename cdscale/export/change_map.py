"""Change maps as GeoTIFF: the class in band 1, the score or probability in band 2.

A map of semantic change may have the land cover before and after in bands 3 and 4.

Shape suffixes: Y row, X column.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from cdscale.errors import StoreError, explain

ABSENT = 255
"""Class of pixels of which nothing can be said; the file masks them too."""
HEADERS = 2**18
"""Bytes of a file beside its pixels, at most, and a block for each of its bands."""


@dataclass(frozen=True)
class MapGrid:
    """Where a map lies: that of the image, or nowhere (``crs`` None, identity)."""

    width: int
    height: int
    crs: Any
    transform: Any


class ChangeMap:
    """A map that is being written, block by block."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(
        self,
        change_YX: NDArray[np.bool_] | NDArray[np.uint8],
        score_YX: NDArray[np.float32],
        row: int = 0,
        column: int = 0,
        further: Sequence[NDArray[np.uint8]] = (),
    ) -> None:
        """Write a block whose first pixel is at a row and a column.

        Parameters
        ----------
        change_YX : array of bool or uint8
            Where there is change, or the class of each pixel.
        score_YX : array of float32
            Score or probability, NaN where nothing can be said.
        row, column : int
            Place of the block.
        further : sequence of uint8 arrays
            Codes of the bands from 3 on, which say themselves where they are absent.
        """
        there_YX = np.isfinite(score_YX)
        class_YX = np.where(there_YX, change_YX, ABSENT)
        window = Window(column, row, score_YX.shape[1], score_YX.shape[0])
        self._file.write(class_YX.astype(np.float32), 1, window=window)
        self._file.write(score_YX.astype(np.float32), 2, window=window)
        for band, code_YX in enumerate(further, start=3):
            self._file.write(code_YX.astype(np.float32), band, window=window)
        self._file.write_mask(there_YX, window=window)


def change_map(
    path: Path, grid: MapGrid, method: str, score: str, what: str = "change"
) -> AbstractContextManager[ChangeMap]:
    """Write a change map; it appears under its name when it is whole.

    GeoTIFF has one type for all bands: classes are 0 and 1 in float32, as the scores are.

    Parameters
    ----------
    path : Path
        Of the GeoTIFF.
    grid : MapGrid
        Its place.
    method, score : str
        What made it and what band 2 holds, for the file's tags.
    what : str
        What class 1 is.

    Raises
    ------
    StoreError
        When it cannot be written.
    """
    first = f"{what} (1 = {what}, 0 = none, {ABSENT} = absent)"
    return class_map(path, grid, method, (first, score))


def _check_room(path: Path, grid: MapGrid, bands: int) -> None:
    """Raise where a disk may not hold a map: GDAL aborts the process where it comes to its end."""
    most = grid.width * grid.height * (4 * bands + 1) + HEADERS
    free = shutil.disk_usage(path.parent).free
    if free < most:
        raise StoreError(
            explain(
                f"cannot write {path}",
                expected=f"{most / 1e6:.1f} MB free on its disk",
                got=f"{free / 1e6:.1f} MB",
                do="Make room, or name another folder.",
            )
        )


@contextmanager
def class_map(path: Path, grid: MapGrid, method: str, bands: Sequence[str]) -> Iterator[ChangeMap]:
    """Write a map of any classes; as :func:`change_map`, but all bands are described by name.

    Parameters
    ----------
    path, grid, method
        As of :func:`change_map`.
    bands : sequence of str
        Descriptions: of the class, of the score or probability, and of further bands of codes.

    Raises
    ------
    StoreError
        When it cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _check_room(path, grid, len(bands))
        with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(
                part, "w", driver="GTiff", count=len(bands), dtype="float32", width=grid.width,
                height=grid.height, crs=grid.crs, transform=grid.transform, tiled=True,
                blockxsize=256, blockysize=256, compress="deflate", predictor=3, bigtiff="if_safer",
            ) as file:  # fmt: skip
                file.update_tags(METHOD=method)
                for band, said in enumerate(bands, start=1):
                    file.set_band_description(band, said)
                yield ChangeMap(file)
        os.replace(part, path)
    except (RasterioError, OSError) as err:
        raise StoreError(explain(f"cannot write {path}", got=" ".join(str(err).split()))) from None
    finally:
        with suppress(FileNotFoundError, NotADirectoryError):
            part.unlink()
