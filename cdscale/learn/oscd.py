"""Reader of the Onera Satellite Change Detection set in its published layout, with radar.

R. Caye Daudt, B. Le Saux, A. Boulch, Y. Gousseau, IGARSS 2018. Sentinel-2 Level-1C pairs of 24
cities; the labels of 14 of them. Sentinel-1 comes as one file per city, relative orbit and date
(``S1/sentinel1_<city>_<orbit>_<t1|t2>.tif``, dB x 100 in int16), as S. Hafner et al., GRSL 2021,
laid it out.

Shape suffixes: B band, P polarisation, Y row, X column.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
from rasterio.warp import Resampling, reproject
from torch.nn import functional

from cdscale.errors import ReadError, explain

Floats = NDArray[np.float32]

IMAGES = "Onera Satellite Change Detection dataset - Images"
TRAIN_LABELS = "Onera Satellite Change Detection dataset - Train Labels"
TEST_LABELS = "Onera Satellite Change Detection dataset - Test Labels"

REFLECTANCE_ONE = 10_000.0
"""DN of reflectance 1; all scenes are older than baseline 04.00 and carry no offset."""


@dataclass(frozen=True)
class OrbitPair:
    """Backscatter of both dates from one relative orbit, linear power, (P, Y, X), NaN: absent."""

    orbit: int
    before: Floats
    after: Floats


@dataclass(frozen=True)
class City:
    """One pair of dates on the grid of date 1.

    ``s2_before`` and ``s2_after`` are top-of-atmosphere reflectance (B, Y, X); ``label`` is
    (Y, X), 1 = change, 0 = no change, or None for cities whose labels are not there.
    """

    name: str
    s2_before: Floats
    s2_after: Floats
    orbits: tuple[OrbitPair, ...]
    label: NDArray[np.uint8] | None
    crs: str
    transform: Any
    """Affine map of pixel corners of date 1 to coordinates in ``crs``."""


@dataclass(frozen=True)
class _Raster:
    values: Floats
    crs: str
    transform: Any


def city_names(root: Path, split: str) -> tuple[str, ...]:
    """Names in ``train.txt`` or ``test.txt``.

    Raises
    ------
    ReadError
        When the list is not there.
    """
    path = root / IMAGES / f"{split}.txt"
    try:
        return tuple(name for name in re.split(r"[\s,]+", path.read_text("utf-8")) if name)
    except OSError as err:
        raise _unreadable(path, err) from None


def read_city(root: Path, name: str, bands: tuple[str, ...]) -> City:
    """Read one city.

    Parameters
    ----------
    root : Path
        Folder that holds the "Images", the "Labels" and (optionally) the ``S1`` folder.
    name : str
        City.
    bands : tuple of str
        Such as ``("B02", "B8A")``. Bands whose shape is not that of B02 are resized to it
        bilinearly, so that both the native and the published, resampled copies read.

    Raises
    ------
    ReadError
        When a file of the city is absent or damaged, or when shapes disagree.
    """
    folder = root / IMAGES / name
    grid = _read(folder / "imgs_1_rect" / "B02.tif")
    before = _stack(folder / "imgs_1_rect", bands, grid.values.shape)
    after = _stack(folder / "imgs_2_rect", bands, grid.values.shape)
    label = _label(root, name)
    if label is not None and label.shape != grid.values.shape:
        raise ReadError(
            explain(f"OSCD {name}: label", expected=grid.values.shape, got=label.shape),
            permanent=True,
        )
    orbits = _orbits(root / "S1", name, grid)
    return City(name, before, after, orbits, label, grid.crs, grid.transform)


def without_s1(city: City) -> City:
    """The same city with radar withheld."""
    return City(
        city.name,
        city.s2_before,
        city.s2_after,
        (),
        city.label,
        city.crs,
        city.transform,
    )


def radar(city: City) -> OrbitPair:
    """Backscatter of the first orbit by number; NaN everywhere when the city has none."""
    if city.orbits:
        return city.orbits[0]
    nothing = np.full((1, *city.s2_before.shape[1:]), np.nan, np.float32)
    return OrbitPair(0, nothing, nothing)


def _stack(folder: Path, bands: tuple[str, ...], shape: tuple[int, ...]) -> Floats:
    """Reflectance (B, Y, X) of one date."""
    planes = [_resize(_read(folder / f"{band}.tif").values, shape) for band in bands]
    return np.stack(planes) / np.float32(REFLECTANCE_ONE)


def _resize(plane: Floats, shape: tuple[int, ...]) -> Floats:
    """Bilinear, by shape alone: both grids cover the same ground."""
    if plane.shape == shape:
        return plane
    source = torch.from_numpy(plane)[None, None]
    resized = functional.interpolate(source, size=shape[:2], mode="bilinear", align_corners=False)
    result: Floats = resized[0, 0].numpy()
    return result


def _label(root: Path, name: str) -> NDArray[np.uint8] | None:
    """1 = change, 0 = no change; the file says 2 and 1. None when there is no label."""
    for folder in (TRAIN_LABELS, TEST_LABELS):
        path = root / folder / name / "cm" / f"{name}-cm.tif"
        if path.exists():
            return (_read(path).values > 1).astype(np.uint8)
    return None


def _orbits(folder: Path, name: str, grid: _Raster) -> tuple[OrbitPair, ...]:
    """Radar of a city, every orbit that has both dates, by orbit number."""
    found = []
    for path in folder.glob(f"sentinel1_{name}_*_t1.tif"):
        match = re.fullmatch(rf"sentinel1_{re.escape(name)}_(\d+)_t1", path.stem)
        later = path.with_name(path.name.replace("_t1.tif", "_t2.tif"))
        if match and later.exists():
            found.append(
                OrbitPair(int(match[1]), _onto(_power(path), grid), _onto(_power(later), grid))
            )
    return tuple(sorted(found, key=lambda pair: pair.orbit))


def _power(path: Path) -> _Raster:
    """Backscatter in linear power, NaN where absent."""
    decibel = _read(path)
    power = np.power(np.float32(10), decibel.values / np.float32(10))
    return _Raster(power, decibel.crs, decibel.transform)


def _onto(source: _Raster, grid: _Raster) -> Floats:
    """Bilinear resampling in linear power onto the optical grid, (1, Y, X)."""
    target = np.full((1, *grid.values.shape), np.nan, np.float32)
    reproject(
        source.values[None],
        target,
        src_transform=source.transform,
        src_crs=source.crs,
        dst_transform=grid.transform,
        dst_crs=grid.crs,
        src_nodata=np.nan,
        dst_nodata=np.nan,
        resampling=Resampling.bilinear,
    )
    return target


def _read(path: Path) -> _Raster:
    """First band as float32, scaled as the file says, NaN where the file says no data."""
    try:
        with warnings.catch_warnings():
            # Labels have no georeference: their pixels are those of B02.
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as file:
                raw = file.read(1)
                values = raw.astype(np.float32) * np.float32(file.scales[0])
                values += np.float32(file.offsets[0])
                if file.nodata is not None:
                    values[raw == file.nodata] = np.nan
                return _Raster(values, str(file.crs), file.transform)
    except (RasterioIOError, OSError) as err:
        raise _unreadable(path, err) from None


def _unreadable(path: Path, err: Exception) -> ReadError:
    return ReadError(
        explain(f"OSCD: cannot read {path}", got=str(err), do="Check the root of the set."),
        permanent=True,
    )
