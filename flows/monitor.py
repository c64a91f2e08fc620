"""Scheduled regional monitoring: plan, run stage by stage and month by month, report.

Prefect sees stage x month, dozens of task runs; Dask sees stage x month x tile. A Prefect task
costs some 85 times a Dask future, so there is never one a tile. A flow run that was stopped, run
again, goes on from its receipts.
"""

from __future__ import annotations

from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from cdscale.cluster import Place, connect, worker_count, worker_lanes, worker_memory
from cdscale.errors import UserError
from cdscale.export.ledger import NAME, write_ledger
from cdscale.export.report import write_report
from cdscale.months import Month
from cdscale.plan import check, freeze, price
from cdscale.progress import Progress
from cdscale.run import Allowance, Outcome, conclude, prepared, run_stage
from cdscale.spec.job import Job
from cdscale.spec.run import load_run
from cdscale.spec.task import Receipt, Stage, Task


class LogWatcher:
    """Writes what fails to the flow run's log; what is done is counted in the receipts."""

    def begin(self, stage: Stage, *, todo: int, done: int, dashboard: str) -> None:
        get_run_logger().info("%s: %d to do, %d done; dashboard %s", stage, todo, done, dashboard)

    def done(self, task: Task, receipt: Receipt) -> None:
        for scene, reason in receipt.failed.items():
            get_run_logger().warning("%s without %s: %s", task, scene, reason)

    def again(self, task: Task, reason: str) -> None:
        get_run_logger().warning("%s again: %s", task, reason)

    def held(self, reason: str) -> None:
        get_run_logger().warning("%s", reason)

    def failed(self, task: Task, reason: str) -> None:
        get_run_logger().error("%s failed: %s", task, reason)

    def overviews(self, *, made: int, shards: int) -> None:
        if made in {0, shards}:
            get_run_logger().info("overviews: %d of %d shards made", made, shards)


@task(task_run_name="plan", cache_policy=NO_CACHE)
def make_plan(spec: str, overrides: dict[str, str], cluster: str) -> Job:
    """The frozen job, priced; refuses what cannot fit before anything is read."""
    job = freeze(load_run(Path(spec), dict(overrides)))
    workers = job.spec.workers
    plan = price(
        job,
        workers=worker_count(workers),
        memory=worker_memory(workers),
        lanes=worker_lanes(cluster or job.spec.cluster, workers),
    )
    check(plan)
    get_run_logger().info("plan: %s", plan.model_dump_json())
    return job


@task(task_run_name="{stage}-{month}", cache_policy=NO_CACHE)
def run_month(stage: Stage, month: Month, place: Place, allowance: Allowance) -> Outcome:
    """One stage of one month. What may pass is tried again inside, so Prefect does not retry."""
    progress = Progress.of(allowance.job)
    outcome = run_stage(progress, stage, place, LogWatcher(), month, allowance)
    if outcome.failed:
        raise RuntimeError(f"{len(outcome.failed)} tasks of {stage} {month} failed")
    return outcome


@task(task_run_name="overviews", cache_policy=NO_CACHE)
def make_overviews(job: Job, place: Place) -> None:
    """What is done is published, and seen from farther away."""
    conclude(Progress.of(job), place, LogWatcher())


@task(task_run_name="report", cache_policy=NO_CACHE)
def report(job: Job, seconds: float) -> str:
    """The page that says what was made, and the ledger that says what is missing."""
    progress = Progress.of(job)
    write_ledger(progress, job.spec.folder / NAME)
    return str(write_report(progress, seconds))


@flow(name="monitor", flow_run_name="monitor-{spec}")
def monitor(spec: str, cluster: str = "", overrides: dict[str, str] | None = None) -> str:
    """Run a spec on a cluster, and return the path of its report.

    Parameters
    ----------
    spec : str
        Path of a run's spec.
    cluster : str
        ``local``, ``cuda``, ``slurm``, ``kubernetes``, or a scheduler's address; by default as the
        spec says.
    overrides : dict of str to str, optional
        ``area``, ``period`` or ``output`` in place of the spec's.
    """
    job = make_plan(spec, overrides or {}, cluster)
    whole, allowance = Outcome(), Allowance(job)
    broken: list[str] = []
    where, shared = cluster or job.spec.cluster, job.spec.folder / "run"
    with prepared(job), connect(where, job.spec.workers, shared) as place:
        for stage in job.stages:
            for month in job.months(stage):
                state = run_month(stage, month, place, allowance, return_state=True)
                if state.is_completed():
                    whole.add(state.result())
                else:
                    broken.append(f"{stage} {month}")
        make_overviews(job, place)
    page = report(job, whole.seconds)
    if broken or not whole.complete:
        spent = f"{whole.stopped} is spent" if whole.stopped else "scenes are missing"
        raise UserError(f"not complete: {', '.join(broken) or spent}; see {page}")
    return page
