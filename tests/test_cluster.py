"""Where Dask runs: bound to this machine, found at an address, or refused with a reason."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import dask
import pytest
from distributed import Client, KilledWorker, LocalCluster
from distributed.security import Security

from cdscale import cluster
from cdscale.cluster import Slots, connect, errands, worker_count, worker_lanes, worker_memory
from cdscale.cluster import place as places
from cdscale.cluster.cut import scale
from cdscale.cluster.gpus import Gpu, own_gpu, refuse_shared, uuid_of
from cdscale.errors import PlanError, SpecError, StoreError
from cdscale.spec.run import GPU_LANES, Workers
from tests.regions import descendants, thread_cluster

ONE = Workers(count=1, memory="1GiB")


def listening() -> set[str]:
    """Addresses, as hexadecimal, on which this process and those that it started listen."""
    mine = descendants(os.getpid()) | {os.getpid()}
    inodes = {inode for pid in mine for inode in _sockets(pid)}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text(encoding="utf-8").splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                found.add(fields[1].partition(":")[0])
    return found


def _sockets(pid: int) -> list[str]:
    try:
        links = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return []
    return [link[8:-1] for link in links if link.startswith("socket:[")]


def test_a_local_cluster_listens_on_this_machine_only_and_keeps_its_workers() -> None:
    before = dask.config.get("distributed.worker.memory.spill")
    # Dask gives workers up that are not back by then: a killed one never is.
    hasty = dask.config.set({"distributed.deploy.lost-worker-timeout": "1ms"})
    with hasty, connect("local", ONE) as place:
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
        os.kill(place.client.submit(os.getpid).result(), signal.SIGKILL)
        assert place.client.submit(time.sleep, 0.5).result(timeout=60) is None
    assert dask.config.get("distributed.worker.memory.spill") == before


def first_worker() -> int:
    """The first process that this one starts for a cluster, as soon as it is there."""
    while True:
        for pid in descendants(os.getpid()):
            try:
                command = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8")
            except OSError:
                continue
            if "multiprocessing.spawn" in command:
                return pid
        time.sleep(0.01)


def test_a_worker_killed_on_its_way_is_started_again() -> None:
    with ThreadPoolExecutor(1) as pool:
        # Long before it is there: no nanny takes it up.
        killed = pool.submit(lambda: os.kill(first_worker(), signal.SIGKILL))
        with connect("local", ONE) as place:
            assert place.client.submit(sum, [1, 2]).result(timeout=60) == 3
        killed.result(timeout=1)


def test_workers_that_never_start_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def start(**_: object) -> LocalCluster:
        tried.append(1)
        raise RuntimeError("Nanny failed to start.") from RuntimeError("killed by the system")

    monkeypatch.setattr(cluster, "LocalCluster", start)
    with (
        pytest.raises(PlanError, match="killed by the system, 3 times.*workers.count"),
        connect("local", ONE),
    ):
        pass
    assert len(tried) == cluster.STARTS


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
            SpecError, match="expected local, cuda, slurm, kubernetes, or an address like tcp://10"
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


def test_slurm_jobs_are_workers_with_what_the_spec_says(
    slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"queue": "long", "account": "land", "walltime": "02:00:00", "interface": "lo"}
    workers = Workers(count=2, memory="1GiB", gpu=True, options=options)
    shared = tmp_path / "shared"
    shared.mkdir()
    with connect("slurm", workers, shared) as place:
        place.client.wait_for_workers(2, timeout=60)
        assert (place.slots, place.gpu) == (6, True)
        assert place.client.submit(int, "7", resources=cluster.GPU).result(timeout=30) == 7
        assert place.dashboard.startswith("http://127.0.0.1:")
        # Who has no key of this cluster sends it nothing.
        address = place.client.scheduler_info()["address"]
        assert address.startswith("tls://")
        monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.3)
        for way in (address, address.replace("tls://", "tcp://")):
            with pytest.raises(PlanError, match="no Dask scheduler answers"), connect(way, ONE):
                pass
        (folder,) = shared.iterdir()
        assert folder.stat().st_mode & 0o777 == 0o700
        assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert list(shared.iterdir()) == []
    scripts = slurm.read_text()
    assert scripts.count("#SBATCH -p long") == scripts.count("#SBATCH -A land") == 2
    assert scripts.count("#SBATCH -t 02:00:00") == scripts.count("--cpus-per-task=3") == 2
    assert scripts.count("--nthreads 3 ") == scripts.count("--resources GPU=3") == 2


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


def test_a_scheduler_with_certificates_is_reached_with_those_of_dasks_settings(
    tmp_path: Path,
) -> None:
    security = Security.temporary()
    role = security.get_tls_config_for_role("client")
    for name in ("ca_file", "cert", "key"):
        (tmp_path / name).write_text(role[name])
    tls = "distributed.comm.tls"
    settings = {f"{tls}.client.{name}": str(tmp_path / name) for name in ("cert", "key")}
    settings[f"{tls}.ca-file"] = str(tmp_path / "ca_file")
    with thread_cluster(security=security, protocol="tls") as there:
        with (
            pytest.raises(PlanError, match=r"Name its certificates in Dask's settings"),
            connect(there.scheduler_address, ONE),
        ):
            pass
        with (
            dask.config.set(settings),
            connect(there.scheduler_address, ONE) as place,
        ):
            assert place.client.submit(int, "7").result() == 7


class Scaled:
    """A cluster that notes how large it is to be."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def scale(self, count: int) -> None:
        self.asked.append(count)

    def adapt(self, **range_: int) -> None:
        self.asked.append(range_)


def test_a_cluster_may_follow_what_there_is_to_do() -> None:
    there: Any = Scaled()
    scale(there, Workers(count=8))
    scale(there, Workers(count=8, at_least=2))
    assert there.asked == [8, {"minimum": 2, "maximum": 8}]
    with pytest.raises(ValueError, match=r"at_least \(9\) is more than count \(8\)"):
        Workers(count=8, at_least=9)


# -------------------------------------------------------------------------------------- Kubernetes


class FakeKube(LocalCluster):
    """The operator's cluster manager: notes what it is asked for, and is a cluster in here."""

    given: ClassVar[list[dict[str, Any]]] = []
    ended: ClassVar[list[str]] = []

    def __init__(
        self,
        *,
        namespace: str | None = None,
        custom_cluster_spec: dict[str, Any] | None = None,
        quiet: bool = False,
    ) -> None:
        assert custom_cluster_spec is not None
        self.given.append({"namespace": namespace, "spec": custom_cluster_spec["spec"]})
        super().__init__(
            n_workers=1,
            processes=False,
            protocol="tcp",
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            silence_logs=50,
        )

    def adapt(self, **range_: Any) -> Any:  # type: ignore[override]
        self.given[-1] |= range_

    def __exit__(self, *error: Any) -> None:
        self.ended.append(self.scheduler_address)
        super().__exit__(*error)


def make_cluster_spec(name: str, *, image: str, n_workers: int, **rest: Any) -> dict[str, Any]:
    """The parts of what the operator's own function makes that matter here."""

    def pod(kind: str) -> dict[str, Any]:
        return {"containers": [{"name": kind, "image": image, "args": [f"dask-{kind}"], **rest}]}

    worker = {"replicas": n_workers, "spec": pod("worker")}
    return {"metadata": {"name": name}, "spec": {"worker": worker, "scheduler": {"spec": pod("s")}}}


@pytest.fixture
def kube(monkeypatch: pytest.MonkeyPatch) -> type[FakeKube]:
    """A machine from which a Kubernetes cluster with the operator is reached."""
    operator: Any = ModuleType("dask_kubernetes.operator")
    operator.KubeCluster, operator.make_cluster_spec = FakeKube, make_cluster_spec
    server: Any = ModuleType("kr8s")
    server.api = lambda: SimpleNamespace(version=dict)
    for name, module in (("dask_kubernetes.operator", operator), ("kr8s", server)):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "dask_kubernetes", ModuleType("dask_kubernetes"))
    monkeypatch.setattr(FakeKube, "given", [])
    monkeypatch.setattr(FakeKube, "ended", [])
    return FakeKube


def test_pods_are_workers_with_what_the_spec_says(kube: type[FakeKube]) -> None:
    volume = {"name": "out", "persistentVolumeClaim": {"claimName": "cubes"}}
    options = {
        "image": "here/cdscale:gpu",
        "namespace": "land",
        "env": {"AWS_REGION": "eu"},
        "env_from": [{"secretRef": {"name": "keys"}}],
        "volumes": [volume],
        "volume_mounts": [{"name": "out", "mountPath": "/data"}],
        "limits": {"cpu": "8"},
    }
    workers = Workers(count=4, at_least=2, memory="1GiB", gpu=True, options=options)
    with connect("kubernetes", workers) as place:
        assert place.gpu
        assert kube.ended == []
        assert place.client.submit(int, "7").result() == 7
    assert len(kube.ended) == 1
    (given,) = kube.given
    assert (given["namespace"], given["minimum"], given["maximum"]) == ("land", 2, 4)
    assert given["spec"]["worker"]["replicas"] == 2
    pod = given["spec"]["worker"]["spec"]
    (container,) = pod["containers"]
    command = " ".join(container["args"])
    assert command.startswith("dask worker --name $(DASK_WORKER_NAME) ")
    assert "--nthreads 3 --memory-limit 1073741824" in command
    assert "--resources GPU=3" in command
    assert container["image"] == "here/cdscale:gpu"
    limits = {"memory": "1073741824", "nvidia.com/gpu": "1", "cpu": "8"}
    assert container["resources"]["limits"] == limits
    assert {"name": "AWS_REGION", "value": "eu"} in container["env"]
    assert container["envFrom"] == options["env_from"]
    assert pod["volumes"] == [volume]
    assert container["volumeMounts"] == options["volume_mounts"]
    (scheduler,) = given["spec"]["scheduler"]["spec"]["containers"]
    assert scheduler["resources"] == {}  # no GPU for it
    assert scheduler["args"][:2] == ["dask", "scheduler"]


def test_pods_without_a_gpu_take_one_task_each(kube: type[FakeKube]) -> None:
    with connect("kubernetes", Workers(count=4, options={"image": "x"})) as place:
        assert not place.gpu
    (given,) = kube.given
    assert "minimum" not in given
    assert given["spec"]["worker"]["replicas"] == 4
    (container,) = given["spec"]["worker"]["spec"]["containers"]
    assert "GPU" not in " ".join(container["args"])
    assert container["args"][container["args"].index("--nthreads") + 1] == "1"
    assert container["resources"]["limits"].keys() == {"memory"}


@pytest.mark.parametrize(
    ("workers", "error", "said"),
    [
        (Workers(options={"image": "x"}), SpecError, r"workers\.count says how many pods"),
        (Workers(count=1), SpecError, r"workers\.options\.image says what the pods run"),
        (
            Workers(count=1, options={"image": "x", "custom_cluster_spec": "y"}),
            PlanError,
            "takes no workers like these.*unknown: custom_cluster_spec",
        ),
    ],
    ids=["count", "image", "options"],
)
def test_pods_that_are_not_told_enough_are_refused(
    kube: type[FakeKube], workers: Workers, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said), connect("kubernetes", workers):
        pass
    assert kube.given == []


def test_no_kubernetes_is_said(kube: type[FakeKube], monkeypatch: pytest.MonkeyPatch) -> None:
    one = Workers(count=1, options={"image": "x"})

    def nobody() -> None:
        raise ConnectionError("nobody there")

    monkeypatch.setattr(sys.modules["kr8s"], "api", nobody)
    with (
        pytest.raises(PlanError, match="a cluster with the Dask operator.*nobody there"),
        connect("kubernetes", one),
    ):
        pass
    assert kube.given == []
    monkeypatch.setitem(sys.modules, "dask_kubernetes.operator", None)
    with (
        pytest.raises(PlanError, match=r"pip install 'cdscale\[kubernetes\]'"),
        connect("kubernetes", one),
    ):
        pass


# -------------------------------------------------------------------------------------------- GPUs

SMI = "0, GPU-aaa\n1, GPU-bbb\n"


@pytest.mark.parametrize(
    ("first", "said", "uuid"),
    [
        ("0", SMI, "GPU-aaa"),
        ("1", SMI, "GPU-bbb"),
        ("GPU-b", SMI, "GPU-bbb"),  # cut short
        ("GPU-ccc", "", "GPU-ccc"),  # it says it itself
        ("MIG-1-2", SMI, "MIG-1-2"),
        ("0", "", ""),
        ("", SMI, ""),
        ("7", SMI, ""),
        ("0", "No devices were found\n", ""),
    ],
)
def test_a_gpu_is_known_by_its_uuid(first: str, said: str, uuid: str) -> None:
    assert uuid_of(first, said) == uuid


def test_a_worker_says_which_gpu_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\nprintf '0, GPU-aaa\\n1, GPU-bbb\\n'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    assert own_gpu() == Gpu(socket.gethostname(), os.getpid(), "GPU-bbb")
    smi.write_text("#!/bin/sh\nexit 9\n")
    assert own_gpu().uuid == ""


def test_workers_on_one_gpu_are_refused() -> None:
    apart = {"a": Gpu("h", 1, "GPU-a"), "b": Gpu("h", 2, "GPU-b"), "c": Gpu("i", 1, "")}
    refuse_shared(apart | {"d": Gpu("i", 2, "")})
    with pytest.raises(PlanError, match="same GPU, GPU-a; .*process 1 on h, and process 9 on i"):
        refuse_shared(apart | {"d": Gpu("i", 9, "GPU-a")})


def same_gpu() -> Gpu:
    return Gpu("here", 1, "GPU-a")


def unknown_gpu() -> Gpu:
    return Gpu("here", 1, "")


def test_workers_are_asked_for_their_gpus_when_they_come(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        dask.config.set({"distributed.worker.resources": {"GPU": 1}}),
        thread_cluster() as there,
    ):
        monkeypatch.setattr(places, "own_gpu", unknown_gpu)
        with connect(there.scheduler_address, ONE) as place:
            assert place.gpu
        assert "1 workers cannot tell which GPU is theirs" in caplog.text
        monkeypatch.setattr(places, "own_gpu", same_gpu)
        with connect(there.scheduler_address, ONE) as place:
            assert place.slots == 1
            there.scale(2)
            place.client.wait_for_workers(2, timeout=20)
            with pytest.raises(PlanError, match="two workers were given the same GPU, GPU-a"):
                _ = place.slots
        with (
            pytest.raises(PlanError, match="two workers were given the same GPU"),
            connect(there.scheduler_address, ONE),
        ):
            pass


# ------------------------------------------------------------------------------------- errands

CALLED: list[int] = []
"""Workers are threads of this process and share it."""


def call(number: int) -> None:
    if number == 7:
        raise StoreError("shard 7 is damaged")
    CALLED.append(number)


def test_errands_are_a_bounded_number_in_flight(
    threads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    CALLED.clear()
    sent, most = 0, 0
    send = Client.map

    def counted(self: Client, function: Any, items: list[int], **more: Any) -> Any:
        nonlocal sent, most
        sent += len(items)
        most = max(most, sent - len(CALLED))
        return send(self, function, items, **more)

    monkeypatch.setattr(Client, "map", counted)
    with connect(threads, ONE) as place:
        errands.each(place, call, range(8, 20))
        assert sorted(CALLED) == [*range(8, 20)]
        assert most == errands.WINDOW
        CALLED.clear()
        with pytest.raises(StoreError, match="shard 7 is damaged"):
            errands.each(place, call, range(7, 100))
        assert len(CALLED) < 10
        errands.each(place, call, ())


def test_an_errand_that_kills_its_workers_is_done_here_and_a_lost_cluster_said() -> None:
    CALLED.clear()
    state = SimpleNamespace(name="w", address="w", last_seen=0)

    def ended(status: str) -> Any:
        error = KilledWorker("make-1", state, 3)  # type: ignore[arg-type]
        return SimpleNamespace(status=status, exception=lambda timeout: error)

    errands._settle(ended("error"), call, 5)
    assert CALLED == [5]
    with pytest.raises(PlanError, match="does not answer any more"):
        errands._settle(ended("cancelled"), call, 6)
    assert CALLED == [5]


def test_errands_do_not_wait_for_ever_where_no_worker_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cdscale.cluster.slots.LOOK_SECONDS", -1)
    said: list[str] = []
    with (
        thread_cluster(workers=0) as alone,
        connect(alone.scheduler_address, ONE) as place,
        pytest.raises(PlanError, match="no worker for 0 seconds"),
    ):
        errands.each(replace(place, wait=0.0), call, range(8, 20), said.append)
    assert said == ["the cluster has no worker: waiting 0 seconds for one"]


DRIVER = """
import sys
from cdscale import cli, models, plan, run
from cdscale.cluster import connect
from cdscale.spec.run import Workers

if __name__ == "__main__":
    models.load_card(models.list_cards()[0].name)
    with connect("local", Workers(count=1, memory="1GiB")):
        print(sorted({"torch", "pynvml"} & sys.modules.keys()))
"""


def test_the_driver_has_not_touched_a_gpu_when_its_workers_are_there(tmp_path: Path) -> None:
    """One that has takes memory from the worker whose GPU it is."""
    (tmp_path / "driver.py").write_text(DRIVER)
    program = [sys.executable, str(tmp_path / "driver.py")]
    said = subprocess.run(program, capture_output=True, text=True, check=True, timeout=100)
    assert said.stdout.strip() == "[]"


@pytest.mark.gpu
def test_one_worker_for_each_gpu() -> None:
    if not Path("/dev/nvidiactl").exists():
        pytest.skip("no GPU here")
    with connect("cuda", ONE) as place:
        assert place.gpu
        assert place.slots == GPU_LANES * len(place.client.nthreads())


@pytest.mark.parametrize(
    ("text", "size"), [("4GiB", 4 * 2**30), ("1.5 GB", 1_500_000_000), ("500MB", 500_000_000)]
)
def test_memory_reads(text: str, size: int) -> None:
    assert worker_memory(Workers(memory=text)) == size


@pytest.mark.parametrize(
    ("minutes", "queued", "seconds"), [(0, False, 600), (0, True, 86400), (2, True, 120)]
)
def test_workers_are_waited_for_as_the_spec_says(
    minutes: float, queued: bool, seconds: float
) -> None:
    assert Workers(wait_minutes=minutes).wait_seconds(queued=queued) == seconds


def test_tasks_of_a_gpu_wait_for_workers_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cdscale.cluster.slots.LOOK_SECONDS", -1)
    there, gpus, said = {"a": 2, "b": 1}, set[str](), list[str]()
    place = SimpleNamespace(threads=lambda: there, with_gpu=gpus.intersection, wait=0.0)
    look = Slots(place, said.append)  # type: ignore[arg-type]
    assert look.now(lambda: False) == 3
    assert (look.now(lambda: True), said) == (
        3, ["the cluster has no worker with a GPU: waiting 0 seconds for one"],
    )  # fmt: skip
    with pytest.raises(PlanError, match="no worker with a GPU for 0 seconds"):
        look.now(lambda: True)
    gpus.add("a")
    assert look.now(lambda: True) == 3
    assert len(said) == 1


@pytest.mark.parametrize("text", ["much", "", "4 parsecs", "-1GB", "0"])
def test_memory_that_does_not_read_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match=r"workers\.memory does not read.*like 4GiB"):
        worker_memory(Workers(memory=text))


def test_workers_are_as_many_as_asked_for_or_one_for_each_core() -> None:
    assert worker_count(Workers(count=3)) == 3
    assert 1 <= worker_count(Workers()) <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("choice", "workers", "lanes"),
    [
        ("local", Workers(), 1),
        ("cuda", Workers(), GPU_LANES),
        ("slurm", Workers(gpu=True), GPU_LANES),
        ("tcp://there:8786", Workers(lanes=2), 2),
    ],
)
def test_lanes_are_told_before_there_is_a_cluster(
    choice: str, workers: Workers, lanes: int
) -> None:
    assert worker_lanes(choice, workers) == lanes
