"""The arrays that kernels take and give."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Bool = NDArray[np.bool_]
UInt8 = NDArray[np.uint8]
UInt16 = NDArray[np.uint16]
