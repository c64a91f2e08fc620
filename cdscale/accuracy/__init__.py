"""How right a map is, and how much area changed: sample designs, and estimates from the samples.

Counting pixels of a map gives the area of the *map's* change, errors included. A random sample
whose strata are the map's classes, interpreted by people, gives the area of change itself, with an
interval: P. Olofsson et al., Good practices for estimating area and assessing accuracy of land
change, Remote Sensing of Environment 148 (2014) 42-57.
"""

from __future__ import annotations

from cdscale.accuracy.design import Choice, allocate, draw, needed
from cdscale.accuracy.estimate import Estimates, Share, areas, estimate
from cdscale.accuracy.sample import Design, Point, read_sample, write_sample

__all__ = [
    "Choice",
    "Design",
    "Estimates",
    "Point",
    "Share",
    "allocate",
    "areas",
    "draw",
    "estimate",
    "needed",
    "read_sample",
    "write_sample",
]
