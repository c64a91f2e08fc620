"""System E: sizes, reach and memory of the priors; feature extractors; weights that fit whole."""

from __future__ import annotations

import itertools
import pickle
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from scipy import ndimage
from scipy.stats import rankdata
from torch import Tensor, nn
from torch.nn import functional

from cdscale.errors import ModelError
from cdscale.models import metric_cd, vgg
from cdscale.models.blocks import count_parameters
from cdscale.models.extractors import Extractor, FilterBank, morlets, zscored
from cdscale.models.metric_cd import HourglassPrior, Prior, ResidualPrior, UNetPrior
from cdscale.models.vgg import Vgg, level_layers, load_vgg
from tests.reaching import exact, on_grid, positive, randomise, reached_rows
from tests.reaching import tiles_are_whole as tiles_agree

# ------------------------------------------------------------------------------------------ sizes


@pytest.mark.parametrize(
    ("count", "make"),
    [
        (85_026, lambda: ResidualPrior(3, 4)),
        (159_266, lambda: ResidualPrior(3, 8)),
        (307_746, lambda: ResidualPrior(3, 16)),
        (604_706, lambda: ResidualPrior()),
        (1_198_626, lambda: ResidualPrior(3, 64)),
        (607_586, lambda: ResidualPrior(13)),
        (2_965_378, lambda: HourglassPrior()),
        (2_463_362, lambda: UNetPrior()),
        (14_714_688, lambda: Vgg(("relu5_3",), depth=16)),
        (20_024_384, lambda: Vgg(("relu5_4",), depth=19)),
    ],
)
def test_parameters_are_those_of_the_papers(count: int, make: Callable[[], nn.Module]) -> None:
    with torch.device("meta"):
        assert count_parameters(make()) == count


# ----------------------------------------------------------------------------------------- priors

PRIORS: list[Callable[[int], Prior]] = [
    lambda channels: ResidualPrior(channels, 2, width=4),
    lambda channels: HourglassPrior(channels, width=3),
    lambda channels: UNetPrior(channels, width=2),
]


@settings(max_examples=8)
@given(
    size=st.tuples(st.integers(33, 70), st.integers(33, 70)),
    make=st.sampled_from(range(len(PRIORS))),
)
def test_a_difference_becomes_a_probability_of_change(size: tuple[int, int], make: int) -> None:
    torch.manual_seed(0)
    network = PRIORS[make](2)
    difference = torch.randn(1, 2, *size)
    logits, probability = network.eval().logits(difference), network(difference)
    assert logits.shape == (1, 2, *size)
    assert probability.shape == (1, 1, *size)
    torch.testing.assert_close(probability[:, 0], logits[:, 0].sigmoid())


@pytest.mark.parametrize("make", PRIORS)
def test_images_that_do_not_fit_are_refused(make: Callable[[int], Prior]) -> None:
    network = make(2)
    with pytest.raises(ModelError, match="channels of the difference image; expected 2; got 3"):
        network(torch.zeros(1, 3, 64, 64))
    side = network.smallest
    network(torch.randn(1, 2, side, side))
    with pytest.raises(ModelError, match="too small"):
        network(torch.zeros(1, 2, side - 1, 64))


def test_options_out_of_range_are_named() -> None:
    with pytest.raises(ModelError, match=r"blocks and width.*\(0, 32\)"):
        ResidualPrior(3, 0)
    with pytest.raises(ModelError, match="channels of the difference image.*got 0"):
        HourglassPrior(0)


@pytest.mark.parametrize("make", PRIORS)
def test_only_the_second_channel_of_the_head_is_dead(make: Callable[[int], Prior]) -> None:
    torch.manual_seed(0)
    network = make(2).train()
    # A weighting by place: the mean of what is normalised over space would have no slope.
    difference = torch.randn(1, 2, 64, 64)
    (network(difference) * torch.rand(1, 1, 64, 64)).sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []
    weight = next(p.grad for n, p in network.named_parameters() if n == "head.weight")
    assert weight is not None
    assert weight[0].any()
    assert not weight[1].any()


def test_a_prior_fits_the_pair_that_it_is_given() -> None:
    torch.manual_seed(0)
    network = ResidualPrior(1, 2, width=8).train()
    truth = torch.zeros(1, 1, 32, 32)
    truth[..., 8:20, 10:22] = 1
    difference = truth + 0.5 * torch.randn(1, 1, 32, 32)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        loss = functional.binary_cross_entropy(network(difference), truth)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


def test_recomputing_keeps_less_and_changes_no_gradient() -> None:
    difference = torch.randn(1, 3, 24, 24)
    kept: dict[bool, int] = {}
    grads: dict[bool, list[Tensor]] = {}
    for recompute in (False, True):
        torch.manual_seed(0)
        network = ResidualPrior(3, 6, width=4, recompute=recompute).train()
        seen: set[int] = set()

        def note(x: Tensor, seen: set[int] = seen, how: bool = recompute) -> Tensor:
            if x.data_ptr() not in seen:
                seen.add(x.data_ptr())
                kept[how] = kept.get(how, 0) + x.numel()
            return x

        with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
            out = network(difference)
        out.square().mean().backward()
        grads[recompute] = [p.grad for p in network.parameters() if p.grad is not None]
    assert kept[True] < 0.5 * kept[False]
    assert len(grads[True]) == len(grads[False])
    for one, other in zip(grads[True], grads[False], strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("blocks", "radius"), [(4, 11), (32, 67), (64, 131)])
def test_the_reach_is_that_of_the_paper(blocks: int, radius: int) -> None:
    assert metric_cd.halo(blocks) == metric_cd.ladder(blocks).radius() == radius
    assert metric_cd.STRIDE == metric_cd.ladder(blocks).stride == 1
    assert blocks != 32 or 2 * radius + 1 == 135


def call_logits(network: Prior) -> Callable[[Sequence[Tensor]], Tensor]:
    return lambda images: network.logits(images[0])[:, :1]


def test_one_row_reaches_exactly_as_far_as_the_halo_says() -> None:
    network = call_logits(positive(ResidualPrior(1, 3, width=2)))
    reach = metric_cd.halo(3)
    found = reached_rows(network, 1, 20, (41, 6))
    assert found == list(range(20 - reach, 20 + reach + 1))


def test_tiles_are_the_whole_bit_for_bit_in_evaluation_and_not_in_training() -> None:
    network = exact(ResidualPrior(2, 3, width=2))
    image = on_grid(torch.randn(1, 2, 100, 9).double())
    assert tiles_agree(call_logits(network), [image], core=20, halo=metric_cd.halo(3))
    assert not tiles_agree(call_logits(network), [image], core=20, halo=metric_cd.halo(3) - 1)
    fitted = ResidualPrior(2, 3, width=2).double().train()
    assert not tiles_agree(call_logits(fitted), [image], core=20, halo=30)


# ---------------------------------------------------------------------------------------- z-scores


def test_z_scores_have_mean_zero_and_spread_one_and_flat_channels_are_zero() -> None:
    x = 50 + 7 * torch.randn(2, 3, 20, 30)
    x[0, 1] = 0.1
    found = zscored(x)
    assert not found[0, 1].any()
    rest = torch.cat((found[0, ::2], found[1]))
    torch.testing.assert_close(rest.mean(dim=(1, 2)), torch.zeros(5), atol=1e-4, rtol=0)
    torch.testing.assert_close(rest.std(dim=(1, 2), correction=0), torch.ones(5))


@given(gain=st.floats(0.1, 10), offset=st.floats(-5, 5))
def test_z_scores_do_not_know_gain_and_offset(gain: float, offset: float) -> None:
    x = torch.randn(1, 2, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(zscored(gain * x + offset), zscored(x))


# ------------------------------------------------------------------------------------- extractors

EXTRACTORS: list[Callable[[], Any]] = [
    lambda: FilterBank(3),
    lambda: FilterBank(3, (2, 4), orientations=3, standardise=False),
    lambda: randomise(Vgg(level_layers(16, (1, 2)))),
    lambda: randomise(Vgg(("relu1_1", "relu3_2"), depth=19, standardise=True)),
]


@pytest.mark.parametrize("make", EXTRACTORS)
@given(size=st.tuples(st.integers(32, 45), st.integers(32, 45)))
@settings(max_examples=4)
def test_feature_maps_are_of_the_size_and_depth_that_an_extractor_says(
    make: Any, size: tuple[int, int]
) -> None:
    extractor: Extractor = make()
    with torch.inference_mode():
        maps = extractor(torch.rand(1, 3, *size))
    expected = [
        (1, channels, size[0] // stride, size[1] // stride)
        for channels, stride in zip(extractor.channels, extractor.strides, strict=True)
    ]
    assert [tuple(found.shape) for found in maps] == expected


@pytest.mark.parametrize(
    ("make", "halo"),
    [
        (lambda: FilterBank(1, (1,), standardise=False), 5),
        (lambda: FilterBank(1, (1, 3), standardise=False), 23),
        (lambda: FilterBank(1, (2,), orientations=2, standardise=False), 11),
        (lambda: Vgg(level_layers(16, (1, 2, 3))), 18),
        (lambda: Vgg(("relu2_1",)), 4),
        (lambda: Vgg(("relu1_1", "relu2_2"), depth=19), 6),
    ],
)
def test_the_coarsest_map_reads_exactly_its_halo(make: Any, halo: int) -> None:
    extractor = make()
    assert extractor.halo == halo
    if isinstance(extractor, Vgg):
        extractor = positive(extractor)
        extractor.mean.zero_()
    stride, bands = extractor.strides[-1], 1 if isinstance(extractor, FilterBank) else 3
    pixel = (halo // stride + 2) * stride
    length = 2 * pixel + stride
    one, other = pixel - halo, pixel + stride - 1 + halo
    for row, seen in ((one - 1, False), (one, True), (other, True), (other + 1, False)):
        x = torch.zeros(1, bands, length, length, dtype=torch.float64)
        plain = extractor(x)[-1][0, :, pixel // stride]
        x[..., row, pixel] = 1
        touched = extractor(x)[-1][0, :, pixel // stride]
        assert bool((touched != plain).any()) == seen


@pytest.mark.parametrize(
    ("make", "bands"),
    [
        (lambda: FilterBank(2, (1, 2, 3), standardise=False).double(), 2),
        (lambda: exact(Vgg(level_layers(16, (1, 2, 3)))), 3),
    ],
)
def test_tiles_of_plain_features_are_the_whole(make: Any, bands: int) -> None:
    extractor = make()
    image = on_grid(torch.rand(1, bands, 144, 16, dtype=torch.float64))
    stride, halo, core = extractor.strides[-1], 24, 48
    assert extractor.halo <= halo
    with torch.inference_mode():
        whole = extractor(image)[-1]
        for start in range(0, 144, core):
            low = max(0, start - halo)
            tile = extractor(image[..., low : start + core + halo, :])[-1]
            inner = tile[..., (start - low) // stride :, :][..., : core // stride, :]
            expected = whole[..., start // stride : (start + core) // stride, :]
            # Taps of the filter bank are not on the grid: sums may round by their order.
            torch.testing.assert_close(inner, expected, rtol=0, atol=1e-12)
            assert isinstance(extractor, FilterBank) or torch.equal(inner, expected)


# ------------------------------------------------------------------------------------ filter bank


def test_wavelets_have_zero_mean_unit_sum_and_turn_into_each_other() -> None:
    real, imaginary = morlets(4).double()
    assert real.sum(dim=(1, 2)).abs().max() < 1e-6
    assert imaginary.sum(dim=(1, 2)).abs().max() < 1e-6
    torch.testing.assert_close(
        torch.complex(real, imaginary).abs().sum(dim=(1, 2)), torch.ones(4).double()
    )
    torch.testing.assert_close(real[0].T, real[2])
    torch.testing.assert_close(real[1].flip(1), real[3])
    # Along its own axis a wavelet changes sign, and its phase with it.
    torch.testing.assert_close(imaginary.flip(1, 2), -imaginary)


def test_the_filter_bank_is_its_formula() -> None:
    image = np.random.default_rng(0).random((2, 17, 14))
    found = FilterBank(2, (1, 2), standardise=False).double()(torch.from_numpy(image)[None])

    def correlate(plane: Any, kernel: Any) -> Any:
        return ndimage.correlate(plane, kernel, mode="mirror")

    binomial = np.outer((1, 4, 6, 4, 1), (1, 4, 6, 4, 1)) / 256
    real, imaginary = morlets(4).double().numpy()
    for level, maps in enumerate(found):
        planes = [_halved(plane) for plane in image] if level else list(image)
        expected = [correlate(plane, binomial) for plane in planes]
        for plane, step in itertools.product(planes, range(4)):
            size = np.hypot(correlate(plane, real[step]), correlate(plane, imaginary[step]))
            expected.append(correlate(size, binomial))
        np.testing.assert_allclose(maps[0].numpy(), expected, atol=1e-6)


def _halved(plane: Any) -> Any:
    """1 3 3 1 around each pair of rows and of columns."""
    for axis in (0, 1):
        padded = np.pad(plane, [(1, 1) if a == axis else (0, 0) for a in (0, 1)], mode="reflect")
        count = plane.shape[axis] // 2
        parts = [np.take(padded, 2 * np.arange(count) + k, axis=axis) for k in range(4)]
        plane = (parts[0] + 3 * parts[1] + 3 * parts[2] + parts[3]) / 8
    return plane


def test_haze_moves_the_brightness_alone_and_gain_nothing() -> None:
    image = torch.rand(1, 3, 40, 40, dtype=torch.float64)
    plain = FilterBank(3, (1, 2), standardise=False).double()
    for one, hazy in zip(plain(image), plain(image + 0.3), strict=True):
        torch.testing.assert_close(hazy[:, :3], one[:, :3] + 0.3)
        torch.testing.assert_close(hazy[:, 3:], one[:, 3:], atol=1e-6, rtol=0)
    standard = FilterBank(3, (1, 2)).double()
    for one, brighter in zip(standard(image), standard(1.7 * image + 0.1), strict=True):
        torch.testing.assert_close(brighter, one, atol=1e-5, rtol=0)


def test_turning_the_image_turns_the_features() -> None:
    """A quarter turn exchanges orientations 0 and 90, and 45 and 135 degrees."""
    image = torch.rand(1, 1, 32, 32, dtype=torch.float64)
    bank = FilterBank(1, (1, 2), standardise=False).double()
    order = [0, 3, 4, 1, 2]
    for plain, turned in zip(bank(image), bank(image.rot90(1, (-2, -1))), strict=True):
        torch.testing.assert_close(turned, plain[:, order].rot90(1, (-2, -1)), atol=1e-6, rtol=0)


def test_half_a_pixel_of_shift_matters_less_to_energies_than_to_edges() -> None:
    torch.manual_seed(0)
    fine = torch.rand(1, 1, 160, 160, dtype=torch.float64)
    fine = functional.avg_pool2d(fine, 5, stride=1, padding=2)
    image = functional.avg_pool2d(fine, 2)
    shifted = functional.avg_pool2d(fine[..., 1:], 2)[..., : image.shape[-1]]
    width = shifted.shape[-1]
    bank, wavelets = FilterBank(1, (1,)).double(), morlets(4).double()
    energies = [bank(x)[0][:, 1:, 8:-8, 8:-8] for x in (image[..., :width], shifted)]
    edges = [
        zscored(functional.conv2d(x, wavelets[0, :, None]))[..., 5:-5, 5:-5]
        for x in (image[..., :width], shifted)
    ]
    apart = [(one - other).square().mean() for one, other in (energies, edges)]
    assert apart[0] < 0.6 * apart[1]


def test_the_filter_bank_has_no_weights_and_no_state() -> None:
    bank = FilterBank(13)
    assert list(bank.parameters()) == []
    assert bank.state_dict() == {}
    assert bank.channels == (65, 65, 65)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: FilterBank(0), r"bands and orientations.*\(0, 4\)"),
        (lambda: FilterBank(3, orientations=0), r"bands and orientations.*\(3, 0\)"),
        (lambda: FilterBank(3, ()), r"levels.*got \(\)"),
        (lambda: FilterBank(3, (0, 1)), r"levels.*got \(0, 1\)"),
        (lambda: FilterBank(3, (2, 1)), r"ascending numbers from 1 to 5; got \(2, 1\)"),
        (lambda: FilterBank(3)(torch.rand(1, 4, 32, 32)), "bands.*expected 3; got 4"),
        (lambda: FilterBank(3)(torch.rand(1, 3, 15, 32)), "too small.*at least 16"),
        (lambda: level_layers(16, (6,)), "levels"),
        (lambda: level_layers(11), "depth.*16 or 19; got 11"),  # type: ignore[arg-type]
        (lambda: Vgg(depth=13), "depth.*16 or 19; got 13"),  # type: ignore[arg-type]
        (lambda: Vgg(("relu3_4",)), r"VGG-16: layers.*relu3_3.*got \('relu3_4',\)"),
        (lambda: Vgg(("relu2_1", "relu1_1")), "in this order"),
        (lambda: Vgg(()), "layers"),
        (lambda: Vgg(scaling="none"), "scaling.*imagenet or caffe; got none"),  # type: ignore[arg-type]
        (lambda: Vgg()(torch.rand(1, 4, 32, 32)), "red, green and blue.*got 4.*filter bank"),
        (lambda: Vgg()(torch.rand(1, 3, 1, 32)), "too small"),
    ],
)
def test_what_does_not_fit_an_extractor_is_refused(make: Any, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        make()


@pytest.mark.realdata
def test_on_real_pairs_the_features_rank_change_above_plain_differences(data_root: Path) -> None:
    gains = []
    for name in ("rennes", "mumbai"):
        pair, label = _rgb(data_root / "oscd", name)
        plain = (zscored(pair[0]) - zscored(pair[1])).square().sum(dim=1)[0]
        bank = FilterBank(3)
        with torch.inference_mode():
            apart = [
                (a - b).abs().mean(1, keepdim=True) for a, b in zip(*map(bank, pair), strict=True)
            ]
        score = torch.stack([functional.interpolate(x, size=label.shape) for x in apart])
        gains.append(_auc(score.sum(dim=0)[0, 0], label) - _auc(plain, label))
    assert np.mean(gains) > 0.03


def _rgb(root: Path, name: str) -> tuple[list[Tensor], Any]:
    """Both dates of a city of OSCD as reflectance (1, 3, Y, X), and its label, 1 = change."""

    def read(*parts: str) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            with rasterio.open(root.joinpath(*parts)) as file:
                return file.read(1).astype(np.float32)

    kind = "Onera Satellite Change Detection dataset - "
    dates = (
        np.stack([read(f"{kind}Images", name, date, f"{b}.tif") for b in ("B04", "B03", "B02")])
        for date in ("imgs_1_rect", "imgs_2_rect")
    )
    label = read(f"{kind}Train Labels", name, "cm", f"{name}-cm.tif") > 1
    return [(torch.from_numpy(x)[None] / 10_000).clamp(0, 1) for x in dates], label


def _auc(score: Tensor, label: Any) -> float:
    ranks, changed = rankdata(score.numpy().ravel()), label.ravel()
    count = changed.sum()
    above = ranks[changed].sum() - count * (count + 1) / 2
    return float(above / (count * (~changed).sum()))


# -------------------------------------------------------------------------------------------- VGG


def test_names_and_shapes_are_those_of_torchvision() -> None:
    with torch.device("meta"):
        state = Vgg(("relu5_3",)).state_dict()
        places = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
        names = [f"features.{place}.{part}" for place in places for part in ("weight", "bias")]
        assert list(state) == names
        assert state["features.5.weight"].shape == (128, 64, 3, 3)
        deeper = list(Vgg(("relu5_4",), depth=19).state_dict())
        assert len(deeper) == 32
        assert deeper[-1] == "features.34.bias"
    dense = sum(o * i + o for o, i in vgg._CLASSIFIER.values())
    assert (14_714_688 + dense, 20_024_384 + dense) == (138_357_544, 143_667_240)


def test_levels_are_the_last_relu_of_each_block() -> None:
    assert level_layers(16, (1, 2, 3, 4)) == ("relu1_2", "relu2_2", "relu3_3", "relu4_3")
    assert level_layers(19, (3, 4, 5)) == ("relu3_4", "relu4_4", "relu5_4")


def test_feature_maps_are_those_of_the_layers_one_by_one() -> None:
    network = randomise(Vgg(("relu1_1", "relu1_2", "relu2_1")))
    image = torch.rand(1, 3, 10, 12)
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    state = network.state_dict()

    def layer(x: Tensor, place: int) -> Tensor:
        weight, bias = state[f"features.{place}.weight"], state[f"features.{place}.bias"]
        return functional.conv2d(x, weight, bias, padding=1).clamp_min(0)

    with torch.inference_mode():
        one = layer((image - mean) / std, 0)
        two = layer(one, 2)
        three = layer(functional.max_pool2d(two, 2), 5)
        for found, expected in zip(network(image), (one, two, three), strict=True):
            torch.testing.assert_close(found, expected)


def test_caffe_scaling_is_what_imagenet_scaling_would_be_without_the_deviation() -> None:
    plain, caffe = Vgg(("relu1_1",)), Vgg(("relu1_1",), scaling="caffe")
    caffe.load_state_dict(plain.state_dict())
    for network in (plain, caffe):
        nn.init.zeros_(network.features[0].bias)  # type: ignore[arg-type]
    image = torch.rand(1, 3, 6, 6)
    with torch.inference_mode():
        scaled = (plain.mean + (image - plain.mean) * 255 * plain.std)[:, :]
        torch.testing.assert_close(caffe(image)[0], plain(scaled)[0])


def test_the_halo_grows_with_the_levels() -> None:
    with torch.device("meta"):
        sixteen = [Vgg(level_layers(16, (level,))).halo for level in range(1, 6)]
        nineteen = [Vgg(level_layers(19, (level,)), depth=19).halo for level in range(1, 6)]
    assert sixteen == [2, 6, 18, 42, 90]
    assert nineteen == [2, 6, 22, 54, 118]


@pytest.fixture
def small_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vgg, "_CLASSIFIER", {0: (4, 25), 3: (4, 4), 6: (1000, 4)})


@pytest.fixture(scope="module")
def whole_state() -> dict[str, Tensor]:
    """All convolutions of VGG-16 as torchvision names them; half precision spares time."""
    torch.manual_seed(0)
    with torch.device("meta"):
        shapes = {k: v.shape for k, v in Vgg(("relu5_3",)).state_dict().items()}
    return {name: (torch.rand(shape) / 100).half() for name, shape in shapes.items()}


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_of_a_file_are_taken_whole(
    whole_state: dict[str, Tensor], tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"vgg16{suffix}"
    if suffix == ".pth":
        torch.save(whole_state, path)
    else:
        save_file(whole_state, path)
    network = Vgg(level_layers(16, (1, 2)))
    assert load_vgg(network, path) is network
    for name, value in network.state_dict().items():
        assert torch.equal(value, whole_state[name].float())
    assert not network.training
    assert not [p for p in network.parameters() if p.requires_grad]


def damaged(state: dict[str, Any], how: str) -> dict[str, Any]:
    """A copy with one thing wrong."""
    copy = dict(state)
    if how == "missing":
        del copy["features.28.bias"]
    elif how == "one too many":
        copy["features.30.weight"] = torch.zeros(3)
    elif how == "prefix":
        copy = {f"module.{name}": value for name, value in state.items()}
    elif how == "shape":
        copy["features.0.weight"] = torch.zeros(64, 13, 3, 3)
    elif how == "integers":
        copy["features.0.bias"] = torch.zeros(64, dtype=torch.int64)
    elif how == "not finite":
        copy["features.26.bias"] = torch.full((512,), torch.nan)
    elif how == "half a classifier":
        copy["classifier.0.weight"] = torch.zeros(4, 25)
    elif how == "other classes":
        for place, (o, i) in vgg._CLASSIFIER.items():
            wide = 30 if place == 6 else o
            copy[f"classifier.{place}.weight"] = torch.zeros(wide, i)
            copy[f"classifier.{place}.bias"] = torch.zeros(wide)
    else:
        copy["features.0.bias"] = "text"
    return copy


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("missing", "features.28.bias is missing"),
        ("one too many", "features.30.weight is none of its tensors"),
        ("prefix", r"features.0.bias is missing.*\(49 more\)"),
        ("shape", r"features.0.weight has shape \(64, 13, 3, 3\) for \(64, 3, 3, 3\)"),
        ("integers", "features.0.bias holds torch.int64"),
        ("not finite", "features.26.bias has values that are not finite"),
        ("half a classifier", "classifier.0.bias is missing"),
        ("other classes", r"classifier.6.bias has shape \(30,\) for \(1000,\)"),
        ("no tensor", "features.0.bias is a str"),
    ],
)
@pytest.mark.usefixtures("small_classifier")
def test_a_state_that_does_not_fit_whole_is_refused(
    whole_state: dict[str, Tensor], how: str, said: str
) -> None:
    with pytest.raises(ModelError, match=rf"x\.pth does not fit.*torchvision's vgg16.*{said}"):
        vgg._check(damaged(whole_state, how), 16, Path("x.pth"))


@pytest.mark.usefixtures("small_classifier")
def test_a_classifier_may_come_along(whole_state: dict[str, Tensor]) -> None:
    state = damaged(whole_state, "other classes")
    state["classifier.6.weight"] = torch.zeros(1000, 4)
    state["classifier.6.bias"] = torch.zeros(1000)
    vgg._check(state, 16, Path("x.pth"))


def test_weights_of_the_other_depth_are_refused_and_nothing_is_loaded(
    whole_state: dict[str, Tensor], tmp_path: Path
) -> None:
    save_file(whole_state, tmp_path / "vgg16.safetensors")
    network = Vgg(depth=19)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(ModelError, match="does not fit; expected torchvision's vgg19"):
        load_vgg(network, tmp_path / "vgg16.safetensors")
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


class _Trap:
    """Unpickled carelessly it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_a_file_that_would_run_code_is_refused_and_runs_none(tmp_path: Path) -> None:
    mark, path = tmp_path / "ran", tmp_path / "vgg16.pth"
    torch.save({"features.0.weight": _Trap(mark)}, path)
    with pytest.raises(ModelError, match="does not read"):
        load_vgg(Vgg(), path)
    path.write_bytes(pickle.dumps(_Trap(mark)))
    with pytest.raises(ModelError, match="does not read"):
        load_vgg(Vgg(), path)
    assert not mark.exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("content", [b"", b"no tensors at all", b"\x80\x04N."])
def test_a_file_that_is_no_weights_is_refused(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"vgg16{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=f"vgg16{suffix}"):
        load_vgg(Vgg(), path)


def test_what_is_no_state_dict_or_no_file_is_refused(tmp_path: Path) -> None:
    torch.save([torch.zeros(2)], tmp_path / "list.pth")
    with pytest.raises(ModelError, match="expected a state dict; got list"):
        load_vgg(Vgg(), tmp_path / "list.pth")
    with pytest.raises(ModelError, match="no such file of VGG weights"):
        load_vgg(Vgg(), tmp_path / "gone.pth")
    with pytest.raises(ModelError, match="no such file of VGG weights"):
        load_vgg(Vgg(), tmp_path / "gone.safetensors")
    with pytest.raises(ModelError, match=r"a file named .safetensors, .pth, .pt; got .*h5"):
        load_vgg(Vgg(), tmp_path / "vgg16.h5")


def test_a_torch_with_the_hole_reads_no_pickles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({}, tmp_path / "vgg16.pth")
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    with pytest.raises(ModelError, match=r"security hole.*torch 2.10 or later.*safetensors"):
        load_vgg(Vgg(), tmp_path / "vgg16.pth")
