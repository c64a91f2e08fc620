"""The ledger of completeness: every scene of every tile and month, and what became of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas
import pyarrow.parquet as pq
import pytest

from cdscale.completeness import (
    BROKEN_OFF,
    OUTDATED,
    UNEXPLAINED,
    State,
    TileMonth,
    tile_months,
    unplaced,
)
from cdscale.export.ledger import write_ledger
from cdscale.grid import Tile
from cdscale.months import Month, Months
from cdscale.progress import Progress
from cdscale.spec.job import Job
from cdscale.spec.scene import SceneTable, SetAside
from cdscale.spec.task import Stage, Task
from cdscale.store import Ledger
from cdscale.testing import make_scene
from tests.regions import CORNER, lay_out, made_job, made_scenes, receipt_of

APRIL, MAY = Month(2022, 4), Month(2022, 5)
EAST = Tile(CORNER.ix + 1, CORNER.iy)
FULL = {"s2_quality": {"valid": 4000, "cloud": 96}, "s1_quality": {"valid": 4096}}


def aside(job: Job) -> tuple[SetAside, ...]:
    """Items over the west tile in May, over nothing of the run, and of no known place or date."""
    west = job.footprint(CORNER).buffer(-0.001).wkt
    may = {"start": "2022-05-03T10:00:00+00:00", "collection": "s2"}
    plain: list[dict[str, Any]] = [
        {"id": "cloudy", "reason": "cloud cover 99 %", "footprint": west, **may},
        {"id": "away", "reason": "no mask", "footprint": "POINT (0 0)", **may},
        {"id": "earlier", "reason": "no mask", "footprint": west, **may}
        | {"start": "2021-05-03T10:00:00+00:00"},
        {"id": "nowhere", "reason": "no geometry", **may},
        {"id": "never", "reason": "no date", "footprint": west, "collection": "s2"},
    ]
    return tuple(SetAside.model_validate(item) for item in plain)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Two tiles and two months: done, without a scene, failed, and outdated."""
    bare = made_job(tmp_path)
    table = SceneTable(search="made", scenes=made_scenes(), set_aside=aside(bare))
    made = Job(spec=bare.spec, scenes=table)
    lay_out(made)
    ledger = Ledger(made.ledger_folder)
    progress = Progress.of(made)

    def write(month: Month, tile: Tile, **changes: Any) -> None:
        task = Task(Stage.COMPOSE, month, tile)
        ledger.write(receipt_of(task, progress.fingerprint(task) or "", **changes))

    write(APRIL, CORNER, scenes=("s1-2022-04", "s2-2022-04"), pixels=FULL)
    write(APRIL, EAST, scenes=("s1-2022-04",), unused={"s2-2022-04": "cloud"}, pixels={
        "s2_quality": {"cloud": 3686, "no_scene": 410}, "s1_quality": {"valid": 4096}})  # fmt: skip
    write(MAY, CORNER, failed={"s2-2022-05": "HTTP 500", "s1-2022-05": "HTTP 404"}, pixels=FULL)
    ledger.fail(Task(Stage.COMPOSE, MAY, EAST), "out of memory")
    return made


def rows(job: Job) -> dict[tuple[str, Tile], TileMonth]:
    return {(str(row.month), row.tile): row for row in tile_months(Progress.of(job))}


def test_every_tile_and_month_says_what_became_of_its_scenes(job: Job) -> None:
    found = rows(job)
    assert list(found) == [(str(m), t) for m in (APRIL, MAY) for t in (CORNER, EAST)]
    for row in found.values():
        assert sorted(row.expected) == [f"s1-{row.month}", f"s2-{row.month}"]
    done, clouded, incomplete, failed = found.values()
    assert (done.state, done.lacks, done.why, done.set_aside) == (State.DONE, False, "", {})
    assert sorted(done.used) == sorted(done.expected)
    assert (clouded.state, clouded.unused) == (State.DONE, {"s2-2022-04": "cloud"})
    assert (clouded.empty, clouded.lacks) == (("optical",), True)
    assert clouded.why == "no optical pixel: cloud 90%, no_scene 10%"
    assert (incomplete.state, set(incomplete.failed)) == (
        State.INCOMPLETE,
        {"s2-2022-05", "s1-2022-05"},
    )
    assert incomplete.why == "without s2-2022-05: HTTP 500 (and 1 more scenes)"
    assert incomplete.set_aside == {"cloudy": "cloud cover 99 %"}
    assert (failed.state, failed.why, failed.lacks) == (State.FAILED, "out of memory", True)
    assert (failed.used, failed.pixels, failed.set_aside) == ((), {}, {})


def test_what_has_no_place_or_date_is_listed_once(job: Job) -> None:
    assert unplaced(job) == {"nowhere": "no geometry", "never": "no date"}


def test_a_scene_that_a_receipt_is_silent_about_is_not_lost(job: Job) -> None:
    ledger = Ledger(job.ledger_folder)
    task = Task(Stage.COMPOSE, APRIL, CORNER)
    receipt = ledger.read(task)
    assert receipt is not None
    ledger.write(receipt.model_copy(update={"scenes": ("s1-2022-04",)}))
    assert rows(job)["2022-04", CORNER].unused == {"s2-2022-04": UNEXPLAINED}


def test_a_receipt_that_no_longer_holds_is_said(job: Job) -> None:
    late = make_scene("s2-late", when="2022-04-20T10:00:00+00:00", bands=("B04", "B08"))
    table = SceneTable(search="made", scenes=(*job.scenes.scenes, late))
    row = rows(Job(spec=job.spec, scenes=table))["2022-04", CORNER]
    assert (row.state, row.why, row.used) == (State.NOT_DONE, OUTDATED, ())
    assert "s2-late" in row.expected


def test_a_task_that_was_broken_off_while_it_was_done_again_is_said(job: Job) -> None:
    Progress.of(job).ledger.void(job.tasks(Stage.COMPOSE)[0])
    row = rows(job)["2022-04", CORNER]
    assert (row.state, row.why, row.used) == (State.NOT_DONE, BROKEN_OFF, ())


def test_geoparquet_has_it_all(job: Job, tmp_path: Path) -> None:
    path = write_ledger(Progress.of(job), tmp_path / "deep" / "ledger.parquet")
    assert [p.name for p in path.parent.iterdir()] == ["ledger.parquet"]
    frame = geopandas.read_parquet(path)
    assert frame.crs.to_epsg() == 4326
    assert pq.read_schema(path).metadata[b"geo"].find(b'"version": "1.1.0"') > 0
    wanted = rows(job)
    assert len(frame) == len(wanted)
    for line, row in zip(frame.itertuples(), wanted.values(), strict=True):
        assert (line.month, line.tile, line.state) == (str(row.month), str(row.tile), row.state)
        assert line.geometry.equals(job.footprint(row.tile))
        assert (line.expected, line.used) == (len(row.expected), len(row.used))
        assert list(line.expected_list) == list(row.expected)
        for kind in ("unused", "failed", "set_aside"):
            found = getattr(row, kind)
            assert getattr(line, kind) == len(found)
            assert list(getattr(line, f"{kind}_list")) == [f"{k}: {v}" for k, v in found.items()]
    assert frame.s2_quality_cloud.tolist()[:2] == [96, 3686]
    assert frame.s2_quality_valid.isna().tolist() == [False, False, False, True]
    # Readers with a map in view take only what lies in it.
    west, south, east, north = job.footprint(CORNER).buffer(-1e-3).bounds
    near = geopandas.read_parquet(path, bbox=(west, south, east, north))
    assert set(near.tile) == {str(CORNER)}


@pytest.mark.slow
def test_a_continent_takes_minutes_and_not_hours(tmp_path: Path) -> None:
    """10,000 tiles and 2 months with 800 scenes and as many items set aside, all by place."""
    bare = made_job(tmp_path, nx=100, ny=100, period="2022-01..2022-02")
    outlines = [bare.footprint(tile).buffer(0.002).envelope.wkt for tile in bare.tiles[::25]]
    months = list(Months.parse("2022-01..2022-02"))

    def scenes() -> Iterator[Any]:
        for number, outline in enumerate(outlines):
            for month in months:
                id, when = f"s2-{number}-{month}", f"{month}-10T10:00:00+00:00"
                yield make_scene(id, when=when, bands=("B04", "B08"), footprint=outline)

    items = tuple(scenes())
    aside = tuple(
        SetAside(
            id=f"{s.id}-old", collection="s2", reason="older", start=s.start, footprint=s.footprint
        )
        for s in items
    )
    table = SceneTable(search="made", scenes=items, set_aside=aside)
    started = time.process_time()
    path = write_ledger(Progress.of(Job(spec=bare.spec, scenes=table)), tmp_path / "all.parquet")
    seconds = time.process_time() - started
    frame = geopandas.read_parquet(path, columns=["tile", "set_aside", "geometry"])
    assert len(frame) == 10_000 * 2
    assert frame.set_aside.sum() >= len(items)
    assert seconds < 60
