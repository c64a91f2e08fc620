"""Where Dask runs: on this machine, on its GPUs, in jobs of a batch system, or at an address."""

from __future__ import annotations

import inspect
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import dask
from dask.system import CPU_COUNT
from dask.utils import parse_bytes
from distributed import Client, LocalCluster
from distributed.deploy.cluster import Cluster

from cdscale.errors import PlanError, SpecError, explain
from cdscale.spec.run import Workers

GPU = {"GPU": 1.0}
"""What a task that needs a GPU asks for, on a cluster that has them."""
CONNECT_SECONDS = 20
JOB_PATIENCE_SECONDS = 300
"""How long a worker in a job looks for its scheduler before it gives its node back."""

_SETTINGS = {
    # Nothing of a task may be spilled: its arrays are gone when it ends.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    # A task that waits for a GPU that never comes says so after ten minutes.
    "distributed.scheduler.no-workers-timeout": "10 minutes",
    "distributed.diagnostics.nvml": False,
    "distributed.admin.log-format": "%(message)s",
}


@dataclass(frozen=True)
class Place:
    """A cluster in use."""

    client: Client
    gpu: bool
    """Whether tasks with a network must ask for a GPU."""

    @property
    def slots(self) -> int:
        """Tasks that can run at once."""
        return max(1, int(sum(self.client.nthreads().values())))

    @property
    def dashboard(self) -> str:
        """Address of the dashboard as the scheduler names it, even one that serves none."""
        return str(self.client.dashboard_link or "")


def worker_count(workers: Workers) -> int:
    """Workers of a local cluster."""
    # Dask counts the cores that this process may use: of its container, of its batch job.
    return workers.count or int(CPU_COUNT)


def worker_memory(workers: Workers) -> int:
    """Bytes of each worker.

    Raises
    ------
    SpecError
        When the text is no amount of memory.
    """
    try:
        memory = int(parse_bytes(workers.memory)) if workers.memory.strip() else 0
    except ValueError:
        memory = 0
    if memory <= 0:
        raise SpecError(
            explain("workers.memory does not read", expected="like 4GiB", got=repr(workers.memory))
        )
    return memory


def check_choice(choice: str) -> None:
    """Refuse what names no cluster, before anything is searched or made for it.

    Raises
    ------
    SpecError
        When it is neither ``local``, ``cuda``, ``slurm`` nor an address.
    """
    if choice not in {"local", "cuda", "slurm"} and "://" not in choice:
        raise SpecError(
            explain(
                "unknown cluster",
                expected="local, cuda, slurm, or an address like tcp://10.0.0.1:8786",
                got=repr(choice),
            )
        )


@contextmanager
def connect(choice: str, workers: Workers) -> Iterator[Place]:
    """A cluster, started here or found at an address, and closed or left at the end.

    Parameters
    ----------
    choice : str
        ``local``, ``cuda``, ``slurm``, or the address of a scheduler, like
        ``tcp://10.0.0.1:8786``.
    workers : Workers
        How a cluster started here is cut.

    Raises
    ------
    SpecError
        When the choice is none of these.
    PlanError
        When there is no GPU, or no scheduler answers.
    """
    check_choice(choice)
    with dask.config.set(_SETTINGS):
        if choice == "local":
            with _local(workers) as cluster, Client(cluster, set_as_default=False) as client:
                yield Place(client, gpu=False)
        elif choice == "cuda":
            with _cuda(workers) as cluster, Client(cluster, set_as_default=False) as client:
                yield Place(client, gpu=True)
        elif choice == "slurm":
            with _slurm(workers) as cluster, Client(cluster, set_as_default=False) as client:
                yield Place(client, gpu=workers.gpu)
        else:
            with _at(choice) as client:
                yield Place(client, gpu=_has_gpus(client))


def _local(workers: Workers) -> LocalCluster:
    return LocalCluster(
        n_workers=worker_count(workers),
        threads_per_worker=1,
        memory_limit=worker_memory(workers),
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        silence_logs=50,
        preload=__name__,
    )


def dask_setup(worker: object) -> None:
    """Called by Dask in each local worker: Ctrl-C is for the driver to deal with.

    A terminal sends it to every process of the run.
    """
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _cuda(workers: Workers) -> LocalCluster:
    """One worker per GPU. Nothing is spilled: tasks return receipts, never arrays."""
    try:
        import pynvml
        from dask_cuda import LocalCUDACluster

        pynvml.nvmlInit()
    except (ImportError, OSError) as err:
        raise PlanError(_no_gpu(str(err))) from None
    except pynvml.NVMLError as err:
        raise PlanError(_no_gpu(str(err))) from None
    cluster: LocalCluster = LocalCUDACluster(
        threads_per_worker=1,
        memory_limit=worker_memory(workers),
        device_memory_limit=0,
        resources=GPU,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        silence_logs=50,
    )
    return cluster


def _slurm(workers: Workers) -> Cluster:
    """One SLURM job for each worker; jobs that end are replaced while the run goes on."""
    if not workers.count:
        raise SpecError(
            explain(
                "workers.count says how many SLURM jobs there are",
                expected="1 or more",
                got=0,
                do="Set it in the spec.",
            )
        )
    try:
        from dask_jobqueue.core import Job, JobQueueCluster
        from dask_jobqueue.slurm import SLURMCluster, SLURMJob
    except ImportError as err:
        raise PlanError(
            explain(
                "cannot start workers through SLURM",
                expected="cdscale installed with its slurm extra",
                got=str(err),
                do="pip install 'cdscale[slurm]', or use deploy/slurm.sbatch.",
            )
        ) from None
    worker_memory(workers)
    own: dict[str, Any] = {
        "cores": 1,
        "processes": 1,
        "memory": workers.memory,
        "death_timeout": JOB_PATIENCE_SECONDS,
        "scheduler_options": {"dashboard_address": "127.0.0.1:0"},
        "worker_extra_args": ["--resources", "GPU=1"] if workers.gpu else [],
    }
    takes = {
        name
        for part in (SLURMCluster, JobQueueCluster, SLURMJob, Job)
        for name in inspect.signature(part.__init__).parameters
    }
    try:
        if unknown := sorted(workers.options.keys() - takes):
            raise ValueError(f"unknown: {', '.join(unknown)}")
        # What Dask's own configuration says of the site (jobqueue.slurm) holds for what is left.
        cluster: Cluster = SLURMCluster(**own | workers.options)
        cluster.scale(workers.count)
    except (TypeError, ValueError, OSError) as err:
        raise PlanError(
            explain(
                "SLURM takes no jobs like these",
                expected="workers.options as dask_jobqueue.SLURMCluster takes them",
                got=str(err)[:200],
            )
        ) from None
    return cluster


def _no_gpu(reason: str) -> str:
    return explain(
        "cannot start workers on GPUs here",
        expected="an NVIDIA driver, and cdscale installed with its cuda extra",
        got=reason,
        do="Use --cluster local, or the address of a cluster that has GPUs.",
    )


def _at(address: str) -> Client:
    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as err:
        raise PlanError(
            explain(
                f"no Dask scheduler answers at {address}",
                got=str(err)[:200],
                do="Start one with `dask scheduler` and `dask worker`, or use --cluster local.",
            )
        ) from None
    return client


def _has_gpus(client: Client) -> bool:
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return any(worker.get("resources", {}).get("GPU") for worker in workers)
