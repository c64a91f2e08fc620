"""Prediction: tiles equal the whole, absent pixels are absent, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cdscale import models
from cdscale.errors import ModelError
from cdscale.inference import (
    Block,
    Floats,
    Tiling,
    predict_change,
    predict_urban,
    turned,
    turned_back,
)
from cdscale.models import missing_optical, two_branch
from cdscale.models.inputs import Pair, change_inputs, s1_input, s2_input
from cdscale.spec.card import ModelCard, Normalisation

ATOL = 5e-6
"""Of probabilities: sums of float32 in another order."""

RULE = Normalisation(s2_clip=(0.0, 0.8), s2_mean=(0.1, 0.2), s2_std=(0.05, 0.1))


def a_card(family: str) -> ModelCard:
    module = two_branch if family == "two-branch" else missing_optical
    plain: dict[str, Any] = {
        "name": "toy",
        "version": "1",
        "title": "A toy",
        "task": "change" if family == "two-branch" else "urban",
        "family": family,
        "network": {} if family == "two-branch" else {"width": 2},
        "weights": "toy.safetensors",
        "weights_sha256": "0" * 64,
        "s2_bands": ("B04", "B08"),
        "s1_bands": ("vv",),
        "normalisation": RULE,
        "halo": module.HALO,
        "stride": module.STRIDE,
        "threshold": 0.5,
        "classes": {0: "no", 1: "yes"},
        "training": dict.fromkeys(("data", "split", "recipe", "licence"), "none")
        | {"steps": 0, "simulated": True},
        "accuracy": {},
        "limits": (),
    }
    return ModelCard.model_validate(plain)


def a_network(card: ModelCard) -> nn.Module:
    torch.manual_seed(1)
    network = models.build(card)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = 0.1 * torch.randn(module.num_features)
            module.running_var = 0.3 + torch.rand(module.num_features)
    for module in network.modules():
        if isinstance(module, nn.ConvTranspose2d):
            # The deepest layers speak up: what comes from afar is seen in the output.
            module.weight.data *= 12
    return network.eval()


CHANGE, URBAN = a_card("two-branch"), a_card("missing-optical")
CHANGE_NET, URBAN_NET = a_network(CHANGE), a_network(URBAN)


def a_block(
    seed: int, shape: tuple[int, int], holes: float = 0.0, card: ModelCard = CHANGE
) -> Block:
    """A place of this shape with its halo, some pixels absent in one sensor or the other."""
    random = np.random.default_rng(seed)
    full = tuple(n + 2 * card.halo for n in shape)
    s2 = random.uniform(0, 0.5, (2, *full)).astype(np.float32)
    s1 = random.gamma(2, 0.05, (1, *full)).astype(np.float32)
    s2[:, random.random(full) < holes] = np.nan
    s1[:, random.random(full) < holes] = np.nan
    return Block(s2, s1)


def part(block: Block, top: int, left: int, shape: tuple[int, int]) -> Block:
    """The block of a smaller place inside another's."""
    rows = slice(top, top + shape[0] + 2 * CHANGE.halo)
    columns = slice(left, left + shape[1] + 2 * CHANGE.halo)
    return Block(block.s2_BYX[:, rows, columns], block.s1_PYX[:, rows, columns])


SHAPES = st.tuples(st.integers(33, 70), st.integers(33, 70))


@settings(max_examples=2)
@given(core=st.sampled_from([32, 48]), batch=st.integers(1, 3), shape=SHAPES)
def test_tiled_change_equals_one_pass(core: int, batch: int, shape: tuple[int, int]) -> None:
    before, after = a_block(0, shape, 0.05), a_block(1, shape, 0.05)
    whole = predict_change(CHANGE_NET, CHANGE, before, after, Tiling(core=1024))
    tiled = predict_change(CHANGE_NET, CHANGE, before, after, Tiling(core, batch))
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=ATOL)


@settings(max_examples=5)
@given(core=st.sampled_from([32, 48]), batch=st.integers(1, 3), shape=SHAPES)
def test_tiled_urban_equals_one_pass(core: int, batch: int, shape: tuple[int, int]) -> None:
    block = a_block(0, shape, 0.05, URBAN)
    whole = predict_urban(URBAN_NET, URBAN, block, Tiling(core=1024)).probability_YX
    tiled = predict_urban(URBAN_NET, URBAN, block, Tiling(core, batch)).probability_YX
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=ATOL)


def test_blocks_cut_from_one_grid_join_without_a_seam() -> None:
    before, after = a_block(2, (64, 96)), a_block(3, (64, 96))
    whole = predict_change(CHANGE_NET, CHANGE, before, after)
    joined = np.hstack(
        [
            predict_change(
                CHANGE_NET,
                CHANGE,
                part(before, 0, left, (64, 48)),
                part(after, 0, left, (64, 48)),
                Tiling(core=32),
            )
            for left in (0, 48)
        ]
    )
    np.testing.assert_allclose(joined, whole, rtol=0, atol=ATOL)


def test_a_smaller_halo_would_show_a_seam() -> None:
    """The halo is not merely generous: with half of it the tiled map differs."""
    before, after = a_block(2, (64, 64)), a_block(3, (64, 64))
    whole = predict_change(CHANGE_NET, CHANGE, before, after)
    cut = CHANGE.model_copy(update={"halo": 16})
    less = CHANGE.halo - 16
    smaller = [
        Block(b.s2_BYX[:, less:-less, less:-less], b.s1_PYX[:, less:-less, less:-less])
        for b in (before, after)
    ]
    tiled = predict_change(CHANGE_NET, cut, smaller[0], smaller[1], Tiling(core=32))
    assert np.abs(tiled - whole).max() > 1e-4


def test_the_inner_part_is_what_the_network_says_of_the_whole_block() -> None:
    before, after = a_block(4, (48, 32)), a_block(5, (48, 32))
    planes = (before.s2_BYX, after.s2_BYX, before.s1_PYX, after.s1_PYX)
    pair = change_inputs(Pair(*(torch.from_numpy(x)[None] for x in planes)), RULE)
    with torch.inference_mode():
        logits = CHANGE_NET(*pair.tensors())
    halo = CHANGE.halo
    expected = logits.softmax(dim=1)[0, 1, halo:-halo, halo:-halo].numpy()
    found = predict_change(CHANGE_NET, CHANGE, before, after, Tiling(core=16))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=ATOL)


def test_urban_features_are_real_where_seen_and_made_elsewhere() -> None:
    block = a_block(6, (32, 32), 0.3, card=URBAN)
    found = predict_urban(URBAN_NET, URBAN, block, Tiling(core=32))
    s1, s2 = (torch.from_numpy(x)[None] for x in (block.s1_PYX, block.s2_BYX))
    seen = torch.isfinite(s2).all(dim=1)
    with torch.inference_mode():
        logits = URBAN_NET(s1_input(s1, RULE), s2_input(s2, RULE), seen)
    halo = URBAN.halo
    inner = (slice(halo, -halo), slice(halo, -halo))
    expected = logits.sigmoid()[0, 0][inner].numpy()
    either = np.isfinite(block.s2_BYX[0][inner]) | np.isfinite(block.s1_PYX[0][inner])
    np.testing.assert_allclose(found.probability_YX[either], expected[either], rtol=0, atol=ATOL)
    assert np.isnan(found.probability_YX[~either]).all()
    np.testing.assert_array_equal(found.optical_YX, np.isfinite(block.s2_BYX[0][inner]))
    np.testing.assert_array_equal(found.radar_YX, np.isfinite(block.s1_PYX[0][inner]))


def test_without_radar_the_map_rests_on_optical_alone() -> None:
    before, after = a_block(7, (32, 32)), a_block(8, (32, 32))
    bare = [Block.without_radar(b.s2_BYX, 1) for b in (before, after)]
    found = predict_change(CHANGE_NET, CHANGE, bare[0], bare[1])
    assert np.isfinite(found).all()
    # Radar at one date alone says nothing about change: it is as good as none.
    half = predict_change(CHANGE_NET, CHANGE, before, bare[1])
    np.testing.assert_array_equal(found, half)
    urban = predict_urban(
        URBAN_NET, URBAN, Block.without_radar(a_block(7, (32, 32), card=URBAN).s2_BYX, 1)
    )
    assert np.isfinite(urban.probability_YX).all()
    assert not urban.radar_YX.any()


def test_where_nothing_was_seen_there_is_no_probability_and_no_computing() -> None:
    block = a_block(9, (64, 64))
    nothing = Block(np.full_like(block.s2_BYX, np.nan), np.full_like(block.s1_PYX, np.nan))

    def refuse(*_: Any) -> None:
        pytest.fail("a network was run over nothing")

    handle = CHANGE_NET.register_forward_pre_hook(refuse)
    try:
        found = predict_change(CHANGE_NET, CHANGE, nothing, nothing, Tiling(core=32))
    finally:
        handle.remove()
    assert np.isnan(found).all()


@pytest.mark.parametrize("core", [0, 24])
def test_windows_off_the_stride_are_refused(core: int) -> None:
    block = a_block(0, (32, 32), card=URBAN)
    with pytest.raises(ModelError, match=f"multiple of 16.*core {core}"):
        predict_urban(URBAN_NET, URBAN, block, Tiling(core))


def test_blocks_of_other_bands_or_sizes_are_refused() -> None:
    block = a_block(0, (32, 32), card=URBAN)
    three: Floats = np.concatenate((block.s2_BYX, block.s2_BYX[:1]))
    with pytest.raises(ModelError, match="shapes of S2 and S1"):
        predict_urban(URBAN_NET, URBAN, Block(three, block.s1_PYX))
    with pytest.raises(ModelError, match="shapes of S2 and S1"):
        predict_change(CHANGE_NET, CHANGE, a_block(0, (32, 32)), a_block(0, (32, 48)))
    with pytest.raises(ModelError, match="more than 224"):
        predict_urban(URBAN_NET, URBAN, a_block(0, (0, 32), card=URBAN))


def test_bfloat16_says_much_the_same() -> None:
    block = a_block(0, (32, 32), card=URBAN)
    half = a_network(URBAN).to(torch.bfloat16)
    exact = predict_urban(URBAN_NET, URBAN, block).probability_YX
    rough = predict_urban(half, URBAN, block).probability_YX
    assert rough.dtype == np.float32
    np.testing.assert_allclose(rough, exact, atol=0.05)


# ------------------------------------------------------------------------- orientations, moments


class Aside(nn.Module):
    """Logits of change: the first band of date 1, one column to the left. It learns nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, s2: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        there = torch.roll(s2[:, :1], -1, dims=-1)
        return torch.cat((torch.zeros_like(there), there), dim=1)


IDENTITY = Normalisation(s2_clip=(-9.0, 9.0), s2_mean=(0.0, 0.0), s2_std=(1.0, 1.0))


def a_ramp(card: ModelCard, shape: tuple[int, int]) -> Block:
    """No two pixels alike."""
    full = tuple(n + 2 * card.halo for n in shape)
    ramp = np.arange(full[0] * full[1], dtype=np.float32).reshape(full) / np.float32(4e4)
    return Block.without_radar(np.stack((ramp, ramp)), 1)


def test_orientations_are_eight_and_each_is_turned_back_exactly() -> None:
    ramp = torch.arange(2 * 24.0).reshape(2, 4, 6)
    seen = [turned(ramp, k) for k in range(8)]
    assert torch.equal(seen[0], ramp)
    assert len({tuple(x.flatten().tolist()) for x in seen}) == 8
    for k, x in enumerate(seen):
        assert torch.equal(turned_back(x, k), ramp)


def test_augmentation_averages_what_the_network_says_of_every_orientation() -> None:
    """A network that looks one pixel aside looks, on the mean, at all four neighbours alike."""
    card = CHANGE.model_copy(update={"normalisation": IDENTITY})
    block = a_ramp(card, (32, 48))
    found = predict_change(Aside(), card, block, block, Tiling(core=16, tta="d4"))
    halo = card.halo
    says = torch.from_numpy(block.s2_BYX[0]).sigmoid()
    beside = [torch.roll(says, by, dims) for by in (-1, 1) for dims in (0, 1)]
    expected = torch.stack(beside).mean(dim=0)[halo:-halo, halo:-halo]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    plain = predict_change(Aside(), card, block, block, Tiling(core=16))
    np.testing.assert_allclose(plain, beside[1][halo:-halo, halo:-halo], rtol=0, atol=1e-6)


@pytest.mark.parametrize("core", [16, 32, 48])
def test_tiled_equals_whole_bit_for_bit_in_every_orientation(core: int) -> None:
    card = CHANGE.model_copy(update={"normalisation": IDENTITY})
    before, after = a_ramp(card, (40, 70)), a_block(1, (40, 70), 0.1)
    whole = predict_change(Aside(), card, before, after, Tiling(core=1024, tta="d4"))
    tiled = predict_change(Aside(), card, before, after, Tiling(core, 2, "d4"))
    np.testing.assert_array_equal(tiled, whole)


def test_tiled_equals_whole_of_a_real_network_with_augmentation() -> None:
    block = a_block(0, (40, 33), 0.05, URBAN)
    whole = predict_urban(URBAN_NET, URBAN, block, Tiling(core=1024, tta="d4"))
    tiled = predict_urban(URBAN_NET, URBAN, block, Tiling(core=16, batch=2, tta="d4"))
    np.testing.assert_allclose(tiled.probability_YX, whole.probability_YX, rtol=0, atol=ATOL)


def test_a_card_says_how_it_predicts_and_the_caller_overrides() -> None:
    card = URBAN.model_copy(update={"tta": "d4"})
    block = a_block(0, (32, 32), 0.1, URBAN)
    plain = predict_urban(URBAN_NET, URBAN, block).probability_YX
    by_card = predict_urban(URBAN_NET, card, block).probability_YX
    asked = predict_urban(URBAN_NET, URBAN, block, Tiling(tta="d4")).probability_YX
    refused = predict_urban(URBAN_NET, card, block, Tiling(tta="none")).probability_YX
    np.testing.assert_array_equal(by_card, asked)
    np.testing.assert_array_equal(refused, plain)
    assert np.nanmax(np.abs(by_card - plain)) > 1e-4


@pytest.mark.parametrize("standardise", ["image", "image_scalar"])
def test_windows_share_the_moments_of_their_block(standardise: Any) -> None:
    """Bit for bit for a network that looks at single pixels, whatever the windows."""
    rule = Normalisation(s2_standardise=standardise, s1_standardise="image")
    card = CHANGE.model_copy(update={"normalisation": rule})
    before, after = a_block(0, (40, 70), 0.1), a_block(1, (40, 70), 0.1)
    found = [
        predict_change(Aside(), card, before, after, Tiling(core)) for core in (16, 32, 48, 1024)
    ]
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])
    # The network sees standardised reflectance: another gain of the block is not seen.
    brighter = Block(before.s2_BYX * 1.5, before.s1_PYX)
    again = predict_change(Aside(), card, brighter, after, Tiling(32))
    np.testing.assert_allclose(again, found[0], rtol=0, atol=1e-5)


def test_windows_of_a_real_network_share_the_moments_of_their_block() -> None:
    rule = Normalisation(s2_standardise="image", s1_standardise="image")
    card = CHANGE.model_copy(update={"normalisation": rule})
    # A bright half: windows by themselves would have moments of their own.
    before, after = a_block(0, (33, 64)), a_block(1, (33, 64))
    before.s2_BYX[:, :, : before.s2_BYX.shape[2] // 2] += 0.4
    whole = predict_change(CHANGE_NET, card, before, after, Tiling(core=1024))
    tiled = predict_change(CHANGE_NET, card, before, after, Tiling(core=32))
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=ATOL)


def test_a_card_without_radar_says_nothing_where_no_optical_was_seen() -> None:
    card = CHANGE.model_copy(update={"s1_bands": (), "normalisation": IDENTITY})
    block = a_block(3, (32, 32), 0.3)
    bare = Block.without_radar(block.s2_BYX, 0)
    found = predict_change(Aside(), card, bare, bare, Tiling(16))
    halo = card.halo
    seen = np.isfinite(block.s2_BYX[0, halo:-halo, halo:-halo])
    np.testing.assert_array_equal(np.isfinite(found), seen)
