"""Write a simulated region to disk, and tell the truth about it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from cdscale.errors import SpecError, explain
from cdscale.simulate import stac
from cdscale.simulate.files import write_cog, write_json
from cdscale.simulate.landscape import CELL_M, Landscape, Mixture, landscape
from cdscale.simulate.noise import Floats
from cdscale.simulate.region import Region, europe_metres, raster_of
from cdscale.simulate.sensors import View, optical, radar
from cdscale.simulate.weather import Pass, covers, passes, sky

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

VERSION = 2
"""Counts the changes of the simulation that make other pixels from the same parameters."""
_MARK = "region.json"
_BEGUN = "region.json.part"

Item = dict[str, Any]


@lru_cache(maxsize=2)
def _land(region: Region) -> Landscape:
    return landscape(region)


def truth(region: Region, geobox: GeoBox | None = None) -> xr.Dataset:
    """What is really there: built-up share by month, and the month of change.

    Parameters
    ----------
    region : Region
        The region.
    geobox : GeoBox, optional
        Pixels on which to give it, in any CRS with metres; by default the region's own pixels of
        10 m. Pixels outside of the region repeat what is at its rim, within some hundred metres.

    Returns
    -------
    Dataset
        ``built_up_fraction`` (month, y, x), float32, in whole percents as shares of 1, and
        ``change_month`` (y, x), int32: days from 1970-01-01 to the first day of the month in which
        a pixel that began below 0.5 first reaches 0.5; -1 where none does.
    """
    if geobox is None:
        own = region.raster
        affine, shape, crs = own.affine, own.shape, own.crs
    else:
        affine, shape, crs = raster_of(geobox)
    percent = _percent(region, _mixture(region, europe_metres(affine, shape, crs), affine.a))
    percent = percent.reshape(len(region.months), *shape)
    rows, columns = np.arange(shape[0]) + 0.5, np.arange(shape[1]) + 0.5
    return xr.Dataset(
        {
            "built_up_fraction": (("month", "y", "x"), (percent / 100).astype(np.float32)),
            "change_month": (("y", "x"), _change(region, percent)),
        },
        coords={
            "month": region.months.to_numpy(),
            "y": affine.f + affine.e * rows,
            "x": affine.c + affine.a * columns,
        },
        attrs={"title": "Truth of a simulated region", "crs": crs},
    )


def _mixture(region: Region, metres: tuple[Floats, Floats], resolution: float) -> Mixture:
    """Mean over the area of each pixel: exact on the continental grid, whose cells it holds."""
    per_side = max(1, round(resolution / CELL_M))
    kernel = np.full((per_side, per_side), 1.0 / per_side**2)
    return _land(region).mixture(*metres, kernel, CELL_M)


def _percent(region: Region, mixture: Mixture) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Built-up share in whole percents, shape (month, pixel)."""
    units, first = _land(region).units, region.months.first
    shares = [mixture.built_up(units.standing(month - first)) for month in region.months]
    return np.rint(np.stack(shares) * 100).clip(0, 100).astype(np.uint8)


def _change(
    region: Region, percent: np.ndarray[Any, np.dtype[np.uint8]]
) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Days to the month of change, -1 for none; from percents of shape (month, y, x)."""
    built = percent >= 50
    days = region.months.to_numpy().astype("datetime64[D]").astype(np.int32)
    changed = ~built[0] & built.any(axis=0)
    return np.where(changed, days[built.argmax(axis=0)], -1).astype(np.int32)


def write(region: Region, folder: str | Path) -> Path:
    """Write a region as a static STAC catalogue of COGs, with the truth beside it.

    The same region gives the same bytes. A folder that holds it already is left alone; one in
    which writing was cut short is written again.

    Parameters
    ----------
    region : Region
        What to write.
    folder : path
        Made if need be.

    Returns
    -------
    Path
        The ``catalog.json``.

    Raises
    ------
    SpecError
        When the folder holds something else.
    """
    root = Path(folder)
    wanted = {"simulated": True, "version": VERSION, **region.parameters()}
    if _complete(root, wanted):
        return root / "catalog.json"
    write_json(root / _BEGUN, wanted)
    _write_truth(region, root)
    _write_scenes(region, root)
    write_json(root / "area.geojson", region.area())
    write_json(root / "catalog.json", stac.catalogue(region))
    # Last, and in one step: its presence says that everything else is there.
    write_json(root / _BEGUN, wanted | {"files": _count(root)})
    (root / _BEGUN).replace(root / _MARK)
    return root / "catalog.json"


def _count(root: Path) -> int:
    """Files that belong to the region; users may keep others beside them."""
    parts = (stac.S2, stac.S1, "truth")
    inside = sum(1 for part in parts for path in (root / part).rglob("*.*") if path.is_file())
    return inside + sum((root / name).is_file() for name in ("catalog.json", "area.geojson"))


def _complete(root: Path, wanted: dict[str, Any]) -> bool:
    """Whether the folder holds the region; False where it may be written.

    Raises
    ------
    SpecError
        Where it may not.
    """
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    found = _parameters(root / _MARK) or _parameters(root / _BEGUN)
    if found is None or {k: v for k, v in found.items() if k != "files"} != wanted:
        raise SpecError(
            explain(
                f"{root} is not free for this simulated region",
                expected=f"an empty folder, or one with {json.dumps(wanted)}",
                got="other files" if found is None else json.dumps(found),
                do="Name another folder, or empty this one.",
            )
        )
    return found.get("files") == _count(root)


def _parameters(path: Path) -> dict[str, Any] | None:
    """Parameters of the region that a folder holds; None where there is no such file."""
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {"unreadable": path.name}
    return data if isinstance(data, dict) else {"unreadable": path.name}


def _write_truth(region: Region, root: Path) -> None:
    data = truth(region)
    raster = region.raster
    for month, share in zip(region.months, data["built_up_fraction"].to_numpy(), strict=True):
        percent = np.rint(share * 100).astype(np.uint8)
        write_cog(root / f"truth/built_up_fraction_{month}.tif", percent, raster, None)
    change = data["change_month"].to_numpy()
    write_cog(root / "truth/change_month.tif", change, raster, None)


@dataclass(frozen=True)
class _Writer:
    """Everything that the scenes of one region share."""

    region: Region
    root: Path
    optics: dict[int, View]
    radars: dict[bool, View]
    covers: dict[Pass, float]

    def write(self, when: Pass) -> list[Item]:
        """Write the scenes of one pass; one item for each zone that it shows."""
        return self._s2(when) if when.mission == "sentinel-2" else [self._s1(when)]

    def _s2(self, when: Pass) -> list[Item]:
        above = sky(self.region, when, self.covers[when])
        items = []
        for epsg, view in self.optics.items():
            scene = optical(view, when, above)
            if not scene.scl.any():
                continue
            tile = stac.mgrs_tile(self.region, epsg)
            item = stac.s2_item(self.region, when, view.raster, scene.scl, tile)
            self._save(stac.S2, item, {**scene.bands, "SCL": scene.scl}, view, 0)
            items.append(item)
        return items

    def _s1(self, when: Pass) -> Item:
        view = self.radars[when.ascending]
        scene = radar(view, when)
        item = stac.s1_item(self.region, when, view.raster)
        self._save(stac.S1, item, {"vv": scene.vv, "vh": scene.vh}, view, -32768)
        return item

    def _save(
        self, name: str, item: Item, layers: dict[str, Any], view: View, nodata: float
    ) -> None:
        items = self.root / name / "items"
        for key, pixels in layers.items():
            raster = view.raster if pixels.shape == view.raster.shape else view.raster.coarser()
            write_cog(items / item["assets"][key]["href"], pixels, raster, nodata)
        write_json(items / f"{item['id']}.json", item)


def _writer(region: Region, root: Path, together: Callable[..., Any]) -> _Writer:
    land = _land(region)
    sides = [(epsg, region.zone_side(epsg)) for epsg in region.zones]
    optic = [(epsg, raster) for epsg, raster in sides if raster is not None]
    # Radar scenes cover the region whole, in the zone where their orbit's frame has its centre.
    whole = [region.zone_raster(epsg) for epsg in region.zones]
    rasters = [*(raster for _, raster in optic), *whole]
    views = list(together(lambda raster: View.of(region, land, raster), rasters))
    return _Writer(
        region,
        root,
        dict(zip((epsg for epsg, _ in optic), views, strict=False)),
        {False: views[-2], True: views[-1]},
        covers(region, passes(region)),
    )


def _write_scenes(region: Region, root: Path) -> None:
    # Threads do: numpy, scipy and GDAL all let go of the interpreter while they work.
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        writer = _writer(region, root, pool.map)
        items = [item for some in pool.map(writer.write, passes(region)) for item in some]
    for name in (stac.S2, stac.S1):
        mine = [item for item in items if item["collection"] == name]
        if mine:
            write_json(root / name / "collection.json", stac.collection(name, mine))
