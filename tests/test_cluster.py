"""Where Dask runs: bound to this machine, found at an address, or refused with a reason."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import dask
import pytest
from distributed import Client

from cdscale import cluster
from cdscale.cluster import connect, worker_count, worker_memory
from cdscale.errors import PlanError, SpecError
from cdscale.spec.run import Workers
from tests.regions import thread_cluster

ONE = Workers(count=1, memory="1GiB")


def listening() -> set[str]:
    """Addresses, as hexadecimal, on which processes of this session listen."""
    mine = {pid for pid in os.listdir("/proc") if pid.isdigit() and _ours(pid)}
    inodes = {inode for pid in mine for inode in _sockets(pid)}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text(encoding="utf-8").splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                found.add(fields[1].partition(":")[0])
    return found


def _ours(pid: str) -> bool:
    try:
        return os.getsid(int(pid)) == os.getsid(0)
    except OSError:
        return False


def _sockets(pid: str) -> list[str]:
    try:
        links = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return []
    return [link[8:-1] for link in links if link.startswith("socket:[")]


def test_a_local_cluster_listens_on_this_machine_only() -> None:
    before = dask.config.get("distributed.worker.memory.spill")
    with connect("local", ONE) as place:
        info = place.client.scheduler_info()
        (worker,) = info["workers"].values()
        assert place.slots == 1
        assert not place.gpu
        assert worker["memory_limit"] == 2**30
        assert info["address"].startswith("tcp://127.0.0.1:")
        assert worker["nanny"].startswith("tcp://127.0.0.1:")
        assert place.dashboard.startswith("http://127.0.0.1:")
        assert place.client.submit(int, "7").result() == 7
        local = {"0100007F", "00000000000000000000000001000000"}
        assert listening() <= local
    assert dask.config.get("distributed.worker.memory.spill") == before


def test_a_cluster_at_an_address_is_used_and_left_running() -> None:
    before = dask.config.get("scheduler", None)
    with thread_cluster(threads=2) as there:
        for _ in range(2):
            with connect(there.scheduler_address, ONE) as place:
                assert (place.slots, place.gpu) == (2, False)
                assert place.client.submit(int, "7").result() == 7
                assert dask.config.get("scheduler", None) == before
        with Client(there.scheduler_address) as client:
            assert len(client.nthreads()) == 1


def test_a_cluster_whose_workers_have_gpus_is_known_by_them() -> None:
    with (
        dask.config.set({"distributed.worker.resources": {"GPU": 1}}),
        thread_cluster() as there,
        connect(there.scheduler_address, ONE) as place,
    ):
        assert place.gpu
        assert place.client.submit(int, "7", resources=cluster.GPU).result() == 7


@pytest.mark.parametrize("choice", ["nonsense", "", "Local", "127.0.0.1:8786", "SLURM"])
def test_a_choice_that_is_none_is_refused(choice: str) -> None:
    with (
        pytest.raises(
            SpecError, match="unknown cluster; expected local, cuda, slurm, or an address"
        ),
        connect(choice, ONE),
    ):
        pass


@pytest.mark.parametrize(
    "address",
    ["tcp://127.0.0.1:1", "tcp://127.0.0.1", "tcp://", "ftp://127.0.0.1:8786", "tcp://127.0.0.1:x"],
)
def test_an_address_that_does_not_answer_is_refused(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.3)
    before = dask.config.get("scheduler", None)
    with (
        pytest.raises(PlanError, match=f"no Dask scheduler answers at {address}; .*dask scheduler"),
        connect(address, ONE),
    ):
        pass
    assert dask.config.get("scheduler", None) == before  # lazy arrays compute as before


def test_no_gpu_is_said() -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("there is one")
    with (
        pytest.raises(PlanError, match="cannot start workers on GPUs.*--cluster local"),
        connect("cuda", ONE),
    ):
        pass


FAKE_SBATCH = """#!{python}
import re, subprocess, sys
script = open(sys.argv[-1]).read()
open({log!r}, "a").write(script)
command = next(line for line in script.splitlines() if "dask_worker" in line)
job = subprocess.Popen(command, shell=True, start_new_session=True,
    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print("Submitted batch job", job.pid)
"""
FAKE_SCANCEL = """#!{python}
import os, signal, sys
for job in sys.argv[1:]:
    try:
        os.killpg(int(job), signal.SIGTERM)
    except ProcessLookupError:
        pass
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose ``sbatch`` starts jobs as processes; returns the log of their scripts."""
    log = tmp_path / "jobs.log"
    for name, text in (("sbatch", FAKE_SBATCH), ("scancel", FAKE_SCANCEL)):
        file = tmp_path / name
        file.write_text(text.format(python=sys.executable, log=str(log)))
        file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return log


def test_slurm_jobs_are_workers_with_what_the_spec_says(slurm: Path) -> None:
    options = {"queue": "long", "account": "land", "walltime": "02:00:00", "interface": "lo"}
    workers = Workers(count=2, memory="1GiB", gpu=True, options=options)
    with connect("slurm", workers) as place:
        place.client.wait_for_workers(2, timeout=60)
        assert (place.slots, place.gpu) == (2, True)
        assert place.client.submit(int, "7", resources=cluster.GPU).result(timeout=30) == 7
        assert place.dashboard.startswith("http://127.0.0.1:")
    scripts = slurm.read_text()
    assert scripts.count("#SBATCH -p long") == scripts.count("#SBATCH -A land") == 2
    assert scripts.count("#SBATCH -t 02:00:00") == 2


def test_slurm_without_a_number_of_jobs_or_with_foreign_options_is_refused(slurm: Path) -> None:
    with (
        pytest.raises(SpecError, match=r"workers\.count says how many"),
        connect("slurm", Workers()),
    ):
        pass
    odd = Workers(count=1, options={"interface": "lo", "colour": "blue"})
    with (
        pytest.raises(PlanError, match="SLURM takes no jobs like these.*colour"),
        connect("slurm", odd),
    ):
        pass


@pytest.mark.gpu
def test_one_worker_for_each_gpu() -> None:
    if not Path("/dev/nvidiactl").exists():
        pytest.skip("no GPU here")
    with connect("cuda", ONE) as place:
        assert place.gpu
        assert place.slots >= 1


@pytest.mark.parametrize(
    ("text", "size"), [("4GiB", 4 * 2**30), ("1.5 GB", 1_500_000_000), ("500MB", 500_000_000)]
)
def test_memory_reads(text: str, size: int) -> None:
    assert worker_memory(Workers(memory=text)) == size


@pytest.mark.parametrize("text", ["much", "", "4 parsecs", "-1GB", "0"])
def test_memory_that_does_not_read_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match=r"workers\.memory does not read.*like 4GiB"):
        worker_memory(Workers(memory=text))


def test_workers_are_as_many_as_asked_for_or_one_for_each_core() -> None:
    assert worker_count(Workers(count=3)) == 3
    assert 1 <= worker_count(Workers()) <= len(os.sched_getaffinity(0))
