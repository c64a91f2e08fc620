"""Specs: a run from YAML, profiles, cards, tasks, jobs, fingerprints."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cdscale.errors import CdscaleError, ModelError, SpecError
from cdscale.grid import Area, Bounds, Tile
from cdscale.months import Month, Months
from cdscale.spec.base import Frozen, fingerprint, read_yaml
from cdscale.spec.card import ModelCard, Normalisation, Training
from cdscale.spec.cube import CubeSpec, SensorQuality, Variable
from cdscale.spec.job import Job
from cdscale.spec.product import change_layout, cube_layout, urban_layout
from cdscale.spec.profile import CollectionProfile, load_profile, profile_names
from cdscale.spec.run import S1_BANDS, S2_BANDS, RunSpec, load_run, read_area, resolve_period
from cdscale.spec.scene import SceneTable
from cdscale.spec.task import Receipt, Stage, Task
from cdscale.testing import make_scene

PC_S2 = "planetary-computer-sentinel-2-l2a"
PC_S1 = "planetary-computer-sentinel-1-rtc"
RUN: dict[str, Any] = {
    "name": "flanders",
    "catalogue": "https://stac.example/v1",
    "collections": {"sentinel-2-l2a": PC_S2, "sentinel-1-rtc": PC_S1},
    "area": [3.0, 50.8, 3.05, 50.83],
    "period": "2017-08..2018-11",
    "output": "out",
}
POLYGON = {"type": "Polygon", "coordinates": [[[3, 50], [4, 50], [4, 51], [3, 51], [3, 50]]]}
CARD = ModelCard(
    name="net", version="1", title="a network", task="urban", family="two-branch", network={},
    weights="net.safetensors", weights_sha256="a" * 64, s2_bands=("B04", "B03"),
    s1_bands=("vv", "vh"), normalisation=Normalisation(), halo=16, stride=8, threshold=0.5,
    classes={0: "no change", 1: "change"},
    training=Training(
        data="d", split="s", recipe="r", steps=1, licence="l", simulated=False
    ),
    accuracy={}, limits=(),
)  # fmt: skip


def run_file(folder: Path, **changes: Any) -> Path:
    path = folder / "run.yaml"
    data = {k: v for k, v in {**RUN, **changes}.items() if v is not None}
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


def job_of(spec: RunSpec, *cards: str) -> Job:
    table = SceneTable(search="x", scenes=(make_scene("one"),))
    return Job(spec=spec, scenes=table, cards=dict.fromkeys(cards, CARD))


@pytest.fixture
def spec(tmp_path: Path) -> RunSpec:
    return load_run(run_file(tmp_path, grid={"tile": 64, "chunk": 16}))


# ------------------------------------------------------------------------------- a run from YAML


def test_what_is_not_said_has_its_default(tmp_path: Path) -> None:
    spec = load_run(run_file(tmp_path))
    assert spec.period == Months.parse("2017-08..2018-11")
    assert (spec.grid.preset, spec.grid.resolution, spec.grid.tile, spec.grid.chunk) == (
        "auto", 10.0, 2048, 512,
    )  # fmt: skip
    assert (spec.cube.s2_bands, spec.cube.s1_bands) == (S2_BANDS, S1_BANDS)
    assert (spec.cube.s2, spec.cube.max_cloud_cover) == ("least_cloudy", 100.0)
    assert (spec.models.urban, spec.models.change) == (None, None)
    assert (spec.workers.count, spec.workers.memory, spec.workers.retries) == (0, "4GiB", 2)
    assert (spec.lattice.name, spec.lattice.crs) == ("europe", "EPSG:3035")
    assert spec.folder == Path("out").resolve()
    assert spec.profiles["sentinel-1-rtc"].sensor == "s1"


def test_a_spec_reads_back_what_it_writes(tmp_path: Path) -> None:
    spec = load_run(
        run_file(tmp_path, models={"change": {"card": "c", "pairs": ["2017-08,2018-01"]}})
    )
    assert RunSpec.model_validate_json(spec.model_dump_json()) == spec
    assert (
        RunSpec.check(yaml.safe_load(yaml.safe_dump(spec.model_dump(mode="json"))), where="x")
        == spec
    )
    assert json.loads(spec.model_dump_json())["period"] == "2017-08..2018-11"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"colour": "red"},
            r"run\.yaml: colour: Extra inputs are not permitted; expected one of name, catalogue",
        ),
        ({"perod": "2018-01"}, r"perod: Extra inputs are not permitted; did you mean period\.$"),
        (
            {"perod": "2018-01", "period": None},
            r"perod: .*; did you mean period \(1 more\)\.$",
        ),
        ({"cube": {"window_month": 3}}, r"cube.window_month: .*; did you mean window_months"),
        (
            {"models": {"change": {"card": "c", "pair": []}}},
            r"models.change.pair: .*; did you mean pairs",
        ),
        ({"name": None}, "name: Field required"),
        ({"name": "a/b"}, "name: String should match"),
        ({"collections": {}}, "collections: "),
        ({"collections": {"s2": "no-such"}}, "unknown profile; expected one of .*oscd"),
        ({"collections": {"s2": "no-such.yaml"}}, "cannot read .*no-such.yaml"),
        ({"period": "2018-13"}, "not a month.*2018-13"),
        ({"period": "2018-02..2018-01"}, "runs backwards"),
        ({"period": 2018}, "period: "),
        ({"grid": "mars"}, "unknown grid"),
        ({"grid": {"tile": 100, "chunk": 64}}, r"tile \(100\) must be a multiple of chunk \(64\)"),
        ({"grid": {"tile": 32, "chunk": 16}}, "grid.tile: "),
        ({"grid": {"resolution": 0}}, "grid.resolution: "),
        ({"grid": {"depth": 1}}, "grid.depth: Extra"),
        ({"cube": {"s2": "mean"}}, "cube.s2: Input should be 'least_cloudy'"),
        ({"cube": {"s2_bands": ["B02", "B99"]}}, "no collection has the bands B99; they have B01"),
        ({"cube": {"max_cloud_cover": 101}}, "cube.max_cloud_cover"),
        ({"cube": {"s1_bands": ["VV"]}}, "no collection has the bands VV; they have vh, vv"),
        ({"cube": {"s2_bands": ["B02", "B03", "B02"]}}, "cube.s2_bands: B02 more than once"),
        ({"cube": {"s1_bands": ["vv", "vv"]}}, "cube.s1_bands: vv more than once"),
        ({"cube": {"clear": [4, 300]}}, "cube.clear.1: "),
        ({"cube": {"clear": [-1]}}, "cube.clear.0: "),
        ({"cube": {"dilate_px": 100_000}}, "cube.dilate_px: "),
        ({"grid": {"resolution": 1e12}}, "grid.resolution: "),
        ({"area": [True, 50, 4, 51]}, "area is not a box"),
        ({"area": {"type": "FeatureCollection", "features": []}}, "area has no area"),
        ({"output": ""}, "output: it is no folder of this machine; expected a path"),
        ({"output": "s3://bucket/run"}, "output: it is no folder .*s3://bucket/run"),
        ({"output": "${CDSCALE_NOT_SET_ANYWHERE}"}, "output: it is no folder .*NOT_SET_ANYWHERE"),
        ({"output": "a\0b"}, "output: it is no folder"),
        ({"models": {"urban": {"force": True}}}, "models.urban.card: Field required"),
        ({"area": "gone.geojson"}, "cannot read .*gone.geojson"),
        ({"area": [3, 50, 4]}, r"area is not a box; expected \[west, south, east, north\]"),
        ({"area": ["a", 50, 4, 51]}, "area is not a box"),
        ({"area": [4, 50, 3, 51]}, "west < east"),
        ({"area": [300_000, 5e6, 310_000, 5.1e6]}, "not in degrees"),
        ({"area": {"type": "Point", "coordinates": [3, 50]}}, "area has no area"),
        ({"area": 5}, "area is not GeoJSON"),
        ({"output": None, "area": None}, r"area: Field required \(1 more\)"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        load_run(run_file(tmp_path, **change)).lattice  # noqa: B018


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not a spec"),
        ("- 1\n- 2", "not a spec"),
        ("a: [1", "not YAML at line"),
        ("a: !!python/object:os.system x", "not YAML"),
        ("period: 2017-13-01", "not YAML"),
        ("1: 2", "run.yaml"),
        ("a: " + "[" * 1200, "not YAML"),
        ("\tname: x", "not YAML at line 1"),
    ],
)
def test_a_file_that_is_no_spec_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match=said):
        load_run(path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"name: \xe9\xff")
    for name, said in (("gone", "cannot read .*gone"), ("latin", "not UTF-8"), (".", "cannot")):
        with pytest.raises(SpecError, match=said):
            load_run(tmp_path / name)


def test_every_form_of_area_means_the_same(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    area = Area.from_geojson(POLYGON, where="it").geojson
    feature = {"type": "Feature", "properties": {}, "geometry": POLYGON}
    (tmp_path / "sub" / "aoi.geojson").write_text(json.dumps(feature, indent="\t"))
    for value in (
        "sub/aoi.geojson",
        str(tmp_path / "sub" / "aoi.geojson"),
        [3, 50, 4, 51],
        POLYGON,
    ):
        spec = load_run(run_file(tmp_path, area=value))
        assert spec.aoi.geometry.equals(Area.from_geojson(area, where="it").geometry)
        assert spec.area["type"] == "Polygon"


def test_small_numbers_in_geojson_stay_numbers(tmp_path: Path) -> None:
    """On the meridian of Greenwich a coordinate is soon 1e-05, which PyYAML takes for text."""
    ring = [[1e-05, 51], [0.1, 51], [0.1, 51.1], [1e-05, 51.1], [1e-05, 51]]
    path = tmp_path / "aoi.geojson"
    path.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    assert "1e-05" in path.read_text()
    assert Area.from_geojson(read_yaml(path), where="it").bounds.west == 1e-05


def test_a_box_turned_round_in_overrides_is_refused_too(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="west < east"):
        load_run(run_file(tmp_path), {"area": [170, 0, -170, 1]})


def test_paths_are_relative_to_the_file_and_the_output_to_here(tmp_path: Path) -> None:
    (tmp_path / "profile.yaml").write_text(
        yaml.safe_dump(load_profile(PC_S2).model_dump(mode="json"))
    )
    spec = load_run(
        run_file(
            tmp_path,
            catalogue="data/catalog.json",
            collections={"s2": "profile.yaml", "s1": PC_S1},
        )
    )
    assert spec.catalogue == str(tmp_path / "data" / "catalog.json")
    assert spec.collections == {"s2": str(tmp_path / "profile.yaml"), "s1": PC_S1}
    assert spec.profiles["s2"] == load_profile(PC_S2)
    assert spec.output == str(Path("out").resolve())
    assert load_run(run_file(tmp_path)).catalogue == "https://stac.example/v1"


@pytest.mark.parametrize(
    ("value", "here", "expected"),
    [
        ("${CDSCALE_TEST}/c.json", "/data", "/data/c.json"),
        ("${CDSCALE_TEST:-/other}/c.json", "/data", "/data/c.json"),
        ("${CDSCALE_TEST:-/other}/c.json", None, "/other/c.json"),
        ("${CDSCALE_TEST:-/other}/c.json", "", "/other/c.json"),
        ("https://${CDSCALE_TEST:-stac.example}/v1", None, "https://stac.example/v1"),
        ("$CDSCALE_TEST/c.json", "/data", None),  # left as it is
    ],
)
def test_variables_in_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, here: str | None,
    expected: str | None,
) -> None:  # fmt: skip
    monkeypatch.delenv("CDSCALE_TEST", raising=False)
    if here is not None:
        monkeypatch.setenv("CDSCALE_TEST", here)
    got = load_run(run_file(tmp_path, catalogue=value)).catalogue
    assert got == (expected or str(tmp_path / value))


def test_a_relative_path_in_a_variable_starts_at_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CDSCALE_TEST", "../data")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "specs").mkdir()
    spec = load_run(run_file(tmp_path / "specs", catalogue="${CDSCALE_TEST}/c.json"))
    assert spec.catalogue == str(tmp_path.parent / "data" / "c.json")


def test_latest_is_the_last_month_that_is_over() -> None:
    today = Month.parse("2024-01")
    assert str(resolve_period("2023-10..latest", today)) == "2023-10..2023-12"
    assert str(resolve_period("2022-12,latest", today)) == "2022-12,2023-12"
    with pytest.raises(SpecError, match="backwards"):
        resolve_period("2024-01..latest", today)


def test_an_output_can_be_named_after_the_last_month(tmp_path: Path) -> None:
    spec = load_run(run_file(tmp_path), {"output": "out-{last}", "period": "2018-01,2018-06"})
    assert spec.folder == Path("out-2018-06").resolve()
    latest = load_run(run_file(tmp_path), {"output": "out-{last}", "period": "2018-01..latest"})
    assert latest.folder == Path(f"out-{latest.period.last}").resolve()


@pytest.mark.parametrize("period", [2018, "2018", "soon", ["2018-01"]])
def test_a_period_that_is_none_is_refused_in_its_own_words(tmp_path: Path, period: object) -> None:
    with pytest.raises(SpecError, match=r"run\.yaml: period.*(not a month|does not read)"):
        load_run(run_file(tmp_path, period=period))


@pytest.mark.parametrize("period", ["0021-07..2021-09", "2018-11..9999-12", "1969-12"])
def test_a_period_that_days_cannot_tell_is_refused(tmp_path: Path, period: str) -> None:
    with pytest.raises(SpecError, match=r"period: expected months from 1970-01 to 2149-05; got"):
        load_run(run_file(tmp_path, period=period))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "name: a\nperiod: 2018-01\nname: b\n",
            r"gives a key twice.*'name' a second time at line 3",
        ),
        ("grid:\n  tile: 64\n  tile: 128\n", "'tile' a second time at line 3"),
        ('{"name": "a", "grid": {"tile": 64, "tile": 128}}', "'tile' a second time"),
    ],
)
def test_a_key_given_twice_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SpecError, match=said):
        load_run(path)


def test_a_merge_may_be_overridden(tmp_path: Path) -> None:
    path = run_file(tmp_path)
    path.write_text(
        path.read_text(encoding="utf-8")
        + "models:\n  urban: &one {card: c, force: true}\n  change: {<<: *one, card: d}\n",
        encoding="utf-8",
    )
    models = load_run(path).models
    assert models.urban is not None
    assert models.change is not None
    assert (models.urban.card, models.change.card, models.change.force) == ("c", "d", True)


def test_features_without_a_place_are_left_out_of_an_area(tmp_path: Path) -> None:
    one = {"type": "Polygon", "coordinates": [[[3, 50], [4, 50], [4, 51], [3, 50]]]}
    features = [{"type": "Feature", "properties": None, "geometry": g} for g in (None, one)]
    area = {"type": "FeatureCollection", "features": features}
    assert (
        load_run(run_file(tmp_path, area=area)).area == load_run(run_file(tmp_path, area=one)).area
    )
    with pytest.raises(SpecError, match="area has no area; expected at least one polygon"):
        load_run(run_file(tmp_path, area={**area, "features": features[:1]}))


def test_overrides_replace_fields_and_none_leaves_them(tmp_path: Path) -> None:
    path = run_file(tmp_path)
    spec = load_run(path, {"output": "there", "period": "2018-01", "area": None, "name": None})
    assert (spec.folder, str(spec.period), spec.name) == (
        Path("there").resolve(), "2018-01", "flanders",
    )  # fmt: skip
    with pytest.raises(SpecError, match="colour"):
        load_run(path, {"colour": "red"})


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        (None, {"2018-11": "2017-08"}),
        ([], {"2018-11": "2017-08"}),
        (["2017-08,2018-01", "2018-01,2018-06"], {"2018-01": "2017-08", "2018-06": "2018-01"}),
        (["2018-01..2018-02"], {"2018-02": "2018-01"}),
    ],
)
def test_pairs(tmp_path: Path, pairs: list[str] | None, expected: dict[str, str]) -> None:
    change = {"change": {"card": "c", **({"pairs": pairs} if pairs is not None else {})}}
    got = load_run(run_file(tmp_path, models=change)).pairs()
    assert {str(later): str(earlier) for later, earlier in got.items()} == expected


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (["2017-08"], "two different months"),
        (["2017-08,2017-08"], "two different months"),
        (["2017-08..2017-10"], "two different months"),
        (["2016-01,2018-03"], "does not fit the period.*2016-01,2018-03"),
        (["2017-08,2018-01", "2017-09,2018-01"], "names 2018-01 twice"),
        (["next"], "not a month"),
    ],
)
def test_pairs_that_do_not_fit_are_refused(tmp_path: Path, pairs: list[str], said: str) -> None:
    spec = load_run(run_file(tmp_path, models={"change": {"card": "c", "pairs": pairs}}))
    with pytest.raises(SpecError, match=said):
        spec.pairs()


def test_one_month_has_no_pair(tmp_path: Path) -> None:
    assert load_run(run_file(tmp_path, period="2018-01")).pairs() == {}


@given(st.tuples(*[st.floats(-170, 170)] * 2, *[st.floats(-80, 80)] * 2))
def test_any_box_becomes_the_area_that_it_is(corners: tuple[float, float, float, float]) -> None:
    (west, east), (south, north) = sorted(corners[:2]), sorted(corners[2:])
    if east - west < 1e-3 or north - south < 1e-3:
        return
    area = Area.from_geojson(read_area([west, south, east, north], Path()), where="it")
    assert area.bounds == Bounds(west, south, east, north)


# --------------------------------------------------------------------------------------- profiles


def test_every_profile_that_ships_reads() -> None:
    assert set(profile_names()) >= {PC_S1, PC_S2, "oscd-sentinel-1-vv-db", "oscd-sentinel-2-l1c"}
    for name in profile_names():
        profile = load_profile(name)
        assert profile.name == name
        assert profile.title
        wanted = S2_BANDS if profile.sensor == "s2" else ("vv",)
        assert set(wanted) <= set(profile.bands)
        assert CollectionProfile.model_validate_json(profile.model_dump_json()) == profile


def test_a_sensor_has_its_units() -> None:
    data = load_profile(PC_S1).model_dump()
    with pytest.raises(SpecError, match="sensor s1 cannot have the unit reflectance"):
        CollectionProfile.check({**data, "unit": "reflectance"}, where="p")


# -------------------------------------------------------------------------------------- the card


def test_a_card_refuses_a_cube_without_its_bands() -> None:
    CARD.refuse(s2_bands=("B02", "B03", "B04"), simulated=False, force=False)
    with pytest.raises(
        ModelError,
        match="net cannot read this cube; expected bands B04, B03; got a cube without B03",
    ):
        CARD.refuse(s2_bands=("B04",), simulated=False, force=True)


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("scenes", [True, False])
@pytest.mark.parametrize("force", [True, False])
def test_weights_of_a_simulation_refuse_real_scenes_unless_forced(
    trained: bool, scenes: bool, force: bool
) -> None:
    training = CARD.training.model_copy(update={"simulated": trained})
    card = CARD.model_copy(update={"training": training})
    if trained and not scenes and not force:
        with pytest.raises(ModelError, match="simulated data only.*force: true"):
            card.refuse(s2_bands=CARD.s2_bands, simulated=scenes, force=force)
    else:
        card.refuse(s2_bands=CARD.s2_bands, simulated=scenes, force=force)


def test_a_card_reads_back_what_it_writes(tmp_path: Path) -> None:
    path = tmp_path / "net.card.yaml"
    path.write_text(yaml.safe_dump(CARD.model_dump(mode="json")))
    assert ModelCard.read(path) == CARD
    path.write_text(yaml.safe_dump({**CARD.model_dump(mode="json"), "threshold": 2}))
    with pytest.raises(SpecError, match="threshold"):
        ModelCard.read(path)


# ---------------------------------------------------------------------------- tasks and receipts

tasks = st.builds(
    Task,
    st.sampled_from(list(Stage)),
    st.builds(Month, st.integers(1900, 2200), st.integers(1, 12)),
    st.builds(Tile, st.integers(0, 99_999), st.integers(0, 99_999)),
)


@given(tasks)
def test_a_task_reads_back_what_it_prints(task: Task) -> None:
    assert Task.parse(str(task)) == task
    assert "/".join(task.key) == str(task)


@pytest.mark.parametrize(
    "text",
    ["", "compose", "compose/2017-08", "paint/2017-08/x0001y0001", "compose/2017-8/x0001y0001",
     "compose/2017-08/x1y1", "compose/2017-08/x0001y0001/", "COMPOSE/2017-08/x0001y0001"],
)  # fmt: skip
def test_what_is_no_task_is_refused(text: str) -> None:
    with pytest.raises(SpecError):
        Task.parse(text)


@given(
    st.builds(
        Receipt,
        task=tasks.map(str), fingerprint=st.text(max_size=8),
        checksums=st.dictionaries(st.text(max_size=4), st.text(max_size=4)),
        scenes=st.lists(st.text(max_size=4), max_size=3).map(tuple),
        failed=st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=2),
        seconds=st.floats(0, 1e6),
    )
)  # fmt: skip
def test_a_receipt_reads_back_what_it_writes(receipt: Receipt) -> None:
    assert Receipt.model_validate_json(receipt.model_dump_json()) == receipt
    assert receipt.complete == (not receipt.failed)


# ----------------------------------------------------------------------------------------- cubes


def test_layouts_have_one_shard_for_each_tile_and_month(spec: RunSpec) -> None:
    cube = cube_layout(spec, simulated=False)
    assert cube.shape == (cube.window.ny * 64, cube.window.nx * 64)
    for variable in cube.variables:
        bands = (len(variable.bands),) if variable.bands else ()
        assert cube.shard_shape(variable) == (1, *bands, 64, 64)
    tile = spec.tiles()[0]
    region = cube.region(tile, Month(2017, 10))
    assert region["month"] == slice(2, 3)
    assert region["y"].stop - region["y"].start == 64
    per_pixel = 2 * len(S2_BANDS) + 4 * len(S1_BANDS) + 5 + 2
    assert cube.shard_bytes == 64 * 64 * per_pixel
    with pytest.raises(SpecError, match="not part of this period"):
        cube.region(tile, Month(2016, 1))


def test_a_layout_reads_back_what_it_writes_and_says_what_is_simulated(spec: RunSpec) -> None:
    for simulated in (True, False):
        for layout in (
            cube_layout(spec, simulated=simulated),
            urban_layout(spec, CARD, simulated=simulated),
            change_layout(spec, CARD, CARD, simulated=simulated),
        ):
            again = CubeSpec.model_validate_json(layout.model_dump_json())
            assert again.digest == layout.digest
            assert ("SIMULATED" in layout.attrs.get("comment", "")) == simulated
    simulated_card = CARD.model_copy(
        update={"training": CARD.training.model_copy(update={"simulated": True})}
    )
    forced = urban_layout(spec, simulated_card, simulated=False)
    assert "trained on SIMULATED" in forced.attrs["comment"]


def test_codes_of_a_quality_variable_are_named_and_zero_is_outside(spec: RunSpec) -> None:
    for variable in change_layout(spec, CARD, CARD, simulated=False).variables:
        if "flag_values" in variable.attrs:
            names = variable.attrs["flag_meanings"].split()
            assert len(names) == len(variable.attrs["flag_values"])
    quality = cube_layout(spec, simulated=False).variable("s2_quality")
    assert quality.fill == int(SensorQuality.outside) == 0
    assert quality.attrs["flag_meanings"].split()[0] == "outside"


# ------------------------------------------------------------------------------------------ jobs


def test_stages_follow_from_the_cards(spec: RunSpec, tmp_path: Path) -> None:
    assert job_of(spec).stages == (Stage.COMPOSE,)
    assert job_of(spec, "urban").stages == (Stage.COMPOSE, Stage.MAP, Stage.CHANGE)
    assert job_of(spec, "change").stages == (Stage.COMPOSE, Stage.CHANGE)
    single = load_run(run_file(tmp_path, period="2018-01"))
    assert job_of(single, "change").stages == (Stage.COMPOSE,)
    # A series of one month says that nothing has changed, and may grow.
    every = (Stage.COMPOSE, Stage.MAP, Stage.CHANGE)
    assert job_of(single, "urban", "change").stages == every


def test_tasks_are_every_month_of_every_tile_once(spec: RunSpec) -> None:
    job = job_of(spec, "urban", "change")
    for stage, months in ((Stage.COMPOSE, 16), (Stage.MAP, 16), (Stage.CHANGE, 16)):
        every = job.tasks(stage)
        assert len(set(every)) == len(every) == months * len(job.tiles)
        assert {task.stage for task in every} == {stage}
        assert {task.tile for task in every} == set(job.tiles)
    pairs = job_of(spec, "change").tasks(Stage.CHANGE)
    assert {task.month for task in pairs} == {Month(2018, 11)}


def test_upstream_is_what_a_task_reads_and_always_part_of_the_run(spec: RunSpec) -> None:
    job = job_of(spec, "urban", "change")
    known = {task for stage in job.stages for task in job.tasks(stage)}
    for stage in job.stages:
        for task in job.tasks(stage):
            above = job.upstream(task)
            assert set(above) <= known
            assert len(set(above)) == len(above)
            around = {t for t in task.tile.neighbours() if t in job.tiles}
            composed, mapped, changed = (
                {t for t in above if t.stage is s} for s in (Stage.COMPOSE, Stage.MAP, Stage.CHANGE)
            )
            if stage is Stage.COMPOSE:
                assert above == ()
            elif stage is Stage.MAP:
                assert composed == {Task(Stage.COMPOSE, task.month, t) for t in around}
                assert not mapped
            elif task.month == Month(2018, 11):
                months = {Month(2017, 8), Month(2018, 11)}
                assert composed == {Task(Stage.COMPOSE, m, t) for m in months for t in around}
                assert mapped == {Task(Stage.MAP, m, task.tile) for m in spec.period}
            else:
                assert not composed
                assert mapped == {Task(Stage.MAP, task.month, task.tile)}
            before = spec.period.index(task.month) - 1
            goes_on = stage is Stage.CHANGE and before >= 0
            months = {spec.period.members[before]} if goes_on else set()
            assert changed == {Task(Stage.CHANGE, m, task.tile) for m in months}
            assert job.earlier(task)[-1:] == tuple(changed)


def test_upstream_of_one_card_leaves_out_the_other(spec: RunSpec) -> None:
    task = job_of(spec, "change").tasks(Stage.CHANGE)[0]
    assert {t.stage for t in job_of(spec, "change").upstream(task)} == {Stage.COMPOSE}
    assert {t.stage for t in job_of(spec, "urban").upstream(task)} == {Stage.MAP, Stage.CHANGE}


def test_scenes_of_a_task_are_those_of_its_month_and_place(spec: RunSpec) -> None:
    here = spec.lattice.footprint(spec.tiles()[0]).wkt
    scenes = (
        make_scene("in", when="2018-01-05T00:00:00+00:00", footprint=here),
        make_scene("late", when="2018-02-05T00:00:00+00:00", footprint=here),
        make_scene(
            "away",
            when="2018-01-05T00:00:00+00:00",
            footprint="POLYGON ((0 0, 1 0, 1 1, 0 0))",
        ),
    )
    job = Job(spec=spec, scenes=SceneTable(search="x", scenes=scenes))
    task = Task(Stage.COMPOSE, Month(2018, 1), spec.tiles()[0])
    assert [scene.id for scene in job.scenes_of(task)] == ["in"]


def test_a_job_reads_back_what_it_writes(spec: RunSpec) -> None:
    job = job_of(spec, "urban", "change")
    again = Job.model_validate_json(job.model_dump_json())
    assert again.digest == job.digest
    assert again.tasks(Stage.CHANGE) == job.tasks(Stage.CHANGE)
    assert job.store_path(Stage.MAP) == Path("out/urban.zarr").resolve()


# ---------------------------------------------------------------------------------- fingerprints

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(plain, plain)
def test_fingerprints_are_equal_where_the_json_is(one: Any, other: Any) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (fingerprint(one) == fingerprint(other)) == same
    assert fingerprint(one) == fingerprint(json.loads(json.dumps(one)))


def test_the_order_of_keys_does_not_matter_and_that_of_values_does() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint([1, 2]) != fingerprint([2, 1])
    assert fingerprint({"a": "1"}) != fingerprint({"a": 1})


def test_a_fingerprint_is_the_same_in_every_process(spec: RunSpec) -> None:
    """Hash seeds differ between workers; what they agree on must not."""
    text = cube_layout(spec, simulated=False).model_dump_json()
    program = (
        "import sys; from cdscale.spec.cube import CubeSpec;"
        "print(CubeSpec.model_validate_json(sys.stdin.read()).digest)"
    )
    root = str(Path(__file__).parents[1])
    seen = {
        subprocess.run(
            [sys.executable, "-c", program], input=text, text=True, capture_output=True, check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": root},
        ).stdout.strip()
        for seed in ("1", "2")
    }  # fmt: skip
    assert seen == {cube_layout(spec, simulated=False).digest}


def test_known_fingerprints_do_not_drift() -> None:
    """Stores and receipts on disk know their spec by these: a change of one redoes all work."""
    assert fingerprint({"b": [1, 2.5, None, "é"], "a": True}) == KNOWN


KNOWN = "7b6857938fc964d26d7afd2a87d0f7947fcd41f02630dc98fdffa3cbba5d388a"


@pytest.mark.parametrize(
    "update",
    [{"name": "b"}, {"dtype": "int8"}, {"fill": 1}, {"fill": math.nan}, {"bands": ("x",)},
     {"scale": 0.5}, {"attrs": {"units": "1"}}],
)  # fmt: skip
def test_every_field_of_a_variable_counts(update: dict[str, Any]) -> None:
    variable = Variable(name="a", dtype="uint8", fill=0)
    assert fingerprint(variable) != fingerprint(variable.model_copy(update=update))


def test_values_are_frozen_and_know_their_fields() -> None:
    variable = Variable(name="a", dtype="uint8", fill=0)
    with pytest.raises(ValueError, match="frozen"):
        variable.name = "b"  # type: ignore[misc]
    with pytest.raises(SpecError, match="x: colour: Extra inputs"):
        Variable.check({"name": "a", "dtype": "u1", "fill": 0, "colour": 1}, where="x")
    assert issubclass(Variable, Frozen)
    assert issubclass(SpecError, CdscaleError)
