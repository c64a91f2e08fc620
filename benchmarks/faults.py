"""Processes that can be killed cheaply, and a disk that can be filled: for ``benchmarks.crashes``.

Drivers and clusters are forked from one process that has imported everything, so that a killed one
is there again in a blink. What runs in them is what runs anywhere: ``cdscale run``, a Dask
scheduler, workers under their nannies.
"""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

WORK = "CDSCALE_CRASHES_WORK"
"""Variable of the environment: where workers say who they are, and whether the store fails."""
IMPORTED = [
    "distributed", "torch", "zarr", "rasterio", "stackstac", "geopandas", "prometheus_client",
    "matplotlib.backends.backend_agg", "cdscale.cli", "cdscale.run", "cdscale.stages.maps",
    "cdscale.inference", "cdscale.models.missing_optical", "cdscale.pixels.stackstac",
    "cdscale.export.report", "benchmarks.faults",
]  # fmt: skip
PORT = int(os.environ.get("CDSCALE_CRASHES_PORT", "18786"))
FAILS = 0.3
"""Share of the calls that fail while the store does."""
DISK_MB = 24
STACKS = signal.SIGUSR1
"""Has a process say where each of its threads is, in ``stacks.txt``."""


# ----------------------------------------------------------------------------------- processes


def forks() -> Any:
    """Where processes are forked from."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    return context


def tell_stacks() -> None:
    """Do so from now on, in this process."""
    file = (Path(os.environ[WORK]) / "stacks.txt").open("a", encoding="utf-8")
    faulthandler.register(STACKS, file, all_threads=True)


def drive(arguments: list[str], said: Path) -> None:
    """A driver: one ``cdscale`` command in a process group of its own, its words in a file."""
    os.setsid()
    tell_stacks()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with said.open("a", encoding="utf-8") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    sys.argv = ["cdscale", *arguments]
    from cdscale import cli

    cli.main()


def serve(workers: int) -> None:
    """A scheduler and its workers, until it is killed."""
    os.setsid()
    tell_stacks()
    import dask
    from distributed import LocalCluster
    from distributed.utils import get_mp_context

    settings = {
        "distributed.worker.multiprocessing-method": "forkserver",
        # As cdscale has it: a worker that comes back late is not given up.
        "distributed.deploy.lost-worker-timeout": "10 minutes",
    }
    with dask.config.set(settings):
        get_mp_context()
        forks()  # Dask has had its say of what its workers import before they are forked
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            host="127.0.0.1",
            scheduler_port=PORT,
            dashboard_address=None,
            silence_logs=50,
            preload=__name__,
        ),
    ):
        (Path(os.environ[WORK]) / "ready").touch()
        while True:
            time.sleep(60)


def dask_setup(worker: object) -> None:
    """Called by Dask in each worker: it says who it is, and its store fails when told to."""
    del worker
    tell_stacks()
    from zarr.storage import LocalStore

    home = Path(os.environ[WORK])
    (home / "workers").mkdir(exist_ok=True)
    (home / "workers" / str(os.getpid())).touch()
    flag, rng = home / "store-fails", random.Random(os.getpid())

    def trouble() -> None:
        if rng.random() < FAILS and flag.exists():
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def failing(method: Any) -> Any:
        async def call(*arguments: Any, **more: Any) -> Any:
            trouble()
            return await method(*arguments, **more)

        return call

    def flush(handle: int, fsync: Any = os.fsync) -> None:
        trouble()
        fsync(handle)

    def replace(source: Any, target: Any, move: Any = os.replace) -> None:
        trouble()
        move(source, target)

    for name in ("get", "set", "delete"):
        setattr(LocalStore, name, failing(getattr(LocalStore, name)))
    os.fsync, os.replace = flush, replace  # type: ignore[assignment]


@dataclass
class Cluster:
    """A cluster of two workers that lives on from run to run, unless it is killed."""

    home: Path
    process: BaseProcess | None = None

    def there(self) -> str:
        """Its address; started where there is none."""
        if self.process is None or not self.process.is_alive():
            for name in (self.home / "ready", *self.home.glob("workers/*")):
                name.unlink(missing_ok=True)
            self.process = forks().Process(target=serve, args=(2,))
            assert self.process is not None
            self.process.start()
            self._wait()
        return f"tcp://127.0.0.1:{PORT}"

    def _wait(self) -> None:
        stop = time.monotonic() + 600
        while not (self.home / "ready").exists():
            if time.monotonic() > stop:
                raise RuntimeError("the cluster does not start")
            time.sleep(0.05)

    def workers(self) -> list[int]:
        """Processes of its workers."""
        said = [int(path.name) for path in self.home.glob("workers/*")]
        return sorted(pid for pid in said if Path(f"/proc/{pid}").exists())

    def processes(self) -> list[int]:
        """Its workers, and what its scheduler and nannies run in."""
        if self.process is None or self.process.pid is None or not self.process.is_alive():
            return []
        return [*self.workers(), self.process.pid]

    def kill(self) -> None:
        """Scheduler, nannies and workers at once."""
        for pid in self.processes():
            kill(pid, signal.SIGKILL)
        if self.process is not None:
            self.process.join()


def kill(pid: int, number: signal.Signals) -> None:
    """Send a signal to who may be gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


# ---------------------------------------------------------------------------------------- disk


@dataclass(frozen=True)
class Disk:
    """A file system of its own in memory, small enough to be filled; or a folder like any other."""

    path: Path
    own: bool

    @property
    def ballast(self) -> Path:
        """What fills it."""
        return self.path / "ballast"

    def fill(self, processes: list[int], room: int) -> None:
        """Leave so many bytes free; without a file system of its own, forbid larger files."""
        if not self.own:
            for pid in processes:
                with contextlib.suppress(ProcessLookupError):
                    resource.prlimit(pid, resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
            return
        free = os.statvfs(self.path)
        with self.ballast.open("wb") as file, contextlib.suppress(OSError):
            os.posix_fallocate(file.fileno(), 0, max(1, free.f_bavail * free.f_frsize - room))

    def free(self, processes: list[int]) -> None:
        """As it was."""
        if self.own:
            self.ballast.unlink(missing_ok=True)
            return
        for pid in processes:
            with contextlib.suppress(ProcessLookupError):
                whole = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
                resource.prlimit(pid, resource.RLIMIT_FSIZE, whole)


@contextlib.contextmanager
def disk(path: Path) -> Iterator[Disk]:
    """A file system of its own where the system allows one."""
    path.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(path)]
    try:
        own = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        own = False
    try:
        yield Disk(path, own)
    finally:
        if own:
            subprocess.run(["umount", "--lazy", str(path)], check=False)
