"""Problems of the stages: scenes to cube, cube to map, beside other ways and the bare work."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks import ingestion, overlap, prediction
from benchmarks.problems.asking import Answer, in_turn, simulated_job
from cdscale import inference, models, run
from cdscale.progress import Progress
from cdscale.spec.job import Job
from cdscale.spec.task import Stage
from cdscale.stages import perform
from cdscale.store import Ledger, Store

SMALLEST = 128
"""Side of a tile that the urban network's halo fits in."""


class ComposeMonth:
    """How much of composing a month of simulated scenes is not reading them."""

    def ask(self, size: int, rounds: int) -> Answer:
        """See :class:`Problem`."""
        with tempfile.TemporaryDirectory() as folder:
            job = simulated_job(Path(folder), size)
            with run.prepared(job):
                agenda = Progress(job, Ledger(job.ledger_folder)).agenda(Stage.COMPOSE)
                task, mark = next(iter(agenda.ready.items()))
                reads = _TimedReader()
                started = time.perf_counter()
                for _ in range(rounds):
                    perform(task, job, mark, reads)
                seconds = time.perf_counter() - started
        return Answer(
            "ComposeMonth",
            "seconds of a compose task over those spent reading its scenes",
            seconds / reads.seconds,
            {"task_seconds": seconds / rounds, "reads": reads.count / rounds},
        )


class _TimedReader:
    def __init__(self) -> None:
        from cdscale.pixels import StackstacReader

        self._reader = StackstacReader()
        self.seconds = 0.0
        self.count = 0

    def _timed(self, read: Callable[..., Any], *arguments: Any) -> Any:
        started = time.perf_counter()
        try:
            return read(*arguments)
        finally:
            self.seconds += time.perf_counter() - started
            self.count += 1

    def mask(self, *arguments: Any) -> Any:
        return self._timed(self._reader.mask, *arguments)

    def cloud(self, *arguments: Any) -> Any:
        return self._timed(self._reader.cloud, *arguments)

    def bands(self, *arguments: Any) -> Any:
        return self._timed(self._reader.bands, *arguments)


class Ingestion:
    """A month of scenes to a cube, beside stackstac and odc-stac making the same composite."""

    def ask(self, size: int, rounds: int) -> Answer:
        """See :class:`Problem`."""
        options = {
            "tile": size // 2, "threads": 2, "months": "2021-07", "method": "median",
            "reader": "stackstac",
        }  # fmt: skip
        found: dict[str, list[dict[str, float]]] = {way: [] for way in ingestion.WAYS}
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            catalogue = ingestion.simulated(work, size, "2021-07")
            for turn in range(rounds + 1):
                for way, told in found.items():
                    one = ingestion.measure(way, catalogue, work, options)
                    told.extend([one] if turn else [])
        seconds = {way: ingestion.middle(told)["seconds"] for way, told in found.items()}
        peer = min(value for way, value in seconds.items() if way != "cdscale")
        return Answer(
            "Ingestion",
            "seconds of composing a month over those of the faster of stackstac and odc-stac",
            seconds["cdscale"] / peer,
            seconds,
            goal="< 1",
        )


class TiledPrediction:
    """What normalising and cutting cost, against one bare pass over tile and halo."""

    def ask(self, size: int, rounds: int) -> Answer:
        """See :class:`Problem`."""
        import torch

        card = models.load_card("change-s1s2-oscd")
        network = models.load(card)
        side = size + 2 * card.halo
        rng = np.random.default_rng(0)

        def block() -> inference.Block:
            s2 = rng.random((len(card.s2_bands), side, side), dtype=np.float32)
            return inference.Block(s2, rng.random((len(card.s1_bands), side, side), np.float32))

        before, after = block(), block()
        # Members that read in several ways have a copy of the bands each.
        inputs = [
            torch.from_numpy(np.tile(array[None], (1, len(card.views), 1, 1)))
            for array in (before.s2_BYX, after.s2_BYX, before.s1_PYX, after.s1_PYX)
        ]

        def bare() -> None:
            with torch.inference_mode():
                network(*inputs)

        seconds = in_turn(
            {"tiled": lambda: inference.predict_change(network, card, before, after), "bare": bare},
            rounds,
        )
        return Answer(
            "TiledPrediction",
            "seconds of predict_change over those of the network alone on the same tile and halo",
            seconds["tiled"] / seconds["bare"],
            {**seconds, "bare_mpx_per_s": side**2 / 1e6 / seconds["bare"]},
            goal="< 1.18",
        )


class MapSplit:
    """Where the time of a map task goes, on one thread of maths, as local workers have."""

    def ask(self, size: int, rounds: int) -> Answer:
        """See :class:`Problem`."""
        with tempfile.TemporaryDirectory() as folder, one_thread():
            job = urban_job(Path(folder), size)
            tasks = job.tasks(Stage.MAP)
            perform(tasks[0], job, "first")  # loads the network
            spent = {"read": 0.0, "forward": 0.0, "write": 0.0}
            network = type(models.load(job.cards["urban"]))
            clocks = (
                clock(Store, "read", spent, "read"),
                clock(Store, "write", spent, "write"),
                clock(network, "forward", spent, "forward"),
            )
            with ExitStack() as stack:
                for one in clocks:
                    stack.enter_context(one)
                started = time.perf_counter()
                for turn in range(rounds):
                    for task in tasks:
                        perform(task, job, str(turn))
                whole = time.perf_counter() - started
            fetched = rounds * fetching(job)
        shares = {name: value / whole for name, value in spent.items()}
        shares["rest"] = 1 - sum(shares.values())
        # The bytes of whole shards, of which a tile needs more than its own for the halo.
        shares |= {"fetch_of_read": fetched / whole, "task_seconds": whole / rounds / len(tasks)}
        return Answer(
            "MapSplit",
            "share of a map task that is the forward pass; beside it reading, writing, the rest",
            shares["forward"],
            shares,
            goal="> 0.85",
        )


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread of maths, as long as the block lasts."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def clock(owner: Any, name: str, spent: dict[str, float], what: str) -> Iterator[None]:
    """Add the seconds that a method takes, as long as the block lasts."""
    method: Callable[..., Any] = getattr(owner, name)

    def timed(*arguments: Any, **named: Any) -> Any:
        started = time.perf_counter()
        try:
            return method(*arguments, **named)
        finally:
            spent[what] += time.perf_counter() - started

    with mock.patch.object(owner, name, timed):
        yield


def fetching(job: Job) -> float:
    """Seconds of reading the cube's files once, as bytes."""
    started = time.perf_counter()
    for path in job.store_path(Stage.COMPOSE).glob("s[12]/c/**/*"):
        if path.is_file():
            path.read_bytes()
    return time.perf_counter() - started


def urban_job(folder: Path, size: int) -> Job:
    """Two months of a simulated region, composed, and to be mapped in tiles of half its side.

    Or in the smallest tiles that the network takes.
    """
    region = ingestion.simulated(folder, size, "2021-07..2021-08")
    tile = max(size // 2, SMALLEST)
    job = overlap.job_of(
        region, folder / "run", period="2021-07..2021-08", tile=tile, model="urban-s1s2-sim"
    )
    with run.prepared(job):
        ready = Progress(job, Ledger(job.ledger_folder)).agenda(Stage.COMPOSE).ready
        overlap.in_lanes([partial(perform, task, job, mark) for task, mark in ready.items()], 2)
    return job


class Peers:
    """A month of a cube to a map, beside the bare pass and other ways of doing the same.

    Of four windows at least: with one, workers have nothing to share.
    """

    def ask(self, size: int, rounds: int) -> Answer:
        """See :class:`Problem`."""
        ways = [way for way in prediction.WAYS if prediction.available(way)]
        size, rounds = max(size, 2 * prediction.CORE), min(rounds, 3)
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            prediction.ground(work, size)
            turns = [
                {way: prediction.measured(way, work, size) for way in ways} for _ in range(rounds)
            ]
            prediction.agree([w for w in ways if w not in {"bare", "cdscale"}], work)
        seconds = {way: float(np.median([turn[way]["wall"] for turn in turns])) for way in ways}
        peer = min(seconds[way] for way in ways if way in prediction.PEERS)
        return Answer(
            "Peers",
            "seconds of a run's map tasks over those of the fastest of dask, xbatcher, torchgeo",
            seconds["cdscale"] / peer,
            seconds | {"speed_of_bare": seconds["bare"] / seconds["cdscale"]},
            goal="< 1; of the bare pass > 0.85",
        )
