"""What readers get: months that are whole, and never half of one that is made anew."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cdscale import window
from cdscale.errors import StoreError
from cdscale.months import Month, Months
from cdscale.progress import Progress, Selection, status
from cdscale.run import execute, prepared
from cdscale.spec.job import Job
from cdscale.spec.task import Receipt, Stage, Task
from cdscale.store import Ledger, Store, create, read_spec
from tests.regions import (
    CORNER,
    SmallRun,
    a_card,
    do_serially,
    made_job,
    made_scenes,
    pretend,
    products,
    receipt_of,
    state_of,
)
from tests.test_run import Log

CARDS = {"urban": a_card("urban", halo=16), "change": a_card("change", halo=16)}
APRIL, MAY, JUNE = (Month(2022, m) for m in (4, 5, 6))


def published(job: Job, stage: Stage = Stage.COMPOSE) -> list[str]:
    path = job.store_path(stage)
    return [str(month) for month in Store(path, read_spec(path)).published()]


@dataclass
class Acts:
    """What tasks do in place of their work, and what readers see while they do it."""

    job: Job
    lacking: dict[str, dict[str, str]] = field(default_factory=dict)
    """For each task the scenes that it does without."""
    seen: dict[str, list[str]] = field(default_factory=dict)

    def __call__(self, task: Task, folder: str, digest: str, fingerprint: str) -> Receipt:
        self.seen[str(task)] = published(self.job, task.stage)
        receipt = receipt_of(task, fingerprint, failed=self.lacking.get(str(task), {}))
        Ledger(Path(folder) / "receipts").write(receipt)
        return receipt


class Interrupting(Log):
    """A driver that is stopped when its first task has landed."""

    def done(self, task: Task, receipt: Receipt) -> None:
        raise KeyboardInterrupt


ACTS: list[Acts] = []


def act(*arguments: Any) -> Receipt:
    return ACTS[-1](*arguments)


@pytest.fixture
def acts(monkeypatch: pytest.MonkeyPatch) -> type[Acts]:
    """Makes tasks act; workers are threads of this process."""
    monkeypatch.setattr(window, "perform_from", act)
    monkeypatch.setattr(window, "WINDOW", 1)  # one after the other
    ACTS.clear()
    return Acts


def play(job: Job, threads: str, selection: Selection | None = None, **changes: Any) -> Acts:
    ACTS.append(Acts(job, **changes))
    execute(job, threads, Log(), selection or Selection())
    return ACTS[-1]


def a_job(folder: Path, **changes: Any) -> Job:
    scenes = made_scenes("2022-04..2022-06")
    return made_job(folder, cards=CARDS, period="2022-04..2022-06", scenes=scenes, **changes)


def test_a_month_shows_as_soon_as_it_is_whole(
    tmp_path: Path, threads: str, acts: type[Acts]
) -> None:
    job = a_job(tmp_path)
    played = play(job, threads)
    first, second = (str(task) for task in job.tasks(Stage.COMPOSE)[:2])
    assert (played.seen[first], played.seen[second]) == ([], [])
    third, _, last, _ = (str(task) for task in job.tasks(Stage.COMPOSE)[2:])
    assert (played.seen[third], played.seen[last]) == (["2022-04"], ["2022-04", "2022-05"])
    whole = ["2022-04", "2022-05", "2022-06"]
    assert [published(job, stage) for stage in job.stages] == [whole, whole, whole]


def test_a_month_that_is_made_anew_is_hidden_from_its_first_task_to_its_last(
    tmp_path: Path, threads: str, acts: type[Acts]
) -> None:
    job = a_job(tmp_path)
    play(job, threads)
    again = play(job, threads, Selection(months=frozenset([MAY]), redo=True))
    compose = {name: seen for name, seen in again.seen.items() if name.startswith("compose")}
    assert len(compose) == 2
    assert all(seen == ["2022-04", "2022-06"] for seen in compose.values())
    assert published(job) == ["2022-04", "2022-05", "2022-06"]


def test_a_month_without_a_scene_stays_hidden_and_so_do_maps_of_it(
    tmp_path: Path, threads: str, acts: type[Acts]
) -> None:
    job = a_job(tmp_path)
    lacking = f"compose/2022-05/{CORNER}"
    play(job, threads, lacking={lacking: {"s2-2022-05": "gone"}})
    others = ["2022-04", "2022-06"]
    # States go on from those before: none from the lacking month on is shown.
    assert [published(job, stage) for stage in job.stages] == [others, others, ["2022-04"]]
    assert status(job).stages["map"].unpublished == ("2022-05",)
    # The scene comes: its month is made again, and what it changes.
    assert set(play(job, threads, Selection(retry_failed=True)).seen) == {lacking}
    whole = ["2022-04", "2022-05", "2022-06"]
    assert [published(job, stage) for stage in job.stages] == [whole, whole, whole]


def test_a_run_that_is_interrupted_leaves_the_month_hidden_and_the_next_one_shows_it(
    tmp_path: Path, threads: str, acts: type[Acts]
) -> None:
    job = a_job(tmp_path)
    play(job, threads)
    before = products(tmp_path)
    ACTS.append(Acts(job))
    with pytest.raises(KeyboardInterrupt):
        execute(job, threads, Interrupting(), Selection(months=frozenset([MAY]), redo=True))
    assert published(job) == ["2022-04", "2022-06"]
    play(job, threads)
    assert products(tmp_path) == before


def test_a_run_killed_before_it_could_mark_what_it_had_done(
    tmp_path: Path, threads: str, acts: type[Acts]
) -> None:
    job = a_job(tmp_path)
    play(job, threads)
    before = state_of(tmp_path)
    path = job.store_path(Stage.COMPOSE)
    Store(path, read_spec(path)).withdraw([MAY])
    # Nothing is to do, so that no cluster is asked for; the mark is set all the same.
    execute(job, "tcp://127.0.0.1:1", Log())
    after = state_of(tmp_path)
    assert {name: sha for name, (_, sha) in after.items()} == {
        name: sha for name, (_, sha) in before.items()
    }
    assert sum(after[name] != before[name] for name in after) == 1


def test_maps_of_other_runs_are_hidden_when_what_they_rest_on_is_made_anew(
    tmp_path: Path, threads: str, acts: type[Acts]
) -> None:
    """A run of fewer months cannot make them again, and must not leave them as if they held."""
    whole = a_job(tmp_path)
    play(whole, threads)
    scenes = made_scenes("2022-04..2022-05")
    other = tuple(s.model_copy(update={"baseline": "05.09"}) for s in scenes if s.sensor == "s2")
    later = made_job(tmp_path, cards=CARDS, scenes=(*other, *scenes), period="2022-05")
    with pytest.raises(StoreError, match=r"attrs\.series_begins differs; expected .*2022-05"):
        # Its states would begin anew, and contradict those of the store.
        play(later, threads)
    fewer = made_job(
        tmp_path,
        cards=CARDS,
        scenes=(*other, *scenes),
        period="2022-04..2022-05",
        models={"change": {"card": "change", "pairs": ["2022-04,2022-05"]}},
    )
    play(fewer, threads)
    assert published(whole) == ["2022-04", "2022-05", "2022-06"]
    assert published(whole, Stage.CHANGE) == ["2022-04", "2022-05"]
    # A run that has them says what is left, and makes it.
    assert play(whole, threads).seen
    assert published(whole, Stage.CHANGE) == ["2022-04", "2022-05", "2022-06"]


# ------------------------------------------------------------------------------- a growing region


def test_a_region_grows_month_by_month(small_run: SmallRun, tmp_path: Path) -> None:
    """In steps or at once: the same stores, byte by byte; what was there is not touched."""
    steps, once = tmp_path / "steps", tmp_path / "once"
    do_serially(small_run.job(steps))
    assert products(steps / "out") == small_run.products
    before = state_of(steps / "out")
    grown = small_run.job(steps, period="2022-04..2022-06")
    assert list(grown.spec.pairs()) == [MAY, JUNE]
    do_serially(grown)
    after = state_of(steps / "out")
    kept = {n for n in before if n != "run/job.json" and not n.startswith("run/scenes/")}
    changed = {n for n in kept if before[n] != after[n]}
    assert {name.partition("/")[2].partition("/")[0] for name in changed} <= {
        *(variable.name for layout in grown.layouts.values() for variable in layout.variables),
        "zarr.json", "month", "reference_month", "published", "1", "2",
    }  # fmt: skip
    assert all(name.endswith("zarr.json") or "month/c/" in name for name in changed), changed
    pairs = ["2022-04,2022-05", "2022-04,2022-06"]
    change = small_run.models["change"] | {"pairs": pairs}
    models = small_run.models | {"change": change}
    do_serially(small_run.job(once, period="2022-04..2022-06", models=models))
    assert products(steps / "out") == products(once / "out")
    # The first run's spec still reads its months, and has nothing to do.
    shorter = small_run.job(steps)
    assert Progress.of(shorter).finished
    do_serially(shorter)
    assert products(steps / "out") == products(once / "out")


@pytest.mark.parametrize("stores", [1, 2, 3])
def test_a_driver_killed_between_two_stores_that_grow(tmp_path: Path, stores: int) -> None:
    """Some stores have the later month and others not, and the record of the job is the old one."""
    old, new = made_job(tmp_path, cards=CARDS), a_job(tmp_path)
    with prepared(old):
        pass
    for stage in new.stages[:stores]:
        create(new.store_path(stage), new.layouts[stage])
    pretend(old)
    assert Progress.of(old).finished
    with prepared(old):
        pass
    assert [published(old, stage) for stage in old.stages] == [
        ["2022-04", "2022-05"],
        ["2022-04", "2022-05"],
        ["2022-04", "2022-05"],
    ]
    with prepared(new) as progress:
        assert len(progress.agenda(Stage.COMPOSE).done) == 4
        assert len(progress.agenda(Stage.COMPOSE).ready) == 2
    for stage in new.stages:
        assert read_spec(new.store_path(stage)).months.last == JUNE


def test_a_late_scene_redoes_its_month_and_what_rests_on_it(
    small_run: SmallRun, tmp_path: Path
) -> None:
    """Asked again, the catalogue has one scene more: the end is as if it had been there at once."""
    job = small_run.job(tmp_path)
    late = next(s for s in job.scenes.scenes if s.sensor == "s1" and s.serves(MAY))
    table = job.scenes.model_copy(
        update={"scenes": tuple(s for s in job.scenes.scenes if s.id != late.id)}
    )
    do_serially(Job(spec=job.spec, scenes=table, cards=job.cards))
    early = state_of(tmp_path / "out")
    assert products(tmp_path / "out") != small_run.products
    do_serially(job)
    now = state_of(tmp_path / "out")
    assert products(tmp_path / "out") == small_run.products
    touched = {n for n in early if ".zarr/" in n and early[n] != now[n]}
    april = {n for n in touched if n.startswith(("cube", "urban")) and "/c/0/" in n}
    assert april == set()
    assert Months.of([APRIL, MAY]) == job.spec.period
