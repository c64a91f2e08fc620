"""The command line: whatever a user gets wrong ends with one clear message and status 2."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
import zarr

from cdscale import __version__, cli, cluster
from cdscale.months import Month
from cdscale.plan import freeze
from cdscale.run import prepared
from cdscale.spec.run import load_run
from tests.commands import INCOMPLETE, OK, WRONG, Cli, Result, refused
from tests.regions import (
    CORNER,
    GRID,
    SmallRun,
    box_of,
    plain_spec,
    state_of,
    write_card,
    write_spec,
)

MAY = Month(2022, 5)
BIG = "x" * 400


@pytest.fixture
def fields(region_catalogue: Path, tmp_path: Path) -> dict[str, Any]:
    """A good spec without networks, to be spoilt."""
    return plain_spec(region_catalogue, tmp_path / "out")


@pytest.fixture
def spoilt(fields: dict[str, Any], tmp_path: Path) -> Callable[..., Path]:
    """Writes the good spec with some fields replaced; None leaves one out."""

    def write(**changes: Any) -> Path:
        kept = {k: v for k, v in (fields | changes).items() if v is not None}
        return write_spec(tmp_path / "spec.yaml", kept)

    return write


# -------------------------------------------------------------------------------- spec, wrong


def test_no_spec(cdscale: Cli, tmp_path: Path) -> None:
    refused(cdscale("plan", tmp_path / "none.yaml"), "cannot read", "none.yaml: No such file")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"name: [unclosed\nperiod: x", "is not YAML at line 2"),
        (b"name: tiny\n\tperiod: 2022-04", "is not YAML at line 2"),
        (b"\xff\xfe\x00", "it is not UTF-8 text"),
        (b"", "is not a spec"),
        (b"- a\n- b\n", "is not a spec"),
        (b"just text", "is not a spec"),
    ],
    ids=["unclosed", "tab", "binary", "empty", "list", "text"],
)
def test_what_is_no_spec(cdscale: Cli, tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "spec.yaml"
    path.write_bytes(content)
    refused(cdscale("plan", path), "spec.yaml", said)


def test_a_folder_is_no_spec(cdscale: Cli, tmp_path: Path) -> None:
    refused(cdscale("plan", tmp_path), "Is a directory")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"perod": "2022-04"}, ["spec.yaml: perod", "Extra inputs are not permitted"]),
        ({"name": None}, ["spec.yaml: name", "Field required"]),
        ({"name": "a/b"}, ["spec.yaml: name"]),
        ({"catalogue": None}, ["spec.yaml: catalogue", "Field required"]),
        ({"grid": {"tile": 100, "chunk": 64}}, ["tile (100) must be a multiple of chunk (64)"]),
        ({"grid": {"tile": "wide"}}, ["spec.yaml: grid.tile", "integer"]),
        ({"grid": "atlantis"}, ["unknown grid", "europe", "'atlantis'"]),
        ({"collections": {}}, ["spec.yaml: collections"]),
        ({"collections": ["sentinel-2-l2a"]}, ["spec.yaml: collections", "dictionary"]),
        (
            {"collections": {"sentinel-2-l2a": "no-such-profile"}},
            ["unknown profile", "planetary-computer-sentinel-2-l2a", "'no-such-profile'"],
        ),
        ({"collections": {"a": "mine.yaml"}}, ["cannot read", "mine.yaml: No such file"]),
        ({"cube": {"s2_bands": ["B99"]}}, ["no collection has the bands B99", "B02"]),
        ({"cube": {"max_cloud_cover": 200}}, ["spec.yaml: cube.max_cloud_cover", "100"]),
        ({"workers": {"memory": "much"}}, ["workers.memory does not read", "4GiB", "much"]),
        ({"workers": {"count": -1}}, ["spec.yaml: workers.count"]),
        ({"models": {"urban": "x"}}, ["spec.yaml: models.urban"]),
        ({"models": {"urban": {"card": "no-such"}}}, ["no such model", "got no-such"]),
        ({"models": {"urban": {"card": "/no/x.card.yaml"}}}, ["no such model", "/no/x.card.yaml"]),
    ],
    ids=lambda value: (
        "-".join(f"{k} {v}" for k, v in value.items())[:40] if isinstance(value, dict) else ""
    ),
)
def test_a_field_that_is_wrong(
    cdscale: Cli, spoilt: Callable[..., Path], changes: dict[str, Any], said: list[str]
) -> None:
    refused(cdscale("plan", spoilt(**changes)), *said)


@pytest.mark.parametrize(
    ("period", "said"),
    [
        ("2017-13", ["not a month", "YYYY-MM", "'2017-13'"]),
        ("2017/08", ["not a month", "'2017/08'"]),
        ("2018-01..2017-12", ["runs backwards", "Write 2017-12..2018-01"]),
        ("2017-01..", ["not a month", "''"]),
        ("", ["not a month"]),
        (2017, ["period"]),
        ([], ["period"]),
    ],
    ids=str,
)
def test_a_period_that_is_wrong(
    cdscale: Cli, spoilt: Callable[..., Path], period: Any, said: list[str]
) -> None:
    refused(cdscale("plan", spoilt(period=period)), *said)
    if isinstance(period, str) and period:
        refused(cdscale("plan", spoilt(), "--period", period), *said)


POINT = {"type": "Point", "coordinates": [12.0, 51.4]}
PROJECTED = {
    "type": "Polygon",
    "coordinates": [
        [[4500000, 3100000], [4501000, 3100000], [4501000, 3101000], [4500000, 3100000]]
    ],
}


@pytest.mark.parametrize(
    ("area", "said"),
    [
        (None, ["area", "Field required"]),
        ("none.geojson", ["cannot read", "none.geojson: No such file"]),
        ([12.0, 51.0], ["area is not a box", "[west, south, east, north]"]),
        ([12.2, 51.0, 12.0, 51.2], ["west < east"]),
        ([150.0, -30.0, 150.1, -29.9], ["outside the grid europe", "150, -30, 150.1, -29.9"]),
        (POINT, ["area"]),
        (PROJECTED, ["area", "degrees"]),
        ({"type": "Nonsense"}, ["area", "GeoJSON"]),
    ],
    ids=["none", "no file", "half a box", "turned", "outside", "point", "projected", "nonsense"],
)
def test_an_area_that_is_wrong(
    cdscale: Cli, spoilt: Callable[..., Path], area: Any, said: list[str]
) -> None:
    refused(cdscale("plan", spoilt(area=area)), *said)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("not json: [", "is not YAML"),
        ('{"features": 3}', "GeoJSON"),
        (json.dumps(PROJECTED), "degrees"),
        (json.dumps(POINT), "area.geojson"),
    ],
    ids=["broken", "foreign", "projected", "point"],
)
def test_an_area_file_that_is_wrong(
    cdscale: Cli, spoilt: Callable[..., Path], tmp_path: Path, content: str, said: str
) -> None:
    path = tmp_path / "area.geojson"
    path.write_text(content, encoding="utf-8")
    refused(cdscale("plan", spoilt(), "--area", path), "area.geojson", said)


# ------------------------------------------------------------------------- catalogue, wrong


def test_no_catalogue(cdscale: Cli, spoilt: Callable[..., Path], tmp_path: Path) -> None:
    refused(cdscale("plan", spoilt(catalogue="nowhere")), "cannot read", "nowhere")
    (tmp_path / "catalog.json").write_text('{"type": "Dog"}')
    refused(cdscale("plan", spoilt(catalogue="catalog.json")), "is not a STAC catalogue", "'Dog'")


def test_no_such_collection(cdscale: Cli, spoilt: Callable[..., Path]) -> None:
    collections = {"sentinel-9": "planetary-computer-sentinel-2-l2a"}
    message = refused(cdscale("plan", spoilt(collections=collections)))
    assert "has no collection sentinel-9; expected one of sentinel-1-rtc, sentinel-2-l2a" in message


def test_an_empty_search_names_the_months_that_there_are(
    cdscale: Cli, spoilt: Callable[..., Path]
) -> None:
    refused(
        cdscale("plan", spoilt(period="2017-01..2017-03")),
        "found no scene",
        "in 2017-01..2017-03",
        "has scenes in 2022-03..2022-06",
    )


def test_a_search_beside_the_scenes_is_empty(cdscale: Cli, spoilt: Callable[..., Path]) -> None:
    refused(cdscale("plan", spoilt(area=[2.0, 50.0, 2.01, 50.01])), "found no scene", "Check area")


# ---------------------------------------------------------------------------- output, wrong


@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_file_in_the_way(
    cdscale: Cli, spoilt: Callable[..., Path], tmp_path: Path, command: str
) -> None:
    (tmp_path / "out").write_text("in the way")
    result = cdscale(command, spoilt())
    if command == "run":
        assert "cannot write to" in result.err
        assert "--output" in result.err
    assert result.code == (WRONG if command == "run" else OK)
    assert "Traceback" not in result.err


def test_a_folder_that_nobody_can_make(cdscale: Cli, spoilt: Callable[..., Path]) -> None:
    # Nothing can be made there, not even by root; it shows as a full disk, or when it is tried.
    refused(cdscale("run", spoilt(), "--output", "/proc/cdscale"), "/proc/cdscale", "--output")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(
    cdscale: Cli, spoilt: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    for output in (tmp_path / "locked", tmp_path / "locked" / "below"):
        refused(cdscale("run", spoilt(output=str(output))), "cannot write to", "Permission denied")


def test_a_store_of_another_spec(cdscale: Cli, spoilt: Callable[..., Path], tmp_path: Path) -> None:
    with prepared(freeze(load_run(spoilt()))):
        pass
    for command in ("plan", "run"):
        said = ["cube.zarr was made with another spec: its title differs", "--output"]
        refused(cdscale(command, spoilt(name="other")), *said)


def test_another_run_at_work(cdscale: Cli, spoilt: Callable[..., Path], tmp_path: Path) -> None:
    spec = spoilt()
    with prepared(freeze(load_run(spec))):
        result = cdscale("run", spec)
    refused(result, f"another run is at work in {tmp_path / 'out'}")


# ---------------------------------------------------------------------------- models, wrong


def test_a_model_that_refuses(cdscale: Cli, spoilt: Callable[..., Path], tmp_path: Path) -> None:
    card = write_card(tmp_path / "cards", "urban", s2_bands=["B04", "B11"])
    models = {"urban": {"card": str(card)}}
    refused(cdscale("plan", spoilt(models=models)), "tiny-urban cannot read this cube", "B11")


def test_a_model_without_weights(cdscale: Cli, spoilt: Callable[..., Path], tmp_path: Path) -> None:
    card = write_card(tmp_path / "cards", "urban")
    (tmp_path / "cards" / "tiny-urban.safetensors").unlink()
    models = {"urban": {"card": str(card)}}
    refused(cdscale("plan", spoilt(models=models)), "the weights of model tiny-urban", "No such")


def test_a_damaged_card(cdscale: Cli, spoilt: Callable[..., Path], tmp_path: Path) -> None:
    card = tmp_path / "my.card.yaml"
    card.write_text("name: my\n")
    refused(cdscale("plan", spoilt(models={"urban": {"card": str(card)}})), "my.card.yaml: version")


# --------------------------------------------------------------------------- cluster, wrong


def test_a_cluster_that_is_none(cdscale: Cli, spoilt: Callable[..., Path]) -> None:
    refused(
        cdscale("run", spoilt(), "--cluster", "nonsense"), "unknown cluster", "local", "'nonsense'"
    )


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "http://127.0.0.1:1", "tcp://"])
def test_a_cluster_that_does_not_answer(
    cdscale: Cli, spoilt: Callable[..., Path], address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.3)
    result = cdscale("run", spoilt(), "--cluster", address)
    refused(result, f"no Dask scheduler answers at {address}", "--cluster local")


def test_no_gpu(cdscale: Cli, spoilt: Callable[..., Path]) -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("there is one")
    refused(cdscale("run", spoilt(), "--cluster", "cuda"), "cannot start workers on GPUs here")


# ------------------------------------------------------------------------------ query, wrong


@pytest.fixture
def store(small_run: SmallRun) -> Path:
    return small_run.output / "cube.zarr"


def degrees() -> tuple[str, str]:
    west, south, east, north = _bounds()
    return f"{(west + east) / 2:.6f}", f"{(south + north) / 2:.6f}"


def _bounds() -> tuple[float, float, float, float]:
    from shapely.geometry import shape

    from tests.regions import west_half

    bounds: tuple[float, float, float, float] = shape(west_half()).bounds
    return bounds


def test_a_point_outside(cdscale: Cli, store: Path) -> None:
    refused(cdscale("query", "point", store, "--lon", 2, "--lat", 50), "lies outside", "degrees")
    refused(cdscale("query", "point", store, "--lon", 51, "--lat", 122), "not a place")


def test_an_area_outside(cdscale: Cli, store: Path, tmp_path: Path) -> None:
    where = tmp_path / "area.geojson"
    where.write_text(json.dumps(box_of(1, 1)))
    assert CORNER in GRID
    refused(cdscale("query", "area", store, where), "the area has no pixel in")
    refused(cdscale("query", "area", store, tmp_path / "none"), "cannot read")
    where.write_text(json.dumps(PROJECTED))
    refused(cdscale("query", "area", store, where), "area.geojson", "degrees")


def test_no_store(cdscale: Cli, tmp_path: Path) -> None:
    place = ("--lon", 12, "--lat", 51)
    refused(cdscale("query", "point", tmp_path / "none", *place), "there is no Zarr store at")
    refused(cdscale("query", "point", tmp_path, *place), "there is no Zarr store at")
    (tmp_path / "file").write_text("text")
    refused(cdscale("query", "point", tmp_path / "file", *place), "there is no Zarr store at")
    (tmp_path / "run" / "urban.zarr").mkdir(parents=True)
    refused(cdscale("query", "point", tmp_path / "run", *place), "It holds urban.zarr: name one")
    refused(
        cdscale("export", "cog", tmp_path / "run", "--out", tmp_path),
        "It holds urban.zarr: name one",
    )
    zarr.open_group(tmp_path / "other.zarr", mode="w")
    refused(cdscale("query", "point", tmp_path / "other.zarr", *place), "not a store of cdscale")
    zarr.create_array(tmp_path / "array.zarr", shape=(1,), dtype="u1")
    refused(cdscale("query", "point", tmp_path / "array.zarr", *place), "array.zarr")


# ------------------------------------------------------------------------- wrong at the shell


@pytest.mark.parametrize(
    "arguments",
    [
        ["fly"],
        ["plan"],
        ["plan", "a.yaml", "--nonsense"],
        ["plan", "a.yaml", "b.yaml"],
        ["query", "point", "cube.zarr", "--lon", "east", "--lat", "51"],
        ["query", "point", "cube.zarr", "--lon", "12"],
        ["query", "volume"],
        ["simulate", "x", "--size", "big"],
    ],
    ids=" ".join,
)
def test_usage(cdscale: Cli, arguments: list[str]) -> None:
    result = cdscale(*arguments)
    assert (result.code, result.out) == (WRONG, "")
    assert "Usage: " in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    "arguments", [["--size", "100"], ["--size", "257"], ["--seed", "-1"], ["--period", "never"]]
)
def test_a_region_that_cannot_be_simulated(
    cdscale: Cli, tmp_path: Path, arguments: list[str]
) -> None:
    refused(cdscale("simulate", tmp_path / "region", *arguments))
    assert not (tmp_path / "region").exists()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ([], "From STAC catalogues to continental change maps."),
        (["plan"], "Price a run"),
        (["run"], "--cluster"),
        (["status"], "What a run has done"),
        (["query"], "Ask a store"),
        (["query", "point"], "--lon"),
        (["query", "area"], "GeoPackage"),
        (["simulate"], "SIMULATED"),
        (["demo"], "--output"),
    ],
    ids=lambda value: " ".join(value) or "cdscale" if isinstance(value, list) else "",
)
def test_help(cdscale: Cli, command: list[str], said: str) -> None:
    result = cdscale(*command, "--help")
    assert (result.code, result.err) == (OK, "")
    assert said in result.out


def test_help_names_every_command(cdscale: Cli) -> None:
    text = cdscale("--help").out
    names = {c.name or c.callback.__name__ for c in cli.app.registered_commands if c.callback}
    assert {"plan", "run", "status", "simulate", "demo"} <= names
    assert [name for name in names | {"query"} if name not in text] == []


def test_version(cdscale: Cli) -> None:
    assert cdscale("--version") == Result(OK, f"{__version__}\n", "")


# --------------------------------------------------------------------------------- what is said


def test_messages_keep_their_brackets(cdscale: Cli, tmp_path: Path) -> None:
    for name in ("[bold]x.yaml", "[x].yaml", "a[/]b.yaml"):
        refused(cdscale("plan", tmp_path / name), name)


def test_messages_are_one_line_however_long(cdscale: Cli, tmp_path: Path) -> None:
    refused(cdscale("plan", tmp_path / "deep" / BIG[:200] / "spec.yaml"), BIG[:200])


def as_json(result: Result) -> Any:
    """What was printed: JSON, and nothing else on any of both streams."""
    assert (result.code, result.err) == (OK, "")
    assert result.out.count("\n") > 1
    return json.loads(result.out)


def test_json(cdscale: Cli, small_run: SmallRun, store: Path, tmp_path: Path) -> None:
    spec = small_run.output.parent / "spec.yaml"
    plan = as_json(cdscale("plan", spec, "--json"))
    assert (plan["tiles"], plan["stages"]["compose"]["todo"]) == (2, 0)
    status = as_json(cdscale("status", spec, "--json"))
    assert status["complete"] is True
    lon, lat = degrees()
    answer = as_json(cdscale("query", "point", store, "--lon", lon, "--lat", lat, "--json"))
    assert [month["month"] for month in answer["months"]] == ["2022-04", "2022-05"]
    where = tmp_path / "area.geojson"
    where.write_text(json.dumps(yaml.safe_load(spec.read_text())["area"]))
    answer = as_json(cdscale("query", "area", store, where, "--json"))
    assert 3 < answer["area_km2"] < 3.3


def test_answers_for_people(cdscale: Cli, small_run: SmallRun, store: Path) -> None:
    spec = small_run.output.parent / "spec.yaml"
    plan = cdscale("plan", spec)
    assert (plan.code, plan.err) == (OK, "")
    assert "SIMULATED" in plan.out
    assert "2 tiles of 128 px" in plan.out
    status = cdscale("status", spec)
    assert (status.code, status.err) == (OK, "")
    assert status.out.split("\n")[0] == "compose  4 of 4 tasks done"
    lon, lat = degrees()
    answer = cdscale("query", "point", store, "--lon", lon, "--lat", lat)
    assert (answer.code, answer.err) == (OK, "")
    assert "comment: Made from SIMULATED scenes" in answer.out
    assert "s2_quality: " in answer.out


def test_a_finished_run_does_nothing_once_it_has_its_report(
    cdscale: Cli, small_run: SmallRun
) -> None:
    spec = small_run.output.parent / "spec.yaml"
    assert cdscale("run", spec).code == OK
    assert (small_run.output / "report.html").is_file()
    before = state_of(small_run.output)
    result = cdscale("run", spec)
    assert (result.code, result.err) == (OK, "")
    assert "Everything is done" in result.out
    assert state_of(small_run.output) == before


def test_options_replace_fields(cdscale: Cli, spoilt: Callable[..., Path], tmp_path: Path) -> None:
    where = tmp_path / "area.geojson"
    where.write_text(json.dumps(yaml.safe_load(spoilt().read_text())["area"]))
    spec = spoilt(area=[2.0, 50.0, 2.01, 50.01])
    options = ("--area", where, "--period", "2022-06", "--output", tmp_path / "elsewhere")
    plan = as_json(cdscale("plan", spec, *options, "--json"))
    assert (plan["months"], plan["tiles"]) == ("2022-06", 2)
    assert plan["output"] == str(tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()


def test_a_run_with_a_scene_missing_ends_with_status_1(
    cdscale: Cli, spoilt: Callable[..., Path], threads: str
) -> None:
    spec = spoilt(period="2022-04")
    job = freeze(load_run(spec))
    scene = next(s for s in job.scenes.scenes if s.sensor == "s1")
    hidden = Path(scene.assets["vv"].href)
    content = hidden.read_bytes()
    try:
        hidden.write_bytes(content[: len(content) // 2])
        result = cdscale("run", spec, "--cluster", threads)
    finally:
        hidden.write_bytes(content)
    assert result.code == INCOMPLETE
    assert f"without {scene.id}: scene {scene.id}" in result.err
    assert "The run is not complete" in result.err
    assert "2 tasks done" in result.out
    status = cdscale("status", spec)
    said = "compose  0 of 2 tasks done; not published: 2022-04\n"
    assert (status.code, status.out) == (OK, said)
    assert f"without {scene.id}" in status.err
    # The scene is whole again: the next run is complete.
    result = cdscale("run", spec, "--cluster", threads)
    assert (result.code, "2 tasks done" in result.out) == (OK, True)


# ----------------------------------------------------- selections, retries, what is missing


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--months", "2030-01"], ["months that the run does not have", "2022-04..2022-05"]),
        (["--months", "soon"], ["not a month", "'soon'"]),
        (["--tiles", "x0001y0001"], ["tiles that the run does not have", "got x0001y0001"]),
        (["--tiles", "here"], ["not a tile", "like x0123y0045", "'here'"]),
        (["--redo", "--retry-failed"], ["do not go together", "Choose one"]),
    ],
    ids=" ".join,
)
def test_a_selection_that_is_wrong(
    cdscale: Cli, spoilt: Callable[..., Path], tmp_path: Path, options: list[str], said: list[str]
) -> None:
    refused(cdscale("run", spoilt(), *options), *said)
    assert not (tmp_path / "out").exists()


def test_a_run_in_parts(
    cdscale: Cli, spoilt: Callable[..., Path], tmp_path: Path, threads: str
) -> None:
    spec = spoilt()
    west = freeze(load_run(spec)).tiles[0]
    part = ("--months", "2022-05", "--tiles", west, "--cluster", threads)
    result = cdscale("run", spec, *part)
    assert result.code == OK
    assert "1 tasks done" in result.out
    assert "3 tasks beside what was selected are not done" in result.out
    result = cdscale("run", spec, *part)
    assert (result.code, "Everything asked for is done" in result.out) == (OK, True)
    status = cdscale("status", spec)
    assert status.out == "compose  1 of 4 tasks done; not published: 2022-04..2022-05\n"
    shards = state_of(tmp_path / "out" / "cube.zarr")
    result = cdscale("run", spec, *part, "--redo")
    assert (result.code, "1 tasks done" in result.out) == (OK, True)
    again = state_of(tmp_path / "out" / "cube.zarr")
    assert {name for name in again if again[name][0] != shards[name][0]} != set()
    assert {n: sha for n, (_, sha) in again.items()} == {n: sha for n, (_, sha) in shards.items()}
    # What readers get, and what they are told they do not.
    store = tmp_path / "out" / "cube.zarr"
    place = ("query", "point", store, "--lon", degrees()[0], "--lat", degrees()[1])
    answer = as_json(cdscale(*place, "--json"))
    assert (answer["months"], answer["unpublished"]) == ([], ["2022-04", "2022-05"])
    assert cdscale(*place).out.endswith("not published: 2022-04..2022-05\n")
    answer = as_json(cdscale(*place, "--unpublished", "--json"))
    assert len(answer["months"]) == 2
    # A plain run does the rest.
    assert cdscale("run", spec, "--cluster", threads).code == OK
    assert cdscale("status", spec).out == "compose  4 of 4 tasks done\n"
    answer = as_json(cdscale(*place, "--json"))
    assert (len(answer["months"]), answer["unpublished"]) == (2, [])


def test_a_selection_says_what_it_needs_beside(
    cdscale: Cli, small_run: SmallRun, tmp_path: Path, threads: str
) -> None:
    spec = small_run.spec(tmp_path)
    west = freeze(load_run(spec)).tiles[0]
    options = ("--months", "2022-04", "--tiles", west, "--cluster", threads)
    result = cdscale("run", spec, *options)
    assert result.code == OK, result.err
    assert "made from 1 more tasks that are not done" in result.out
    assert "4 tasks done" in result.out


def test_what_is_missing_and_trying_it_again(
    cdscale: Cli, spoilt: Callable[..., Path], tmp_path: Path, threads: str
) -> None:
    spec = spoilt()
    job = freeze(load_run(spec))
    scene = next(s for s in job.scenes.scenes if s.sensor == "s1" and s.serves(MAY))
    hidden = Path(scene.assets["vv"].href)
    content = hidden.read_bytes()
    try:
        hidden.unlink()
        result = cdscale("run", spec, "--cluster", threads)
    finally:
        hidden.write_bytes(content)
    assert result.code == INCOMPLETE
    assert "--retry-failed" in result.err
    found = as_json(cdscale("status", spec, "--missing", "--json"))
    assert (found["name"], found["unplaced"]) == ("tiny", {})
    assert found["totals"]["states"] == {"done": 2, "incomplete": 2}
    for row in found["tile_months"]:
        lists = [*row["used"], *row["unused"], *row["failed"]]
        assert sorted(lists) == sorted(row["expected"])
        assert list(row["failed"]) == ([scene.id] if row["month"] == "2022-05" else [])
    table = cdscale("status", spec, "--missing", "--geoparquet", tmp_path / "what.parquet")
    assert (table.code, table.err) == (OK, "")
    assert (tmp_path / "what.parquet").read_bytes()[:4] == b"PAR1"
    assert (tmp_path / "out" / "completeness.parquet").is_file()
    lines = [line for line in table.out.splitlines() if "incomplete" in line and "2022-05" in line]
    assert len(lines) == 2
    assert all(f"without {scene.id}: " in line for line in lines)
    assert "2022-04  " not in table.out
    assert "4 tiles and months: 2 done, 2 incomplete; 2 lack something" in table.out
    # Only those two, once the scene is there again; then nothing is left to try.
    result = cdscale("run", spec, "--retry-failed", "--cluster", threads)
    assert (result.code, "2 tasks done" in result.out) == (OK, True)
    assert "2 lack something" not in cdscale("status", spec, "--missing").out
    result = cdscale("run", spec, "--retry-failed", "--cluster", "tcp://127.0.0.1:1")
    assert (result.code, "Everything asked for is done" in result.out) == (OK, True)


def test_a_file_that_cannot_be_written_is_said(cdscale: Cli, small_run: SmallRun) -> None:
    spec = small_run.output.parent / "spec.yaml"
    refused(cdscale("status", spec, "--geoparquet", "/proc/x.parquet"), "cannot write /proc/x")


# ----------------------------------------------------------------------------- the executable


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["plan", "none.yaml"], WRONG, "error: cannot read none.yaml: No such file or directory."),
        (["fly"], WRONG, "No such command 'fly'"),
    ],
)
def test_the_executable(tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    program = Path(sys.executable).with_name("cdscale")
    ended = subprocess.run(
        [program, *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (code, "")
    assert said in ended.stderr


def test_letters_that_a_terminal_lacks_end_no_command(
    small_run: SmallRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    monkeypatch.setattr(sys, "stdout", told)
    monkeypatch.setattr(sys, "argv", ["cdscale", "plan", str(small_run.spec(tmp_path))])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == OK
    told.seek(0)
    assert r"km\xb2" in told.read()


# ------------------------------------------------------------------------------ the system refuses


def test_a_disk_that_fills_up_is_one_sentence(
    cdscale: Cli, spoilt: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/disk/out/run/x.failed")

    monkeypatch.setattr(cli.runs, "freeze", full)
    done = cdscale("run", spoilt())
    assert done.code == 1
    (message,) = done.err.strip().splitlines()
    assert "refused /disk/out/run/x.failed: No space left on device. See to the disk" in message


def test_a_ledger_for_a_folder_is_refused(
    cdscale: Cli, spoilt: Callable[..., Path], tmp_path: Path
) -> None:
    for place in (tmp_path, Path()):
        done = cdscale("status", spoilt(), "--geoparquet", place)
        refused(done, "cannot write", "it is a folder")
