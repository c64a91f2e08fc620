"""Ask the stores, from the stores alone: pixels, areas, zones, and what stands behind a pixel.

``spots`` finds pixels, ``zones`` reads polygons, ``wanted`` says which months and variables a
question is about; ``points``, ``areas``, ``statistics`` and ``evidence`` answer; ``tables`` writes
answers down, ``accessor`` gives them to xarray.
"""

from cdscale.query.areas import area
from cdscale.query.points import point
from cdscale.query.spots import Spot
from cdscale.query.statistics import statistics
from cdscale.query.wanted import Wanted
from cdscale.query.zones import Zones

__all__ = ["Spot", "Wanted", "Zones", "area", "point", "statistics"]
