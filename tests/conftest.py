"""What every test stands on: no network, no telemetry, nothing written outside temporary folders.

``pytest-socket`` (see pyproject.toml) blocks this process; the environment set here also holds for
GDAL and for the processes that Dask and Prefect start. It is set before any of them is imported.
"""

from __future__ import annotations

import atexit
import fcntl
import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.commands import Cli
    from tests.regions import SmallRun

_PREFECT_HOME = tempfile.mkdtemp(prefix="cdscale-prefect-")
atexit.register(shutil.rmtree, _PREFECT_HOME, ignore_errors=True)

_NOWHERE = "http://127.0.0.1:9"
_LOOPBACK = "127.0.0.1,::1,localhost"
os.environ.update(
    # A proxy that is not there: whatever asks for another host fails at once.
    HTTP_PROXY=_NOWHERE,
    HTTPS_PROXY=_NOWHERE,
    http_proxy=_NOWHERE,
    https_proxy=_NOWHERE,
    NO_PROXY=_LOOPBACK,
    no_proxy=_LOOPBACK,
    AWS_EC2_METADATA_DISABLED="true",
    # GDAL waits without end by default. It also holds the GIL while it opens a file: a test that
    # serves files over HTTP does so from another process.
    GDAL_HTTP_CONNECTTIMEOUT="5",
    GDAL_HTTP_TIMEOUT="20",
    GDAL_HTTP_MAX_RETRY="0",
    # Prefect: its own home, no telemetry, no cloud, quiet.
    PREFECT_HOME=_PREFECT_HOME,
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS="90",
    PREFECT_LOGGING_LEVEL="WARNING",
    PREFECT_SERVER_LOGGING_LEVEL="WARNING",
    # One thread of maths in each process, and figures without a screen.
    OMP_NUM_THREADS=os.environ.get("OMP_NUM_THREADS", "1"),
    MPLBACKEND="agg",
)
for _name in ("PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_PROFILE", "DASK_SCHEDULER_ADDRESS"):
    os.environ.pop(_name, None)

# How fast an example is drawn says how busy the machine is, not how good the test.
_CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("default", _CALM, max_examples=25)
settings.register_profile("thorough", _CALM, max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_collection_finish() -> None:
    """What is loaded by now stays: the garbage collector need not look at it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _no_power_cut() -> Iterator[None]:
    """No test cuts the power of the machine: nobody waits for its disk to keep what it was given.

    A disk that refuses is a test's own, which puts it in place of this one.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of the real data: ``CDSCALE_DATA``, else ``shared/data`` beside the checkout.

    A test that takes it also bears the mark ``realdata``.
    """
    beside = Path(__file__).parents[2] / "shared" / "data"
    root = Path(os.environ.get("CDSCALE_DATA", beside)).expanduser()
    if not (root / "README.md").is_file():
        pytest.skip(f"no real data at {root}: set CDSCALE_DATA to its folder")
    return root


# ---------------------------------------------------------------- small runs, see tests/regions.py


@pytest.fixture(scope="session")
def region_catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``catalog.json`` of a simulated region of 256 x 256 pixels and four months.

    Made by the first of pytest's processes that needs it, and only read by all.
    """
    from cdscale import simulate
    from tests.regions import REGION

    base = tmp_path_factory.getbasetemp()
    base = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    done = base / "region.done"
    with (base / "region.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            folder = tmp_path_factory.mktemp("region")
            done.write_text(str(simulate.write(REGION, folder)), encoding="utf-8")
    return Path(done.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """``models`` of a spec: an urban and a change network with random weights.

    Of the networks of pairs with halo and stride of the two-branch one, this is the fastest.
    """
    from tests.regions import write_card

    folder = tmp_path_factory.mktemp("cards")
    cards = {
        "urban": write_card(folder, "urban"),
        "change": write_card(folder, "change", family="fc-ef"),
    }
    return {task: {"card": str(card)} for task, card in cards.items()}


@pytest.fixture(scope="session")
def small_run(
    region_catalogue: Path,
    tiny_models: dict[str, dict[str, str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> SmallRun:
    """Two tiles and two months of the region, done once: task by task, without a cluster."""
    from tests.regions import SmallRun

    return SmallRun.make(region_catalogue, tiny_models, tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def threads() -> Iterator[str]:
    """Address of a cluster of one worker inside this process."""
    from tests.regions import thread_cluster

    with thread_cluster() as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def cdscale(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Cli]:
    """Runs a command in this process."""
    from cdscale import cli
    from tests.commands import Result

    handler = signal.getsignal(signal.SIGTERM)

    def call(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["cdscale", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        return Result(code, said.out, said.err)

    yield call
    signal.signal(signal.SIGTERM, handler)
