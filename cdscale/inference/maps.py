"""Maps of a place: what a network says of blocks, normalised, tiled and turned back.

Shape suffixes: N window, D date, B band, P polarisation, C channel, Y row, X column.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor, nn

from cdscale.inference.blocks import Block, Booleans, Floats, Sent
from cdscale.inference.device import device_of, send, watched
from cdscale.inference.windows import Passes, Place, Tiling
from cdscale.models.inputs import (
    Pair,
    PairMoments,
    absent,
    s1_input,
    s1_moments_of,
    s2_input,
    s2_moments_of,
    views_of_change,
)
from cdscale.models.orientations import turned, turned_back
from cdscale.spec.card import ModelCard, Normalisation


@dataclass(frozen=True)
class UrbanMap:
    """Urban probability (Y, X) in [0, 1], NaN where nothing was seen, and what it rests on.

    Where ``optical`` is False the optical features were reconstructed from radar; where
    ``radar`` is False the map rests on the optical image alone.
    """

    probability_YX: Floats
    optical_YX: Booleans
    radar_YX: Booleans


def predict_change(
    network: nn.Module, card: ModelCard, before: Block, after: Block, how: Tiling | None = None
) -> Floats:
    """Probability of change between two dates of one place.

    Parameters
    ----------
    network : nn.Module
        From :func:`cdscale.models.load`, on any device and in any precision.
    card : ModelCard
        Its card.
    before, after : Block
        The two dates, (Y + 2 halo, X + 2 halo) each.
    how : Tiling, optional
        Size and number of windows.

    Returns
    -------
    float32 array
        (Y, X) in [0, 1]; NaN where neither sensor saw both dates. Where one of them did, the
        other enters as absent, as in training.

    Raises
    ------
    ModelError
        When blocks do not have the card's bands, or one size, or are smaller than the halo.
    DeviceError
        When the device has too little memory for the smallest window, or is lost.
    """
    how, views, blocks = how or Tiling(), card.views, (before, after)
    place = Place.of(card, blocks)
    dtype = next(network.parameters()).dtype
    with watched():
        dates = _sent(network, blocks)
        moments = [_moments_of_pair(dates, rule) for rule in views]

        def forward(run: Any, s2_NDBYX: Tensor, s1_NDPYX: Tensor) -> Tensor:
            def changed(*inputs: Tensor) -> Tensor:
                logits_NCYX: Tensor = run(*(x.to(dtype) for x in inputs))
                return logits_NCYX.float().softmax(dim=1)[:, 1]

            pair = Pair(s2_NDBYX[:, 0], s2_NDBYX[:, 1], s1_NDPYX[:, 0], s1_NDPYX[:, 1])
            inputs = views_of_change(pair, views, moments)
            return _mean_over(how.orientations(card), changed, inputs)

        probability_YX = Passes(place, network, forward, blocks, dates).run(how)
    seen_YX = _whole(before.lit(*place.inner)) & _whole(after.lit(*place.inner))
    seen_YX |= _whole(before.sounded(*place.inner)) & _whole(after.sounded(*place.inner))
    probability_YX[~seen_YX] = np.nan
    return probability_YX


def predict_urban(
    network: nn.Module, card: ModelCard, block: Block, how: Tiling | None = None
) -> UrbanMap:
    """Urban probability of one place in one month, with or without optical pixels.

    Parameters
    ----------
    network : nn.Module
        From :func:`cdscale.models.load`, on any device and in any precision.
    card : ModelCard
        Its card.
    block : Block
        The month, (Y + 2 halo, X + 2 halo).
    how : Tiling, optional
        Size and number of windows.

    Returns
    -------
    UrbanMap
        (Y, X); optical features are real where the pixel was seen, reconstructed elsewhere.

    Raises
    ------
    ModelError
        When the block does not have the card's bands or is smaller than the halo.
    DeviceError
        When the device has too little memory for the smallest window, or is lost.
    """
    how, rule = how or Tiling(), card.normalisation
    place = Place.of(card, (block,))
    dtype = next(network.parameters()).dtype
    with watched():
        dates = _sent(network, (block,))
        of_s2, of_s1 = s2_moments_of(dates[0].optical, rule), s1_moments_of(dates[0].radar, rule)

        def forward(run: Any, s2_NDBYX: Tensor, s1_NDPYX: Tensor) -> Tensor:
            def urban(*inputs: Tensor) -> Tensor:
                logits_NCYX: Tensor = run(*inputs)
                return logits_NCYX.float().sigmoid()[:, 0]

            s1 = s1_input(s1_NDPYX[:, 0], rule, of_s1).to(dtype)
            s2 = s2_input(s2_NDBYX[:, 0], rule, of_s2).to(dtype)
            inputs = (s1, s2, ~absent(s2_NDBYX[:, 0]))
            return _mean_over(how.orientations(card), urban, inputs)

        probability_YX = Passes(place, network, forward, (block,), dates).run(how)
    optical_YX, radar_YX = _whole(block.lit(*place.inner)), _whole(block.sounded(*place.inner))
    probability_YX[~(optical_YX | radar_YX)] = np.nan
    return UrbanMap(probability_YX, optical_YX, radar_YX)


def _sent(network: nn.Module, blocks: tuple[Block, ...]) -> tuple[Sent, ...]:
    """Blocks on the network's device."""
    there = partial(send, device=device_of(network))
    return tuple(Sent.of(block, there) for block in blocks)


def _moments_of_pair(dates: tuple[Sent, ...], rule: Normalisation) -> PairMoments:
    """Of two whole images, where they are, in float32 and wider."""
    s2 = (s2_moments_of(date.optical, rule) for date in dates)
    s1 = (s1_moments_of(date.radar, rule) for date in dates)
    return PairMoments(*s2, *s1)


def _mean_over(
    orientations: range, say: Callable[..., Tensor], inputs: tuple[Tensor, ...]
) -> Tensor:
    """Mean of what is said (N, Y, X) of inputs in some orientations."""
    total = say(*inputs)
    for orientation in orientations[1:]:
        # Networks may ask for memory in order.
        seen = (turned(x, orientation).contiguous() for x in inputs)
        total = total + turned_back(say(*seen), orientation)
    return total / len(orientations)


def _whole(there_CYX: Booleans) -> Booleans:
    """Pixels (Y, X) that have all channels; none of a sensor without channels."""
    return np.asarray(there_CYX.all(axis=0) & bool(len(there_CYX)))
