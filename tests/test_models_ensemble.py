"""Ensembles: the mean of probabilities, one file of several, and what does not go together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from torch import nn

from cdscale import models
from cdscale.errors import ModelError
from cdscale.inference import Block, Tiling, predict_change
from cdscale.models.ensemble import Ensemble, join
from cdscale.spec.card import ModelCard, Normalisation
from tests.commands import Cli, refused
from tests.regions import a_card


class Says(nn.Module):
    """The same logits whatever it sees."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        del x
        return self.logits


@settings(max_examples=10)
@given(members=st.integers(1, 4), channels=st.integers(1, 3), scale=st.sampled_from([1.0, 60.0]))
def test_an_ensemble_says_the_mean_probability(members: int, channels: int, scale: float) -> None:
    torch.manual_seed(members)
    alone = [Says(scale * torch.randn(2, channels, 3, 4)) for _ in range(members)]
    with torch.inference_mode():
        logits = Ensemble(alone)(torch.zeros(1))
        if channels == 1:
            expected = torch.stack([one.logits.double().sigmoid() for one in alone]).mean(dim=0)
            found = logits.double().sigmoid()
        else:
            expected = torch.stack([one.logits.double().softmax(1) for one in alone]).mean(dim=0)
            found = logits.double().softmax(1)
            torch.testing.assert_close(found, logits.double().exp(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def write(folder: Path, seed: int, name: str = "", task: str = "urban", **changes: Any) -> str:
    """A tiny trained network, so to say."""
    card = a_card(task, name=name or f"m{seed}", weights=f"m{seed}.safetensors", **changes)
    torch.manual_seed(seed)
    save_file(models.build(card).state_dict(), folder / card.weights)
    sha = models.sha256_of(folder / card.weights)
    path = folder / f"{card.name}.card.yaml"
    card.model_copy(update={"weights_sha256": sha}).write(path)
    return str(path)


def inputs() -> tuple[torch.Tensor, ...]:
    torch.manual_seed(9)
    return torch.rand(1, 1, 32, 32), torch.randn(1, 2, 32, 32), torch.ones(1, 1, 32, 32).bool()


def test_joined_networks_are_loaded_and_say_their_mean(tmp_path: Path) -> None:
    paths = [write(tmp_path, seed, threshold=seed / 10) for seed in (1, 2, 3)]
    card = join(paths, "three", tmp_path / "out")
    assert (card.members, card.threshold) == (3, 0.2)
    assert set(card.accuracy["members"]) == {"m1", "m2", "m3"}
    assert models.load_card(str(tmp_path / "out" / "three.card.yaml")) == card
    network = models.load(card, folder=tmp_path / "out")
    alone = [models.load(models.load_card(path), folder=tmp_path) for path in paths]
    with torch.inference_mode():
        mean = torch.stack([one(*inputs()).sigmoid() for one in alone]).mean(dim=0)
        torch.testing.assert_close(network(*inputs()).sigmoid(), mean)
    keys = load_file(tmp_path / "out" / "three.safetensors").keys()
    assert {key.split(".")[0] for key in keys} == {"0", "1", "2"}


def test_an_ensemble_joins_with_its_members_and_keeps_their_precision(tmp_path: Path) -> None:
    paths = [write(tmp_path, seed) for seed in (1, 2, 3)]
    half = {k: v.half() for k, v in load_file(tmp_path / "m1.safetensors").items()}
    save_file(half, tmp_path / "m1.safetensors")
    sha = models.sha256_of(tmp_path / "m1.safetensors")
    models.load_card(paths[0]).model_copy(update={"weights_sha256": sha}).write(Path(paths[0]))
    join(paths[:2], "two", tmp_path)
    card = join([str(tmp_path / "two.card.yaml"), paths[2]], "three", tmp_path, threshold=0.3)
    assert (card.members, card.threshold) == (3, 0.3)
    stored = load_file(tmp_path / "three.safetensors")
    for key, value in half.items():
        assert torch.equal(stored[f"0.{key}"], value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"network": {"width": 3}}, "network"),
        ({"s2_bands": ["B08", "B04"]}, "s2_bands"),
        ({"normalisation": {"s2_mean": [0.0, 0.1], "s2_std": [1.0, 1.0]}}, "normalisation"),
    ],
)
def test_networks_that_differ_are_not_joined(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ModelError, match=f"ensemble of m1 and m2: {said}; expected .*as m1"):
        join([write(tmp_path, 1), write(tmp_path, 2, **changes)], "both", tmp_path)
    assert not list(tmp_path.glob("both*"))


def a_pair(folder: Path, seed: int, rule: dict[str, Any]) -> str:
    """A tiny change network that reads by a rule."""
    small: dict[str, Any] = {"network": {}, "family": "fc-ef", "halo": 128, "stride": 16}
    return write(folder, seed, task="change", normalisation=rule, **small)


def test_members_that_read_differently_each_read_their_own_way(tmp_path: Path) -> None:
    rules = [{"s2_standardise": "image"}, {"s2_standardise": "image_scalar"}]
    paths = [a_pair(tmp_path, seed, rules[seed % 2]) for seed in (2, 3, 4)]
    card = join(paths, "mixed", tmp_path)
    assert card == models.load_card(str(tmp_path / "mixed.card.yaml"))
    assert (len(card.views), card.view_of_member) == (2, (0, 1, 0))
    side = 2 * card.halo + 48
    noise = np.random.default_rng(1)
    scale = np.linspace(0.2, 1, len(card.s2_bands))[:, None, None]

    def date() -> Block:
        s2 = (scale * noise.random((len(card.s2_bands), side, side))).astype(np.float32)
        s1 = noise.random((len(card.s1_bands), side, side)).astype(np.float32)
        return Block(s2, s1)

    dates, how = (date(), date()), Tiling(core=32, batch=2)
    found = predict_change(models.load(card, folder=tmp_path), card, *dates, how)
    alone = [models.load_card(path) for path in paths]
    each = [predict_change(models.load(c, folder=tmp_path), c, *dates, how) for c in alone]
    np.testing.assert_allclose(found, np.mean(each, axis=0), rtol=0, atol=1e-5)
    assert np.abs(each[0] - each[1]).max() > 1e-3


def test_a_card_has_one_normalisation_for_each_member_and_the_first_is_the_first() -> None:
    one, other = Normalisation(s2_standardise="image"), Normalisation()
    card = a_card("change").model_dump() | {"members": 2, "normalisation": one}
    for wrong in ([one], [other, one], [one, other, one]):
        with pytest.raises(ValidationError, match="expected one for each of 2 members"):
            ModelCard.model_validate(card | {"member_normalisations": wrong})
    mixed = ModelCard.model_validate(card | {"member_normalisations": [one, other]})
    month = mixed.model_copy(update={"family": "missing-optical"})
    with pytest.raises(ModelError, match="read images in one way"):
        models.build(month)


def test_one_network_and_names_of_members_are_refused(tmp_path: Path) -> None:
    one, two = write(tmp_path, 1), write(tmp_path, 2)
    for paths in ([one], [one, one]):
        with pytest.raises(ModelError, match="two or more different networks"):
            join(paths, "both", tmp_path)
    for name in ("m1", "", "../both", "a/b"):
        with pytest.raises(ModelError, match="name of an ensemble"):
            join([one, two], name, tmp_path)


def test_weights_that_are_gone_damaged_or_of_another_network_are_refused(tmp_path: Path) -> None:
    one, two, three = (write(tmp_path, seed) for seed in (1, 2, 3))
    (tmp_path / "m3.safetensors").write_bytes(b"0" * 64)
    with pytest.raises(ModelError, match="not what its card was written for"):
        join([one, three], "both", tmp_path)
    card = models.load_card(three)
    sha = models.sha256_of(tmp_path / "m3.safetensors")
    card.model_copy(update={"weights_sha256": sha}).write(Path(three))
    with pytest.raises(ModelError, match="does not fit its network"):
        join([one, three], "both", tmp_path)
    (tmp_path / "m2.safetensors").unlink()
    with pytest.raises(ModelError, match="No such file"):
        join([one, two], "both", tmp_path)


def test_networks_of_several_maps_have_no_members() -> None:
    card = a_card(family="hrscd-1", task="semantic-change", members=2)
    with pytest.raises(ModelError, match=r"members; expected 1: .*hrscd-1.*got 2"):
        models.build(card)


def test_models_join_writes_a_card_that_show_shows(tmp_path: Path, cdscale: Cli) -> None:
    paths = [write(tmp_path, seed, tta="d4") for seed in (1, 2)]
    done = cdscale("models", "join", *paths, "--to", tmp_path / "new", "--name", "pair")
    assert (done.code, done.err) == (0, "")
    assert "2 members, threshold 0.5" in done.out
    shown = cdscale("models", "show", tmp_path / "new" / "pair.card.yaml")
    assert "mean of 2 networks, eight orientations each" in shown.out
    other = write(tmp_path, 3, halo=128)
    result = cdscale("models", "join", paths[0], other, "--to", tmp_path, "--name", "odd")
    refused(result, "halo", "Join networks that differ")
