"""``cdscale.predict``: a lazy map of a cube is what a run writes; both refuse the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr

import cdscale
from cdscale.errors import ModelError, SpecError
from cdscale.store import open_dataset
from tests.regions import SmallRun, a_card


@pytest.fixture(scope="module")
def cube(small_run: SmallRun) -> xr.Dataset:
    return open_dataset(small_run.output / "cube.zarr")


def card(small_run: SmallRun, task: str) -> str:
    return small_run.models[task]["card"]


def forbidden(*arguments: Any, **options: Any) -> None:
    raise AssertionError("something was computed")


@pytest.mark.parametrize("task", ["urban", "change"])
def test_a_lazy_map_is_what_the_run_wrote(small_run: SmallRun, cube: xr.Dataset, task: str) -> None:
    with dask.config.set(scheduler=forbidden):
        found = cdscale.predict(cube, card(small_run, task))
        assert found.probability.chunks is not None
    written = open_dataset(small_run.output / f"{task}.zarr")
    if task == "change":  # the other months are of the series alone
        written = written.sel(month=found.month)
    with dask.config.set(scheduler="synchronous"):
        for name in set(found.data_vars):
            np.testing.assert_array_equal(
                found[name].values, written[name].astype(found[name].dtype).values, err_msg=name
            )
    assert found.month.values.tolist() == written.month.values.tolist()
    assert found.quality.attrs["flag_meanings"] == written.quality.attrs["flag_meanings"]
    assert found.spatial_ref.attrs["crs_wkt"] == written.spatial_ref.attrs["crs_wkt"]
    if task == "change":
        assert found.reference_month.values == written.reference_month.values


def test_a_part_of_a_cube_with_a_tile_of_its_own(small_run: SmallRun, cube: xr.Dataset) -> None:
    """Another tiling says the same where its halo lies within the part."""
    urban = card(small_run, "urban")
    part = cube.isel(x=slice(0, 120), y=slice(20, 236))
    found = cdscale.predict(part, urban, tile=112)
    assert found.probability.shape == (2, 216, 120)
    whole = cdscale.predict(cube, urban)
    with dask.config.set(scheduler="synchronous"):
        inner = dict(x=slice(0, 40), y=slice(80, 136))
        got = found.probability.isel(inner).values
        expected = whole.probability.isel(x=slice(0, 40), y=slice(100, 156)).values
    np.testing.assert_allclose(got, expected, rtol=0, atol=0.0041)


def test_radar_that_is_not_there_is_absent(small_run: SmallRun, cube: xr.Dataset) -> None:
    found = cdscale.predict(cube.drop_vars(["s1", "s1_band"]), card(small_run, "change"))
    with dask.config.set(scheduler="synchronous"):
        codes = set(np.unique(found.quality.values))
    meanings = found.quality.attrs["flag_meanings"].split()
    assert meanings.index("both_sensors") not in codes
    assert meanings.index("radar_missing") in codes


def test_pairs_are_the_months_that_are_asked_for(small_run: SmallRun, cube: xr.Dataset) -> None:
    found = cdscale.predict(cube, card(small_run, "change"), pairs=[("2022-05", "2022-04")])
    assert str(found.month.values[0])[:7] == "2022-04"
    assert str(found.reference_month.values[0])[:7] == "2022-05"
    for wrong in (("2022-04", "2022-09"), ("2022-04", "2022-04"), ("2022-04",)):
        with pytest.raises(SpecError, match=r"a pair of months; expected two different ones of"):
            cdscale.predict(cube, card(small_run, "change"), pairs=[wrong])  # type: ignore[list-item]


def test_what_does_not_fit_is_refused_before_anything_is_computed(
    small_run: SmallRun, cube: xr.Dataset, tmp_path: Path
) -> None:
    urban = card(small_run, "urban")
    with pytest.raises(SpecError, match="not a cube: s2; expected dimensions month, s2_band"):
        cdscale.predict(cube.drop_vars("s2"), urban)
    with pytest.raises(SpecError, match="multiple of"):
        cdscale.predict(cube, urban, tile=50)
    with pytest.raises(ModelError, match="cannot read this cube"):
        cdscale.predict(cube.isel(s2_band=slice(1)), urban)
    real = cube.assign_attrs(comment="")
    with pytest.raises(ModelError, match="simulated data only"):
        cdscale.predict(real, urban)
    assert cdscale.predict(real, urban, force=True).probability.chunks is not None
    with pytest.raises(ModelError, match="no such model"):
        cdscale.predict(cube, "none")
    semantic = a_card("change").model_copy(update={"task": "semantic-change"})
    semantic.write(tmp_path / "semantic.card.yaml")
    with pytest.raises(ModelError, match="does not map cubes"):
        cdscale.predict(cube, str(tmp_path / "semantic.card.yaml"))


def test_the_package_has_no_other_surprises() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        cdscale.nothing  # noqa: B018
