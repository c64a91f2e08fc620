"""``python -m benchmarks.continent``: plan Europe for a year: millions of tasks.

A dry run: the scenes are made up, in the numbers and footprints of the two missions (Sentinel-2:
granules of 110 km seen every five days, ten bands and a mask; Sentinel-1: slices of 250 by 180 km,
five times a month), and no pixel is read. Prints seconds and the memory that the process had at
most, scenes included.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely.geometry import mapping

from cdscale.grid import LON_LAT, Bounds, reproject
from cdscale.plan import price
from cdscale.spec.job import Job
from cdscale.spec.run import S2_BANDS, RunSpec
from cdscale.spec.scene import Asset, Scene, SceneTable

BOX = Bounds(2_700_000, 1_500_000, 5_900_000, 4_650_000)
"""10 million square kilometres around Europe, metres of EPSG:3035."""
PLACE = "https://example.com/archive/31/U/ES/2022/4/S2A_31UES_20220401_0_L2A"


def spec_of(folder: Path, tile: int, period: str, box: Bounds = BOX) -> RunSpec:
    """A run that only composes."""
    area = reproject(shapely.box(*box), "EPSG:3035", LON_LAT, resolution=50_000)
    return RunSpec.check(
        {
            "name": "continent",
            "catalogue": "https://example.com",
            "collections": {
                "sentinel-2-l2a": "planetary-computer-sentinel-2-l2a",
                "sentinel-1-rtc": "planetary-computer-sentinel-1-rtc",
            },
            "area": dict(mapping(area)),
            "period": period,
            "grid": {"preset": "europe", "tile": tile, "chunk": tile // 2},
            "output": str(folder / "out"),
        },
        where="continent",
    )


def scenes_of(period: Any, box: Bounds = BOX) -> tuple[Scene, ...]:
    """Both missions' scenes of every month."""
    found: list[Scene] = []
    for month in period:
        start = datetime.fromisoformat(f"{month}-01T10:00:00").replace(tzinfo=UTC)
        for visit in range(6):
            found += _swath("s2", start + timedelta(days=5 * visit), (100_000, 100_000), box)
        for visit in range(5):
            found += _swath("s1", start + timedelta(days=6 * visit), (250_000, 180_000), box)
    return tuple(found)


def _swath(sensor: str, when: datetime, size: tuple[int, int], box: Bounds) -> list[Scene]:
    """Scenes of one sensor that cover the box once; granules of Sentinel-2 overlap."""
    over = 5_000 if sensor == "s2" else 0
    x, y = (
        np.arange(low, high, step) for low, high, step in zip(box[:2], box[2:], size, strict=True)
    )
    west, south = (part.ravel() for part in np.meshgrid(x, y))
    cells = shapely.box(west - over, south - over, west + size[0] + over, south + size[1] + over)
    outlines = reproject(cells, "EPSG:3035", LON_LAT, resolution=25_000)
    bands = (*S2_BANDS, "SCL") if sensor == "s2" else ("vv", "vh")
    return [
        Scene.model_validate(
            {
                "id": f"{sensor}-{when:%Y%m%d}-{number}",
                "collection": f"sentinel-{sensor[1]}",
                "sensor": sensor,
                "unit": "reflectance" if sensor == "s2" else "power",
                "start": when,
                "end": when,
                "platform": f"{sensor}a",
                "orbit": f"{int(left) // 250_000} ascending",
                "footprint": outline.wkt,
                "assets": {band: _asset(f"{number}/{band}", sensor) for band in bands},
            }
        )
        for number, (left, outline) in enumerate(zip(west, outlines, strict=True))
    ]


def _asset(name: str, sensor: str) -> dict[str, Any]:
    return Asset(
        href=f"{PLACE}/{sensor}/{name}.tif",
        crs="EPSG:32631",
        transform=(10.0, 0.0, 499_980.0, 0.0, -10.0, 5_600_040.0),
        shape=(10_980, 10_980),
        scale=1e-4,
        offset=-0.1,
        nodata=0.0,
    ).model_dump()


def peak_mb() -> float:
    """Memory that this process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main() -> None:
    """Make the scenes, then plan."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tile", type=int, default=640, help="pixels along a side")
    parser.add_argument("--period", default="2022-01..2022-12")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        spec = spec_of(Path(folder), options.tile, options.period)
        scenes = scenes_of(spec.period)
        before = peak_mb()
        started = time.perf_counter()
        job = Job(spec=spec, scenes=SceneTable(search="made up", scenes=scenes))
        plan = price(job, workers=2, memory=4 * 2**30)
        seconds = time.perf_counter() - started
    figures = {
        "tasks": sum(stage.tasks for stage in plan.stages.values()),
        "tiles": plan.tiles,
        "area_km2": plan.area_km2,
        "scenes": len(scenes),
        "plan_seconds": round(seconds, 1),
        "scenes_mb": round(before),
        "peak_mb": round(peak_mb()),
        "terabytes_read": round(plan.bytes_read / 1e12, 1),
        "terabytes_written": round(plan.bytes_written / 1e12, 1),
        "core_hours": round(plan.seconds * plan.workers / 3600),
    }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
