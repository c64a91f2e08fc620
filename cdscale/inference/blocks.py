"""``Block``: the pixels of a place as they come, and as they lie on a device.

Optical pixels may come as they are stored: integers, of which one says that nothing is there. They
cross to the device like that, half as many bytes, and become reflectance there by the arithmetic,
value for value, that a CPU would have used before.

Shape suffixes: B band, P polarisation, C channel, Y row, X column; D date, N window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cdscale.errors import ModelError, explain

Floats = NDArray[np.float32]
Booleans = NDArray[np.bool_]


@dataclass(frozen=True)
class Block:
    """One date of a place and its surroundings.

    Parameters
    ----------
    s2_BYX : float32 or integer array
        The card's bands, in its order: reflectance, NaN where absent; or integers that ``scale``
        makes reflectance, ``fill`` where absent.
    s1_PYX : float32 array
        Backscatter of the card's polarisations in **linear power**; NaN where absent.
    scale : float
        Reflectance of the integer 1, rounded to float32; not read for reflectance.
    fill : int
        The integer that stands for nothing; not read for reflectance.

    Both have the same height and width: those of the place plus twice ``card.halo``.
    """

    s2_BYX: NDArray[Any]
    s1_PYX: Floats
    scale: float = 1.0
    fill: int = 0

    @classmethod
    def without_radar(cls, s2_BYX: Floats, polarisations: int) -> Block:
        """A block of a cube that has no radar."""
        return cls(s2_BYX, np.full((polarisations, *s2_BYX.shape[1:]), np.nan, np.float32))

    @property
    def stored(self) -> bool:
        """Whether optical pixels are integers, as they are stored."""
        return self.s2_BYX.dtype.kind in "iu"

    @property
    def reflectance_BYX(self) -> Floats:
        """Optical pixels as float32, NaN where absent."""
        if not self.stored:
            return self.s2_BYX
        found_BYX = self.s2_BYX.astype(np.float32) * np.float32(self.scale)
        found_BYX[self.s2_BYX == self.fill] = np.nan
        return np.asarray(found_BYX)

    def lit(self, *where: slice) -> Booleans:
        """Optical pixels (B, Y, X) that are there, of all rows and columns or of some."""
        part = self.s2_BYX[:, *where]
        return np.asarray(part != self.fill if self.stored else np.isfinite(part))

    def sounded(self, *where: slice) -> Booleans:
        """Radar pixels (P, Y, X) that are there, of all rows and columns or of some."""
        return np.isfinite(self.s1_PYX[:, *where])


Send = Callable[[NDArray[Any]], Tensor]
"""How an array gets to a device, in the type that it has."""


@dataclass(frozen=True)
class Sent:
    """A block on its device, in the types that it came in."""

    s2_BYX: Tensor
    s1_PYX: Tensor
    scale: float
    fill: int

    @classmethod
    def of(cls, block: Block, send: Send) -> Sent:
        """Send a block."""
        scale = float(np.float32(block.scale))
        return cls(send(block.s2_BYX), send(block.s1_PYX), scale, block.fill)

    @property
    def optical(self) -> Iterable[Tensor]:
        """Reflectance of each band, (1, Y, X); one at a time is made."""
        return _Planes(self.s2_BYX, self._reflectance)

    @property
    def radar(self) -> Iterable[Tensor]:
        """Power of each polarisation, (1, Y, X)."""
        return _Planes(self.s1_PYX, lambda x: x)

    def window(self, corner: tuple[int, int], side: int) -> tuple[Tensor, Tensor]:
        """Reflectance and power of one window with its halo, NaN beyond the block."""
        top, left = corner
        s2, s1 = (
            x_CYX[:, top : top + side, left : left + side] for x_CYX in (self.s2_BYX, self.s1_PYX)
        )
        return _filled_up(self._reflectance(s2), side), _filled_up(s1, side)

    def _reflectance(self, x_CYX: Tensor) -> Tensor:
        if x_CYX.is_floating_point():
            return x_CYX
        # Exact for integers of 16 bits; in place, since the arrays are large.
        return x_CYX.to(torch.float32).mul_(self.scale).masked_fill_(x_CYX == self.fill, torch.nan)


class _Planes:
    """Channels of an array one by one, each made when its turn comes, as often as asked."""

    def __init__(self, x_CYX: Tensor, make: Callable[[Tensor], Tensor]) -> None:
        self._x_CYX, self._make = x_CYX, make

    def __iter__(self) -> Iterator[Tensor]:
        return (self._make(x_YX[None]) for x_YX in self._x_CYX)


def _filled_up(x_CYX: Tensor, side: int) -> Tensor:
    if x_CYX.shape[1:] == (side, side):
        return x_CYX
    full_CYX = x_CYX.new_full((len(x_CYX), side, side), torch.nan)
    full_CYX[:, : x_CYX.shape[1], : x_CYX.shape[2]] = x_CYX
    return full_CYX


def check_type(block: Block, name: str) -> None:
    """Refuse numbers that no cube holds.

    Raises
    ------
    ModelError
        Naming the types.
    """
    types = block.s2_BYX.dtype, block.s1_PYX.dtype
    packed = types[0].kind in "iu" and types[0].itemsize <= 2
    if not (types[0].kind == "f" or packed) or types[1].kind != "f":
        raise ModelError(
            explain(
                f"block for model {name}: types of S2 and S1",
                expected="floats, or integers of 16 bits or fewer for S2",
                got=f"{types[0]} and {types[1]}",
            )
        )
