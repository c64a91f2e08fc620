"""Networks: sizes of the papers, exact reach, inputs, cards, and refusals."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from cdscale import models
from cdscale.errors import ModelError
from cdscale.models import missing_optical, two_branch
from cdscale.models.blocks import count_parameters
from cdscale.models.families import FAMILIES
from cdscale.models.hrscd import SemanticChange
from cdscale.models.inputs import Pair, PairMoments, change_inputs, s1_input, s2_input
from cdscale.models.mapping import fold, precision_of
from cdscale.models.missing_optical import MissingOptical, UNet
from cdscale.models.two_branch import TwoBranch
from cdscale.spec.card import ModelCard, Normalisation
from tests.test_families import card_of

RULE = Normalisation(s2_clip=(0.0, 0.8), s2_mean=(0.1, 0.2), s2_std=(0.05, 0.1))


def a_card(**changes: Any) -> ModelCard:
    plain: dict[str, Any] = {
        "name": "toy",
        "version": "1",
        "title": "A toy",
        "task": "urban",
        "family": "missing-optical",
        "network": {"width": 2},
        "weights": "toy.safetensors",
        "weights_sha256": "0" * 64,
        "s2_bands": ("B04", "B08"),
        "s1_bands": ("vv",),
        "normalisation": RULE,
        "halo": missing_optical.HALO,
        "stride": 16,
        "threshold": 0.5,
        "classes": {0: "no", 1: "yes"},
        "training": {
            "data": "none",
            "split": "none",
            "recipe": "none",
            "steps": 0,
            "licence": "none",
            "simulated": True,
        },
        "accuracy": {},
        "limits": (),
    }
    return ModelCard.model_validate(plain | changes)


def randomise(network: nn.Module, seed: int = 0) -> nn.Module:
    """Batch statistics that are not those of a fresh network, evaluation mode."""
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = 0.1 * torch.randn(module.num_features)
            module.running_var = 0.5 + torch.rand(module.num_features)
    return network.eval()


def a_pair(size: tuple[int, int], count: int = 1, s2: int = 3, s1: int = 1) -> list[Tensor]:
    return [torch.randn(count, c, *size) for c in (s2, s2, s1, s1)]


# ------------------------------------------------------------------------------------------ sizes


@pytest.mark.parametrize(
    ("count", "make"),
    [
        (2_418_338, lambda: TwoBranch(13, 2)),
        (2_416_898, lambda: TwoBranch(3, 2)),
        (2_418_338, lambda: TwoBranch(13, 2, skip="symmetric")),
        (1_547_426, lambda: TwoBranch(13, 0)),
        (1_545_986, lambda: TwoBranch(3, 0)),
        (1_547_714, lambda: TwoBranch(15, 0)),
        (1_351_586, lambda: TwoBranch(13, 0, skip="absdiff", bottleneck="absdiff")),
        (1_350_146, lambda: TwoBranch(3, 0, skip="absdiff")),
    ],
)
def test_parameters_are_those_of_the_papers(count: int, make: Any) -> None:
    with torch.device("meta"):
        assert count_parameters(make()) == count


@settings(max_examples=10)
@given(size=st.tuples(st.integers(16, 50), st.integers(16, 50)))
def test_any_size_comes_back(size: tuple[int, int]) -> None:
    network = TwoBranch(3, 1).eval()
    urban = MissingOptical(3, 1, width=2).eval()
    pair = a_pair(size)
    with torch.inference_mode():
        assert network(*pair).shape == (1, 2, *size)
        assert urban(pair[2], pair[0], torch.tensor([True])).shape == (1, 1, *size)


def test_an_image_that_pooling_would_eat_is_refused() -> None:
    with pytest.raises(ModelError, match=r"too small.*at least 16.*15 x 40"):
        TwoBranch(3, 1)(*a_pair((15, 40)))


@pytest.mark.parametrize("bottleneck", ["concat", "absdiff", "symmetric"])
@pytest.mark.parametrize("skip", ["concat", "absdiff", "symmetric"])
def test_every_parameter_learns(skip: Any, bottleneck: Any) -> None:
    network = TwoBranch(3, 1, skip=skip, bottleneck=bottleneck, dropout=0.0)
    network(*a_pair((32, 32), count=2)).square().sum().backward()
    assert [n for n, p in network.named_parameters() if p.grad is None] == []


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(ModelError, match=r"bottleneck.*last or concat.*got first"):
        TwoBranch(3, 1, bottleneck="first")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"recon.*got twice"):
        MissingOptical(recon="twice")  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------ dates


@pytest.mark.parametrize("fusion", ["absdiff", "symmetric"])
def test_swapping_the_dates_changes_nothing_in_a_symmetric_network(fusion: Any) -> None:
    network = randomise(TwoBranch(3, 1, skip=fusion, bottleneck=fusion))
    a, b, c, d = a_pair((32, 48))
    with torch.inference_mode():
        torch.testing.assert_close(network(a, b, c, d), network(b, a, d, c), rtol=0, atol=1e-6)


def test_the_published_network_is_not_symmetric_and_reads_date_two_alone_at_the_bottom() -> None:
    network = randomise(TwoBranch(3, 1))
    a, b, c, d = a_pair((32, 32))
    with torch.inference_mode():
        assert not torch.allclose(network(a, b, c, d), network(b, a, d, c))


# ------------------------------------------------------------------------------------------ reach


@pytest.mark.parametrize("family", [two_branch, missing_optical])
def test_one_pixel_reaches_exactly_as_far_as_the_halo_says(family: Any) -> None:
    """Positive weights, no bias, nothing but one row in: whatever can be reached is above zero."""
    torch.manual_seed(0)
    network = UNet(1, 2) if family is missing_optical else TwoBranch(1, 0)
    network.double().eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.bias is not None:
            nn.init.uniform_(module.weight, 0.05, 0.1)
            nn.init.zeros_(module.bias)
    for at in (192, 199, 207):
        x = torch.zeros(1, 1, 400, 16, dtype=torch.float64)
        x[..., at, :] = 1
        with torch.inference_mode():
            out = network(x) if isinstance(network, UNet) else network(x, x, x, x)
        reached = torch.nonzero(out[0, 0].amax(dim=-1))[:, 0].tolist()
        reads = [family.LADDER.reads(row) for row in range(400)]
        assert reached == [row for row, seen in enumerate(reads) if seen.low <= at <= seen.high]


def test_halos_are_whole_strides_around_the_reach() -> None:
    for family in (two_branch, missing_optical):
        assert family.STRIDE == 16
        assert family.HALO % 16 == 0
        assert family.LADDER.radius() <= family.HALO < family.LADDER.radius() + 16


# ----------------------------------------------------------------------------------------- inputs


def test_physical_values_become_inputs_as_the_card_says() -> None:
    s2 = torch.tensor([[[0.15, 2.0]], [[0.3, torch.nan]]])
    expected = torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]]])
    torch.testing.assert_close(s2_input(s2, RULE), expected)
    power = torch.tensor([[[0.1, 0.0, 100.0, torch.nan]]])
    expected = torch.tensor([[[0.6, 0.0, 1.0, 0.0]]])
    torch.testing.assert_close(s1_input(power, RULE), expected)


@pytest.mark.parametrize("joint", [False, True])
def test_an_image_is_standardised_by_itself(joint: bool) -> None:
    how = "image_scalar" if joint else "image"
    rule = Normalisation(s2_clip=(0, 2), s2_standardise=how, s1_standardise="image")
    s2 = torch.rand(3, 20, 30) * torch.tensor([0.1, 1.0, 0.0])[:, None, None] + 0.2
    s2[:, :5] = torch.nan
    got = s2_input(s2, rule)
    seen = s2[:, 5:].double()
    dims = (0, 1, 2) if joint else (1, 2)
    std = seen.std(dim=dims, correction=0, keepdim=True).broadcast_to(3, 1, 1)
    flat = std < 1e-6
    expected = (seen - seen.mean(dim=dims, keepdim=True)) / std.masked_fill(flat, torch.inf)
    torch.testing.assert_close(got[:, 5:], expected.float(), rtol=1e-4, atol=1e-5)
    assert (got[:, :5] == 0).all()
    power = torch.rand(2, 20, 30) + 0.1
    power[0, 3, 4] = torch.nan
    found = s1_input(power, rule)
    assert found[0, 3, 4] == 0
    assert abs(float(found[1].mean())) < 0.01


def test_a_part_of_an_image_is_standardised_by_the_whole() -> None:
    rule = Normalisation(s2_standardise="image", s1_standardise="image")
    pair = Pair(*(torch.rand(2, c, 16, 16) for c in (3, 3, 1, 1)))
    whole = change_inputs(pair, rule)
    cut = Pair(*(x[..., 4:9, 2:12] for x in pair.tensors()))
    part = change_inputs(cut, rule, PairMoments.of(pair, rule))
    for one, other in zip(whole.tensors(), part.tensors(), strict=True):
        assert torch.equal(one[..., 4:9, 2:12], other)
    assert not torch.equal(change_inputs(cut, rule).s2_before, part.s2_before)


def test_a_sensor_without_channels_has_nothing_to_standardise() -> None:
    rule = Normalisation(s2_standardise="image", s1_standardise="image")
    nothing = torch.zeros(1, 0, 8, 8)
    assert s2_input(nothing, rule).shape == s1_input(nothing, rule).shape == nothing.shape


def test_gain_and_offset_of_a_date_make_no_difference_to_the_image_rule() -> None:
    rule = Normalisation(s2_clip=(-9, 9), s2_standardise="image")
    s2 = torch.rand(2, 3, 24, 24)
    gain, offset = torch.rand(3, 1, 1) + 0.5, torch.rand(3, 1, 1)
    torch.testing.assert_close(s2_input(s2, rule), s2_input(s2 * gain + offset, rule))


def test_a_hole_at_one_date_is_a_hole_at_both() -> None:
    s2, s1 = torch.rand(2, 2, 4, 4), torch.rand(2, 1, 4, 4) + 0.1
    s2[0, 1, 2, 3] = torch.nan
    s1[1, 0, 0, 0] = torch.nan
    found = change_inputs(Pair(s2[0], s2[1], s1[0], s1[1]), RULE)
    for x, at in ((found.s2_before, (2, 3)), (found.s2_after, (2, 3))):
        assert x[:, at[0], at[1]].tolist() == [0.0, 0.0]
    assert found.s1_before[0, 0, 0] == found.s1_after[0, 0, 0] == 0
    assert all(torch.isfinite(x).all() for x in found.tensors())


# --------------------------------------------------------------------------------------- registry


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """A folder with the card and weights of a tiny network."""
    network = models.build(a_card())
    save_file(network.state_dict(), tmp_path / "toy.safetensors")
    card = a_card(weights_sha256=models.sha256_of(tmp_path / "toy.safetensors"))
    card.write(tmp_path / "toy.card.yaml")
    return tmp_path


def test_a_card_reads_back_as_it_was_written(shelf: Path) -> None:
    (card,) = models.list_cards(shelf)
    assert card == models.load_card(str(shelf / "toy.card.yaml"))
    assert card.normalisation == RULE
    assert models.folder_of(str(shelf / "toy.card.yaml")) == shelf
    assert models.folder_of("toy") == models.WEIGHTS


def test_a_network_is_loaded_once_in_evaluation_mode(shelf: Path) -> None:
    card = models.load_card(str(shelf / "toy.card.yaml"))
    network = models.load(card, folder=shelf)
    assert not network.training
    assert models.load(card, folder=shelf) is network
    half = models.load(card, precision="bfloat16", folder=shelf)
    assert half is not network
    assert models.load(card, precision="bfloat16", folder=shelf) is half


def test_float32_on_a_cpu_is_the_network_as_it_was_built(shelf: Path) -> None:
    card = models.load_card(str(shelf / "toy.card.yaml"))
    network, built = models.load(card, folder=shelf), models.build(card)
    assert [type(m) for m in network.modules()] == [type(m) for m in built.modules()]
    weights = [m.weight for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert all(weight.is_contiguous() for weight in weights)


def test_bfloat16_rounds_inside_the_network_and_nowhere_else(shelf: Path) -> None:
    card = models.load_card(str(shelf / "toy.card.yaml"))
    exact = models.load(card, folder=shelf)
    rough = models.load(card, precision="bfloat16", folder=shelf)
    assert {p.dtype for p in rough.parameters()} == {torch.float32}
    assert (precision_of(exact), precision_of(rough)) == ("float32", "bfloat16")
    assert not any(isinstance(m, nn.BatchNorm2d) for m in rough.modules())
    seen: list[Any] = []
    for module in rough.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda m, x, y: seen.append((y.dtype, is_last(y))))
    try:
        torch.manual_seed(0)
        inputs = (torch.rand(1, 1, 32, 32), torch.rand(1, 2, 32, 32), torch.rand(1, 32, 32) > 0.2)
        with torch.inference_mode():
            found, expected = rough(*inputs), exact(*inputs)
    finally:
        models._loaded.pop((card.weights_sha256, "cpu", "bfloat16"))
    # The head has one channel, which lies in both orders.
    assert {dtype for dtype, _ in seen} == {torch.bfloat16}
    assert all(last for _, last in seen)
    assert not torch.equal(found.float(), expected)
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=0.05)


def is_last(x: torch.Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("family", FAMILIES)
def test_folding_changes_no_more_than_last_bits(family: str) -> None:
    torch.manual_seed(0)
    network = models.build(card_of(family)).eval()
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.running_mean = 0.1 * torch.randn(norm.num_features)
        norm.running_var = 0.5 + torch.rand(norm.num_features)
    folded = copy.deepcopy(network)
    assert fold(folded) == len(norms) > 0
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    s2, s1 = torch.randn(2, 1, 3, 32, 40), torch.randn(2, 1, 1, 32, 40)
    inputs: tuple[torch.Tensor, ...] = {
        "pair": (s2[0], s2[1], s1[0], s1[1]),
        "month": (s1[0], s2[0], torch.rand(1, 32, 40) > 0.2),
        "images": (s2[0], s2[1]),
    }[FAMILIES[family].kind]
    with torch.inference_mode():
        before, after = network(*inputs), folded(*inputs)
    maps = [vars(x).values() if isinstance(x, SemanticChange) else [x] for x in (before, after)]
    for one, other in zip(*maps, strict=True):
        if one is not None:
            assert one.std() > 1e-3
            most = 1e-5 * max(1.0, float(one.abs().max()))
            torch.testing.assert_close(other, one, rtol=0, atol=most)


def test_only_what_one_row_owns_is_folded() -> None:
    conv = nn.Conv2d(2, 2, 3)
    shared = nn.ModuleList(nn.Sequential(conv, nn.BatchNorm2d(2)) for _ in range(2)).eval()
    between = nn.Sequential(nn.Conv2d(2, 2, 3), nn.ReLU(), nn.BatchNorm2d(2)).eval()
    apart = nn.ModuleList([nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2)]).eval()
    training = nn.Sequential(nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2)).train()
    hooked = nn.Sequential(nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2)).eval()
    hooked[0].register_forward_hook(lambda m, x, y: None)
    assert [fold(x) for x in (shared, between, apart, training, hooked)] == [0] * 5


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(ModelError, match=r"no such model; expected one of .*got nonsense"):
        models.load_card("nonsense")


def test_a_card_without_weights_says_that_it_is_untrained(shelf: Path) -> None:
    card = a_card(weights="gone.safetensors", weights_sha256="1" * 64)
    with pytest.raises(ModelError, match="untrained"):
        models.load(card, folder=shelf)


def test_other_weights_than_the_card_was_written_for_are_refused(shelf: Path) -> None:
    card = models.load_card(str(shelf / "toy.card.yaml"))
    file = shelf / "toy.safetensors"
    file.write_bytes(file.read_bytes()[:-4] + b"\0\1\0\0")
    changed = card.model_copy(update={"weights_sha256": "2" * 64})
    with pytest.raises(ModelError, match="not what its card was written for"):
        models.load(changed, folder=shelf)


@pytest.mark.parametrize("content", [b"", b"no tensors at all", b"\x80\x04N."])
def test_a_file_that_is_not_safetensors_is_refused_and_never_unpickled(
    shelf: Path, content: bytes
) -> None:
    (shelf / "toy.safetensors").write_bytes(content)
    card = a_card(weights_sha256=models.sha256_of(shelf / "toy.safetensors"))
    with pytest.raises(ModelError, match="does not fit its network"):
        models.load(card, folder=shelf)


def test_weights_of_another_network_are_refused(shelf: Path) -> None:
    sha = models.sha256_of(shelf / "toy.safetensors")
    with pytest.raises(ModelError, match="does not fit its network"):
        models.load(a_card(network={"width": 3}, weights_sha256=sha), folder=shelf)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"halo": 16}, "halo"),
        ({"halo": missing_optical.HALO + 1}, "halo"),
        ({"stride": 8}, "stride"),
        ({"network": {"width": 2, "s2_channels": 4}}, "s2_channels"),
        ({"network": {"depth": 2}}, "network options"),
    ],
)
def test_a_card_that_promises_what_its_family_does_not_hold_is_refused(
    changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ModelError, match=said):
        models.build(a_card(**changes))


def test_every_shipped_card_builds_and_its_weights_load() -> None:
    for card in models.list_cards():
        network = models.load(card)
        assert count_parameters(network) < 10_000_000
        assert card.training.licence
        assert card.accuracy
    together = sum(path.stat().st_size for path in models.WEIGHTS.iterdir())
    assert together < 25e6
