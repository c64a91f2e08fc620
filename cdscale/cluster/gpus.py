"""Which GPU each worker was given: two networks on one would take each other's memory.

The driver asks the workers, and these ask ``nvidia-smi``. Nobody touches CUDA for it: a process
that does has a context on a GPU, for good.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from cdscale.errors import PlanError, explain

ASK = ("nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader")
ASK_SECONDS = 20


@dataclass(frozen=True)
class Gpu:
    """The GPU of one worker."""

    host: str
    pid: int
    uuid: str
    """Of the GPU, or of the part of one; empty where it cannot be told."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def own_gpu() -> Gpu:
    """The GPU that this process was given. A worker runs this."""
    try:
        said = subprocess.run(
            ASK, capture_output=True, text=True, timeout=ASK_SECONDS, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        said = ""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0].strip()
    return Gpu(socket.gethostname(), os.getpid(), uuid_of(first, said))


def uuid_of(first: str, said: str) -> str:
    """Uuid of a GPU; empty where it cannot be told.

    Parameters
    ----------
    first : str
        The first entry of ``CUDA_VISIBLE_DEVICES``: a number, or a uuid, which may be cut short.
    said : str
        What ``nvidia-smi`` says of all that the process may see: lines of number and uuid.
    """
    pairs = (line.partition(",") for line in said.splitlines())
    known = {number.strip(): uuid.strip() for number, _, uuid in pairs}
    if first.startswith(("GPU-", "MIG-")):
        return next((uuid for uuid in known.values() if uuid.startswith(first)), first)
    return known.get(first, "")


def refuse_shared(gpus: Mapping[str, Gpu]) -> None:
    """Refuse workers of which two were given the same GPU.

    Parameters
    ----------
    gpus : mapping of str to Gpu
        By the worker's address. Of those whose GPU cannot be told nothing is known.

    Raises
    ------
    PlanError
        Naming the GPU and the processes.
    """
    owners: dict[str, Gpu] = {}
    for gpu in gpus.values():
        other = owners.setdefault(gpu.uuid, gpu)
        if gpu.uuid and other is not gpu:
            raise PlanError(
                explain(
                    f"two workers were given the same GPU, {gpu.uuid}",
                    expected="a GPU for each",
                    got=f"{other}, and {gpu}",
                    do="Start one worker for each GPU, as `dask cuda worker` does; have each job "
                    "and pod ask for a GPU of its own.",
                )
            )
