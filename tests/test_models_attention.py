"""System D: sizes of the paper, both gates, options, reach, and tiles that equal the whole."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from cdscale.errors import ModelError
from cdscale.models import attention
from cdscale.models.attention import Attention, Gate, GateKind, SiameseAttention, Up, halo
from cdscale.models.blocks import count_parameters
from tests.reaching import exact, furthest, on_grid, positive, randomise, reached_rows
from tests.reaching import tiles_are_whole as tiles_agree

NARROW = (2, 3, 2, 3, 2)
UPS: tuple[Up, ...] = ("subpixel", "transposed", "bilinear")
EXACT_UPS = UPS[:2]
ATTENTIONS: tuple[Attention, ...] = ("none", "skip", "up")
WHERE = ATTENTIONS[1:]
GATES: tuple[GateKind, ...] = ("paper", "released")


def a_network(**options: Any) -> SiameseAttention:
    plain: dict[str, Any] = {"channels": 3, "classes": 4, "widths": NARROW}
    torch.manual_seed(0)
    network: SiameseAttention = randomise(SiameseAttention(**(plain | options)))
    return network


def a_pair(size: tuple[int, int], count: int = 1, channels: int = 3) -> tuple[Tensor, Tensor]:
    return torch.randn(count, channels, *size), torch.randn(count, channels, *size)


# ------------------------------------------------------------------------------------------ sizes


@pytest.mark.parametrize(
    ("up", "plain", "attended"),
    [
        ("bilinear", 59_244_928, 62_043_660),
        ("transposed", 67_600_768, 70_399_500),
        ("subpixel", 67_606_528, 70_405_260),
    ],
)
def test_parameters_are_those_of_the_paper(up: Any, plain: int, attended: int) -> None:
    with torch.device("meta"):
        assert count_parameters(SiameseAttention(up=up, attention="none")) == plain
        for where, gate in itertools.product(WHERE, GATES):
            network = SiameseAttention(up=up, attention=where, gate=gate)
            assert count_parameters(network) == attended


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize(("gate", "dead"), [("paper", 0), ("released", 2_796_800)])
def test_the_released_gate_leaves_its_projections_without_gradient(
    gate: Any, dead: int, where: Any
) -> None:
    with torch.device("meta"):
        network = SiameseAttention(gate=gate, attention=where)
        network(torch.zeros(1, 4, 32, 32), torch.zeros(1, 4, 32, 32)).sum().backward()
    without = {name: p.numel() for name, p in network.named_parameters() if p.grad is None}
    assert sum(without.values()) == dead
    assert all(".gate.attended." in name or ".gate.other." in name for name in without)


@pytest.mark.parametrize("up", UPS)
@pytest.mark.parametrize("where", ATTENTIONS)
def test_every_parameter_learns_with_the_gate_of_the_paper(up: Any, where: Any) -> None:
    network = SiameseAttention(3, 4, up=up, attention=where, widths=(4,) * 5)
    pair = a_pair((64, 64), count=4)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        network.train()(*pair)  # statistics of these images: no ReLU is shut for good
    network.eval()(*pair).square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []
    silent = [n for n, p in network.named_parameters() if p.grad is not None and not p.grad.any()]
    assert silent == []


@settings(max_examples=8)
@given(size=st.tuples(st.integers(16, 50), st.integers(16, 50)), up=st.sampled_from(UPS))
def test_any_size_comes_back(size: tuple[int, int], up: Any) -> None:
    with torch.inference_mode():
        for where in ATTENTIONS:
            network = a_network(up=up, attention=where)
            assert network(*a_pair(size)).shape == (1, 4, *size)


def test_weights_start_as_the_paper_says() -> None:
    torch.manual_seed(0)
    network = SiameseAttention(4, 8, widths=(16, 32, 64, 128, 256))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
            if module.weight.numel() > 2000:
                spread = module.weight.std().item()
                assert spread == pytest.approx((2 / fan_out) ** 0.5, rel=0.1)
            assert module.bias is None or not module.bias.any()
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all()
            assert not module.bias.any()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"up": "nearest"}, "up; expected subpixel or transposed or bilinear; got nearest"),
        ({"attention": "both"}, "attention; expected none or skip or up; got both"),
        ({"gate": "code"}, "gate; expected paper or released; got code"),
        ({"widths": (1, 2)}, r"widths; expected 5 of them; got \(1, 2\)"),
        ({"widths": (1, 1, 0, 1, 1)}, "widths"),
    ],
)
def test_an_option_out_of_range_is_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        SiameseAttention(**options)


def test_images_that_do_not_fit_are_refused() -> None:
    network = a_network()
    with pytest.raises(ModelError, match=r"too small.*at least 16.*15 x 40"):
        network(*a_pair((15, 40)))
    with pytest.raises(ModelError, match="shapes of before and after"):
        network(*a_pair((16, 16), channels=4))
    with pytest.raises(ModelError, match="shapes of before and after"):
        network(a_pair((16, 16))[0], a_pair((16, 17))[0])


# ------------------------------------------------------------------------------------------- gate


def test_the_gate_of_the_paper_is_its_formula() -> None:
    gate = randomise(Gate(3, "paper"))
    up, skip = a_pair((5, 6))
    with torch.inference_mode():
        both = (gate.attended(up) + gate.other(skip)).clamp_min(0)
        weight = gate.score[1](gate.score[0](both)).sigmoid()
        assert weight.shape == (1, 1, 5, 6)
        torch.testing.assert_close(gate(up, skip), weight * up)
        assert not torch.equal(gate(up, skip), gate(up, skip + 1))
        assert (gate(up, skip) < 0).any()


def test_the_released_gate_hears_nothing_of_the_skip_and_is_never_negative() -> None:
    gate = randomise(Gate(3, "released"))
    up, skip = a_pair((5, 6))
    kept = up.clone()
    with torch.inference_mode():
        out = gate(up, skip)
        assert torch.equal(out, gate(up, 100 * skip))
        assert torch.equal(out, gate(up.clamp_min(0), skip))
        assert (out >= 0).all()
        assert (out > 0).any()
    assert torch.equal(up, kept), "the input itself is left alone"


@given(seed=st.integers(0, 1000), kind=st.sampled_from(GATES))
@settings(max_examples=20)
def test_a_gate_only_weakens(seed: int, kind: Any) -> None:
    gate = randomise(Gate(2, kind), seed)
    up, skip = a_pair((4, 4), channels=2)
    with torch.inference_mode():
        assert (gate(up, skip).abs() <= up.abs()).all()


@pytest.mark.parametrize(("where", "weighed"), [("up", 0), ("skip", 1)])
def test_the_chosen_path_is_weighed_and_the_other_goes_through(where: Any, weighed: int) -> None:
    block = a_network(attention=where).decoder[-1]
    assert isinstance(block, attention.UpBlock)
    seen: list[Tensor] = []
    block.join.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    below, skip = torch.randn(1, 6, 8, 8), torch.randn(1, 4, 16, 16)
    with torch.inference_mode():
        paths = (block.up(below), skip)
        block(below, skip)
    found = seen[0].split(4, dim=1)
    assert torch.equal(found[1 - weighed], paths[1 - weighed])
    assert not torch.allclose(found[weighed], paths[weighed])


def test_without_attention_there_is_no_gate() -> None:
    assert not [m for m in a_network(attention="none").modules() if isinstance(m, Gate)]


def test_both_dates_go_through_one_encoder_side_by_side() -> None:
    network = a_network()
    before, after = a_pair((32, 32))
    bridges: list[Tensor] = []
    network.decoder[0].register_forward_hook(lambda _m, inputs, _o: bridges.append(inputs[0]))
    with torch.inference_mode():
        network(before, after)
        network(after, before)
    one, other = (x.chunk(2, dim=1) for x in bridges)
    torch.testing.assert_close(one[0], other[1])
    torch.testing.assert_close(one[1], other[0])


# ------------------------------------------------------------------------------------------ reach


def called(network: nn.Module) -> Any:
    def call(images: Sequence[Tensor]) -> Tensor:
        found: Tensor = network(*images)
        return found

    return call


@pytest.mark.parametrize("up", EXACT_UPS)
@pytest.mark.parametrize("gate", GATES)
def test_a_row_just_inside_of_the_reach_counts_and_one_just_outside_does_not(
    up: Any, gate: Any
) -> None:
    network = called(positive(a_network(channels=1, classes=1, up=up, gate=gate)))
    ladder = attention.LADDER
    row, seen = furthest(ladder.reads, ladder.stride, ladder.radius())
    length = row + ladder.radius() + 2 * ladder.stride
    for at in (seen.low - 1, seen.low, seen.high, seen.high + 1):
        found = reached_rows(network, 2, at, (length, 16))
        windows = [(r, ladder.reads(r)) for r in range(length)]
        assert found == [r for r, it in windows if it.low <= at <= it.high]
        assert (row in found) == (seen.low <= at <= seen.high)


def test_the_bilinear_network_reads_no_further_than_its_halo() -> None:
    network = called(positive(a_network(channels=1, classes=1, up="bilinear")))
    for at in (200, 207, 208, 215):
        found = reached_rows(network, 2, at, (416, 16))
        far = max(at - found[0], found[-1] - at)
        assert attention.LADDER.radius() < far <= halo("bilinear")


def test_halos() -> None:
    assert (attention.STRIDE, attention.HALO) == (16, 112)
    assert [halo(up) for up in UPS] == [112, 112, 144]


@pytest.mark.parametrize("where", ATTENTIONS)
@pytest.mark.parametrize("up", EXACT_UPS)
def test_tiles_are_the_whole_bit_for_bit(up: Any, where: Any) -> None:
    network = called(exact(a_network(channels=1, up=up, attention=where), gain=1.0))
    images = [on_grid(torch.randn(1, 1, 320, 17).double()) for _ in range(2)]
    assert tiles_agree(network, images, core=64, halo=attention.HALO)
    assert not tiles_agree(network, images, core=64, halo=attention.HALO - 48)


def test_tiles_of_the_bilinear_network_are_not_the_whole_and_come_near_it() -> None:
    network = called(a_network(channels=1, up="bilinear", attention="none").double())
    images = [torch.randn(1, 1, 512, 16).double() for _ in range(2)]
    with torch.inference_mode():
        whole = network(images)
        low, high = 192 - halo("bilinear"), 256 + halo("bilinear")
        tile = network([x[..., low:high, :] for x in images])[..., 192 - low : 256 - low, :]
    error = (tile - whole[..., 192:256, :]).abs().max() / whole.std()
    assert 1e-6 < error < 1
