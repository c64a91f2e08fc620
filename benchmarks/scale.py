"""``python -m benchmarks.scale``: what Europe costs a month, and what breaks at ten times that.

The arithmetic of ``docs/scale.md``, whose tables this prints. Each rate stands in :class:`Rates`
with where it comes from; prices are options of the command line.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields, replace

from cdscale.spec.product import cube_variables, urban_variables
from cdscale.spec.run import S1_BANDS, S2_BANDS


@dataclass(frozen=True)
class Rates:
    """Unit rates, and where they come from."""

    area_km2: float = 10_271_850
    """10 million square kilometres around Europe, whole tiles: ``benchmarks.continent``."""
    tile_px: int = 2048
    tiles: int = 24_490
    """``python -m benchmarks.continent --tile 2048 --period 2022-07``."""
    scenes: int = 7_314
    """Of a month, both missions: the same command."""
    asset_reads: float = 3.08e6
    """Assets on tiles, at most: what that command says is read, 25.8 TB, over 8.4 MB each."""
    requests_per_asset: float = 6
    """The header, and each row of blocks of 512 pixels that a tile of 2048 touches, five of them:
    GDAL asks for neighbouring blocks in one request."""
    cog_ratio: float = 0.6
    """Bytes that come over the network for one that is read: how Sentinel-2 packs."""
    compose_core_s_per_mpx: float = 8.7
    """Processor time of ``benchmarks.ingestion`` for 1.05 million pixels of a month,
    ``least_cloudy``, files on disk: 9.11 s."""
    packed: float = 0.7
    states_bytes: float = 0.98
    """Of a pixel and month, packed: every variable of the states on simulated region 401, 24 months
    (``python -m benchmarks.states``), 22 bytes before."""
    """Bytes on disk for one of the layout: ``cdscale.plan.COMPRESSED``."""
    urban_flops: float = 31_296
    """For each pixel: torch's counter on ``urban-s1s2-sim``."""
    change_flops: float = 344_064
    """For each pixel: torch's counter on ``change-s1s2-oscd``, seven members."""
    urban_halo: float = (736 / 512) ** 2
    """Pixels computed for one that is kept: windows of 512 and halos of 112."""
    change_halo: float = (896 / 512) ** 2
    """The same with halos of 192."""
    urban_core_s_per_mpx: float = 1.2
    """Of the network, halo included: ``cdscale.plan.pricing.SECONDS_PER_MPX``."""
    change_core_s_per_mpx: float = 7 * 6.0
    """The same, seven members."""
    gpu_tflops: float = 20
    """What a data-centre GPU does of such narrow networks each second, in bf16: **assumed**, a
    fiftieth of its peak; ``make bench-gpu`` measures it."""
    driver_ms_per_task: float = 2.7
    """``benchmarks.tasks``, 20,000 tasks and two workers."""
    driver_kb_per_scene: float = 19
    """``benchmarks.continent``: 87,768 scenes took 1.7 GB."""
    driver_kb_per_task: float = 1.5
    """Estimated: 45 MB from 1,111 to 20,301 made-up receipts, less a cache of outlines, 17 MB."""


@dataclass(frozen=True)
class Prices:
    """In dollars; list prices of large clouds, to be replaced by one's own."""

    core_hour: float = 0.04
    gpu_hour: float = 3.0
    terabyte_month: float = 23.0
    """Of an object store."""
    million_requests: float = 0.4


@dataclass(frozen=True)
class Month:
    """What one month of an area takes, every product once."""

    rates: Rates
    prices: Prices

    @property
    def mpx(self) -> float:
        """Million pixels."""
        return self.rates.tiles * self.rates.tile_px**2 / 1e6

    @property
    def requests(self) -> float:
        """Of scenes, at most."""
        return self.rates.asset_reads * self.rates.requests_per_asset

    @property
    def terabytes_read(self) -> float:
        """Pixels of scenes, at most, before they are unpacked."""
        return self.rates.asset_reads * self.rates.tile_px**2 * 2 * self.rates.cog_ratio / 1e12

    @property
    def compose_core_hours(self) -> float:
        """Scenes to cube."""
        return self.mpx * self.rates.compose_core_s_per_mpx / 3600

    @property
    def network_pixels(self) -> dict[str, float]:
        """Million pixels that go through each network, halos included."""
        halos = {"urban": self.rates.urban_halo, "change": self.rates.change_halo}
        return {name: self.mpx * halo for name, halo in halos.items()}

    @property
    def map_core_hours(self) -> dict[str, float]:
        """Both maps on processors alone."""
        urban, change = self.rates.urban_core_s_per_mpx, self.rates.change_core_s_per_mpx
        px = self.network_pixels
        return {"urban": px["urban"] * urban / 3600, "change": px["change"] * change / 3600}

    @property
    def map_gpu_hours(self) -> dict[str, float]:
        """Both maps on a GPU, if nothing holds it up."""
        flops = {"urban": self.rates.urban_flops, "change": self.rates.change_flops}
        each = self.rates.gpu_tflops * 1e12 * 3600
        return {name: px * 1e6 * flops[name] / each for name, px in self.network_pixels.items()}

    @property
    def terabytes_kept(self) -> dict[str, float]:
        """On disk."""
        layouts = {
            "cube": cube_variables(S2_BANDS, S1_BANDS),
            "urban": urban_variables(),
        }
        size = {name: sum(v.itemsize for v in found) for name, found in layouts.items()}
        # Probability, class, quality and month: a card is not needed to count them.
        size["change"] = 7
        packed = {name: bytes_ * self.rates.packed for name, bytes_ in size.items()}
        packed["change"] += self.rates.states_bytes
        return {name: self.mpx * 1e6 * bytes_ / 1e12 for name, bytes_ in packed.items()}

    @property
    def tasks(self) -> int:
        """Compose, map, change."""
        return 3 * self.rates.tiles

    def cost(self, *, gpu: bool) -> dict[str, float]:
        """Dollars of each part; what is kept, for a month."""
        prices, maps = self.prices, self.map_gpu_hours if gpu else self.map_core_hours
        return {
            "composites": self.compose_core_hours * prices.core_hour,
            "maps": sum(maps.values()) * (prices.gpu_hour if gpu else prices.core_hour),
            "requests": self.requests / 1e6 * prices.million_requests,
            "storage": sum(self.terabytes_kept.values()) * prices.terabyte_month,
        }


def amounts(month: Month) -> str:
    """What a month takes, as Markdown."""
    rates, kept = month.rates, month.terabytes_kept
    cores, gpus = month.map_core_hours, month.map_gpu_hours
    rows = {
        "tiles": f"{rates.tiles:,}",
        "pixels": f"{month.mpx / 1e3:,.0f} billion",
        "scenes": f"{rates.scenes:,}",
        "tasks (compose, map, change)": f"{month.tasks:,}",
        "requests for scenes, at most": f"{month.requests / 1e6:,.1f} million",
        "read from the catalogue's store, at most": f"{month.terabytes_read:,.1f} TB",
        "composites": f"{month.compose_core_hours:,.0f} core-hours",
        "urban map": f"{cores['urban']:,.0f} core-hours, or {gpus['urban']:.2f} GPU-hours",
        "change map": f"{cores['change']:,.0f} core-hours, or {gpus['change']:.2f} GPU-hours",
        "kept": ", ".join(f"{name} {size:.2f} TB" for name, size in kept.items()),
        "driver": f"{month.tasks * rates.driver_ms_per_task / 60_000:,.1f} minutes of one core",
    }
    lines = (f"| {name} | {value} |" for name, value in rows.items())
    return "\n".join(["| a month of Europe | |", "|---|---|", *lines])


def costs(month: Month) -> str:
    """What it costs, as Markdown."""
    ways = {"processors alone": month.cost(gpu=False), "maps on GPUs": month.cost(gpu=True)}
    parts = ["composites", "maps", "requests", "storage"]
    head = "| dollars a month | " + " | ".join(parts) + " | all |"
    lines = (
        f"| {way} | "
        + " | ".join(f"{cost[p]:,.0f}" for p in parts)
        + f" | {sum(cost.values()):,.0f} |"
        for way, cost in ways.items()
    )
    return "\n".join([head, "|" + "---|" * (len(parts) + 2), *lines])


def limits(month: Month, months: int = 12) -> str:
    """What the one driver of a year's run holds, for Europe and for ten times that."""

    def column(times: int) -> list[str]:
        rates = month.rates
        tasks, scenes = month.tasks * months * times, rates.scenes * months * times
        return [
            f"{tasks:,}",
            f"{scenes * rates.driver_kb_per_scene / 1e6:.1f} GB",
            f"{tasks * rates.driver_kb_per_task / 1e6:.1f} GB",
            f"{tasks * rates.driver_ms_per_task / 3.6e6:.1f} h",
            f"{rates.scenes * times * rates.driver_kb_per_scene * 2 / 1e3:,.0f} MB",
            f"{tasks:,}",
        ]

    names = (
        "tasks of a year",
        "driver: scenes of a year",
        "driver: what it remembers of tasks",
        "driver: processor time",
        "each worker: scenes of two months",
        "receipts: files",
    )
    lines = (f"| {n} | {a} | {b} |" for n, a, b in zip(names, column(1), column(10), strict=True))
    return "\n".join(["| | Europe | ten times |", "|---|---|---|", *lines])


def tables(month: Month) -> tuple[str, str, str]:
    """All three."""
    return amounts(month), costs(month), limits(month)


def main() -> None:
    """Print the tables, with prices and rates of one's own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = (Rates(), Prices())
    for field in (field for part in known for field in fields(part)):
        option = "--" + field.name.replace("_", "-")
        parser.add_argument(option, type=float, default=field.default)
    options = vars(parser.parse_args())
    rates = replace(Rates(), **{f.name: options[f.name] for f in fields(Rates)})
    prices = replace(Prices(), **{f.name: options[f.name] for f in fields(Prices)})
    print("\n\n".join(tables(Month(rates, prices))))


if __name__ == "__main__":
    main()
