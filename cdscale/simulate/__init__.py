"""A small, physically plausible region as a STAC catalogue of COGs, with the true change known.

It is simulated and says so wherever it shows. ``write`` puts scenes of Sentinel-1 and Sentinel-2
of some square kilometres on disk, in the layout of the Planetary Computer; ``truth`` tells what a
map of built-up land and its change should have found::

    catalogue = simulate.write(simulate.Region(seed=1, size_px=512), "region-1")
    reference = simulate.truth(simulate.Region(seed=1, size_px=512))

What makes it worth mapping: clouds that hide whole months, two UTM zones, two processing baselines,
two looks of the radar, and much that changes without being built: harvests, ploughing, floods,
felled forest, stripped ground that stays bare, sites unfinished at the end.
"""

from cdscale.simulate.region import Region
from cdscale.simulate.score import score
from cdscale.simulate.weather import Gloom, gloom, shaded
from cdscale.simulate.write import truth, write

__all__ = ["Gloom", "Region", "gloom", "score", "shaded", "truth", "write"]
