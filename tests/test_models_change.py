"""Change networks of systems A and B: sizes of the papers, exact reach, gradients, stages."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from cdscale.errors import ModelError
from cdscale.models import fc_ef, fc_ef_res, hrscd, patch, two_branch
from cdscale.models.blocks import Interval, Ladder, Reach, count_parameters
from cdscale.models.fc_ef import FcEf, FcSiam
from cdscale.models.fc_ef_res import FcEfRes
from cdscale.models.hrscd import (
    DirectTransitions,
    IndependentChange,
    IntegratedChange,
    PostClassification,
    SemanticChange,
)
from cdscale.models.patch import Ef15, Siam15
from cdscale.models.transitions import HRSCD, Transitions, change_probability, changed, differs
from cdscale.models.two_branch import TwoBranch

ANYWHERE = st.tuples(st.integers(32, 75), st.integers(32, 75))
SEMANTIC = (PostClassification, DirectTransitions, IndependentChange, IntegratedChange)


def randomise(network: Any, seed: int = 0) -> Any:
    """Batch statistics that are not those of a fresh network, evaluation mode."""
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = 0.1 * torch.randn(module.num_features)
            module.running_var = 0.5 + torch.rand(module.num_features)
    return network.eval()


def a_pair(size: tuple[int, int], count: int = 1, s2: int = 3, s1: int = 1) -> list[Tensor]:
    return [torch.randn(count, c, *size) for c in (s2, s2, s1, s1)]


def two_images(size: tuple[int, int], count: int = 1, channels: int = 3) -> list[Tensor]:
    return a_pair(size, count, channels)[:2]


def all_of(output: Tensor | SemanticChange) -> Tensor:
    """Every channel that a network gives."""
    if isinstance(output, Tensor):
        return output
    parts = (output.change, output.before, output.after)
    return torch.cat([x for x in parts if x is not None], dim=1)


# ------------------------------------------------------------------------------------------ sizes


@pytest.mark.parametrize(
    ("count", "make"),
    [
        # models of one encoder, System A
        (1_353_458, lambda: FcEf(13)),
        (1_350_578, lambda: FcEf(3)),
        (1_354_034, lambda: FcEf(13, 2)),
        (1_547_426, lambda: FcSiam(13)),
        (1_545_986, lambda: FcSiam(3)),
        (1_547_714, lambda: FcSiam(13, 2)),
        (1_351_586, lambda: FcSiam(13, skip="absdiff")),
        (1_351_586, lambda: FcSiam(13, skip="absdiff", bottleneck="absdiff")),
        (1_350_146, lambda: FcSiam(3, skip="absdiff")),
        (2_418_338, lambda: TwoBranch(13, 2)),
        (2_416_898, lambda: TwoBranch(3, 2)),
        # residual
        (1_103_874, lambda: FcEfRes(3)),
        (1_103_946, lambda: FcEfRes(4)),
        (1_104_994, lambda: FcEfRes(10)),
        (1_105_474, lambda: FcEfRes(13)),
        # patches
        (1_069_826, lambda: Siam15(13)),
        (1_064_066, lambda: Siam15(3)),
        (443_178, lambda: Ef15(13)),
        (437_418, lambda: Ef15(3)),
        # System B
        (6_386_806, lambda: PostClassification()),
        (12_773_807, lambda: IndependentChange()),
        (4_374_313, lambda: IndependentChange().change_decoder),
        (13_713_455, lambda: IntegratedChange()),
        (13_713_455, lambda: IntegratedChange(detach=True)),
        (2_012_448, lambda: IntegratedChange().land_cover.encoder),
        (4_374_358, lambda: IntegratedChange().land_cover.decoder),
        (2_012_688, lambda: IntegratedChange().change_encoder),
        (5_313_961, lambda: IntegratedChange().change_decoder),
    ],
)
def test_parameters_are_those_of_the_papers(count: int, make: Callable[[], nn.Module]) -> None:
    with torch.device("meta"):
        assert count_parameters(make()) == count


def test_strategy_two_is_the_change_network_of_strategy_three_with_more_outputs() -> None:
    with torch.device("meta"):
        network = DirectTransitions(outputs=HRSCD.outputs)
        more = count_parameters(network.decoder) - 4_374_313
        assert (HRSCD.outputs, more) == (21, 20 * (8 + 1))
        assert count_parameters(network.encoder) == 2_012_688


@pytest.mark.parametrize("s1", [0, 2])
@pytest.mark.parametrize("make", [FcEf, FcSiam, FcEfRes, Siam15, Ef15])
def test_an_odd_size_comes_back(make: Any, s1: int) -> None:
    network = make(4, s1).eval()
    with torch.inference_mode():
        assert network(*a_pair((65, 71), s2=4, s1=s1)).shape == (1, 2, 65, 71)


@pytest.mark.parametrize("make", SEMANTIC)
def test_an_odd_size_comes_back_from_every_strategy(make: Any) -> None:
    with torch.inference_mode():
        out = make().eval()(*two_images((65, 71)))
    found = [None if x is None else tuple(x.shape[1:]) for x in (out.change, out.before, out.after)]
    cover, none = (6, 65, 71), None
    assert (
        found
        == {
            PostClassification: [none, cover, cover],
            DirectTransitions: [(21, 65, 71), none, none],
            IndependentChange: [(1, 65, 71), cover, cover],
            IntegratedChange: [(1, 65, 71), cover, cover],
        }[make]
    )


@settings(max_examples=8)
@given(size=ANYWHERE, channels=st.integers(1, 4))
def test_any_size_and_any_channels_come_back(size: tuple[int, int], channels: int) -> None:
    network = IntegratedChange(channels, classes=2, outputs=2, width=1).eval()
    residual = FcEfRes(channels, channels, width=1).eval()
    with torch.inference_mode():
        assert all_of(network(*two_images(size, channels=channels))).shape == (1, 6, *size)
        assert residual(*a_pair(size, s2=channels, s1=channels)).shape == (1, 2, *size)


# --------------------------------------------------------------------------------- stacked sensors


def test_stacked_radar_is_more_bands_of_one_encoder() -> None:
    stacked, plain = randomise(FcSiam(3, 1)), randomise(TwoBranch(4, 0))
    plain.load_state_dict(stacked.state_dict())
    a, b, c, d = a_pair((32, 32))
    with torch.inference_mode():
        before, after = torch.cat((a, c), dim=1), torch.cat((b, d), dim=1)
        assert torch.equal(stacked(a, b, c, d), plain(before, after, c, d))


@pytest.mark.parametrize("make", [FcEf, FcSiam, FcEfRes, Siam15, Ef15])
def test_only_radar_that_a_network_was_made_for_is_read(make: Any) -> None:
    a, b, c, d = a_pair((24, 24))
    with torch.inference_mode():
        network = randomise(make(3, 0))
        absent = torch.full_like(c, torch.nan)
        assert torch.equal(network(a, b, c, d), network(a, b, absent, absent))
        network = randomise(make(3, 1))
        assert not torch.equal(network(a, b, c, d), network(a, b, c + 1, d))
        assert not torch.equal(network(a, b, c, d), network(a, b, c, d + 1))
        assert torch.isfinite(randomise(make(0, 1))(a, b, c, d)).all()


@pytest.mark.parametrize("make", [FcEf, FcSiam, FcEfRes, Siam15, Ef15])
def test_counts_that_only_add_up_are_refused(make: Any) -> None:
    with pytest.raises(ModelError, match=r"channels per sensor.*\[3, 1\]; got \[2, 2\]"):
        make(3, 1)(*a_pair((32, 32), s2=2, s1=2))


# -------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: FcEf(0, 0), "s2_channels.*got 0 and 0"),
        (lambda: FcSiam(-1, 2), "s2_channels.*got -1 and 2"),
        (lambda: FcEf(dropout=1.0), "FC-EF: dropout.*got 1.0"),
        (lambda: FcSiam(dropout=-0.1), "FC-Siam: dropout"),
        (lambda: FcSiam(bottleneck="first"), "bottleneck.*got first"),  # type: ignore[arg-type]
        (lambda: FcEfRes(width=0), "FC-EF-Res: width.*got 0"),
        (lambda: FcEfRes(dropout=2.0), "dropout.*got 2.0"),
        (lambda: Siam15(dropout=1.5), "patch network: dropout"),
        (lambda: PostClassification(slope=-1), "slope"),
        (lambda: PostClassification(classes=0), "outputs.*got 0"),
        (lambda: DirectTransitions(channels=0), "channels.*got 0"),
        (lambda: IntegratedChange(width=0), "HRSCD network: width"),
    ],
)
def test_an_option_out_of_range_is_named(make: Any, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        make()


@pytest.mark.parametrize("make", [FcEf, FcSiam, FcEfRes])
def test_an_image_that_pooling_would_eat_is_refused(make: Any) -> None:
    with pytest.raises(ModelError, match=r"too small.*at least 16.*15 x 40"):
        make(3)(*a_pair((15, 40)))


@pytest.mark.parametrize("make", SEMANTIC)
def test_two_dates_that_do_not_fit_are_refused(make: Any) -> None:
    network = make(width=1)
    with pytest.raises(ModelError, match=r"too small.*at least 32.*31 x 40"):
        network(*two_images((31, 40)))
    with pytest.raises(ModelError, match="shapes of before and after"):
        network(*two_images((32, 32), channels=4))
    with pytest.raises(ModelError, match="shapes of before and after"):
        network(two_images((32, 32))[0], two_images((32, 33))[0])


def test_patches_of_another_size_are_refused() -> None:
    with pytest.raises(ModelError, match=r"size of a patch.*\(15, 15\).*\(15, 17\)"):
        Ef15(3).classify(*a_pair((15, 17)))


# ------------------------------------------------------------------------------------------ reach

REACHES: dict[str, tuple[ModuleType, Reach, Callable[[], nn.Module]]] = {
    "fc-ef": (fc_ef, fc_ef.LADDER.reach, lambda: FcEf(1)),
    "fc-siam": (fc_ef, fc_ef.LADDER.reach, lambda: FcSiam(1)),
    "fc-ef-res": (fc_ef_res, fc_ef_res.REACH, lambda: FcEfRes(1, width=1)),
    "siam-15": (patch, patch.SIAM_REACH, lambda: Siam15(1)),
    "ef-15": (patch, patch.REACH, lambda: Ef15(1)),
    "hrscd-1": (hrscd, hrscd.REACH, lambda: PostClassification(1, 1, width=1)),
    "hrscd-2": (hrscd, hrscd.REACH, lambda: DirectTransitions(1, 1, width=1)),
    "hrscd-4": (hrscd, hrscd.REACH, lambda: IntegratedChange(1, 1, width=1)),
}


def positive(network: nn.Module) -> nn.Module:
    """Weights above zero and no bias: whatever can be reached by a one among zeros is above 0."""
    torch.manual_seed(0)
    for module in network.double().eval().modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.uniform_(module.weight, 0.05, 0.1)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


@pytest.mark.parametrize("family", REACHES)
def test_a_pixel_just_inside_of_the_reach_counts_and_one_just_outside_does_not(
    family: str,
) -> None:
    module, reach, make = REACHES[family]
    network = positive(make())
    middle = -(-(reach.radius() + 2) // reach.stride) * reach.stride
    phases = range(middle, middle + reach.stride)
    seen = {row: reach.reads(row) for row in range(2 * middle + reach.stride)}
    furthest = max(phases, key=lambda row: max(row - seen[row].low, seen[row].high - row))
    assert max(furthest - seen[furthest].low, seen[furthest].high - furthest) == reach.radius()
    edge = seen[furthest]
    for at in (edge.low - 1, edge.low, edge.high, edge.high + 1):
        x = torch.zeros(1, 1, len(seen), module.STRIDE, dtype=torch.float64)
        x[..., at, :] = 1
        with torch.inference_mode():
            inputs = (x, x, x, x) if module is not hrscd else (x, 0 * x)
            out = all_of(network(*inputs))[0, 0].amax(dim=-1)
        reached = torch.nonzero(out)[:, 0].tolist()
        assert reached == [row for row, it in seen.items() if it.low <= at <= it.high]
        assert (furthest in reached) == (edge.low <= at <= edge.high)


def test_strides_and_halos_of_the_families() -> None:
    found = {name: (module.STRIDE, module.HALO) for name, (module, _, _) in REACHES.items()}
    plain, whole = (16, two_branch.HALO), (32, 576)
    assert found == {
        "fc-ef": plain, "fc-siam": plain, "fc-ef-res": (16, 192),
        "siam-15": (1, 7), "ef-15": (1, 7),
        "hrscd-1": whole, "hrscd-2": whole, "hrscd-4": whole,
    }  # fmt: skip
    for module, reach, _ in REACHES.values():
        assert reach.stride == module.STRIDE
        assert reach.radius() <= module.HALO < reach.radius() + reach.stride


def test_a_ladder_is_its_layers_one_by_one() -> None:
    ladder = Ladder(encoder=(1,), bottom=2, decoder=(1,), up="up2")
    # Pixel 10, by hand: 9..11 after the decoder; skip 8..12; below 4..5, two convolutions 2..7,
    # pooled from 4..15, one convolution 3..16.
    assert ladder.reads(10) == ladder.reach.reads(10) == Interval(3, 16)
    assert (ladder.stride, ladder.radius(), ladder.halo()) == (2, 7, 8)


GRID = 2.0**-20


def exact(network: nn.Module) -> nn.Module:
    """Numbers on a grid so coarse that no sum in float64 rounds, in whatever order it is taken.

    Activations are rounded to multiples of 2^-20 after each layer, weights are multiples of 2^-12:
    a sum of products below 2^20 is exact. So two ways of computing agree in every bit, on every
    machine, or do not compute the same.
    """
    torch.manual_seed(0)

    def to_grid(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        return (output / GRID).round() * GRID

    for module in network.double().eval().modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d):
            module.weight.data = (module.weight.data * 2**12).round() / 2**12
            module.register_forward_hook(to_grid)
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.0
            module.bias.data = torch.randint(-8, 9, (module.num_features,)).double() / 32
            # Features from afar would fade on their way through random weights.
            module.weight.data = torch.full((module.num_features,), 2.0, dtype=torch.float64)
        if isinstance(module, nn.LeakyReLU):
            module.register_forward_hook(to_grid)
    return network


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize(
    ("module", "make"),
    [
        (fc_ef, lambda: FcEf(1, 1)),
        (fc_ef, lambda: FcSiam(1, 1)),
        (fc_ef_res, lambda: FcEfRes(1, 1, width=2)),
        (patch, lambda: Siam15(1, 1)),
        (patch, lambda: Ef15(1, 1)),
        (hrscd, lambda: IntegratedChange(1, 2, width=1)),
    ],
)
def test_tiles_with_that_halo_are_the_whole_bit_for_bit(
    module: Any, make: Any, across: bool
) -> None:
    network = exact(make())
    core = max(module.STRIDE, 8)
    length = -(-(2 * module.HALO) // core) * core + 3 * core - 3
    x = (torch.randn(4, 1, length, module.STRIDE + 1).double() / GRID).round() * GRID
    x = x.mT if across else x
    inputs = x[:, None] if module is not hrscd else x[:2, None]

    def along(full: Tensor, start: int, stop: int) -> Tensor:
        return full[..., start:stop] if across else full[..., start:stop, :]

    middle = length // 2 // core * core
    with torch.inference_mode():
        whole = all_of(network(*inputs))
        for start in (0, middle, (length - 1) // core * core):
            low, high = max(0, start - module.HALO), start + core + module.HALO
            window = all_of(network(*(along(one, low, high) for one in inputs)))
            tile = along(window, start - low, start - low + core)
            assert torch.equal(tile, along(whole, start, start + core))


# ------------------------------------------------------------------------------ patches and scenes


def with_linear_layers(network: Siam15 | Ef15) -> Callable[[Tensor, Tensor], Tensor]:
    """The published form of a patch classifier, on the same weights."""
    first, head = (cast(Any, part) for part in network.classifier)
    hidden = nn.Linear(first[0].weight[0].numel(), first[0].out_channels).double()
    hidden.weight.data, hidden.bias.data = first[0].weight.data.flatten(1), first[0].bias.data
    norm = nn.BatchNorm1d(first[0].out_channels).double().eval()
    norm.load_state_dict(first[1].state_dict())
    last = nn.Linear(head.in_channels, 2).double()
    last.weight.data, last.bias.data = head.weight.data.flatten(1), head.bias.data

    def classify(before: Tensor, after: Tensor) -> Tensor:
        if isinstance(network, Siam15):
            flat = [network.features(date).flatten(1) for date in (before, after)]
        else:
            flat = [network.features(torch.cat((before, after), dim=1)).flatten(1)]
        return cast(Tensor, last(norm(hidden(torch.cat(flat, dim=1))).relu()))

    return classify


@pytest.mark.parametrize("make", [Siam15, Ef15])
def test_a_scene_gets_at_every_pixel_what_the_patch_classifier_gives(make: Any) -> None:
    network = randomise(make(2, 1)).double()
    pair = [x.double() for x in a_pair((6, 9), s2=2, s1=1)]
    before, after = torch.cat((pair[0], pair[2]), dim=1), torch.cat((pair[1], pair[3]), dim=1)
    patches = [
        functional.unfold(functional.pad(x, (7, 7, 7, 7)), 15)[0].T.reshape(54, 3, 15, 15)
        for x in (before, after)
    ]
    published = with_linear_layers(network)
    with torch.inference_mode():
        expected = published(*patches)
        dense = network(*pair)[0].flatten(1).T
        torch.testing.assert_close(dense, expected, rtol=0, atol=1e-12)
        alone = network.classify(patches[0][:, :2], patches[1][:, :2], *(x[:, 2:] for x in patches))
        torch.testing.assert_close(alone, expected, rtol=0, atol=1e-12)


# ------------------------------------------------------------------------------------------ dates


@pytest.mark.parametrize(
    ("skip", "bottleneck", "same"),
    [
        ("absdiff", "absdiff", True),
        ("absdiff", "last", False),
        ("absdiff", "concat", False),
        ("concat", "absdiff", False),
        ("symmetric", "symmetric", True),
    ],
)
def test_swapping_the_dates_changes_nothing_only_where_skips_and_bottleneck_are_symmetric(
    skip: Any, bottleneck: Any, same: bool
) -> None:
    network = randomise(FcSiam(3, 1, skip=skip, bottleneck=bottleneck)).double()
    a, b, c, d = (x.double() for x in a_pair((32, 48)))
    with torch.inference_mode():
        difference = (network(a, b, c, d) - network(b, a, d, c)).abs().max()
    assert (difference < 1e-12) == same


@pytest.mark.parametrize("make", [FcSiam, TwoBranch])
def test_in_the_published_bottleneck_the_deepest_layer_reads_date_two_alone(make: Any) -> None:
    network = randomise(make(3, 1))
    entered: list[Tensor] = []
    network.ups[0].register_forward_pre_hook(lambda _, args: entered.append(args[0]))
    a, b, c, d = a_pair((32, 32))
    with torch.inference_mode():
        for inputs in ((a, b, c, d), (a + 1, b, c + 1, d), (a, b + 1, c, d), (a, b, c, d + 1)):
            network(*inputs)
    reference, date_one, date_two, radar_two = entered
    assert torch.equal(date_one, reference)
    assert not torch.equal(date_two, reference)
    # Stacked radar is part of the image of its date; an encoder of its own is not read here.
    assert torch.equal(radar_two, reference) == (make is TwoBranch)


# -------------------------------------------------------------------------------------- gradients


def settled(network: Any, inputs: list[Tensor]) -> Any:
    """Batch statistics of these inputs, so that activations lie around zero; evaluation mode.

    Evaluation mode, as batch statistics would take every bias before them out of the loss. Around
    zero, as where the activation is on at both dates a bias cancels out of the difference.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
        if isinstance(module, nn.Dropout2d):
            module.p = 0.0
    with torch.no_grad():
        network.train()(*inputs)
    return network.eval()


def learning(network: nn.Module) -> set[str]:
    """Parameters that got a gradient other than zero."""
    return {
        name
        for name, p in network.named_parameters()
        if p.grad is not None and bool(p.grad.abs().max() > 0)
    }


def named(network: nn.Module, *parts: str) -> set[str]:
    return {name for name, _ in network.named_parameters() if name.startswith(parts)}


@pytest.mark.parametrize(
    "make",
    [
        lambda: FcEf(3, 1),
        lambda: FcSiam(3, 1),
        lambda: FcSiam(3, 1, skip="absdiff"),
        lambda: FcSiam(3, 1, skip="absdiff", bottleneck="absdiff"),
        lambda: TwoBranch(3, 1),
        lambda: TwoBranch(3, 1, skip="absdiff", bottleneck="absdiff"),
        lambda: FcEfRes(3, 1),
        lambda: Siam15(3, 1),
        lambda: Ef15(3, 1),
    ],
)
def test_no_parameter_is_dead_in_any_mode_the_published_bottleneck_included(make: Any) -> None:
    torch.manual_seed(0)
    inputs = a_pair((32, 32), count=2)
    network = settled(make(), inputs)
    network(*inputs).square().sum().backward()
    assert named(network, "") - learning(network) == set()


@pytest.mark.parametrize("make", SEMANTIC)
def test_no_parameter_of_a_strategy_is_dead(make: Any) -> None:
    torch.manual_seed(0)
    inputs = two_images((64, 64), count=2)
    network = settled(make(width=2), inputs)
    all_of(network(*inputs)).square().sum().backward()
    assert named(network, "") - learning(network) == set()


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (IndependentChange, ("change_",)),
        (IntegratedChange, ("change_", "land_cover.encoder")),
        (lambda **how: IntegratedChange(detach=True, **how), ("change_",)),
    ],
)
def test_the_loss_of_change_reaches_land_cover_in_strategy_4_1_alone(
    make: Any, parts: tuple[str, ...]
) -> None:
    torch.manual_seed(0)
    inputs = two_images((64, 64), count=2)
    network = settled(make(width=2), inputs)
    network(*inputs).change.square().sum().backward()
    assert learning(network) == named(network, *parts)


def test_detaching_changes_gradients_not_outputs() -> None:
    joint, staged = IntegratedChange(width=2), IntegratedChange(width=2, detach=True)
    staged.load_state_dict(randomise(joint).state_dict())
    pair = two_images((33, 32))
    with torch.inference_mode():
        assert torch.equal(all_of(joint(*pair)), all_of(staged.eval()(*pair)))


def test_land_cover_alone_is_that_of_the_whole_network() -> None:
    network = randomise(IntegratedChange(width=2))
    pair = two_images((32, 40))
    with torch.inference_mode():
        alone, whole = network.land_cover_of(*pair), network(*pair)
    assert alone.change is None
    assert torch.equal(alone.before, whole.before)
    assert torch.equal(alone.after, whole.after)
    assert not torch.equal(alone.before, alone.after)


@pytest.mark.parametrize("make", [IndependentChange, IntegratedChange])
def test_stage_two_leaves_land_cover_as_it_was_in_every_bit(make: Any) -> None:
    torch.manual_seed(0)
    network = make(3, width=2)
    pair, probe = two_images((64, 64), count=2), two_images((32, 64))

    def fit(parameters: Any, loss: Callable[[], Tensor]) -> None:
        optimiser = torch.optim.Adam(parameters, lr=0.01, weight_decay=1e-2)
        for _ in range(3):
            optimiser.zero_grad()
            loss().backward()
            optimiser.step()

    network.train()
    fit(
        network.land_cover.parameters(), lambda: all_of(network.land_cover_of(*pair)).square().sum()
    )
    network.freeze_land_cover()
    assert network.land_cover_frozen
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.inference_mode():
        expected = all_of(network.land_cover_of(*probe))

    network.train()
    assert network.training
    assert not any(module.training for module in network.land_cover.modules())
    assert all(module.training for module in network.change_decoder.modules())
    fit(network.change_parameters(), lambda: network(*pair).change.square().sum())
    with torch.inference_mode():
        assert torch.equal(all_of(network.land_cover_of(*probe)), expected)
        found = network.eval()(*probe)
        assert torch.equal(torch.cat((found.before, found.after), dim=1), expected)
    after = network.state_dict()
    still = {name for name, value in before.items() if torch.equal(value, after[name])}
    assert still == {name for name in before if name.startswith("land_cover.")}


def test_without_freezing_batch_statistics_would_move() -> None:
    network = IntegratedChange(width=1).train()
    network.land_cover.requires_grad_(False)
    norm = next(m for m in network.land_cover.modules() if isinstance(m, nn.BatchNorm2d))
    assert norm.running_mean is not None
    before = norm.running_mean.clone()
    network(*two_images((64, 64), count=2))
    assert not torch.equal(norm.running_mean, before)


def test_dropout_of_the_residual_network_is_none_unless_asked_for() -> None:
    pair = a_pair((32, 32), count=2)
    torch.manual_seed(0)
    plain, dropping = FcEfRes(3, width=2).train(), FcEfRes(3, width=2, dropout=0.5).train()
    assert torch.equal(plain(*pair), plain(*pair))
    assert not torch.equal(dropping(*pair), dropping(*pair))


# ------------------------------------------------------------------------ transitions and decisions


def test_hrscd_has_twenty_transitions_in_the_order_of_their_classes() -> None:
    assert HRSCD.outputs == 21
    assert HRSCD.classes == frozenset(range(1, 6))
    assert [HRSCD.of(1, 2), HRSCD.of(2, 1), HRSCD.of(5, 4), HRSCD.of(3, 3)] == [1, 5, 20, 0]


@given(seed=st.integers(0, 10_000))
def test_labels_of_classes_come_back_from_labels_of_transitions(seed: int) -> None:
    torch.manual_seed(seed)
    before, after = torch.randint(1, 6, (2, 3, 7, 5))
    change = before != after
    label = HRSCD.encode(before, after, change, ignored=255)
    found = HRSCD.decode(label)
    assert torch.equal(label == 0, ~change)
    assert torch.equal(found[0], before.where(change, torch.zeros_like(before)))
    assert torch.equal(found[1], after.where(change, torch.zeros_like(after)))
    at = tuple(torch.randint(0, n, ()) for n in label.shape)
    assert HRSCD.of(int(before[at]), int(after[at])) == label[at]


def test_what_the_table_cannot_say_is_ignored() -> None:
    table = Transitions(((2, 1), (3, 1)))
    before = torch.tensor([2, 3, 1, 2, 0, 2, 0], dtype=torch.uint8)
    after = torch.tensor([1, 1, 3, 2, 1, 1, 0], dtype=torch.uint8)
    change = torch.tensor([1, 1, 1, 1, 1, 0, 0], dtype=torch.bool)
    # In turn: both pairs; a pair left out; a change that is none; no information; the label of
    # change says no, whatever the classes; nothing known at all.
    expected = [1, 2, 255, 255, 255, 0, 255]
    assert table.encode(before, after, change, ignored=255).tolist() == expected


def test_a_table_that_says_nothing_is_refused() -> None:
    for pairs in ((), ((1, 1),), ((1, 2), (1, 2))):
        with pytest.raises(ModelError, match="table of transitions"):
            Transitions(pairs)
    with pytest.raises(ModelError, match=r"transition; expected.*got \(0, 1\)"):
        HRSCD.of(0, 1)
    with pytest.raises(ModelError, match=r"transitions; expected 0 to 20; got 0 to 21"):
        HRSCD.decode(torch.tensor([0, 21]))


def test_every_strategy_says_change_in_its_own_way() -> None:
    def column(*values: float) -> Tensor:
        return torch.tensor(values)[None, :, None, None]

    one = SemanticChange(column(0.5), None, None)
    two = SemanticChange(column(0.0, 0.5), None, None)
    many = SemanticChange(column(1.0, 0.9, 0.9), None, None)
    even, sure = column(0.1, 0.0), column(0.0, 50.0)
    compared = SemanticChange(None, even, sure)
    assert [bool(changed(x)) for x in (one, two, many, compared)] == [True, True, False, True]
    assert change_probability(one).item() == pytest.approx(0.62246, abs=1e-5)
    assert change_probability(two).item() == pytest.approx(0.62246, abs=1e-5)
    # The likeliest single class is no change, the likeliest event is some change.
    assert change_probability(many).item() == pytest.approx(0.64408, abs=1e-5)
    assert change_probability(compared).item() == pytest.approx(0.52498, abs=1e-5)
    assert not differs(even, even).any()
    with pytest.raises(ModelError, match="land cover of both dates"):
        changed(SemanticChange(None, even, None))
