"""The scheduled flow: Prefect sees stage x month, and a flow run again does nothing again."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.testing.utilities import prefect_test_harness

from cdscale.errors import SpecError
from cdscale.store import Store, read_spec
from flows.monitor import monitor
from tests.regions import plain_spec, state_of, write_spec

DEPLOYMENTS = Path(__file__).parents[1] / "deploy" / "prefect.yaml"


def task_runs(flow_run: UUID) -> list[str]:
    """Names of the task runs of a flow run, by the server's count."""

    async def ask() -> list[str]:
        async with get_client() as client:
            runs = await client.read_task_runs(
                flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run]))
            )
        return sorted(run.name for run in runs)

    return asyncio.run(ask())


def products_and_receipts(folder: Path) -> dict[str, Any]:
    """State of every file but the report's, which every run writes."""
    found = state_of(folder)
    return {name: state for name, state in found.items() if ".zarr/" in name or "run/" in name}


@pytest.mark.timeout(300)  # most of it is the server's start
def test_a_flow_runs_runs_again_and_says_what_is_wrong(
    region_catalogue: Path, threads: str, tmp_path: Path
) -> None:
    spec = str(write_spec(tmp_path / "spec.yaml", plain_spec(region_catalogue, tmp_path / "out")))
    names = ["compose-2022-04", "compose-2022-05", "overviews", "plan", "report"]
    with prefect_test_harness(server_startup_timeout=90):
        first = monitor(spec, cluster=threads, return_state=True)
        assert first.is_completed(), first
        before = products_and_receipts(tmp_path / "out")
        again = monitor(spec, cluster=threads, return_state=True)
        assert again.is_completed(), again
        for state in (first, again):
            assert state.state_details.flow_run_id is not None
            assert task_runs(state.state_details.flow_run_id) == names
        assert products_and_receipts(tmp_path / "out") == before
        # The month after: it is added to the same stores, and shown.
        later = {"period": "2022-04..2022-06"}
        more = monitor(spec, cluster=threads, overrides=later, return_state=True)
        assert more.is_completed(), more
        wrong = monitor(str(tmp_path / "none.yaml"), return_state=True)
        assert wrong.is_failed()
        with pytest.raises(SpecError, match=r"cannot read .*none\.yaml: No such file"):
            wrong.result()
    assert sum(name.startswith("run/receipts/") for name in before) == 4
    after = products_and_receipts(tmp_path / "out")
    kept = {n for n in before if not n.endswith(".json") or "receipts" in n}
    assert {name for name in kept if after[name] != before[name]} == {
        "cube.zarr/month/c/0",
        "run/log.jsonl",
    }
    path = tmp_path / "out" / "cube.zarr"
    shown = [str(month) for month in Store(path, read_spec(path)).published()]
    assert shown == ["2022-04", "2022-05", "2022-06"]
    assert (tmp_path / "out" / "completeness.parquet").is_file()
    assert Path(first.result()).name


def test_the_deployment_fits_the_flow() -> None:
    plan = yaml.safe_load(DEPLOYMENTS.read_text(encoding="utf-8"))
    (deployment,) = plan["deployments"]
    path, _, name = deployment["entrypoint"].partition(":")
    assert (DEPLOYMENTS.parents[1] / path).is_file()
    assert name == "monitor" == monitor.fn.__name__
    inspect.signature(monitor.fn).bind(**deployment["parameters"])
    (schedule,) = deployment["schedules"]
    assert len(schedule["cron"].split()) == 5
