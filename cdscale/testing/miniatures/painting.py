"""What miniatures are painted with: smooth ground, changing blobs, and files in four formats.

Change is learnable: where it happens, the ground brightens by much more than noise and than the
difference of season that all pixels share.

Shape suffixes: B band, Y row, X column.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.errors import NotGeoreferencedWarning
from scipy.ndimage import gaussian_filter

from cdscale.learn.data.report import MARKER

Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]
Random = np.random.Generator
Shape = tuple[int, int]

_DRIVERS = {".tif": "GTiff", ".png": "PNG", ".bmp": "BMP"}


def ground(random: Random, bands: int, shape: Shape) -> Floats:
    """Reflectance of undulating land without change, about 0.05 to 0.25, (B, Y, X)."""
    relief = gaussian_filter(random.normal(size=shape), 6)
    relief = (relief - relief.min()) / max(float(np.ptp(relief)), 1e-6)
    tone = np.linspace(0.06, 0.14, bands)[:, None, None]
    grain = random.normal(0, 0.004, (bands, *shape))
    found: Floats = (tone + 0.08 * relief + grain).clip(0.01, 1).astype(np.float32)
    return found


def blobs(random: Random, shape: Shape, number: int) -> Codes:
    """Rectangles of ones, like new buildings."""
    found = np.zeros(shape, np.uint8)
    for _ in range(number):
        height, width = random.integers(8, 17, 2)
        top = random.integers(0, shape[0] - height)
        left = random.integers(0, shape[1] - width)
        found[top : top + height, left : left + width] = 1
    return found


def brightened(x_BYX: Floats, where: Codes, by: float = 0.25, season: float = 1.0) -> Floats:
    """Another date: all pixels times a season, and those of the change brighter."""
    changed: Floats = (x_BYX * season + by * where).astype(np.float32).clip(0, 1)
    return changed


def decibel(random: Random, polarisations: int, where: Codes) -> Floats:
    """Backscatter in dB: -14 with speckle, 9 more where there are buildings; VH lower by 6."""
    lower = 6.0 * np.arange(polarisations)[:, None, None]
    speckle = random.normal(0, 0.7, (polarisations, *where.shape))
    found: Floats = (-14 + 9.0 * where - lower + speckle).clip(-24.5, -0.5).astype(np.float32)
    return found


def between_0_and_1(decibel: Floats, low: float, high: float) -> Floats:
    """Map a range of dB to 0 and 1."""
    mapped: Floats = ((decibel - low) / (high - low)).astype(np.float32)
    return mapped


def digital(reflectance: Floats, dtype: str = "uint16") -> NDArray[Any]:
    """DN = reflectance x 10000."""
    return np.round(reflectance * 10_000).astype(dtype)


def bytes_of(reflectance: Floats) -> Codes:
    """8-bit colours; 0.5 is white."""
    return np.round(reflectance * 510).clip(0, 255).astype(np.uint8)


def picture(path: Path, x_BYX: NDArray[Any], **georeference: Any) -> None:
    """Write (B, Y, X) or (Y, X) in the format of the suffix.

    ``georeference`` holds ``crs`` and ``transform``, and what else a profile may have; ``scale`` is
    written as the scale of all bands.
    """
    planes = x_BYX[None] if x_BYX.ndim == 2 else x_BYX
    count, height, width = planes.shape
    scale = georeference.pop("scale", None)
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        # Labels and pictures have no georeference in the published layouts either.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path,
            "w",
            driver=_DRIVERS[path.suffix],
            count=count,
            height=height,
            width=width,
            dtype=planes.dtype,
            **georeference,
        ) as file:
            file.write(planes)
            if scale is not None:
                file.scales = (scale,) * count


def metre_grid(column: int, pixel: float, crs: str = "EPSG:32631") -> dict[str, Any]:
    """Georeference of a place: the n-th of a row of places 100 km apart."""
    return {"crs": crs, "transform": Affine(pixel, 0, 300_000 + 100_000 * column, 0, -pixel, 5e6)}


def sign(
    root: Path, data: str, seed: int, places: Mapping[str, Sequence[str]], **own: object
) -> Path:
    """Say in the folder that it was made up, which places it has, and what it has of its own."""
    root.mkdir(parents=True, exist_ok=True)
    said = {
        "simulated": True,
        "data": data,
        "note": "Made-up pixels in the published layout; not a part of the data set.",
        "seed": seed,
        "places": {split: list(names) for split, names in places.items()},
    } | own
    (root / MARKER).write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    return root
