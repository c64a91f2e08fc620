"""The cube to maps, through the networks: ``map_urban``, and the pair network's part of change.

``inference``, and with it torch, is imported where a network runs: the driver, which imports this
module to name its tasks, does without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cdscale import kernels, models
from cdscale.kernels import Bool
from cdscale.models.families import family_of
from cdscale.months import Month
from cdscale.spec.card import ModelCard
from cdscale.spec.cube import ChangeQuality, UrbanQuality
from cdscale.spec.task import Stage
from cdscale.stages.lanes import on_device
from cdscale.stages.work import Blocks, Work

if TYPE_CHECKING:
    from cdscale.inference import Block


def map_urban(work: Work) -> None:
    """Urban probability of a month; where no optical image is, its features are reconstructed."""
    card = work.job.cards["urban"]
    block = _block(work, card, work.task.month)
    work.blocks |= urban_layers(_network(work, "urban"), card, block, work.job.core)


def urban_layers(network: Any, card: ModelCard, block: Block, core: int) -> Blocks:
    """Variables of ``urban.zarr`` of one place, (Y, X).

    Parameters
    ----------
    network : nn.Module
        From :func:`cdscale.models.load`.
    card : ModelCard
        Its card.
    block : Block
        The month, with the card's halo around the place.
    core : int
        Side of what one pass of the network yields.
    """
    from cdscale import inference

    with on_device():
        result = inference.predict_urban(network, card, block, inference.Tiling(core=core))
    optical_YX, radar_YX = result.optical_YX, result.radar_YX
    layers = [
        (UrbanQuality.no_data, np.ones_like(optical_YX)),
        (UrbanQuality.radar_missing, optical_YX),
        (UrbanQuality.optical_reconstructed, radar_YX),
        (UrbanQuality.both_sensors, optical_YX & radar_YX),
    ]
    return {
        "probability": kernels.pack_probability(result.probability_YX),
        "quality": kernels.quality_codes(layers, optical_YX.shape),
    }


def _network(work: Work, name: str) -> Any:
    from cdscale import inference

    choice = getattr(work.job.spec.models, name)
    card = work.job.cards[name]
    home = models.folder_of(choice.card)
    return models.load(card, inference.best_device(), choice.precision, home)


def _block(work: Work, card: ModelCard, month: Month) -> Block:
    """What a network eats of one month: the card's bands, its halo around the tile."""
    from cdscale.inference import Block

    cube = work.store(Stage.COMPOSE)
    tile, halo = work.task.tile, card.halo
    s2, s1 = cube.spec.variable("s2"), cube.spec.variable("s1")
    stored_BYX = cube.read("s2", tile, month, halo=halo)
    chosen_BYX = stored_BYX[[s2.bands.index(band) for band in card.s2_bands]]
    power_PYX = cube.read("s1", tile, month, halo=halo)
    s1_PYX = np.full((len(card.s1_bands), *chosen_BYX.shape[1:]), np.nan, np.float32)
    for i, band in enumerate(card.s1_bands):
        if band in s1.bands:
            s1_PYX[i] = power_PYX[s1.bands.index(band)]
    return Block(chosen_BYX, s1_PYX, scale=s2.scale or 1.0, fill=int(s2.fill))


def change_of_pair(work: Work) -> None:
    """What changed between the two months of a pair, as the pair network has it."""
    card = work.job.cards["change"]
    before = _block(work, card, work.job.pairs[work.task.month])
    after = _block(work, card, work.task.month)
    network = _network(work, "change")
    work.blocks |= change_layers(network, card, (before, after), work.job.core)


def change_layers(network: Any, card: ModelCard, dates: tuple[Block, Block], core: int) -> Blocks:
    """Variables of ``change.zarr`` that a pair network says, of one place, (Y, X).

    Parameters are those of :func:`urban_layers`, of two months.
    """
    from cdscale import inference

    before, after = dates
    tiling = inference.Tiling(core=core)
    with on_device():
        probability_YX = inference.predict_change(network, card, before, after, tiling)
    inner = slice(card.halo, -card.halo or None)
    optical: list[Bool] = [np.asarray(b.lit(inner, inner).all(axis=0)) for b in dates]
    radar: list[Bool] = [np.asarray(b.sounded(inner, inner).all(axis=0)) for b in dates]
    lit_YX, sounded_YX = optical[0] & optical[1], radar[0] & radar[1]
    layers = [
        (ChangeQuality.radar_missing, lit_YX),
        (ChangeQuality.both_sensors, lit_YX & sounded_YX),
        (ChangeQuality.no_optical_after, ~optical[1]),
        (ChangeQuality.no_optical_before, ~optical[0]),
    ]
    seen_YX: Bool = lit_YX
    if family_of(card).radar_alone:
        layers.append((ChangeQuality.radar_only, sounded_YX & ~lit_YX))
        seen_YX = lit_YX | sounded_YX
    probability_YX = np.where(seen_YX, probability_YX, np.float32(np.nan))
    packed_YX = kernels.pack_probability(probability_YX)
    changed_YX = (kernels.unpack_probability(packed_YX) >= card.threshold).astype(np.uint8)
    return {
        "probability": packed_YX,
        "change": np.where(seen_YX, changed_YX, np.uint8(255)),
        "quality": kernels.quality_codes(layers, seen_YX.shape),
    }
