"""``python -m benchmarks.layout OUT.json``: how a store should be cut and packed, on real pixels.

Chunks of 256, 512 and 1024 pixels in shards of 1024, 2048 and 4096, and seven codecs, always with a
crc32c: megabytes of pixels written and read for each second of the processor, what packing saves,
and what a reader of a few pixels waits for and fetches. The layers are those of a run: reflectance
of two bands, the probability of change, and its classes, made of the cities of OSCD (found through
``CDSCALE_DATA``) laid side by side, mirrored where a row is begun again. Such a region repeats
itself as no real one does, of which codecs with a long memory make more than they should. The ways
take turns; medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import ByteRequest
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore

from cdscale import inference, models
from cdscale.learn.data import oscd

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("CDSCALE_DATA", ROOT.parent / "shared" / "data")) / "oscd"

CODECS: dict[str, Callable[[], Any]] = {
    "lz4 bitshuffle (ours)": lambda: BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle"),
    "lz4 shuffle": lambda: BloscCodec(cname="lz4", clevel=5, shuffle="shuffle"),
    "zstd-1 bitshuffle": lambda: BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle"),
    "zstd-5 bitshuffle": lambda: BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle"),
    "zstd-1 unshuffled": lambda: BloscCodec(cname="zstd", clevel=1, shuffle="noshuffle"),
    "zstd-1": lambda: ZstdCodec(level=1),
    "zstd-5": lambda: ZstdCodec(level=5),
}
OURS = "lz4 bitshuffle (ours)"
CHUNKS = (256, 512, 1024)
SHARDS = (1024, 2048, 4096)
WINDOW = 256
"""Pixels along a side of what is read as a window, at a place that no chunk cares for."""
WINDOWS = 8
MONTHS = 12
CROP = 448
"""Pixels of each city along a side."""


class Counted(LocalStore):
    """A folder that counts what is asked of it."""

    requests = 0
    fetched = 0

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Fetch and count."""
        found = await super().get(key, prototype, byte_range)
        if "/c/" in f"/{key}":
            self.requests += 1
            self.fetched += 0 if found is None else len(found)
        return found


@dataclass(frozen=True)
class Way:
    """One layout of one layer."""

    layer: str
    codec: str
    chunk: int
    shard: int

    def array(self, store: Any, pixels: NDArray[Any]) -> Any:
        """An empty array for some months of a layer."""
        bands, rows, columns = pixels.shape
        return zarr.create_array(
            store,
            shape=(MONTHS, bands, rows, columns),
            shards=(1, bands, self.shard, self.shard),
            chunks=(1, 1, self.chunk, self.chunk),
            dtype=pixels.dtype,
            fill_value=0,
            compressors=[CODECS[self.codec](), Crc32cCodec()],
            overwrite=True,
        )

    def measure(self, pixels: NDArray[Any], folder: Path) -> dict[str, float]:
        """Write the first month and read it; let the others be the same files; read windows.

        Returns
        -------
        dict
            ``ratio``, of pixels to bytes on disk. ``write`` and ``read``, megabytes of pixels for
            each second of the processor. ``window_ms``, until a window of all bands is there;
            ``requests`` of it, for each shard that it touches; ``of_chunks``, bytes fetched over
            those of the chunks that it touches, and ``of_pixels``, over its share of the
            compressed bytes. ``series_ms``, until the values of one pixel in all months are there.
        """
        store = Counted(folder)
        array = self.array(store, pixels)
        side = pixels.shape[-1]
        corners = list(product(range(0, side, self.shard), repeat=2))
        megabytes = pixels.nbytes / 1e6

        def write() -> None:
            for y, x in corners:
                shard = np.s_[:, y : y + self.shard, x : x + self.shard]
                array[(slice(0, 1), *shard)] = pixels[shard][None]

        def read() -> None:
            for y, x in corners:
                array[0, :, y : y + self.shard, x : x + self.shard]

        found = {"write": megabytes / _cpu(write), "read": megabytes / _cpu(read)}
        files = [path for path in folder.glob("c/0/**/*") if path.is_file()]
        found["ratio"] = pixels.nbytes / sum(path.stat().st_size for path in files)
        for month in range(1, MONTHS):
            for path in files:
                other = folder / "c" / str(month) / path.relative_to(folder / "c" / "0")
                other.parent.mkdir(parents=True, exist_ok=True)
                os.link(path, other)
        return found | self._windows(array, store, pixels, found["ratio"])

    def _windows(
        self, array: Any, store: Counted, pixels: NDArray[Any], ratio: float
    ) -> dict[str, float]:
        rng = np.random.default_rng(0)
        bands, side = len(pixels), pixels.shape[-1]
        took, series, requests, of_chunks, of_pixels = [], [], [], [], []
        for y, x in rng.integers(0, side - WINDOW, (WINDOWS, 2)):
            store.requests, store.fetched = 0, 0
            started = time.perf_counter()
            got = array[0, :, y : y + WINDOW, x : x + WINDOW]
            took.append(time.perf_counter() - started)
            if not np.array_equal(got, pixels[:, y : y + WINDOW, x : x + WINDOW]):
                raise RuntimeError(f"{self} does not read back")
            shards = _touched(y, self.shard) * _touched(x, self.shard)
            chunks = _touched(y, self.chunk) * _touched(x, self.chunk)
            size = bands * pixels.itemsize / ratio
            requests.append(store.requests / shards)
            of_chunks.append(store.fetched / (chunks * self.chunk**2 * size))
            of_pixels.append(store.fetched / (WINDOW**2 * size))
            started = time.perf_counter()
            array[:, :, y, x]
            series.append(time.perf_counter() - started)
        return {
            "window_ms": 1000 * statistics.median(took),
            "requests": statistics.fmean(requests),
            "of_chunks": statistics.fmean(of_chunks),
            "of_pixels": statistics.fmean(of_pixels),
            "series_ms": 1000 * statistics.median(series),
        }


def _touched(start: int, step: int) -> int:
    return int((start + WINDOW - 1) // step - start // step + 1)


def _cpu(work: Callable[[], None]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def ways(layers: list[str], *, every: bool) -> list[Way]:
    """Chunk against shard in our codec, and the codecs in our chunks and shards; or everything."""
    cuts = [(c, s) for c, s in product(CHUNKS, SHARDS) if c <= s]
    if every:
        return [Way(n, codec, c, s) for n in layers for codec in CODECS for c, s in cuts]
    found = [Way(name, OURS, c, s) for name in layers for c, s in cuts]
    return found + [Way(n, codec, 512, 2048) for n in layers for codec in CODECS if codec != OURS]


def compare(
    layers: dict[str, NDArray[Any]], rounds: int, *, every: bool = False
) -> dict[Way, dict[str, float]]:
    """Medians of each way, which take turns."""
    found: dict[Way, list[dict[str, float]]] = defaultdict(list)
    for _ in range(rounds):
        for way in ways(list(layers), every=every):
            with tempfile.TemporaryDirectory() as folder:
                found[way].append(way.measure(layers[way.layer], Path(folder) / "array"))
    return {
        way: {name: statistics.median(turn[name] for turn in turns) for name in turns[0]}
        for way, turns in found.items()
    }


def layers_of(side: int) -> dict[str, NDArray[Any]]:
    """Reflectance, probability and class of change of a made-up region of real cities."""
    card = models.load_card("change-s1s2-oscd")
    network = models.load(card)
    optical, sure = [], []
    for place in oscd.CITIES["train"]:
        city = oscd.read_city(DATA, place, card.s2_bands)
        before, after = (
            np.nan_to_num(image[:, :CROP, :CROP].astype(np.float32))
            for image in (city.s2_before, city.s2_after)
        )
        if before.shape[1:] != (CROP, CROP):
            continue
        first, second = (
            inference.Block.without_radar(image, len(card.s1_bands)) for image in (before, after)
        )
        probability_YX = inference.predict_change(network, card, first, second)
        optical.append(np.rint(after[[2, 6]] * 10_000).astype(np.int16))
        sure.append(np.rint(probability_YX[None] * 250).astype(np.uint8))
    probability = side_by_side(sure, side)
    return {
        "s2": side_by_side(optical, side),
        "probability": probability,
        "change": (probability > 250 * card.threshold).astype(np.uint8),
    }


def side_by_side(crops: list[NDArray[Any]], side: int) -> NDArray[Any]:
    """Crops in rows and columns until a square is full, each mirrored another way."""
    whole = np.zeros((len(crops[0]), side, side), crops[0].dtype)
    step = crops[0].shape[-1]
    for i, (y, x) in enumerate(product(range(0, side, step), repeat=2)):
        turn, which = divmod(i, len(crops))
        crop = crops[which][:, :: 1 - 2 * (turn % 2), :: 1 - 2 * (turn // 2 % 2)]
        room = whole[:, y : y + step, x : x + step]
        room[...] = crop[:, : room.shape[1], : room.shape[2]]
    return whole


HEAD = (
    "| layer | codec | chunk | shard | ratio | write MB/CPU s | read MB/CPU s | window ms "
    "| requests a shard | fetched / chunks' | fetched / pixels' | series ms |\n" + "|---" * 12 + "|"
)


def table(found: dict[Way, dict[str, float]]) -> str:
    """As Markdown."""
    rows = (
        f"| {way.layer} | {way.codec} | {way.chunk} | {way.shard} | {f['ratio']:.2f} "
        f"| {f['write']:.0f} | {f['read']:.0f} | {f['window_ms']:.1f} | {f['requests']:.1f} "
        f"| {f['of_chunks']:.2f} | {f['of_pixels']:.1f} | {f['series_ms']:.0f} |"
        for way, f in found.items()
    )
    return "\n".join([HEAD, *rows])


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, help="a JSON file for the figures")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", type=int, default=4096, help="pixels along a side of the region")
    parser.add_argument("--every", action="store_true", help="each codec in each cut")
    options = parser.parse_args()
    found = compare(layers_of(options.side), options.rounds, every=options.every)
    print(table(found))
    record = [{**asdict(way), **figures} for way, figures in found.items()]
    options.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
