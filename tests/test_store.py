"""Stores: what any Zarr reader sees, whole shards only, damage found, receipts."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdscale import store
from cdscale.errors import CdscaleError, StoreError
from cdscale.grid import Area, Bounds, Grid, Tile, Window, covered
from cdscale.months import Month, Months
from cdscale.spec.cube import CubeSpec, Variable
from cdscale.spec.product import cube_variables
from cdscale.spec.task import Receipt, Stage, Task
from cdscale.store import Ledger, Store

GRID = Grid("europe", "EPSG:3035", Bounds(0, 0, 8_192_000, 8_192_000), tile_px=64)
MONTHS = Months.parse("2020-11..2021-01")
MONTH = Month(2020, 12)
WINDOW = Window(1000, 2000, 3, 2)
TILES = [Tile(1000 + i, 2000 + j) for j in range(2) for i in range(3)]
SPEC = CubeSpec(
    product="cube",
    title="a test",
    grid=GRID,
    window=WINDOW,
    months=MONTHS,
    chunk_px=32,
    variables=(
        *cube_variables(("B02", "B03"), ("vv",)),
        Variable(
            name="change_month", dtype="int32", fill=-1,
            attrs={"units": "days since 1970-01-01", "calendar": "proleptic_gregorian"},
        ),
        Variable(name="probability", dtype="uint8", fill=255, scale=0.004),
    ),
    reference={str(m): "2020-01" for m in MONTHS},
)  # fmt: skip


def block_set(seed: int) -> dict[str, Any]:
    """Blocks of one shard, every value of them other than the fill value."""
    rng = np.random.default_rng(seed)
    blocks = {}
    for v in SPEC.variables:
        shape = SPEC.shard_shape(v)[1:]
        if v.dtype == "float32":
            blocks[v.name] = rng.random(shape, np.float32)
        else:
            blocks[v.name] = rng.integers(1, 200, shape).astype(v.dtype)
    return blocks


@pytest.fixture
def made(tmp_path: Path) -> Store:
    return store.create(tmp_path / "cube.zarr", SPEC)


def shard(made: Store, name: str, tile: Tile, month: Month = MONTH) -> Path:
    """File of a shard, as the Zarr format has it."""
    place = [MONTHS.index(month), tile.iy - WINDOW.iy, tile.ix - WINDOW.ix]
    if SPEC.variable(name).bands:
        place.insert(1, 0)
    return made.path / name / "c" / "/".join(map(str, place))


# ---------------------------------------------------------------------------- read back, as such


@given(
    seed=st.integers(0, 2**32 - 1), tile=st.sampled_from(TILES), month=st.sampled_from([*MONTHS])
)
@settings(max_examples=5)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, seed: int, tile: Tile, month: Month
) -> None:
    made = store.create(tmp_path_factory.mktemp("s") / "cube.zarr", SPEC)
    blocks = block_set(seed)
    sums = made.write(tile, month, blocks)
    assert sums == made.write(tile, month, blocks)
    assert set(sums) == {v.name for v in SPEC.variables}
    for name, block in blocks.items():
        np.testing.assert_array_equal(made.read(name, tile, month), block)
        other = made.read(name, next(t for t in TILES if t != tile), month)
        np.testing.assert_array_equal(other, np.full_like(block, SPEC.variable(name).fill))


def test_a_shard_of_nothing_but_fill_replaces_one_of_values(made: Store) -> None:
    made.write(TILES[0], MONTH, block_set(1))
    empty = {n: np.full_like(b, SPEC.variable(n).fill) for n, b in block_set(1).items()}
    made.write(TILES[0], MONTH, empty)
    for name, block in empty.items():
        np.testing.assert_array_equal(made.read(name, TILES[0], MONTH), block)


def test_the_same_writes_make_the_same_bytes(tmp_path: Path) -> None:
    contents = []
    for run, order in enumerate((TILES, TILES[::-1])):
        made = store.create(tmp_path / str(run) / "cube.zarr", SPEC)
        for tile in order:
            made.write(tile, MONTH, block_set(tile.ix))
        files = sorted(p for p in made.path.rglob("*") if p.is_file())
        contents.append({str(p.relative_to(made.path)): p.read_bytes() for p in files})
    assert contents[0] == contents[1]


@given(st.integers(0, 70), st.sampled_from(TILES))
@settings(max_examples=12)
def test_a_halo_shows_the_neighbours_and_beyond_the_store_nothing(halo: int, tile: Tile) -> None:
    whole, made = _filled()
    rows, columns = WINDOW.slices(GRID, tile)
    padded = np.pad(whole, [(0, 0), (halo, halo), (halo, halo)], constant_values=-32768)
    expected = padded[:, rows.start : rows.stop + 2 * halo, columns.start : columns.stop + 2 * halo]
    got = made.read("s2", tile, MONTH, halo=halo)
    np.testing.assert_array_equal(got, expected)


_CACHE: list[tuple[Any, Store]] = []


def _filled() -> tuple[Any, Store]:
    """A store of which every tile has values, made once; and its s2 as one array."""
    if not _CACHE:
        import atexit
        import tempfile

        folder = tempfile.TemporaryDirectory()
        atexit.register(folder.cleanup)
        made = store.create(Path(folder.name) / "cube.zarr", SPEC)
        whole = np.zeros((2, *SPEC.shape), np.int16)
        for number, tile in enumerate(TILES):
            blocks = block_set(number)
            made.write(tile, MONTH, blocks)
            whole[:, *WINDOW.slices(GRID, tile)] = blocks["s2"]
        _CACHE.append((whole, made))
    return _CACHE[0]


# ----------------------------------------------------------------------------- for other readers


def test_plain_xarray_and_rioxarray_read_it_without_cdscale(made: Store) -> None:
    """In a process that never imports cdscale: CRS, months, scale, fill, flags."""
    blocks = block_set(3)
    blocks["s2"][:, 0, 0] = -32768
    blocks["change_month"][0, 0] = -1
    blocks["change_month"][0, 1] = 18_628  # 2021-01-01
    blocks["probability"][0, :2] = [255, 125]
    tile = TILES[4]
    made.write(tile, MONTH, blocks)
    geobox = GRID.geobox(tile)
    rows, columns = WINDOW.slices(GRID, tile)
    program = f"""
        import sys, warnings
        warnings.simplefilter("error")
        import numpy as np, xarray as xr, rioxarray
        ds = xr.open_zarr({str(made.path)!r})
        assert "cdscale" not in sys.modules
        assert ds.rio.crs.to_epsg() == 3035, ds.rio.crs
        assert ds.s2.rio.crs.to_epsg() == 3035
        assert ds.rio.resolution() == (10.0, -10.0)
        assert [str(m)[:10] for m in ds.month.values] == ["2020-11-01", "2020-12-01", "2021-01-01"]
        assert [str(m)[:10] for m in ds.reference_month.values] == ["2020-01-01"] * 3
        assert ds.s2_band.values.tolist() == ["B02", "B03"]
        assert ds.s2.dims == ("month", "s2_band", "y", "x")
        part = ds.isel(month=1, y=slice({rows.start}, {rows.stop}),
                       x=slice({columns.start}, {columns.stop}))
        assert part.x.values[0] == {geobox.affine.c + 5}
        assert part.y.values[0] == {geobox.affine.f - 5}
        s2 = part.s2.sel(s2_band="B03").values
        assert np.isnan(s2[0, 0]) and np.isclose(s2[5, 6], {int(blocks["s2"][1, 5, 6])} * 1e-4)
        assert np.isnan(ds.s2.isel(month=0).values).all()
        assert np.isnan(ds.s1.isel(month=0).values).all()
        assert part.s2_quality.dtype == np.uint8 and "flag_meanings" in part.s2_quality.attrs
        assert (ds.s2_quality.isel(month=0).values == 0).all()
        month = part.change_month.values
        assert np.isnat(month[0, 0]) and str(month[0, 1])[:10] == "2021-01-01", month[0, :2]
        p = part.probability.values
        assert np.isnan(p[0, 0]) and np.isclose(p[0, 1], 0.5)
        box = ds.s1.isel(month=1).rio.bounds()
        assert box == {tuple(WINDOW.geobox(GRID).boundingbox)}, box
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_metadata_is_json_as_the_standard_has_it(made: Store) -> None:
    """``NaN`` is Python's own; a reader in another language stops at it."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    for path in made.path.rglob("zarr.json"):
        json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def test_shards_chunks_and_checksums_are_what_the_spec_says(made: Store) -> None:
    meta = json.loads((made.path / "s2" / "zarr.json").read_text(encoding="utf-8"))
    assert meta["shape"] == [3, 2, 128, 192]
    assert meta["chunk_grid"]["configuration"]["chunk_shape"] == [1, 2, 64, 64]
    (sharding,) = meta["codecs"]
    assert sharding["name"] == "sharding_indexed"
    assert sharding["configuration"]["chunk_shape"] == [1, 1, 32, 32]
    assert [c["name"] for c in sharding["configuration"]["codecs"]][-1] == "crc32c"
    assert meta["dimension_names"] == ["month", "s2_band", "y", "x"]


def test_opening_a_dataset_computes_nothing(made: Store) -> None:
    made.write(TILES[0], MONTH, block_set(0))
    for path in made.path.glob("*/c/*"):
        if path.parts[-3] in {v.name for v in SPEC.variables}:
            for file in path.rglob("*"):
                if file.is_file():
                    file.write_bytes(b"unreadable")
    dataset = store.open_dataset(made.path)
    assert dataset.s2.chunks is not None
    assert dataset.s2.shape == (3, 2, 128, 192)


# ------------------------------------------------------------------------------ whole shards only


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"s2": np.zeros((2, 63, 64), np.int16)}, r"one whole shard.*int16 \(1, 2, 64, 64\)"),
        ({"s2": np.zeros((1, 64, 64), np.int16)}, "one whole shard"),
        ({"s2": np.zeros((2, 64, 128), np.int16)}, "one whole shard"),
        ({"s2": np.zeros((64, 64), np.int16)}, "one whole shard"),
        ({"s2": np.zeros((2, 64, 64), np.float32)}, "int16.*got float32"),
        ({"s2": np.zeros((2, 64, 64), ">i2")}, "one whole shard"),
        ({"s1_scenes": np.zeros((64, 64), bool)}, "uint8.*got bool"),
        ({"s2": None}, "a write must be whole"),
        ({"s3": np.zeros((64, 64), np.int16)}, "a write must be whole"),
    ],
)
def test_anything_but_a_whole_shard_is_refused(
    made: Store, change: dict[str, Any], said: str
) -> None:
    blocks = {k: v for k, v in {**block_set(0), **change}.items() if v is not None}
    with pytest.raises(StoreError, match=said):
        made.write(TILES[0], MONTH, blocks)


@pytest.mark.parametrize(
    ("tile", "month"),
    [(Tile(999, 2000), MONTH), (Tile(1000, 2002), MONTH), (TILES[0], Month(2019, 1))],
)
def test_a_write_beside_the_store_is_refused(made: Store, tile: Tile, month: Month) -> None:
    with pytest.raises(CdscaleError, match="not part of"):
        made.write(tile, month, block_set(0))
    with pytest.raises(CdscaleError, match="not part of"):
        made.read("s2", tile, month)


def _write_some(path: Path, tiles: list[Tile]) -> None:
    made = Store(path, SPEC)
    for _ in range(3):
        for tile in tiles:
            made.write(tile, MONTH, block_set(tile.ix * 10 + tile.iy))


def test_two_processes_write_neighbouring_shards(made: Store) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [
        context.Process(target=_write_some, args=(made.path, TILES[half::2])) for half in (0, 1)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    for tile in TILES:
        for name, block in block_set(tile.ix * 10 + tile.iy).items():
            np.testing.assert_array_equal(made.read(name, tile, MONTH), block)
    assert made.sweep() == 0


# ---------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize("where", [0.0, 0.3, 0.6, 0.999])
@pytest.mark.parametrize("name", ["s2", "s1", "s2_quality"])
def test_one_flipped_bit_is_noticed(made: Store, name: str, where: float) -> None:
    """Of the chunks and of the index behind them; each bit, by crc32c."""
    made.write(TILES[0], MONTH, block_set(5))
    path = shard(made, name, TILES[0])
    content = bytearray(path.read_bytes())
    content[int(where * (len(content) - 1))] ^= 0b100
    path.write_bytes(content)
    with pytest.raises(StoreError, match=f"{name}.*x1000y2000.*2020-12.*damaged"):
        made.read(name, TILES[0], MONTH)


@pytest.mark.parametrize("keep", [0, 10, 2000])
def test_a_shard_that_was_cut_short_is_noticed(made: Store, keep: int) -> None:
    made.write(TILES[0], MONTH, block_set(5))
    path = shard(made, "s1", TILES[0])
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(StoreError, match=r"s1.*damaged"):
        made.read("s1", TILES[0], MONTH)


def test_a_damaged_shard_is_mended_by_writing_it_again(made: Store) -> None:
    made.write(TILES[0], MONTH, block_set(5))
    path = shard(made, "s2", TILES[0])
    for content in (b"", b"short", bytes(5000)):
        path.write_bytes(content)
        made.write(TILES[0], MONTH, block_set(5))
        np.testing.assert_array_equal(made.read("s2", TILES[0], MONTH), block_set(5)["s2"])


def test_a_killed_writer_leaves_the_old_shard_and_is_swept_up(made: Store) -> None:
    """The process ends between writing the file and giving it its name."""
    made.write(TILES[0], MONTH, block_set(1))
    program = f"""
        import os, pathlib, sys
        sys.path.insert(0, {str(Path(__file__).parents[1])!r})
        from tests.test_store import SPEC, MONTH, TILES, block_set
        from cdscale.store import Store
        pathlib.Path.replace = lambda *a: os._exit(9)
        Store(pathlib.Path({str(made.path)!r}), SPEC).write(TILES[0], MONTH, block_set(2))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False)
    assert done.returncode == 9
    np.testing.assert_array_equal(made.read("s2", TILES[0], MONTH), block_set(1)["s2"])
    assert made.sweep() == 1
    assert made.sweep() == 0
    np.testing.assert_array_equal(made.read("s2", TILES[0], MONTH), block_set(1)["s2"])


# -------------------------------------------------------------------------------- create and open


def test_create_is_idempotent_and_keeps_the_pixels(made: Store) -> None:
    made.write(TILES[0], MONTH, block_set(1))
    again = store.create(made.path, SPEC)
    assert again == made
    np.testing.assert_array_equal(again.read("s2", TILES[0], MONTH), block_set(1)["s2"])
    assert store.open_store(made.path, SPEC) == made


def test_a_store_knows_its_spec_again(made: Store) -> None:
    known = store.read_spec(made.path)
    assert known.digest == SPEC.digest
    assert math.isnan(known.variable("s1").fill)
    assert known.model_dump_json() == SPEC.model_dump_json()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("grid", Grid("europe", "EPSG:3035", Bounds(0, 0, 8_192_000, 8_192_000), 20.0, 64)),
        ("attrs.comment", {"comment": "other"}),
        ("chunk_px", 16),
        ("window", Window(1000, 2000, 3, 3)),
        ("variables", cube_variables(("B02",), ("vv",))),
        ("title", "another"),
    ],
)
def test_a_store_of_another_spec_is_refused_by_the_field(
    made: Store, field: str, value: object
) -> None:
    other = SPEC.model_copy(update={field.partition(".")[0]: value})
    with pytest.raises(StoreError, match=f"another spec: its {field} differs; expected .*; got"):
        store.create(made.path, other)


def test_what_is_no_store_is_said_to_be_none(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("text")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "absent", tmp_path / "folder", file):
        with pytest.raises(StoreError, match="no Zarr store"):
            store.read_spec(path)
        with pytest.raises(StoreError, match="no Zarr store"):
            store.open_dataset(path)


def test_a_foreign_or_damaged_store_is_refused(tmp_path: Path) -> None:
    import zarr

    zarr.open_group(tmp_path / "foreign.zarr", mode="w", zarr_format=3)
    with pytest.raises(StoreError, match="not a store of cdscale"):
        store.read_spec(tmp_path / "foreign.zarr")
    (tmp_path / "broken.zarr").mkdir()
    (tmp_path / "broken.zarr" / "zarr.json").write_text("{")
    with pytest.raises(StoreError, match=r"broken\.zarr"):
        store.read_spec(tmp_path / "broken.zarr")


def test_a_place_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("text")
    with pytest.raises(StoreError, match="cannot make .*output folder"):
        store.create(file / "cube.zarr", SPEC)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StoreError, match="cannot make .*Permission denied"):
        store.create(tmp_path / "closed" / "cube.zarr", SPEC)


def test_a_driver_killed_while_laying_out_leaves_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cube.zarr"
    real = store.layout._lay_out_variable

    def die(group: Any, spec: CubeSpec, variable: Variable) -> None:
        if variable.name == "s1_quality":
            raise KeyboardInterrupt
        real(group, spec, variable)

    with monkeypatch.context() as patch:
        patch.setattr(store.layout, "_lay_out_variable", die)
        with pytest.raises(KeyboardInterrupt):
            store.create(path, SPEC)
    assert not path.exists()
    store.create(path, SPEC).write(TILES[0], MONTH, block_set(0))
    assert [p.name for p in tmp_path.iterdir()] == ["cube.zarr"]


# --------------------------------------------------------------------------------------- growing

LONGER = SPEC.model_copy(
    update={
        "months": Months.parse("2020-11..2021-02,2021-05"),
        "reference": {str(m): "2020-01" for m in Months.parse("2020-11..2021-02,2021-05")},
    }
)
LATER = Month(2021, 5)


def contents(path: Path) -> dict[str, bytes]:
    """Every file of a store, and of what is left beside it."""
    files = [p for p in path.parent.glob("*cube.zarr*/**/*") if p.is_file()]
    return {str(p.relative_to(path.parent)): p.read_bytes() for p in files}


def test_a_store_that_grew_is_the_one_that_was_made_so(made: Store, tmp_path: Path) -> None:
    """Byte by byte, and what it held is not touched."""
    made.write(TILES[0], MONTH, block_set(1))
    pixels = {p: p.stat().st_mtime_ns for p in made.path.rglob("c/*/*/*") if p.is_file()}
    longer = store.create(made.path, LONGER)
    assert {p: p.stat().st_mtime_ns for p in pixels} == pixels
    longer.write(TILES[1], LATER, block_set(2))
    longer.publish([LATER])
    at_once = store.create(tmp_path / "once" / "cube.zarr", LONGER)
    at_once.write(TILES[1], LATER, block_set(2))
    at_once.write(TILES[0], MONTH, block_set(1))
    at_once.publish([LATER])
    shutil.move(at_once.path, tmp_path / "alone" / "cube.zarr")
    shutil.move(longer.path, tmp_path / "grown" / "cube.zarr")
    assert contents(tmp_path / "grown" / "cube.zarr") == contents(tmp_path / "alone" / "cube.zarr")
    kept = store.read_spec(tmp_path / "grown" / "cube.zarr")
    assert kept.model_dump_json() == LONGER.model_dump_json()


def test_a_run_of_fewer_months_writes_at_the_places_of_the_store(made: Store) -> None:
    store.create(made.path, LONGER)
    fewer = SPEC.model_copy(
        update={"months": Months.of([LATER]), "reference": {str(LATER): "2020-01"}}
    )
    one = store.create(made.path, fewer)
    assert list(one.spec.months) == list(LONGER.months)
    one.write(TILES[2], LATER, block_set(3))
    whole = store.open_store(made.path, LONGER)
    np.testing.assert_array_equal(whole.read("s2", TILES[2], LATER), block_set(3)["s2"])
    with store.open_dataset(made.path) as dataset:
        seen = dataset.s2_quality.sel(month="2021-05-01")
        assert int(seen.sum()) == int(block_set(3)["s2_quality"].sum())


@pytest.mark.parametrize(
    ("months", "named"),
    [
        ("2020-10..2021-01", "2020-10"),
        ("2020-12", ""),
        ("2021-03", ""),
        ("2020-11,2021-06", ""),
    ],
)
def test_only_later_months_are_added(made: Store, months: str, named: str) -> None:
    other = SPEC.model_copy(
        update={
            "months": Months.parse(months),
            "reference": {str(m): "2020-01" for m in Months.parse(months)},
        }
    )
    before = contents(made.path)
    if named:
        with pytest.raises(StoreError, match=f"grows only towards later months.*got {named}"):
            store.create(made.path, other)
        assert contents(made.path) == before
    else:
        assert store.create(made.path, other).spec.months == Months.of([*MONTHS, *other.months])


def test_a_month_in_a_gap_is_refused(made: Store) -> None:
    store.create(made.path, LONGER)
    between = SPEC.model_copy(
        update={"months": Months.parse("2021-03"), "reference": {"2021-03": "2020-01"}}
    )
    with pytest.raises(StoreError, match=r"later months.*or after 2021-05; got 2021-03.*--output"):
        store.create(made.path, between)


def test_a_month_that_is_compared_with_another_one_is_refused(made: Store) -> None:
    other = LONGER.model_copy(update={"reference": LONGER.reference | {"2020-12": "2020-02"}})
    with pytest.raises(StoreError, match=r"compares 2020-12 with another month; expected 2020-02"):
        store.create(made.path, other)
    with pytest.raises(StoreError, match="has not grown yet"):
        store.open_store(made.path, LONGER)


GROW_AND_DIE = """
import os, shutil, signal, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from cdscale import store
from tests.test_store import LONGER

def dying_at(step):
    left = [step]
    def watch(real):
        def call(*args, **kwargs):
            # What lies beside the store is not part of it until it is moved there.
            left[0] -= ".cube.zarr.new" not in str(args[-1]) or real is not os_replace
            if not left[0]:
                os._exit(9)
            return real(*args, **kwargs)
        return call
    return watch

made, base, os_replace = Path(sys.argv[1]), Path(sys.argv[2]), os.replace
step = 0
while True:
    step += 1
    pid = os.fork()
    if not pid:
        path = base / str(step) / "cube.zarr"
        shutil.copytree(made, path)
        watch = dying_at(step)
        os.replace, shutil.rmtree = watch(os.replace), watch(shutil.rmtree)
        store.create(path, LONGER)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0:
        print(step)
        break
"""


def test_a_driver_killed_while_a_store_grows_leaves_one_that_reads(
    made: Store, tmp_path: Path
) -> None:
    """Before each of the steps that change the store; then the old and the new run both go on."""
    import xarray as xr

    made.write(TILES[0], MONTH, block_set(1))
    made.publish([MONTH])
    old = contents(made.path)
    program = GROW_AND_DIE.format(root=str(Path(__file__).parents[1]))
    ended = subprocess.run(
        [sys.executable, "-c", program, str(made.path), str(tmp_path / "steps")],
        capture_output=True,
        text=True,
        check=True,
    )
    steps = int(ended.stdout)
    # Two coordinates and the metadata of as many arrays, of the three along the months by
    # themselves, and of the group; and tidying up before and after.
    assert steps - 1 == 2 + len(SPEC.variables) + 3 + 1 + 2
    store.create(made.path, LONGER)
    new = contents(made.path)
    lengths = set()
    for step in range(1, steps):
        path = tmp_path / "steps" / str(step) / "cube.zarr"
        with xr.open_zarr(path) as dataset:
            lengths.add(dataset.sizes["month"])
            months = [str(m)[:7] for m in dataset.month.values]
            assert months == [str(m) for m in LONGER.months][: len(months)]
            seen = dataset.s2_clear.isel(month=1, y=slice(64), x=slice(64)).values
        np.testing.assert_array_equal(seen, block_set(1)["s2_clear"])
        # The old run: sweeps, and finds its store as it was, or with the later months whole.
        spec = store.read_spec(path)
        again = store.create(path, SPEC)
        again.sweep()
        assert contents(path) == (old if spec.digest == SPEC.digest else new)
        assert again.published() == (MONTH,)
        # The new run completes what was begun.
        store.create(path, LONGER).sweep()
        assert contents(path) == new
    assert lengths == {3, 5}


# ------------------------------------------------------------------------------------- publishing


def test_months_are_published_and_taken_back(made: Store) -> None:
    assert made.published() == ()
    made.publish([MONTH, MONTHS.last])
    assert made.published() == (MONTH, MONTHS.last)
    with store.open_dataset(made.path) as dataset:
        assert "published" in dataset.coords
        assert dataset.published.values.tolist() == [0, 1, 1]
        assert dataset.published.attrs["flag_meanings"] == "unpublished published"
        assert dataset.sel(month=dataset.published.values == 1).sizes["month"] == 2
    made.withdraw([MONTH])
    assert made.published() == (MONTHS.last,)
    longer = store.create(made.path, LONGER)
    assert longer.published() == (MONTHS.last,)
    longer.publish([LATER])
    assert longer.published() == (MONTHS.last, LATER)


def test_marks_leave_the_same_files_whatever_came_between(made: Store) -> None:
    made.publish([MONTH])
    before = contents(made.path)
    made.withdraw([MONTH, MONTHS.first])
    made.publish([MONTHS.last, MONTH])
    made.withdraw([MONTHS.last])
    assert contents(made.path) == before


def test_a_store_of_an_older_release_gets_its_marks(made: Store) -> None:
    whole = contents(made.path)
    shutil.rmtree(made.path / "published")
    root = json.loads((made.path / "zarr.json").read_text())
    del root["consolidated_metadata"]["metadata"]["published"]
    root["attributes"]["coordinates"] = "spatial_ref reference_month"
    (made.path / "zarr.json").write_text(json.dumps(root))
    with pytest.raises(StoreError, match=r"does not say which months are complete.*Run again"):
        made.published()
    assert store.create(made.path, SPEC).published() == ()
    assert contents(made.path) == whole


# ------------------------------------------------------------------------- every area, every shard


@st.composite
def layouts(draw: st.DrawFn) -> tuple[Any, CubeSpec, tuple[Tile, ...]]:
    """An area somewhere in Europe, its tiles, and the layout of a store over them."""
    west = draw(st.floats(-9, 28))
    south = draw(st.floats(36, 69))
    tile = draw(st.sampled_from([64, 96, 160]))
    km = tile * 10 / 111_000
    boxes = [
        Area.from_bounds(
            Bounds(
                west + x * km,
                south + y * km,
                west + (x + draw(st.floats(0.01, 3))) * km,
                south + (y + draw(st.floats(0.01, 3))) * km,
            )
        ).geojson
        for x, y in draw(
            st.lists(st.tuples(st.floats(0, 6), st.floats(0, 6)), min_size=1, max_size=3)
        )
    ]
    features = [{"type": "Feature", "geometry": box} for box in boxes]
    area = Area.from_geojson({"type": "FeatureCollection", "features": features}, where="test")
    grid = Grid.preset("europe", tile_px=tile)
    tiles = grid.tiles(area)
    first = Month(2020, 1) + draw(st.integers(0, 30))
    months = Months.of(first + n for n in draw(st.sets(st.integers(0, 40), min_size=1)))
    spec = SPEC.model_copy(
        update={
            "grid": grid,
            "window": grid.window(tiles),
            "months": months,
            "chunk_px": tile // 2,
            "reference": {},
        }
    )
    return area, spec, tiles


@given(layouts(), st.integers(0, 5))
def test_regions_are_disjoint_cover_the_area_and_are_whole_shards(
    drawn: tuple[Any, CubeSpec, tuple[Tile, ...]], more: int
) -> None:
    """Of any area, period and tile size; also after the store has grown by some months."""
    area, spec, tiles = drawn
    longer = Months.of([*spec.months, *(spec.months.last + 1 + i for i in range(more))])
    grew = spec.model_copy(update={"months": longer})
    px = spec.grid.tile_px
    written: set[tuple[int, int, int]] = set()
    touched = np.zeros((spec.window.ny, spec.window.nx), bool)
    for month in longer:
        for tile in tiles:
            region = grew.region(tile, month)
            if month in spec.months:
                assert region == spec.region(tile, month)
            corner = (region["month"].start, region["y"].start, region["x"].start)
            assert corner not in written
            written.add(corner)
            assert region["month"].stop == corner[0] + 1 <= len(longer)
            for axis, size in (("y", spec.shape[0]), ("x", spec.shape[1])):
                part = region[axis]
                assert part.start % px == 0
                assert part.stop == part.start + px <= size
            touched[corner[1] // px, corner[2] // px] = True
    assert len(written) == len(longer) * len(tiles)
    for variable in grew.variables:
        assert spec.shard_shape(variable)[-2:] == (px, px)
        assert spec.shard_shape(variable)[0] == 1
    # What no region covers is not part of the area: no pixel's centre lies in it.
    inside_YX = covered(area, spec.window.geobox(spec.grid))
    shape = (spec.window.ny, px, spec.window.nx, px)
    by_tile = np.any(inside_YX.reshape(shape), axis=(1, 3))
    assert not np.any(by_tile & ~touched)


def test_a_store_with_other_shards_than_its_spec_is_not_written(made: Store) -> None:
    """Where shards are larger than a write, two writers lose each other's pixels."""
    import zarr

    group = zarr.open_group(made.path, mode="r+", use_consolidated=False)
    attrs = dict(group["s2_clear"].attrs)
    del group["s2_clear"]
    array = group.create_array(
        "s2_clear", shape=(3, 128, 192), shards=(1, 128, 64), chunks=(1, 16, 16), dtype="uint8"
    )
    array.attrs.update(attrs)
    with pytest.warns(zarr.errors.ZarrUserWarning):
        zarr.consolidate_metadata(made.path)
    with pytest.raises(StoreError, match=r"shards of s2_clear are not those of its spec"):
        made.write(TILES[0], MONTH, block_set(0))
    assert not np.any(array[:])


# ---------------------------------------------------------------------------------------- ledger

TASK = Task(Stage.COMPOSE, MONTH, TILES[0])
RECEIPT = Receipt(
    task=str(TASK), fingerprint="f" * 64, checksums={"s2": "a" * 64}, scenes=("one", "two"),
    failed={"three": "gone"}, pixels={"s2_quality": {"valid": 3}}, seconds=1.5,
)  # fmt: skip


def test_a_receipt_reads_back_and_clears_an_earlier_failure(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "receipts")
    assert ledger.read(TASK) is None
    assert ledger.failure(TASK) == ""
    ledger.fail(TASK, "it rained")
    assert ledger.failure(TASK) == "it rained"
    ledger.write(RECEIPT)
    assert ledger.read(TASK) == RECEIPT
    assert ledger.failure(TASK) == ""
    assert not RECEIPT.complete
    newer = RECEIPT.model_copy(update={"failed": {}})
    ledger.write(newer)
    assert ledger.read(TASK) == newer
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert [str(p.relative_to(tmp_path)) for p in files] == [
        "receipts/compose/2020-12/x1000y2000.json"
    ]


def test_a_void_receipt_holds_no_longer_and_still_says_what_was_missing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.void(TASK)
    assert ledger.read(TASK) is None
    ledger.write(RECEIPT)
    ledger.void(TASK)
    assert ledger.read(TASK) == RECEIPT.model_copy(update={"fingerprint": ""})


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"task": 1}', b"null"])
def test_a_damaged_receipt_is_none(tmp_path: Path, content: bytes) -> None:
    ledger = Ledger(tmp_path)
    ledger.write(RECEIPT)
    (tmp_path / f"{TASK}.json").write_bytes(content)
    assert ledger.read(TASK) is None


@pytest.mark.parametrize("cut", range(1, 300, 23))
def test_a_receipt_that_was_cut_short_is_none(tmp_path: Path, cut: int) -> None:
    ledger = Ledger(tmp_path)
    ledger.write(RECEIPT)
    path = tmp_path / f"{TASK}.json"
    path.write_bytes(path.read_bytes()[: -1 - cut])
    assert ledger.read(TASK) is None


def test_json_is_the_old_one_or_the_new_one_and_nothing_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "value.json"
    store.write_json(path, {"b": 1, "a": [1, 2]})
    before = path.read_text(encoding="utf-8")
    assert json.loads(before) == {"a": [1, 2], "b": 1}

    def die(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", die)
        with pytest.raises(OSError, match="No space"):
            store.write_json(path, {"new": True})
    assert path.read_text(encoding="utf-8") == before
    store.write_json(path, {"new": True})
    assert json.loads(path.read_text(encoding="utf-8")) == {"new": True}
