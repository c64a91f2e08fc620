"""Workers in jobs of SLURM, one each, through dask-jobqueue."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from distributed.deploy.cluster import Cluster
from distributed.security import Security

from cdscale.cluster.cut import needs_count, scale, worker_memory
from cdscale.errors import PlanError, explain
from cdscale.spec.run import Workers

PATIENCE_SECONDS = 300
"""How long a worker in a job looks for its scheduler before it gives its node back."""


@contextmanager
def slurm(workers: Workers, shared: Path) -> Iterator[Cluster]:
    """One job for each worker; jobs that end are replaced while the run goes on.

    What is said between driver, scheduler and workers is encrypted, with a key that is made for
    this cluster: who does not have it cannot send tasks, which are code. The jobs find it in a
    folder that only its owner reads, which goes when the cluster does.

    Parameters
    ----------
    workers : Workers
        How many, and what each is.
    shared : Path
        A folder that the nodes see as well.

    Raises
    ------
    SpecError
        When the spec does not say how many.
    PlanError
        When the extra is not installed, or SLURM takes no jobs like these.
    """
    needs_count(workers, "SLURM jobs")
    worker_memory(workers)
    try:
        from dask_jobqueue.slurm import SLURMCluster

        made = Security.temporary()
    except ImportError as err:
        raise PlanError(
            explain(
                "cannot start workers through SLURM",
                expected="cdscale installed with its slurm extra",
                got=str(err),
                do="pip install 'cdscale[slurm]', or use deploy/slurm.sbatch.",
            )
        ) from None
    with TemporaryDirectory(prefix=".keys-", dir=shared) as keys:
        try:
            own = _own(workers) | {"security": _kept_in(Path(keys), made)}
            # What Dask's own configuration says of the site (jobqueue.slurm) holds for the rest.
            started: Cluster = SLURMCluster(**own | _options(workers))
            scale(started, workers)
        except (TypeError, ValueError, OSError) as err:
            raise PlanError(
                explain(
                    "SLURM takes no jobs like these",
                    expected="workers.options as dask_jobqueue.SLURMCluster takes them",
                    got=str(err)[:200],
                )
            ) from None
        with started as cluster:
            yield cluster


def _own(workers: Workers) -> dict[str, Any]:
    """What the rest of the spec says of the jobs."""
    lanes = workers.lanes_on(gpu=workers.gpu)
    # Even without a dashboard a worker serves pages about itself, on every address of its node.
    pages = ["--dashboard-address", "127.0.0.1:0"]
    return {
        "cores": lanes,
        "processes": 1,
        "memory": workers.memory,
        "death_timeout": PATIENCE_SECONDS,
        "worker_extra_args": pages + (["--resources", f"GPU={lanes}"] if workers.gpu else []),
    }


def _options(workers: Workers) -> dict[str, Any]:
    """What the spec's options say of the jobs, and of their scheduler.

    Raises
    ------
    ValueError
        When dask-jobqueue knows no such option.
    """
    from dask_jobqueue.core import Job, JobQueueCluster
    from dask_jobqueue.slurm import SLURMCluster, SLURMJob

    takes = {
        name
        for part in (SLURMCluster, JobQueueCluster, SLURMJob, Job)
        for name in inspect.signature(part.__init__).parameters
    }
    if unknown := sorted(workers.options.keys() - takes):
        raise ValueError(f"unknown: {', '.join(unknown)}")
    here = {"dashboard_address": "127.0.0.1:0"}
    scheduler = here | workers.options.get("scheduler_options", {})
    return workers.options | {"scheduler_options": scheduler}


def _kept_in(folder: Path, made: Security) -> Security:
    """Keys and certificates that are in memory, as files."""
    role = made.get_tls_config_for_role("worker")
    paths = {}
    for name in ("ca_file", "cert", "key"):
        path = folder / f"{name}.pem"
        path.touch(mode=0o600)
        path.write_text(role[name], encoding="utf-8")
        paths[name] = str(path)
    roles = ("client", "scheduler", "worker")
    own = {f"tls_{role}_{part}": paths[part] for role in roles for part in ("cert", "key")}
    return Security(require_encryption=True, tls_ca_file=paths["ca_file"], **own)
