"""The specs that ship load, plan and find their scenes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cdscale import models, scenes
from cdscale.plan import Plan, check, freeze, price
from cdscale.scenes import table
from cdscale.spec.profile import load_profile
from cdscale.spec.run import RunSpec, load_run
from cdscale.spec.task import Stage
from tests.regions import write_card

EXAMPLES = Path(__file__).parents[1] / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.yaml"))


def load(name: str, monkeypatch: pytest.MonkeyPatch, output: Path, **changes: Any) -> RunSpec:
    """An example, its products in another folder."""
    return load_run(EXAMPLES / f"{name}.yaml", {"output": str(output), **changes})


@pytest.fixture
def stand_in_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of the names that the examples use, with random weights: plans do not use them."""
    folder = tmp_path / "weights"
    bands = {"s2_bands": ["B02", "B03", "B04", "B08"]}
    bands |= {"normalisation": {"s2_mean": [0.1] * 4, "s2_std": [0.1] * 4}}  # type: ignore[dict-item]
    write_card(folder, "urban", name="urban-s1s2-sim", **bands)
    trained = {"data": "OSCD", "split": "", "recipe": "", "licence": "", "steps": 1}
    write_card(
        folder, "change", name="change-s1s2-oscd", training=trained | {"simulated": False}, **bands
    )
    monkeypatch.setattr(models, "WEIGHTS", folder)


def plan(spec: RunSpec) -> Plan:
    plan = price(freeze(spec), workers=2, memory=4 * 2**30)
    check(plan)
    return plan


def test_there_are_examples() -> None:
    assert NAMES == ["flanders", "leipzig", "oscd", "simulated"]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "simulated"])
@pytest.mark.realdata
def test_an_example_loads(
    name: str, data_root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CDSCALE_DATA", str(data_root))
    spec = load(name, monkeypatch, tmp_path)
    assert spec.name == name
    assert spec.tiles()
    assert spec.pairs()


def test_the_simulated_example_is_the_demos(
    region_catalogue: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from cdscale.cli import SIMULATED_SPEC

    area = region_catalogue.parent / "area.geojson"
    example = load("simulated", monkeypatch, tmp_path, area=str(area))
    text = SIMULATED_SPEC.format(folder="catalogue", months=example.period, output="x")
    (tmp_path / "demo.yaml").write_text(text)
    demo = load_run(tmp_path / "demo.yaml", {"area": str(area), "output": str(tmp_path)})
    plain, other = example.model_dump(mode="json"), demo.model_dump(mode="json")
    assert Path(plain.pop("catalogue")).name == Path(other.pop("catalogue")).name == "catalogue"
    assert plain == other


def test_the_models_of_the_examples_ship() -> None:
    known = {card.name for card in models.list_cards()}
    named = set()
    for name in NAMES:
        text = (EXAMPLES / f"{name}.yaml").read_text(encoding="utf-8")
        named |= {part.split("}")[0].split(",")[0].strip() for part in text.split("card:")[1:]}
    assert named <= known


# ------------------------------------------------------------------------------ on real scenes


@pytest.mark.realdata
def test_flanders_plans_on_its_real_scenes(
    data_root: Path, stand_in_models: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CDSCALE_DATA", str(data_root))
    found = plan(load("flanders", monkeypatch, tmp_path))
    assert not found.simulated
    assert found.month_count == 28
    assert found.scenes["s2"] > 28
    assert found.scenes["s1"] > 28
    assert found.stages["change"].tasks == 28 * found.tiles
    assert found.stages["compose"].tasks == 28 * found.tiles
    assert 2 <= found.tiles <= 8
    assert list(tmp_path.glob("run")) == []


@pytest.mark.realdata
def test_oscd_plans_on_its_real_scenes(
    data_root: Path, stand_in_models: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CDSCALE_DATA", str(data_root))
    spec = load("oscd", monkeypatch, tmp_path)
    found = plan(spec)
    assert not found.simulated
    assert found.scenes["s2"] >= 2
    assert found.scenes["s1"] >= 2
    assert list(found.stages) == ["compose", "change"]
    job = freeze(spec)
    # Both dates show every tile to both sensors.
    for task in job.tasks(Stage.COMPOSE):
        assert {scene.sensor for scene in job.scenes_of(task)} == {"s1", "s2"}, task


def recorded(data_root: Path, collection: str) -> list[dict[str, Any]]:
    """Items of the Planetary Computer as it served them."""
    path = data_root / "stac-items" / f"planetarycomputer__{collection}.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    items = content["features"] if isinstance(content, dict) else content
    assert items
    return list(items)


@pytest.mark.realdata
@pytest.mark.parametrize("collection", ["sentinel-2-l2a", "sentinel-1-rtc"])
def test_leipzig_reads_what_the_planetary_computer_serves(
    data_root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, collection: str
) -> None:
    spec = load("leipzig", monkeypatch, tmp_path)
    profile = spec.profiles[collection]
    assert profile == load_profile(spec.collections[collection])
    wanted = spec.cube.s2_bands if profile.sensor == "s2" else spec.cube.s1_bands
    for item in recorded(data_root, collection):
        scene = scenes.harmonise(item, profile, local=False)
        assert (scene.sensor, scene.access.signing) == (profile.sensor, "planetary-computer")
        assert set(scene.assets) & set(wanted)
        assert not scene.simulated
        assert all(asset.href.startswith("https://") for asset in scene.assets.values())
        assert all("?" not in asset.href for asset in scene.assets.values())
        assert any(month.overlaps(scene.start, scene.end) for month in [_month_of(item)])


def _month_of(item: dict[str, Any]) -> Any:
    from cdscale.months import Month

    return Month.parse(item["properties"]["datetime"][:7])


@pytest.mark.realdata
def test_leipzig_plans_on_what_the_planetary_computer_serves(
    data_root: Path,
    stand_in_models: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    items = [
        item for name in ("sentinel-2-l2a", "sentinel-1-rtc") for item in recorded(data_root, name)
    ]
    monkeypatch.setattr(table, "items_of", lambda spec, footprint: iter(items))
    # The recorded items lie elsewhere and at other times: the example goes to where they are.
    optical = next(item for item in items if item["collection"] == "sentinel-2-l2a")
    west, south, east, north = optical["bbox"]
    x, y = (west + east) / 2, (south + north) / 2
    area = tmp_path / "area.geojson"
    ring = [[x, y], [x + 0.02, y], [x + 0.02, y + 0.02], [x, y]]
    area.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    month = str(_month_of(optical))
    changes = {"area": str(area), "period": month, "grid": {"preset": "auto", "tile": 512}}
    found = plan(load("leipzig", monkeypatch, tmp_path, **changes, cube={}))
    assert found.scenes["s2"] >= 1
    assert not found.simulated
