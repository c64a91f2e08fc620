"""What a detector is: a method that is fitted to an image, and then applied block by block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Protocol

from cdscale.classical.blocks import Blocks, Floats, Pair
from cdscale.classical.threshold import OTSU, Threshold


class Detector(Protocol):
    """A method with the statistics of an image."""

    def apply(self, pair: Pair) -> Floats:
        """Difference image of a block, (C, Y, X) inside its halo.

        Non-negative, the larger the more change; NaN where absent.
        """
        ...


class Method(ABC):
    """A way to tell change between two dates without training; frozen, its options as fields.

    ``fit`` goes over the blocks of an image and keeps sums of bounded size; what it returns is
    small and pickles, so that it can be sent to workers.
    """

    name: ClassVar[str]
    """As in :data:`cdscale.classical.METHODS`."""

    @property
    def halo(self) -> int:
        """Pixels of context that a block must have on every side."""
        return 0

    @property
    def threshold(self) -> Threshold:
        """The threshold that belongs to the method when none is asked for."""
        return OTSU

    @abstractmethod
    def fit(self, blocks: Blocks) -> Detector:
        """Gather the statistics of an image.

        Raises
        ------
        ModelError
            When the valid pixels do not suffice, or a block lacks the halo.
        """
