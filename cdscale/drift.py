"""Whether what a run reads is like what its networks were trained on: a warning, not a refusal.

A network says something about any image, and nothing about how foreign it is. Compared are the
values of each band, in the months and at some of the tiles that a network reads, with those of its
training, which its card states (``seen``). Chosen are the same pixels each time, few enough that a
continent takes no longer than a region of some dozen tiles.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from cdscale.errors import SpecError, StoreError
from cdscale.kernels import Float, to_decibel
from cdscale.kernels.spread import distance, spread_of
from cdscale.months import Month
from cdscale.progress import Progress
from cdscale.spec.base import Frozen
from cdscale.spec.card import ModelCard
from cdscale.spec.job import Job
from cdscale.spec.task import Stage, Task
from cdscale.store import Store, exists, read_spec, write_json

MOST_BLOCKS = 48
"""Pieces of the cube that are read, a piece being part of one tile and month."""
BLOCK_PX = 256
"""Along a side of a piece."""
FAR = 2.0
"""One band alone counts as unlike from so many times its limit on."""
MOST_NAMED = 4
"""Bands that a line names."""
GOLDEN = 0.618034
"""Multiples of it, modulo 1, fall evenly: where in its tile each piece lies."""


class Band(Frozen):
    """One band or polarisation of a run, beside the training."""

    name: str
    distance: float
    """From the training as a whole, in standard deviations of the latter."""
    limit: float
    """How far the second strangest of the training places lies from all others."""
    found: tuple[float, ...]
    """Quantiles at the levels of :mod:`cdscale.kernels.spread`: reflectance or dB."""
    trained: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Distance as a multiple of the limit."""
        return self.distance / max(self.limit, 1e-9)


class Drift(Frozen):
    """How the scenes of a run compare with the training of one network."""

    role: str
    model: str
    data: str
    """Of what the training was."""
    places: int
    pieces: int
    """Parts of tiles and months that were looked at."""
    pixels: int
    bands: tuple[Band, ...]
    """Those that both have; none: nothing can be said."""

    @property
    def mean(self) -> float:
        """Distance as a multiple of the limit, in the mean over bands."""
        return float(np.mean([band.ratio for band in self.bands])) if self.bands else 0.0

    @property
    def unlike(self) -> bool:
        """Whether bands lie beyond their limits in the mean, or one lies twice as far."""
        return self.mean > 1 or any(band.ratio > FAR for band in self.bands)

    @property
    def verdict(self) -> Literal["pass", "warn", "none"]:
        """``none``: nothing could be compared."""
        return "none" if not self.bands else "warn" if self.unlike else "pass"

    @property
    def text(self) -> str:
        """What is to be said of it, in a sentence or two."""
        if not self.bands:
            return f"No pixel could be compared with the training of {self.model}."
        if not self.unlike:
            return (
                f"Like the training of {self.model}: distances are {self.mean:.2f} of their limits "
                f"in the mean over {len(self.bands)} bands."
            )
        far = sorted(self.bands, key=lambda band: -band.ratio)[:MOST_NAMED]
        named = ", ".join(f"{b.name} ({b.ratio:.1f} times)" for b in far if b.ratio > 1)
        return (
            f"Unlike the training of {self.model}: distances are {self.mean:.1f} times their "
            f"limits in the mean over {len(self.bands)} bands, the most in {named}. Its measured "
            "accuracy need not hold here."
        )


class Drifts(Frozen):
    """Those of all networks of a run, as they are kept beside it."""

    drifts: tuple[Drift, ...]


def drift_path(job: Job) -> Path:
    """Where a run keeps them."""
    return job.spec.folder / "run" / "drift.json"


def measure(progress: Progress) -> tuple[Drift, ...]:
    """Compare a run's cube with what the cards say of their training.

    Parameters
    ----------
    progress : Progress
        Where the run stands: only tasks whose receipts hold are looked at.

    Returns
    -------
    tuple of Drift
        One for each network whose card says what it has seen.
    """
    job = progress.job
    return tuple(
        _drift(progress, role, card)
        for role, card in sorted(job.cards.items())
        if card.seen is not None
    )


def keep(job: Job, found: tuple[Drift, ...]) -> None:
    """Write them beside the run, unless they stand there already.

    Raises
    ------
    OSError
        When the folder cannot be written.
    """
    if kept(job) != found or not drift_path(job).exists():
        write_json(drift_path(job), Drifts(drifts=found).model_dump(mode="json"))


def kept(job: Job) -> tuple[Drift, ...]:
    """What was last kept of a run; none where nothing was, or it does not read."""
    path = drift_path(job)
    try:
        return Drifts.read(path).drifts if path.is_file() else ()
    except SpecError:
        return ()  # of another version


def months_read(job: Job, role: str) -> tuple[Month, ...]:
    """Months that a network reads: all for the series, both of each pair for the pair network."""
    if role == "urban":
        return tuple(job.spec.period)
    return tuple(sorted({m for pair in job.spec.pairs().items() for m in pair}))


def _drift(progress: Progress, role: str, card: ModelCard) -> Drift:
    seen = card.seen
    if seen is None:
        raise ValueError(f"{card.name}: its card does not say what it has seen")
    parts: dict[str, list[Float]] = {}
    pieces = 0
    for piece in _pieces(progress, months_read(progress.job, role)):
        pieces += 1
        for band, values in piece.items():
            parts.setdefault(band, []).append(values[np.isfinite(values)])
    known = seen.s2 | seen.s1
    bands = []
    for name, limit in seen.limit.items():
        found = spread_of(np.concatenate(parts[name])) if parts.get(name) else ()
        if found:
            bands.append(
                Band(
                    name=name,
                    distance=round(distance(found, known[name]), 3),
                    limit=limit,
                    found=tuple(round(q, 4) for q in found),
                    trained=known[name],
                )
            )
    counts = [sum(len(p) for p in parts.get(band.name, ())) for band in bands]
    return Drift(
        role=role, model=card.name, data=seen.data, places=seen.places, pieces=pieces,
        pixels=max(counts, default=0), bands=tuple(bands),
    )  # fmt: skip


def _pieces(progress: Progress, months: tuple[Month, ...]) -> Iterator[dict[str, Float]]:
    """Reflectance and dB of parts of tiles, spread evenly over months and tiles, by band."""
    job = progress.job
    path = job.store_path(Stage.COMPOSE)
    if not exists(path):
        return
    cube = Store(path, read_spec(path))
    px, size = cube.spec.grid.tile_px, min(BLOCK_PX, cube.spec.grid.tile_px)
    for number, task in enumerate(_chosen(progress, months)):
        region = cube.spec.region(task.tile, task.month)
        shift = round(number * GOLDEN % 1 * (px - size))
        rows = slice(region["y"].start + shift, region["y"].start + shift + size)
        columns = slice(region["x"].stop - shift - size, region["x"].stop - shift)
        try:
            yield _piece(cube, task.month, rows, columns)
        except StoreError:
            continue  # what verifies the stores says so


def _piece(cube: Store, month: Month, rows: slice, columns: slice) -> dict[str, Float]:
    """Reflectance and dB of each band, NaN where there is nothing."""
    s2, s1 = cube.spec.variable("s2"), cube.spec.variable("s1")
    stored_BYX = cube.cut("s2", month, rows, columns)
    there_BYX = stored_BYX != s2.fill
    values_BYX = np.where(there_BYX, stored_BYX * np.float32(s2.scale or 1), np.float32(np.nan))
    decibel_PYX = to_decibel(cube.cut("s1", month, rows, columns))
    bands = zip((*s2.bands, *s1.bands), (*values_BYX, *decibel_PYX), strict=True)
    return dict(bands)


def _chosen(progress: Progress, months: tuple[Month, ...]) -> list[Task]:
    """At most so many done tasks, evenly spaced; of a continent not every receipt is looked at."""
    tiles = progress.job.tiles
    number = len(months) * len(tiles)
    places = np.unique(np.linspace(0, number - 1, min(MOST_BLOCKS, number)).round().astype(int))
    # Neighbours in this order differ in month and tile, so that few pieces show many of both.
    tasks = [Task(Stage.COMPOSE, months[i % len(months)], tiles[i // len(months)]) for i in places]
    return [task for task in tasks if progress.receipt(task) is not None]
