"""The record of a run: what is kept is read again, whole or by month, whatever happens."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdscale.errors import StoreError
from cdscale.months import Month
from cdscale.spec.job import Job
from cdscale.spec.scene import MONTHS_HELD, SceneTable, SetAside
from cdscale.spec.task import Stage
from cdscale.store import keep_job, read_job, read_job_by_month, write_text
from tests.regions import made_job, made_scenes

PERIOD = "2022-04..2022-07"


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Four months; one scene serves two of them, one none of them; out of order."""
    april, *rest = made_scenes(PERIOD)
    long = april.model_copy(
        update={"id": "long", "start": Month.parse("2022-04").start, "end": rest[2].start}
    )
    then = Month.parse("2021-01").start
    early = april.model_copy(update={"id": "early", "start": then, "end": then})
    aside = SetAside(id="x", collection="s2", reason="bad", start=april.start, end=april.end)
    scenes = (*reversed(rest), early, long, april)
    made = made_job(tmp_path, scenes=scenes, period=PERIOD)
    return Job(spec=made.spec, scenes=SceneTable(search="made", scenes=scenes, set_aside=(aside,)))


def folder_of(job: Job) -> Path:
    return job.spec.folder / "run"


def files(job: Job) -> dict[str, int]:
    return {p.name: p.stat().st_mtime_ns for p in folder_of(job).rglob("*") if p.is_file()}


def test_what_is_kept_is_read_again(job: Job) -> None:
    keep_job(job)
    again = read_job(folder_of(job))
    assert again == job
    assert again.digest == job.digest
    parts = {name.rpartition("-")[0] for name in files(job)} - {""}
    assert parts == {"2022-04", "2022-05", "2022-06", "2022-07", "aside", "other"}
    kept = (folder_of(job) / "job.json").read_text()
    assert "s2-2022-05" not in kept


def test_tasks_find_the_scenes_of_their_month(job: Job) -> None:
    keep_job(job)
    worker = read_job_by_month(folder_of(job))
    for task in job.tasks(Stage.COMPOSE):
        assert worker.scenes_of(task) == job.scenes_of(task)
    assert worker.layouts == job.layouts
    assert not hasattr(worker.scenes, "scenes")
    assert len(worker.scenes._months) == MONTHS_HELD


def test_tasks_find_the_scenes_of_their_window(tmp_path: Path) -> None:
    cube = {"s2_bands": ["B04", "B08"], "s1_bands": ["vv"], "window_months": 2}
    scenes = made_scenes("2022-03..2022-06")
    job = made_job(tmp_path, scenes=scenes, period="2022-04,2022-06", cube=cube)
    keep_job(job)
    assert read_job(folder_of(job)) == job
    worker, whole = read_job_by_month(folder_of(job)), read_job(folder_of(job))
    for task in job.tasks(Stage.COMPOSE):
        assert len(job.scenes_of(task)) == 4
        assert worker.scenes_of(task) == whole.scenes_of(task) == job.scenes_of(task)


def test_a_task_reads_its_month_alone(job: Job) -> None:
    keep_job(job)
    for path in (folder_of(job) / "scenes").iterdir():
        if not path.name.startswith("2022-05"):
            path.unlink()
    worker = read_job_by_month(folder_of(job))
    april, _, may, *_ = worker.tasks(Stage.COMPOSE)
    assert worker.scenes_of(may) == job.scenes_of(may)
    with pytest.raises(StoreError, match="record of the run is damaged"):
        worker.scenes_of(april)


@pytest.mark.parametrize("simulated", [True, False])
def test_a_worker_knows_whether_every_scene_is_simulated(tmp_path: Path, simulated: bool) -> None:
    """Of a month whose scenes all are, and of one that has none."""
    scenes = tuple(
        s.model_copy(update={"simulated": simulated or s.id.endswith("04")}) for s in made_scenes()
    )
    job = made_job(tmp_path, scenes=scenes, period="2022-04..2022-06")
    keep_job(job)
    worker = read_job_by_month(folder_of(job))
    assert worker.scenes.simulated == job.scenes.simulated == simulated
    assert worker.layouts == job.layouts
    assert worker.scenes.of_month(Month.parse("2022-06")) == ()


def test_nothing_is_written_that_is_there(job: Job) -> None:
    keep_job(job)
    before = files(job)
    keep_job(job)
    assert files(job) == before
    fewer = job.scenes.model_copy(update={"scenes": job.scenes.scenes[1:]})
    changed = Job(spec=job.spec, scenes=fewer)
    keep_job(changed)
    assert read_job(folder_of(job)) == changed
    assert len(files(job)) == len(before)


def test_the_catalogues_secret_is_not_kept(job: Job) -> None:
    spec = job.spec.model_copy(update={"catalogue": "https://someone:hunter2@example.com"})
    keep_job(Job(spec=spec, scenes=job.scenes))
    assert "hunter2" not in (folder_of(job) / "job.json").read_text()


def test_records_of_older_releases_are_read(job: Job) -> None:
    folder_of(job).mkdir(parents=True)
    (folder_of(job) / "job.json").write_text(job.model_dump_json(indent=1))
    assert read_job(folder_of(job)) == job
    task = job.tasks(Stage.COMPOSE)[0]
    assert read_job_by_month(folder_of(job)).scenes_of(task) == job.scenes_of(task)


def test_a_damaged_part_is_refused(job: Job) -> None:
    keep_job(job)
    path = next((folder_of(job) / "scenes").glob("2022-05-*"))
    path.write_text(path.read_text().replace("s2-2022-05", "s2-2022-06"))
    with pytest.raises(StoreError, match="got other scenes"):
        read_job(folder_of(job))
    keep_job(job)
    assert read_job(folder_of(job)) == job


def test_a_driver_killed_on_the_way_leaves_the_old_record(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_job(job)

    def write(path: Path, text: str) -> None:
        if path.name == "job.json":
            raise KeyboardInterrupt
        write_text(path, text)

    monkeypatch.setattr("cdscale.store.record.write_text", write)
    fewer = job.scenes.model_copy(update={"scenes": job.scenes.scenes[1:]})
    with pytest.raises(KeyboardInterrupt):
        keep_job(Job(spec=job.spec, scenes=fewer))
    assert read_job(folder_of(job)) == job
