"""``Reader``: the seam between the stages and the libraries that fetch pixels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling

from cdscale import kernels
from cdscale.errors import ReadError
from cdscale.grid import GeoBox
from cdscale.pixels.access import Source
from cdscale.pixels.tokens import Tokens
from cdscale.spec.scene import Asset, Scene


class Reader(Protocol):
    """Where pixels come from."""

    def mask(self, scene: Scene, geobox: GeoBox) -> NDArray[np.uint8]:
        """Classes of the scene's mask, (y, x), nearest neighbour; the first no-data class outside.

        Raises
        ------
        ReadError
            When they do not come.
        """
        ...

    def cloud(self, scene: Scene, geobox: GeoBox) -> NDArray[np.uint8]:
        """Probability of cloud in percent, (y, x), nearest neighbour; 255 where there is none.

        Raises
        ------
        ReadError
            When it does not come.
        """
        ...

    def bands(self, scene: Scene, names: tuple[str, ...], geobox: GeoBox) -> NDArray[np.float32]:
        """Reflectance or linear power, (band, y, x), NaN outside the scene.

        Raises
        ------
        ReadError
            When they do not come.
        """
        ...


class AssetReader(ABC):
    """What the readers have in common: assets to physical values. May be used by many threads.

    Parameters
    ----------
    tokens : Tokens, optional
        Signs what must be signed to be read.
    """

    def __init__(self, tokens: Tokens | None = None) -> None:
        self._tokens = tokens or Tokens()

    def mask(self, scene: Scene, geobox: GeoBox) -> NDArray[np.uint8]:
        """See :class:`Reader`."""
        if scene.mask is None:
            raise ReadError(f"scene {scene.id} has no mask", permanent=True)
        raw = self._read(scene, {"mask": scene.mask}, geobox, Resampling.nearest)
        return np.where(np.isnan(raw[0]), scene.mask_nodata[0], raw[0]).astype(np.uint8)

    def cloud(self, scene: Scene, geobox: GeoBox) -> NDArray[np.uint8]:
        """See :class:`Reader`."""
        if scene.cloud is None:
            raise ReadError(f"scene {scene.id} has no probability of cloud", permanent=True)
        raw = self._read(scene, {"cloud": scene.cloud}, geobox, Resampling.nearest)
        percent = np.clip(raw[0] * np.float32(scene.cloud.scale), 0, 100)
        return np.where(np.isnan(percent), 255, percent).astype(np.uint8)

    def bands(self, scene: Scene, names: tuple[str, ...], geobox: GeoBox) -> NDArray[np.float32]:
        """See :class:`Reader`."""
        assets = {name: scene.assets[name] for name in names}
        values = self._read(scene, assets, geobox, Resampling.bilinear)
        for value, asset in zip(values, assets.values(), strict=True):
            value *= np.float32(asset.scale)
            value += np.float32(asset.offset)
        return kernels.to_power(values) if scene.unit == "dB" else values

    def _read(
        self, scene: Scene, assets: Mapping[str, Asset], geobox: GeoBox, resampling: Resampling
    ) -> NDArray[np.float32]:
        """Stored numbers as float32, (asset, y, x), NaN where the file has none."""
        sources = {name: Source(scene, name, asset) for name, asset in assets.items()}
        raw = self._warp(sources, geobox, resampling)
        for values, asset in zip(raw, assets.values(), strict=True):
            if asset.nodata is not None:
                values[values == asset.nodata] = np.nan
        return raw

    @abstractmethod
    def _warp(
        self, sources: Mapping[str, Source], geobox: GeoBox, resampling: Resampling
    ) -> NDArray[np.float32]:
        """Stored numbers of each source on the GeoBox; NaN where its file says no data."""
