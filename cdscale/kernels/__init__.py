"""Pixel maths on plain arrays: no files, no metadata, no catalogue.

Shape suffixes: S scenes or passes, B bands, Y rows, X columns, T months, N pixels in any order.
Reflectance and linear power are float32 with NaN where there is nothing.

``optical``: masks and composites · ``radar``: means, borders, speckle · ``masks``: what lies beside
what · ``packing``: how numbers are stored · ``series``: months · ``states``: change from month to
month · ``images``: what a pair must be.
"""

from cdscale.kernels.masks import grown
from cdscale.kernels.packing import (
    PROBABILITY_LEVELS,
    pack_count,
    pack_probability,
    pack_reflectance,
    quality_codes,
    unpack_probability,
)
from cdscale.kernels.radar import to_decibel, to_power
from cdscale.kernels.series import onset
from cdscale.kernels.states import EVIDENCE_STEP, NO_DAY, Sight, States, advance, tell
from cdscale.kernels.types import Bool, Float, UInt8, UInt16

__all__ = [
    "EVIDENCE_STEP",
    "NO_DAY",
    "PROBABILITY_LEVELS",
    "Bool",
    "Float",
    "Sight",
    "States",
    "UInt8",
    "UInt16",
    "advance",
    "grown",
    "onset",
    "pack_count",
    "pack_probability",
    "pack_reflectance",
    "quality_codes",
    "tell",
    "to_decibel",
    "to_power",
    "unpack_probability",
]
