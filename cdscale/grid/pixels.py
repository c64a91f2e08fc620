"""Pixels of a GeoBox: which of them lie in an area, and how a store names their CRS."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyproj
import shapely
from odc.geo.geobox import GeoBox
from odc.geo.geom import Geometry
from odc.geo.xr import rasterize

from cdscale.grid.area import Area
from cdscale.grid.degrees import LON_LAT, cut_at_antimeridian, polygons, reproject


def covered(area: Area, geobox: GeoBox) -> np.ndarray:
    """Pixels whose centre lies in the area: bool of shape (y, x)."""
    crs, box_m = str(geobox.crs), geobox.boundingbox
    bent = reproject(geobox.extent.geom, crs, LON_LAT, resolution=box_m.span_x / 16)
    outline = cut_at_antimeridian(bent)
    # Only what is near is projected: far away a projection turns polygons inside out.
    near = [
        polygons(shapely.clip_by_rect(area.geometry, *part.buffer(0.1).bounds))
        for part in shapely.get_parts(outline)
    ]
    polygon = shapely.union_all([Area(part).to_crs(crs) for part in near if not part.is_empty])
    if polygon.is_empty:
        return np.zeros(geobox.shape, bool)
    return np.asarray(rasterize(Geometry(polygon, geobox.crs), geobox))


def crs_attributes(geobox: GeoBox) -> dict[str, Any]:
    """CF grid mapping of a GeoBox, with the WKT and the transform that GDAL and rioxarray read."""
    crs = pyproj.CRS(str(geobox.crs))
    cf = {key: list(v) if isinstance(v, tuple) else v for key, v in crs.to_cf().items()}
    transform = " ".join(f"{value:.17g}" for value in geobox.affine.to_gdal())
    return {**cf, "spatial_ref": crs.to_wkt(), "GeoTransform": transform}
