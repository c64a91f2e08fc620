"""What the HRSCD networks' logits say: change, its probability, and from which class to which.

Change and the difference of two land cover maps need not agree, neither in HRSCD's labels nor in
the outputs of strategies 3 and 4. Only strategy 1 has no more than the difference, so only there
is change derived from it.

Shape suffixes: B sample, Y row, X column.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import permutations

import torch
from torch import Tensor

from cdscale.errors import ModelError, explain
from cdscale.models.blocks import require
from cdscale.models.hrscd import SemanticChange


@dataclass(frozen=True)
class Transitions:
    """Changes of class as classes of their own; 0 is no change, the first pair is 1.

    Parameters
    ----------
    pairs : tuple of (int, int)
        Land cover codes before and after. A scene's rare transitions may be left out.

    Raises
    ------
    ModelError
        When there is no pair, one stands there twice, or one does not change the class.
    """

    pairs: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        distinct = {(a, b) for a, b in self.pairs if a != b}
        require(
            0 < len(distinct) == len(self.pairs),
            "table of transitions",
            "at least one pair, each of two classes and there once",
            self.pairs,
        )

    @classmethod
    def between(cls, classes: Iterable[int]) -> Transitions:
        """Every ordered pair of distinct classes, by class before, then by class after."""
        return cls(tuple(permutations(classes, 2)))

    @property
    def outputs(self) -> int:
        """Channels of a network that tells them apart."""
        return 1 + len(self.pairs)

    @property
    def classes(self) -> frozenset[int]:
        """Codes that occur."""
        return frozenset(code for pair in self.pairs for code in pair)

    def of(self, before: int, after: int) -> int:
        """Number of the transition between two classes; 0 where they are the same.

        Raises
        ------
        ModelError
            When it is not in the table.
        """
        if before == after and before in self.classes:
            return 0
        try:
            return 1 + self.pairs.index((before, after))
        except ValueError:
            raise ModelError(
                explain("transition", expected=f"one of {self.pairs}", got=(before, after))
            ) from None

    def encode(
        self, before_BYX: Tensor, after_BYX: Tensor, change_BYX: Tensor, ignored: int
    ) -> Tensor:
        """Labels of strategy 2 from labels of land cover and of change.

        Parameters
        ----------
        before_BYX, after_BYX : Tensor
            Land cover codes, integers of any shape.
        change_BYX : Tensor
            Boolean, of the same shape: the label of change, or ``before != after``.
        ignored : int
            Stands where change is labelled but not a transition of the table (the class stays
            the same, or the pair is left out), and where a code is not in the table, such as
            HRSCD's 0, no information.

        Returns
        -------
        Tensor
            Int64.
        """
        no_change = ~change_BYX & self._holds(before_BYX) & self._holds(after_BYX)
        label = torch.full_like(before_BYX, ignored, dtype=torch.int64)
        label[no_change] = 0
        for number, (a, b) in enumerate(self.pairs, start=1):
            label[change_BYX & (before_BYX == a) & (after_BYX == b)] = number
        return label

    def decode(self, transition_BYX: Tensor) -> tuple[Tensor, Tensor]:
        """Land cover codes before and after, 0 and 0 where there is no change.

        Parameters
        ----------
        transition_BYX : Tensor
            Numbers below ``outputs``, integers of any shape.

        Raises
        ------
        ModelError
            When a number is not in the table.
        """
        table = torch.tensor(((0, 0), *self.pairs), device=transition_BYX.device)
        if transition_BYX.numel():
            low, high = int(transition_BYX.min()), int(transition_BYX.max())
            known = f"0 to {self.outputs - 1}"
            require(0 <= low <= high < self.outputs, "transitions", known, f"{low} to {high}")
        before, after = table[transition_BYX.long()].unbind(dim=-1)
        return before, after

    def _holds(self, code_BYX: Tensor) -> Tensor:
        """Where a code is one of the table's."""
        return torch.isin(code_BYX, torch.tensor(sorted(self.classes), device=code_BYX.device))


HRSCD = Transitions.between(range(1, 6))
"""All 20 between the five land cover classes of HRSCD."""


def differs(before_BCYX: Tensor, after_BCYX: Tensor) -> Tensor:
    """Boolean (B, Y, X): the likeliest class is another after than before (strategy 1)."""
    return before_BCYX.argmax(dim=1) != after_BCYX.argmax(dim=1)


def changed(maps: SemanticChange) -> Tensor:
    """Boolean (B, Y, X): the decision of any strategy.

    Raises
    ------
    ModelError
        When there is neither change nor land cover of both dates.
    """
    if maps.change is None:
        return differs(*_land_cover(maps))
    if maps.change.shape[1] == 1:
        return maps.change[:, 0] > 0
    return maps.change.argmax(dim=1) != 0


def change_probability(maps: SemanticChange) -> Tensor:
    """Probability of change of any strategy, (B, Y, X).

    Strategy 1 has none of its own: here it is the probability that two draws, one from each
    date's distribution of classes, differ. Strategy 2: that it is any transition. Neither makes
    :func:`changed` a threshold of 0.5.

    Raises
    ------
    ModelError
        When there is neither change nor land cover of both dates.
    """
    if maps.change is None:
        before, after = (logits.softmax(dim=1) for logits in _land_cover(maps))
        return 1 - (before * after).sum(dim=1)
    if maps.change.shape[1] == 1:
        return maps.change[:, 0].sigmoid()
    return 1 - maps.change.softmax(dim=1)[:, 0]


def _land_cover(maps: SemanticChange) -> tuple[Tensor, Tensor]:
    """Land cover logits of both dates."""
    if maps.before is None or maps.after is None:
        raise ModelError(
            explain("semantic change", expected="change, or land cover of both dates", got=maps)
        )
    return maps.before, maps.after
