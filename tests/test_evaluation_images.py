"""Evaluation and maps of semantic change: windows equal the whole, figures equal plain numpy."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from cdscale import models
from cdscale.errors import ModelError, ReadError, SpecError
from cdscale.evaluation import Split, Way, evaluate
from cdscale.evaluation.scenes import Mapper, check_fits
from cdscale.learn.data import DATASETS, Image, Sample, Source, units
from cdscale.learn.images import (
    Counter,
    Labels,
    Reading,
    SceneMapper,
    SemanticCounts,
    SemanticMap,
    image_moments,
)
from cdscale.learn.images.scenes import pair_moments
from cdscale.models import attention, hrscd
from cdscale.models.ensemble import join
from cdscale.models.hrscd import SemanticChange
from cdscale.models.inputs import s2_moments
from cdscale.spec.card import Normalisation
from cdscale.testing.miniatures.painting import ground, picture
from tests.commands import INCOMPLETE, OK, Cli, refused
from tests.miniature_roots import Miniatures, cut
from tests.miniature_roots import miniatures as miniatures
from tests.regions import a_card, write_card

RGB = ("red", "green", "blue")
PLANET = ("blue", "green", "red", "nir")
LAND = {1: "artificial", 2: "fields", 3: "woods", 4: "wetlands", 5: "water"}
MONTHLY = {0: "impervious", 1: "fields", 2: "woods", 3: "wetlands", 4: "soil", 5: "water"}
CHANGES = {0: "no change"} | {code + 1: name for code, name in MONTHLY.items()} | {7: "snow"}
COLOURS = Normalisation(s2_mean=(0.35, 0.35, 0.3), s2_std=(0.2, 0.2, 0.2))
EACH = Normalisation(s2_clip=(-1.0, 4.0), s2_standardise="image")
FIXED = Normalisation(s2_mean=(0.1,) * 4, s2_std=(0.1,) * 4)
HELD = 255
NEAR = 1e-4
"""Of figures that rest on classes: softmax makes equal what was nearly so, in a pixel or two."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def hrscd_card(strategy: int, **changes: Any) -> dict[str, Any]:
    return {
        "name": f"tiny-{strategy}", "weights": f"t{strategy}.safetensors",
        "family": f"hrscd-{strategy}", "network": {"width": 2} | ({"outputs": 21} if strategy == 2
        else {}), "s2_bands": RGB, "s1_bands": (), "normalisation": COLOURS.model_dump(),
        "halo": hrscd.HALO, "stride": hrscd.STRIDE, "classes": LAND,
    } | changes  # fmt: skip


def attention_card(**changes: Any) -> dict[str, Any]:
    return {
        "name": "tiny-d", "weights": "d.safetensors",
        "family": "siamese-attention", "network": {"widths": (2, 2, 2, 3, 3)}, "s2_bands": PLANET,
        "s1_bands": (), "normalisation": EACH.model_dump(), "halo": attention.HALO,
        "stride": attention.STRIDE, "classes": CHANGES,
    } | changes  # fmt: skip


@pytest.fixture(scope="module")
def card_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Writes a card with random weights, lively enough to say every class."""

    def write(changes: dict[str, Any]) -> str:
        return str(write_card(tmp_path_factory.mktemp("card"), "semantic-change", **changes))

    return write


def lively(model: str, sample: Sample) -> str:
    """Centre the land cover logits of a card's network on a scene, so that it says every class."""
    card, folder = models.load_card(model), models.folder_of(model)
    weights = load_file(folder / card.weights)
    network = models.build(card).eval()
    network.load_state_dict(weights)
    means = [x.mean(axis=(1, 2)) for x in whole(Mapper(card, network, Way()), sample)[-2:]]
    weights["land_cover.decoder.head.bias"] -= torch.from_numpy(np.mean(means, axis=0))
    save_file(weights, folder / card.weights)
    digest = models.sha256_of(folder / card.weights)
    card.model_copy(update={"weights_sha256": digest}).write(Path(model))
    return model


def whole(own: Mapper, sample: Sample) -> list[np.ndarray]:
    """Softmax of every output of one pass over a scene, by torch alone."""
    bands, rule = own.card.s2_bands, own.card.normalisation
    images = []
    for when in ("before", "after"):
        x = sample.read(when, bands)
        moments: list[Any] = [rule.s2_mean, rule.s2_std]
        if rule.s2_standardise == "image":
            moments = [of(x, axis=(1, 2), dtype=np.float64) for of in (np.mean, np.std)]
        # In float32, as networks are fed: classes that are nearly as likely must not change places.
        mean, std = (np.asarray(part, np.float32)[:, None, None] for part in moments)
        images.append((x - mean) / std)
    before, after = (torch.from_numpy(x)[None] for x in images)
    with torch.inference_mode():
        said = own.network(before, after)
    parts = (said,) if isinstance(said, torch.Tensor) else (said.change, said.before, said.after)
    return [x[0].numpy() for x in parts if x is not None]


def between(probability: np.ndarray) -> float:
    """A threshold that no pixel is near, with pixels on both sides."""
    values = np.sort(probability, axis=None)
    middle = values[len(values) // 3 : 2 * len(values) // 3]
    widest = int(np.diff(middle).argmax())
    return float(middle[widest : widest + 2].mean())


def kappa(table: np.ndarray) -> float:
    total = table.sum()
    agreed = np.trace(table) / total
    chance = (table.sum(axis=0) * table.sum(axis=1)).sum() / total**2
    return float((agreed - chance) / (1 - chance))


def cross(truth: np.ndarray, said: np.ndarray, size: int) -> np.ndarray:
    table = np.zeros((size, size))
    np.add.at(table, (truth.ravel(), said.ravel()), 1)
    return table


def binary(table: np.ndarray) -> dict[str, float]:
    (tn, fp), (fn, tp) = table
    return {
        "kappa": kappa(table), "f1": 2 * tp / (2 * tp + fp + fn), "iou": tp / (tp + fp + fn),
        "overall": (tp + tn) / table.sum(), "precision": tp / (tp + fp), "recall": tp / (tp + fn),
    }  # fmt: skip


def semantic(table: np.ndarray) -> dict[str, float]:
    """From a table of from-to codes, 0 no change."""
    same = table[0, 0]
    rest = table[1:, 1:].sum()
    wrong = table[0, 1:].sum() + table[1:, 0].sum()
    changed = rest / (rest + wrong)
    off = table.copy()
    off[0, 0] = 0
    hits = np.trace(table[1:, 1:])
    precision, recall = hits / table[:, 1:].sum(), hits / table[1:].sum()
    return {
        "change_miou": (same / (same + wrong) + changed) / 2,
        "sek": kappa(off) * math.exp(changed - 1),
        "fscd": 2 * precision * recall / (precision + recall) if hits else 0.0,
    }


def close(found: Any, expected: dict[str, float], near: float = 1e-9) -> None:
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=near)
    assert found.keys() - expected.keys() <= {"iou"}


# ------------------------------------------------------------------------------------ System B


@pytest.mark.parametrize("strategy", [1, 3, 4])
def test_figures_of_hrscd_equal_plain_numpy(
    miniatures: Miniatures, card_of: Callable[..., str], strategy: int
) -> None:
    root = miniatures["hrscd"]
    samples = DATASETS["hrscd"].samples(root, "test")
    model = lively(card_of(hrscd_card(strategy)), samples[0])
    own = Mapper.open(model, DATASETS["hrscd"], Way())
    outputs = [whole(own, sample) for sample in samples]
    level = 0.0
    if strategy > 1:
        level = between(1 / (1 + np.exp(-np.stack([one[0][0] for one in outputs]))))
    found = evaluate(model, Split("hrscd", root, "test"), threshold=level or None)

    change, land, coded = np.zeros((2, 2)), np.zeros((6, 6)), np.zeros((6, 6))
    for sample, output in zip(samples, outputs, strict=True):
        codes = [1 + one[1:6].argmax(axis=0) for one in output[-2:]]
        said = codes[0] != codes[1]
        if strategy > 1:
            said = 1 / (1 + np.exp(-output[0][0].astype(np.float64))) >= level
        truth = sample.read("change")
        change += cross(truth, said.astype(int), 2)
        for code, layer in zip(codes, ("land_before", "land_after"), strict=True):
            label = sample.read(layer)
            known = label != HELD
            land += cross(label[known], code[known], 6)
            told = (truth == 0) | known
            coded += cross(np.where(truth, label, 0)[told], np.where(said, code, 0)[told], 6)
    assert 0 < change[:, 1].sum() < change.sum()
    assert (land.sum(axis=0) > 0).sum() > 1
    close(found.summary["pooled"], binary(change))
    union = land.sum(axis=0) + land.sum(axis=1) - np.diag(land)
    there = union > 0
    close(
        found.summary["land cover"],
        {"kappa": kappa(land), "overall": np.trace(land) / land.sum(),
         "miou": float(np.mean(np.diag(land)[there] / union[there]))}, NEAR,
    )  # fmt: skip
    close(found.summary["semantic change"], semantic(coded), NEAR)
    assert list(found.samples) == [sample.place for sample in samples]
    row = found.samples[samples[0].place]
    assert {"kappa", "land_kappa", "sek", "fscd", "unseen"} <= row.keys()
    assert ("best" in found.summary) == (strategy > 1)
    assert any("without any change" in note for note in found.notes)


def test_figures_of_transitions_equal_plain_numpy(
    miniatures: Miniatures, card_of: Callable[..., str]
) -> None:
    root = miniatures["hrscd"]
    model = card_of(hrscd_card(2))
    own = Mapper.open(model, DATASETS["hrscd"], Way())
    found = evaluate(model, Split("hrscd", root, "test"))
    pairs = [(a, b) for a in LAND for b in LAND if a != b]
    change, coded, table = np.zeros((2, 2)), np.zeros((6, 6)), np.zeros((21, 21))
    for sample in DATASETS["hrscd"].samples(root, "test"):
        (output,) = whole(own, sample)
        said, truth = output.argmax(axis=0), sample.read("change")
        change += cross(truth, (said > 0).astype(int), 2)
        labels = [sample.read(layer) for layer in ("land_before", "land_after")]
        number = np.where(truth == 0, 0, HELD)
        for place, (a, b) in enumerate(pairs, start=1):
            number[(truth == 1) & (labels[0] == a) & (labels[1] == b)] = place
        number[(labels[0] == HELD) | (labels[1] == HELD)] = HELD
        table += cross(number[number != HELD], said[number != HELD], 21)
        for side, label in enumerate(labels):
            code = np.array([0, *(pair[side] for pair in pairs)])[said]
            told = (truth == 0) | (label != HELD)
            coded += cross(np.where(truth, label, 0)[told], code[told], 6)
    assert change[:, 1].sum() > 0
    close(found.summary["pooled"], binary(change))
    close(found.summary["semantic change"], semantic(coded))
    close(
        found.summary["transitions"],
        {"kappa": kappa(table), "overall": np.trace(table) / table.sum()},
    )
    assert "land cover" not in found.summary
    assert found.about["threshold"] is None


# ------------------------------------------------------------------------------------ System D


def test_figures_of_the_challenge_equal_plain_numpy(
    miniatures: Miniatures, card_of: Callable[..., str]
) -> None:
    root = miniatures["dynamicearthnet-2021"]
    model = card_of(attention_card())
    data = DATASETS["dynamicearthnet-2021"]
    own = Mapper.open(model, data, Way())
    found = evaluate(model, Split(data.name, root, "train"))
    table = np.zeros((8, 8))
    for sample in data.samples(root, "train"):
        (output,) = whole(own, sample)
        table += cross(sample.read("change"), output.argmax(axis=0), 8)
    assert (table.sum(axis=0) > 0).sum() > 2
    union = table.sum(axis=0) + table.sum(axis=1) - np.diag(table)
    there = union > 0
    assert found.summary["classes"]["miou"] == pytest.approx(
        np.mean(np.diag(table)[there] / union[there])
    )
    assert found.summary["classes"]["kappa"] == pytest.approx(kappa(table))
    close(found.summary["semantic change"], semantic(table))
    assert len(found.samples) == 2
    with pytest.raises(SpecError, match=r"label 'change'.*3 samples without"):
        evaluate(model, Split(data.name, root, "val"))


@pytest.mark.parametrize("land", [False, True])
def test_the_score_of_monthly_change_equals_plain_numpy(
    miniatures: Miniatures, card_of: Callable[..., str], land: bool
) -> None:
    root = miniatures["dynamicearthnet-2022"]
    data = DATASETS["dynamicearthnet-2022"]
    plain = hrscd_card(1, s2_bands=PLANET, normalisation=EACH.model_dump(), classes=MONTHLY)
    model = card_of(plain if land else attention_card())
    if land:
        lively(model, data.samples(root, "test")[0])
    own = Mapper.open(model, data, Way())
    found = evaluate(model, Split(data.name, root, "test"))
    moved_said, later = np.zeros((2, 2)), np.zeros((8, 8))
    for sample in data.samples(root, "test"):
        output = whole(own, sample)
        if land:
            codes = [one[:6].argmax(axis=0) for one in output]
            said, after = codes[0] != codes[1], codes[1]
        else:
            code = output[0].argmax(axis=0)
            said, after = code > 0, np.where(code == 0, 7, code - 1)
        first, second = (sample.read(name) for name in ("land_before", "land_after"))
        known = (first != HELD) & (second != HELD)
        moved = (first != second) & known
        moved_said += cross(moved[known].astype(int), said[known].astype(int), 2)
        later += cross(second[moved], after[moved], 8)
    (_, fp), (fn, tp) = moved_said
    there = later.sum(axis=1) > 0
    union = later.sum(axis=0) + later.sum(axis=1) - np.diag(later)
    bc, sc = tp / (tp + fp + fn), float(np.mean(np.diag(later)[there] / union[there]))
    assert tp > 0
    close(found.summary["scs"], {"bc": bc, "sc": sc, "scs": (bc + sc) / 2})
    assert ("land cover" in found.summary) == land == ("classes" not in found.summary)


# ------------------------------------------------------------------------- windows and orientations


def planet_pair(folder: Path, shape: tuple[int, int]) -> Sample:
    """A pair that no data set has, with a corner of the later image missing."""
    layers = []
    for number, when in enumerate(("before", "after")):
        image = ground(np.random.default_rng(number), 4, shape)
        if number:
            image[:, :9, :7] = -1
        picture(folder / f"{when}.tif", image, nodata=-1)
        source = Source(folder / f"{when}.tif", (1, 2, 3, 4))
        layers.append(Image(when, PLANET, (source,), lambda raw: raw.floats(), ("float32",), 4))
    return Sample("made up", "pair", "here", (), folder / "before.tif", tuple(layers))


def mapped(scene: SceneMapper, sample: Sample, shape: tuple[int, int]) -> tuple[np.ndarray, ...]:
    """Change and its probability, windows put together, each pixel from exactly one."""
    change = np.full(shape, 77, np.uint8)
    probability = np.full(shape, np.inf, np.float32)
    for window, found in scene.maps(sample):
        assert (change[window.slices] == 77).all()
        change[window.slices] = found.change_YX
        probability[window.slices] = found.probability_YX
    assert (change != 77).all()
    return change, probability


@pytest.mark.parametrize("orientations", [1, 8])
def test_windows_give_the_map_of_the_whole_scene(
    card_of: Callable[..., str], tmp_path: Path, orientations: int
) -> None:
    shape = (170, 60)
    sample = planet_pair(tmp_path, shape)
    model = card_of(attention_card())
    network = models.load(models.load_card(model), folder=models.folder_of(model))
    reading = Reading.of("siamese-attention", CHANGES)
    scene = SceneMapper(
        network, reading, PLANET, EACH, attention.HALO, attention.STRIDE, orientations, core=48
    )
    assert max(shape) > scene.core + attention.HALO
    change, probability = mapped(scene, sample, shape)
    once = SceneMapper(
        network, reading, PLANET, EACH, attention.HALO, attention.STRIDE, orientations, core=1024
    )
    whole_change, whole_probability = mapped(once, sample, shape)
    np.testing.assert_allclose(probability, whole_probability, rtol=0, atol=5e-6)
    assert (change == whole_change).mean() > 0.999
    assert np.isnan(probability[:9, :7]).all()
    assert np.isnan(probability).sum() == 63
    assert (change[:9, :7] == HELD).all()
    assert np.nanstd(probability) > 1e-3


def test_orientations_are_averaged_by_their_probabilities(
    miniatures: Miniatures, card_of: Callable[..., str]
) -> None:
    data = DATASETS["dynamicearthnet-2021"]
    sample = data.samples(miniatures[data.name], "val")[0]
    own = Mapper.open(
        card_of(attention_card(normalisation=FIXED.model_dump())), data, Way(tta="d4")
    )
    _, found = mapped(own.scene(), sample, (128, 128))
    total = np.zeros((128, 128))
    flips: list[Callable[[np.ndarray], np.ndarray]] = [lambda x: x, lambda x: x[..., ::-1]]
    x = [(sample.read(when, PLANET) - 0.1) / 0.1 for when in ("before", "after")]
    for flip in flips:
        for turns in range(4):
            seen = (np.rot90(flip(one), turns, (1, 2)).astype(np.float32).copy() for one in x)
            with torch.inference_mode():
                said = own.network(*(torch.from_numpy(one)[None] for one in seen))
            back = np.rot90(1 - said.softmax(dim=1)[0, 0].numpy(), -turns)
            total += flip(back)
    np.testing.assert_allclose(found, total / 8, rtol=0, atol=5e-6)


@pytest.mark.parametrize("kind", ["image", "image_scalar"])
def test_moments_of_windows_are_those_of_the_image(tmp_path: Path, kind: Any) -> None:
    sample = planet_pair(tmp_path, (60, 2100))
    rule = Normalisation(s2_clip=(0.0, 0.2), s2_standardise=kind)
    found = image_moments(sample, "after", PLANET, rule)
    expected = s2_moments(torch.from_numpy(sample.read("after", PLANET)), rule)
    for one, other in ((found.mean, expected.mean), (found.std, expected.std)):
        np.testing.assert_allclose(one.numpy(), other.numpy().reshape(one.shape), rtol=1e-9)
    assert not torch.equal(pair_moments(sample, PLANET, rule).s2_before.mean, found.mean)


# -------------------------------------------------------------------------------- counts and codes


codes = st.integers(0, 3)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(codes, codes, codes, codes, st.booleans(), st.booleans()), min_size=4))
def test_counts_of_windows_add_up(pixels: list[tuple[Any, ...]]) -> None:
    said_before, said_after, before, after, said, truth = (
        np.array(column, np.uint8)[None] for column in zip(*pixels, strict=True)
    )
    counter = Counter(Reading("change and land cover", (1, 2, 3)), DATASETS["hrscd"])
    before, after = (np.where(x == 0, HELD, x).astype(np.uint8) for x in (before, after))

    def count(part: slice) -> SemanticCounts:
        found = SemanticMap(
            said[:, part], said[:, part].astype(np.float32),
            (said_before[:, part], said_after[:, part]), said[:, part].astype(np.float32),
        )  # fmt: skip
        return counter.count(found, Labels(truth[:, part], (before[:, part], after[:, part])))

    parts = count(slice(0, 2)) + count(slice(2, 3)) + count(slice(3, None))
    assert parts == count(slice(None))
    assert (SemanticCounts() + parts).figures() == parts.figures()


def test_land_cover_without_a_name_is_never_said() -> None:
    logits = torch.zeros(1, 4, 1, 2)
    logits[0, 0] = 9
    logits[0, 2, 0, 1] = 1
    logits[0, 3, 0, 0] = 1
    reading = Reading.of("hrscd-1", (1, 2, 3))
    said = reading.probabilities(SemanticChange(None, logits, logits.flip(-1)))
    found = reading.maps(said, np.array([[False, True]]))
    np.testing.assert_array_equal(found.land_YX[0], [[3, HELD]])
    np.testing.assert_array_equal(found.land_YX[1], [[2, HELD]])
    np.testing.assert_array_equal(found.change_YX, [[1, HELD]])
    p = torch.tensor([0.0, 0.0, 1.0]).softmax(0)
    expected = 1 - (p * p[[0, 2, 1]]).sum().item()
    assert found.probability_YX[0, 0] == found.certainty_YX[0, 0]
    assert found.probability_YX[0, 0] == pytest.approx(expected, abs=1e-6)


def test_two_change_outputs_are_read_as_one() -> None:
    reading = Reading.of("hrscd-4", (0, 1), threshold=0.7)
    land = torch.randn(1, 2, 1, 3)
    change = torch.tensor([[[[0.0, 0.0, 0.0]], [[0.0, 1.0, 2.0]]]])
    said = reading.probabilities(SemanticChange(change, land, land))
    found = reading.maps(said, np.zeros((1, 3), bool))
    np.testing.assert_allclose(found.probability_YX[0], 1 / (1 + np.exp([0, -1, -2])), rtol=1e-6)
    np.testing.assert_array_equal(found.change_YX, [[0, 1, 1]])


@pytest.mark.parametrize(
    ("family", "codes", "channels"),
    [("hrscd-1", (1, 2, 6), 6), ("hrscd-2", (1, 2, 3), 21), ("siamese-attention", (0, 1, 2), 8)],
)
def test_outputs_that_the_classes_do_not_fit_are_refused(
    family: str, codes: tuple[int, ...], channels: int
) -> None:
    logits = torch.zeros(1, channels, 2, 2)
    output: Any = SemanticChange(None, logits, logits) if family == "hrscd-1" else logits
    with pytest.raises(ModelError, match="card must name the classes"):
        Reading.of(family, codes).probabilities(output)
    with pytest.raises(ModelError, match="got two-branch"):
        Reading.of("two-branch", codes)


# ------------------------------------------------------------------------------------ the commands


def test_predict_writes_change_and_land_cover_of_scenes_without_labels(
    miniatures: Miniatures, card_of: Callable[..., str], cdscale: Cli, tmp_path: Path
) -> None:
    root, out = miniatures.copy("hrscd", tmp_path), tmp_path / "maps"
    for path in root.glob("labels*/**/*.tif"):
        path.unlink()
    model = card_of(hrscd_card(4))
    samples = DATASETS["hrscd"].samples(root, "test")
    own = Mapper.open(model, DATASETS["hrscd"], Way())
    level = float(np.median([mapped(own.scene(), s, (128, 128))[1] for s in samples]))
    told = ("predict", "hrscd", root, "--model", model, "--out", out, "--threshold", level)
    done = cdscale(*told)
    assert (done.code, done.err) == (OK, "")
    assert "% changed" in done.out
    for sample in samples:
        with rasterio.open(out / f"{sample.key}.tif") as file:
            change, probability, before, after = file.read()
            assert file.descriptions[0] == "change (1 = change, 0 = none, 255 = absent)"
            assert file.descriptions[2].startswith("land cover before (1 = artificial, 2 = fields")
            assert file.transform == sample.grid().affine
            assert file.crs.to_epsg() == 2154
        output = whole(own, sample)
        expected = 1 / (1 + np.exp(-output[0][0]))
        np.testing.assert_allclose(probability, expected, atol=5e-6)
        np.testing.assert_array_equal(change, probability >= level)
        for code, logits in zip((before, after), output[1:], strict=True):
            np.testing.assert_array_equal(code, 1 + logits[1:].argmax(axis=0))
    result = cdscale("evaluate", model, "--data", "hrscd", "--root", root, "--split", "test")
    refused(result, "label 'change'", "cdscale predict")


def test_predict_maps_classes_of_change_and_goes_on_after_an_unreadable_scene(
    miniatures: Miniatures, card_of: Callable[..., str], cdscale: Cli, tmp_path: Path
) -> None:
    root, out = miniatures.copy("dynamicearthnet-2021", tmp_path), tmp_path / "maps"
    model = card_of(attention_card())
    cut(sorted(root.glob("planet_test/15N/**/*.tif"))[-1])
    done = cdscale(
        "predict", "dynamicearthnet-2021", root, "--model", model, "--split", "val", "--out", out,
        "--json",
    )  # fmt: skip
    assert done.code == INCOMPLETE
    told = json.loads(done.out)
    assert [one["error"] is None for one in told] == [True, True, False]
    assert sorted(path.name for path in out.iterdir()) == [f"{o['sample']}.tif" for o in told[:2]]
    sample = DATASETS["dynamicearthnet-2021"].samples(root, "val")[0]
    with rasterio.open(out / f"{sample.key}.tif") as file:
        code, probability = file.read()
        assert file.descriptions[0].startswith("change to (0 = no change, 1 = impervious")
        assert file.tags()["METHOD"] == "tiny-d 1, the likeliest class"
    (output,) = whole(Mapper.open(model, DATASETS[sample.data], Way()), sample)
    assert (code == output.argmax(axis=0)).mean() > 0.999
    weights = np.exp(output - output.max(axis=0))
    np.testing.assert_allclose(probability, 1 - weights[0] / weights.sum(axis=0), atol=1e-5)
    assert told[0]["positive"] == np.count_nonzero(code)


def test_evaluate_prints_the_groups(
    miniatures: Miniatures, card_of: Callable[..., str], cdscale: Cli
) -> None:
    root = miniatures["hrscd"]
    told = ("--data", "hrscd", "--root", root, "--split", "test")
    shown = cdscale("evaluate", card_of(hrscd_card(1)), *told)
    assert (shown.code, shown.err) == (OK, "")
    for word in ("the likeliest class", "land cover: kappa", "semantic change: change_miou", "sek"):
        assert word in shown.out
    plain = json.loads(cdscale("evaluate", card_of(hrscd_card(4)), *told, "--json").out)
    assert plain["threshold"] == 0.5
    assert plain["summary"].keys() >= {"pooled", "land cover", "semantic change", "best"}


def test_what_cannot_be_measured_is_refused(
    miniatures: Miniatures, card_of: Callable[..., str], tmp_path: Path
) -> None:
    root = miniatures["hrscd"]
    split = Split("hrscd", root, "test")
    with pytest.raises(SpecError, match="the likeliest class decides"):
        evaluate(card_of(hrscd_card(1)), split, threshold=0.4)
    with pytest.raises(SpecError, match="legacy tiles"):
        evaluate(card_of(hrscd_card(4)), split, legacy=True)
    with pytest.raises(ModelError, match="without before, after"):
        check_fits(a_card("semantic-change", **hrscd_card(1)), DATASETS["spacenet7"], Way())
    with pytest.raises(ModelError, match="bands blue, green, red, nir.*without nir"):
        check_fits(a_card("semantic-change", **attention_card()), DATASETS["hrscd"], Way())
    broken = miniatures.copy("hrscd", tmp_path)
    cut(next(broken.glob("images_2012/2012/D14/*0420*.tif")))
    with pytest.raises(ReadError, match="cannot read"):
        evaluate(card_of(hrscd_card(1)), Split("hrscd", broken, "test"))


def test_an_ensemble_of_two_losses_is_the_mean_of_their_probabilities(
    miniatures: Miniatures, tmp_path: Path
) -> None:
    data = DATASETS["dynamicearthnet-2021"]
    sample = data.samples(miniatures[data.name], "val")[0]
    cards = []
    for number, name in enumerate(("jaccard", "dice")):
        path = write_card(tmp_path / name, "semantic-change", **attention_card(name=name))
        card = models.load_card(str(path))
        network = models.build(card)
        torch.manual_seed(number)
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0, 0.3)
        save_file(network.state_dict(), path.parent / card.weights)
        digest = models.sha256_of(path.parent / card.weights)
        card.model_copy(update={"weights_sha256": digest}).write(path)
        cards.append(str(path))
    join(cards, "both", tmp_path)
    maps = [
        mapped(Mapper.open(card, data, Way()).scene(), sample, (128, 128))[1]
        for card in (*cards, str(tmp_path / "both.card.yaml"))
    ]
    np.testing.assert_allclose(maps[2], (maps[0] + maps[1]) / 2, atol=1e-5)
    assert np.abs(maps[0] - maps[1]).max() > 1e-2
    assert units.IGNORED == HELD
