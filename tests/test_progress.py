"""Receipts decide what is done: exactly what depends on a change is done again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cdscale.errors import SpecError, StoreError
from cdscale.grid import Tile
from cdscale.months import Month
from cdscale.progress import Agenda, Progress, Selection, status
from cdscale.spec.card import ModelCard
from cdscale.spec.job import Job
from cdscale.spec.scene import Scene, SceneTable
from cdscale.spec.task import STAGE_VERSION, Stage, Task
from cdscale.store import Ledger, create
from cdscale.testing import make_scene
from tests.regions import (
    CORNER,
    a_card,
    lay_out,
    made_job,
    made_scenes,
    pretend,
    receipt_of,
    rounds,
)

CARDS = {"urban": a_card("urban", halo=16), "change": a_card("change", halo=16)}
APRIL, MAY = Month(2022, 4), Month(2022, 5)


def west(stage: Stage, month: Month) -> Task:
    return Task(stage, month, CORNER)


def east(stage: Stage, month: Month, columns: int = 1) -> Task:
    return Task(stage, month, Tile(CORNER.ix + columns, CORNER.iy))


def agenda(job: Job, stage: Stage, month: Month | None = None) -> Agenda:
    return Progress(job, Ledger(job.ledger_folder)).agenda(stage, month)


def to_do(job: Job) -> set[str]:
    """Tasks that are not done, whether they can start or wait."""
    progress = Progress(job, Ledger(job.ledger_folder))
    parts = [progress.agenda(stage) for stage in job.stages]
    return {str(task) for part in parts for task in (*part.ready, *part.waiting)}


def redo(job: Job) -> set[str]:
    """Tasks that are done again until all is done, step by step as a run does it."""
    done: set[str] = set()
    for stage in job.stages:
        ledger = Ledger(job.ledger_folder)
        for ready in rounds(job, stage):
            done |= {str(task) for task, _ in ready}
            for task, mark in ready:
                ledger.write(receipt_of(task, mark))
    assert to_do(job) == set()
    return done


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Two tiles side by side, two months, both networks; nothing done."""
    made = made_job(tmp_path, cards=CARDS)
    lay_out(made)
    return made


@pytest.fixture
def done(job: Job) -> Job:
    pretend(job)
    return job


def test_a_new_run_can_compose_and_nothing_else(job: Job) -> None:
    compose, urban, change = (agenda(job, stage) for stage in job.stages)
    assert (len(compose.done), len(compose.ready), len(compose.waiting)) == (0, 4, 0)
    assert (len(urban.done), len(urban.ready), len(urban.waiting)) == (0, 0, 4)
    assert change.waiting == job.tasks(Stage.CHANGE)


def test_what_can_start_keeps_the_order_of_the_plan(job: Job) -> None:
    assert list(agenda(job, Stage.COMPOSE).ready) == list(job.tasks(Stage.COMPOSE))


def test_an_agenda_of_one_month_leaves_the_others_out(job: Job) -> None:
    assert set(agenda(job, Stage.COMPOSE, MAY).ready) == {
        west(Stage.COMPOSE, MAY),
        east(Stage.COMPOSE, MAY),
    }


def test_a_map_waits_for_its_neighbours_too(job: Job) -> None:
    (mark,) = (m for t, m in agenda(job, Stage.COMPOSE).ready.items() if t == west(t.stage, APRIL))
    Ledger(job.ledger_folder).write(receipt_of(west(Stage.COMPOSE, APRIL), mark))
    assert agenda(job, Stage.MAP).ready == {}
    pretend(job, Stage.COMPOSE)
    assert len(agenda(job, Stage.MAP).ready) == 4


def test_a_map_does_not_wait_for_tiles_out_of_reach(tmp_path: Path) -> None:
    job = made_job(tmp_path, nx=3, cards={"urban": CARDS["urban"]})
    lay_out(job)
    marks = agenda(job, Stage.COMPOSE).ready
    for task in (west(Stage.COMPOSE, APRIL), east(Stage.COMPOSE, APRIL)):
        Ledger(job.ledger_folder).write(receipt_of(task, marks[task]))
    assert list(agenda(job, Stage.MAP).ready) == [west(Stage.MAP, APRIL)]


def test_when_all_is_done_nothing_is_to_do(done: Job) -> None:
    assert to_do(done) == set()
    assert len(agenda(done, Stage.COMPOSE).done) == 4


# ------------------------------------------------------------------------------ what is redone


def with_scene(job: Job, **changes: Any) -> Job:
    """The job, one scene of April changed."""
    first, *rest = job.scenes.scenes
    return with_scenes(job, Scene.model_validate(first.model_dump() | changes), *rest)


def with_scenes(job: Job, *scenes: Scene) -> Job:
    """The job with another table, made anew: a copy would keep what the old one remembers."""
    return Job(spec=job.spec, scenes=SceneTable(search="made", scenes=scenes), cards=job.cards)


def with_card(job: Job, name: str, **changes: Any) -> Job:
    card: ModelCard = job.cards[name].model_copy(update=changes)
    return Job(spec=job.spec, scenes=job.scenes, cards=job.cards | {name: card})


def all_of(job: Job, *stages: Stage) -> set[str]:
    return {str(task) for stage in stages for task in job.tasks(stage)}


def test_a_changed_scene_redoes_its_month_and_what_compares_with_it(done: Job) -> None:
    changed = with_scene(done, baseline="05.09")
    compose = {str(west(Stage.COMPOSE, APRIL)), str(east(Stage.COMPOSE, APRIL))}
    assert set(map(str, agenda(changed, Stage.COMPOSE).ready)) == compose
    # The pixels came out as they were: nobody downstream notices.
    assert redo(changed) == compose


def test_a_late_scene_redoes_every_month_whose_window_reaches_it(tmp_path: Path) -> None:
    period = "2022-04..2022-08"
    cube = {"s2_bands": ["B04", "B08"], "s1_bands": ["vv"], "window_months": 3}
    scenes = made_scenes(period)
    job = made_job(tmp_path, scenes=scenes, period=period, cube=cube)
    pretend(job)
    late = scenes[2].model_copy(update={"id": "late"})
    assert late.serves(MAY)
    changed = made_job(tmp_path, scenes=(*scenes, late), period=period, cube=cube)
    months = {str(task.month) for task in agenda(changed, Stage.COMPOSE).ready}
    assert months == {"2022-05", "2022-06", "2022-07"}


def test_another_window_is_another_cube(tmp_path: Path) -> None:
    job = made_job(tmp_path)
    lay_out(job)
    cube = job.spec.cube.model_copy(update={"window_months": 2})
    other = Job(spec=job.spec.model_copy(update={"cube": cube}), scenes=job.scenes)
    with pytest.raises(StoreError, match="compositing_window_months"):
        create(other.store_path(Stage.COMPOSE), other.layouts[Stage.COMPOSE])


def test_a_scene_that_shrinks_redoes_the_tiles_it_left_and_those_it_kept(done: Job) -> None:
    changed = with_scene(done, footprint=done.spec.lattice.footprint(CORNER).buffer(-1e-4).wkt)
    assert {str(t) for t in agenda(changed, Stage.COMPOSE).ready} == {
        str(west(Stage.COMPOSE, APRIL)),
        str(east(Stage.COMPOSE, APRIL)),
    }


def test_another_scene_redoes_its_month_only(done: Job) -> None:
    extra = make_scene("s1-more", sensor="s1", when="2022-05-20T05:00:00+00:00", bands=("vv",))
    more = with_scenes(done, *done.scenes.scenes, extra)
    assert {t.month for t in agenda(more, Stage.COMPOSE).ready} == {MAY}


def test_a_composite_option_redoes_the_composites(done: Job) -> None:
    cube = done.spec.cube.model_copy(update={"max_cloud_cover": 50.0})
    spec = done.spec.model_copy(update={"cube": cube})
    changed = Job(spec=spec, scenes=done.scenes, cards=done.cards)
    assert redo(changed) == all_of(done, Stage.COMPOSE)


def test_other_urban_weights_redo_the_urban_map_and_the_change(done: Job) -> None:
    changed = with_card(done, "urban", weights_sha256="1" * 64)
    assert redo(changed) == all_of(done, Stage.MAP, Stage.CHANGE)


def test_other_change_weights_redo_the_change_only(done: Job) -> None:
    changed = with_card(done, "change", weights_sha256="1" * 64)
    assert redo(changed) == all_of(done, Stage.CHANGE)


def test_other_rules_redo_the_states_and_the_smallest_patch_does_not(done: Job) -> None:
    for field, value, again in (("mmu", 9, set()), ("confirm", 2, all_of(done, Stage.CHANGE))):
        rules = done.spec.changes.model_copy(update={field: value})
        spec = done.spec.model_copy(update={"changes": rules})
        assert redo(Job(spec=spec, scenes=done.scenes, cards=done.cards)) == again


def a_series(folder: Path, months: int = 6) -> Job:
    """Two tiles and so many months, without a pair network."""
    period = f"2022-01..2022-{months:02}"
    cards = {"urban": CARDS["urban"]}
    return made_job(folder, cards=cards, period=period, scenes=made_scenes(period))


def other_states(job: Job, task: Task) -> None:
    """Let a task have made other pixels than its receipt says."""
    ledger = Ledger(job.ledger_folder)
    receipt = ledger.read(task)
    assert receipt is not None
    ledger.write(receipt.model_copy(update={"checksums": {"pixels": "other"}}))


def test_states_of_a_month_wait_for_those_before_of_their_own_tile(tmp_path: Path) -> None:
    job = a_series(tmp_path)
    pretend(job, Stage.COMPOSE, Stage.MAP)
    for month, ready in zip(job.spec.period, rounds(job, Stage.CHANGE), strict=True):
        assert [task for task, _ in ready] == [west(Stage.CHANGE, month), east(Stage.CHANGE, month)]
        for task, mark in ready:
            Ledger(job.ledger_folder).write(receipt_of(task, mark))
    assert to_do(job) == set()


def test_a_month_mapped_anew_redoes_its_states_and_no_more_where_they_come_out_the_same(
    tmp_path: Path,
) -> None:
    job = a_series(tmp_path)
    pretend(job)
    other_states(job, west(Stage.MAP, Month(2022, 3)))
    part = agenda(job, Stage.CHANGE)
    assert set(part.ready) == {west(Stage.CHANGE, Month(2022, 3))}
    assert set(part.waiting) == {west(Stage.CHANGE, Month(2022, m)) for m in (4, 5, 6)}
    assert redo(job) == names(west(Stage.CHANGE, Month(2022, 3)))


def test_other_states_redo_those_that_go_on_from_them(tmp_path: Path) -> None:
    job = a_series(tmp_path)
    pretend(job)
    other_states(job, west(Stage.CHANGE, Month(2022, 4)))
    assert redo(job) == names(west(Stage.CHANGE, Month(2022, 5)))


def test_a_series_that_grows_by_a_month_redoes_nothing(tmp_path: Path) -> None:
    short = a_series(tmp_path, 5)
    pretend(short)
    assert {name.split("/")[1] for name in redo(a_series(tmp_path, 6))} == {"2022-06"}
    assert to_do(short) == set()


def test_a_series_may_be_longer_than_any_stack_of_calls(tmp_path: Path) -> None:
    period = "1970-01..2042-12"
    cards = {"urban": CARDS["urban"]}
    job = made_job(tmp_path, nx=1, cards=cards, period=period, scenes=made_scenes("2042-12"))
    progress, last = Progress.of(job), Task(Stage.CHANGE, Month(2042, 12), job.tiles[0])
    assert progress.fingerprint(last) is None
    assert not progress.sound(last)


def test_a_selected_month_takes_the_states_of_all_before(tmp_path: Path) -> None:
    job = a_series(tmp_path)
    lay_out(job)
    choice = {"months": frozenset([Month(2022, 3)]), "tiles": frozenset([CORNER])}
    asked = {name for name in wanted(job, **choice) if name.startswith("change")}
    assert asked == {str(west(Stage.CHANGE, Month(2022, m))) for m in (1, 2, 3)}


@pytest.mark.parametrize("name", ["urban", "change"])
def test_weights_fed_another_way_are_other_weights(done: Job, name: str) -> None:
    rule = done.cards[name].normalisation.model_copy(update={"s2_clip": (0.0, 0.5)})
    first = Stage.MAP if name == "urban" else Stage.CHANGE
    changed = with_card(done, name, normalisation=rule)
    assert all_of(done, first) <= redo(changed)


def test_what_a_card_tells_people_redoes_nothing(done: Job) -> None:
    assert to_do(with_card(done, "urban", title="Another title", limits=("none",))) == set()


def test_a_network_added_later_leaves_the_maps_as_they_are(tmp_path: Path) -> None:
    urban = made_job(tmp_path, cards={"urban": CARDS["urban"]})
    pretend(urban, Stage.COMPOSE, Stage.MAP)
    both = Job(spec=urban.spec, scenes=urban.scenes, cards=CARDS)
    assert to_do(both) == all_of(both, Stage.CHANGE)


def test_other_pixels_upstream_redo_what_reads_them(tmp_path: Path) -> None:
    job = made_job(tmp_path, nx=3, period="2022-04..2022-06", cards=CARDS)
    pretend(job)
    task = west(Stage.COMPOSE, MAY)
    ledger = Ledger(job.ledger_folder)
    receipt = ledger.read(task)
    assert receipt is not None
    ledger.write(receipt.model_copy(update={"checksums": {"pixels": "other"}}))
    # The tile and its neighbour read it; the third is out of reach.
    assert {t for t in to_do(job) if t.startswith("map")} == {
        str(west(Stage.MAP, MAY)),
        str(east(Stage.MAP, MAY)),
    }
    assert {t for t in to_do(job) if t.startswith("change")} == {
        str(side(Stage.CHANGE, month)) for side in (west, east) for month in (MAY, Month(2022, 6))
    }


def test_a_run_moved_to_another_cluster_redoes_nothing(done: Job) -> None:
    workers = done.spec.workers.model_copy(update={"count": 7, "retries": 0})
    spec = done.spec.model_copy(update={"workers": workers})
    assert to_do(Job(spec=spec, scenes=done.scenes, cards=done.cards)) == set()


# ------------------------------------------------------------------------------------- growing


def with_pairs(*pairs: str) -> dict[str, Any]:
    return {"models": {"change": {"card": "change", "pairs": pairs}}}


def test_months_added_later_redo_nothing_of_those_before(tmp_path: Path) -> None:
    short = made_job(tmp_path, cards=CARDS, **with_pairs("2022-04,2022-05"))
    pretend(short)
    long = made_job(
        tmp_path,
        cards=CARDS,
        period="2022-04..2022-07",
        scenes=made_scenes("2022-04..2022-07"),
        **with_pairs("2022-04,2022-05", "2022-05,2022-07"),
    )
    later = {Month(2022, 6), Month(2022, 7)}
    assert redo(long) == {
        str(task) for stage in long.stages for task in long.tasks(stage) if task.month in later
    }
    assert to_do(short) == set()


def test_another_reference_is_another_map(tmp_path: Path) -> None:
    spans: dict[str, Any] = {
        "period": "2022-04..2022-06",
        "scenes": made_scenes("2022-04..2022-06"),
    }
    job = made_job(tmp_path, cards=CARDS, **spans, **with_pairs("2022-04,2022-06"))
    pretend(job, checksums={"pixels": "the same in every month"})
    other = made_job(tmp_path, cards=CARDS, **spans, **with_pairs("2022-05,2022-06"))
    june = Month(2022, 6)
    assert to_do(other) == names(west(Stage.CHANGE, june), east(Stage.CHANGE, june))


def test_a_scene_left_out_redoes_its_month_and_no_other(done: Job) -> None:
    cube = done.spec.cube.model_copy(update={"exclude": ("s2-2022-05",)})
    spec = done.spec.model_copy(update={"cube": cube})
    kept = tuple(scene for scene in done.scenes.scenes if scene.id != "s2-2022-05")
    table = SceneTable(search="made", scenes=kept)
    changed = Job(spec=spec, scenes=table, cards=done.cards)
    assert {t.month for t in agenda(changed, Stage.COMPOSE).ready} == {MAY}


# ----------------------------------------------------------------------------------- selections


def selected(job: Job, **choice: Any) -> Progress:
    return Progress.of(job, Selection(**choice))


def wanted(job: Job, **choice: Any) -> set[str]:
    """Tasks that a selection would do, whether they can start or wait."""
    progress = selected(job, **choice)
    parts = [progress.agenda(stage) for stage in job.stages]
    return {str(task) for part in parts for task in (*part.ready, *part.waiting)}


def names(*tasks: Task) -> set[str]:
    return {str(task) for task in tasks}


def test_a_selection_takes_what_it_is_made_from(tmp_path: Path) -> None:
    job = made_job(tmp_path, nx=3, cards=CARDS)
    lay_out(job)
    choice = {"months": frozenset([MAY]), "tiles": frozenset([CORNER])}
    assert wanted(job, months=frozenset([APRIL]), tiles=frozenset([CORNER])) == names(
        west(Stage.COMPOSE, APRIL), east(Stage.COMPOSE, APRIL), west(Stage.MAP, APRIL),
        west(Stage.CHANGE, APRIL),
    )  # fmt: skip
    # The change of May is made from April too, and from the neighbour's rim.
    assert wanted(job, **choice) == names(
        *(side(stage, month) for side in (west, east) for stage in (Stage.COMPOSE,)
          for month in (APRIL, MAY)),
        west(Stage.MAP, APRIL), west(Stage.MAP, MAY),
        west(Stage.CHANGE, APRIL), west(Stage.CHANGE, MAY),
    )  # fmt: skip
    assert selected(job, **choice).added == 5
    assert selected(job).added == 0


def test_what_is_selected_and_done_is_left_alone_unless_it_is_done_again(done: Job) -> None:
    months = frozenset([MAY])
    assert wanted(done, months=months) == set()
    assert selected(done, months=months).finished
    again = {name for name in all_of(done, *done.stages) if "/2022-05/" in name}
    assert wanted(done, months=months, redo=True) == again
    # Nothing is dropped by looking.
    assert to_do(done) == set()
    progress = selected(done, months=months, tiles=frozenset([CORNER]), redo=True)
    progress.start_over()
    assert {name for name in to_do(done) if name.startswith("compose")} == names(
        west(Stage.COMPOSE, MAY)
    )


def test_retrying_takes_what_failed_and_what_rests_on_it(tmp_path: Path) -> None:
    job = made_job(tmp_path, nx=4, cards=CARDS)
    lay_out(job)
    ledger = Ledger(job.ledger_folder)
    assert wanted(job, retry_failed=True) == set()
    marks = agenda(job, Stage.COMPOSE).ready
    for task, mark in marks.items():
        if task.tile == east(Stage.COMPOSE, APRIL, 3).tile:
            continue  # never tried
        failed = {"s1-2022-05": "gone"} if task == west(Stage.COMPOSE, MAY) else {}
        ledger.write(receipt_of(task, mark, failed=failed))
    urban = Progress(job, ledger).fingerprint(west(Stage.MAP, MAY))
    assert urban is not None
    ledger.write(receipt_of(west(Stage.MAP, MAY), urban))
    ledger.fail(east(Stage.MAP, APRIL), "out of memory")
    # West May lacks a scene; its map is done, and will be looked at again once May is.
    expected = names(
        west(Stage.COMPOSE, MAY),
        east(Stage.MAP, APRIL),
        east(Stage.MAP, MAY),
        west(Stage.CHANGE, MAY),
        east(Stage.CHANGE, APRIL),
        east(Stage.CHANGE, MAY),
    )
    assert wanted(job, retry_failed=True) == expected
    only = selected(job, retry_failed=True, months=frozenset([APRIL]))
    assert names(*only.agenda(Stage.COMPOSE).ready) == set()
    assert names(*only.agenda(Stage.MAP).ready) == names(east(Stage.MAP, APRIL))


def test_a_receipt_that_no_longer_holds_and_lacked_a_scene_is_retried(job: Job) -> None:
    pretend(job, Stage.COMPOSE, failed={"s2-2022-04": "told to fail"})
    changed = with_scene(job, baseline="05.09")
    assert wanted(changed, retry_failed=True) >= all_of(job, Stage.COMPOSE)


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (
            {"months": frozenset([Month(2021, 1), APRIL])},
            r"months .*expected months of 2022-04\.\.",
        ),
        ({"tiles": frozenset([CORNER, Tile(1, 2)])}, r"tiles .*2 from x6800y7800.*got x0001y0002"),
    ],
    ids=["month", "tile"],
)
def test_a_selection_of_what_is_not_there_is_refused(
    job: Job, choice: dict[str, Any], said: str
) -> None:
    with pytest.raises(SpecError, match=said):
        Selection(**choice).check(job)


def test_what_is_left_of_a_month_counts_what_it_was_made_from(job: Job) -> None:
    pretend(job, Stage.COMPOSE)
    progress = Progress.of(job)
    assert progress.left(Stage.COMPOSE) == {APRIL: set(), MAY: set()}
    pretend(job, Stage.MAP, Stage.CHANGE)
    assert Progress.of(job).left(Stage.CHANGE) == {APRIL: set(), MAY: set()}
    task = west(Stage.COMPOSE, MAY)
    ledger = Ledger(job.ledger_folder)
    whole = ledger.read(task)
    assert whole is not None
    ledger.write(whole.model_copy(update={"failed": {"s2-2022-05": "gone"}}))
    # The maps hold, but they were made without a scene that there is.
    progress = Progress.of(job)
    assert progress.done(west(Stage.MAP, MAY))
    assert progress.left(Stage.MAP)[MAY] == {west(Stage.MAP, MAY), east(Stage.MAP, MAY)}
    assert progress.left(Stage.MAP)[APRIL] == set()
    progress.record(whole)
    progress.review(Stage.MAP)
    assert progress.left(Stage.CHANGE) == {APRIL: set(), MAY: set()}


# ------------------------------------------------------------------------ receipts that lie low


def test_an_incomplete_receipt_is_tried_again_and_holds_until_then(job: Job) -> None:
    pretend(job, Stage.COMPOSE, failed={"s2-2022-04": "told to fail"})
    pretend(job, Stage.MAP, Stage.CHANGE)
    assert to_do(job) == all_of(job, Stage.COMPOSE)
    assert len(agenda(job, Stage.MAP).done) == 4


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda text: "", id="empty"),
        pytest.param(lambda text: text[: len(text) // 2], id="cut short"),
        pytest.param(lambda text: text.replace('"seconds"', '"hours"'), id="foreign"),
        pytest.param(lambda text: "\x00" * len(text), id="zeros"),
    ],
)
def test_a_damaged_receipt_counts_as_none(done: Job, spoil: Callable[[str], str]) -> None:
    task = west(Stage.CHANGE, MAY)
    path = done.ledger_folder / f"{task}.json"
    path.write_text(spoil(path.read_text(encoding="utf-8")), encoding="utf-8")
    assert to_do(done) == {str(task)}


def test_a_receipt_of_another_spec_does_not_count(done: Job) -> None:
    other = made_job(done.spec.folder, cards=CARDS, name="other")
    assert to_do(other) == all_of(other, *other.stages)


def test_a_receipt_of_another_task_does_not_count(done: Job) -> None:
    folder = done.ledger_folder
    here, there = east(Stage.COMPOSE, APRIL), east(Stage.COMPOSE, MAY)
    (folder / f"{there}.json").write_bytes((folder / f"{here}.json").read_bytes())
    assert str(there) in to_do(done)


def test_a_stage_that_writes_other_pixels_redoes_what_it_wrote(
    done: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(STAGE_VERSION, Stage.CHANGE, 99)
    assert to_do(done) == all_of(done, Stage.CHANGE)


# --------------------------------------------------------------------------------------- status


def test_status_of_a_new_run(job: Job) -> None:
    found = status(job)
    assert not found.complete
    assert found.stages["compose"].missing == tuple(map(str, job.tasks(Stage.COMPOSE)))
    assert found.stages["compose"].failed == {}
    assert [part.tasks for part in found.stages.values()] == [4, 4, 4]


def test_status_of_a_finished_run_adds_up_the_pixels(job: Job) -> None:
    pretend(job, pixels={"s2_quality": {"valid": 4000, "cloud": 96}})
    found = status(job)
    assert found.complete
    assert [part.done for part in found.stages.values()] == [4, 4, 4]
    each = {"s2_quality": {"valid": 8000, "cloud": 192}}
    assert found.stages["compose"].pixels == {"2022-04": each, "2022-05": each}


def test_status_says_what_failed_and_why(job: Job) -> None:
    pretend(job, Stage.COMPOSE)
    task = west(Stage.MAP, MAY)
    Ledger(job.ledger_folder).fail(task, "the network broke")
    found = status(job)
    assert found.stages["map"].failed == {str(task): "the network broke"}
    assert len(found.stages["map"].missing) == 4
    # What failed once and was done later did not fail.
    pretend(job, Stage.MAP)
    assert status(job).stages["map"].failed == {}


def test_status_names_the_scenes_that_are_missing(job: Job) -> None:
    pretend(job, Stage.COMPOSE, failed={"s2-2022-04": "told to fail"})
    pretend(job, Stage.MAP, Stage.CHANGE)
    found = status(job)
    assert not found.complete
    compose = found.stages["compose"]
    assert (compose.done, compose.missing) == (0, ())
    reasons = {"s2-2022-04": "told to fail"}
    assert compose.incomplete == dict.fromkeys(map(str, job.tasks(Stage.COMPOSE)), reasons)


def test_status_is_plain_data(done: Job) -> None:
    found = status(done)
    assert type(found).model_validate_json(found.model_dump_json()) == found


def test_receipts_of_a_store_that_is_gone_do_not_count(done: Job) -> None:
    """Removing a store is how a user asks for it to be made again."""
    assert to_do(done) == set()
    shutil.rmtree(done.store_path(Stage.MAP))
    assert {name.split("/")[0] for name in to_do(done)} == {"map", "change"}
