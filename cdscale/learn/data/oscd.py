"""Onera Satellite Change Detection: Sentinel-2 Level-1C pairs of 24 cities, with radar.

R. Caye Daudt, B. Le Saux, A. Boulch, Y. Gousseau, IGARSS 2018. 13 bands, labels of 14 train and 10
test cities (where they are there). The registered ``imgs_*_rect`` are read; without them the native
``imgs_*``, of which date 2 is placed by its georeference (so it is as badly registered as it came).
Bands of 20 and 60 m read whether the copy resampled them to 10 m or not.

Sentinel-1 comes in two published forms, both in the folder ``S1`` beside the images:

- one file per city, relative orbit and date, VV, as S. Hafner et al., GRSL 2021, laid it out:
  ``S1/sentinel1_<city>_<orbit>_<t1|t2>.tif``, int16 dB x 100 with a scale, or float32 [0, 1] for
  [-25, 5] dB as first published;
- one file per city and date, VV and VH in dB, as P. Ebel et al., ISPRS 2021:
  ``S1/<city>/imgs_<1|2>/transformed/*.tif``.

Shape suffixes: B band, P polarisation, Y row, X column.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cdscale.learn.data.base import DataSet, Sample
from cdscale.learn.data.download import Archive, Download
from cdscale.learn.data.files import Floats, header
from cdscale.learn.data.oscd_check import check
from cdscale.learn.data.oscd_files import (
    BANDS,
    CITIES,
    IMAGES,
    REFLECTANCE_ONE,
    RGB,
    RGB_NIR,
    TEST_LABELS,
    TO_20_M,
    TRAIN_LABELS,
    city_names,
    city_sample,
    radars,
)

__all__ = [
    "BANDS",
    "CITIES",
    "IMAGES",
    "OSCD",
    "REFLECTANCE_ONE",
    "RGB",
    "RGB_NIR",
    "TEST_LABELS",
    "TO_20_M",
    "TRAIN_LABELS",
    "City",
    "Floats",
    "OrbitPair",
    "city_names",
    "city_sample",
    "read_city",
]


@dataclass(frozen=True)
class OrbitPair:
    """Backscatter of both dates from one relative orbit, linear power, (P, Y, X), NaN: absent.

    Orbit 0 is one that the files do not name.
    """

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


def read_city(root: Path, name: str, bands: tuple[str, ...], s1: tuple[str, ...] = ("vv",)) -> City:
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
    s1 : tuple of str
        Polarisations; orbits that lack one of them are left out.

    Raises
    ------
    ReadError
        When a file of the city is absent or damaged, or when shapes disagree.
    """
    sample = city_sample(root, name)
    own = header(sample.grid_file)
    orbits = []
    for found in radars(root / "S1", name):
        if set(s1) <= set(found.bands):
            pair = [sample.read(f"s1_{when}_{found.orbit}", s1) for when in ("before", "after")]
            orbits.append(OrbitPair(found.orbit, *pair))
    return City(
        name,
        sample.read("before", bands),
        sample.read("after", bands),
        tuple(orbits),
        sample.read("change") if sample.has("change") else None,
        own.crs,
        own.transform,
    )


def _samples(root: Path, split: str) -> tuple[Sample, ...]:
    return tuple(city_sample(root, name) for name in city_names(root, split))


_MIRROR = "https://huggingface.co/datasets/hkristen/oscd/resolve/main/"

OSCD = DataSet(
    name="oscd",
    title="Onera Satellite Change Detection",
    citation="R. Caye Daudt, B. Le Saux, A. Boulch, Y. Gousseau, Urban Change Detection for "
    "Multispectral Earth Observation Using Convolutional Neural Networks, IGARSS 2018, "
    "doi:10.1109/IGARSS.2018.8518015",
    licence="images: modified Copernicus Sentinel data (attribution); labels: CC BY-NC-SA 4.0",
    task="change",
    splits=("train", "test"),
    layers=("before", "after", "s1_before", "s1_after", "change"),
    bands=BANDS,
    classes={0: "no change", 1: "change"},
    download=Download(
        page="https://rcdaudt.github.io/oscd/",
        archives=tuple(
            Archive(f"{name}.zip", _MIRROR + f"{name}.zip".replace(" ", "%20"), md5, holds)
            for name, md5, holds in (
                (IMAGES, "c50d4a2941da64e03a47ac4dec63d915", "images of 24 cities"),
                (TRAIN_LABELS, "4d2965af8170c705ebad3d6ee71b6990", "labels of 14 cities"),
                (TEST_LABELS, "8177d437793c522653c442aa4e66c617", "labels of 10 cities"),
            )
        ),
        steps=(
            "The authors' own copy: https://ieee-dataport.org/open-access/"
            "oscd-onera-satellite-change-detection (needs an account); the archives below are a "
            "mirror with the checksums of the original.",
            "Sentinel-1, VV: folder data/ of https://github.com/SebastianHafner/DS_UNet, into S1/.",
            "Sentinel-1, VV and VH: https://mediatum.ub.tum.de/1619966, into S1/<city>/.",
        ),
    ),
    listed=_samples,
    checked=check,
)
