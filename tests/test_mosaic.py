"""Overviews of published months, and the gate for seams."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cdscale import mosaic, seams
from cdscale.cluster import connect
from cdscale.cluster.errands import each
from cdscale.errors import StoreError
from cdscale.grid import Tile
from cdscale.kernels import overview
from cdscale.months import Month, Months
from cdscale.run import execute, prepared
from cdscale.seams import Seams
from cdscale.spec.cube import CubeSpec, Variable
from cdscale.spec.overview import levels_of
from cdscale.spec.product import urban_variables
from cdscale.spec.run import Workers
from cdscale.spec.task import Stage
from cdscale.store import Plane, Store, create, read_spec
from tests.commands import Cli
from tests.regions import CORNER, GRID, SmallRun, hashes, products, state_of
from tests.test_run import Log

CODES = arrays.arrays(np.uint8, (4, 6), elements=st.integers(0, 6))


# ------------------------------------------------------------------------------------- kernels


def four(*values: int) -> np.ndarray:
    return np.array(values, np.uint8).reshape(2, 2)


def test_four_pixels_become_one_by_the_rule_of_their_variable() -> None:
    assert overview.mean(four(10, 20, 255, 31), 255) == 20  # 20.33
    assert overview.mean(four(1, 2, 255, 255), 255) == 2  # a half goes up
    assert overview.mean(four(255, 255, 255, 255), 255) == 255
    assert overview.mode(four(3, 3, 4, 0), 0) == 3
    assert overview.mode(four(0, 0, 0, 2), 0) == 2  # what is outside does not count
    assert overview.mode(four(2, 2, 3, 3), 0) == 3
    assert overview.largest(four(0, 255, 1, 0), 255) == 1
    assert overview.largest(four(255, 255, 255, 255), 255) == 255
    days = np.array([[-1, 300], [200, -1]], np.int32)
    assert overview.least(days, -1) == 200
    assert overview.least(np.full((2, 2), -1, np.int32), -1) == -1


@given(CODES)
def test_the_mode_is_a_commonest_code(block: np.ndarray) -> None:
    found = overview.mode(block, 0)
    for (y, x), code in np.ndenumerate(found):
        four = block[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].ravel()
        counts = {c: int((four == c).sum()) for c in four.tolist() if c}
        assert code == (max(counts, key=lambda c: (counts[c], c)) if counts else 0)


STATES = tuple(
    Variable(name=name, dtype=dtype, fill=fill)
    for name, dtype, fill in (
        ("state", "uint8", 0),
        ("confidence", "uint8", 255),
        ("first_month", "int32", -1),
        ("probability", "uint8", 255),
    )
)


def a_spec(
    variables: tuple[Variable, ...], *, nx: int = 3, ny: int = 2, months: str = "2022-04..2022-05"
) -> CubeSpec:
    tiles = [CORNER, Tile(CORNER.ix + nx - 1, CORNER.iy + ny - 1)]
    return CubeSpec(
        product="change",
        title="made",
        grid=GRID,
        window=GRID.window(tiles),
        months=Months.parse(months),
        variables=variables,
        chunk_px=16,
    )


def test_every_variable_of_a_series_comes_from_the_pixel_that_leads() -> None:
    """Confirmed (4) goes before reverted (6), and of two confirmed ones the surer."""
    blocks = {
        "state": four(6, 4, 4, 2),
        "confidence": four(250, 100, 200, 255),
        "first_month": np.array([[10, 20], [30, -1]], np.int32),
        "probability": four(10, 20, 30, 40),
    }
    found = mosaic.halved(blocks, a_spec(STATES))
    assert {name: int(block.item()) for name, block in found.items()} == {
        "state": 4,
        "confidence": 200,
        "first_month": 30,
        "probability": 25,
    }


# -------------------------------------------------------------------------------------- levels


def test_levels_end_where_a_store_fits_into_a_chunk() -> None:
    spec = a_spec(STATES)  # 128 x 192 pixels, chunks of 16
    assert [(v.rows, v.columns, v.shard_px) for v in levels_of(spec)] == [
        (64, 96, 64),
        (32, 48, 48),
        (16, 24, 32),
        (8, 12, 16),
    ]
    assert levels_of(spec.model_copy(update={"product": "cube"})) == ()
    assert levels_of(spec.model_copy(update={"chunk_px": 512})) == ()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of random pixels, every month published; without overviews."""
    return filled(tmp_path_factory.mktemp("original") / "change.zarr", a_spec(STATES)).path


@pytest.fixture
def store(original: Path, tmp_path: Path) -> Store:
    """One to change, with overviews."""
    path = tmp_path / "change.zarr"
    shutil.copytree(original, path)
    store = Store(path, read_spec(path))
    step(store, tmp_path / "records").run(store.spec.months)
    return store


def filled(path: Path, spec: CubeSpec, seed: int = 0) -> Store:
    rng, store = np.random.default_rng(seed), create(path, spec)
    group = zarr.open_group(path, mode="r+")
    for v in spec.variables:
        shape = (len(spec.months), *spec.shape)
        group[v.name][:] = rng.integers(0, 7, shape).astype(v.dtype)  # type: ignore[index]
    store.publish(spec.months)
    return store


def every_tile(spec: CubeSpec) -> list[Tile]:
    w = spec.window
    return [Tile(w.ix + x, w.iy + y) for y in range(w.ny) for x in range(w.nx)]


def step(store: Store, records: Path, marks: dict[str, str] | None = None) -> mosaic.Step:
    told = marks or {}
    return mosaic.Step(
        store, tuple(every_tile(store.spec)), lambda t, m: told.get(f"{m}/{t}", "1"), records
    )


def test_overviews_are_the_store_halved_again_and_again_wherever_shards_end(
    store: Store,
) -> None:
    spec = store.spec
    whole = xr.open_zarr(store.path, mask_and_scale=False, decode_times=False, chunks=None)
    for t in range(2):
        blocks = {v.name: whole[v.name].values[t] for v in STATES}
        for level in levels_of(spec):
            blocks = mosaic.halved(blocks, spec)
            seen = xr.open_zarr(
                store.path / level.name, mask_and_scale=False, decode_times=False, chunks=None
            )
            for name, block in blocks.items():
                np.testing.assert_array_equal(seen[name].values[t], block)
            assert seen.published.values.all()


def test_an_overview_lies_where_its_store_lies_and_says_so(store: Store) -> None:
    whole, half = xr.open_zarr(store.path), xr.open_zarr(store.path / "1")
    assert half.sizes == {"month": 2, "y": 64, "x": 96}
    np.testing.assert_allclose(half.x.values[0], whole.x.values[:2].mean())
    np.testing.assert_allclose(half.y.values[-1], whole.y.values[-2:].mean())
    np.testing.assert_array_equal(half.month, whole.month)
    assert half.attrs["spatial:transform"][0] == 20
    assert half.spatial_ref.attrs["GeoTransform"].split()[1] == "20"
    assert half.probability.attrs["cell_methods"] == "area: mean"
    first, *others = whole.attrs["multiscales"]["layout"]
    assert first["asset"] == "."
    assert [level["asset"] for level in others] == ["1", "2", "3", "4"]
    names = [convention["name"] for convention in whole.attrs["zarr_conventions"]]
    assert names == ["multiscales", "proj", "spatial"]
    assert not any(name in whole for name in "1234")


def test_only_what_changed_is_made_again(store: Store, original: Path, tmp_path: Path) -> None:
    spec = store.spec
    before = state_of(tmp_path)
    assert step(store, tmp_path / "records").run(spec.months) == mosaic.Built()
    assert state_of(tmp_path) == before
    tile, month = every_tile(spec)[-1], spec.months.last
    blocks = {v.name: np.full((64, 64), 3, v.dtype) for v in STATES}
    store.write(tile, month, blocks)
    again = step(store, tmp_path / "records", {f"{month}/{tile}": "2"})
    built = again.run(spec.months)
    assert built == mosaic.Built((month,), 4)  # one shard of each level
    touched = {n for n, s in state_of(tmp_path).items() if before.get(n) != s}
    assert not any("/c/0/" in name for name in touched)
    shutil.copytree(original, tmp_path / "other.zarr")
    other = Store(tmp_path / "other.zarr", spec)
    other.write(tile, month, blocks)
    step(other, tmp_path / "others").run(spec.months)
    assert hashes(store.path) == hashes(other.path)


def test_overviews_that_were_removed_are_made_again(store: Store, tmp_path: Path) -> None:
    before = hashes(store.path)
    shutil.rmtree(store.path / "2")
    assert step(store, tmp_path / "records").run(store.spec.months).months == (*store.spec.months,)
    assert hashes(store.path) == before


def test_a_month_taken_back_from_a_store_is_taken_back_from_its_overviews(store: Store) -> None:
    spec = store.spec
    store.withdraw([spec.months.first])
    assert xr.open_zarr(store.path / "2").published.values.tolist() == [0, 1]


def test_whoever_is_killed_on_the_way_shows_nothing_half_made(
    store: Store, original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(original, tmp_path / "half.zarr")
    half, spec, made = Store(tmp_path / "half.zarr", store.spec), store.spec, 0

    def dies(*args: object) -> dict[str, np.ndarray]:
        nonlocal made
        made += 1
        if made == 4:
            raise KeyboardInterrupt
        return shard(*args)  # type: ignore[arg-type]

    shard = mosaic.shard
    monkeypatch.setattr(mosaic, "shard", dies)
    with pytest.raises(KeyboardInterrupt):
        step(half, tmp_path / "others").run(spec.months)
    assert not xr.open_zarr(half.path / "1").published.values.any()
    monkeypatch.undo()
    step(half, tmp_path / "others").run(spec.months)
    assert hashes(store.path) == hashes(half.path)


def test_workers_make_what_one_process_makes_also_where_they_are_killed_on_the_way(
    store: Store, original: Path, tmp_path: Path, threads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(original, tmp_path / "there.zarr")
    there, spec = Store(tmp_path / "there.zarr", store.spec), store.spec
    written = 0

    def dies(plane: Plane, *args: object) -> None:
        nonlocal written
        written += 1
        if written > 3:
            raise StoreError("no room left")
        write(plane, *args)  # type: ignore[arg-type]

    write = Plane.write
    monkeypatch.setattr(Plane, "write", dies)
    with connect(threads, Workers()) as place:
        with pytest.raises(StoreError, match="no room left"):
            step(there, tmp_path / "others").run(spec.months, partial(each, place))
        assert not xr.open_zarr(there.path / "1").published.values.any()
        monkeypatch.undo()
        built = step(there, tmp_path / "others").run(spec.months, partial(each, place))
    assert built == mosaic.Built((*spec.months,), 2 * (2 + 1 + 1 + 1))
    assert hashes(there.path) == hashes(store.path)


def test_what_is_left_is_counted_in_pixels_of_the_store(
    store: Store, original: Path, tmp_path: Path
) -> None:
    spec = store.spec
    assert step(store, tmp_path / "records").left(spec.months) == 0
    tile, month = every_tile(spec)[-1], spec.months.last
    again = step(store, tmp_path / "records", {f"{month}/{tile}": "2"})
    assert again.left(spec.months) == 64**2
    fresh = Store(original, spec)
    assert step(fresh, tmp_path / "records").left(spec.months) == 2 * 6 * 64**2


def test_overviews_grow_with_their_store(store: Store, tmp_path: Path) -> None:
    spec = store.spec
    more = a_spec(STATES, months="2022-04..2022-06")
    grown = create(store.path, more)
    with xr.open_zarr(store.path / "1") as old:
        assert old.sizes["month"] == 2
    grown.withdraw([more.months.last])  # its overviews do not have it yet
    blocks = {v.name: np.full((64, 64), 5, v.dtype) for v in STATES}
    for tile in every_tile(spec):
        grown.write(tile, more.months.last, blocks)
    grown.publish([more.months.last])
    assert step(grown, tmp_path / "records").run(more.months).months == (more.months.last,)
    half = xr.open_zarr(store.path / "1")
    assert half.published.values.tolist() == [1, 1, 1]
    assert (half.state.values[2] == 5).all()


# ---------------------------------------------------------------------------------- whole runs


def test_a_run_ends_with_overviews_and_a_verdict_on_its_seams(
    small_run: SmallRun, cdscale: Cli
) -> None:
    for name in ("urban.zarr", "change.zarr"):
        path = small_run.output / name
        store = Store(path, read_spec(path))
        half = xr.open_zarr(path / "1", mask_and_scale=False)
        assert int(half.published.values.sum()) == len(store.published()) > 0
        block = xr.open_zarr(path, mask_and_scale=False).quality.values[-1]
        np.testing.assert_array_equal(half.quality.values[-1], overview.mode(block, 0))
    said = cdscale("mosaic", small_run.output)
    assert said.code == 0
    assert "0 months, 0 shards" in said.out
    assert "Seams of urban: " in said.out
    assert set(mosaic.gates(small_run.output)) == {"urban", "change"}


def test_a_run_that_is_done_leaves_its_overviews_as_they_are(
    small_run: SmallRun, tmp_path: Path
) -> None:
    shutil.copytree(small_run.output, tmp_path / "out")
    before = state_of(tmp_path / "out")
    with prepared(small_run.job(tmp_path)) as progress:
        assert progress.finished
    after = state_of(tmp_path / "out")
    assert {n: s for n, s in after.items() if before.get(n) != s}.keys() <= {"run/job.json"}
    (tmp_path / "out" / "run" / "overviews" / "map" / "2022-05.json").unlink()
    assert mosaic.finish(progress)[Stage.MAP].months == (Month.parse("2022-05"),)
    assert products(tmp_path / "out") == small_run.products


def test_a_run_tells_of_the_overviews_that_its_workers_make(
    small_run: SmallRun, tmp_path: Path, threads: str
) -> None:
    kept = Path(shutil.copytree(small_run.output, tmp_path / "out")) / "run"
    next((kept / "receipts").glob("map/*/[!.]*.json")).unlink()
    for record in (kept / "overviews").rglob("*.json"):
        record.unlink()
    watcher = Log()
    assert execute(small_run.job(tmp_path), threads, watcher).complete
    (_, shards), *_ = watcher.seen_from_afar
    assert shards > 2
    assert watcher.seen_from_afar == [(made, shards) for made in range(shards + 1)]
    assert products(tmp_path / "out") == small_run.products


# --------------------------------------------------------------------------------------- seams


def mapped(path: Path, offset: float, seed: int = 3) -> Seams:
    """Smooth land in 3 x 2 tiles, every other tile lifted by an offset, as a network might."""
    spec = a_spec(urban_variables(), months="2022-04")
    rng = np.random.default_rng(seed)
    land = 0.5 + 0.2 * np.sin(np.add.outer(np.arange(128), np.arange(192)) / 9)
    land += 0.02 * rng.standard_normal(land.shape)
    store = create(path, spec)
    for n, tile in enumerate(every_tile(spec)):
        rows, columns = spec.window.slices(spec.grid, tile)
        value = np.clip(land[rows, columns] + offset * (n % 2), 0, 1)
        packed = np.rint(250 * value).astype(np.uint8)
        store.write(tile, spec.months.first, {"probability": packed, "quality": packed * 0 + 2})
    return seams.measure(path, spec, Month.parse("2022-04"), every_tile(spec))


def test_a_map_without_seams_passes_and_one_that_jumps_at_its_tiles_does_not(
    tmp_path: Path,
) -> None:
    smooth, lifted = mapped(tmp_path / "a.zarr", 0), mapped(tmp_path / "b.zarr", 0.1)
    assert smooth.edges == lifted.edges == 7
    assert smooth.pixels == 7 * 64
    assert smooth.passed
    assert abs(smooth.excess) < 0.004
    assert not lifted.passed
    assert lifted.excess == pytest.approx(0.07, abs=0.02)  # less where the land falls
    found = seams.gate("urban", [smooth, lifted])
    assert found.verdict == "warn"
    assert found.worst == lifted
    assert seams.gate("urban", [Seams(month="2022-04")]).verdict == "none"
