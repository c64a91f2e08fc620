"""How much memory a task takes, at most: from what its stage holds at once."""

from __future__ import annotations

from cdscale.kernels import States
from cdscale.spec.card import ModelCard
from cdscale.spec.job import Job
from cdscale.spec.product import state_variables
from cdscale.spec.task import Stage
from cdscale.survey import Survey

WORKER_BYTES = 850_000_000
"""Of a worker with every library loaded and no work, and GDAL's cache of blocks full."""
REMOTE_BYTES_PER_PIXEL = 64
"""Of a tile whose scenes come over a network: sixteen assets on their way, each held as it lies in
its file."""
NETWORK_BYTES_PER_PIXEL = 2000
"""Of activations, at most, in a window of 512 pixels and its halo; see inference.Tiling."""
STATE_BYTES_PER_PIXEL = 160
"""Of a strip of pixels that goes on by a month, at most."""


def _optical_memory(job: Job, number: int) -> int:
    """Bytes of the optical side of a compose task, at most."""
    pixels, bands = job.spec.grid.tile**2, len(job.spec.cube.s2_bands)
    # Of each pass its look, its source and two masks; the composite, its flags and counts, and the
    # copies of one band as it is packed.
    held = pixels * (4 * number + 4 * bands + 10 + 16)
    block = pixels * bands * 4 * 2
    if job.spec.cube.s2 == "least_cloudy":
        return held + job.lanes(job.scenes.scenes) * block
    # A strip of all observations, sorted or as steps of its own, and what is read for it.
    rows = job.strip_rows(number)
    share = rows / job.spec.grid.tile
    stack = int(number * bands * 4 * pixels * share)
    # A medoid sums distances for each of them, between two at a time.
    sums = int(share * pixels * (17 * number + 28 * bands)) if job.spec.cube.s2 == "medoid" else 0
    read = int(job.lanes(job.scenes.scenes) * block * share)
    return held + 2 * stack + stack // 2 + sums + read


def _radar_memory(job: Job, number: int) -> int:
    """Bytes of the radar side of a compose task, at most, with the optical blocks kept."""
    cube, tile = job.spec.cube, job.spec.grid.tile
    bands = len(cube.s1_bands)
    margin = cube.s1_border_px + cube.s1_speckle_px // 2
    keys = {s.direction if cube.s1_by == "direction" else s.orbit for s in job.scenes.scenes}
    # Of each orbit a sum, a count and a mean; a pass as it is read and as it is fused, and masks.
    of_orbits = tile**2 * min(len(keys), max(1, number)) * bands * (8 + 2 + 8 + 8)
    of_passes = (tile + 2 * margin) ** 2 * (bands * 4 * 3 + 6)
    filtering = (tile + 2 * margin) ** 2 * 8 * 8 if cube.s1_speckle_px else 0
    return of_orbits + job.lanes(job.scenes.scenes) * of_passes + filtering + tile**2 * 12


def task_memory(job: Job, stage: Stage) -> int:
    """Bytes that one task of a stage holds at most, beside the libraries."""
    return memory_of(job, stage, Survey.of(job))


def memory_of(job: Job, stage: Stage, survey: Survey) -> int:
    """:func:`task_memory` where the scenes have been counted."""
    tile = job.spec.grid.tile
    pixels = tile**2
    layout = job.layouts[stage]
    if stage is Stage.COMPOSE:
        busiest = survey.busiest
        most = max(_optical_memory(job, busiest["s2"]), _radar_memory(job, busiest["s1"]))
        return most + in_turn(job, stage) + 2 * layout.shard_bytes
    total = 2 * layout.shard_bytes + in_turn(job, stage)
    card = card_of(job, stage)
    if card is not None:
        dates = 1 if stage is Stage.MAP else 2
        side = tile + 2 * card.halo
        bands = len(job.spec.cube.s2_bands) + len(card.s2_bands) + 2 * len(card.s1_bands)
        total += dates * side**2 * bands * 4
    if stage is Stage.CHANGE and "urban" in job.cards:
        if job.pairs:
            total += pixels * len(job.spec.period) + 256 * tile * len(job.spec.period) * 32
        # Map and states of the month before, and a strip on its way.
        total += pixels * (2 + state_bytes()) + 256 * tile * STATE_BYTES_PER_PIXEL
    return total


def in_turn(job: Job, stage: Stage) -> int:
    """Bytes that only one task of a worker has at a time, however many it has in hand.

    What is on its way over a network is bounded for the process, and the device is one task's.
    """
    if stage is Stage.COMPOSE:
        remote = any(scene.remote for scene in job.scenes.scenes)
        return job.spec.grid.tile**2 * REMOTE_BYTES_PER_PIXEL if remote else 0
    card = card_of(job, stage)
    return (job.core + 2 * card.halo) ** 2 * NETWORK_BYTES_PER_PIXEL if card is not None else 0


def card_of(job: Job, stage: Stage) -> ModelCard | None:
    """Of the network that a stage runs, if any."""
    return job.cards.get("urban" if stage is Stage.MAP else "change")


def state_bytes() -> int:
    """Of a pixel and month, what the month after goes on from."""
    sizes = {variable.name: variable.itemsize for variable in state_variables()}
    return sum(sizes[name] for name in States.names())
