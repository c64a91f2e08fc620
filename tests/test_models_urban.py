"""System C and its ancestor: sizes, what stands in for optical, per sample and per pixel, reach."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from cdscale.errors import ModelError
from cdscale.models import ds_unet, missing_optical, missing_optical_pair
from cdscale.models.blocks import count_parameters
from cdscale.models.ds_unet import DSUNet
from cdscale.models.missing_optical import Body, MissingOptical, UNet
from cdscale.models.missing_optical_pair import MissingOpticalPair
from tests.reaching import exact, furthest, on_grid, positive, randomise, reached_rows
from tests.reaching import tiles_are_whole as tiles_agree

MADE = ("separate", "shared", "code")
"""Features made from radar."""
FILLED = ("mean", "token")
"""One value per channel."""


def a_sample(
    size: tuple[int, int], count: int = 2, s1: int = 1, s2: int = 3
) -> tuple[Tensor, Tensor]:
    return torch.randn(count, s1, *size), torch.randn(count, s2, *size)


def a_network(recon: Any, seed: int = 0) -> MissingOptical:
    """A small one whose fill is not all zero."""
    torch.manual_seed(seed)
    network: MissingOptical = randomise(MissingOptical(3, 1, width=2, recon=recon), seed)
    if recon == "mean":
        network.mean_s2.copy_(torch.tensor([0.3, 0.7]))
    if recon == "token":
        network.token.data = torch.tensor([0.2, -0.4])
    return network


# ------------------------------------------------------------------------------------------ sizes


@pytest.mark.parametrize(
    ("count", "make"),
    [
        (14_788_353, lambda: UNet(2, 64, outputs=1)),
        (29_577_857, lambda: MissingOptical(recon="none")),
        (29_577_857, lambda: MissingOptical(recon="mean")),
        (29_577_857 + 64, lambda: MissingOptical(recon="token")),
        (44_366_145, lambda: MissingOptical(recon="separate")),
        (29_616_257, lambda: MissingOptical(recon="shared")),
        (44_366_145, lambda: MissingOptical(recon="code")),
        (14_749_888, lambda: Body(64)),
        # pairs
        (29_590_529, lambda: DSUNet()),
        (14_802_177, lambda: DSUNet(13, 0)),
        (14_803_329, lambda: DSUNet(13, 1, fusion="early")),
        (14_788_353, lambda: DSUNet(0, 1)),
        (29_590_659 - 2 * 65, lambda: DSUNet()),
    ],
)
def test_parameters_are_those_of_the_papers(count: int, make: Callable[[], nn.Module]) -> None:
    with torch.device("meta"):
        assert count_parameters(make()) == count


def dead(network: nn.Module) -> dict[str, int]:
    """Parameters that received no gradient at all, or nothing but zeros, and how many values."""
    return {
        name: p.numel()
        for name, p in network.named_parameters()
        if p.grad is None or not p.grad.any()
    }


def settled(network: Any, *inputs: Tensor) -> Any:
    """Batch statistics of these inputs, evaluation mode: normalised, no ReLU is shut for good."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        network.train()(*inputs)
    return network.eval()


@pytest.mark.parametrize("recon", ["separate", "shared", "none", "mean", "token"])
def test_every_parameter_learns_when_part_is_missing(recon: Any) -> None:
    network = MissingOptical(3, 1, width=4, recon=recon)
    s1, s2 = a_sample((32, 32), count=4)
    seen = torch.rand(4, 32, 32) < 0.5
    settled(network, s1, s2, seen)(s1, s2, seen).square().sum().backward()
    assert dead(network) == {}


def test_in_the_code_form_the_body_of_the_reconstruction_is_dead_and_nothing_else() -> None:
    network = MissingOptical(3, 1, width=4, recon="code")
    s1, s2 = a_sample((32, 32), count=4)
    seen = torch.rand(4, 32, 32) < 0.5
    settled(network, s1, s2, seen)(s1, s2, seen).square().sum().backward()
    found = dead(network)
    assert all(name.startswith("recon_body.") for name in found)
    assert sum(found.values()) == count_parameters(Body(4))


def test_the_code_form_computes_what_the_shared_form_does() -> None:
    code, shared = a_network("code"), a_network("shared")
    missing = shared.load_state_dict(code.state_dict(), strict=False)
    assert missing.missing_keys == []
    s1, s2 = a_sample((16, 24))
    seen = torch.rand(2, 16, 24) < 0.5
    with torch.inference_mode():
        assert torch.equal(code(s1, s2, seen), shared(s1, s2, seen))


@pytest.mark.parametrize("fusion", ["late", "early"])
def test_every_parameter_of_a_pair_network_learns(fusion: Any) -> None:
    network = DSUNet(3, 1, width=4, fusion=fusion)
    s1, s2 = a_sample((32, 32), count=4)
    inputs = (s2, s2.flip(0), s1, s1.flip(0))
    settled(network, *inputs)(*inputs).square().sum().backward()
    assert dead(network) == {}


@settings(max_examples=8)
@given(size=st.tuples(st.integers(16, 50), st.integers(16, 50)))
def test_any_size_comes_back(size: tuple[int, int]) -> None:
    s1, s2 = a_sample(size, count=1)
    with torch.inference_mode():
        for recon in ("separate", "mean", "token"):
            assert a_network(recon)(s1, s2, torch.tensor([False])).shape == (1, 1, *size)
        assert DSUNet(3, 1, width=1).eval()(s2, s2, s1, s1).shape == (1, 2, *size)


# ------------------------------------------------------------------------------- optical missing


@pytest.mark.parametrize("recon", MADE + FILLED)
def test_a_mask_per_pixel_takes_real_features_where_seen_and_the_others_elsewhere(
    recon: Any,
) -> None:
    network = a_network(recon)
    s1, s2 = a_sample((32, 32))
    seen = torch.rand(2, 32, 32) < 0.5
    with torch.inference_mode():
        found = network.features(s1, s2, seen)
        real = network.fuse(found.s1, found.s2)
        made = network.fuse(found.s1, found.s2_from_s1)
        expected = torch.where(seen[:, None], real, made)
        torch.testing.assert_close(network(s1, s2, seen), expected)
        torch.testing.assert_close(network(s1, s2, seen[:, None]), expected)
        assert not torch.allclose(real, made)


@pytest.mark.parametrize("recon", MADE + FILLED)
@given(flags=st.lists(st.booleans(), min_size=1, max_size=4))
@settings(max_examples=6)
def test_a_flag_per_sample_is_what_each_sample_gets_by_hand(recon: Any, flags: list[bool]) -> None:
    network = a_network(recon)
    s1, s2 = a_sample((16, 20), count=len(flags))
    with torch.inference_mode():
        together = network(s1, s2, torch.tensor(flags))
        for i, flag in enumerate(flags):
            found = network.features(s1[i : i + 1], s2[i : i + 1])
            by_hand = network.fuse(found.s1, found.s2 if flag else found.s2_from_s1)
            torch.testing.assert_close(together[i : i + 1], by_hand)


@pytest.mark.parametrize("recon", MADE + FILLED + ("none",))
def test_a_mask_per_pixel_that_is_constant_is_a_flag_per_sample(recon: Any) -> None:
    network = a_network(recon)
    s1, s2 = a_sample((16, 24), count=3)
    flags = torch.tensor([True, False, True])
    with torch.inference_mode():
        per_pixel = network(s1, s2, flags[:, None, None].expand(3, 16, 24))
        assert torch.equal(per_pixel, network(s1, s2, flags))


def test_without_reconstruction_what_is_missing_is_zeros_in() -> None:
    network = a_network("none")
    s1, s2 = a_sample((16, 24))
    with torch.inference_mode():
        by_hand = network.fuse(network.s1_net(s1), network.s2_net(torch.zeros_like(s2)))
        torch.testing.assert_close(network(s1, s2, torch.tensor([False, False])), by_hand)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("recon", MADE + FILLED + ("none",))
def test_what_is_flagged_as_missing_is_never_looked_at(recon: Any, training: bool) -> None:
    """Not even through the convolutions of pixels beside it, and not if it is NaN."""
    s1, s2 = a_sample((16, 24))
    seen = torch.rand(2, 16, 24) < 0.5
    junk = torch.where(seen[:, None], s2, torch.nan)
    found = [a_network(recon).train(training)(s1, x, seen) for x in (s2, junk)]
    assert torch.isfinite(found[1]).all()
    assert torch.equal(found[0], found[1])


@pytest.mark.parametrize("recon", MADE + FILLED + ("none",))
def test_training_and_evaluation_choose_alike(recon: Any) -> None:
    network = a_network(recon)
    s1, s2 = a_sample((16, 24))
    seen = torch.rand(2, 16, 24) < 0.5
    with torch.inference_mode():
        evaluated = network(s1, s2, seen)
        network.training = True  # the network alone: its normalisations keep their statistics
        if recon != "mean":
            torch.testing.assert_close(network(s1, s2, seen), evaluated)


def test_what_no_pixel_takes_is_not_computed() -> None:
    network = a_network("separate")
    s1, s2 = a_sample((16, 16))
    calls: list[str] = []
    for name in ("s2_net", "recon_body"):
        part = getattr(network, name)
        part.register_forward_hook(lambda *_, name=name: calls.append(name))
    with torch.inference_mode():
        network(s1, s2, torch.tensor([True, True]))
        assert calls == ["s2_net"]
        network(s1, s2, torch.tensor([False, False]))
        assert calls == ["s2_net", "recon_body"]
        network(s1, s2, torch.tensor([False, True]))
    assert sorted(calls[2:]) == ["recon_body", "s2_net"]


# ---------------------------------------------------------------------------------- running mean


def test_the_running_mean_is_that_of_seen_pixels() -> None:
    network = MissingOptical(3, 1, width=2, recon="mean").train()
    s1, s2 = a_sample((16, 16))
    seen = torch.rand(2, 16, 16) < 0.5
    features = network.features(s1, s2, seen).s2
    by_hand = features.movedim(1, 0)[:, seen].mean(dim=1)
    torch.testing.assert_close(network.mean_s2, by_hand.detach())
    assert not network.mean_s2.requires_grad


def test_the_first_batches_weigh_alike_and_later_ones_a_tenth() -> None:
    network = a_network("mean")
    network.mean_s2.zero_()
    everywhere = torch.ones(1, 1, 1, 1, dtype=torch.bool)
    for number in range(1, 4):
        network._learn_mean(torch.full((1, 2, 4, 4), float(number)), everywhere)
    torch.testing.assert_close(network.mean_s2, torch.tensor([2.0, 2.0]))
    network.mean_updates.fill_(500)
    network._learn_mean(torch.full((1, 2, 4, 4), 12.0), everywhere)
    torch.testing.assert_close(network.mean_s2, torch.tensor([3.0, 3.0]))


def test_the_running_mean_stands_still_when_nothing_is_seen_and_in_evaluation() -> None:
    network = a_network("mean")
    before = network.mean_s2.clone()
    s1, s2 = a_sample((16, 16))
    network(s1, s2, torch.ones(2, 16, 16, dtype=torch.bool))
    assert torch.equal(network.mean_s2, before)
    network.train()(s1, s2, torch.zeros(2, 16, 16, dtype=torch.bool))
    assert torch.equal(network.mean_s2, before)
    assert int(network.mean_updates) == 0


def test_a_mean_without_a_mask_is_refused() -> None:
    s1, s2 = a_sample((16, 16))
    with pytest.raises(ModelError, match=r"seen pixels only.*Pass `seen`"):
        MissingOptical(3, 1, width=2, recon="mean").features(s1, s2)


def test_the_mean_travels_with_the_weights() -> None:
    network, other = a_network("mean"), MissingOptical(3, 1, width=2, recon="mean")
    other.load_state_dict(network.state_dict())
    assert torch.equal(other.mean_s2, network.mean_s2)


# ------------------------------------------------------------------------------ radar beforehand


def test_a_radar_branch_starts_from_a_radar_network() -> None:
    trained, network = randomise(UNet(1, 2, outputs=1), seed=3), a_network("separate")
    network.adopt_radar(trained)
    s1, s2 = a_sample((16, 16))
    with torch.inference_mode():
        features = trained.body(trained.stem(s1))
        assert torch.equal(network.features(s1, s2).s1, features)


def test_another_radar_network_is_refused() -> None:
    with pytest.raises(ModelError, match="does not fit the radar branch"):
        a_network("separate").adopt_radar(UNet(1, 3))


# --------------------------------------------------------------------------------------- refusals


def test_what_does_not_fit_is_refused() -> None:
    s1, s2 = a_sample((16, 16))
    network = a_network("separate")
    with pytest.raises(ModelError, match="mask of seen optical pixels"):
        network(s1, s2, torch.ones(2, 4, 4, dtype=torch.bool))
    with pytest.raises(ModelError, match=r"channels per sensor.*\(1, 3\); got \(3, 1\)"):
        network(s2, s1, torch.tensor([True, True]))
    with pytest.raises(ModelError, match=r"too small.*at least 16.*15 x 20"):
        network(*a_sample((15, 20)), torch.tensor([True, True]))
    with pytest.raises(ModelError, match=r"channels per sensor.*\[1\]; got \[3\]"):
        DSUNet(3, 1, width=1)(s2, s2, s2, s2)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: MissingOptical(recon="twice"), r"recon.*separate or shared.*got twice"),  # type: ignore[arg-type]
        (lambda: DSUNet(fusion="middle"), r"fusion.*late or early; got middle"),  # type: ignore[arg-type]
        (lambda: DSUNet(0, 0), "s2_channels.*got 0 and 0"),
        (lambda: DSUNet(width=0), "width.*got 0"),
    ],
)
def test_an_option_out_of_range_is_named(make: Any, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        make()


# ------------------------------------------------------------------------------------------ pairs


def test_two_logits_say_what_one_does() -> None:
    network = randomise(DSUNet(3, 1, width=2))
    s1, s2 = a_sample((16, 16))
    with torch.inference_mode():
        logits = network(s2, s2.flip(0), s1, s1.flip(0)).double()
    change = logits[:, 1]
    assert (logits[:, 0] == 0).all()
    torch.testing.assert_close(logits.softmax(dim=1)[:, 1], change.sigmoid())
    label = (torch.rand(2, 16, 16) < 0.3).long()
    torch.testing.assert_close(
        functional.cross_entropy(logits, label),
        functional.binary_cross_entropy_with_logits(change, label.double()),
    )


def test_late_fusion_joins_the_features_of_two_u_nets() -> None:
    network = randomise(DSUNet(3, 1, width=2))
    (s1, s2), (s1_after, s2_after) = a_sample((16, 16)), a_sample((16, 16))
    with torch.inference_mode():
        radar = network.streams[0](torch.cat((s1, s1_after), dim=1))
        optical = network.streams[1](torch.cat((s2, s2_after), dim=1))
        by_hand = network.head(torch.cat((radar, optical), dim=1))
        assert torch.equal(network(s2, s2_after, s1, s1_after)[:, 1:], by_hand)


@pytest.mark.parametrize(("s2", "s1"), [(3, 0), (0, 1)])
def test_a_sensor_left_out_is_not_read(s2: int, s1: int) -> None:
    network = randomise(DSUNet(s2, s1, width=2))
    radar, optical = a_sample((16, 16))
    nothing = torch.tensor(torch.nan)
    inputs = (optical, optical, nothing, nothing) if s2 else (nothing, nothing, radar, radar)
    with torch.inference_mode():
        assert torch.isfinite(network(*inputs)).all()


# ------------------------------------------------------------------------------------------ reach

FAMILIES: dict[str, tuple[Any, int, Callable[[], nn.Module], Callable[[Any], Any]]] = {
    "u-net": (missing_optical, 1, lambda: UNet(1, 2), lambda net: lambda x: net(x[0])),
    "ds-unet": (
        ds_unet,
        4,
        lambda: DSUNet(1, 1, width=2),
        lambda net: lambda x: net(*x)[:, 1:],
    ),
    "missing-optical": (
        missing_optical,
        2,
        lambda: MissingOptical(1, 1, width=2),
        lambda net: lambda x: net(x[0], x[1], stripes(x[0])),
    ),
    "missing-optical-pair": (
        missing_optical_pair,
        4,
        lambda: MissingOpticalPair(1, 1, width=2),
        lambda net: lambda x: net(*x, seen=stripes(x[0]))[:, 1:],
    ),
}


def stripes(like: Tensor) -> Tensor:
    """A mask per pixel that is the same for a row wherever a tile begins (at whole strides)."""
    rows = torch.arange(like.shape[-2]) % 5 % 2 == 0
    return rows[None, :, None].expand(like.shape[0], -1, like.shape[-1])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_just_inside_of_the_reach_counts_and_one_just_outside_does_not(family: str) -> None:
    module, images, make, call = FAMILIES[family]
    network = positive(make())
    ladder = module.LADDER
    row, seen = furthest(ladder.reads, ladder.stride, ladder.radius())
    assert max(row - seen.low, seen.high - row) == ladder.radius()
    length = row + ladder.radius() + 2 * ladder.stride
    for at in (seen.low - 1, seen.low, seen.high, seen.high + 1):
        found = reached_rows(call(network), images, at, (length, 16))
        windows = [(r, ladder.reads(r)) for r in range(length)]
        assert found == [r for r, it in windows if it.low <= at <= it.high]
        assert (row in found) == (seen.low <= at <= seen.high)


@pytest.mark.parametrize("family", ["u-net", "ds-unet"])
def test_tiles_are_the_whole_bit_for_bit(family: str) -> None:
    module, images, make, call = FAMILIES[family]
    assert (module.STRIDE, module.HALO) == (16, 112)
    network = call(exact(make()))
    inputs = [on_grid(torch.randn(1, 1, 320, 17).double()) for _ in range(images)]
    assert tiles_agree(network, inputs, core=64, halo=module.HALO)
    assert not tiles_agree(network, inputs, core=64, halo=module.HALO - 48)


def test_tiles_are_the_whole_bit_for_bit_where_part_is_missing() -> None:
    network = exact(MissingOptical(1, 1, width=2))
    mask = (torch.rand(1, 1, 320, 17) < 0.5).double()
    inputs = [on_grid(torch.randn(1, 1, 320, 17).double()) for _ in range(2)] + [mask]

    def call(x: Any) -> Tensor:
        found: Tensor = network(x[0], x[1], x[2] > 0)
        return found

    assert tiles_agree(call, inputs, core=64, halo=missing_optical.HALO)
    assert not tiles_agree(call, inputs, core=64, halo=missing_optical.HALO - 48)
