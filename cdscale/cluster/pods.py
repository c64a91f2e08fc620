"""Workers in pods of Kubernetes, one each, through the Dask operator's ``KubeCluster``."""

from __future__ import annotations

import inspect
import uuid
from typing import Any

from distributed.deploy.cluster import Cluster

from cdscale.cluster.cut import needs_count, scale, worker_memory
from cdscale.errors import PlanError, SpecError, explain
from cdscale.spec.run import Workers

POD_OPTIONS = {
    "image": "with cdscale, of the scheduler and the workers; required",
    "env": "variables of the workers, by name; kept in the run's folder",
    "env_from": "secrets and the like that are variables of the workers, as Kubernetes writes them",
    "volumes": "of the workers' pods, as Kubernetes writes them",
    "volume_mounts": "of their container, as Kubernetes writes them",
    "limits": "of the workers' container, beside memory and GPU, like cpu",
    "requests": "of the workers' container, beside memory",
}
"""What ``workers.options`` may say of pods. Beside these it may have whatever ``KubeCluster`` takes
and does not say of pods: ``namespace``, ``name``, ``resource_timeout``, ``port_forward_cluster_ip``
and so on."""
GPU_LIMIT = "nvidia.com/gpu"
_ENVIRONMENT = {
    # As in the settings of this package: workers in pods do not have those of the driver.
    "DASK_DISTRIBUTED__WORKER__MEMORY__TARGET": "False",
    "DASK_DISTRIBUTED__WORKER__MEMORY__SPILL": "False",
    "DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE": "False",
}
_TAKEN = {"self", "kwargs", "custom_cluster_spec", "n_workers", "resources", "worker_command"}
"""Arguments of ``KubeCluster`` that are not for options: the rest of the spec says them."""


def kubernetes(workers: Workers) -> Cluster:
    """A scheduler and workers in pods of their own; the operator replaces workers that end.

    Raises
    ------
    SpecError
        When the spec does not say how many pods, or of which image.
    PlanError
        When the extra is not installed, there is no operator, or it takes no pods like these.
    """
    needs_count(workers, "pods")
    memory = worker_memory(workers)
    if not workers.options.get("image"):
        raise SpecError(
            explain(
                "workers.options.image says what the pods run",
                expected="an image with cdscale, like registry.example.org/cdscale:gpu",
                got="none",
                do="Build one from deploy/, and name it in the spec.",
            )
        )
    try:
        import kr8s
        from dask_kubernetes.operator import KubeCluster, make_cluster_spec
    except ImportError as err:
        raise PlanError(
            explain(
                "cannot start workers on Kubernetes",
                expected="cdscale installed with its kubernetes extra",
                got=str(err),
                do="pip install 'cdscale[kubernetes]', or use deploy/kubernetes.",
            )
        ) from None
    own = {key: value for key, value in workers.options.items() if key in POD_OPTIONS}
    others = {key: value for key, value in workers.options.items() if key not in POD_OPTIONS}
    takes = inspect.signature(KubeCluster).parameters.keys() - _TAKEN
    if unknown := sorted(others.keys() - takes):
        raise PlanError(
            _refused(f"unknown: {', '.join(unknown)}", "options of pods, or of KubeCluster")
        )
    name = others.pop("name", f"cdscale-{uuid.uuid4().hex[:8]}")
    try:
        kr8s.api().version()  # before there is anything that would have to be removed
        spec = make_cluster_spec(
            name,
            image=own["image"],
            n_workers=workers.at_least or workers.count,
            env={},
            resources={},
        )
        _write_pods(spec, workers, own, memory)
        cluster: Cluster = KubeCluster(custom_cluster_spec=spec, quiet=True, **others)
        if workers.at_least:
            scale(cluster, workers)
    except Exception as err:
        # The libraries below it raise what has no base in common, and all of it means the same.
        why = f"{type(err).__name__}: {str(err) or getattr(err, 'message', '')}"
        raise PlanError(_refused(why[:300], "a cluster with the Dask operator")) from None
    return cluster


def _write_pods(spec: dict[str, Any], workers: Workers, own: dict[str, Any], memory: int) -> None:
    """Fill in what the operator's own maker of specs does not know, or does in another way."""
    lanes = workers.lanes_on(gpu=workers.gpu)
    pod = spec["spec"]["worker"]["spec"]
    container = pod["containers"][0]
    command = ["dask", "worker", "--name", "$(DASK_WORKER_NAME)", "--nworkers", "1"]
    command += ["--nthreads", str(lanes), "--memory-limit", str(memory), "--no-dashboard"]
    # Without a dashboard a worker still serves pages about itself, by default on every address.
    command += ["--dashboard-address", "127.0.0.1:0"]
    limits, requests = {"memory": str(memory)}, {"memory": str(memory)}
    if workers.gpu:
        command += ["--resources", f"GPU={lanes}"]
        limits[GPU_LIMIT] = "1"
    else:
        requests["cpu"] = "1"
    environment = _ENVIRONMENT | own.get("env", {})
    container["args"] = command
    container["env"] = [{"name": name, "value": str(v)} for name, v in environment.items()]
    container["envFrom"] = own.get("env_from", [])
    container["resources"] = {
        "limits": limits | own.get("limits", {}),
        "requests": requests | own.get("requests", {}),
    }
    container["ports"] = []
    pod["volumes"] = own.get("volumes", [])
    container["volumeMounts"] = own.get("volume_mounts", [])
    # The command `dask-scheduler`, which the maker writes, is gone from distributed.
    scheduler = spec["spec"]["scheduler"]["spec"]["containers"][0]
    scheduler["args"] = ["dask", "scheduler", "--host", "0.0.0.0"]


def _refused(got: str, expected: str) -> str:
    return explain(
        "Kubernetes takes no workers like these",
        expected=expected,
        got=got,
        do="See deploy/README.md.",
    )
