"""System C on real pairs, on the miniature of OSCD: what is withheld, and what is counted."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import missing_optical_oscd as bench
from benchmarks.missing_optical_oscd import CONDITIONS, WAYS, Pixels, Place, Plan
from cdscale.learn.losses import MissingOpticalRule
from cdscale.learn.metrics import Curve
from cdscale.models.ds_unet import DSUNet
from cdscale.models.inputs import Pair, PairMoments, change_inputs
from cdscale.models.missing_optical_pair import MissingOpticalPair, both_seen
from tests.miniature_roots import Miniatures, miniatures

__all__ = ["miniatures"]

SMALL = Plan(steps=2, width=2, batch=2, crop=32)


@pytest.fixture(scope="module")
def cities(miniatures: Miniatures) -> dict[str, Place]:
    root = miniatures["oscd"]
    return {name: Place.read(root, name) for name in bench.places(root)}


def test_cities_without_radar_are_left_out(
    miniatures: Miniatures, cities: dict[str, Place]
) -> None:
    assert sorted(cities) == ["anvil", "birch"]
    with pytest.raises(SystemExit, match="cedar_e has no label or no radar"):
        Place.read(miniatures["oscd"], "cedar_e")


def test_what_is_withheld_is_gone_and_nothing_else(cities: dict[str, Place]) -> None:
    place = cities["anvil"]
    half = bench.cloud(place.label.shape, seed=1)
    assert abs(float(half.float().mean()) - 0.5) < 0.01
    assert not torch.equal(half, bench.cloud(place.label.shape, seed=2))
    for where, lost in ((None, torch.ones_like(half)), (half, half)):
        less = place.without(where)
        assert torch.isnan(less.s2[1][:, lost]).all()
        assert torch.equal(less.s2[1][:, ~lost], place.s2[1][:, ~lost])
        assert torch.equal(less.s2[0], place.s2[0])
        inputs = change_inputs(
            Pair(less.s2[:1], less.s2[1:], less.s1[0][:1], less.s1[0][1:]), bench.RULE
        )
        assert torch.equal(both_seen(inputs.s2_before, inputs.s2_after)[0, 0], ~lost)
    assert torch.isfinite(place.s2).all()


def test_a_share_of_the_training_scenes_loses_the_second_image_by_seed(
    cities: dict[str, Place],
) -> None:
    training = [replace(cities["anvil"], name=str(k)) for k in range(8)]

    def hidden(seed: int) -> list[bool]:
        scenes = bench.shown(training, replace(SMALL, seed=seed, share=0.5))
        assert [scene.name for scene in scenes] == [scene.name for scene in training]
        return [bool(torch.isnan(scene.s2[1]).all()) for scene in scenes]

    assert sum(hidden(0)) == 4
    paper = bench.shown(training, SMALL)
    assert sum(bool(torch.isnan(scene.s2[1]).all()) for scene in paper) == 1
    assert hidden(0) == hidden(0)
    assert len({tuple(hidden(seed)) for seed in range(5)}) > 1
    both = bench.shown(training, replace(SMALL, withhold="crops"))
    assert [bool(torch.isnan(scene.s2[1]).all()) for scene in both] == [False] * 8 + [True] * 8


@pytest.mark.parametrize("way", WAYS)
def test_every_way_learns_something_from_every_batch(
    cities: dict[str, Place], way: bench.Way
) -> None:
    place = cities["anvil"]
    network = bench.network_of(way, place, 2)
    assert isinstance(network, DSUNet if way == "radar" else MissingOpticalPair)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    trained = bench.train(way, list(cities.values()), SMALL)
    assert not trained.training
    changed = [
        name
        for name, value in trained.state_dict().items()
        if name.endswith("weight") and not torch.equal(value, before[name])
    ]
    assert any(name.startswith(("net.recon_body", "streams", "net.s1_net")) for name in changed)


def test_terms_without_a_meaning_are_left_out() -> None:
    rule = MissingOpticalRule(phi=0.3)
    plan = replace(SMALL, loss=rule)
    assert plan.rule_of("reconstructed") == rule
    told = [plan.rule_of(way) for way in ("zeros", "zeros-after", "mean", "token")]
    assert [(rule.phi, rule.simulated) for rule in told] == [(0, 0), (0, 0), (0, 1), (0, 1)]


def test_zeros_of_the_missing_date_leave_the_other_one_to_be_seen(
    cities: dict[str, Place],
) -> None:
    less, hidden = bench.withheld(cities["anvil"], "half", seed=1)
    gone = torch.from_numpy(hidden)
    s1 = less.s1[0]
    pair = Pair(*(x[None] for x in (less.s2[0], less.s2[1], s1[0], s1[1])))
    moments = PairMoments.of(pair, bench.RULE)
    both = bench.inputs_of("zeros", pair, moments)
    one = bench.inputs_of("zeros-after", pair, moments)
    assert torch.equal(bench.optical_of("zeros", both)[0, 0], ~gone)
    assert bench.optical_of("zeros-after", one).all()
    assert not both[0][..., gone].any()
    assert (one[0][0, :, gone] != 0).any(dim=0).all()
    assert torch.equal(one[1], both[1])
    assert not one[1][..., gone].any()
    assert torch.equal(one[0][..., ~gone], both[0][..., ~gone])


def test_thresholds_are_tuned_for_each_condition_on_the_middle_of_scenes(
    cities: dict[str, Place],
) -> None:
    place = cities["anvil"]
    middle = place.middle(32)
    top, left = ((n - 32) // 2 for n in place.label.shape)
    assert torch.equal(middle.label, place.label[top : top + 32, left : left + 32])
    assert torch.equal(middle.s2, place.s2[..., top : top + 32, left : left + 32])
    torch.manual_seed(1)
    radar = bench.network_of("radar", place, 2).eval()
    optical = bench.network_of("zeros", place, 2).eval()
    assert len(set(bench.thresholds_of("radar", radar, [place]).values())) == 1
    said = bench.probability("zeros", optical, place.without())
    expected = Curve()
    expected.add(said, place.label.numpy())
    found = bench.thresholds_of("zeros", optical, [place])
    assert found["missing"] == expected.best()[0]


def test_the_whole_loss_is_that_of_its_terms(cities: dict[str, Place]) -> None:
    """Seen everywhere: fused, blind and similarity; missing: blind alone."""
    torch.manual_seed(0)
    network = bench.network_of("reconstructed", cities["anvil"], 2).eval()
    inputs = Pair(*(torch.randn(1, c, 16, 16) for c in (13, 13, 1, 1))).tensors()
    label = (torch.rand(1, 16, 16) < 0.3).long()

    def cost(**terms: float) -> float:
        rule = MissingOpticalRule(**terms)
        return bench.loss_of("reconstructed", network, inputs, label, rule).item()

    fused = cost(phi=0, simulated=0)
    assert cost(phi=0, simulated=1) > fused
    assert cost(phi=1, simulated=0) > fused
    blind = cost(phi=0, simulated=1) - fused
    inputs = (inputs[0], torch.zeros_like(inputs[1]), inputs[2], inputs[3])
    assert cost(phi=1, simulated=1) == pytest.approx(blind, rel=1e-5)


def test_figures_are_those_of_all_pixels(cities: dict[str, Place]) -> None:
    said = np.array([0.9, 0.8, 0.2, 0.1], np.float32)
    true = np.array([True, False, True, False])
    hidden = np.array([False, False, True, True])
    parts = [Pixels(said, true, said > 0.15, hidden)]
    whole = bench.pooled(parts * 2)
    assert whole["changed"] == 0.5
    assert (whole["f1"], whole["precision"], whole["recall"]) == (0.5, 0.5, 0.5)
    assert whole["tuned"] == pytest.approx(0.8)
    assert whole["ap"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3, abs=1e-4)
    assert bench.pooled(parts, under=True)["f1"] == 0
    assert bench.pooled(parts, under=False)["f1"] == pytest.approx(2 / 3, abs=1e-4)
    told = bench.figures_of({"a": dict.fromkeys(CONDITIONS, parts[0])})
    assert told["cities"]["a"]["half"] == {
        "f1": 0.5, "tuned": 0.8, "ap": whole["ap"]
    }  # fmt: skip


def test_a_table_says_the_spread_over_seeds_and_the_share_of_radar_alone() -> None:
    def one(seed: int, radar: float, zeros: float) -> dict[str, Any]:
        ways = {
            way: {c: dict.fromkeys(bench.FIGURES, x) for c in CONDITIONS}
            for way, x in (("radar", radar), ("zeros", zeros))
        }
        return {"plan": {"seed": seed, "steps": 1}, "ways": ways}

    head, _, radar, zeros = bench.table_of_seeds([one(0, 0.4, 0.1), one(1, 0.2, 0.1)]).split("\n")
    assert head.count("|") == zeros.count("|") == 14
    assert radar.startswith("| radar | 0.300 ± 0.141 |")
    assert radar.endswith("| 1.000 ± 0.000 |")
    assert zeros.startswith("| zeros | 0.100 ± 0.000 |")
    assert zeros.endswith("| 0.375 ± 0.177 |")


def test_folds_hold_out_every_city_once() -> None:
    names = [f"city{k:02}" for k in range(12)]
    out = bench.held_out(names)
    assert sorted(name for fold in out for name in fold) == names
    assert [len(fold) for fold in out] == [4, 4, 4]


def test_the_whole_benchmark_writes_its_figures(
    cities: dict[str, Place], monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    miniatures: Miniatures, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(bench, "DATA", miniatures["oscd"])
    monkeypatch.setattr(bench, "FOLDS", 2)
    out = tmp_path / "found.json"
    words = f"{out} --steps 1 --width 2 --crop 32 --way zeros".split()
    monkeypatch.setattr(sys, "argv", ["missing_optical_oscd", *words])
    threads = torch.get_num_threads()
    bench.main()
    told = json.loads(out.read_text())["ways"]["zeros"]
    assert sorted(told["cities"]) == ["anvil", "birch"]
    assert len(told["runs"]) == 2
    assert all(0 <= told[condition]["ap"] <= 1 for condition in CONDITIONS)
    assert "| zeros |" in capsys.readouterr().out
    # Again: nothing is left to do. Otherwise: not into this file.
    monkeypatch.delattr(bench, "train")
    bench.main()
    monkeypatch.setattr(sys, "argv", [sys.argv[0], *words, "--seed", "1"])
    with pytest.raises(SystemExit, match="of another plan"):
        bench.main()
    torch.set_num_threads(threads)
