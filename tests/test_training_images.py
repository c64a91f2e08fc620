"""Training of networks on images: recipes run, stages keep apart, crops and weights are right.

Shape suffixes: Y row, X column.
"""

from __future__ import annotations

import csv
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from pytorch_lightning import Callback
from safetensors.torch import load_file

from cdscale import models
from cdscale.errors import ModelError, ReadError, SpecError
from cdscale.evaluation import Way, label_samples
from cdscale.evaluation.scenes import Mapper
from cdscale.learn.data import DATASETS
from cdscale.learn.labels import IGNORED
from cdscale.learn.losses import SemanticLabels, multiclass_dice, weighted_nll
from cdscale.learn.training import How, Split, load_recipe, resolved, shipped, train
from cdscale.learn.training.images.census import Weights, census, samples_in, weights_of
from cdscale.learn.training.images.data import Crops, ImagesData
from cdscale.learn.training.images.loss import loss_of
from cdscale.learn.training.images.recipe import ImagesRecipe, Loss, Pseudo
from cdscale.models.hrscd import SemanticChange
from cdscale.models.transitions import HRSCD
from cdscale.spec.card import Normalisation
from tests.commands import OK, Cli, refused
from tests.learning import learned
from tests.miniature_roots import Miniatures
from tests.miniature_roots import miniatures as miniatures
from tests.regions import write_card
from tests.test_evaluation_images import attention_card, hrscd_card

SITES = ("19S_2470_5030_13", "20S_2624_4314_13")
KEYS = ("14-0415-6890", "35-0305-6780")
"""Those to train on of the miniature of HRSCD."""


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def roots(miniatures: Miniatures, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Miniatures by data set, of the monthly ones two months.

    That of the challenge has pseudo-labels by random weights.
    """
    folder = tmp_path_factory.mktemp("roots")
    names = ("dynamicearthnet-2021", "dynamicearthnet-2022")
    found = {name: miniatures.copy(name, folder) for name in names}
    for root in found.values():
        for path in (*root.glob("planet*/**/2018-03-01.tif"), *root.glob("planet*/**/2018-04*")):
            path.unlink()
    found["hrscd"] = miniatures["hrscd"]
    root, data = found["dynamicearthnet-2021"], DATASETS["dynamicearthnet-2021"]
    card = write_card(folder, "semantic-change", **attention_card())
    for split in ("val", "test"):
        samples = data.samples(root, split)
        run = label_samples(str(card), data, samples, root / "pseudo", 0.2, Way())
        assert all(not found.error for found in run(samples))
    return found


def small(name: str, **changes: Any) -> ImagesRecipe:
    """A recipe that ships, cut down to seconds; its loss, its stages and the rest are its own."""
    recipe = load_recipe(name)
    assert isinstance(recipe, ImagesRecipe)
    wide = "widths" if recipe.network.family == "siamese-attention" else "width"
    options = recipe.network.options | {wide: (2, 2, 2, 3, 3) if wide == "widths" else 2}
    split = {
        "hrscd": Split(train=KEYS[:1], val=KEYS[1:]),
        "dynamicearthnet-2021": Split(train=SITES[:1], val=SITES[1:]),
        "dynamicearthnet-2022": Split(train=("1311_3077_13",), val=("2065_3647_13",)),
    }[recipe.data]
    less = {"batch": 2, "crops_per_epoch": 2, "crop": 32, "near_change": 1.0}
    plain = {
        "split": split,
        "network": recipe.network.model_copy(update={"options": options}),
        "sampling": recipe.sampling.model_copy(update=less),
        "precision": "float32",  # bfloat16 is slow on processors that do not have it
        "epochs": 2 if recipe.land_epochs else 1,
        "land_epochs": 1 if recipe.land_epochs else 0,
        "validate_every": 1,
        "validation_windows": 1,
    }
    return recipe.model_copy(update=plain | changes)


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "curve.csv").open(newline="", encoding="utf-8") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


# --------------------------------------------------------------------------------------- recipes


@pytest.mark.parametrize("name", shipped("images"))
def test_every_recipe_learns(name: str, roots: dict[str, Path]) -> None:
    recipe = small(name)
    options = dict(recipe.network.options)
    if "widths" in options:
        options["widths"] = (8, 8, 8, 8, 8)
    network = recipe.network.model_copy(update={"options": options})
    recipe = recipe.model_copy(update={"network": network})
    found = learned(recipe, roots[recipe.data])
    assert found.enough, found


@pytest.mark.parametrize("name", shipped("images"))
def test_every_recipe_runs_from_pixels_to_a_card(
    name: str, roots: dict[str, Path], tmp_path: Path
) -> None:
    recipe = small(name)
    root = roots[recipe.data]
    path = train(recipe, root, tmp_path, How(threads=1))
    card = models.load_card(str(path))
    assert (card.task, card.family) == ("semantic-change", recipe.network.family)
    assert card.training.simulated
    assert card.training.steps == recipe.epochs
    assert card.classes == recipe.classes
    figures = card.accuracy["val"]["optical"]
    assert set(figures["places"]) == set(recipe.split.val)
    assert {"kappa", "f1", "precision", "recall", "overall"} <= figures["pooled"].keys()
    own = {"hrscd-2": "transitions_kappa", "siamese-attention": "classes_miou"}
    assert own.get(card.family, "land_kappa") in figures["pooled"]
    assert all(np.isfinite(float(row["loss"])) for row in rows_of(tmp_path))
    scores = [float(row["score"]) for row in rows_of(tmp_path)]
    assert len(scores) == recipe.epochs
    # Weights of a second stage go before those of the first, whatever their figures.
    assert not recipe.land_epochs or scores[0] <= 0 <= scores[1]
    # The finished model is read by the commands, as any other.
    mapper = Mapper.open(str(path), DATASETS[recipe.data], Way())
    assert not mapper.network.training


def test_recipes_hold_places_out_and_name_their_classes() -> None:
    for name in shipped("images"):
        recipe = load_recipe(name)
        assert isinstance(recipe, ImagesRecipe)
        assert recipe.name == name
        data = DATASETS[recipe.data]
        if recipe.data == "hrscd":
            assert recipe.classes == data.classes
            assert (recipe.keep, recipe.published_split) == ("last", "train")
        else:
            assert recipe.classes[0] == "no change"
            assert data.classes.items() <= recipe.classes.items()
    gates = {name: load_recipe(name).network.options.get("gate") for name in shipped("images")}
    assert gates["dynamicearthnet-up"] == gates["dynamicearthnet-pseudo-dice"] == "paper"
    assert gates["dynamicearthnet-up-released"] == "released"
    rows = {name: load_recipe(name) for name in ("hrscd-4-1", "hrscd-4-2", "hrscd-3")}
    assert [getattr(one, "land_epochs", None) for one in rows.values()] == [0, 40, 40]
    assert rows["hrscd-4-2"].network.options["detach"]


HELD = {"epochs": 3}


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("hrscd-4-1", {"loss": Loss(kind="dice")}, "only classes of change are learned by overlap"),
        ("hrscd-1", {"land_epochs": 1, **HELD}, "only hrscd-3 and hrscd-4 are trained in two"),
        ("hrscd-4-2", {"land_epochs": 3, **HELD}, "below 3 epochs"),
        ("hrscd-4-2", {"ema": 0.9}, "an average would go on moving"),
        ("hrscd-4-2", {"patience": 3}, "it would end the run there"),
        ("hrscd-1", {"pseudo": Pseudo(splits=("test",))}, "only classes of change have any"),
        ("hrscd-1", {"data": "dynamicearthnet-2021", "s2_bands": ("red", "green", "nir")},
         "labels of land cover at both dates"),
        ("hrscd-1", {"s1_bands": ("vv",)}, "both images are of one sensor"),
        ("hrscd-1", {"s2_bands": ()}, "some of red, green, blue"),
        ("hrscd-1", {"classes": {1: "all"}}, "two or more"),
        ("dynamicearthnet-pseudo", {"pseudo": Pseudo(splits=("dev",))}, "some of train, val"),
        ("dynamicearthnet-pseudo", {"pseudo": Pseudo(splits=("val",), share=1)}, "between 0 and 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_refused(name: str, changes: dict[str, Any], said: str) -> None:
    recipe = load_recipe(name).model_copy(update=changes)
    with pytest.raises(SpecError, match=said):
        recipe.checked("recipe")
    sampling = small("hrscd-1").sampling.model_copy(update={"crop": 16})
    with pytest.raises(SpecError, match="of 32 pixels or more"):
        small("hrscd-1", sampling=sampling).checked("recipe")


def test_places_without_a_label_are_refused(roots: dict[str, Path]) -> None:
    root = roots["dynamicearthnet-2021"]
    recipe = small("dynamicearthnet-up", published_split="val", split=Split())
    with pytest.raises(ReadError, match=r"no change label.*data check"):
        ImagesData(resolved(recipe, root), root)


# ------------------------------------------------------------------------------------- two stages


class Snapshot(Callback):
    """Keeps what land cover says, and the parameters that learn, at the end of each epoch."""

    def __init__(self, pair: tuple[torch.Tensor, torch.Tensor]) -> None:
        self.pair = pair
        self.land: list[torch.Tensor] = []
        self.learning: list[set[int]] = []
        self.parts: list[tuple[set[int], set[int]]] = []
        self.change: list[torch.Tensor] = []

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        network = pl_module.network
        modes = {module: module.training for module in network.modules()}
        network.eval()
        with torch.no_grad():
            said = network(*self.pair)
        self.land.append(torch.cat((said.before, said.after)))
        self.change.append(said.change)
        for module, mode in modes.items():
            module.training = mode
        groups = trainer.optimizers[0].param_groups
        self.learning.append({id(p) for group in groups for p in group["params"]})
        change = {id(p) for p in network.change_parameters()}
        self.parts.append(({id(p) for p in network.land_cover.parameters()}, change))


@pytest.mark.parametrize("name", ["hrscd-3", "hrscd-4-2"])
def test_land_cover_stays_bit_identical_in_the_second_stage(
    name: str, roots: dict[str, Path], tmp_path: Path
) -> None:
    pair = (torch.randn(1, 3, 64, 64), torch.randn(1, 3, 64, 64))
    seen = Snapshot(pair)
    recipe = small(name, epochs=3, land_epochs=1, validate_every=3)
    train(recipe, roots["hrscd"], tmp_path, How(threads=1, callbacks=(seen,)))
    assert torch.equal(seen.land[0], seen.land[1])
    assert torch.equal(seen.land[0], seen.land[2])
    assert not torch.equal(seen.change[1], seen.change[2])
    for learning, (land, change), second in zip(
        seen.learning, seen.parts, (False, True, True), strict=True
    ):
        assert learning == (change if second else land)


def test_a_run_in_two_stages_goes_on_where_it_was_stopped(
    roots: dict[str, Path], tmp_path: Path
) -> None:
    class Stop(Callback):
        def __init__(self, epoch: int) -> None:
            self.epoch = epoch

        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            del pl_module
            if trainer.current_epoch == self.epoch:
                raise KeyboardInterrupt

    recipe = small("hrscd-4-2", epochs=3, land_epochs=1, validate_every=3)
    root = roots["hrscd"]
    straight = train(recipe, root, tmp_path / "straight", How(threads=1))
    # Stopped before the second stage begins, and again within it.
    for epoch in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            train(
                recipe, root, tmp_path / "cut",
                How(threads=1, resume=True, callbacks=(Stop(epoch),)),
            )  # fmt: skip
    resumed = train(recipe, root, tmp_path / "cut", How(threads=1, resume=True))
    assert rows_of(tmp_path / "cut") == rows_of(tmp_path / "straight")
    one, other = (load_file(path.parent / "hrscd-4-2.safetensors") for path in (straight, resumed))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_narrow_network_learns(roots: dict[str, Path], tmp_path: Path) -> None:
    recipe = small("dynamicearthnet-up", epochs=4, validate_every=4)
    options = recipe.network.options | {"widths": (4, 4, 4, 6, 6)}
    recipe = recipe.model_copy(
        update={
            "network": recipe.network.model_copy(update={"options": options}),
            "sampling": recipe.sampling.model_copy(
                update={"batch": 4, "crops_per_epoch": 48, "crop": 48}
            ),
            "loss": Loss(kind="cross_entropy"),
            "precision": "float32",
            "schedule": recipe.schedule.model_copy(update={"kind": "constant"}),
            "optimiser": recipe.optimiser.model_copy(update={"kind": "adam", "rate": 0.01}),
        }
    )
    path = train(recipe, roots[recipe.data], tmp_path, How(threads=1))
    rows = rows_of(tmp_path)
    assert float(rows[-1]["loss"]) < 0.4 * float(rows[0]["loss"])
    # Agreement beyond chance, of which a network that has learned nothing has none.
    accuracy = models.load_card(str(path)).accuracy
    assert accuracy["val"]["optical"]["pooled"]["kappa"] > 0.15
    assert "chose the epoch, " in accuracy["how"]


# --------------------------------------------------------------------------------- census and crops


def test_weights_are_inverse_to_the_frequency_in_the_training_scenes(
    roots: dict[str, Path],
) -> None:
    recipe = small("hrscd-4-1")
    samples = samples_in(recipe, roots["hrscd"], KEYS)
    found = census(samples)
    land = np.stack([s.read(name) for s in samples for name in ("land_before", "land_after")])
    change = np.stack([s.read("change") for s in samples])
    counts = [np.count_nonzero(land == code) for code in range(6)]
    there = [code for code in range(1, 6) if counts[code]]
    known = sum(counts[code] for code in there)
    weights = weights_of(recipe, found)
    expected = [
        min(known / (len(there) * counts[code]), 100) if code in there else 0 for code in range(6)
    ]
    assert weights.land == pytest.approx(expected)
    assert expected[0] == expected[4] == 0
    assert weights.positive == pytest.approx(np.mean(change == 0) / np.mean(change == 1))
    two = weights_of(small("hrscd-2"), found).transitions
    assert len(two) == 21
    pair = land[0::2], land[1::2]
    for (a, b), weight in zip(HRSCD.pairs, two[1:], strict=True):
        here = np.count_nonzero((pair[0] == a) & (pair[1] == b) & (change == 1))
        assert (weight > 0) == (here > 0)
    for sample, points in zip(samples, found.changed, strict=True):
        assert len(points) > 0
        assert (sample.read("change")[points[:, 0], points[:, 1]] == 1).all()


def crops_of(recipe: ImagesRecipe, root: Path, **sampling: Any) -> Crops:
    sampled = recipe.sampling.model_copy(update=sampling)
    data = ImagesData(resolved(recipe.model_copy(update={"sampling": sampled}), root), root)
    draw = data.drawer(0)
    assert isinstance(draw, Crops)
    assert pickle.loads(pickle.dumps(draw)).sampling == sampled
    return draw


def test_crops_turn_images_and_labels_together(roots: dict[str, Path]) -> None:
    draw = crops_of(small("hrscd-4-1"), roots["hrscd"], crop=128, batch=8)
    torch.manual_seed(0)
    before, after, change, land_before, land_after = draw(0)
    (sample,) = draw.true.samples
    rule = draw.rule
    expected = [
        (sample.read(when) - np.array(rule.s2_mean)[:, None, None])
        / np.array(rule.s2_std)[:, None, None]
        for when in ("before", "after")
    ]
    labels = [sample.read(name) for name in ("change", "land_before", "land_after")]
    seen = set()
    for k in range(8):
        for turns in range(8):

            def to(x: np.ndarray, turns: int = turns) -> np.ndarray:
                flipped = x[..., ::-1] if turns > 3 else x
                return np.rot90(flipped, turns % 4, (-2, -1))

            if np.array_equal(to(labels[0]), change[k]):
                np.testing.assert_allclose(before[k], to(expected[0]), atol=1e-4)
                np.testing.assert_allclose(after[k], to(expected[1]), atol=1e-4)
                np.testing.assert_array_equal(land_before[k], to(labels[1]))
                np.testing.assert_array_equal(land_after[k], to(labels[2]))
                seen.add(turns)
                break
        else:
            pytest.fail("a crop is no turned scene")
    assert len(seen) > 2


def test_crops_hold_a_change_where_asked_and_reach_over_small_scenes(
    roots: dict[str, Path],
) -> None:
    fixed = Normalisation(s2_mean=(0.1,), s2_std=(0.1,))
    recipe = small("dynamicearthnet-up", normalisation=fixed)
    root = roots[recipe.data]
    draw = crops_of(recipe, root, crop=32, batch=12)
    torch.manual_seed(0)
    change = draw(0)[2]
    assert change.shape == (12, 32, 32)
    assert ((change > 0) & (change != IGNORED)).flatten(1).any(dim=1).all()
    assert (draw(0)[3] == IGNORED).all()
    large = crops_of(recipe, root, crop=160, batch=2, turn=False)(0)
    assert (large[2][:, 128:] == IGNORED).all()
    assert (large[0][:, :, 128:] == 0).all()
    assert (large[2][:, :128, :128] != IGNORED).all()
    free = crops_of(recipe, root, crop=32, batch=24, near_change=0.0)(0)[2]
    assert not (free > 0).flatten(1).any(dim=1).all()


def test_images_are_standardised_each_by_itself(roots: dict[str, Path]) -> None:
    recipe = small("dynamicearthnet-up")
    draw = crops_of(recipe, roots[recipe.data], crop=128, batch=4)
    before, after, *_ = draw(0)
    for images in (before, after):
        np.testing.assert_allclose(images.mean(dim=(2, 3)), 0, atol=1e-3)
        np.testing.assert_allclose(images.std(dim=(2, 3)), 1, atol=1e-2)


# --------------------------------------------------------------------------------------------- loss


def test_each_strategy_has_the_loss_of_what_it_says() -> None:
    torch.manual_seed(0)
    shape = (2, 4, 5)
    land = [torch.randn(2, 6, 4, 5) for _ in range(2)]
    change = torch.randint(0, 2, shape)
    change[0, 0] = IGNORED
    labels = SemanticLabels(change, torch.randint(1, 6, shape), torch.randint(1, 6, shape))
    weights = Weights(land=(0, 1, 2, 3, 4, 5), transitions=(1.0,) * 21, positive=7.0)
    apart = [weighted_nll(x, y, weights.land) for x, y in zip(land, labels[1:], strict=True)]
    rule, reading = Loss(), small("hrscd-4-1").reading
    alone = loss_of(SemanticChange(None, *land), labels, weights, rule, reading)
    assert alone == pytest.approx(sum(apart))

    logit = torch.randn(2, 1, 4, 5)
    whole = loss_of(SemanticChange(logit, *land), labels, weights, rule, reading)
    counted = change != IGNORED
    truth = (change == 1).float()[counted]
    cost = torch.nn.functional.binary_cross_entropy_with_logits(
        logit[:, 0][counted], truth, pos_weight=torch.tensor(7.0)
    )
    assert whole == pytest.approx(cost + 0.05 * sum(apart))

    table = torch.randn(2, 21, 4, 5)
    found = loss_of(
        SemanticChange(table, None, None), labels, weights, rule, small("hrscd-2").reading
    )
    number = torch.full(shape, IGNORED)
    for place in np.ndindex(shape):
        a, b = int(labels.before[place]), int(labels.after[place])
        if change[place] == 0:
            number[place] = 0
        elif change[place] == 1 and a != b:
            number[place] = HRSCD.of(a, b)
    assert found == pytest.approx(weighted_nll(table, number, weights.transitions))

    logits = torch.randn(2, 8, 4, 5)
    codes = torch.randint(0, 8, shape)
    said = SemanticChange(logits, None, None)
    dice = loss_of(
        said, labels._replace(change=codes), weights, Loss(kind="dice"),
        small("dynamicearthnet-up").reading,
    )  # fmt: skip
    assert dice == pytest.approx(multiclass_dice(logits, codes))


# ------------------------------------------------------------------------------------ pseudo-labels


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A network of classes of change with random weights."""
    folder = tmp_path_factory.mktemp("model")
    return str(write_card(folder, "semantic-change", **attention_card()))


def test_pseudo_labels_are_what_the_model_is_sure_of(
    miniatures: Miniatures, model: str, cdscale: Cli, tmp_path: Path
) -> None:
    name, data = "dynamicearthnet-2021", DATASETS["dynamicearthnet-2021"]
    root = miniatures[name]
    sample = data.samples(root, "val")[0]
    scene = Mapper.open(model, data, Way()).scene()
    ((_, found),) = scene.maps(sample)
    sure = float(np.median(found.certainty_YX))
    told = ("pseudo-label", name, root, "--model", model, "--split", "val", "--out", tmp_path)
    done = cdscale(*told, "--sure", sure, "--json")
    assert (done.code, done.err) == (OK, "")
    (row, *_) = json.loads(done.out)
    with rasterio.open(tmp_path / f"{sample.key}.tif") as file:
        code = file.read(1)
        assert (file.dtypes, file.transform) == (("uint8",), sample.grid().affine)
    keep = found.certainty_YX >= sure
    np.testing.assert_array_equal(code, np.where(keep, found.change_YX, IGNORED))
    assert row["sure"] == np.count_nonzero(keep)
    assert 0 < row["sure"] < row["pixels"] == code.size
    shown = cdscale(*told)
    assert "100.00 % of the pixels" in shown.out


def test_pseudo_labels_join_the_training_and_no_place_that_is_held_out(
    roots: dict[str, Path], miniatures: Miniatures
) -> None:
    recipe = small("dynamicearthnet-pseudo")
    root = roots[recipe.data]
    data = ImagesData(resolved(recipe, root), root)
    assert data.pseudo is not None
    listed = {
        s.place for split in ("val", "test") for s in DATASETS[recipe.data].samples(root, split)
    }
    assert {sample.place for sample in data.pseudo.samples} == listed
    assert {sample.place for sample in data.true.samples} == set(SITES[:1])
    assert {sample.place for sample in data.val} == set(SITES[1:])
    with rasterio.open(root / "pseudo" / f"{data.pseudo.samples[0].key}.tif") as file:
        np.testing.assert_array_equal(data.pseudo.samples[0].read("change"), file.read(1))
    bare = miniatures["dynamicearthnet-2021"]
    with pytest.raises(ReadError, match=r"pseudo-labels in .*cdscale pseudo-label"):
        ImagesData(resolved(recipe, bare), bare)


def test_what_cannot_be_labelled_is_refused(
    miniatures: Miniatures, model: str, cdscale: Cli, tmp_path: Path
) -> None:
    root = miniatures["dynamicearthnet-2021"]
    told = ("pseudo-label", "dynamicearthnet-2021", root, "--out", tmp_path, "--model")
    refused(cdscale(*told, model, "--split", "train"), "true labels are never replaced")
    refused(cdscale(*told, model, "--split", "val", "--sure", "2"), "probability from 0 to 1")
    other = write_card(tmp_path, "semantic-change", **hrscd_card(1))
    labels: Callable[..., Any] = label_samples
    data = DATASETS["hrscd"]
    plain = miniatures.copy("hrscd", tmp_path)
    for path in plain.glob("labels_change/**/*.tif"):
        path.unlink()
    samples = data.samples(plain, "train")
    with pytest.raises(ModelError, match="expected a network of classes of change"):
        labels(str(other), data, samples, tmp_path, 0.0, Way())
