"""Ask the stores, from the stores alone: pixels, areas, zones, and what stands behind a pixel.

``spots`` finds pixels, ``zones`` reads polygons, ``wanted`` says which months and variables a
question is about; ``points``, ``areas``, ``zonal`` and ``evidence`` answer; ``tables`` writes
answers down, ``accessor`` gives them to xarray.
"""

from cdscale.query.areas import area
from cdscale.query.evidence import explain
from cdscale.query.points import point
from cdscale.query.spots import Spot
from cdscale.query.wanted import Wanted
from cdscale.query.zonal import statistics
from cdscale.query.zones import Zones

__all__ = ["Spot", "Wanted", "Zones", "area", "explain", "point", "statistics"]
