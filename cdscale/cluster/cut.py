"""How a cluster that a run starts is cut: numbers of the spec, read once for every kind of it."""

from __future__ import annotations

from dask.system import CPU_COUNT
from dask.utils import parse_bytes
from distributed.deploy.cluster import Cluster

from cdscale.errors import SpecError, explain
from cdscale.spec.run import Workers


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


def worker_lanes(choice: str, workers: Workers) -> int:
    """Tasks that each worker has in hand at once.

    Workers at an address were started by others, with as many threads as these chose; what the spec
    says is then what the plan counts with.
    """
    return workers.lanes_on(gpu=choice == "cuda" or workers.gpu)


def needs_count(workers: Workers, of: str) -> None:
    """Refuse to guess how many jobs or pods there are to be.

    Raises
    ------
    SpecError
        When the spec does not say.
    """
    if not workers.count:
        raise SpecError(
            explain(
                f"workers.count says how many {of} there are",
                expected="1 or more",
                got=0,
                do="Set it in the spec.",
            )
        )


def scale(cluster: Cluster, workers: Workers) -> None:
    """Ask for as many workers as the spec says, or let the cluster follow what there is to do."""
    if workers.at_least:
        cluster.adapt(minimum=workers.at_least, maximum=workers.count)
    else:
        cluster.scale(workers.count)
