"""Training of networks on pairs: every recipe runs, some learn, runs resume, errors are told."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytorch_lightning import Callback
from safetensors.torch import load_file
from torch import nn

from cdscale import models
from cdscale.errors import ModelError, ReadError, SpecError
from cdscale.export.curves import plot_curve
from cdscale.inference import Block, predict_change
from cdscale.learn.augment import Augment
from cdscale.learn.labels import IGNORED
from cdscale.learn.losses import multiclass_dice, power_jaccard, weighted_nll
from cdscale.learn.training import (
    How,
    Split,
    deal,
    load_recipe,
    resolved,
    running,
    shipped,
    table,
    train,
)
from cdscale.learn.training import mapping as maps
from cdscale.learn.training.mapping import Mapping
from cdscale.learn.training.pair.mapping import map_pair
from cdscale.learn.training.pair.module import loss_of
from cdscale.learn.training.pair.recipe import Loss, PairRecipe
from cdscale.learn.training.pair.scenes import measure, read_places
from cdscale.learn.training.recipe import Folds, Schedule
from cdscale.learn.training.schedules import make_schedule
from cdscale.learn.training.shipping import draft_card
from cdscale.models.blocks import count_parameters
from cdscale.spec.card import ModelCard, Normalisation
from cdscale.spec.run import S1_BANDS
from cdscale.testing.miniatures import OscdForm, write_oscd
from tests.commands import OK, Cli, refused
from tests.learning import learned

TRAIN, VAL, SHOW = ("anvil", "birch"), ("delta",), ("ember",)


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four made-up cities; the last has no radar."""
    folder = tmp_path_factory.mktemp("oscd")
    write_oscd(folder, form=OscdForm(s1="ebel"), train=(*TRAIN, *VAL, *SHOW), test=())
    return folder


@pytest.fixture(autouse=True, scope="module")
def small_halos() -> Any:
    """Miniatures are a hundred pixels a side: a halo of 128 would be most of the work."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cdscale.models.two_branch.HALO", 32)
        patch.setattr("cdscale.models.fc_ef.HALO", 32)
        patch.setattr("cdscale.models.fc_ef_res.HALO", 32)
        patch.setattr("cdscale.models.ds_unet.HALO", 32)
        yield


def small(name: str, sampling: dict[str, Any] | None = None, **changes: Any) -> PairRecipe:
    """A recipe that ships, cut down to seconds; its network, its loss and the rest are its own."""
    recipe = load_recipe(name)
    assert isinstance(recipe, PairRecipe)
    count = 16 if recipe.sampling.crop == 15 else 2
    less = {"batch": count, "crops_per_epoch": count, "crop": min(recipe.sampling.crop, 32)}
    options = dict(recipe.network.options)
    if recipe.network.family == "ds-unet":
        options["width"] = 4
    return recipe.model_copy(
        update={
            "split": Split(train=TRAIN, val=VAL),
            "epochs": 1,
            "validate_every": 1,
            "precision": "float32",  # bfloat16 is slow on processors that do not have it
            "sampling": recipe.sampling.model_copy(update=less | (sampling or {})),
            "network": recipe.network.model_copy(update={"options": options}),
        }
        | changes
    )


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "curve.csv").open(newline="", encoding="utf-8") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


# --------------------------------------------------------------------------------------- recipes


@pytest.mark.parametrize("name", shipped("pair"))
def test_every_recipe_learns(name: str, root: Path) -> None:
    # A batch without change would be learned by never saying any; one of patches that are labelled
    # by their central pixels, all of them changed, by always saying it.
    centred = small(name).sampling.centred
    recipe = small(name, {"near_change": 0.5 if centred else 1.0})
    found = learned(recipe, root)
    assert found.enough, found


@pytest.mark.parametrize("name", shipped("pair"))
def test_every_recipe_runs_from_pixels_to_a_card(name: str, root: Path, tmp_path: Path) -> None:
    recipe = small(name)
    path = train(recipe, root, tmp_path, How(threads=1))
    card = models.load_card(str(path))
    network = models.load(card, folder=tmp_path)
    assert not network.training
    assert card.training.simulated
    assert card.training.steps == 1
    assert card.training.licence.startswith("Labels: OSCD, CC BY-NC-SA 4.0")
    assert set(card.accuracy["val"]) == ({"s1s2", "s2"} if recipe.s1_bands else {"s2"})
    (row,) = rows_of(tmp_path)
    assert np.isfinite(float(row["loss"]))
    assert row["score"]


def test_recipes_that_ship_keep_cities_apart() -> None:
    for name in shipped("pair"):
        recipe = load_recipe(name)
        assert recipe.name == name
        split = recipe.split
        assert len({*split.train, *split.val, *split.show}) == 14
        for neighbours in ({"paris", "bercy", "saclay_e"}, {"rennes", "nantes"}):
            for parts in (
                (split.train, split.val, split.show),
                deal((*split.train, *split.val, *split.show), recipe.folds),
            ):
                assert sum(bool(set(part) & neighbours) for part in parts) == 1
        # Radar goes by the names that cubes give it: another spelling would pass for "no radar".
        assert set(recipe.s1_bands) <= set(S1_BANDS)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("oscd-fc-ef-rgb", 1_350_578),
        ("oscd-fc-ef-13", 1_353_458),
        ("oscd-fc-siam-conc-rgb", 1_545_986),
        ("oscd-fc-siam-conc-13", 1_547_426),
        ("oscd-fc-siam-diff-rgb", 1_350_146),
        ("oscd-fc-siam-diff-13", 1_351_586),
        ("oscd-fc-ef-res-rgb", 1_103_874),
        ("oscd-fc-ef-res-13", 1_105_474),
        ("oscd-two-branch-s1s2", 2_418_338),
        ("oscd-siamese-s2", 1_547_426),
        ("oscd-siamese-s1s2", 1_547_714),
        ("oscd-unet-s2", 1_353_458),
        ("oscd-unet-s1s2", 1_354_034),
        ("oscd-siam-15-rgb", 1_064_066),
        ("oscd-siam-15-13", 1_069_826),
        ("oscd-ef-15-rgb", 437_418),
        ("oscd-ef-15-13", 443_178),
        ("oscd-ds-unet", 29_590_529),
        ("oscd-ds-unet-early", 14_803_329),
    ],
)
def test_recipes_build_the_published_networks(name: str, parameters: int, tmp_path: Path) -> None:
    card = draft_card(load_recipe(name), tmp_path, Normalisation())
    with torch.device("meta"):
        assert count_parameters(models.build(card)) == parameters


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_recipe_extends_another_mapping_by_mapping(tmp_path: Path) -> None:
    write(
        tmp_path / "mine.yaml",
        "extends: oscd-fc-ef-13\nname: mine\noptimiser: {rate: 0.5}\n"
        "network: {family: fc-siam, options: {skip: concat}}\n",
    )
    path = write(tmp_path / "more.yaml", "extends: mine.yaml\ns1_bands: [vv]\nepochs: 3\n")
    recipe, base = load_recipe(str(path)), load_recipe("oscd-fc-ef-13")
    assert (recipe.name, recipe.epochs, recipe.s1_bands) == ("mine", 3, ("vv",))
    assert recipe.optimiser == base.optimiser.model_copy(update={"rate": 0.5})
    assert recipe.network.options == {"skip": "concat"}
    assert recipe.split == base.split


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("extends: self.yaml\n", "it extends itself"),
        (
            "extends: oscd-fc-ef-13\nnetwork: {family: resnet, options: {}}\n",
            "one of two-",
        ),
        ("extends: oscd-fc-ef-13\nnetwork: {family: hrscd-4, options: {}}\n", "network.family"),
        ("extends: oscd-fc-ef-13\ns2_bands: [B02, B99]\n", "s2_bands; expected .*got B99"),
        ("extends: oscd-fc-ef-13\ndata: hrscd2\n", "unknown data set"),
        ("extends: oscd-fc-ef-13\ndata: spacenet7\n", "pairs with a change label"),
        ("extends: oscd-fc-ef-13\nepoch: 3\n", "epoch: Extra inputs"),
        ("extends: oscd-fc-ef-13\nepochs: 0\n", "epochs; expected 1 or more"),
        ("extends: oscd-fc-ef-13\nsampling: {batch: 5000}\n", "crops for one"),
        ("extends: oscd-fc-ef-13\nloss: {nll: 0}\n", "one term above 0"),
        ("extends: oscd-fc-ef-13\nsplit: {train: [pisa]}\n", "every place once; got pisa"),
        ("extends: oscd-fc-ef-13\nsplit: {val: []}\nkeep: best\n", "split.val; expected a place"),
        ("extends: nothing\n", "cannot read"),
        ("extends: [a]\n", "a name or a path"),
        ("- a\n", "a mapping"),
        ("kind: urban\n", "expected one of pair, month, images; got urban"),
    ],
)
def test_a_recipe_that_cannot_be_trained_is_refused(text: str, said: str, tmp_path: Path) -> None:
    path = write(tmp_path / "self.yaml", text)
    with pytest.raises(SpecError, match=said):
        load_recipe(str(path))


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(SpecError, match="change-s1s2-oscd, .*oscd-fc-ef-13.*got nothing"):
        load_recipe("nothing")
    assert not any(name.startswith("base-") for name in shipped())


@given(st.integers(4, 20), st.integers(2, 4), st.integers(0, 9), st.integers(0, 3))
def test_folds_take_each_place_once_and_keep_neighbours(
    count: int, folds: int, seed: int, near: int
) -> None:
    places = tuple(f"p{n}" for n in range(count))
    rule = Folds(count=folds, seed=seed, together=(places[:near], ("elsewhere",)))
    if count - max(0, near - 1) < folds:
        with pytest.raises(SpecError, match="folds of places"):
            deal(places, rule)
        return
    parts = deal(places, rule)
    assert sorted(sum(parts, ())) == sorted(places)
    assert sum(bool(set(part) & set(places[:near])) for part in parts) <= 1
    sizes = sorted(map(len, parts))
    assert sizes[-1] - sizes[0] <= max(1, near)
    assert deal(places, rule) == parts


# ------------------------------------------------------------------------------- parts of a run


def test_moments_are_measured_where_asked_for_and_kept_where_stated(root: Path) -> None:
    asks = Normalisation(s2_clip=(0, 0.8))
    recipe = small("change-s1s2-oscd", normalisation=asks)
    places = read_places(recipe, root, TRAIN)
    rule = measure(recipe, places)
    dates = [np.clip(date, 0, 0.8) for place in places for date in place.s2]
    means = np.mean([x.mean(axis=(1, 2)) for x in dates], axis=0)
    np.testing.assert_allclose(rule.s2_mean, means, atol=2e-5)
    square = np.mean([(x.astype(float) ** 2).mean(axis=(1, 2)) for x in dates], axis=0)
    np.testing.assert_allclose(rule.s2_std, np.sqrt(square - means**2), atol=2e-4)
    stated = measure(small("oscd-two-branch-s1s2"), places)
    assert stated.s2_mean == (0.0,) * 13
    assert measure(small("oscd-fc-ef-13"), places).s2_mean == ()


def test_places_that_no_list_names_are_trained_on(root: Path) -> None:
    recipe = small("oscd-fc-ef-rgb", split=Split(train=(), val=VAL))
    assert resolved(recipe, root).split.train == (*TRAIN, *SHOW)


def test_the_loss_is_the_sum_of_its_terms() -> None:
    torch.manual_seed(0)
    logits, label = torch.randn(2, 2, 8, 8), torch.randint(0, 2, (2, 8, 8))
    label[0, :3] = IGNORED
    counted = label != IGNORED
    probability = logits.softmax(dim=1)[:, 1] * counted
    expected = (
        weighted_nll(logits, label, (0.5, 2.0))
        + 2 * power_jaccard(probability, (label == 1) & counted)
        + 3 * multiclass_dice(logits, label)
    )
    found = loss_of(logits, label, (0.5, 2.0), Loss(nll=1, jaccard=2, dice=3))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("schedule", "shares"),
    [
        (Schedule(kind="constant"), {0: 1.0, 99: 1.0}),
        (Schedule(kind="exponential", gamma=0.5), {0: 1.0, 1: 0.5, 3: 0.125}),
        (Schedule(kind="one_cycle", warmup=0.25), {0: 0.04, 24: 1.0, 99: 4e-6}),
        (Schedule(kind="cosine", warmup=0.1), {0: 0.1, 9: 1.0, 55: 0.505, 99: 0.0103}),
        (Schedule(kind="cosine_restarts", period=2, floor=0), {0: 1.0, 10: 0.5, 20: 1.0, 60: 1.0}),
    ],
)
def test_the_rate_takes_its_course(schedule: Schedule, shares: dict[int, float]) -> None:
    sampling = small("change-s1s2-oscd").sampling
    sampling = sampling.model_copy(update={"batch": 2, "crops_per_epoch": 20})
    recipe = load_recipe("oscd-fc-ef-13").model_copy(
        update={"schedule": schedule, "epochs": 10, "sampling": sampling}
    )
    rate = recipe.optimiser.rate
    optimiser = torch.optim.Adam(nn.Linear(1, 1).parameters(), rate)
    course, interval = make_schedule(recipe, optimiser, 10)
    rates = []
    for _ in range(100 if interval == "step" or schedule.kind == "constant" else 10):
        rates.append(optimiser.param_groups[0]["lr"] / rate)
        optimiser.step()
        course.step()
    assert max(rates) == pytest.approx(1.0, rel=1e-3)
    for step, share in shares.items():
        assert rates[step] == pytest.approx(share, rel=0.02, abs=1e-5), step


def a_network(rule: Normalisation) -> tuple[nn.Module, ModelCard]:
    recipe = small("oscd-fc-ef-res-rgb")
    torch.manual_seed(0)
    card = draft_card(recipe, Path(), rule)
    return models.build(card).eval(), card.model_copy(update={"halo": 128})


@pytest.mark.parametrize("whose", ["training", "image", "image_scalar"])
def test_scenes_are_mapped_as_the_finished_network_will(
    whose: Any, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In windows or whole, and as ``predict_change`` does."""
    rule = Normalisation(s2_standardise=whose, s2_mean=(0.1,) * 3, s2_std=(0.05,) * 3)
    network, card = a_network(rule)
    (place,) = read_places(small("oscd-fc-ef-res-rgb"), root, VAL)
    s2, s1 = torch.from_numpy(place.s2.copy()), torch.zeros(2, 0, *place.label.shape)
    s2[0, :, 20:40, 30:50] = torch.nan
    how = Mapping(rule, card.halo, card.stride)
    whole = map_pair(network, s2, s1, how)
    assert np.isnan(whole[20:40, 30:50]).all()
    assert np.isnan(whole).sum() == 400
    monkeypatch.setattr(maps, "CORE", 48)
    np.testing.assert_allclose(map_pair(network, s2, s1, how), whole, atol=1e-5)
    around = ((0, 0), (card.halo, card.halo), (card.halo, card.halo))
    before, after = (
        Block.without_radar(np.pad(x.numpy(), around, constant_values=np.nan), 0) for x in s2
    )
    np.testing.assert_allclose(predict_change(network, card, before, after), whole, atol=1e-5)


class Corner(nn.Module):
    """Says how bright the pixel to the left is: no map of it is like a turned one."""

    def forward(self, before: Any, after: Any, *_: Any) -> torch.Tensor:
        left = torch.roll(after[:, :1] - before[:, :1], 1, dims=-1)
        return torch.cat((torch.zeros_like(left), left), dim=1)


def test_copies_are_turned_back() -> None:
    rule = Normalisation(s2_clip=(0, 100), s2_mean=(0.0,), s2_std=(1.0,))
    s2 = torch.zeros(2, 1, 9, 12)
    s2[1, 0, 4, 5] = 50
    radar = torch.zeros(2, 0, 9, 12)
    one = map_pair(Corner(), s2, radar, Mapping(rule, 4, 4))
    assert one[4, 6] == 1
    eight = map_pair(Corner(), s2, radar, Mapping(rule, 4, 4, copies=8))
    for row, column in ((4, 4), (4, 6), (3, 5), (5, 5)):
        assert eight[row, column] == pytest.approx(0.5 + 0.5 / 4)
    assert (eight == 0.5).sum() == 9 * 12 - 4


# ------------------------------------------------------------------------------------------ runs

LEARNS = {"epochs": 4, "validate_every": 4, "keep": "best", "threshold": 0.0}


@pytest.mark.parametrize(
    ("name", "sampling", "rate", "margins"),
    [
        ("change-s1s2-oscd", {"batch": 4, "crops_per_epoch": 64}, 1e-2, (0.8, 0.8)),
        ("oscd-fc-ef-res-rgb", {"batch": 4, "crops_per_epoch": 32}, 1e-2, (0.6, 0.8)),
        ("oscd-siam-15-rgb", {"batch": 32, "crops_per_epoch": 128}, 3e-3, (0.6, 0.7)),
    ],
)
def test_networks_learn_the_miniature(
    name: str,
    sampling: dict[str, int],
    rate: float,
    margins: tuple[float, float],
    root: Path,
    tmp_path: Path,
) -> None:
    """The loss falls below a share of the first epoch's, and F1 of a city never seen is high."""
    recipe = small(name, sampling, **LEARNS)
    optimiser = recipe.optimiser.model_copy(update={"rate": rate})
    recipe = recipe.model_copy(update={"optimiser": optimiser, "ema": 0.0})
    card = models.load_card(str(train(recipe, root, tmp_path, How(threads=1))))
    losses = [float(row["loss"]) for row in rows_of(tmp_path)]
    assert losses[-1] < margins[0] * losses[0]
    for found in card.accuracy["val"].values():
        assert found["pooled"]["f1"] > margins[1]


class Stop(Callback):
    """Ctrl-C in the middle of an epoch, or at its end after validation."""

    def __init__(self, epoch: int, when: str) -> None:
        self.epoch, self.when = epoch, when

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if self.when == "batch" and trainer.current_epoch == self.epoch:
            raise KeyboardInterrupt

    def on_validation_end(self, trainer: Any, *_: Any) -> None:
        if self.when == "validation" and trainer.current_epoch == self.epoch:
            raise KeyboardInterrupt


def resumable(**changes: Any) -> PairRecipe:
    """Dropout, an average, a rate of its own at each step, and every augmentation."""
    recipe = small("oscd-two-branch-s1s2", {"batch": 2, "crops_per_epoch": 4})
    return recipe.model_copy(
        update={
            "s2_bands": ("B04", "B03", "B02"),
            "epochs": 3,
            "keep": "best",
            "threshold": 0.0,
            "ema": 0.8,
            "schedule": Schedule(kind="one_cycle"),
            "augment": Augment(phenology=0.5, jitter=0.1),
        }
        | changes
    )


@pytest.fixture(scope="module")
def uninterrupted(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("once")
    train(resumable(), root, folder, How(threads=1))
    return folder


@pytest.mark.parametrize("when", ["batch", "validation"])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(
    when: str, uninterrupted: Path, root: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(resumable(), root, tmp_path, How(threads=1, callbacks=(Stop(1, when),)))
    assert len(rows_of(tmp_path)) == 1
    train(resumable(), root, tmp_path, How(threads=1, resume=True))
    name = "oscd-two-branch-s1s2"
    for file in ("best.safetensors", f"{name}.safetensors", f"{name}.card.yaml", "recipe.json"):
        assert (tmp_path / file).read_bytes() == (uninterrupted / file).read_bytes(), file
    assert rows_of(tmp_path) == rows_of(uninterrupted)


@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_run_that_lacks_but_its_card_is_finished(keep: Any, root: Path, tmp_path: Path) -> None:
    """And one that has its card is left alone."""
    recipe = resumable(epochs=1, keep=keep)
    card = train(recipe, root, tmp_path, How(threads=1))
    was = {path: path.read_bytes() for path in (card, tmp_path / "curve.csv")}
    stamps = card.stat().st_mtime_ns
    assert train(recipe, root, tmp_path, How(resume=True)) == card
    assert card.stat().st_mtime_ns == stamps
    card.unlink()
    if keep == "last":
        (tmp_path / "best.safetensors").unlink()
    assert train(recipe, root, tmp_path, How(threads=1, resume=True)) == card
    assert {path: path.read_bytes() for path in was} == was


def test_the_seed_decides(uninterrupted: Path, root: Path, tmp_path: Path) -> None:
    """Another seed draws other crops and other weights; the same seed is the test above's."""
    train(resumable(seed=1, epochs=1), root, tmp_path, How(threads=1))
    first, other = rows_of(uninterrupted)[0], rows_of(tmp_path)[0]
    assert first["loss"] != other["loss"]
    state = load_file(tmp_path / "best.safetensors")
    once = load_file(uninterrupted / "best.safetensors")
    assert not torch.equal(state["head.weight"], once["head.weight"])


def test_a_folder_of_another_run_is_refused(uninterrupted: Path, root: Path) -> None:
    with pytest.raises(SpecError, match="holds a run that was begun. Add --resume"):
        train(resumable(), root, uninterrupted)
    with pytest.raises(SpecError, match="another recipe: ema, seed not the same"):
        train(resumable(seed=4, ema=0.5), root, uninterrupted, How(resume=True))


def test_a_damaged_checkpoint_is_refused(uninterrupted: Path, root: Path, tmp_path: Path) -> None:
    for name in ("recipe.json", "curve.csv"):
        (tmp_path / name).write_bytes((uninterrupted / name).read_bytes())
    (tmp_path / "last.ckpt").write_bytes((uninterrupted / "last.ckpt").read_bytes()[:5000])
    with pytest.raises(ModelError, match="cannot go on from .*last.ckpt"):
        train(resumable(), root, tmp_path, How(resume=True))


def test_what_the_data_does_not_have_is_told(root: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="atlantis not in oscd"):
        train(small("oscd-fc-ef-rgb", split=Split(train=("atlantis",), val=VAL)), root, tmp_path)
    none = small("oscd-unet-s1s2", split=Split(train=SHOW, val=VAL))
    with pytest.raises(SpecError, match="expected vv and vh of at least one training place"):
        train(none, root, tmp_path)
    odd = small("oscd-fc-siam-diff-rgb")
    odd = odd.model_copy(update={"network": odd.network.model_copy(update={"options": {"a": 1}})})
    with pytest.raises(ModelError, match="network options"):
        train(odd, root, tmp_path)
    with pytest.raises(ReadError, match="no such folder"):
        train(small("oscd-fc-ef-rgb"), tmp_path / "none", tmp_path)


def test_early_stopping_and_the_last_weights(root: Path, tmp_path: Path) -> None:
    """A rate of next to nothing gets no better; without validation the last weights go out."""
    still = load_recipe("oscd-fc-ef-rgb").optimiser.model_copy(update={"rate": 1e-12})
    recipe = small("oscd-fc-ef-res-rgb", epochs=9, patience=1, optimiser=still, keep="best")
    train(recipe, root, tmp_path / "early", How(threads=1))
    assert len(rows_of(tmp_path / "early")) < 9
    blind = small("oscd-fc-ef-res-rgb", split=Split(train=TRAIN, val=(), show=VAL), tta=4)
    card = models.load_card(str(train(blind, root, tmp_path / "blind", How(threads=1))))
    assert card.threshold == 0.5
    assert set(card.accuracy) == {"command", "how", "show"}
    assert "4 orientations" in card.accuracy["how"]


def test_a_table_of_folds_has_mean_and_spread(uninterrupted: Path, tmp_path: Path) -> None:
    card = models.load_card(str(uninterrupted / "oscd-two-branch-s1s2.card.yaml"))
    cards = []
    for f1 in (0.4, 0.6):
        pooled = card.accuracy["val"]["s2"]["pooled"] | {"f1": f1}
        accuracy = {"val": {"s2": {"pooled": pooled}}}
        cards.append(card.model_copy(update={"accuracy": accuracy}))
    rows = table(cards, tmp_path / "folds.csv")
    assert [row["run"] for row in rows[2:]] == ["mean", "spread"]
    assert [row["s2_f1"] for row in rows] == [0.4, 0.6, 0.5, 0.1414]
    assert len((tmp_path / "folds.csv").read_text("utf-8").splitlines()) == 5


# ------------------------------------------------------------------------------ the command line


def test_a_cross_validation_from_the_command_line(cdscale: Cli, root: Path, tmp_path: Path) -> None:
    recipe = write(
        tmp_path / "mine.yaml",
        "extends: oscd-fc-ef-res-rgb\nname: mine\nfolds: {count: 2, together: []}\n"
        "sampling: {crop: 32, batch: 2, crops_per_epoch: 2}\n"
        "split: {train: [anvil, birch], val: [delta], show: [ember]}\n",
    )
    out = tmp_path / "runs"
    told = ["train", recipe, "--data", root, "--out", out, "--epochs", "1", "--threads", "1"]
    told += ["--precision", "float32"]
    done = cdscale(*told, "--fold", "all")
    assert done.code == OK, done
    assert "mean" in done.out
    for fold in ("fold1", "fold2"):
        assert (out / fold / f"mine-{fold}.card.yaml").exists()
        assert (out / fold / "curve.png").read_bytes().startswith(b"\x89PNG")
    refused(cdscale(*told, "--fold", "3"), "fold; expected 1 to 2; got 3")
    refused(cdscale(*told, "--fold", "first"), "--fold; expected 1 to 2, or all")
    refused(cdscale(*told[:-6], "--epochs", "0"), "epochs; expected 1 or more")
    refused(cdscale("train", "oscd-none", *told[2:]), "no such recipe")


def test_a_processor_without_bfloat16_is_told(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "has_bfloat16", lambda: False)
    for precision, told in (("bfloat16", [running.EMULATED]), ("float32", [])):
        said: list[str] = []
        recipe = small("oscd-fc-ef-rgb", precision=precision)
        train(recipe, root, tmp_path / precision, How(device="cpu", threads=1, say=said.append))
        assert said[: len(told)] == told
        assert (running.EMULATED in said) == bool(told)
        kept = json.loads((tmp_path / precision / "recipe.json").read_text())
        assert kept["precision"] == precision


def test_a_curve_without_rows_is_told(tmp_path: Path) -> None:
    for text in ("", "epoch,loss\n", "a,b\n1,2\n"):
        path = write(tmp_path / "curve.csv", text)
        with pytest.raises(ReadError, match="curve of a run"):
            plot_curve(path, tmp_path / "curve.png")
