"""System B: change and land cover together, strategies 1 to 4 of the HRSCD paper.

R. Caye Daudt, B. Le Saux, A. Boulch, Y. Gousseau, "Multitask learning for large-scale semantic
change detection", CVIU 187 (2019), sections 4 and 5.2. No training code of it was published.

========  =====================================================================================
Strategy  Network
========  =====================================================================================
1         :class:`PostClassification`: land cover of both dates, compared
2         :class:`DirectTransitions`: one network on both dates, one class per transition
3         :class:`IndependentChange`: a land cover and a change network that share nothing
4.1       :class:`IntegratedChange`: the change decoder reads the land cover features
4.2       :class:`IntegratedChange` with ``detach``, trained in two stages
========  =====================================================================================

Classes, transitions and what follows from the outputs stand in :mod:`cdscale.models.transitions`.

Shape suffixes: B sample, C channel, Y row, X column.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from cdscale.models.land_cover import (
    HALO,
    REACH,
    STRIDE,
    Decoder,
    Encoder,
    LandCover,
    Size,
    check_pair,
    decode,
)

__all__ = [
    "CLASSES",
    "HALO",
    "REACH",
    "STRIDE",
    "DirectTransitions",
    "IndependentChange",
    "IntegratedChange",
    "PostClassification",
    "SemanticChange",
]

CLASSES = 6
"""Urban Atlas classes of HRSCD with its code 0, no information."""


@dataclass(frozen=True)
class SemanticChange:
    """What the strategies say; ``None`` where a strategy has no such output. Logits all.

    Parameters
    ----------
    change : Tensor or None
        (B, 1, Y, X): change; with two channels: no change and change; strategy 2: no change and
        each transition; strategy 1: ``None``.
    before, after : Tensor or None
        Land cover of the dates, (B, classes, Y, X); strategy 2: ``None``.
    """

    change: Tensor | None
    before: Tensor | None
    after: Tensor | None


class PostClassification(nn.Module):
    """Strategy 1: land cover of both dates by one network; change is where it differs.

    :func:`cdscale.models.transitions.differs` compares.

    Parameters
    ----------
    channels : int
        Of one date; 3 in the paper (RGB).
    classes : int
        Of land cover; 6 in the paper, the first of which is "no information".
    width, slope : int, float
        As of :class:`cdscale.models.land_cover.Size`.

    Notes
    -----
    RGB, 6 classes: 6,386,806 parameters.
    """

    def __init__(
        self,
        channels: int = 3,
        classes: int = CLASSES,
        *,
        width: int = 8,
        slope: float = 0.01,
    ) -> None:
        super().__init__()
        self.land_cover = LandCover(channels, classes, Size(width, slope))

    def forward(self, before: Tensor, after: Tensor) -> SemanticChange:
        """Land cover of both dates.

        Parameters
        ----------
        before, after : Tensor
            Normalised image, (B, channels, Y, X), any height and width from 32 up.

        Returns
        -------
        SemanticChange
            Without ``change``.

        Raises
        ------
        ModelError
            When a side is below 32 pixels, or the dates do not have the same size and both
            the channels that the network reads.
        """
        return SemanticChange(None, *self.land_cover.both(before, after))


class DirectTransitions(nn.Module):
    """Strategy 2: one early-fusion network, one class per transition.

    The paper saw it collapse to the most frequent transition wherever it finds change.

    Parameters
    ----------
    channels : int
        Of one date.
    outputs : int
        No change and the transitions; 21 for all of HRSCD's
        (:class:`cdscale.models.transitions.Transitions`).
    width, slope : int, float
        As of :class:`cdscale.models.land_cover.Size`.

    Notes
    -----
    RGB, 21 outputs: 6,387,181 parameters.
    """

    def __init__(
        self,
        channels: int = 3,
        outputs: int = 21,
        *,
        width: int = 8,
        slope: float = 0.01,
    ) -> None:
        super().__init__()
        self.channels = channels
        size = Size(width, slope)
        self.encoder = Encoder(2 * channels, size)
        self.decoder = Decoder(outputs, size)

    def forward(self, before: Tensor, after: Tensor) -> SemanticChange:
        """Transitions, as ``change`` (B, outputs, Y, X); errors as of strategy 1."""
        check_pair(before, after, self.channels)
        pair = torch.cat((before, after), dim=1)
        return SemanticChange(decode(self.decoder, self.encoder(pair)), None, None)


class _TwoTasks(nn.Module):
    """What strategies 3 and 4 share: a land cover part that can be frozen, and a change part.

    Training in two stages (4.2, and both trainings of 3): fit ``land_cover`` alone through
    :meth:`land_cover_of`, call :meth:`freeze_land_cover`, then fit ``change_parameters()`` with
    an optimiser of their own.
    """

    land_cover: LandCover
    change_encoder: Encoder
    change_decoder: Decoder
    _frozen = False

    @property
    def land_cover_frozen(self) -> bool:
        """Whether :meth:`freeze_land_cover` was called (weights files do not keep it)."""
        return self._frozen

    def freeze_land_cover(self) -> None:
        """Hold land cover for good: no gradients, and batch statistics that stay as they are."""
        self._frozen = True
        self.land_cover.requires_grad_(False)
        self.land_cover.eval()

    def train(self, mode: bool = True) -> Self:
        """Training or evaluation mode; a frozen land cover part stays in evaluation mode."""
        super().train(mode)
        if self._frozen:
            self.land_cover.eval()
        return self

    def change_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of the change encoder and decoder: what stage two of 4.2 fits."""
        yield from self.change_encoder.parameters()
        yield from self.change_decoder.parameters()

    def land_cover_of(self, before: Tensor, after: Tensor) -> SemanticChange:
        """Land cover of both dates alone, without the work for change: stage one of 4.2."""
        return SemanticChange(None, *self.land_cover.both(before, after))


class IndependentChange(_TwoTasks):
    """Strategy 3: change from a network of its own, land cover from another.

    Parameters
    ----------
    channels : int
        Of one date; 3 in the paper (RGB).
    classes : int
        Of land cover; 6 in the paper, the first of which is "no information".
    outputs : int
        Channels of the change logits: 1 in the published network; 2: no change and change.
    width, slope : int, float
        As of :class:`cdscale.models.land_cover.Size`.

    Notes
    -----
    RGB, 6 classes, 1 output: 12,773,807 parameters.
    """

    def __init__(
        self,
        channels: int = 3,
        classes: int = CLASSES,
        outputs: int = 1,
        *,
        width: int = 8,
        slope: float = 0.01,
    ) -> None:
        super().__init__()
        size = Size(width, slope)
        self.land_cover = LandCover(channels, classes, size)
        self.change_encoder = Encoder(2 * channels, size)
        self.change_decoder = Decoder(outputs, size)

    def forward(self, before: Tensor, after: Tensor) -> SemanticChange:
        """Change, and land cover of both dates; arguments and errors as of strategy 1."""
        check_pair(before, after, self.land_cover.channels)
        change = decode(self.change_decoder, self.change_encoder(torch.cat((before, after), dim=1)))
        return SemanticChange(change, *self.land_cover.both(before, after))


class IntegratedChange(_TwoTasks):
    """Strategies 4.1 and 4.2: the change decoder reads how the land cover features differ.

    Each output of the change encoder goes to the change decoder with the absolute difference of
    the land cover encoder's outputs at the two dates.

    Parameters
    ----------
    channels : int
        Of one date; 3 in the paper (RGB).
    classes : int
        Of land cover; 6 in the paper, the first of which is "no information".
    outputs : int
        Channels of the change logits: 1 in the published network; 2: no change and change.
    detach : bool
        4.1 (False): the loss of change reaches the land cover encoder through the differences.
        4.2 (True): it does not. Outputs are the same.
    width, slope : int, float
        As of :class:`cdscale.models.land_cover.Size`.

    Notes
    -----
    RGB, 6 classes, 1 output: 13,713,455 parameters, of which the land cover encoder has
    2,012,448 and its decoder 4,374,358, the change encoder 2,012,688 and its decoder 5,313,961.
    """

    def __init__(
        self,
        channels: int = 3,
        classes: int = CLASSES,
        outputs: int = 1,
        *,
        detach: bool = False,
        width: int = 8,
        slope: float = 0.01,
    ) -> None:
        super().__init__()
        size = Size(width, slope)
        self.detach = detach
        self.land_cover = LandCover(channels, classes, size)
        self.change_encoder = Encoder(2 * channels, size)
        self.change_decoder = Decoder(outputs, size, copies=2)

    def forward(self, before: Tensor, after: Tensor) -> SemanticChange:
        """Change, and land cover of both dates; arguments and errors as of strategy 1."""
        check_pair(before, after, self.land_cover.channels)
        seen = self.land_cover.encoder(torch.cat((before, after)))
        cover = decode(self.land_cover.decoder, seen)
        differences = [(a - b).abs() for a, b in (level.chunk(2) for level in seen)]
        if self.detach:
            differences = [level.detach() for level in differences]
        own = self.change_encoder(torch.cat((before, after), dim=1))
        joined = [torch.cat(pair, dim=1) for pair in zip(own, differences, strict=True)]
        return SemanticChange(decode(self.change_decoder, joined), *cover.chunk(2))
