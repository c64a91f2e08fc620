"""HRSCD: 291 pairs of aerial photographs with land cover of both dates and the change between.

R. Caye Daudt, B. Le Saux, A. Boulch, Y. Gousseau, Multitask learning for large-scale semantic
change detection, CVIU 2019. RGB at 0.5 m (IGN BD ORTHO), 10,000 x 10,000 pixels a scene: read it in
windows. Departments 14 (Caen; 2005 and 2012) and 35 (Rennes; 2006 and 2012).

Files are paired by their key (department, x, y), for the rest of their names differs from year to
year. Land-cover code 0 is "no information" and reads as ignored. The change map is a label of its
own: it is not everywhere where the land cover differs, so neither is derived from the other.

The list of the published split (146 train, 145 test pairs) was never published. Here the keys of
all five folders are sorted and alternate, the first to train; tiles are to be cut after that.
"""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path

from cdscale.learn.data import units
from cdscale.learn.data.base import DataSet, Image, Label, Sample, Source
from cdscale.learn.data.check import expect_places, expect_shape, inspect
from cdscale.learn.data.download import Download
from cdscale.learn.data.report import Inspection, Report, made_up_places

FOLDERS = {
    "before": "images_2006/2006",
    "after": "images_2012/2012",
    "land_before": "labels_land_cover_2006/2006",
    "land_after": "labels_land_cover_2012/2012",
    "change": "labels_change/change",
}
DEPARTMENTS = ("14", "35")
PAIRS = 291
SIDE = 10_000
BANDS = ("red", "green", "blue")
LAND = {
    1: "artificial surfaces",
    2: "agricultural areas",
    3: "forests",
    4: "wetlands",
    5: "water",
}

_NAME = re.compile(r"(\d{2})-(\d{4})-(\d{4})-(\d{4})-LA93[A-Za-z0-9-]*\.tif")
_LAND = units.Table(((0, units.IGNORED), *((code, code) for code in LAND)))
_CHANGE = units.Table(((0, 0), (1, 1)))

Files = dict[str, list[Path]]
"""Paths by key, of one folder."""


def key_of(name: str) -> str:
    """Key of a file's name, such as ``14-0415-6890``: department, x, y; empty for others."""
    match = _NAME.fullmatch(name)
    return f"{match[1]}-{match[3]}-{match[4]}" if match else ""


def split_of(keys: list[str]) -> dict[str, tuple[str, ...]]:
    """The split of this package: sorted keys, alternating, the first to train."""
    ordered = sorted(keys)
    return {"train": tuple(ordered[::2]), "test": tuple(ordered[1::2])}


def _files(root: Path, layer: str) -> Files:
    found: Files = {}
    for department in DEPARTMENTS:
        for path in sorted((root / FOLDERS[layer] / f"D{department}").glob("*.tif")):
            key = key_of(path.name)
            if key.startswith(f"{department}-"):
                found.setdefault(key, []).append(path)
    return found


def _all(root: Path) -> tuple[dict[str, Files], list[str]]:
    files = {layer: _files(root, layer) for layer in FOLDERS}
    return files, sorted(set(chain.from_iterable(files.values())))


def _sample(files: dict[str, Files], key: str) -> Sample:
    def sources(layer: str, indexes: tuple[int, ...]) -> tuple[Source, ...]:
        return tuple(Source(path, indexes) for path in files[layer].get(key, ())[:1])

    def image(layer: str) -> Image:
        rgb = sources(layer, (1, 2, 3))
        return Image(layer, BANDS, rgb, units.brightness, ("uint8",), 3)

    def label(layer: str, table: units.Table) -> Label:
        return Label(layer, sources(layer, (1,)), table, ("uint8",), (1,))

    return Sample(
        data="hrscd",
        key=key,
        place=key,
        when=tuple(
            path.name.split("-")[1] for name in ("before", "after") for path in files[name][key][:1]
        ),
        grid_file=files["before"][key][0],
        layers=(
            image("before"),
            image("after"),
            label("land_before", _LAND),
            label("land_after", _LAND),
            label("change", _CHANGE),
        ),
    )


def _samples(root: Path, split: str) -> tuple[Sample, ...]:
    """Pairs of which both images are there."""
    files, keys = _all(root)
    images = set(files["before"]) & set(files["after"])
    return tuple(_sample(files, key) for key in split_of(keys)[split] if key in images)


def _check(root: Path, deep: bool) -> Report:
    inspection = Inspection("hrscd", root, deep)
    files, keys = _all(root)
    images = set(files["before"]) & set(files["after"])
    inspection.count("pairs", len(images))
    for layer in ("land_before", "land_after", "change"):
        inspection.count(layer, len(files[layer]))
    split = split_of(keys)
    expect_places(inspection, {name: list(own) for name, own in split.items()}, {})
    if made_up_places(root) is None and len(keys) != PAIRS:
        inspection.error("count", root, f"expected {PAIRS} pairs; got {len(keys)}")
        inspection.note("count", root, "the split alternates over what is there: not comparable")
    for key in keys:
        for layer, own in files.items():
            folder = root / FOLDERS[layer] / f"D{key[:2]}"
            if key not in own:
                inspection.error("missing", folder / key, f"no file of this key; others have {key}")
            for path in own.get(key, ())[1:]:
                inspection.error("name", path, f"a second file of key {key}")
        if key in images:
            sample = _sample(files, key)
            inspect(inspection, sample)
            expect_shape(inspection, sample, (SIDE, SIDE))
    _strays(inspection, files)
    return inspection.done()


def _strays(inspection: Inspection, files: dict[str, Files]) -> None:
    """Files that no key claims: a .tif of another name is probably a lost one."""
    for layer, own in files.items():
        known = {path for paths in own.values() for path in paths}
        for department in DEPARTMENTS:
            folder = inspection.root / FOLDERS[layer] / f"D{department}"
            if not folder.is_dir():
                inspection.error("missing", folder, "the folder is not there")
                continue
            for path in sorted(set(folder.glob("*.tif")) - known):
                expected = f"{department}-YYYY-XXXX-YYYY-LA93...tif"
                inspection.error("name", path, f"has no key; expected {expected}")
            inspection.surplus(folder, {path.name for path in folder.glob("*.tif")})


HRSCD = DataSet(
    name="hrscd",
    title="High Resolution Semantic Change Detection",
    citation="R. Caye Daudt, B. Le Saux, A. Boulch, Y. Gousseau, Multitask learning for "
    "large-scale semantic change detection, Computer Vision and Image Understanding 187, 2019, "
    "doi:10.1016/j.cviu.2019.07.003",
    licence="labels: CC BY-NC-SA 4.0; images: IGN BD ORTHO, under its open licence",
    task="semantic change",
    splits=("train", "test"),
    layers=("before", "after", "land_before", "land_after", "change"),
    bands=BANDS,
    classes=LAND,
    download=Download(
        page="https://rcdaudt.github.io/hrscd/",
        steps=(
            "Five archives (images_2006.zip, images_2012.zip, labels_land_cover_2006.zip, "
            "labels_land_cover_2012.zip, labels_change.zip; about 8.6 GB) are on "
            "https://ieee-dataport.org/open-access/"
            "hrscd-high-resolution-semantic-change-detection-dataset (needs an account). "
            "No checksums are published.",
            "Unpack each into a folder of its own name.",
        ),
    ),
    listed=_samples,
    checked=_check,
)
