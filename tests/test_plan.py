"""The plan: what is frozen, what is refused, and what is left to do shrinks as receipts come."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from shapely.geometry import box

from cdscale import scenes
from cdscale.errors import ModelError, PlanError, SpecError, StoreError, UserError
from cdscale.plan import Plan, check, freeze, price, task_memory
from cdscale.run import prepared
from cdscale.spec.job import Job
from cdscale.spec.run import RunSpec
from cdscale.spec.scene import SceneTable, passes
from cdscale.spec.task import Stage
from cdscale.store import create, write_json
from cdscale.survey import Survey
from tests.regions import a_card, made_job, made_scenes, made_spec, pretend, write_card

CARDS = {"urban": a_card("urban", halo=16), "change": a_card("change", halo=16)}
GB = 10**9


def priced(job: Job, *, workers: int = 2, memory: int = 4 * GB) -> Plan:
    return price(job, workers=workers, memory=memory)


# --------------------------------------------------------------------------------------- price


def test_a_new_run_has_everything_to_do(tmp_path: Path) -> None:
    plan = priced(made_job(tmp_path, cards=CARDS))
    assert {name: (s.tasks, s.done, s.todo) for name, s in plan.stages.items()} == {
        "compose": (4, 0, 4),
        "map": (4, 0, 4),
        "change": (4, 0, 4),
    }
    assert (plan.tiles, plan.tile_px, plan.month_count) == (2, 64, 2)
    assert plan.area_km2 == pytest.approx(2 * 0.64**2, abs=1e-3)
    assert plan.scenes == {"s1": 2, "s2": 2}
    assert not plan.simulated


def test_members_and_orientations_cost_as_many_passes(tmp_path: Path) -> None:
    one = priced(made_job(tmp_path / "one", cards=CARDS)).stages["change"].cpu_seconds
    card = CARDS["change"].model_copy(update={"members": 4, "tta": "d4"})
    many = priced(made_job(tmp_path / "many", cards=CARDS | {"change": card}))
    assert many.stages["change"].cpu_seconds == pytest.approx(32 * one, abs=32 * 0.05)


def test_reads_are_counted_asset_by_asset(tmp_path: Path) -> None:
    plan = priced(made_job(tmp_path))
    # In each of four tasks: two bands and a mask of one optical scene, one band of a radar scene.
    assert plan.stages["compose"].bytes_read == 4 * (3 + 1) * 64 * 64 * 2
    assert plan.bytes_read == plan.stages["compose"].bytes_read


@pytest.mark.parametrize("seed", range(8))
def test_counting_at_once_is_counting_task_by_task(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    job = made_job(tmp_path / "job", nx=5, ny=4)
    south, north = (job.footprint(tile) for tile in (job.tiles[-1], job.tiles[0]))
    west, top = north.bounds[0], north.bounds[3]
    wide, high = south.bounds[2] - west, top - south.bounds[1]
    found = []
    for number in range(rng.randrange(12)):
        x, y = west + rng.uniform(-1, 1) * wide, top - rng.uniform(-1, 1) * high
        where = box(x, y - rng.uniform(0.1, 1) * high, x + rng.uniform(0.1, 1) * wide, y)
        scene = rng.choice(made_scenes())
        changes = {
            "id": f"{number}",
            "footprint": where.wkt,
            "datatake": rng.choice(["", "a", "b"]),
        }
        found.append(scene.model_copy(update=changes))
    table = SceneTable(search="made", scenes=tuple(found))
    mine = Job(spec=job.spec, scenes=table, cards=job.cards)
    tasks = mine.tasks(Stage.COMPOSE)
    each = [mine.scenes_of(task) for task in tasks]
    assets = sum(len(s.assets) + (s.mask is not None) for scenes in each for s in scenes)
    # Corners of what a tile reaches are rounded more coarsely when there are many.
    counted = priced(mine).stages["compose"].bytes_read / (64 * 64 * 2)
    assert counted == pytest.approx(assets, rel=0.03, abs=4)
    for sensor, most in Survey.of(mine).busiest.items():
        numbers = [len(passes(s for s in scenes if s.sensor == sensor)) for scenes in each]
        assert max(numbers) - 1 <= most <= max(numbers)


def test_what_is_left_shrinks_as_receipts_come(tmp_path: Path) -> None:
    job = made_job(tmp_path, cards=CARDS)
    before = priced(job)
    pretend(job, Stage.COMPOSE)
    composed = priced(job)
    pretend(job, Stage.MAP, Stage.CHANGE)
    after = priced(job)
    assert (composed.stages["compose"].done, composed.stages["compose"].todo) == (4, 0)
    assert composed.stages["map"] == before.stages["map"]
    assert before.bytes_read > composed.bytes_read > after.bytes_read == 0
    assert before.bytes_written > composed.bytes_written > after.bytes_written == 0
    assert before.seconds > composed.seconds > after.seconds == 0


def test_seconds_are_learnt_from_what_was_done(tmp_path: Path) -> None:
    job = made_job(tmp_path)
    first, *_ = job.tasks(Stage.COMPOSE)
    pretend(job, seconds=10.0)
    (job.ledger_folder / f"{first}.json").unlink()
    assert priced(job, workers=1).seconds == 10.0
    assert priced(job, workers=2).seconds == 5.0


def test_pricing_writes_nothing(tmp_path: Path) -> None:
    priced(made_job(tmp_path / "out", cards=CARDS))
    assert list(tmp_path.iterdir()) == []


def test_a_store_of_another_spec_is_refused(tmp_path: Path) -> None:
    job = made_job(tmp_path)
    create(job.store_path(Stage.COMPOSE), job.layouts[Stage.COMPOSE])
    priced(job)
    with pytest.raises(StoreError, match=r"cube\.zarr was made with another spec: its title"):
        priced(made_job(tmp_path, name="other"))


def test_a_plan_is_plain_data(tmp_path: Path) -> None:
    plan = priced(made_job(tmp_path, cards=CARDS))
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


# ------------------------------------------------------------------------------------- refusals


def test_a_worker_too_small_is_refused(tmp_path: Path) -> None:
    job = made_job(tmp_path, cards=CARDS)
    check(priced(job, memory=4 * GB))
    with pytest.raises(PlanError, match=r"does not fit into a worker's memory.*workers\.memory"):
        check(priced(job, memory=GB // 2))


def test_memory_of_what_is_done_is_not_asked_for(tmp_path: Path) -> None:
    job = made_job(tmp_path)
    pretend(job)
    check(priced(job, memory=GB // 2))


@pytest.mark.parametrize("stage", list(Stage))
def test_a_larger_tile_needs_more_memory(tmp_path: Path, stage: Stage) -> None:
    small = made_job(tmp_path, cards=CARDS)
    large = made_job(tmp_path, cards=CARDS, grid={"preset": "europe", "tile": 512, "chunk": 32})
    assert task_memory(large, stage) > task_memory(small, stage) > 0


class _Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_a_disk_too_small_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = made_job(tmp_path / "not" / "there" / "yet")
    asked: list[Path] = []

    def usage(path: Path) -> _Usage:
        asked.append(path)
        return _Usage(1, 1, 1000)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    plan = priced(job)
    assert (plan.disk_free, asked) == (1000, [tmp_path])
    with pytest.raises(PlanError, match="do not fit on the disk of .*yet.*Choose another --output"):
        check(plan)
    little = plan.model_copy(update={"bytes_written": 4_820_000, "disk_free": 1_540_000})
    with pytest.raises(PlanError, match=r"expected 4\.8 MB free; got 1\.5 MB"):
        check(little)


def test_a_disk_that_does_not_answer_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def usage(path: Path) -> _Usage:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(shutil, "disk_usage", usage)
    with pytest.raises(StoreError, match="Input/output error"):
        priced(made_job(tmp_path))


# --------------------------------------------------------------------------------------- freeze


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[RunSpec]:
    """What the catalogue was asked; it answers with made-up scenes."""
    asked: list[RunSpec] = []

    def search(spec: RunSpec) -> SceneTable:
        asked.append(spec)
        return SceneTable(search=scenes.search_key(spec), scenes=made_scenes(str(spec.period)))

    monkeypatch.setattr(scenes, "search", search)
    return asked


def keep(job: Job) -> None:
    write_json(job.spec.folder / "run" / "job.json", job)


def test_a_new_run_asks_the_catalogue_once(tmp_path: Path, searches: list[RunSpec]) -> None:
    spec = made_spec(tmp_path)
    job = freeze(spec)
    assert searches == [spec]
    assert job.scenes.scenes == made_scenes()
    assert job.stages == (Stage.COMPOSE,)


def test_a_run_that_has_begun_asks_no_catalogue(tmp_path: Path, searches: list[RunSpec]) -> None:
    job = freeze(made_spec(tmp_path))
    with prepared(job):
        pass
    again = freeze(made_spec(tmp_path))
    assert (len(searches), again.digest) == (1, job.digest)
    assert len(freeze(made_spec(tmp_path), refresh=True).scenes.scenes) == 4
    assert len(searches) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"period": "2022-04..2022-06"},
        {"nx": 3},
        {"cube": {"s2_bands": ["B04", "B08"], "s1_bands": ["vv"], "max_cloud_cover": 10}},
        {"cube": {"s2_bands": ["B04"], "s1_bands": ["vv"]}},
        {"catalogue": "elsewhere"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_another_search_is_asked_anew(
    tmp_path: Path, searches: list[RunSpec], changes: dict[str, Any]
) -> None:
    keep(freeze(made_spec(tmp_path)))
    freeze(made_spec(tmp_path, **changes))
    assert len(searches) == 2


def test_what_is_no_search_is_not_asked_anew(tmp_path: Path, searches: list[RunSpec]) -> None:
    keep(freeze(made_spec(tmp_path)))
    freeze(made_spec(tmp_path, name="renamed", workers={"count": 5}))
    assert len(searches) == 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"spec": 1}'])
def test_a_damaged_record_is_asked_anew(tmp_path: Path, searches: list[RunSpec], text: str) -> None:
    keep(freeze(made_spec(tmp_path)))
    (tmp_path / "run" / "job.json").write_text(text, encoding="utf-8")
    freeze(made_spec(tmp_path))
    assert len(searches) == 2


# ------------------------------------------------------------------------------- cards, refused


def with_model(
    tmp_path: Path, task: str, *, force: bool = False, tile: int = 128, **changes: Any
) -> RunSpec:
    """A spec with one network, whose card was changed."""
    card = write_card(tmp_path / "cards", task, **changes)
    choice = {task: {"card": str(card), "force": force}}
    grid = {"preset": "europe", "tile": tile, "chunk": 32}
    return made_spec(tmp_path / "out", nx=1, models=choice, grid=grid)


def test_simulated_weights_refuse_real_scenes_unless_forced(
    tmp_path: Path, searches: list[RunSpec]
) -> None:
    with pytest.raises(ModelError, match="trained on simulated data only and refuses real scenes"):
        freeze(with_model(tmp_path, "urban"))
    job = freeze(with_model(tmp_path, "urban", force=True))
    comment = job.layouts[Stage.MAP].attrs["comment"]
    assert "SIMULATED" in comment
    assert "comment" not in job.layouts[Stage.COMPOSE].attrs


def test_simulated_weights_take_simulated_scenes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def search(spec: RunSpec) -> SceneTable:
        found = tuple(s.model_copy(update={"simulated": True}) for s in made_scenes())
        return SceneTable(search="simulated", scenes=found)

    monkeypatch.setattr(scenes, "search", search)
    assert freeze(with_model(tmp_path, "change")).stages == (Stage.COMPOSE, Stage.CHANGE)


@pytest.mark.parametrize(("task", "other"), [("urban", "change"), ("change", "urban")])
def test_a_network_of_another_task_is_refused_before_the_search(
    tmp_path: Path, searches: list[RunSpec], task: str, other: str
) -> None:
    card = write_card(tmp_path / "cards", other)
    spec = made_spec(tmp_path / "out", nx=1, models={task: {"card": str(card), "force": True}})
    with pytest.raises(ModelError, match=rf"models\.{task}: .*whose task is {task}; got {other}"):
        freeze(spec)
    assert searches == []


def test_a_cube_without_the_bands_of_a_network_is_refused(
    tmp_path: Path, searches: list[RunSpec]
) -> None:
    with pytest.raises(ModelError, match="cannot read this cube.*a cube without B12"):
        freeze(with_model(tmp_path, "change", force=True, s2_bands=["B04", "B12"]))


def test_a_tile_smaller_than_the_halo_is_refused(tmp_path: Path, searches: list[RunSpec]) -> None:
    with pytest.raises(PlanError, match=r"does not fit tiles of 64 pixels.*grid\.tile"):
        freeze(with_model(tmp_path, "change", force=True, tile=64))


def test_a_tile_that_is_no_multiple_of_the_stride_is_refused(
    tmp_path: Path, searches: list[RunSpec]
) -> None:
    with pytest.raises(PlanError, match="a multiple of 96; got 128"):
        freeze(with_model(tmp_path, "change", force=True, stride=96))


def test_a_card_of_an_unknown_family_is_refused(tmp_path: Path, searches: list[RunSpec]) -> None:
    spec = with_model(tmp_path, "urban", force=True)
    card = Path(spec.models.urban.card) if spec.models.urban else tmp_path
    lines = card.read_text(encoding="utf-8").splitlines()
    lines = ["family: a-new-one" if line.startswith("family:") else line for line in lines]
    card.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(ModelError, match="family of the network; expected one of .*a-new-one"):
        freeze(spec)
    assert searches == []


def test_an_output_in_a_store_is_refused(tmp_path: Path, searches: list[RunSpec]) -> None:
    (tmp_path / "cube.zarr").mkdir()
    (tmp_path / "cube.zarr" / "zarr.json").write_text("{}")
    with pytest.raises(StoreError, match="the output .*inner lies in a store"):
        freeze(made_spec(tmp_path / "cube.zarr" / "inner"))
    assert searches == []


def test_an_unknown_model_is_refused(tmp_path: Path, searches: list[RunSpec]) -> None:
    spec = made_spec(tmp_path, models={"urban": {"card": "no-such-model"}})
    with pytest.raises(ModelError, match="no such model.*got no-such-model"):
        freeze(spec)
    assert searches == []


@pytest.mark.parametrize(
    ("damage", "said"), [("absent", "No such file"), ("another", "[0-9a-f]{64}")]
)
def test_weights_that_are_not_the_cards_are_refused_before_anything_is_read(
    tmp_path: Path, searches: list[RunSpec], damage: str, said: str
) -> None:
    spec = with_model(tmp_path, "urban", force=True)
    weights = tmp_path / "cards" / "tiny-urban.safetensors"
    if damage == "absent":
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes() + b" ")
    with pytest.raises(
        ModelError, match=f"tiny-urban are not what its card was written for.*got {said}"
    ):
        freeze(spec)
    assert searches == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"period": "2022-04"}, "does not fit the period"),
        ({"pairs": ["2022-04,2023-04"]}, "does not fit the period"),
        ({"pairs": ["2022-04,2022-05", "2022-04,2022-05"]}, "names 2022-05 twice"),
    ],
    ids=["one month", "outside", "twice"],
)
def test_pairs_that_do_not_fit_are_refused(
    tmp_path: Path, searches: list[RunSpec], changes: dict[str, Any], said: str
) -> None:
    card = write_card(tmp_path / "cards", "change")
    pairs = changes.pop("pairs", ["2022-04,2022-05"])
    spec = made_spec(tmp_path, models={"change": {"card": str(card), "pairs": pairs}}, **changes)
    with pytest.raises(SpecError, match=said):
        freeze(spec)
    assert searches == []


def test_an_area_outside_the_grid_is_refused(tmp_path: Path, searches: list[RunSpec]) -> None:
    ring = [[150.0, -30.0], [150.1, -30.0], [150.1, -30.1], [150.0, -30.0]]
    spec = made_spec(tmp_path, area={"type": "Polygon", "coordinates": [ring]})
    with pytest.raises(UserError, match="outside the grid europe"):
        freeze(spec)
    assert searches == []


def test_tasks_with_a_network_want_a_gpu_and_those_of_states_alone_do_not(tmp_path: Path) -> None:
    cards = {"urban": a_card("urban", halo=16), "change": a_card("change", halo=16)}
    job = made_job(tmp_path, period="2022-04..2022-06", cards=cards)
    tasks = [task for stage in job.stages for task in job.tasks(stage)]
    assert {f"{t.stage} {t.month}" for t in tasks if job.runs_network(t)} == {
        "map 2022-04", "map 2022-05", "map 2022-06", "change 2022-06",
    }  # fmt: skip
