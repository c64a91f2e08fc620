"""Outputs of networks of kind "images" become probabilities, and those become maps of codes.

===================  ===========================  =================================================
Family               It says                      Change is
===================  ===========================  =================================================
``hrscd-1``          land cover of both dates     where the likeliest classes differ
``hrscd-2``          a class for each transition  where the likeliest is not "no change"
``hrscd-3``, ``-4``  change, and land cover       where its probability reaches the threshold
``siamese-…``        the newer class of change    where the likeliest is not "no change"
===================  ===========================  =================================================

Shape suffixes: B sample, C channel, Y row, X column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cdscale.errors import ModelError, explain
from cdscale.learn.data.files import Codes, Floats
from cdscale.learn.labels import IGNORED
from cdscale.models.hrscd import SemanticChange
from cdscale.models.orientations import turned, turned_back
from cdscale.models.transitions import Transitions, differs

Says = Literal["land cover", "transitions", "change and land cover", "classes of change"]

SAYS: dict[str, Says] = {
    "hrscd-1": "land cover",
    "hrscd-2": "transitions",
    "hrscd-3": "change and land cover",
    "hrscd-4": "change and land cover",
    "siamese-attention": "classes of change",
}
"""What networks of each family say."""


@dataclass(frozen=True)
class SemanticMap:
    """What a network says of a window, (Y, X) each.

    Parameters
    ----------
    change_YX : uint8 array
        0 no change, 1 change; of a network of classes of change: the class of the newer date.
        255 where either date has no image.
    probability_YX : float32 array
        Of change, NaN where either date has no image.
    land_YX : tuple of uint8 arrays
        Land cover codes before and after, 255 where nothing is said: everywhere without an image,
        and with transitions wherever nothing changed. Empty for classes of change.
    certainty_YX : float32 array
        Probability of what ``change_YX`` says, NaN where either date has no image.
    """

    change_YX: Codes
    probability_YX: Floats
    land_YX: tuple[Codes, ...]
    certainty_YX: Floats


@dataclass(frozen=True)
class Reading:
    """How outputs of a network are read.

    Parameters
    ----------
    says : str
        One of :data:`SAYS`.
    codes : tuple of int
        Land cover classes, or classes of change with 0, no change. Land cover that a network has
        an output for but that is not named here, such as HRSCD's 0, no information, is never said.
    threshold : float
        Of the probability of change; used where there is a change output of its own.
    """

    says: Says
    codes: tuple[int, ...]
    threshold: float = 0.5

    @classmethod
    def of(cls, family: str, codes: Iterable[int], threshold: float = 0.5) -> Reading:
        """That of a family of networks.

        Raises
        ------
        ModelError
            When its networks say none of this.
        """
        if family not in SAYS:
            raise ModelError(
                explain("maps of semantic change: family", expected=", ".join(SAYS), got=family)
            )
        return cls(SAYS[family], tuple(sorted(codes)), threshold)

    @property
    def has_threshold(self) -> bool:
        """Whether change is a matter of a threshold, and not of the likeliest class."""
        return self.says == "change and land cover"

    @property
    def has_land(self) -> bool:
        """Whether land cover of both dates is said everywhere."""
        return self.says in ("land cover", "change and land cover")

    @property
    def transitions(self) -> Transitions:
        """Of strategy 2: every pair of distinct codes."""
        return Transitions.between(self.codes)

    def probabilities(self, output: SemanticChange | Tensor) -> SemanticChange:
        """Logits of any family as probabilities; land cover of the codes alone.

        Raises
        ------
        ModelError
            When the network has fewer outputs than there are codes.
        """
        if isinstance(output, Tensor):
            output = SemanticChange(output, None, None)
        change, before, after = output.change, output.before, output.after
        if change is not None:
            one = change.shape[1] == 1
            change = change.float().sigmoid() if one else change.float().softmax(dim=1)
            self._check(change)
        return SemanticChange(change, self._land(before), self._land(after))

    def mean_over(
        self,
        network: Callable[[Tensor, Tensor], SemanticChange | Tensor],
        dates: tuple[Tensor, Tensor],
        orientations: int,
    ) -> SemanticChange:
        """Probabilities of two dates, the mean over the first so many orientations."""
        total: list[Tensor | None] = [None, None, None]
        for number in range(orientations):
            # Networks may ask for memory in order.
            before, after = (turned(x, number).contiguous() for x in dates)
            said = self.probabilities(network(before, after))
            for place, part in enumerate((said.change, said.before, said.after)):
                if part is not None:
                    back, sum_so_far = turned_back(part, number), total[place]
                    total[place] = back if sum_so_far is None else sum_so_far + back
        return SemanticChange(*(None if x is None else x / orientations for x in total))

    def maps(self, said: SemanticChange, absent_YX: NDArray[np.bool_]) -> SemanticMap:
        """Codes of one window (the first sample) from its probabilities.

        Parameters
        ----------
        said : SemanticChange
            From :meth:`mean_over`; float32.
        absent_YX : bool array
            Where there is no image of either date.
        """
        change, probability = self._change(said)
        certainty = torch.where(change > 0, probability, 1 - probability)
        if self.says == "classes of change" and said.change is not None:
            certainty = said.change.amax(dim=1)
        sums = [x[0].cpu().numpy() for x in (probability, certainty)]
        probability_YX, certainty_YX = (np.where(absent_YX, np.float32(np.nan), x) for x in sums)
        land = tuple(x[0].cpu().numpy() for x in self._land_codes(said, change))
        return SemanticMap(
            np.where(absent_YX, IGNORED, change[0].cpu().numpy()).astype(np.uint8),
            probability_YX,
            tuple(np.where(absent_YX, IGNORED, x).astype(np.uint8) for x in land),
            certainty_YX,
        )

    def _change(self, said: SemanticChange) -> tuple[Tensor, Tensor]:
        """Codes of change (transitions by number), and the probability of any."""
        if said.change is None:
            before, after = _both(said)
            return differs(before, after), 1 - (before * after).sum(dim=1)
        if self.has_threshold:
            probability = said.change[:, -1]
            return probability >= self.threshold, probability
        code = said.change.argmax(dim=1)
        # What follows asks where there is change: 0 and 1 will do.
        code = code.clamp_max(1) if self.says == "transitions" else code
        return code, 1 - said.change[:, 0]

    def _land_codes(self, said: SemanticChange, change: Tensor) -> tuple[Tensor, ...]:
        if self.says == "classes of change":
            return ()
        if self.says == "transitions" and said.change is not None:
            pair = self.transitions.decode(said.change.argmax(dim=1))
            return tuple(code.masked_fill(change == 0, IGNORED) for code in pair)
        codes = torch.tensor(self.codes, device=change.device)
        return tuple(codes[x.argmax(dim=1)] for x in _both(said))

    def _land(self, logits: Tensor | None) -> Tensor | None:
        if logits is None:
            return None
        self._require(logits.shape[1] > max(self.codes), max(self.codes) + 1, logits.shape[1])
        return logits.float()[:, list(self.codes)].softmax(dim=1)

    def _check(self, change: Tensor) -> None:
        if self.says == "transitions":
            wanted = self.transitions.outputs
            self._require(change.shape[1] == wanted, wanted, change.shape[1])
        elif self.says == "classes of change":
            wanted = max(self.codes) + 1
            self._require(change.shape[1] == wanted, wanted, change.shape[1])

    def _require(self, held: bool, expected: int, got: int) -> None:
        if not held:
            raise ModelError(
                explain(
                    f"outputs of a network of {self.says}, for the classes {self.codes}",
                    expected=expected,
                    got=got,
                    do="The card must name the classes that the network tells apart.",
                )
            )


def _both(said: SemanticChange) -> tuple[Tensor, Tensor]:
    if said.before is None or said.after is None:
        raise ModelError(
            explain("semantic change", expected="land cover of both dates", got="none")
        )
    return said.before, said.after
