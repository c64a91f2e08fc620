"""The area under the ROC curve as the Mann-Whitney statistic.

It is the probability that a changed pixel scores higher than an unchanged one, ties counting one
half. Any score will do: probabilities, distances, chi-square statistics.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from cdscale.errors import UserError, explain
from cdscale.learn.metrics.counting import counted_pairs


def auc(score: NDArray[Any], truth: NDArray[Any]) -> float:
    """The exact area, by mid-ranks.

    Pixels without a score (NaN) or truth (``IGNORED``) do not count. Sorts everything at once:
    for a mosaic there is :class:`Ranking`.

    Returns
    -------
    float
        NaN where there is no changed or no unchanged pixel: nothing can be ranked, and 0 would
        say that all of it was ranked wrongly.

    Raises
    ------
    UserError
        When the shapes differ.
    """
    said, true = counted_pairs("AUC", score, truth)
    seen = ~np.isnan(said)
    said, true = said[seen], true[seen].astype(bool)
    changed = int(np.count_nonzero(true))
    pairs = changed * (true.size - changed)
    if not pairs:
        return float("nan")
    ranks = rankdata(said)[true].sum()
    return float((ranks - changed * (changed + 1) / 2) / pairs)


class Ranking:
    """The same area from counts that add up over tiles, with a bound on what that loses.

    Scores are kept as float32 and told apart by the leading ``bits`` of their binary form, which
    sorts as they do. So no range need be known, and no monotone change of scale that keeps the
    bins apart matters. Of 20 bits, 11 are mantissa: scores closer than 0.05 % share a bin.

    Parameters
    ----------
    bits : int
        10 to 24; memory is ``16 * 2**bits`` bytes.

    Raises
    ------
    UserError
        When ``bits`` is out of range.
    """

    def __init__(self, bits: int = 20) -> None:
        if not 10 <= bits <= 24:
            raise UserError(
                explain("ranking: bits", expected="10 to 24", got=bits, do="Leave it at 20.")
            )
        self.bits = bits
        self._counts = np.zeros((2, 1 << bits), np.int64)

    def add(self, score: NDArray[Any], truth: NDArray[Any]) -> None:
        """Add a map and its truth; pixels without a score (NaN) or truth do not count.

        Raises
        ------
        UserError
            When the shapes differ.
        """
        said, true = counted_pairs("ranking", score, truth)
        seen = ~np.isnan(said)
        place = _order(said[seen]) >> np.uint32(32 - self.bits)
        # Unlike a bincount it takes no array of all bins, of which a tile fills few.
        np.add.at(self._counts, (true[seen].astype(bool).astype(np.intp), place), 1)

    def __add__(self, other: Ranking) -> Ranking:
        if self.bits != other.bits:
            raise UserError(
                explain(
                    "sum of rankings: bits",
                    expected=self.bits,
                    got=other.bits,
                    do="Rank all images with the same number of bits.",
                )
            )
        total = Ranking(self.bits)
        total._counts = self._counts + other._counts
        return total

    @property
    def area(self) -> float:
        """The area, scores of one bin taken as ties; NaN as :func:`auc` has it."""
        same, changed = self._filled()
        pairs = same.sum() * changed.sum()
        if not pairs:
            return float("nan")
        return float((changed * (same.cumsum() - same / 2)).sum() / pairs)

    @property
    def error(self) -> float:
        """The exact area is no further from :attr:`area` than this."""
        same, changed = self._filled()
        pairs = same.sum() * changed.sum()
        return float((changed * same).sum() / (2 * pairs)) if pairs else float("nan")

    def _filled(self) -> NDArray[np.float64]:
        """Unchanged and changed pixels of the bins that have any, in order of score."""
        return self._counts[:, self._counts.any(axis=0)].astype(np.float64)


def _order(score: NDArray[Any]) -> NDArray[np.uint32]:
    """Whole numbers that sort as float32 scores do."""
    # Adding 0 turns -0 into 0. Too large for float32 is infinite, and still the largest.
    with np.errstate(over="ignore"):
        bits = (np.asarray(score).astype(np.float32) + np.float32(0)).view(np.uint32)
    top = np.uint32(1 << 31)
    ordered: NDArray[np.uint32] = np.where(bits & top, ~bits, bits | top)
    return ordered
