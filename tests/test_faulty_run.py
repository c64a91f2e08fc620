"""Whole runs whose pixels come from a server that fails: every pixel is right, or says it is not.

A simulated region is served over HTTP. Some files are broken for good, in every way that the server
knows, and a twentieth of all other requests fails in passing.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cdscale import cli
from cdscale.plan import freeze
from cdscale.progress import Progress, status
from cdscale.spec.cube import SensorQuality
from cdscale.spec.run import load_run
from cdscale.spec.task import Stage
from cdscale.store import Ledger, open_store
from cdscale.testing import Behaviour, Fault, FaultServer, mixed_faults, write_served
from tests.regions import PC, plain_spec, products, write_spec

pytestmark = [
    pytest.mark.slow,
    # What a header that came only in part looks like; the reader refuses it by itself.
    pytest.mark.filterwarnings("ignore:Dataset has no geotransform"),
]

LASTING = ("404", "503", "html", "cut", "short", "drop", "403", "429")
"""What a broken file does, each kind in turn."""
SHARE = 0.05
QUICK = {"count": 2, "memory": "2GiB", "retries": 0}


@dataclass(frozen=True)
class Remote:
    """The region on a server of its own, as an item collection with profiles for it."""

    server: FaultServer
    folder: Path


@contextmanager
def served(catalogue: Path, folder: Path) -> Iterator[Remote]:
    """A server with an address of its own: GDAL, which all runs share, remembers by address."""
    with FaultServer(catalogue.parent) as server:
        write_served(catalogue.parent, server.url, folder, PC)
        yield Remote(server, folder)


@pytest.fixture
def remote(region_catalogue: Path, tmp_path: Path) -> Iterator[Remote]:
    with served(region_catalogue, tmp_path / "remote") as found:
        yield found


def spec_file(remote: Path, folder: Path, **changes: Any) -> Path:
    fields = plain_spec(remote / "items.json", folder / "out", **changes)
    fields |= {
        "catalogue": str(remote / "items.json"),
        "collections": {name: str(remote / f"{name}.yaml") for name in PC},
        "workers": QUICK,
    }
    return write_spec(folder / "spec.yaml", fields)


def broken_files(remote: Path, seed: int) -> list[str]:
    """A twentieth of the files, at least one of each sensor."""
    hrefs = [
        asset["href"]
        for item in json.loads((remote / "items.json").read_text())["features"]
        if item["properties"]["datetime"][:7] in {"2022-04", "2022-05"}
        for key, asset in item["assets"].items()
        if key in {"B04", "B08", "SCL", "vv"}
    ]
    paths = ["/" + href.split("/", 3)[3] for href in hrefs]
    chosen = random.Random(seed).sample(paths, max(2, round(SHARE * len(paths))))
    return [*chosen, next(p for p in paths if "sentinel-1" in p)]


def pixels(spec: Path) -> dict[str, Any]:
    """Every array of the cube."""
    job = freeze(load_run(spec))
    store = open_store(job.store_path(Stage.COMPOSE), job.layouts[Stage.COMPOSE])
    return {
        f"{v.name} {month} {tile}": store.read(v.name, tile, month)
        for v in store.spec.variables
        for month in job.spec.period
        for tile in job.tiles
    }


@pytest.fixture(scope="module")
def clean(
    region_catalogue: Path, threads: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """The run without faults."""
    folder = tmp_path_factory.mktemp("clean")
    with served(region_catalogue, folder / "remote") as remote:
        spec = spec_file(remote.folder, folder)
        assert cli.run_job(load_run(spec), threads) == 0
    return spec, pixels(spec)


@pytest.mark.parametrize("reader", ["stackstac", "odc"])
def test_a_faulty_run_has_no_silent_hole_and_is_made_whole(
    remote: Remote,
    clean: tuple[Path, dict[str, Any]],
    tmp_path: Path,
    threads: str,
    reader: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = spec_file(remote.folder, tmp_path, reader=reader)
    expected = clean[1]
    if reader == "odc":
        whole = spec_file(remote.folder, tmp_path / "whole", reader=reader)
        assert cli.run_job(load_run(whole), threads) == 0
        expected = pixels(whole)
    broken = broken_files(remote.folder, seed=len(reader))
    lasting = tuple(
        Fault(LASTING[n % len(LASTING)], path=path, rate=1.0) for n, path in enumerate(broken)
    )
    remote.server.behave(Behaviour(faults=(*lasting, *mixed_faults(SHARE)), seed=1))
    try:
        code = cli.run_job(load_run(spec), threads)
    finally:
        remote.server.heal()
    assert code == 1
    job = freeze(load_run(spec))
    told = status(job).stages["compose"].incomplete
    assert told  # broken files are named with their scenes
    reasons = " ".join(reason for scenes in told.values() for reason in scenes.values())
    assert "?" not in reasons
    assert_no_silent_hole(pixels(spec), expected)
    again = cli.app(
        ["run", str(spec), "--retry-failed", "--cluster", threads], standalone_mode=False
    )
    assert again == 0
    for name, block in pixels(spec).items():
        np.testing.assert_array_equal(block, expected[name], err_msg=name)
    if reader == "stackstac":
        assert products(spec.parent / "out") == products(clean[0].parent / "out")


def assert_no_silent_hole(got: dict[str, Any], expected: dict[str, Any]) -> None:
    """Each pixel is as it would be without faults, or marked as not read."""
    marked = 0
    for name, block in got.items():
        variable, _, place = name.partition(" ")
        sensor = variable[:2]
        failed = got[f"{sensor}_quality {place}"] == SensorQuality.read_failed
        same = (block == expected[name]) | ((block != block) & (expected[name] != expected[name]))
        wrong = ~same & ~failed
        assert not wrong.any(), f"{name}: {int(wrong.sum())} pixels are wrong and do not say so"
        marked += int(failed.sum())
    assert marked > 0


def test_faults_in_passing_leave_no_trace(
    remote: Remote,
    clean: tuple[Path, dict[str, Any]],
    tmp_path: Path,
    threads: str,
) -> None:
    spec = spec_file(remote.folder, tmp_path)
    remote.server.clear()
    remote.server.behave(Behaviour(faults=mixed_faults(SHARE), seed=3))
    try:
        code = cli.run_job(load_run(spec), threads)
        struck = [request for request in remote.server.log if request.fault]
    finally:
        remote.server.heal()
    assert len({request.fault for request in struck}) > 3
    assert code == 0
    assert products(tmp_path / "out") == products(clean[0].parent / "out")
    job = freeze(load_run(spec))
    progress = Progress(job, Ledger(job.ledger_folder))
    assert all(progress.receipt(task) is not None for task in job.tasks(Stage.COMPOSE))
