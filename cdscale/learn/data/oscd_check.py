"""Whether a folder is a whole copy of OSCD."""

from __future__ import annotations

from pathlib import Path

from cdscale.errors import ReadError
from cdscale.learn.data import units
from cdscale.learn.data.base import Sample
from cdscale.learn.data.check import expect_places, inspect
from cdscale.learn.data.files import is_name, read_raw
from cdscale.learn.data.oscd_files import CITIES, IMAGES, LABELS, TRAIN_LABELS, city_sample, listed
from cdscale.learn.data.report import Inspection, Report


def check(root: Path, deep: bool) -> Report:
    """Cities of both lists, labels of the train cities, radar where it is there."""
    inspection = Inspection("oscd", root, deep)
    for name in ("cities", "labels", "s1"):
        inspection.count(name, 0)
    names = _names(inspection)
    expect_places(inspection, names, CITIES)
    without: dict[str, list[str]] = {"labels": [], "Sentinel-1": []}
    for split, cities in names.items():
        for name in cities:
            folder = root / IMAGES / name
            if folder.is_dir():
                _inspect_city(inspection, name, split, without)
            else:
                inspection.error("missing", folder, f"listed in {split}.txt")
    for what, cities in without.items():
        if cities:
            inspection.note("missing", root, f"no {what} of {', '.join(cities)}")
    _half_pairs(inspection, root / "S1")
    known = {name for cities in names.values() for name in cities}
    inspection.surplus(root / IMAGES, {*known, "train.txt", "test.txt", "README.txt"})
    return inspection.done()


def _names(inspection: Inspection) -> dict[str, list[str]]:
    """Names by split, where there is a list; what is wrong with one becomes findings."""
    names: dict[str, list[str]] = {}
    for split in LABELS:
        path = inspection.root / IMAGES / f"{split}.txt"
        try:
            texts = listed(path)
        except ReadError as err:
            if path.exists():
                inspection.error("unreadable", path, str(err))
            else:
                inspection.error("missing", path, "the list of cities is not there")
            continue
        names[split] = [text for text in texts if is_name(text)]
        for text in texts:
            if not is_name(text):
                inspection.error("name", path, f"refused {text[:80]!r}: it is more than a name")
    return names


def _inspect_city(
    inspection: Inspection, name: str, split: str, without: dict[str, list[str]]
) -> None:
    sample = city_sample(inspection.root, name)
    inspection.count("cities")
    inspect(inspection, sample)
    if sample.has("change"):
        inspection.count("labels")
        _inspect_picture(inspection, sample)
    elif split == "train":
        path = inspection.root / TRAIN_LABELS / name / "cm" / f"{name}-cm.tif"
        inspection.error("missing", path, "the label of a train city is not there")
    else:
        without["labels"].append(name)
    if sample.has("s1_before"):
        inspection.count("s1")
    else:
        without["Sentinel-1"].append(name)


def _inspect_picture(inspection: Inspection, sample: Sample) -> None:
    """See that the label, which comes as codes and as a picture, says the same twice."""
    path = sample.layer("change").sources[0].path
    picture = path.with_name("cm.png")
    if not inspection.deep or path == picture or not picture.exists():
        return
    try:
        first = sample.read("change")
        second = units.Bright()((read_raw(picture, (1,)),))
    except ReadError as err:
        inspection.note("unreadable", picture, str(err))
        return
    if first.shape != second.shape or (first != second).any():
        inspection.note("differs", picture, f"not the map of {path.name}, which is the one read")


def _half_pairs(inspection: Inspection, folder: Path) -> None:
    for path in sorted(folder.glob("sentinel1_*_t[12].tif")):
        one, other = ("_t1.tif", "_t2.tif")
        if path.name.endswith(other):
            one, other = other, one
        partner = path.with_name(path.name.removesuffix(one) + other)
        if not partner.exists():
            inspection.error("missing", partner, f"the other date of {path.name}")
