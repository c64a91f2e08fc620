"""Bytes on disk: cloud-optimised GeoTIFFs and JSON, the same ones every time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio

from cdscale.simulate.region import Raster


def write_cog(path: Path, pixels: npt.NDArray[Any], raster: Raster, nodata: float | None) -> None:
    """One band as a cloud-optimised GeoTIFF in blocks of 256 pixels.

    The fastest level of DEFLATE is asked for: noise hardly shrinks any further.
    """
    options = {
        "driver": "COG",
        "height": raster.height,
        "width": raster.width,
        "count": 1,
        "dtype": pixels.dtype,
        "crs": raster.crs,
        "transform": raster.affine,
        "nodata": nodata,
        "compress": "DEFLATE",
        "level": 1,
        "predictor": "YES",
        "blocksize": 256,
        "overviews": "NONE",
        "num_threads": 1,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", **options) as file:
        file.write(np.ascontiguousarray(pixels), 1)


def write_json(path: Path, data: dict[str, Any]) -> None:
    """JSON in the order of the keys as given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, separators=(",", ":")) + "\n", encoding="utf-8")
