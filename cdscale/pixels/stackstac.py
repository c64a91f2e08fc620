"""``StackstacReader``: stackstac lays scenes onto the grid, each file through GDAL's warped VRT."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import rasterio
import stackstac
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from cdscale.grid import GeoBox
from cdscale.pixels.access import Source, Target, remote_pool
from cdscale.pixels.faults import persist
from cdscale.pixels.files import (
    check_blocks,
    in_memory,
    nodata_of,
    pixel_ratio,
    place_of,
    reach_of,
    window_of,
    worth_fetching,
)
from cdscale.pixels.reader import AssetReader
from cdscale.pixels.tokens import Tokens

TOLERANCE = 1e-4
"""Pixels by which a warped place may be off. GDAL's own eighth of a pixel, interpolated over each
tile anew, is a seam between tiles; this costs no more, while 1e-9 takes five times as long."""
COARSER = 1.5
"""Pixels of the grid in one of the file from which on the kernel widens."""
PLACEHOLDER = 3857
"""The number that stackstac is given where a CRS has none; only ``_File`` acts on the CRS."""


class StackstacReader(AssetReader):
    """Reads through stackstac, one scene at a time, warped straight onto the GeoBox.

    Values are what GDAL's warp makes of them in the type of the file: integers stay integers.
    """

    def _warp(
        self, sources: Mapping[str, Source], geobox: GeoBox, resampling: Resampling
    ) -> NDArray[np.float32]:
        reader: Any = _Files(sources, self._tokens, geobox, resampling)
        stack = stackstac.stack(
            [_item(sources, geobox)],
            assets=list(sources),
            epsg=_code(geobox),
            resolution=(abs(geobox.resolution.x), abs(geobox.resolution.y)),
            bounds=tuple(geobox.boundingbox),
            snap_bounds=False,
            dtype=np.dtype("float32"),
            fill_value=np.float32(np.nan),
            rescale=False,
            xy_coords=False,
            properties=False,
            band_coords=False,
            chunksize=max(geobox.shape),
            reader=reader,
        )
        # Named here, not in dask's settings, which all threads of a worker share; and never left
        # to the worker's own client, to which a task would then send tasks.
        if any(source.remote for source in sources.values()):
            done = stack.data.compute(scheduler="threads", pool=remote_pool())
        else:
            done = stack.data.compute(scheduler="synchronous")
        values: NDArray[np.float32] = np.asarray(done)[0]
        return values


@dataclass(frozen=True, eq=False)
class _Files:
    """The files of one read: what stackstac takes for the class of its readers."""

    sources: Mapping[str, Source]
    """By the name of the asset."""
    tokens: Tokens
    geobox: GeoBox
    """The whole of what is read."""
    method: Resampling

    def __call__(self, *, url: str, **_: Any) -> _File:
        """The reader of one file. The GeoBox says all else that stackstac gives its readers."""
        return _File(self, self.sources[url])

    def __dask_tokenize__(self) -> str:
        # A graph is computed once and thrown away: no need to look into scenes for its name.
        return str(id(self))


class _File:
    """One file, as stackstac's graph asks for it: a window of the grid, once.

    stackstac's own reader of files knows neither files without a no-data tag, nor CRSs without a
    number, nor faults.
    """

    def __init__(self, files: _Files, source: Source) -> None:
        self._tokens = files.tokens
        self._geobox = files.geobox
        self._method = files.method
        self._source = source

    def read(self, window: Window) -> NDArray[np.float32]:
        """Numbers of the file, NaN where it has none."""
        return persist(self._source, self._tokens, partial(self._read, window))

    def _read(
        self,
        window: Window,
        target: Target,
        file: rasterio.DatasetReader,
    ) -> NDArray[np.float32]:
        values = np.full((int(window.height), int(window.width)), np.nan, np.float32)
        needed = window_of(file, self._geobox)
        if needed is None:
            return values
        check_blocks(file, needed, target)
        place = place_of(file, self._geobox)
        if place is not None:
            self._cut_into(values, file, *place)
        elif self._source.remote and worth_fetching(file, needed):
            with in_memory(file, needed) as near:
                self._warp_into(values, near)
        else:
            self._warp_into(values, file)
        return values

    def _cut_into(
        self, values: NDArray[np.float32], file: rasterio.DatasetReader, row: int, column: int
    ) -> None:
        height, width = values.shape
        top, left = max(0, -row), max(0, -column)
        bottom, right = min(height, file.height - row), min(width, file.width - column)
        if top >= bottom or left >= right:
            return
        window = Window(column + left, row + top, right - left, bottom - top)
        got = file.read(1, window=window)
        nodata = nodata_of(file, self._source.asset)
        values[top:bottom, left:right] = got
        if nodata is not None:
            values[top:bottom, left:right][got == got.dtype.type(nodata)] = np.nan

    def _warp_into(self, values: NDArray[np.float32], file: rasterio.DatasetReader) -> None:
        reach = reach_of(file, self._geobox)
        if not reach.width:
            return
        height, width = self._geobox.shape
        nodata = nodata_of(file, self._source.asset)
        with WarpedVRT(
            file,
            crs=str(self._geobox.crs),
            transform=self._geobox.affine,
            width=width,
            height=height,
            sharing=False,
            resampling=self._method,
            src_nodata=nodata,
            nodata=nodata,
            add_alpha=nodata is None,
            tolerance=TOLERANCE,
            **_kernel_scale(file, self._geobox),
        ) as warped:
            got = warped.read(window=reach, out_dtype=np.float32, masked=True)
        # Two layers are values and alpha: what the file covers.
        numbers = got[0].filled(np.nan)
        if len(got) == 2:
            numbers = np.where(got.data[1] == 0, np.float32(np.nan), got.data[0])
        rows, columns = reach.toslices()
        values[rows, columns] = numbers


def _kernel_scale(file: rasterio.DatasetReader, geobox: GeoBox) -> dict[str, float]:
    """How far the resampling kernel reaches, from the two pixel sizes alone.

    Left to itself GDAL takes it from the window, and the same pixel then differs between tiles of
    different size. 1 is the plain kernel; less widens it where the grid is coarser than the file.
    """
    ratio = pixel_ratio(file, geobox)
    scale = ratio if ratio < 1 / COARSER else 1.0
    return {"XSCALE": scale, "YSCALE": scale}


def _item(sources: Mapping[str, Source], geobox: GeoBox) -> dict[str, Any]:
    """The scene as the STAC 1.0 item that stackstac reads.

    The window is always given by the GeoBox, so the item's own projection would only be used to
    decide what overlaps it: the plan has done that, by footprints. Its hrefs are names of assets:
    no address enters a graph.
    """
    scene = next(iter(sources.values())).scene
    box = geobox.boundingbox
    place = {"proj:epsg": _code(geobox), "proj:bbox": [box.left, box.bottom, box.right, box.top]}
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": scene.id,
        "geometry": None,
        "bbox": None,
        "properties": {"datetime": scene.start.isoformat(), **place},
        "assets": {name: {"href": name} for name in sources},
    }


def _code(geobox: GeoBox) -> int:
    """A number for a CRS, so that stackstac has one."""
    digits = str(geobox.crs).rpartition(":")[2]
    return int(digits) if digits.isdigit() else PLACEHOLDER
