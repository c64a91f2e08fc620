"""The continental lattice: ``Grid``, ``Tile``, ``Window`` and ``Area``.

An area becomes tiles, a tile becomes a GeoBox, and nothing above this package handles coordinates.
Every preset is an equal-area projection with a fixed origin, so that two runs made years apart
share their pixels, and an area is a count of pixels.

``degrees`` goes between longitude, latitude and projections; ``area`` is what a user asked for,
``lattice`` the grids and their tiles, ``pixels`` what concerns single pixels.
"""

from odc.geo.geobox import GeoBox, GeoboxTiles

from cdscale.grid.area import Area
from cdscale.grid.degrees import (
    LON_LAT,
    Bounds,
    cut_at_antimeridian,
    project,
    reproject,
    to_lon_lat,
)
from cdscale.grid.lattice import ACROSS, PRESETS, Grid, Preset, Tile, Window, choose_preset
from cdscale.grid.pixels import covered, crs_attributes

__all__ = [
    "ACROSS",
    "LON_LAT",
    "PRESETS",
    "Area",
    "Bounds",
    "GeoBox",
    "GeoboxTiles",
    "Grid",
    "Preset",
    "Tile",
    "Window",
    "choose_preset",
    "covered",
    "crs_attributes",
    "cut_at_antimeridian",
    "project",
    "reproject",
    "to_lon_lat",
]
