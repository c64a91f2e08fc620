"""Masks of pixels."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from cdscale.kernels.types import Bool


def grown(where_YX: Bool, pixels: int) -> Bool:
    """A mask and all that lies so many pixels from it at most, along rows and columns."""
    if not pixels or not where_YX.any():
        return where_YX
    return np.asarray(ndimage.maximum_filter(where_YX, size=2 * pixels + 1, mode="constant"))
