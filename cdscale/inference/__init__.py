"""Networks over blocks of pixels: normalisation, exact tiling, batches, devices.

A block is the pixels of a place with ``card.halo`` pixels of context on every side, NaN where there
is nothing. Whoever cuts blocks out of one grid at multiples of ``card.stride`` gets, block by
block, what one pass over the whole grid would give; but for a card that standardises by the image
at hand, for which the block is the image.

With test-time augmentation every window is seen in the eight orientations of a square, and the
probabilities, turned back, are averaged. Windows and halos are whole strides, so that a turned
window lies on the network's own grid of strides, and tiles join as they do without.

A block goes to the network's device once, in the types in which it is stored; statistics,
normalisation, windows and what they yield stay there. In float32 on a CPU a map is the same bit for
bit whatever the batch; elsewhere the last bits depend on the device, the batch and the compiler.

Rooms: ``blocks`` (pixels, here and on a device), ``maps`` (what a network says of them),
``windows`` (cutting and putting together), ``sizes`` (of windows and batches), ``compiling``,
``device``. Needs torch, numpy, pydantic and YAML; neither Dask nor Zarr nor xarray.
"""

from __future__ import annotations

from cdscale.inference.blocks import Block, Booleans, Floats
from cdscale.inference.device import best_device
from cdscale.inference.maps import UrbanMap, predict_change, predict_urban
from cdscale.inference.windows import Tiling
from cdscale.models.orientations import turned, turned_back

__all__ = [
    "Block",
    "Booleans",
    "Floats",
    "Tiling",
    "UrbanMap",
    "best_device",
    "predict_change",
    "predict_urban",
    "turned",
    "turned_back",
]
