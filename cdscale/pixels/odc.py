"""``OdcReader``: the loader of odc-stac lays scenes onto the grid, through GDAL's plain warp."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import UTC
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.loader import (
    RasterBandMetadata,
    RasterGroupMetadata,
    RasterLoadParams,
    RasterSource,
    RioDriver,
    RioReader,
    chunked_load,
)
from rasterio.enums import Resampling

from cdscale.grid import GeoBox, GeoboxTiles
from cdscale.pixels.access import Source, Target, remote_pool
from cdscale.pixels.faults import persist
from cdscale.pixels.files import check_blocks, in_memory, nodata_of, window_of
from cdscale.pixels.reader import AssetReader
from cdscale.pixels.tokens import Tokens


class OdcReader(AssetReader):
    """Reads through the loader that odc-stac stands on, one scene at a time.

    Overviews are left alone: what is averaged is averaged from the pixels themselves. Where pixels
    lie on those of the file they are its own. Else values are interpolated in floating point, at
    places that GDAL may have off by an eighth of a pixel of the file. From UTM to Europe's grid it
    was 0.06, and by as much two tiles did not meet (with stackstac: 0.0001). Over a network the
    places depend on the part of the file that was fetched as well, within the same bound.
    """

    def _warp(
        self, sources: Mapping[str, Source], geobox: GeoBox, resampling: Resampling
    ) -> NDArray[np.float32]:
        first = next(iter(sources.values()))
        config = {
            name: RasterLoadParams(
                dtype="float32",
                fill_value=float("nan"),
                use_overviews=False,
                resampling=resampling.name,
            )
            for name in sources
        }
        bands = {(name, 1): RasterBandMetadata("float32", float("nan")) for name in sources}
        driver = _Driver(sources, self._tokens)
        pool: Any = _Lent() if any(source.remote for source in sources.values()) else None
        loaded = chunked_load(
            config,
            RasterGroupMetadata(bands=bands),
            [{name: RasterSource(name) for name in sources}],
            {(0, 0, 0): [0]},
            GeoboxTiles(geobox, geobox.shape),
            [first.scene.start.astimezone(UTC).replace(tzinfo=None)],
            driver.capture_env(),
            driver,
            pool=pool,
        )
        return np.stack([loaded[name].values[0] for name in sources])


class _Lent:
    """The process's threads, as the loader asks for them; it would else close them after use."""

    def __enter__(self) -> ThreadPoolExecutor:
        return remote_pool()

    def __exit__(self, *_: object) -> None:
        pass


class _Driver(RioDriver):
    """odc-stac's way to files, with what it does not know: faults, tokens, untagged no-data."""

    def __init__(self, sources: Mapping[str, Source], tokens: Tokens) -> None:
        super().__init__()
        self._sources = sources
        self._tokens = tokens

    def capture_env(self) -> dict[str, Any]:
        """Nothing: each file is opened under settings of its own."""
        return {}

    def open(self, src: RasterSource, ctx: Any) -> _File:
        """The file of one asset; its address is the asset's name."""
        return _File(src, ctx, self._sources[src.uri], self._tokens)


class _File(RioReader):
    """One file, as the loader asks for it."""

    def __init__(self, named: RasterSource, context: Any, source: Source, tokens: Tokens) -> None:
        super().__init__(named, context)
        self._source = source
        self._tokens = tokens
        self._context = context

    def read(
        self, cfg: RasterLoadParams, dst_geobox: GeoBox, **more: Any
    ) -> tuple[tuple[slice, slice], NDArray[np.float32]]:
        """Where the file falls on the GeoBox, and its numbers there."""

        def once(
            target: Target, file: rasterio.DatasetReader
        ) -> tuple[tuple[slice, slice], NDArray[np.float32]]:
            needed = window_of(file, dst_geobox)
            if needed is None:
                return np.s_[0:0, 0:0], np.empty((0, 0), np.float32)
            check_blocks(file, needed, target)
            told = cfg.patch(src_nodata_fallback=nodata_of(file, self._source.asset))
            # The loader opens files by name. Over a network a second answer may differ from the
            # one that was checked: what it gets is a copy.
            with in_memory(file, needed) if self._source.remote else nullcontext(file) as near:
                reader = RioReader(RasterSource(near.name), self._context)
                return reader.read(told, dst_geobox, **more)

        return persist(self._source, self._tokens, once)
