"""Training of networks on months: every recipe runs, some learn, runs resume, errors are told."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from pytorch_lightning import Callback
from torch import nn

from benchmarks.simulated_regions import SEEDS, store_site
from cdscale import models
from cdscale.cli.training import _runs
from cdscale.errors import ModelError, ReadError, SpecError
from cdscale.export.curves import plot_curve
from cdscale.grid import Grid, Tile
from cdscale.inference import Block, predict_urban
from cdscale.learn.data import data_set
from cdscale.learn.data.spacenet7 import BANDS, METADATA, SITES
from cdscale.learn.losses import MissingOpticalRule, power_jaccard, similarity
from cdscale.learn.metrics import Confusion, Curve
from cdscale.learn.training import How, Split, load_recipe, resolved, shipped, table, train
from cdscale.learn.training import mapping as maps
from cdscale.learn.training.mapping import Mapping
from cdscale.learn.training.month.data import MonthData, tensors_of
from cdscale.learn.training.month.figures import SETS, count_month
from cdscale.learn.training.month.loss import month_loss
from cdscale.learn.training.month.mapping import map_month
from cdscale.learn.training.month.months import Month, measure, read_month, samples_in
from cdscale.learn.training.month.recipe import MonthRecipe
from cdscale.learn.training.shipping import draft_card
from cdscale.models.blocks import count_parameters
from cdscale.models.missing_optical import MissingOptical
from cdscale.models.radar_unet import RadarUNet
from cdscale.spec.card import Normalisation
from cdscale.spec.cube import SensorQuality
from cdscale.testing.miniatures.painting import sign
from tests.learning import learned
from tests.miniature_roots import Miniatures, miniatures

__all__ = ["miniatures"]

TRAIN, VAL, TEST = SITES["train"][:2], SITES["val"][:1], SITES["test"][:1]


@pytest.fixture(autouse=True, scope="module")
def small_halos() -> Any:
    """Miniatures are 72 pixels a side: a halo of 112 would be most of the work."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cdscale.models.missing_optical.HALO", 16)
        patch.setattr("cdscale.models.radar_unet.HALO", 16)
        yield


@pytest.fixture
def root(miniatures: Miniatures) -> Path:
    return miniatures["spacenet7"]


def small(name: str, width: int = 2, crop: int = 32, **changes: Any) -> MonthRecipe:
    """A recipe that ships, cut down to seconds; its network, its loss and the rest are its own."""
    recipe = load_recipe(name)
    assert isinstance(recipe, MonthRecipe)
    options = recipe.network.options | {"width": width}
    return recipe.model_copy(
        update={
            "split": Split(),
            "epochs": 1,
            "validate_every": 1,
            "precision": "float32",  # bfloat16 is slow on processors that do not have it
            "sampling": recipe.sampling.model_copy(update={"batch": 3, "crop": crop}),
            "network": recipe.network.model_copy(update={"options": options}),
        }
        | changes
    )


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "curve.csv").open(newline="", encoding="utf-8") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


# --------------------------------------------------------------------------------------- recipes


@pytest.mark.parametrize("name", shipped("month"))
def test_every_recipe_learns(name: str, root: Path) -> None:
    recipe = small(name)
    found = learned(recipe, root)
    assert found.enough, found


@pytest.mark.parametrize("name", shipped("month"))
def test_every_recipe_runs_from_pixels_to_a_card(name: str, root: Path, tmp_path: Path) -> None:
    recipe = small(name)
    path = train(recipe, root, tmp_path, How(threads=1))
    card = models.load_card(str(path))
    assert not models.load(card, folder=tmp_path).training
    assert card.task == "urban"
    assert card.training.simulated
    assert card.training.data.startswith("Simulated")
    assert card.training.steps == 2
    for part in (*TRAIN, *VAL, *TEST):
        assert part in card.training.split
    # One month of the validation site has no optical image, none of the test site.
    sets = SETS if recipe.s2_bands else SETS[:-1]
    assert set(card.accuracy["val"]) == set(sets)
    assert set(card.accuracy["show"]) == set(sets) - {"reconstructed"}
    (row,) = rows_of(tmp_path)
    assert np.isfinite(float(row["loss"]))
    assert float(row["score"]) == float(row["all_f1"])
    assert row["reconstructed_iou"]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("spacenet7-unet-s1", 14_788_353),
        ("spacenet7-ds-unet", 29_577_857),
        ("spacenet7-missing-optical", 44_366_145),
        ("spacenet7-missing-optical-dropout", 44_366_145),
        ("spacenet7-missing-optical-code", 29_616_257),
        ("spacenet7-missing-optical-mean", 29_577_857),
        ("spacenet7-missing-optical-token", 29_577_921),
    ],
)
def test_recipes_build_the_published_networks_and_train_as_published(
    name: str, parameters: int, tmp_path: Path
) -> None:
    recipe = load_recipe(name)
    assert isinstance(recipe, MonthRecipe)
    with torch.device("meta"):
        network = models.build(draft_card(recipe, tmp_path, Normalisation()))
    assert count_parameters(network) == parameters
    assert recipe.name == name
    assert (recipe.optimiser.kind, recipe.optimiser.rate) == ("adamw", 1e-5)
    assert (recipe.sampling.crop, recipe.sampling.batch, recipe.epochs) == (64, 16, 100)
    assert (recipe.patience, recipe.threshold) == (10, 0.5)


def test_the_published_split_is_that_of_the_folder_and_folds_keep_neighbours(root: Path) -> None:
    recipe = resolved(small("spacenet7-ds-unet"), root)
    assert recipe.split == Split(train=TRAIN, val=VAL, show=TEST)
    assert resolved(recipe, root) == recipe
    own = small("spacenet7-ds-unet", split=Split(val=TRAIN[:1]))
    assert resolved(own, root).split == Split(train=TRAIN[1:], val=TRAIN[:1], show=TEST)
    full = load_recipe("spacenet7-ds-unet")
    every = Split(train=SITES["train"], val=SITES["val"], show=SITES["test"])
    runs = _runs(full.model_copy(update={"split": every}), "all", Path("runs"))
    parts = [one.split.val for one, _ in runs]
    assert sorted(sum(parts, ())) == sorted(every.named)
    for together in full.folds.together:
        assert set(together) <= set(every.named)
        assert sum(bool(set(part) & set(together)) for part in parts) == 1
    # A fold has all places: nothing is added to it from the published split.
    sites = (*TRAIN, *VAL, *TEST)
    fold = recipe.fold(1, tuple(sorted(sites)))
    assert resolved(fold, root) == fold


def test_the_simulated_recipe_fits_its_regions() -> None:
    recipe = load_recipe("urban-s1s2-sim")
    split = recipe.split
    for part, seeds in (
        (split.train, SEEDS["train"]), (split.val, SEEDS["val"]), (split.show, SEEDS["test"]),
    ):  # fmt: skip
        assert part == tuple(f"region-{seed}" for seed in seeds)
    card = models.load_card("urban-s1s2-sim")
    assert (recipe.s2_bands, recipe.s1_bands) == (card.s2_bands, card.s1_bands)
    assert recipe.network.options == card.network
    assert recipe.normalisation.s1_db_clip == card.normalisation.s1_db_clip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("data: oscd\n", "months with radar, optical image and urban label; got oscd"),
        ("network: {family: fc-ef, options: {}}\n", "one of missing-optical, radar-unet; got fc"),
        ("s1_bands: []\n", "s1_bands; expected one or more"),
        ("s2_bands: [B04, B10]\n", "s2_bands; expected .*got B10"),
        ("published_split: dev\n", "published_split; expected one of train, val, test"),
        ("normalisation: {s2_standardise: image}\n", "normalisation; expected s2_standardise: tr"),
        ("normalisation: {s2_mean: [0.1, 0.2]}\n", "one value, or one for each band; got 2"),
        ("sampling: {crop: 8}\n", "sampling.crop; expected 16 or more; got 8"),
        ("sampling: {batch: 0}\n", "sampling.batch"),
        ("sampling: {crops_per_epoch: 5}\n", "crops_per_epoch: Extra inputs"),
        ("augment: {s2_drop: 1.0}\n", "s2_drop; expected 0 or more and below 1"),
        ("augment: {season: -1}\n", "gains of 0 or more"),
        ("network: {family: missing-optical, options: {recon: mean}}\n", "loss.phi; expected 0"),
        ("network: {family: radar-unet, options: {}}\nloss: {phi: 0}\n", "loss.simulated; exp"),
        ("loss: {form: best}\n", "loss.form"),
        ("published_split: train\n", "split.val; expected a place"),
        ("kind: pair\n", "Extra inputs"),
    ],
)
def test_a_recipe_that_cannot_be_trained_is_refused(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"extends: spacenet7-missing-optical\n{text}", encoding="utf-8")
    with pytest.raises(SpecError, match=said):
        load_recipe(str(path))


# ------------------------------------------------------------------------------------------ data


def data_of(root: Path, **changes: Any) -> MonthData:
    return MonthData(resolved(small("spacenet7-missing-optical", **changes), root), root)


def test_an_epoch_has_one_crop_of_each_month(root: Path) -> None:
    data = data_of(root)
    assert (len(data.months), data.steps) == (7, 2)
    first, second = (data.drawer(epoch) for epoch in (0, 1))
    assert sorted(first.order) == sorted(second.order) == list(range(7))
    assert first.order != second.order
    assert data.drawer(0).order == first.order
    s1, s2, seen, label = next(iter(data.train_dataloader()))
    assert (s1.shape, s2.shape) == ((3, 2, 32, 32), (3, 4, 32, 32))
    assert (seen.dtype, label.dtype) == (torch.bool, torch.int64)
    again = next(iter(data.train_dataloader()))
    assert all(torch.equal(x, y) for x, y in zip((s1, s2, seen, label), again, strict=True))


def test_a_crop_is_a_piece_of_its_month_in_any_orientation(root: Path) -> None:
    data = data_of(root)
    draw = data.drawer(0)
    torch.manual_seed(0)
    s1, s2, seen, label = draw(0)
    for number, month in enumerate(data.months[k] for k in draw.order[:3]):
        stored = {float(v) for v in month.s2[0].ravel()}
        assert {float(v) for v in s2[number, 0].ravel()} <= (stored | {0.0})
        assert bool(seen[number].all()) == bool(month.seen.all())
        built = label[number] == 1
        if built.any() and not built.all():
            assert s1[number, 0][built].mean() > s1[number, 0][~built].mean() + 0.2


def test_crops_larger_than_a_month_are_filled_up_with_nothing(root: Path) -> None:
    s1, s2, seen, label = data_of(root, crop=80).drawer(0)(0)
    nothing = label == 255
    assert nothing.sum() == 3 * (80 * 80 - 72 * 72)
    assert not seen[nothing].any()
    assert not s1.movedim(1, -1)[nothing].any()
    assert not s2.movedim(1, -1)[nothing].any()


def drawn(root: Path, **augment: float) -> tuple[torch.Tensor, ...]:
    """One batch of all seven months, one of which has no optical image; the rest of it as ever."""
    recipe = small("spacenet7-missing-optical")
    changes = {
        "augment": recipe.augment.model_copy(update=augment),
        "sampling": recipe.sampling.model_copy(update={"batch": 7}),
    }
    draw = data_of(root, **changes).drawer(0)
    torch.manual_seed(1)
    return draw(0)


def test_augmentation_changes_gains_and_drops_optical(root: Path) -> None:
    s1, s2, seen, label = drawn(root)
    has = seen.flatten(1).all(dim=1)
    assert int(has.sum()) == 6
    other_s1, other_s2, still, same = drawn(root, season=0.05, s1_gain_db=0.5)
    assert torch.equal(same, label)
    assert torch.equal(still, seen)
    gain = other_s2[has] / s2[has]
    assert (gain.std(dim=(2, 3)) < 1e-4).all()
    assert (gain.mean(dim=(2, 3)) - 1).abs().max() > 0.02
    # A gain in dB is an offset of what is scaled from 25 dB to [0, 1].
    offset = other_s1 - s1
    assert (offset.flatten(1).std(dim=1) < 1e-3).all()
    assert offset.abs().max() > 0.005
    _, dropped, rest, _ = drawn(root, s2_drop=0.5)
    lost = ~rest.flatten(1).any(dim=1)
    assert 1 < int(lost.sum()) < 7
    assert not dropped[lost].any()
    assert torch.equal(dropped[~lost], s2[~lost])


def test_moments_are_those_of_seen_pixels(root: Path) -> None:
    recipe = resolved(small("urban-s1s2-sim"), root)
    months = [read_month(recipe, sample) for sample in samples_in(recipe, root, TRAIN)]
    rule = measure(recipe, months)
    pixels = np.concatenate([month.s2[:, month.seen] for month in months], axis=1)
    np.testing.assert_allclose(rule.s2_mean, pixels.mean(axis=1), atol=2e-5)
    np.testing.assert_allclose(rule.s2_std, pixels.std(axis=1), atol=2e-5)
    assert measure(small("spacenet7-ds-unet"), months).s2_mean == (0.0,) * 4


def test_what_the_data_does_not_have_is_told(root: Path, tmp_path: Path) -> None:
    name = "spacenet7-missing-optical"
    with pytest.raises(SpecError, match="atlantis not in spacenet7"):
        train(small(name, split=Split(val=("atlantis",))), root, tmp_path)
    large = small(name).sampling.model_copy(update={"batch": 8})
    with pytest.raises(SpecError, match="at most the 7 months that are trained on; got 8"):
        train(small(name, sampling=large), root, tmp_path)
    with pytest.raises(SpecError, match="has no band hh"):
        train(small(name, s1_bands=("hh",)), root, tmp_path)
    unlabelled = small(name, published_split="unlabelled", keep="last")
    with pytest.raises(ReadError, match="no urban label"):
        train(unlabelled, root, tmp_path)
    odd = small(name)
    odd = odd.model_copy(update={"network": odd.network.model_copy(update={"options": {"a": 1}})})
    with pytest.raises(ModelError, match="network options"):
        train(odd, root, tmp_path)


# ------------------------------------------------------------------------- loss, maps and figures


def a_batch(seen: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    s1, s2 = torch.rand(1, 1, 16, 16), torch.rand(1, 2, 16, 16)
    label = torch.randint(0, 2, (1, 16, 16))
    mask = torch.zeros(1, 16, 16, dtype=torch.bool)
    mask[seen] = True
    return s1, s2.masked_fill(~mask[:, None], 0.0), mask, label


@pytest.mark.parametrize("seen", [..., (0, slice(5)), (0, slice(0))], ids=["all", "part", "none"])
def test_the_loss_is_the_papers_pixel_by_pixel(seen: Any) -> None:
    s1, s2, mask, label = batch = a_batch(seen)
    network = MissingOptical(2, 1, width=2).eval()
    found = network.features(s1, s2, mask)
    chosen = torch.where(mask[:, None], found.s2, found.s2_from_s1)
    fused = power_jaccard(network.fuse(found.s1, chosen).sigmoid()[:, 0], label)
    blind = power_jaccard(network.fuse(found.s1, found.s2_from_s1).sigmoid()[:, 0], label)
    expected = fused
    if mask.any():
        where = mask[0].expand(2, -1, -1)
        expected = fused + blind
        expected = expected + 0.01 * similarity(found.s2[0][where], found.s2_from_s1[0][where])
    torch.testing.assert_close(month_loss(network, batch, MissingOpticalRule()), expected)
    plain = MissingOpticalRule(phi=0.0, simulated=0.0)
    torch.testing.assert_close(month_loss(network, batch, plain), fused)


def test_the_loss_of_a_network_without_branches_is_that_of_its_answer() -> None:
    s1, s2, mask, label = batch = a_batch((0, slice(5)))
    network = RadarUNet(0, 1, width=2).eval()
    expected = power_jaccard(network(s1, s2, mask).sigmoid()[:, 0], label)
    found = month_loss(network, batch, MissingOpticalRule(phi=0.0, simulated=0.0))
    torch.testing.assert_close(found, expected)


def test_a_radar_network_reads_radar_alone_and_refuses_what_does_not_fit() -> None:
    network = RadarUNet(4, 1, width=2).eval()
    s1, seen = torch.rand(1, 1, 16, 20), torch.zeros(1, dtype=torch.bool)
    one, other = (network(s1, torch.full((1, 4, 16, 20), v), seen) for v in (0.0, torch.nan))
    assert torch.equal(one, other)
    with pytest.raises(ModelError, match="channels of radar; expected 1; got 2"):
        network(torch.rand(1, 2, 16, 16), one, seen)
    with pytest.raises(ModelError, match="16"):
        network(torch.rand(1, 1, 8, 16), one, seen)


@pytest.mark.parametrize("name", ["urban-s1s2-sim", "spacenet7-unet-s1"])
def test_months_are_mapped_as_the_finished_network_will(
    name: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In windows or whole, and as ``predict_urban`` does, optical missing in part."""
    monkeypatch.setattr("cdscale.models.missing_optical.HALO", 112)
    monkeypatch.setattr("cdscale.models.radar_unet.HALO", 112)
    recipe = resolved(small(name), root)
    month = read_month(recipe, samples_in(recipe, root, VAL)[0])
    rule = measure(recipe, [month])
    card = draft_card(recipe, root, rule)
    torch.manual_seed(0)
    network = models.build(card).eval()
    s1, s2, seen, _ = (x.clone() for x in tensors_of(month))
    s2[:, :30] = torch.nan
    s1[:, 20:40, 5:9] = torch.nan
    seen[:30] = False
    how = Mapping.of(card)
    whole = map_month(network, s1, s2, seen, how)
    nothing = np.isnan(whole)
    assert nothing[20:30, 5:9].all()
    assert nothing.sum() == (40 if recipe.s2_bands else 80)
    monkeypatch.setattr(maps, "CORE", 48)
    np.testing.assert_allclose(map_month(network, s1, s2, seen, how), whole, atol=1e-5)
    around = ((0, 0), (card.halo, card.halo), (card.halo, card.halo))
    wide_s2, wide_s1 = (np.pad(x.numpy(), around, constant_values=np.nan) for x in (s2, s1))
    found = predict_urban(network, card, Block(wide_s2, wide_s1))
    np.testing.assert_allclose(found.probability_YX, whole, atol=1e-5)


class Brightest(nn.Module):
    """Says 1 where it is shown bright optical, and nothing much elsewhere."""

    def forward(self, s1: torch.Tensor, s2: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        return torch.where(seen & (s2[:, :1] > 0.5), 5.0, -5.0) + 0 * s1[:, :1]


def test_figures_are_kept_apart_by_what_optical_saw() -> None:
    label = np.ones((16, 16), np.uint8)
    label[:, 8:] = 0
    label[0] = 255
    seen = np.zeros(label.shape, bool)
    seen[:8] = True
    s2 = np.where(seen, label == 1, np.nan).astype(np.float32)[None]
    month = Month("here", np.ones((1, 16, 16), np.float32), s2, seen, label)
    rule = Normalisation(s2_mean=(0.0,), s2_std=(1.0,))
    curves = {name: Curve() for name in SETS}
    count_month(curves, Brightest(), tensors_of(month), Mapping(rule, 16, 16))
    counts = {name: curve.at(0.5) for name, curve in curves.items()}
    assert counts["all"] == Confusion(tp=56, fn=64, tn=120)
    assert counts["seen"] == Confusion(tp=56, tn=56)
    assert counts["reconstructed"] == Confusion(fn=64, tn=64)
    assert counts["s1_only"] == Confusion(fn=120, tn=120)


def test_curves_add_up() -> None:
    one, other = Curve(), Curve()
    one.add(np.array([0.2, 0.9]), np.array([0, 1]))
    other.add(np.array([0.7]), np.array([0]))
    assert (one + other).at(0.5) == Confusion(tp=1, fp=1, tn=1)
    assert one.at(0.5) == Confusion(tp=1, tn=1)


# ------------------------------------------------------------------------------------------ runs


def test_a_narrow_network_learns_with_and_without_optical(root: Path, tmp_path: Path) -> None:
    """What is bright to both sensors is built up: F1 rises above 0.8, and the loss halves."""
    recipe = small("urban-s1s2-sim", 4, epochs=14, validate_every=7, precision="float32")
    rate = recipe.optimiser.model_copy(update={"rate": 0.02})
    card = models.load_card(
        str(train(recipe.model_copy(update={"optimiser": rate}), root, tmp_path, How(threads=1)))
    )
    rows = rows_of(tmp_path)
    assert float(rows[-1]["loss"]) < 0.5 * float(rows[0]["loss"])
    for name in SETS:
        assert card.accuracy["val"][name]["pooled"]["f1"] > 0.8, name
    assert card.accuracy["show"]["all"]["places"].keys() == set(TEST)
    (row, _) = table([card], tmp_path / "folds.csv")
    assert row["reconstructed_iou"] == card.accuracy["val"]["reconstructed"]["pooled"]["iou"]
    picture = plot_curve(tmp_path / "curve.csv", tmp_path / "curve.png")
    assert picture.read_bytes().startswith(b"\x89PNG")


class Stop(Callback):
    """Ctrl-C in the middle of an epoch."""

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt


def test_a_stopped_run_goes_on_as_if_it_had_not_been(root: Path, tmp_path: Path) -> None:
    name = "spacenet7-missing-optical-dropout"
    recipe = small(name, epochs=3, ema=0.8, threshold=0.0)
    once, twice = tmp_path / "once", tmp_path / "twice"
    train(recipe, root, once, How(threads=1))
    with pytest.raises(KeyboardInterrupt):
        train(recipe, root, twice, How(threads=1, callbacks=(Stop(),)))
    assert len(rows_of(twice)) == 1
    train(recipe, root, twice, How(threads=1, resume=True))
    for file in ("best.safetensors", f"{name}.safetensors", f"{name}.card.yaml", "recipe.json"):
        assert (once / file).read_bytes() == (twice / file).read_bytes(), file
    assert rows_of(once) == rows_of(twice)


# ------------------------------------------------------------------------------ simulated regions


def test_a_simulated_region_is_a_site_of_its_own(tmp_path: Path) -> None:
    """Backscatter beyond the published range, optical missing in part, and a split of its own."""
    random = np.random.default_rng(0)
    shape = (2, 64, 64)
    s1 = 10 ** random.uniform(-2.9, 0.4, (2, 2, 64, 64)).astype(np.float32)
    s1[0, :, :4] = np.nan
    s2 = random.uniform(0.0, 1.0, (2, 10, 64, 64)).astype(np.float32)
    quality = np.full(shape, SensorQuality.valid, np.uint8)
    quality[0, :10] = SensorQuality.valid + 1
    quality[1] = SensorQuality.valid + 1
    built = random.uniform(0, 1, shape).astype(np.float32)
    four, three = ("month", "band", "y", "x"), ("month", "y", "x")
    months = xr.Dataset(
        {"s1": (("month", "pol", "y", "x"), s1), "s2": (four, s2),
         "s2_quality": (three, quality), "built": (three, built)},
        coords={"month": np.array(["2021-07-01", "2021-08-01"], "datetime64[ns]")},
    )  # fmt: skip
    grid = Grid.preset("europe", tile_px=64)
    entries = store_site(tmp_path, "region-1", months, grid.geobox(Tile(6800, 7800)))
    (tmp_path / METADATA).write_text(json.dumps({"region-1": entries}), encoding="utf-8")
    sign(tmp_path, "spacenet7", 0, {"train": ["region-1"]}, s1_db=(-30.0, 5.0))
    data = data_set("spacenet7")
    report = data.check(tmp_path, deep=True)
    assert report.whole, str(report)
    first, second = data.samples(tmp_path, "train")
    assert data.samples(tmp_path, "val") == ()
    assert (first.place, second.when) == ("region-1", ("2021-08",))
    np.testing.assert_allclose(first.read("s1"), s1[0], rtol=1e-4)
    image = first.read("image", BANDS)
    assert np.isnan(image[:, :10]).all()
    np.testing.assert_allclose(image[:, 10:], s2[0, :, 10:], rtol=1e-6)
    assert not second.has("image")
    np.testing.assert_array_equal(second.read("urban"), built[1] >= 0.5)
