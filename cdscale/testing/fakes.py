"""The fakes that ship: made-up scenes, readers without files, small catalogues on disk.

Nothing but tests imports this module. A test states its pixels first, hands them to a
:class:`FakeReader` or writes them with :func:`write_item_collection`, and asks cdscale for what it
already knows.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
from numpy.typing import NDArray
from shapely.geometry import mapping

from cdscale.errors import ReadError
from cdscale.grid import LON_LAT, GeoBox, reproject
from cdscale.pixels import Reader
from cdscale.spec.scene import Asset, Scene

EVERYWHERE = "POLYGON ((-180 -90, 180 -90, 180 90, -180 90, -180 -90))"
SCL_CLEAR, SCL_CLOUD, SCL_NODATA = 4, 9, 0
"""Classes of the Sentinel-2 scene classification: vegetation, cloud, outside the swath."""


# --------------------------------------------------------------------------------------- scenes


def make_asset(href: str, *, offset: float = 0.0, nodata: float | None = None) -> Asset:
    """A band whose numbers are physical values."""
    return Asset(
        href=href, crs="", transform=None, shape=None, scale=1.0, offset=offset, nodata=nodata
    )


def make_scene(
    id: str,
    *,
    sensor: Literal["s1", "s2"] = "s2",
    when: str = "2020-06-15T10:00:00+00:00",
    bands: Iterable[str] = ("B02", "B03"),
    footprint: str = EVERYWHERE,
    orbit: str = "",
) -> Scene:
    """A scene that no catalogue holds; change more of it with ``model_copy(update=...)``.

    An optical scene has a mask in the manner of the scene classification. The hrefs lead nowhere.
    """
    optical = sensor == "s2"
    moment = datetime.fromisoformat(when)
    return Scene(
        id=id,
        collection=sensor,
        sensor=sensor,
        unit="reflectance" if optical else "power",
        start=moment,
        end=moment,
        orbit=orbit,
        footprint=footprint,
        assets={band: make_asset(f"nowhere/{id}/{band}.tif") for band in bands},
        mask=make_asset(f"nowhere/{id}/mask.tif") if optical else None,
        mask_clear=(SCL_CLEAR,) if optical else (),
        mask_nodata=(SCL_NODATA,) if optical else (),
    )


# -------------------------------------------------------------------------------------- readers


@dataclass(frozen=True)
class ScenePixels:
    """What one made-up scene shows on the GeoBox of its reader."""

    bands: Mapping[str, NDArray[np.float32]]
    """Physical values, (y, x), NaN where there is nothing."""
    mask: NDArray[np.uint8] | None = None
    """Classes, (y, x)."""
    cloud: NDArray[np.uint8] | None = None
    """Probability of cloud, percent, (y, x)."""


@dataclass
class FakeReader:
    """A reader that cuts its pixels from arrays: no files, no warping.

    Parameters
    ----------
    geobox : GeoBox
        Where the arrays lie. What is asked for must lie on the same pixels; beyond the arrays
        there is nothing.
    scenes : mapping of str to ScenePixels
        By the id of the scene.
    """

    geobox: GeoBox
    scenes: Mapping[str, ScenePixels]
    calls: list[tuple[str, str]] = field(default_factory=list)
    """What was asked for: id of the scene, and ``mask`` or its bands joined by commas."""

    def mask(self, scene: Scene, geobox: GeoBox) -> NDArray[np.uint8]:
        """See :class:`cdscale.pixels.Reader`."""
        self.calls.append((scene.id, "mask"))
        classes = self.scenes[scene.id].mask
        if classes is None:
            raise ReadError(f"scene {scene.id} has no mask", permanent=True)
        return self._cut(classes, geobox, scene.mask_nodata[0])

    def cloud(self, scene: Scene, geobox: GeoBox) -> NDArray[np.uint8]:
        """See :class:`cdscale.pixels.Reader`."""
        self.calls.append((scene.id, "cloud"))
        percent = self.scenes[scene.id].cloud
        if percent is None:
            raise ReadError(f"scene {scene.id} has no probability of cloud", permanent=True)
        return self._cut(percent, geobox, 255)

    def bands(self, scene: Scene, names: tuple[str, ...], geobox: GeoBox) -> NDArray[np.float32]:
        """See :class:`cdscale.pixels.Reader`."""
        self.calls.append((scene.id, ",".join(names)))
        shown = self.scenes[scene.id].bands
        return np.stack([self._cut(shown[name], geobox, np.nan) for name in names])

    def _cut(self, values: NDArray[Any], geobox: GeoBox, fill: float) -> NDArray[Any]:
        column, row = (~self.geobox.affine) * (geobox.affine.c, geobox.affine.f)
        top, left = round(row), round(column)
        same = geobox.crs == self.geobox.crs and geobox.resolution == self.geobox.resolution
        if not same or abs(row - top) > 1e-6 or abs(column - left) > 1e-6:
            raise ValueError("a FakeReader does not resample: ask on the pixels of its geobox")
        height, width = geobox.shape
        rows, columns = np.arange(top, top + height), np.arange(left, left + width)
        inside = np.ix_(
            (rows >= 0) & (rows < values.shape[0]), (columns >= 0) & (columns < values.shape[1])
        )
        cut = np.full((height, width), fill, values.dtype)
        cut[inside] = values[
            max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)
        ]
        return cut


@dataclass
class FailingReader:
    """A reader that fails on purpose, and else does what another one does.

    Parameters
    ----------
    reader : Reader
        The one that works.
    scenes : collection of str
        Ids of scenes that fail.
    every : int
        Each so-manieth call fails as well; 0: none.
    permanent : bool
        What the error says about trying again.
    bands_only : bool
        Masks of these scenes are read all the same.
    """

    reader: Reader
    scenes: Collection[str] = ()
    every: int = 0
    permanent: bool = True
    bands_only: bool = False
    count: int = 0
    """Calls so far."""

    def mask(self, scene: Scene, geobox: GeoBox) -> NDArray[np.uint8]:
        """See :class:`cdscale.pixels.Reader`."""
        self._fail(scene, spared=self.bands_only)
        return self.reader.mask(scene, geobox)

    def cloud(self, scene: Scene, geobox: GeoBox) -> NDArray[np.uint8]:
        """See :class:`cdscale.pixels.Reader`."""
        self._fail(scene, spared=self.bands_only)
        return self.reader.cloud(scene, geobox)

    def bands(self, scene: Scene, names: tuple[str, ...], geobox: GeoBox) -> NDArray[np.float32]:
        """See :class:`cdscale.pixels.Reader`."""
        self._fail(scene, spared=False)
        return self.reader.bands(scene, names, geobox)

    def _fail(self, scene: Scene, *, spared: bool) -> None:
        self.count += 1
        turn = self.every and self.count % self.every == 0
        if turn or (scene.id in self.scenes and not spared):
            raise ReadError(f"scene {scene.id}: told to fail", permanent=self.permanent)


# ----------------------------------------------------------------------------------- catalogues


def write_cog(
    path: Path, values: NDArray[Any], geobox: GeoBox, *, nodata: float | None = None
) -> None:
    """One band as a small cloud-optimised GeoTIFF; without ``nodata`` it carries no such tag."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = values.shape
    with rasterio.open(
        path,
        "w",
        driver="COG",
        height=height,
        width=width,
        count=1,
        dtype=values.dtype,
        crs=str(geobox.crs),
        transform=geobox.affine,
        nodata=nodata,
        overviews="NONE",
    ) as file:
        file.write(values, 1)


@dataclass(frozen=True)
class MadeItem:
    """One item of a made-up catalogue, and the pixels of its assets."""

    id: str
    collection: str
    when: str
    geobox: GeoBox
    """Of every asset; one with fewer pixels has larger ones over the same ground."""
    assets: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """Stored numbers, (y, x), by asset key."""
    properties: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self, folder: Path) -> dict[str, Any]:
        """Write the assets under a folder; the item as STAC 1.0, hrefs relative to the folder."""
        assets = {}
        for key, values in self.assets.items():
            href = f"{self.id}/{key}.tif"
            box = self.geobox.zoom_to(values.shape)
            write_cog(folder / href, values, box)
            assets[key] = {"href": f"./{href}", "proj:shape": list(values.shape)}
        outline = reproject(
            self.geobox.extent.geom, str(self.geobox.crs), LON_LAT, resolution=1_000
        )
        return {
            "type": "Feature",
            "stac_version": "1.0.0",
            "id": self.id,
            "collection": self.collection,
            "geometry": mapping(outline),
            "bbox": list(outline.bounds),
            "links": [],
            "assets": assets,
            "properties": {"datetime": self.when, **self.properties},
        }


def write_item_collection(folder: Path, items: Iterable[MadeItem]) -> Path:
    """A catalogue in one file, with COGs beside it; returns the file's path."""
    folder.mkdir(parents=True, exist_ok=True)
    features = [item.as_json(folder) for item in items]
    return _write(folder / "items.json", {"type": "FeatureCollection", "features": features})


def write_catalogue(folder: Path, items: Iterable[MadeItem]) -> Path:
    """A static catalogue with a folder for each collection; returns the path of its root."""
    collections: dict[str, list[str]] = {}
    for item in items:
        home = folder / item.collection
        _write(home / f"{item.id}.json", item.as_json(home))
        collections.setdefault(item.collection, []).append(item.id)
    for name, members in collections.items():
        links = [{"rel": "item", "href": f"./{member}.json"} for member in members]
        head = {"type": "Collection", "stac_version": "1.0.0", "id": name}
        _write(folder / name / "collection.json", {**head, "links": links})
    links = [{"rel": "child", "href": f"./{name}/collection.json"} for name in collections]
    head = {"type": "Catalog", "stac_version": "1.0.0", "id": "made-up", "description": "made up"}
    return _write(folder / "catalog.json", {**head, "links": links})


def _write(path: Path, value: Mapping[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path
