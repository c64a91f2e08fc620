"""Where the blocks of a TIFF lie, read from its header alone and with every byte accounted for.

Only for the rare file whose blocks seem to be missing (see ``files``); everything else is GDAL's.
Layout of the header: TIFF 6.0, section 2; BigTIFF as libtiff has it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

OFFSETS, SIZES = (324, 273), (325, 279)
"""Tags of tiles and of strips."""
HEAD = 1 << 16
"""Bytes that are fetched at first; most headers end within."""
MOST_BLOCKS = 1 << 24
_WIDTHS = {3: 2, 4: 4, 16: 8}
"""Bytes of the types of number that may stand in these tags."""


class BadHeader(Exception):
    """The header does not read."""


def places(fetch: Callable[[int, int], bytes]) -> NDArray[np.bool_]:
    """For each block of the first image, whether it has a place in the file.

    Parameters
    ----------
    fetch : callable
        Gives so many bytes from an offset on, fewer only where the file ends, or raises.

    Raises
    ------
    BadHeader
        When it is no TIFF, or its tables reach beyond its end.
    """
    header = _Header(fetch)
    return (header.table(OFFSETS) > 0) & (header.table(SIZES) > 0)


class _Header:
    def __init__(self, fetch: Callable[[int, int], bytes]) -> None:
        self._fetch = fetch
        self._head = fetch(0, HEAD)
        order = {b"II": "<", b"MM": ">"}.get(self._head[:2])
        if order is None:
            raise BadHeader("it is no TIFF")
        self._order = order
        self._big = self._number(2, 2) == 43
        word = 8 if self._big else 4
        self._entry = 20 if self._big else 12
        at = self._number(word, word)
        count_width = 8 if self._big else 2
        self._first = at + count_width
        self._count = self._number(at, count_width)
        if self._count > 4096:
            raise BadHeader("its header names too many tags")

    def table(self, tags: tuple[int, ...]) -> NDArray[np.uint64]:
        """Numbers of the first of some tags that the image has."""
        word = 8 if self._big else 4
        for index in range(self._count):
            at = self._first + index * self._entry
            if self._number(at, 2) not in tags:
                continue
            width = _WIDTHS.get(self._number(at + 2, 2))
            count = self._number(at + 4, word)
            if width is None or count > MOST_BLOCKS:
                break
            value = at + 4 + word
            start = value if count * width <= word else self._number(value, word)
            raw = self._bytes(start, count * width)
            return np.frombuffer(raw, f"{self._order}u{width}").astype(np.uint64)
        raise BadHeader("its header has no table of blocks")

    def _number(self, at: int, width: int) -> int:
        raw = self._bytes(at, width)
        return int.from_bytes(raw, "little" if self._order == "<" else "big")

    def _bytes(self, start: int, length: int) -> bytes:
        if start + length <= len(self._head):
            return self._head[start : start + length]
        got = self._fetch(start, length)
        if len(got) != length:
            raise BadHeader("its header reaches beyond its end")
        return got
