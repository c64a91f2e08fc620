"""Does a map depend on how it was cut? One cube, mapped in tiles of several sizes.

    python -m benchmarks.seams CUBE.zarr MODEL OUT.json [--tiles 512 256 128] [--pairs A,B]

Each size is mapped from two layouts of the same cube (chunks of the store, and chunks half as
large) by one worker and by two, and compared with one pass over all of it. Told for each size: the
largest and the mean difference of the stored probability, the share of pixels that change sides of
the threshold, and the share of stored values that differ at all. A network whose inputs are
standardised by the image has the tile and its halo for its image, and cannot come out at zero; what
is told for it is what its card states. Layouts and workers are compared bit for bit.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import dask
import numpy as np
import xarray as xr
from numpy.typing import NDArray

import cdscale
from cdscale import models

TILES = (512, 256, 128)
WORKERS = (1, 2)


@dataclass(frozen=True)
class Difference:
    """Of a map in tiles from the map in one pass, over the pixels that either says."""

    tile: int
    largest: float
    mean: float
    turned: float
    """Share of pixels on the other side of the threshold."""
    unequal: float
    """Share of pixels whose stored value is another."""

    @classmethod
    def of(
        cls, tile: int, tiled: NDArray[np.float32], whole: NDArray[np.float32], threshold: float
    ) -> Difference:
        """Compare two maps (month, Y, X), NaN where a map says nothing.

        Raises
        ------
        ValueError
            When they say something of different pixels: that is no seam but a fault.
        """
        said = np.isfinite(whole)
        if not np.array_equal(said, np.isfinite(tiled)):
            raise ValueError(f"tiles of {tile} say something of other pixels than one pass does")
        a, b = tiled[said], whole[said]
        gap = np.abs(a - b)
        return cls(
            tile,
            round(float(gap.max(initial=0)), 4),
            round(float(gap.mean()), 6),
            round(float(((a >= threshold) != (b >= threshold)).mean()), 6),
            round(float((a != b).mean()), 6),
        )


def layouts(cube: xr.Dataset, folder: Path) -> list[xr.Dataset]:
    """The cube as it is stored, and stored anew in chunks of half the side."""
    halves = {name: max(16, int(cube["s2"].encoding["chunks"][-1]) // 2) for name in ("y", "x")}
    names = [name for name in ("s2", "s1") if name in cube]
    cut = cube[names].chunk(halves)
    for name in cut.variables:
        # Scale and fill as they are; chunks and shards of the old layout would be refused.
        keep = {"scale_factor", "add_offset", "_FillValue", "dtype"}
        encoding = cube.variables[name].encoding
        cut[name].encoding = {key: encoding[key] for key in keep & encoding.keys()}
    path = folder / "halves.zarr"
    cut.to_zarr(path, zarr_format=3, consolidated=False)
    return [cube, xr.open_zarr(path, consolidated=False)]


def mapped(
    cube: xr.Dataset, model: str, tile: int, pairs: list[tuple[str, str]], workers: int
) -> NDArray[np.float32]:
    """Probability (month, Y, X) of a cube in tiles of one size."""
    with dask.config.set(scheduler="threads", num_workers=workers):
        maps = cdscale.predict(cube, model, pairs=pairs, tile=tile)
        found: NDArray[np.float32] = maps["probability"].compute().to_numpy()
    return found


def whole_tile(cube: xr.Dataset, stride: int) -> int:
    """Side of one tile that holds all of a cube."""
    return -(-max(cube.sizes["y"], cube.sizes["x"]) // stride) * stride


def measure(
    cube: xr.Dataset, model: str, tiles: tuple[int, ...], pairs: list[tuple[str, str]]
) -> list[Difference]:
    """Differences of each size of tile, the same from every layout and number of workers.

    Raises
    ------
    SystemExit
        When layouts or workers make a difference.
    """
    card = models.load_card(model)
    whole = mapped(cube, model, whole_tile(cube, card.stride), pairs, 1)
    told = []
    with tempfile.TemporaryDirectory() as folder:
        ways = [(one, n) for one in layouts(cube, Path(folder)) for n in WORKERS]
        for tile in tiles:
            first, *others = (mapped(one, model, tile, pairs, n) for one, n in ways)
            if not all(np.array_equal(first, other, equal_nan=True) for other in others):
                raise SystemExit(f"tiles of {tile}: layouts or workers make a difference")
            told.append(Difference.of(tile, first, whole, card.threshold))
            print(json.dumps(asdict(told[-1])), flush=True)
    return told


def table(told: list[Difference]) -> str:
    """Markdown."""
    rows = ["| tile | largest | mean | other side | other value |", "|---" * 5 + "|"]
    rows += [
        f"| {d.tile} | {d.largest:.4f} | {d.mean:.6f} | {d.turned:.4%} | {d.unequal:.2%} |"
        for d in told
    ]
    return "\n".join(rows)


def main() -> None:
    """Measure one cube with one model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cube", type=Path)
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--tiles", type=int, nargs="+", default=list(TILES))
    parser.add_argument("--pairs", nargs="*", default=[], help="like 2016-01,2018-03")
    options = parser.parse_args()
    pairs = [(a, b) for a, b in (pair.split(",") for pair in options.pairs)]
    cube = xr.open_zarr(options.cube)
    told = measure(cube, options.model, tuple(options.tiles), pairs)
    shape = [int(cube.sizes[name]) for name in ("month", "y", "x")]
    record = {"model": options.model, "shape": shape, "tiles": [asdict(d) for d in told]}
    options.out.write_text(json.dumps(record, indent=1) + "\n")
    print(table(told))


if __name__ == "__main__":
    main()
