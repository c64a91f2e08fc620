"""STAC documents of a simulated region, laid out like those of the Planetary Computer."""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry import box

from cdscale.grid import LON_LAT, project, reproject
from cdscale.simulate.region import CRS, Raster, Region
from cdscale.simulate.sensors import FINE, offset_of
from cdscale.simulate.weather import Pass, sun

S2, S1 = "sentinel-2-l2a", "sentinel-1-rtc"
_VERSION = "1.0.0"
_SCHEMA = "https://stac-extensions.github.io/{}/schema.json"
_COG = "image/tiff; application=geotiff; profile=cloud-optimized"


class _Band(NamedTuple):
    title: str
    common: str
    centre: float
    width: float
    """Micrometres, as the Planetary Computer states them."""


_BANDS = {
    "B02": _Band("Band 2 - Blue", "blue", 0.49, 0.098),
    "B03": _Band("Band 3 - Green", "green", 0.56, 0.045),
    "B04": _Band("Band 4 - Red", "red", 0.665, 0.038),
    "B05": _Band("Band 5 - Vegetation red edge 1", "rededge", 0.704, 0.019),
    "B06": _Band("Band 6 - Vegetation red edge 2", "rededge", 0.74, 0.018),
    "B07": _Band("Band 7 - Vegetation red edge 3", "rededge", 0.783, 0.028),
    "B08": _Band("Band 8 - NIR", "nir", 0.842, 0.145),
    "B8A": _Band("Band 8A - Vegetation red edge 4", "rededge", 0.865, 0.033),
    "B11": _Band("Band 11 - SWIR (1.6)", "swir16", 1.61, 0.143),
    "B12": _Band("Band 12 - SWIR (2.2)", "swir22", 2.19, 0.242),
}
_TITLES = {S2: "Sentinel-2 Level-2A, simulated", S1: "Sentinel-1 RTC backscatter, simulated"}
_TEXTS = {
    S2: "SIMULATED, not measured: surface reflectance x 10000 (uint16, nodata 0) and scene "
    "classification in the layout of the Planetary Computer's sentinel-2-l2a. Scenes of processing "
    "baseline 04.00 (from 2022-01-25 on) carry +1000 in every DN; only s2:processing_baseline "
    "tells.",
    S1: "SIMULATED, not measured: gamma naught, linear power (float32, nodata -32768), in the "
    "layout of the Planetary Computer's sentinel-1-rtc.",
}


def mgrs_tile(region: Region, epsg: int) -> str:
    """Name of the 100 km square of a UTM zone that holds the region's centre, like ``32UQB``."""
    zone = epsg - 32600
    east, north = project(region.centre_lon, region.centre_lat, f"EPSG:{epsg}")
    columns = ("STUVWXYZ", "ABCDEFGH", "JKLMNPQR")[zone % 3]
    rows = "ABCDEFGHJKLMNPQRSTUV"
    row = rows[(int(north // 100_000) + (0 if zone % 2 else 5)) % 20]
    belt = "CDEFGHJKLMNPQRSTUVWX"[int(region.centre_lat + 80) // 8]
    return f"{zone}{belt}{columns[int(east // 100_000) - 1]}{row}"


def s2_id(when: Pass, tile: str) -> str:
    """Item id in the manner of the Planetary Computer."""
    stamp = f"{when.moment:%Y%m%dT%H%M%S}"
    return f"S2{when.platform}_MSIL2A_{stamp}_R{when.orbit:03d}_T{tile}_{when.moment:%Y%m%d}T180000"


def s1_id(when: Pass) -> str:
    """Item id in the manner of the Planetary Computer."""
    stamp = f"{when.moment:%Y%m%dT%H%M%S}"
    return f"S1{when.platform}_IW_GRDH_1SDV_{stamp}_R{when.orbit:03d}_simulated_rtc"


def s2_item(
    region: Region, when: Pass, raster: Raster, scl: npt.NDArray[np.uint8], tile: str
) -> dict[str, Any]:
    """STAC item of one optical scene in one zone."""
    name = s2_id(when, tile)
    light = sun(when.moment, region.centre_lat)
    seen = max(int((scl > 0).sum()), 1)

    def percent(*classes: int) -> float:
        return round(100 * float(np.isin(scl, classes).sum()) / seen, 4)

    properties = {
        "platform": f"Sentinel-2{when.platform}",
        "instruments": ["msi"],
        "constellation": "Sentinel 2",
        "s2:mgrs_tile": tile,
        "s2:product_type": "S2MSI2A",
        "s2:processing_baseline": "04.00" if offset_of(when) else "03.01",
        "s2:product_uri": f"{name}.SAFE",
        "eo:cloud_cover": percent(8, 9, 10),
        "s2:nodata_pixel_percentage": round(100 * float((scl == 0).mean()), 4),
        "s2:cloud_shadow_percentage": percent(3),
        "s2:vegetation_percentage": percent(4),
        "s2:not_vegetated_percentage": percent(5),
        "s2:water_percentage": percent(6),
        "s2:unclassified_percentage": percent(7),
        "s2:medium_proba_clouds_percentage": percent(8),
        "s2:high_proba_clouds_percentage": percent(9),
        "s2:thin_cirrus_percentage": percent(10),
        "s2:mean_solar_zenith": round(light.zenith, 3),
        "s2:mean_solar_azimuth": round(light.azimuth, 3),
    }
    assets = {band: _s2_asset(name, band, raster) for band in _BANDS}
    assets["SCL"] = {
        **_asset(f"../data/{name}/{name}_SCL.tif", raster.coarser()),
        "title": "Scene classfication map (SCL)",
    }
    extensions = ("eo/v1.1.0", "sat/v1.0.0", "projection/v1.1.0")
    seen_land = _footprint(region, when, raster)
    return _item(S2, name, when, (raster, seen_land, extensions), properties, assets)


def _s2_asset(name: str, band: str, raster: Raster) -> dict[str, Any]:
    about = _BANDS[band]
    own = raster if band in FINE else raster.coarser()
    return {
        **_asset(f"../data/{name}/{name}_{band}.tif", own),
        "title": f"{about.title} - {own.resolution:.0f}m",
        "eo:bands": [
            {
                "name": band,
                "common_name": about.common,
                "description": about.title,
                "center_wavelength": about.centre,
                "full_width_half_max": about.width,
            }
        ],
    }


def s1_item(region: Region, when: Pass, raster: Raster) -> dict[str, Any]:
    """STAC item of one radar scene."""
    name = s1_id(when)
    properties = {
        "platform": f"SENTINEL-1{when.platform}",
        "constellation": "Sentinel-1",
        "instruments": ["c-sar"],
        "sar:instrument_mode": "IW",
        "sar:frequency_band": "C",
        "sar:center_frequency": 5.405,
        "sar:polarizations": ["VV", "VH"],
        "sar:product_type": "GRD",
        "sar:observation_direction": "right",
        "sar:looks_equivalent_number": 4.4,
    }
    band = {"nodata": -32768, "data_type": "float32", "spatial_resolution": 10.0}
    assets = {
        pol: {
            **_asset(f"../data/{name}/{name}_{pol}.tif", raster),
            "title": f"{pol.upper()}: vertical transmit, {receive} receive",
            "description": "Simulated gamma naught, linear power.",
            "raster:bands": [band],
        }
        for pol, receive in (("vv", "vertical"), ("vh", "horizontal"))
    }
    extensions = ("sar/v1.0.0", "sat/v1.0.0", "projection/v1.1.0", "raster/v1.1.0")
    seen_land = _footprint(region, when, raster)
    return _item(S1, name, when, (raster, seen_land, extensions), properties, assets)


def _asset(href: str, raster: Raster) -> dict[str, Any]:
    return {
        "href": href,
        "type": _COG,
        "roles": ["data"],
        "gsd": raster.resolution,
        "proj:bbox": [float(v) for v in raster.bounds],
        "proj:shape": list(raster.shape),
        "proj:transform": [float(v) for v in raster.affine[:6]],
    }


def _footprint(region: Region, when: Pass, raster: Raster) -> shapely.Geometry:
    """Where a scene has pixels, in degrees: its raster, cut off where the swath ends."""
    seen = reproject(box(*raster.bounds), raster.crs, CRS, resolution=2000)
    seen = shapely.intersection(seen, when.swath(region))
    return shapely.set_precision(reproject(seen, CRS, LON_LAT, resolution=2000), 1e-7)


def _item(
    collection: str,
    name: str,
    when: Pass,
    place: tuple[Raster, shapely.Geometry, tuple[str, ...]],
    properties: dict[str, Any],
    assets: dict[str, Any],
) -> dict[str, Any]:
    raster, outline, extensions = place
    return {
        "type": "Feature",
        "stac_version": _VERSION,
        "stac_extensions": [_SCHEMA.format(extension) for extension in extensions],
        "id": name,
        "geometry": json.loads(shapely.to_geojson(outline)),
        "bbox": [round(float(v), 7) for v in shapely.bounds(outline)],
        "properties": {
            "datetime": f"{when.moment:%Y-%m-%dT%H:%M:%SZ}",
            "title": f"Simulated scene {name}",
            "cdscale:simulated": True,
            "proj:epsg": int(raster.crs[5:]),
            "sat:orbit_state": "ascending" if when.ascending else "descending",
            "sat:relative_orbit": when.orbit,
            **properties,
        },
        "links": [
            _link("root", "../../catalog.json"),
            _link("parent", "../collection.json"),
            _link("collection", "../collection.json"),
        ],
        "assets": assets,
        "collection": collection,
    }


def _link(relation: str, href: str) -> dict[str, str]:
    kind = "application/geo+json" if relation == "item" else "application/json"
    return {"rel": relation, "href": href, "type": kind}


def collection(name: str, items: list[dict[str, Any]]) -> dict[str, Any]:
    """STAC collection with links to its items."""
    boxes = np.array([item["bbox"] for item in items])
    times = sorted(item["properties"]["datetime"] for item in items)
    extent = [*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist()]
    summaries = {
        key: sorted({item["properties"][key] for item in items})
        for key in ("platform", "sat:relative_orbit")
    }
    return {
        "type": "Collection",
        "stac_version": _VERSION,
        "id": name,
        "title": _TITLES[name],
        "description": _TEXTS[name],
        "license": "CC0-1.0",
        "extent": {
            "spatial": {"bbox": [extent]},
            "temporal": {"interval": [[times[0], times[-1]]]},
        },
        "summaries": {**summaries, "cdscale:simulated": [True]},
        "links": [
            _link("root", "../catalog.json"),
            _link("parent", "../catalog.json"),
            *(_link("item", f"./items/{item['id']}.json") for item in items),
        ],
    }


def catalogue(region: Region) -> dict[str, Any]:
    """STAC catalogue with links to both collections."""
    side = math.floor(region.side_m) / 1000
    return {
        "type": "Catalog",
        "stac_version": _VERSION,
        "id": f"simulated-region-{region.seed}",
        "title": f"Simulated region {region.seed}: Sentinel-1 and Sentinel-2 with known change",
        "description": f"SIMULATED, not measured: {side:g} km x {side:g} km on the border of two "
        f"UTM zones, {region.months}. The true built-up share and month of change are in truth/.",
        "links": [
            _link("root", "./catalog.json"),
            _link("child", f"./{S2}/collection.json"),
            _link("child", f"./{S1}/collection.json"),
        ],
    }
