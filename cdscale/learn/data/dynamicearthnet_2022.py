"""DynamicEarthNet as released with the paper: monthly land cover, 55 / 10 / 10 sites.

A. Toker et al., CVPR 2022; mediaTUM 1650201, labels of the held-out sites 1738088. Land cover is
one-hot in seven bands, of which the seventh (snow and ice) is ignored, so that six classes count.

A sample is two consecutive months: images, land cover of both, and the change label of the 2021
challenge rebuilt from the two (class + 1 of the newer month where it differs, else 0). For mapping
land cover alone, :func:`months` gives single months.

The lists of the split (``dynnet_training_splits/{train,val,test}.txt``, lines "image label
YYYY-MM") hold paths of the authors' machine. Only the cube and the month are taken from them; files
are found where the archives unpack them: ``planet[.<zone>/planet]/<zone>/<place>/<cube>/PF-SR`` and
``labels/<cube>_<zone>/[Labels/]Raster/<name>/<name>-YYYY_MM_01.tif`` (or with dashes).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cdscale.errors import ReadError
from cdscale.learn.data import units
from cdscale.learn.data.base import DataSet, Image, Label, Sample, Source
from cdscale.learn.data.check import expect_places, inspect
from cdscale.learn.data.download import Download
from cdscale.learn.data.files import read_text, unreadable
from cdscale.learn.data.report import Inspection, Report
from cdscale.months import Month

BANDS = ("blue", "green", "red", "nir")
LAND = {
    0: "impervious surface",
    1: "agriculture",
    2: "forest and other vegetation",
    3: "wetlands",
    4: "soil",
    5: "water",
}
CLASSES = {0: "no change", **{code + 1: name for code, name in LAND.items()}}
SPLITS = ("train", "val", "test")
LISTS = ("dynnet_training_splits", "split_info", ".")
"""Folders in which the lists of the split are looked for."""
IMAGES = ("planet", "planet.*/planet")
LABELS = ("labels", "labels/labels", "dynamicearthnet_test_labels")
FAULTS = (
    "5111_4560_13", "6204_3495_13", "7026_3201_13", "7367_5050_13", "2459_4406_13", "2235_3403_13",
)  # fmt: skip
"""Cubes of which users report missing or misplaced labels or images in the release itself."""

_CUBE = re.compile(r"\d+_\d+_\d+")
_LABEL = re.compile(r".*[-_](\d{4})[-_](\d{2})[-_]01\.tif")


@dataclass(frozen=True)
class _Found:
    """Where things are: image folder by cube, label by cube and month."""

    images: dict[str, Path]
    labels: dict[tuple[str, Month], Path]

    def image(self, cube: str, month: Month) -> Path | None:
        folder = self.images.get(cube)
        path = folder / f"{month}-01.tif" if folder else None
        return path if path and path.is_file() else None


def months(root: Path, split: str) -> tuple[Sample, ...]:
    """Single months of a split: layers ``image`` and ``land``.

    Raises
    ------
    ReadError
        When the list of the split is absent, or not to be trusted.
    """
    found = _find(root)
    return tuple(
        _month_sample(found, cube, month)
        for cube, month in _listed(root, split)
        if found.image(cube, month)
    )


def _find(root: Path) -> _Found:
    images: dict[str, Path] = {}
    for base in IMAGES:
        for depth in ("*/*/*/PF-SR", "*/*/PF-SR"):
            for folder in sorted(root.glob(f"{base}/{depth}")):
                if _CUBE.fullmatch(folder.parent.name):
                    images.setdefault(folder.parent.name, folder)
    labels: dict[tuple[str, Month], Path] = {}
    for base in LABELS:
        for inner in ("Labels/Raster", "Raster"):
            for path in sorted((root / base).glob(f"*/{inner}/*/*.tif")):
                cube = _CUBE.match(path.relative_to(root / base).parts[0])
                match = _LABEL.fullmatch(path.name)
                if cube and match and 1 <= int(match[2]) <= 12:
                    labels.setdefault((cube[0], Month(int(match[1]), int(match[2]))), path)
    return _Found(images, labels)


def _list_path(root: Path, split: str) -> Path:
    paths = [root / folder / f"{split}.txt" for folder in LISTS]
    return next((path for path in paths if path.is_file()), paths[0])


def _listed(root: Path, split: str) -> list[tuple[str, Month]]:
    """Cube and month of each line, in order."""
    path = _list_path(root, split)
    lines = read_text(path).splitlines()
    return [_entry(path, line) for line in lines if line.strip()]


def _entry(path: Path, line: str) -> tuple[str, Month]:
    fields = line.split()
    image = PurePosixPath(fields[0]) if len(fields) == 3 else PurePosixPath()
    cubes = [part for part in image.parts if _CUBE.fullmatch(part)]
    stamp = re.fullmatch(r"(\d{4})-(\d{2})", fields[-1])
    if ".." in line or not cubes or not stamp or not 1 <= int(stamp[2]) <= 12:
        raise unreadable(
            path, f"refused the line {line[:120]!r}; expected '.../<cube>/PF-SR <label> YYYY-MM'"
        )
    return cubes[-1], Month(int(stamp[1]), int(stamp[2]))


def _image(name: str, path: Path | None) -> Image:
    sources = (Source(path, (1, 2, 3, 4)),) if path else ()
    return Image(name, BANDS, sources, units.reflectance, ("int16", "uint16"), 4)


def _land(name: str, *paths: Path | None) -> Label:
    """Land cover of one label file, or the change between two, older first."""
    there = [path for path in paths if path]
    sources = tuple(Source(path, tuple(range(1, 8))) for path in there)
    decode = units.one_hot if len(paths) == 1 else units.rebuilt_change
    whole = sources if len(there) == len(paths) else ()
    return Label(name, whole, decode, ("uint8",), (7,))


def _month_sample(found: _Found, cube: str, month: Month) -> Sample:
    image = found.image(cube, month)
    label = found.labels.get((cube, month))
    return Sample(
        data="dynamicearthnet-2022",
        key=f"{cube}-{month}",
        place=cube,
        when=(str(month),),
        grid_file=image or label or Path(),
        layers=(_image("image", image), _land("land", label)),
    )


def _pair_sample(found: _Found, cube: str, older: Month) -> Sample | None:
    newer = older + 1
    before, after = found.image(cube, older), found.image(cube, newer)
    if before is None or after is None:
        return None
    labels = [found.labels.get((cube, month)) for month in (older, newer)]
    return Sample(
        data="dynamicearthnet-2022",
        key=f"{cube}-{newer}-{older}",
        place=cube,
        when=(str(older), str(newer)),
        grid_file=before,
        layers=(
            _image("before", before),
            _image("after", after),
            _land("land_before", labels[0]),
            _land("land_after", labels[1]),
            _land("change", *labels),
        ),
    )


def _samples(root: Path, split: str) -> tuple[Sample, ...]:
    """Pairs of consecutive months that are both listed and have images."""
    found, listed = _find(root), _listed(root, split)
    known = set(listed)
    pairs = [_pair_sample(found, cube, m) for cube, m in listed if (cube, m + 1) in known]
    return tuple(pair for pair in pairs if pair is not None)


def _check(root: Path, deep: bool) -> Report:
    inspection = Inspection("dynamicearthnet-2022", root, deep)
    found = _find(root)
    listed = {split: _sound_list(inspection, split) for split in SPLITS}
    cubes = {split: list(dict.fromkeys(cube for cube, _ in own)) for split, own in listed.items()}
    expect_places(inspection, cubes, {})
    for split in SPLITS:
        inspection.count(split, len(cubes[split]))
    for name in ("months", "labels"):
        inspection.count(name, 0)
    for split, entries in listed.items():
        for cube, month in entries:
            _inspect_month(inspection, found, cube, month, split)
    known = {cube for own in cubes.values() for cube in own}
    for cube in sorted(set(found.images) - known):
        inspection.note("surplus", found.images[cube], "in no list of the split: it is not read")
    return inspection.done()


def _sound_list(inspection: Inspection, split: str) -> list[tuple[str, Month]]:
    """Entries of a list; what is wrong with it becomes findings."""
    path = _list_path(inspection.root, split)
    if not path.is_file():
        inspection.error("missing", path, f"the list of the {split} split is not there")
        return []
    entries: list[tuple[str, Month]] = []
    try:
        lines = read_text(path).splitlines()
    except ReadError as err:
        inspection.error("unreadable", path, str(err))
        return []
    for line in lines:
        try:
            entries += [_entry(path, line)] if line.strip() else []
        except ReadError as err:
            inspection.error("name", path, str(err))
    return entries


def _inspect_month(
    inspection: Inspection, found: _Found, cube: str, month: Month, split: str
) -> None:
    sample = _month_sample(found, cube, month)
    known = "; the release itself is reported to lack files of this cube" if cube in FAULTS else ""
    if sample.has("image"):
        inspection.count("months")
    else:
        folder = found.images.get(cube, inspection.root / "planet" / cube / "PF-SR")
        inspection.error("missing", folder / f"{month}-01.tif", f"listed in {split}.txt{known}")
    if sample.has("land"):
        inspection.count("labels")
    else:
        folder = inspection.root / LABELS[0] / cube
        inspection.error("missing", folder, f"no label of {month}, listed in {split}.txt{known}")
    if sample.has("image") or sample.has("land"):
        inspect(inspection, sample)


DYNAMICEARTHNET_2022 = DataSet(
    name="dynamicearthnet-2022",
    title="DynamicEarthNet, CVPR 2022: monthly land cover",
    citation="A. Toker, L. Kondmann, M. Weber et al., DynamicEarthNet: Daily Multi-Spectral "
    "Satellite Dataset for Semantic Change Segmentation, CVPR 2022, arXiv:2203.12560",
    licence="CC BY-SA 4.0 as users quote the release's LICENSE file: read it before use; images by "
    "Planet Labs",
    task="semantic change",
    splits=SPLITS,
    layers=("before", "after", "land_before", "land_after", "change"),
    bands=BANDS,
    classes=CLASSES,
    download=Download(
        page="https://mediatum.ub.tum.de/1650201",
        steps=(
            "About 525 GB. The mediaTUM pages give the rsync commands and their passwords: "
            "https://mediatum.ub.tum.de/1650201 (images, labels) and "
            "https://mediatum.ub.tum.de/1738088 (labels of the held-out sites). "
            "checksums.sha512 comes with the files: 'sha512sum -c checksums.sha512'.",
            "Unpack all archives in the root; put the lists train.txt, val.txt and test.txt "
            "of https://github.com/aysim/dynnet into dynnet_training_splits/.",
        ),
    ),
    listed=_samples,
    checked=_check,
)
