"""The tiling behind some published OSCD figures, which counts half of every image twice.

The codes of the FC-EF family and of Ebel et al. 2021 cut a scene into 2 x 2 tiles to save memory,
and take the *index* of the second column of tiles, 1, for its first column of pixels. So that tile
spans columns 1 to the end, and the left half of the image, but for its first column, counts twice.
Published rows bear its mark: FC-EF-Res and Ebel et al. imply 4.95 % of changed pixels, the FC-EF,
Siam-conc and Siam-diff rows 5.12 %. Use it to compare with the former, never to report.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cdscale.learn.metrics.binary import Confusion
from cdscale.learn.metrics.counting import counted_pairs

TILES = 2


class Window(NamedTuple):
    """Rows and columns of one tile, to index an array with."""

    rows: slice
    columns: slice


def legacy_tiles(height: int, width: int) -> tuple[Window, ...]:
    """The four tiles of a scene, as the historical evaluation cut it.

    To reproduce its figures to the pixel, run the network on each by itself: that too is what it
    did, with whatever happens at the borders of tiles.
    """
    tall, wide = -(-height // TILES), -(-width // TILES)
    return tuple(
        Window(
            slice(row * tall, min((row + 1) * tall, height)),
            # The slip: column * wide was meant.
            slice(column, min((column + 1) * wide, width)),
        )
        for row in range(TILES)
        for column in range(TILES)
    )


def legacy_confusion(predicted_YX: NDArray[Any], truth_YX: NDArray[Any]) -> Confusion:
    """Counts of a scene as the historical evaluation has them.

    Raises
    ------
    UserError
        When the shapes differ.
    """
    counted_pairs("confusion", predicted_YX, truth_YX)  # tiles might hide that shapes differ
    tiles = legacy_tiles(*np.shape(truth_YX))
    return sum((Confusion.of(predicted_YX[t], truth_YX[t]) for t in tiles), Confusion())
