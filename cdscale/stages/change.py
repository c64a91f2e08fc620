"""``detect_change``: what the pair network says of two months, and where the series stands."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cdscale import kernels
from cdscale.kernels import Sight, States
from cdscale.months import Month
from cdscale.spec.product import state_variables
from cdscale.spec.task import Stage
from cdscale.stages.maps import change_of_pair
from cdscale.stages.work import Blocks, Work

STRIP = 256
"""Rows that a series is worked on at once, to bound memory."""


def detect_change(work: Work) -> None:
    """Change of a month: between the months of its pair, and from the month before."""
    job = work.job
    pair = work.task.month in job.pairs
    if pair:
        change_of_pair(work)
    if "urban" not in job.cards:
        return
    layout = job.layouts[Stage.CHANGE]
    if pair:
        work.blocks["change_month"] = _onset(work, job.pairs[work.task.month])
    work.blocks |= _states(work, pair=pair)
    for variable in layout.variables:
        if variable.name not in work.blocks:  # of the pair network, which does not look at it
            shape = layout.shard_shape(variable)[1:]
            work.blocks[variable.name] = np.full(shape, variable.fill, variable.dtype)


def _onset(work: Work, reference: Month) -> NDArray[np.int32]:
    """First day of the month in which each pixel became built up, as days since 1970."""
    urban = work.store(Stage.MAP)
    months = work.job.spec.period.between(reference, work.task.month)
    series_TYX = np.stack([urban.read("probability", work.task.tile, m) for m in months])
    threshold = work.job.cards["urban"].threshold
    index_YX = np.empty(series_TYX.shape[1:], np.int32)
    for rows in _strips(len(index_YX)):
        values_TYX = kernels.unpack_probability(series_TYX[:, rows])
        index_YX[rows] = kernels.onset(values_TYX, threshold)
    days = np.array([_day(month) for month in months], np.int32)
    return np.where(index_YX < 0, np.int32(-1), days[index_YX])


def _states(work: Work, *, pair: bool) -> Blocks:
    """Where each pixel stands after the month, from where it stood before it."""
    job, task = work.job, work.task
    urban = work.store(Stage.MAP)
    sight = Sight(
        day=_day(task.month),
        probability_YX=urban.read("probability", task.tile, task.month),
        quality_YX=urban.read("quality", task.tile, task.month),
        threshold=job.cards["urban"].threshold,
        pair_YX=work.blocks["change"] == 1 if pair else None,
        pair_day=_day(job.pairs[task.month]) if pair else kernels.NO_DAY,
    )
    before = _states_before(work, sight.probability_YX.shape)
    blocks: Blocks = {
        variable.name: np.empty(sight.probability_YX.shape, variable.dtype)
        for variable in state_variables()
    }
    for rows in _strips(len(sight.probability_YX)):
        states, flags_YX = kernels.advance(before[rows], sight[rows], job.spec.changes)
        told = {**states.parts(), **kernels.tell(states), "flags": flags_YX}
        for name, part in told.items():
            blocks[name][rows] = part
    return blocks


def _states_before(work: Work, shape: tuple[int, ...]) -> States:
    """States of the month before; of the first month, those of pixels that nobody has seen."""
    before = work.job.builds_on(work.task)
    if before is None:
        return States.begin((shape[0], shape[1]))
    store = work.store(Stage.CHANGE)
    names = States.names()
    return States(**{name: store.read(name, before.tile, before.month) for name in names})


def _strips(rows: int) -> Iterator[slice]:
    return (slice(top, top + STRIP) for top in range(0, rows, STRIP))


def _day(month: Month) -> int:
    return int(month.to_numpy().astype("datetime64[D]").astype(np.int64))
