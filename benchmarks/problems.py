"""Named problems of real shape; ``python -m benchmarks`` times them, the tests run them small.

Each answers one question by a ratio of two ways timed in turn in one process, because a ratio
holds on a busy machine where seconds do not.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import zarr

from benchmarks.simulated_regions import spec_of
from cdscale import inference, models, plan, run, simulate
from cdscale.grid import Grid, Tile, Window
from cdscale.months import Months
from cdscale.progress import Progress
from cdscale.spec.cube import CubeSpec
from cdscale.spec.job import Job
from cdscale.spec.product import cube_variables
from cdscale.spec.run import S1_BANDS, S2_BANDS
from cdscale.spec.task import Stage
from cdscale.stages import perform
from cdscale.store import Ledger, create


@dataclass(frozen=True)
class Answer:
    """What a problem found: its ratio, and the figures behind it."""

    problem: str
    question: str
    ratio: float
    figures: dict[str, float] = field(default_factory=dict)


class Problem(Protocol):
    """A question that can be asked at any size."""

    def ask(self, size: int, rounds: int) -> Answer:
        """Answer it with tiles of ``size`` pixels, each way timed ``rounds`` times in turn."""
        ...


def in_turn(ways: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of each way; the ways take turns, after one turn that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


class CheckedWrite:
    """What whole-shard checks, crc32c and reading back cost, against a bare zarr write."""

    def ask(self, size: int, rounds: int) -> Answer:
        """See :class:`Problem`."""
        grid = Grid.preset("europe", tile_px=size)
        months = Months.parse("2020-01")
        tile = Tile(100, 100)
        spec = CubeSpec(
            product="cube",
            title="benchmark",
            grid=grid,
            window=Window(100, 100, 1, 1),
            months=months,
            variables=cube_variables(S2_BANDS, S1_BANDS),
            chunk_px=size // 4,
        )
        rng = np.random.default_rng(0)
        ramp = np.add.outer(np.arange(size), np.arange(size)) % 3000
        blocks = {
            v.name: (ramp + rng.normal(0, 40, spec.shard_shape(v)[1:])).astype(v.dtype)
            for v in spec.variables
        }
        with tempfile.TemporaryDirectory() as folder:
            store = create(Path(folder) / "cube.zarr", spec)
            bare = zarr.open_group(Path(folder) / "bare.zarr", mode="w")
            arrays = {
                v.name: bare.create_array(
                    v.name,
                    shape=spec.shard_shape(v),
                    shards=spec.shard_shape(v),
                    chunks=(1, *(1 for _ in v.bands[:1]), size // 4, size // 4),
                    dtype=v.dtype,
                )
                for v in spec.variables
            }

            def plain() -> None:
                for name, array in arrays.items():
                    array[...] = blocks[name][None]

            seconds = in_turn(
                {"checked": lambda: store.write(tile, months.first, blocks), "bare": plain}, rounds
            )
        megabytes = sum(block.nbytes for block in blocks.values()) / 1e6
        return Answer(
            "CheckedWrite",
            "seconds of a checked, read-back write over those of a bare zarr write",
            seconds["checked"] / seconds["bare"],
            {**seconds, "megabytes": megabytes},
        )


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


class TiledPrediction:
    """What normalising, tiling and halos cost, against one bare pass of the network."""

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
            torch.from_numpy(np.tile(array[None, :, :size, :size], (1, len(card.views), 1, 1)))
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
            "seconds of predict_change over those of the network alone on the same tile",
            seconds["tiled"] / seconds["bare"],
            {**seconds, "bare_mpx_per_s": size**2 / 1e6 / seconds["bare"]},
        )


class NothingToDo:
    """What it costs to find that a finished run is finished, in milliseconds a task."""

    def ask(self, size: int, rounds: int) -> Answer:
        """See :class:`Problem`."""
        with tempfile.TemporaryDirectory() as folder:
            job = simulated_job(Path(folder), size)
            with run.prepared(job):
                agenda = Progress(job, Ledger(job.ledger_folder)).agenda(Stage.COMPOSE)
                started = time.perf_counter()
                for task, mark in agenda.ready.items():
                    perform(task, job, mark)
                work = time.perf_counter() - started
                seconds = in_turn({"resume": lambda: run.finished(job)}, rounds)
        count = len(agenda.ready)
        return Answer(
            "NothingToDo",
            "seconds to see that a run is done over those of doing it",
            seconds["resume"] / work,
            {"milliseconds_per_task": 1000 * seconds["resume"] / count, "tasks": float(count)},
        )


def simulated_job(folder: Path, size: int) -> Job:
    """A compose-only job over a simulated region of so many pixels a side, two months."""
    region = simulate.Region(seed=3, size_px=size, months=Months.parse("2022-05..2022-06"))
    simulate.write(region, folder / "catalogue")
    return plan.freeze(spec_of(folder, region))


PROBLEMS: dict[str, Problem] = {
    "CheckedWrite": CheckedWrite(),
    "ComposeMonth": ComposeMonth(),
    "TiledPrediction": TiledPrediction(),
    "NothingToDo": NothingToDo(),
}
