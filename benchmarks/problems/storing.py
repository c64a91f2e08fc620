"""Problems of the store: what checks cost, and how long a pixel's series takes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import zarr

from benchmarks import queries
from benchmarks.problems.asking import Answer, in_turn
from cdscale.grid import Grid, Tile, Window
from cdscale.months import Months
from cdscale.spec.cube import CubeSpec
from cdscale.spec.product import cube_variables
from cdscale.spec.run import S1_BANDS, S2_BANDS
from cdscale.store import create


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


class PixelSeries:
    """How long the 60 months of a pixel take, on the default layout whatever the size."""

    def ask(self, size: int, rounds: int) -> Answer:
        """See :class:`Problem`."""
        del size
        with tempfile.TemporaryDirectory() as folder:
            store = Path(folder) / "urban.zarr"
            queries.fill(store, queries.layout(1, "2017-01..2021-12"))
            found = queries.pixel(store, 4 * rounds)
        warm = {name: told["ms"] for name, told in found["warm"].items()}
        ours, theirs = "query point, store opened anew", "zarr-python, array held open"
        return Answer(
            "PixelSeries",
            "milliseconds of `query point`, 60 months, over zarr-python's for the same values",
            warm[ours] / warm[theirs],
            {
                "cold_ms": 1e3 * found["cold_process"]["answer_s"],
                "warm_ms": warm[ours],
                "zarr_ms": warm[theirs],
                "unpacking_ms": warm["unpacking alone"],
            },
            goal="< 1; cold < 500 ms, warm < 100 ms",
        )
