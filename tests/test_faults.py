"""Runs that are killed, as processes: what is done stays done, and the end is always the same.

Each fault comes at a known point: when so many receipts are there. The stores are then compared,
file by file, with those of a run that nothing disturbed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cdscale.progress import status
from cdscale.run import execute, prepared
from tests.regions import SmallRun, alive, descendants, products
from tests.test_run import Log

TASKS = 12
SOON = 60.0
"""Seconds in which anything here happens, on a loaded machine."""
STOPPED = 130


class Command:
    """``cdscale run`` in a process group of its own, as a shell starts it."""

    def __init__(self, spec: Path) -> None:
        self.output = spec.parent / "out"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cdscale", "run", str(spec)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            cwd=spec.parent,
        )
        self.started: set[int] = set()

    def until(self, happened: Callable[[], bool]) -> None:
        """Wait until something happened; remember the processes started by then."""
        stop = time.monotonic() + SOON
        while not happened():
            assert time.monotonic() < stop, "it did not happen"
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.01)
        self.started = descendants(self.process.pid)

    def receipts(self) -> int:
        return sum(1 for _ in (self.output / "run" / "receipts").glob("*/*/[!.]*.json"))

    def until_receipts(self, count: int) -> None:
        self.until(lambda: self.receipts() >= count)

    def end(self) -> tuple[int, str]:
        """Exit status and what was said on stderr; every process that it started is gone."""
        _, said = self.process.communicate(timeout=SOON)
        stop = time.monotonic() + SOON
        while left := {pid for pid in self.started if alive(pid)}:
            assert time.monotonic() < stop, f"still running: {left}"
            time.sleep(0.05)
        return self.process.returncode, said


@pytest.fixture
def workers() -> int:
    """How many the command starts: most faults come alike with one."""
    return 1


@pytest.fixture
def command(small_run: SmallRun, tmp_path: Path, workers: int) -> Iterator[Command]:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # What a script starts in the background ignores Ctrl-C, and so would what it starts.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    one = Command(small_run.spec(tmp_path, workers={"count": workers, "memory": "2GiB"}))
    yield one
    if one.process.poll() is None:
        os.killpg(one.process.pid, signal.SIGKILL)
        one.process.communicate()


def go_on(small_run: SmallRun, output: Path, threads: str) -> int:
    """Do what is left, in this process; returns how many tasks that took."""
    job = small_run.job(output.parent)
    outcome = execute(job, threads, Log())
    assert outcome.complete
    assert status(job).complete
    return outcome.done


def test_a_killed_driver(command: Command, small_run: SmallRun, threads: str) -> None:
    command.until_receipts(1)
    command.process.kill()
    code, _ = command.end()
    assert code == -signal.SIGKILL
    left = TASKS - command.receipts()
    assert left > 0
    assert go_on(small_run, command.output, threads) == left
    assert products(command.output) == small_run.products


@pytest.mark.parametrize("workers", [2])
def test_a_killed_worker(command: Command, small_run: SmallRun) -> None:
    command.until_receipts(1)
    workers = [pid for pid in command.started if "multiprocessing.spawn" in command_line(pid)]
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    code, said = command.end()
    assert code == 0, said
    assert command.receipts() == TASKS
    assert products(command.output) == small_run.products


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8").replace("\0", " ")
    except OSError:
        return ""


@pytest.mark.parametrize(
    ("number", "receipts", "whole_group"),
    [
        pytest.param(signal.SIGINT, 1, True, id="ctrl-c while composing"),
        pytest.param(signal.SIGTERM, 5, False, id="a batch system while mapping"),
    ],
)
def test_a_stopped_run(
    command: Command,
    small_run: SmallRun,
    threads: str,
    number: signal.Signals,
    receipts: int,
    whole_group: bool,
) -> None:
    command.until_receipts(receipts)
    if whole_group:
        os.killpg(command.process.pid, number)
    else:
        command.process.send_signal(number)
    code, said = command.end()
    assert code == STOPPED, said
    assert said.splitlines()[-1].startswith("Stopped; what is done is kept."), said
    assert "Traceback" not in said
    assert list(command.output.rglob("*.partial")) == []
    left = TASKS - command.receipts()
    assert left > 0
    assert go_on(small_run, command.output, threads) == left
    assert products(command.output) == small_run.products


LAY_OUT_AND_DIE = """
import os, signal, sys
from pathlib import Path
from cdscale.plan import freeze
from cdscale.run import prepared
from cdscale.spec.run import load_run

real, left = os.replace, 0

def replace(*args):
    global left
    left -= str(args[1]).endswith((".zarr", "job.json"))
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    real(*args)

os.replace = replace
for left, spec in enumerate(sys.argv[1:], 1):
    if not os.fork():
        with prepared(freeze(load_run(Path(spec)))):
            os._exit(0)
    _, code = os.wait()
    print(os.WTERMSIG(code))
"""


def test_a_driver_killed_while_it_lays_out_the_stores(small_run: SmallRun, tmp_path: Path) -> None:
    # Just before each of the steps that make something visible: three stores and the job's record.
    specs = [small_run.spec(tmp_path / str(step)) for step in range(4)]
    ended = subprocess.run(
        [sys.executable, "-c", LAY_OUT_AND_DIE, *map(str, specs)],
        capture_output=True,
        text=True,
        timeout=SOON,
        check=True,
    )
    assert ended.stdout.split() == [str(int(signal.SIGKILL))] * 4
    for step in range(4):
        made = {path.name for path in (tmp_path / str(step) / "out").glob("[!.]*.zarr")}
        assert made == set(["cube.zarr", "urban.zarr", "change.zarr"][:step])
    with prepared(small_run.job(tmp_path / "whole")):
        laid_out = products(tmp_path / "whole" / "out")
    for step in range(4):
        with prepared(small_run.job(tmp_path / str(step))):
            assert products(tmp_path / str(step) / "out") == laid_out


# ------------------------------------------------------------------------------------- beginnings


def test_ctrl_c_while_the_modules_load_ends_quietly() -> None:
    program = (
        "import runpy, sys\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'typer': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "runpy.run_module('cdscale', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, "Traceback" in done.stderr) == (STOPPED, False)


def test_a_reader_that_has_enough_ends_the_command_quietly() -> None:
    program = "import os, sys; os.close(0); from cdscale.__main__ import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", program, "run", "--help"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        process.wait(60)
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
