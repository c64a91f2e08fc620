"""Scenes to blocks on a tile's GeoBox. The only module that knows how pixels are fetched.

``Reader`` is the seam: the stages ask it for a mask or for bands of one scene, and get physical
values on exactly the pixels they named, whatever CRS and resolution the scene has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Protocol

import numpy as np
import rasterio
import requests
import stackstac
from numpy.typing import NDArray
from rasterio.dtypes import in_dtype_range
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from stackstac.rio_reader import AutoParallelRioReader, SingleThreadedRioDataset

from cdscale import kernels
from cdscale.errors import ReadError
from cdscale.grid import GeoBox
from cdscale.spec.scene import Asset, Scene

GDAL_OPTIONS = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_MAX_RETRY": "4",
    "GDAL_HTTP_RETRY_DELAY": "0.5",
    # GDAL waits for ever unless told otherwise.
    "GDAL_HTTP_TIMEOUT": "60",
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    "GDAL_CACHEMAX": 256,
}
TOKENS = "https://planetarycomputer.microsoft.com/api/sas/v1/token"
"""Where the Planetary Computer hands out tokens, one for each collection; they last some 45 min."""
TOKEN_SPARE = timedelta(minutes=5)
"""A token is not used when less than this is left of it."""
TOLERANCE = 1e-4
"""Pixels by which a warped place may be off. GDAL's own eighth of a pixel, interpolated over each
tile anew, is a seam between tiles; this costs no more, while 1e-9 takes five times as long."""
METRES_PER_DEGREE = 111_320.0
COARSER = 1.5
"""Pixels of the grid in one of the file from which on the kernel widens."""
REMOTE_THREADS = 8
"""Reading over a network waits; these many assets are asked for at once."""

_GONE = re.compile(
    r"No such file|does not exist|HTTP response code: (404|410)|not recognized as|"
    r"Permission denied|exactly 1 band",
    re.IGNORECASE,
)
_DAMAGED = re.compile(
    r"TIFFReadEncoded|TIFFFillTile|TIFFReadDirectory|ZIPDecode|LZWDecode|Decoding error",
    re.IGNORECASE,
)
"""Of a file on disk; what came over a network may merely have been cut short."""


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


class Tokens:
    """Tokens that let assets be read, fetched when needed and kept until shortly before they end.

    They live in this process only: stores, receipts and errors hold hrefs without them.

    Parameters
    ----------
    address : str
        Where they are handed out, by collection.
    """

    def __init__(self, address: str = TOKENS) -> None:
        self._address = address
        self._kept: dict[str, tuple[str, datetime]] = {}

    def sign(self, href: str, scene: Scene) -> str:
        """The href as it can be opened now.

        Raises
        ------
        ReadError
            When no token is to be had.
        """
        if scene.access.signing == "none":
            return href
        token, ends = self._kept.get(scene.collection, ("", datetime.min.replace(tzinfo=UTC)))
        if datetime.now(UTC) + TOKEN_SPARE >= ends:
            token, ends = self._fetch(scene)
            self._kept[scene.collection] = token, ends
        return f"{href}?{token}"

    def _fetch(self, scene: Scene) -> tuple[str, datetime]:
        try:
            answer = requests.get(f"{self._address}/{scene.collection}", timeout=30)
            answer.raise_for_status()
            said = answer.json()
            return str(said["token"]), datetime.fromisoformat(said["msft:expiry"]).astimezone(UTC)
        except (requests.RequestException, KeyError, TypeError, ValueError) as err:
            raise ReadError(
                f"scene {scene.id}: no token for {scene.collection} ({type(err).__name__})",
                permanent=False,
            ) from None


class StackstacReader:
    """Reads through stackstac, one scene at a time, warped straight onto the GeoBox.

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
        self, scene: Scene, assets: dict[str, Asset], geobox: GeoBox, resampling: Resampling
    ) -> NDArray[np.float32]:
        """Stored numbers as float32, NaN where the file has none."""
        remote = any("://" in asset.href for asset in assets.values())
        hrefs = {name: self._tokens.sign(a.href, scene) for name, a in assets.items()}
        nodata = {hrefs[name]: asset.nodata for name, asset in assets.items()}
        try:
            stack = stackstac.stack(
                [_item(scene, hrefs, geobox)],
                assets=list(assets),
                epsg=_code(geobox),
                resolution=abs(geobox.resolution.x),
                bounds=tuple(geobox.boundingbox),
                snap_bounds=False,
                dtype=np.dtype("float32"),
                fill_value=np.float32(np.nan),
                rescale=False,
                xy_coords=False,
                properties=False,
                band_coords=False,
                resampling=resampling,
                chunksize=max(geobox.shape),
                reader=partial(_Warped, nodata=nodata),
                gdal_env=stackstac.DEFAULT_GDAL_ENV.updated(always=GDAL_OPTIONS),
            )
            # Named here, not in dask's settings, which all threads of a worker share; and never
            # left to the worker's own client, to which a task would then send tasks.
            scheduler = "threads" if remote else "synchronous"
            raw = np.asarray(stack.data[0].compute(scheduler=scheduler, num_workers=REMOTE_THREADS))
        except (RuntimeError, RasterioError, OSError) as err:
            # Not chained: a traceback would show the query that the message leaves out.
            raise _read_error(scene, err, remote=remote) from None
        for values, asset in zip(raw, assets.values(), strict=True):
            if asset.nodata is not None:
                values[values == asset.nodata] = np.nan
        return raw


class _Warped(AutoParallelRioReader):  # type: ignore[misc]
    """stackstac's reader of one file, which also knows the no-data value that a file does not tag.

    Told only afterwards, it would already have been mixed into the pixels beside it: the dark rim
    of a swath. One chunk is read from each file, so one thread is enough.

    Parameters
    ----------
    nodata : mapping of str to float or None
        For each href what stands for no data where the file itself does not say.
    **reader
        What stackstac gives its readers.
    """

    def __init__(self, *, nodata: Mapping[str, float | None], **reader: Any) -> None:
        super().__init__(**reader)
        self._untagged = nodata[self.url]

    def _open(self) -> SingleThreadedRioDataset:
        with self.gdal_env.open:
            file = rasterio.open(self.url, sharing=False)
        if file.count != 1:
            file.close()
            raise RuntimeError(f"expected exactly 1 band, but {self.url} has {file.count}")
        nodata = file.nodata
        untagged = self._untagged
        if nodata is None and untagged is not None and in_dtype_range(untagged, file.dtypes[0]):
            nodata = untagged
        with self.gdal_env.open_vrt:
            warped = WarpedVRT(
                file,
                sharing=False,
                resampling=self.resampling,
                src_nodata=nodata,
                nodata=nodata,
                add_alpha=nodata is None,
                tolerance=TOLERANCE,
                **_kernel_scale(file, abs(self.spec.resolutions_xy[0])),
                **self.spec.vrt_params,
            )
        return SingleThreadedRioDataset(self.gdal_env, file, vrt=warped)


def _kernel_scale(file: rasterio.DatasetReader, resolution: float) -> dict[str, float]:
    """How far the resampling kernel reaches, from the two pixel sizes alone.

    Left to itself GDAL takes it from the window, and the same pixel then differs between tiles of
    different size. 1 is the plain kernel; less widens it where the grid is coarser than the file.
    """
    metres = file.res[0] * (METRES_PER_DEGREE if file.crs.is_geographic else 1.0)
    scale = metres / resolution if metres < resolution / COARSER else 1.0
    return {"XSCALE": scale, "YSCALE": scale}


def _item(scene: Scene, hrefs: dict[str, str], geobox: GeoBox) -> dict[str, Any]:
    """The scene as the STAC 1.0 item that stackstac reads.

    The window is always given by the GeoBox, so the item's own projection would only be used to
    decide what overlaps it: the plan has done that, by footprints.
    """
    box = geobox.boundingbox
    place = {"proj:epsg": _code(geobox), "proj:bbox": [box.left, box.bottom, box.right, box.top]}
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": scene.id,
        "geometry": None,
        "bbox": None,
        "properties": {"datetime": scene.start.isoformat(), **place},
        "assets": {name: {"href": href} for name, href in hrefs.items()},
    }


def _code(geobox: GeoBox) -> int:
    """The number that stackstac takes for a CRS; GDAL looks ESRI's up by number as well."""
    return int(str(geobox.crs).rpartition(":")[2])


def _read_error(scene: Scene, err: Exception, *, remote: bool) -> ReadError:
    reason = re.sub(r"\?[^'\" ]*", "", str(err))  # a query may hold a token
    # GDAL tells the cause itself only in the errors that lie beneath.
    causes: list[str] = []
    beneath: BaseException | None = err
    while beneath is not None:
        causes.append(str(beneath))
        beneath = beneath.__cause__ or beneath.__context__
    every = "\n".join(causes)
    permanent = bool(_GONE.search(every) or (not remote and _DAMAGED.search(every)))
    return ReadError(f"scene {scene.id}: {reason[:300]}", permanent=permanent)
