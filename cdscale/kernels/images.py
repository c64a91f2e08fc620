"""What a pair of co-registered images must be."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from cdscale.errors import ModelError, explain


def check_pair(
    before_BYX: NDArray[Any], after_BYX: NDArray[Any], what: str = "a pair of images"
) -> None:
    """Refuse images of two shapes, and numbers that are not real.

    Raises
    ------
    ModelError
        Naming ``what``.
    """
    shape, other = before_BYX.shape, after_BYX.shape
    if len(shape) != 3 or shape != other or 0 in shape:
        raise ModelError(
            explain(
                what,
                expected="two images of one shape (bands, rows, columns)",
                got=f"{shape} and {other}",
                do="Resample one of them onto the grid of the other.",
            )
        )
    if any(image.dtype.kind not in "buif" for image in (before_BYX, after_BYX)):
        got = f"{before_BYX.dtype} and {after_BYX.dtype}"
        do = "Convert them, complex backscatter to its power."
        raise ModelError(explain(what, expected="real numbers", got=got, do=do))
