"""Where Dask runs: on this machine, on its GPUs, in jobs, in pods, or at an address.

``cut`` reads the numbers of the spec, ``jobs`` is SLURM, ``pods`` is Kubernetes, ``gpus`` tells
which worker has which GPU, ``place`` is a cluster in use, ``slots`` what it can do at once,
``errands`` are calls on its workers.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import dask
from distributed import Client, LocalCluster
from distributed.deploy.cluster import Cluster
from distributed.utils import silence_logging_cmgr

from cdscale.cluster.cut import worker_count, worker_lanes, worker_memory
from cdscale.cluster.jobs import slurm
from cdscale.cluster.place import ANSWER_SECONDS, GPU, Place, gone
from cdscale.cluster.pods import kubernetes
from cdscale.cluster.slots import Slots
from cdscale.errors import PlanError, SpecError, explain
from cdscale.spec.run import Workers

__all__ = [
    "ANSWER_SECONDS",
    "GPU",
    "Place",
    "Slots",
    "check_choice",
    "connect",
    "gone",
    "worker_count",
    "worker_lanes",
    "worker_memory",
]

CONNECT_SECONDS = 20
STARTS = 3
"""Times that a cluster of this machine is started: its nannies take up a worker that dies later,
but not one that dies before it is there, as where memory is short."""
KINDS = ("local", "cuda", "slurm", "kubernetes")

_log = logging.getLogger(__name__)

_SETTINGS = {
    # Nothing of a task may be spilled: its arrays are gone when it ends.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.diagnostics.nvml": False,
    "distributed.admin.log-format": "%(message)s",
}
_KEPT = {
    # Workers of this machine are started again by their nannies. Dask gives one up for good that is
    # not back after 15 seconds, which on a busy machine are over before it has imported anything.
    "distributed.deploy.lost-worker-timeout": "10 minutes",
}


def check_choice(choice: str) -> None:
    """Refuse what names no cluster, before anything is searched or made for it.

    Raises
    ------
    SpecError
        When it is neither one of :data:`KINDS` nor an address.
    """
    if choice not in KINDS and "://" not in choice:
        raise SpecError(
            explain(
                "unknown cluster",
                expected=f"{', '.join(KINDS)}, or an address like tcp://10.0.0.1:8786",
                got=repr(choice),
            )
        )


@contextmanager
def connect(choice: str, workers: Workers, shared: Path | None = None) -> Iterator[Place]:
    """A cluster, started here or found at an address, and closed or left at the end.

    Parameters
    ----------
    choice : str
        ``local``, ``cuda``, ``slurm``, ``kubernetes``, or the address of a scheduler, like
        ``tcp://10.0.0.1:8786``.
    workers : Workers
        How a cluster started here is cut.
    shared : Path, optional
        A folder that all workers see, in which jobs find the key of their cluster; by default the
        home of the user.

    Raises
    ------
    SpecError
        When the choice is none of these.
    PlanError
        When there is no GPU, two workers have the same one, workers of this machine do not start,
        or no scheduler answers.
    """
    check_choice(choice)
    queued = choice in {"slurm", "kubernetes"}
    wait = workers.wait_seconds(queued=queued)
    with dask.config.set(_SETTINGS | (_KEPT if choice in {"local", "cuda"} else {})):
        if "://" in choice:
            # What Dask logs of a scheduler that goes away is said by whoever used it.
            with silence_logging_cmgr(logging.CRITICAL), _at(choice) as client:
                yield _placed(Place(client, _has_gpus(client), wait))
        else:
            with (
                _started(choice, workers, shared or Path.home()) as cluster,
                Client(cluster, set_as_default=False) as client,
            ):
                gpu = (queued and workers.gpu) or choice == "cuda"
                yield _placed(Place(client, gpu, wait))


def _placed(place: Place) -> Place:
    if place.gpu:
        place.tell_gpus_apart()
    return place


def _started(choice: str, workers: Workers, shared: Path) -> AbstractContextManager[Cluster]:
    if choice == "slurm":
        return slurm(workers, shared)
    if choice == "kubernetes":
        return kubernetes(workers)
    return _cuda(workers) if choice == "cuda" else _begun(lambda: _local(workers))


def _begun(start: Callable[[], LocalCluster]) -> LocalCluster:
    """A cluster of this machine, started again where a worker is killed on its way."""
    for left in reversed(range(STARTS)):
        try:
            return start()
        except RuntimeError as err:  # Dask has closed what there was of it
            said = str(err.__cause__ or err)[:200]
            _log.warning("workers did not start: %s%s", said, "; once more" if left else "")
    raise PlanError(
        explain(
            "the workers of this machine do not start",
            got=f"{said}, {STARTS} times",
            do="See whether the system kills them for want of memory; start fewer (workers.count).",
        )
    )


def _local(workers: Workers) -> LocalCluster:
    return LocalCluster(
        n_workers=worker_count(workers),
        threads_per_worker=workers.lanes_on(gpu=False),
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
    # NVML, by which GPUs are handed out, and CUDA, by which they are used, then count alike.
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    try:
        import pynvml
        from dask_cuda import LocalCUDACluster

        pynvml.nvmlInit()
    except (ImportError, OSError) as err:
        raise PlanError(_no_gpu(str(err))) from None
    except pynvml.NVMLError as err:
        raise PlanError(_no_gpu(str(err))) from None
    lanes = workers.lanes_on(gpu=True)
    return _begun(
        lambda: LocalCUDACluster(
            threads_per_worker=lanes,
            memory_limit=worker_memory(workers),
            device_memory_limit=0,
            resources={name: lanes * each for name, each in GPU.items()},
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            silence_logs=50,
        )
    )


def _no_gpu(reason: str) -> str:
    return explain(
        "cannot start workers on GPUs here",
        expected="an NVIDIA driver, and cdscale installed with its cuda extra",
        got=reason,
        do="Use --cluster local, or the address of a cluster that has GPUs.",
    )


def _at(address: str) -> Client:
    try:
        # With `tls://`, the certificates are those of Dask's own configuration.
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError) as err:
        encrypted = address.startswith("tls://")
        keys = "Name its certificates in Dask's settings, distributed.comm.tls (deploy/README.md)."
        start = "Start one with `dask scheduler` and `dask worker`, or use --cluster local."
        raise PlanError(
            explain(
                f"no Dask scheduler answers at {address}",
                got=str(err)[:200],
                do=keys if encrypted else start,
            )
        ) from None
    return client


def _has_gpus(client: Client) -> bool:
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return any(worker.get("resources", {}).get("GPU") for worker in workers)
