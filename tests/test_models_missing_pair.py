"""System C on pairs: sizes, which optical pixels count, per pixel, and what training reaches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from cdscale.errors import ModelError
from cdscale.models.blocks import count_parameters
from cdscale.models.ds_unet import DSUNet
from cdscale.models.inputs import Pair, change_inputs
from cdscale.models.missing_optical_pair import MissingOpticalPair, both_seen
from cdscale.spec.card import Normalisation
from tests.reaching import exact, on_grid, randomise, tiles_are_whole

IMAGE = Normalisation(s2_standardise="image", s1_standardise="image")
RECONS = ("separate", "shared", "code", "none", "mean", "token")


def a_pair(
    size: tuple[int, int] = (16, 24), count: int = 2
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """S2 of both dates in three bands, S1 of both in one polarisation."""
    return Pair(*(torch.randn(count, c, *size) for c in (3, 3, 1, 1))).tensors()


def a_network(recon: Any, seed: int = 0) -> MissingOpticalPair:
    torch.manual_seed(seed)
    network: MissingOpticalPair = randomise(MissingOpticalPair(3, 1, width=2, recon=recon), seed)
    if recon == "mean":
        network.net.mean_s2.copy_(torch.tensor([0.3, 0.7]))
    if recon == "token":
        network.net.token.data = torch.tensor([0.2, -0.4])
    return network


@pytest.mark.parametrize(
    ("count", "make"),
    [
        (29_590_529, lambda: MissingOpticalPair(recon="none")),
        (29_590_529, lambda: DSUNet()),
        (29_590_529, lambda: MissingOpticalPair(recon="mean")),
        (29_590_529 + 64, lambda: MissingOpticalPair(recon="token")),
        # a third U-Net, on VV of two dates, without its head
        (29_590_529 + 14_788_353 - 65, lambda: MissingOpticalPair()),
        # its first double convolution alone
        (29_590_529 + (2 * 9 * 64 + 64 + 128) + (64 * 9 * 64 + 64 + 128),
         lambda: MissingOpticalPair(recon="shared")),
    ],
)  # fmt: skip
def test_parameters_are_those_of_the_papers_networks(
    count: int, make: Callable[[], nn.Module]
) -> None:
    with torch.device("meta"):
        assert count_parameters(make()) == count


@pytest.mark.parametrize("recon", RECONS)
@given(size=st.tuples(st.integers(16, 40), st.integers(16, 40)))
@settings(max_examples=3)
def test_it_answers_as_other_networks_on_pairs_do(recon: Any, size: tuple[int, int]) -> None:
    with torch.inference_mode():
        logits = a_network(recon)(*a_pair(size))
    assert logits.shape == (2, 2, *size)
    assert (logits[:, 0] == 0).all()


def test_without_reconstruction_it_is_the_dual_stream_u_net() -> None:
    network, other = a_network("none"), randomise(DSUNet(3, 1, width=2))
    other.streams[0].load_state_dict(network.net.s1_net.state_dict())
    other.streams[1].load_state_dict(network.net.s2_net.state_dict())
    other.head.load_state_dict(network.net.head.state_dict())
    # Both heads read radar first.
    pair = a_pair()
    with torch.inference_mode():
        assert torch.equal(network(*pair), other(*pair))


# ------------------------------------------------------------------------------ what was seen


def test_inputs_tell_where_both_dates_were_seen() -> None:
    torch.manual_seed(0)
    s2_before, s2_after, s1_before, s1_after = (torch.rand_like(x) for x in a_pair())
    holes = torch.rand(2, 2, 16, 24) < 0.2
    s2_before[:, 1][holes[:, 0]] = torch.nan
    s2_after[:, 2][holes[:, 1]] = torch.nan
    # A pixel whose bands are all at the clipped end is seen all the same.
    s2_after[0, :, 3, 4], holes[0, :, 3, 4] = 0.0, False
    s2_before[0, :, 3, 4] = 0.5
    inputs = change_inputs(Pair(s2_before, s2_after, s1_before, s1_after), IMAGE)
    expected = ~(holes[:, 0] | holes[:, 1])
    assert torch.equal(both_seen(inputs.s2_before, inputs.s2_after)[:, 0], expected)
    # As physical values, NaN, too.
    assert torch.equal(both_seen(s2_before, s2_after + 1e-3)[:, 0], expected)


def test_an_image_withheld_is_missing_everywhere() -> None:
    pair = a_pair()
    lost = Pair(pair[0], torch.full_like(pair[1], torch.nan), pair[2].square(), pair[3].square())
    inputs = change_inputs(lost, IMAGE)
    assert not both_seen(inputs.s2_before, inputs.s2_after).any()
    network = a_network("separate")
    with torch.inference_mode():
        blind = network.features(*inputs.tensors())
        logits = network(*inputs.tensors())
    assert torch.isfinite(logits).all()
    torch.testing.assert_close(logits[:, 1:], network.net.fuse(blind.s1, blind.s2_from_s1))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("recon", RECONS)
def test_what_lies_under_the_mask_changes_nothing(recon: Any, training: bool) -> None:
    pair = a_pair()
    seen = torch.rand(2, 16, 24) < 0.5
    found = []
    for filling in (0.0, 7.0, torch.nan):
        dates = [torch.where(seen[:, None], x, filling) for x in pair[:2]]
        found.append(a_network(recon).train(training)(*dates, *pair[2:], seen=seen))
    assert torch.isfinite(found[2]).all()
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    # Zeros, or NaN, say what the mask says.
    zeros = [torch.where(seen[:, None], x, 0.0) for x in pair[:2]]
    assert torch.equal(a_network(recon).train(training)(*zeros, *pair[2:]), found[0])


@pytest.mark.parametrize("recon", ["separate", "shared", "mean", "token"])
def test_seen_pixels_take_real_features_and_the_others_do_not(recon: Any) -> None:
    network, pair = a_network(recon), a_pair()
    seen = torch.rand(2, 16, 24) < 0.5
    with torch.inference_mode():
        found = network.features(*pair, seen=seen)
        real = network.net.fuse(found.s1, found.s2)
        made = network.net.fuse(found.s1, found.s2_from_s1)
        logits = network(*pair, seen=seen)[:, 1:]
    assert torch.allclose(logits, torch.where(seen[:, None], real, made), atol=1e-6)
    assert not torch.allclose(real, made)


def test_one_date_alone_is_not_enough() -> None:
    network, pair = a_network("separate"), a_pair()
    nothing = torch.zeros_like(pair[1])
    with torch.inference_mode():
        once = network(pair[0], nothing, *pair[2:])
        assert torch.equal(network(torch.randn_like(nothing), nothing, *pair[2:]), once)
        assert not torch.equal(network(*pair), once)


# -------------------------------------------------------------------------------- training, tiles


def test_an_image_that_is_missing_teaches_the_reconstruction_and_not_the_optical_branch() -> None:
    network, pair = a_network("separate").train(), a_pair((32, 32), 4)
    network(*pair, seen=torch.zeros(4, dtype=torch.bool)).square().sum().backward()

    def slopes(part: nn.Module) -> float:
        return sum(float(p.grad.abs().sum()) for p in part.parameters() if p.grad is not None)

    net = network.net
    assert isinstance(net.recon_stem, nn.Module)
    assert isinstance(net.recon_body, nn.Module)
    assert slopes(net.recon_stem) > 0
    assert slopes(net.recon_body) > 0
    assert slopes(net.s1_net) > 0
    assert slopes(net.s2_net) == 0


def test_tiles_are_the_whole_bit_for_bit_where_part_is_missing() -> None:
    from cdscale.models.missing_optical_pair import HALO

    network = exact(MissingOpticalPair(1, 1, width=2))
    lost = torch.rand(1, 1, 320, 17) < 0.5
    inputs = [on_grid(torch.randn(1, 1, 320, 17).double()) for _ in range(4)]
    inputs[:2] = [x.masked_fill(lost, 0.0) for x in inputs[:2]]

    def call(x: Any) -> Tensor:
        found: Tensor = network(*x)[:, 1:]
        return found

    assert tiles_are_whole(call, inputs, core=64, halo=HALO)
    assert not tiles_are_whole(call, inputs, core=64, halo=HALO - 48)


# -------------------------------------------------------------------------------------- refusals


def test_what_does_not_fit_is_refused() -> None:
    network, pair = a_network("separate"), a_pair()
    with pytest.raises(ModelError, match=r"channels per sensor.*\[3\]; got \[1\]"):
        network(pair[2], pair[2], *pair[2:])
    with pytest.raises(ModelError, match="mask of seen optical pixels"):
        network(*pair, seen=torch.ones(2, 4, 4, dtype=torch.bool))
    with pytest.raises(ModelError, match=r"too small.*at least 16"):
        network(*a_pair((15, 20)))
    for channels in ((0, 1), (3, 0)):
        with pytest.raises(ModelError, match="1 or more each"):
            MissingOpticalPair(*channels)
    with pytest.raises(ModelError, match=r"recon.*got twice"):
        MissingOpticalPair(recon="twice")  # type: ignore[arg-type]
