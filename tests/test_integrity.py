"""Stores read again: what is damaged is found, and exactly that is made again."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from benchmarks.damages import Silent
from cdscale.errors import StoreError
from cdscale.integrity import Findings, Kind, inspect, run_of
from cdscale.progress import Progress
from cdscale.run import repair
from cdscale.spec.task import Stage, Task
from cdscale.store import Ledger, Plane, Store, read_spec
from cdscale.testing import DAMAGES, damage
from tests.commands import Cli, refused
from tests.regions import SmallRun, products, state_of


@pytest.fixture
def copy(small_run: SmallRun, tmp_path: Path) -> Path:
    """The output of the small run, to be damaged."""
    return Path(shutil.copytree(small_run.output, tmp_path / "out"))


def look(output: Path) -> Findings:
    return inspect(*run_of(output))


def store_of(output: Path, stage: Stage = Stage.COMPOSE) -> Store:
    path = run_of(output)[0].store_path(stage)
    return Store(path, read_spec(path))


def shards(output: Path) -> list[tuple[Stage, Task, str, Path]]:
    """Every shard that has a file, with its stage, task and variable."""
    job, stages = run_of(output)
    return [
        (stage, task, name, file)
        for stage in stages
        for task in job.tasks(stage)
        for file, name in store_of(output, stage).files(task.tile, task.month).items()
        if file.exists()
    ]


def differing(output: Path) -> Iterator[tuple[tuple[str, Path, str], ...]]:
    """Pairs of shards of one variable whose pixels differ: (task, file, variable)."""
    job, _ = run_of(output)
    ledger = Ledger(job.ledger_folder)
    found = [(str(t), f, n, ledger.read(t)) for _, t, n, f in shards(output)]
    for (task, file, name, mine), (other, beside, also, yours) in combinations(found, 2):
        alike = mine and yours and mine.checksums[name] == yours.checksums.get(also)
        if name == also and not alike:
            yield (task, file, name), (other, beside, name)


def test_a_sound_run_has_no_fault_and_is_not_touched(copy: Path) -> None:
    before = state_of(copy)
    found = look(copy)
    assert (found.faults, found.undone) == ((), 0)
    job, stages = run_of(copy)
    counts = [len(job.tasks(s)) * len(store_of(copy, s).spec.variables) for s in stages]
    assert found.shards == sum(counts)
    assert found.bytes == sum(
        len(job.tasks(s)) * store_of(copy, s).spec.shard_bytes for s in stages
    )
    assert state_of(copy) == before
    assert look(copy / "urban.zarr").shards == counts[1]


@pytest.mark.parametrize("kind", DAMAGES)
def test_every_damage_of_any_shard_is_found(copy: Path, kind: str) -> None:
    rng = random.Random(kind)
    one, other = rng.choice(list(differing(copy)))
    kept = {file: file.read_bytes() for _, file, _ in (one, other)}
    damage(kind, one[1], other[1], rng)
    expected = {one[::2], other[::2]} if kind == "swap" else {one[::2]}
    store = next(path for path in one[1].parents if path.suffix == ".zarr")
    found = look(store)
    assert {(fault.task, fault.variable) for fault in found.faults} == expected
    means = {"delete": Kind.MISSING, "swap": Kind.SWAPPED}.get(kind, Kind.DAMAGED)
    assert {fault.kind for fault in found.faults} == {means}
    for file, content in kept.items():
        file.write_bytes(content)
    assert look(store).faults == ()


def test_pixels_that_were_written_past_the_receipts_are_found(copy: Path) -> None:
    store = store_of(copy)
    job, _ = run_of(copy)
    task = job.tasks(Stage.COMPOSE)[0]
    index = tuple(store.spec.region(task.tile, task.month).values())
    array: Any = zarr.open_group(store.path, mode="r+")["s2_date"]
    array[index] = np.asarray(array[index]) + 1
    (fault,) = look(copy).faults
    assert (fault.kind, fault.variable, fault.task) == (Kind.CHANGED, "s2_date", str(task))


def test_what_was_damaged_is_made_again_and_nothing_else(
    copy: Path, small_run: SmallRun, cdscale: Cli, threads: str
) -> None:
    rng = random.Random(4)
    pairs = list(differing(copy))
    used: set[Path] = set()
    tasks: set[str] = set()
    for kind in DAMAGES:
        one, other = rng.choice([p for p in pairs if not used & {q[1] for q in p}])
        damage(kind, one[1], other[1], rng)
        used |= {one[1], other[1]}
        tasks |= {one[0], other[0]} if kind == "swap" else {one[0]}
    stray = copy / "cube.zarr" / "s1" / "c" / "0" / "0" / "77" / "1"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"?")
    receipts = state_of(copy / "run" / "receipts")
    said = cdscale("verify", copy)
    assert said.code == 1
    assert all(task in said.err for task in tasks)
    assert "s1/c/0/0/77/1" in said.err.replace("\n", "")
    assert "--repair" in said.err
    repaired = cdscale("verify", copy, "--repair", "--cluster", threads)
    assert repaired.code == 0, repaired.err
    assert f"{len(tasks)} tasks done again" in repaired.err
    assert "all as their receipts say" in repaired.out
    assert products(copy) == small_run.products
    after = state_of(copy / "run" / "receipts")
    assert {n.removesuffix(".json") for n in after if after[n] != receipts[n]} == tasks
    assert cdscale("verify", copy, "--json").code == 0


def test_receipts_that_are_gone_or_do_not_read(
    copy: Path, small_run: SmallRun, cdscale: Cli, threads: str
) -> None:
    job, _ = run_of(copy)
    one, other = job.tasks(Stage.COMPOSE)[:2]
    (job.ledger_folder / f"{one}.json").unlink()
    (job.ledger_folder / f"{other}.json").write_text("{")
    found = look(copy)
    assert {(f.kind, f.task) for f in found.faults} == {
        (Kind.UNKNOWN, str(one)), (Kind.UNKNOWN, str(other)),
    }  # fmt: skip
    assert found.undone == 2
    assert cdscale("verify", copy, "--repair", "--cluster", threads).code == 0
    assert products(copy) == small_run.products


def test_a_run_that_is_under_way_has_no_faults(copy: Path, cdscale: Cli) -> None:
    job, _ = run_of(copy)
    task = job.tasks(Stage.COMPOSE)[0]
    Ledger(job.ledger_folder).drop([task])
    store = store_of(copy)
    store.withdraw([task.month])
    for file in store.files(task.tile, task.month):
        file.unlink(missing_ok=True)
    found = look(copy)
    assert (found.faults, found.undone) == ((), 1)
    said = cdscale("verify", copy)
    assert said.code == 0
    assert "1 tasks are still to do" in said.out


def test_a_published_month_without_pixels_or_receipt_is_a_fault(copy: Path) -> None:
    job, _ = run_of(copy)
    task = job.tasks(Stage.MAP)[0]
    Ledger(job.ledger_folder).drop([task])
    for file in store_of(copy, Stage.MAP).files(task.tile, task.month):
        file.unlink(missing_ok=True)
    (fault,) = look(copy).faults
    assert (fault.kind, fault.task, fault.said) == (
        Kind.MISSING, str(task), "its month is published",
    )  # fmt: skip


def test_a_coordinate_that_was_damaged_is_laid_out_again(
    copy: Path, small_run: SmallRun, cdscale: Cli, threads: str
) -> None:
    file = next((copy / "cube.zarr" / "x" / "c").rglob("0"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)
    (fault,) = look(copy).faults
    assert (fault.kind, fault.variable, fault.task) == (Kind.DAMAGED, "x", "")
    assert cdscale("verify", copy / "cube.zarr", "--repair", "--cluster", threads).code == 0
    assert products(copy) == small_run.products


def test_months_of_another_run_are_left_to_it(
    copy: Path, small_run: SmallRun, cdscale: Cli, threads: str
) -> None:
    """The folder was last run for April alone; a shard of May is gone."""
    job, _ = run_of(copy)
    (task,) = [t for t in job.tasks(Stage.COMPOSE) if t.month != job.spec.period.first][:1]
    path = copy / "run" / "job.json"
    kept = json.loads(path.read_text())
    kept["spec"]["period"] = "2022-04"
    path.write_text(json.dumps(kept))
    file = next(f for f in store_of(copy).files(task.tile, task.month) if f.exists())
    file.unlink()
    said = cdscale("verify", copy / "cube.zarr", "--repair", "--cluster", threads)
    assert said.code == 1
    assert f"{task} is of another run" in said.err
    assert task.month not in store_of(copy).published()
    spec = small_run.spec(copy.parent)
    assert cdscale("run", spec, "--cluster", threads).code == 0
    assert products(copy) == small_run.products


def test_what_is_no_run_is_refused(copy: Path, tmp_path: Path, cdscale: Cli) -> None:
    for path in (tmp_path / "nothing", tmp_path, copy / "run"):
        refused(cdscale("verify", path), str(path.name))
    (copy / "run" / "job.json").write_text("no")
    with pytest.raises(StoreError, match=r"job\.json: it does not read"):
        run_of(copy / "cube.zarr")
    refused(cdscale("verify", copy, "--cluster", "moon"), "unknown cluster")


def test_files_among_the_receipts_that_are_none_are_passed_over(copy: Path) -> None:
    job, _ = run_of(copy)
    month = job.ledger_folder / "compose" / str(job.spec.period.first)
    for name in ("notes.json", "x1.json", ".hidden.json", "x0012y0034.txt"):
        (month / name).write_text("?")
    assert (look(copy).faults, Progress.of(job).finished) == ((), True)


def test_json_names_every_fault(copy: Path, cdscale: Cli) -> None:
    _, task, name, file = shards(copy)[0]
    file.unlink()
    said = cdscale("verify", copy, "--json")
    assert said.code == 1
    (fault,) = json.loads(said.out)["faults"]
    assert (fault["kind"], fault["task"], fault["variable"]) == ("missing", str(task), name)


# ----------------------------------------------------------------------------------- overviews


def in_overviews(output: Path) -> list[tuple[str, Path]]:
    """Every shard of an urban overview that has a file: its name among the faults, and the file."""
    files = sorted(p for p in output.glob("urban.zarr/[12]/*/c/*/*/*"))
    return [(str(file.relative_to(output / "urban.zarr").parents[3]), file) for file in files]


def named(output: Path) -> set[tuple[str, Kind]]:
    return {(fault.variable, fault.kind) for fault in look(output / "urban.zarr").faults}


def test_damage_to_any_overview_is_found_and_made_again_and_nothing_else(
    copy: Path, small_run: SmallRun, cdscale: Cli
) -> None:
    rng, every = random.Random(5), in_overviews(copy)
    one, other = next(
        (a, b)
        for a, b in combinations(every, 2)
        if a[0] == b[0] and a[1].read_bytes() != b[1].read_bytes()
    )
    damage("swap", one[1], other[1], rng)
    expected, hurt = {(one[0], Kind.STALE)}, {one[1], other[1]}
    rest = [shard for shard in every if shard[1] not in hurt]
    kinds = [kind for kind in DAMAGES if kind != "swap"]
    for kind, (name, file) in zip(kinds, rng.sample(rest, len(kinds)), strict=True):
        damage(kind, file, file, rng)
        hurt.add(file)
        expected.add((name, Kind.MISSING if kind == "delete" else Kind.DAMAGED))
    stray = copy / "urban.zarr" / "1" / "quality" / "c" / "0" / "9" / "9"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"?")
    assert named(copy) == expected | {("1/quality", Kind.FOREIGN)}
    before = state_of(copy)
    said = cdscale("verify", copy / "urban.zarr", "--repair")
    assert said.code == 0, said.err
    assert f"{len(hurt)} shards of overviews made again" in said.err
    assert products(copy) == small_run.products
    after = state_of(copy)
    touched = {copy / name for name, state in after.items() if before.get(name) != state}
    shards = {path for path in touched if ".zarr" in str(path) and "published" not in path.parts}
    assert shards <= hurt
    assert not stray.exists()


def test_above_a_damaged_tile_an_overview_is_not_blamed(copy: Path) -> None:
    (_, task, name, file), *_ = [s for s in shards(copy) if s[0] is Stage.MAP]
    damage("flip", file, file, random.Random(1))
    faults = look(copy / "urban.zarr").faults
    assert [(fault.variable, fault.task) for fault in faults] == [(name, str(task))]


def test_overviews_that_are_gone_hidden_or_lie_elsewhere_are_made_again(
    copy: Path, small_run: SmallRun, cdscale: Cli
) -> None:
    urban = copy / "urban.zarr"
    damage("flip", next((urban / "1" / "x" / "c").rglob("0")), urban, random.Random(2))
    for mark in (urban / "2" / "published" / "c").iterdir():
        mark.unlink()
    assert named(copy) == {("1/x", Kind.DAMAGED), ("2/published", Kind.MISSING)}
    assert cdscale("verify", urban, "--repair").code == 0
    assert products(copy) == small_run.products
    shutil.rmtree(urban / "2")
    assert named(copy) == {("2", Kind.MISSING)}
    assert cdscale("verify", urban, "--repair").code == 0
    assert products(copy) == small_run.products


def test_an_overview_is_damaged_beside_a_tile_that_comes_out_otherwise(
    copy: Path, small_run: SmallRun, cdscale: Cli, threads: str
) -> None:
    (_, task, _, file), *_ = [s for s in shards(copy) if s[0] is Stage.MAP]
    damage("flip", file, file, random.Random(1))
    # Its overviews were made from other pixels, so that they are made again: from those beside.
    record = copy / "run" / "overviews" / "map" / f"{task.month}.json"
    kept = json.loads(record.read_text(encoding="utf-8"))
    kept["tiles"][str(task.tile)] = "other"
    record.write_text(json.dumps(kept), encoding="utf-8")
    for _, above in in_overviews(copy):
        if above.parts[-6] == "1":
            damage("flip", above, above, random.Random(2))
    assert look(copy).torn(tuple(Stage)) == {(Stage.MAP, task.month)}
    repaired = cdscale("verify", copy, "--repair", "--cluster", threads)
    assert repaired.code == 0, repaired.err
    assert products(copy) == small_run.products


def test_whoever_is_killed_while_overviews_are_mended_shows_nothing_half_made(
    copy: Path, small_run: SmallRun, cdscale: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    (_, file), *_ = in_overviews(copy)
    damage("delete", file, file, random.Random(3))

    def dies(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Plane, "write", dies)
    job, stages = run_of(copy / "urban.zarr")
    with pytest.raises(KeyboardInterrupt):
        repair(job, stages, inspect(job, stages), "local", Silent())
    marks: Any = zarr.open_group(copy / "urban.zarr" / "1", mode="r")["published"]
    assert not marks[0]
    monkeypatch.undo()
    assert cdscale("mosaic", copy / "urban.zarr").code == 0
    assert products(copy) == small_run.products
