"""Scenes to blocks on a tile's GeoBox. The only package that knows how pixels are fetched.

``Reader`` is the seam: the stages ask it for a mask or for bands of one scene, and get physical
values on exactly the pixels they named, whatever CRS and resolution the scene has. Two libraries
stand behind it, ``stackstac`` and ``odc``; :func:`make_reader` chooses by name. How assets are
reached is in ``access``, what may go wrong in ``faults``, what a file must be in ``files``.
"""

from __future__ import annotations

from typing import Literal

from cdscale.pixels.odc import OdcReader
from cdscale.pixels.reader import Reader
from cdscale.pixels.stackstac import TOLERANCE, StackstacReader
from cdscale.pixels.tokens import Tokens

__all__ = ["TOLERANCE", "OdcReader", "Reader", "StackstacReader", "Tokens", "make_reader"]


def make_reader(name: Literal["stackstac", "odc"], tokens: Tokens | None = None) -> Reader:
    """The reader that goes by a name.

    Parameters
    ----------
    name : str
        ``stackstac`` or ``odc``.
    tokens : Tokens, optional
        Signs what must be signed to be read.
    """
    return {"stackstac": StackstacReader, "odc": OdcReader}[name](tokens)
