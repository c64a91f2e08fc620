"""The benchmark of seams: tiles, layouts and workers of one cube compared."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import seams
from benchmarks.seams import Difference
from cdscale.store import open_dataset
from tests.regions import SmallRun

QUANTUM = 0.0041


def test_a_difference_counts_values_and_sides() -> None:
    nan = np.nan
    whole = np.array([[[0.2, 0.4, 0.6, nan]]], np.float32)
    tiled = np.array([[[0.2, 0.55, 0.6, nan]]], np.float32)
    found = Difference.of(64, tiled, whole, 0.5)
    assert found == Difference(64, 0.15, 0.05, round(1 / 3, 6), round(1 / 3, 6))
    assert Difference.of(64, whole, whole, 0.5) == Difference(64, 0.0, 0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="of other pixels than one pass"):
        Difference.of(64, np.nan_to_num(tiled), whole, 0.5)


def test_fixed_normalisation_leaves_no_seam(small_run: SmallRun) -> None:
    cube = open_dataset(small_run.output / "cube.zarr")
    part = cube.isel(month=slice(1), y=slice(120), x=slice(136))
    [found] = seams.measure(part, small_run.models["urban"]["card"], (112,), [])
    assert found.tile == 112
    assert found.largest <= QUANTUM
    assert found.turned <= 1e-3
