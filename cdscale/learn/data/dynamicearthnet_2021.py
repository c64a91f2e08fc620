"""DynamicEarthNet as the EarthVision 2021 challenge had it: change labels of consecutive months.

Planet Fusion at 3 m, blue, green, red and near infrared, 24 months of 1024 x 1024 pixels at each
site. The first image of a month stands for it; a sample is two consecutive months, and its label
the class of the newer one where land cover changed, 0 elsewhere. The challenge (CodaLab 30441,
weakly supervised multi-class track) is closed; labels of its validation and test sites were never
given out. The order of the codes is that of the classes in the paper (assumed).
"""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

from cdscale.learn.data import units
from cdscale.learn.data.base import DataSet, Image, Label, Sample, Source
from cdscale.learn.data.check import expect_places, inspect
from cdscale.learn.data.download import Download
from cdscale.learn.data.report import Inspection, Report, made_up_places
from cdscale.months import Month

BANDS = ("blue", "green", "red", "nir")
CLASSES = {
    0: "no change",
    1: "impervious surface",
    2: "agriculture",
    3: "forest and other vegetation",
    4: "wetlands",
    5: "soil",
    6: "water",
    7: "snow and ice",
}
MONTHS = tuple(Month(2018, 1) + k for k in range(24))
UNLABELLED = "unlabelled"

SITES = {
    "train": (
        "19S_2470_5030_13", "20S_2624_4314_13", "21S_2832_4366_13", "33N_4421_3800_13",
        "33N_4426_3835_13", "43N_5863_3800_13", "44N_5989_3554_13", "48N_6466_3380_13",
        "48N_6475_3361_13", "52N_7026_3201_13",
    ),
    "val": (
        "15N_1973_3709_13", "35N_4666_2369_13", "47N_6353_3661_13", "21S_2789_4694_13",
        "50N_6761_3129_13", "30N_4062_3943_13", "49N_6678_3579_13", "43N_5830_3834_13",
        "56S_7517_4908_13", "19S_2569_4513_13",
    ),
    "test": (
        "10N_1330_3107_13", "44N_5912_3937_13", "17N_2235_3403_13", "34N_4553_3325_13",
        "50N_6752_3104_13", "34S_4523_4210_13", "43N_5754_3601_13", "29N_3830_3914_13",
        "10N_1286_2921_13", "39N_5195_3388_13",
    ),
}  # fmt: skip
"""``<zone>_<cube>`` of the labelled training sites and of the two held-out splits; the other
training sites (45) have images alone."""

IMAGES = {"train": "planet", UNLABELLED: "planet", "val": "planet_test", "test": "planet_test"}
LABELS = "Labels"

_ZONE = re.compile(r"\d{2}[NS]")
_CUBE = re.compile(r"\d+_\d+_\d+")
_DAY = re.compile(r"(\d{4})-(\d{2})-\d{2}\.tif")
_CODES = units.Table(tuple((code, code) for code in CLASSES))


def _sites(root: Path, split: str) -> list[str]:
    """Sites of a split of which there is a folder of images, sorted."""
    found = []
    for folder in sorted((root / IMAGES[split]).glob("*/*")):
        zone, cube = folder.parent.name, folder.name
        if folder.is_dir() and _ZONE.fullmatch(zone) and _CUBE.fullmatch(cube):
            found.append(f"{zone}_{cube}")
    if split == UNLABELLED:
        return [site for site in found if site not in SITES["train"]]
    return [site for site in found if site in SITES[split]]


def _folder(root: Path, split: str, site: str) -> Path:
    zone, cube = site.split("_", 1)
    return root / IMAGES[split] / zone / cube / "L3H-SR"


def _first_images(folder: Path) -> dict[Month, Path]:
    """The first image of each month."""
    found: dict[Month, Path] = {}
    for path in sorted(folder.glob("*.tif")):
        match = _DAY.fullmatch(path.name)
        if match and 1 <= int(match[2]) <= 12:
            found.setdefault(Month(int(match[1]), int(match[2])), path)
    return found


def _label_path(root: Path, site: str, older: Month, newer: Month) -> Path:
    return root / LABELS / site / f"{site}-{newer}-{older}.png"


def _sample(root: Path, site: str, images: dict[Month, Path], older: Month) -> Sample:
    newer = older + 1
    label = _label_path(root, site, older, newer)
    there = (Source(label, (1,)),) if label.is_file() else ()

    def image(name: str, month: Month) -> Image:
        source = Source(images[month], (1, 2, 3, 4))
        return Image(name, BANDS, (source,), units.reflectance, ("int16", "uint16"), 4)

    return Sample(
        data="dynamicearthnet-2021",
        key=label.stem,
        place=site,
        when=(str(older), str(newer)),
        grid_file=images[older],
        layers=(
            image("before", older),
            image("after", newer),
            Label("change", there, _CODES, ("uint8",), (1,)),
        ),
    )


def _pairs(root: Path, split: str, site: str) -> list[Sample]:
    images = _first_images(_folder(root, split, site))
    months = sorted(images)
    return [_sample(root, site, images, a) for a, b in pairwise(months) if b - a == 1]


def _samples(root: Path, split: str) -> tuple[Sample, ...]:
    return tuple(pair for site in _sites(root, split) for pair in _pairs(root, split, site))


def _check(root: Path, deep: bool) -> Report:
    inspection = Inspection("dynamicearthnet-2021", root, deep)
    splits = (*SITES, UNLABELLED)
    for name in (*splits, "pairs", "labels"):
        inspection.count(name, 0)
    found = {split: _sites(root, split) for split in splits}
    expect_places(inspection, found, SITES)
    for split, sites in found.items():
        inspection.count(split, len(sites))
        for site in sites:
            _inspect_site(inspection, split, site)
    known = {*IMAGES.values(), LABELS}
    inspection.surplus(root, known)
    inspection.surplus(root / LABELS, {site for sites in found.values() for site in sites})
    return inspection.done()


def _inspect_site(inspection: Inspection, split: str, site: str) -> None:
    root, folder = inspection.root, _folder(inspection.root, split, site)
    images = _first_images(folder)
    for month in _expected_months(root, images):
        if month not in images:
            inspection.error("missing", folder / f"{month}-01.tif", "no image of this month")
    samples = _pairs(root, split, site)
    for sample in samples:
        inspect(inspection, sample)
        inspection.count("pairs")
        inspection.count("labels", 1 if sample.labelled else 0)
        if split == "train" and not sample.labelled:
            path = root / LABELS / site / f"{sample.key}.png"
            inspection.error("missing", path, "the label of a training site is not there")
    read = {sample.key for sample in samples}
    for path in sorted((root / LABELS / site).glob("*.png")):
        if path.stem not in read:
            inspection.error("missing", path, "its two images are not both there")


def _expected_months(root: Path, images: dict[Month, Path]) -> list[Month]:
    """All 24; of a miniature, whatever lies between its first and last."""
    if made_up_places(root) is None:
        return list(MONTHS)
    if not images:
        return []
    first, last = min(images), max(images)
    return [first + k for k in range(last - first + 1)]


DYNAMICEARTHNET_2021 = DataSet(
    name="dynamicearthnet-2021",
    title="DynamicEarthNet, EarthVision 2021 challenge: change labels",
    citation="A. Toker, L. Kondmann, M. Weber et al., DynamicEarthNet: Daily Multi-Spectral "
    "Satellite Dataset for Semantic Change Segmentation, CVPR 2022, arXiv:2203.12560; "
    "EarthVision 2021 challenge, weakly supervised multi-class track",
    licence="terms of the challenge (closed); images by Planet Labs",
    task="semantic change",
    splits=("train", "val", "test", UNLABELLED),
    layers=("before", "after", "change"),
    bands=BANDS,
    classes=CLASSES,
    download=Download(
        page="https://competitions.codalab.org/competitions/30441",
        steps=(
            "The challenge is closed and this release is no longer given out.",
            "Its change labels can be rebuilt from the 2022 release: see dynamicearthnet-2022.",
        ),
    ),
    listed=_samples,
    checked=_check,
)
