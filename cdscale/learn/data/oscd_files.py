"""Where the files of an OSCD city are, and the city as a sample; the layout is told in ``oscd``.

Shape suffixes: B band, P polarisation, Y row, X column.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from cdscale.errors import ReadError
from cdscale.learn.data import units
from cdscale.learn.data.base import Image, Label, Sample, Source
from cdscale.learn.data.files import read_text, safe_name
from cdscale.learn.data.fitting import Fit

IMAGES = "Onera Satellite Change Detection dataset - Images"
TRAIN_LABELS = "Onera Satellite Change Detection dataset - Train Labels"
TEST_LABELS = "Onera Satellite Change Detection dataset - Test Labels"
LABELS = {"train": TRAIN_LABELS, "test": TEST_LABELS}

BANDS = (
    "B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12",
)  # fmt: skip
"""All 13, in their natural order."""
RGB = ("B04", "B03", "B02")
RGB_NIR = (*RGB, "B08")
TO_20_M = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
"""The ten bands of 20 m and finer."""

REFLECTANCE_ONE = units.REFLECTANCE_ONE
"""DN of reflectance 1; all scenes are older than baseline 04.00 and carry no offset."""

CITIES = {
    "train": (
        "abudhabi", "aguasclaras", "beihai", "beirut", "bercy", "bordeaux", "cupertino",
        "hongkong", "mumbai", "nantes", "paris", "pisa", "rennes", "saclay_e",
    ),
    "test": (
        "brasilia", "chongqing", "dubai", "lasvegas", "milano", "montpellier", "norcia", "rio",
        "saclay_w", "valencia",
    ),
}  # fmt: skip
"""As published; there is no validation split: hold out whole cities of the train split."""

_TIF_CODES = units.Table(((1, 0), (2, 1)))


@dataclass(frozen=True)
class Radar:
    """Files of both dates of one orbit."""

    orbit: int
    bands: tuple[str, ...]
    before: Path
    after: Path

    def image(self, name: str, path: Path) -> Image:
        """One of the two files as a layer."""
        return Image(
            name=name,
            bands=self.bands,
            sources=(Source(path, tuple(range(1, len(self.bands) + 1))),),
            decode=units.ds_unet_power if len(self.bands) == 1 else units.power,
            dtypes=("int16", "float32", "float64")[len(self.bands) - 1 :],
            count=len(self.bands),
            fit="place",
        )


def city_names(root: Path, split: str) -> tuple[str, ...]:
    """Names in ``train.txt`` or ``test.txt``.

    Raises
    ------
    ReadError
        When the list is not there, or holds something else than names.
    """
    path = root / IMAGES / f"{split}.txt"
    return tuple(safe_name(name, path) for name in listed(path))


def city_sample(root: Path, name: str) -> Sample:
    """A city as a sample; no pixels are read.

    Layers: ``before``, ``after`` (13 bands), ``s1_before``, ``s1_after`` (the form with VV and VH
    where there is one, else the first orbit by number), ``change``, and ``s1_before_<orbit>``,
    ``s1_after_<orbit>`` for every orbit.
    """
    folder = root / IMAGES / safe_name(name, root / IMAGES)
    before, after = (_optical(folder, date) for date in (1, 2))
    acquired = radars(root / "S1", name)
    label = _label_path(root, name)
    layers: list[Image | Label] = [before, after]
    if acquired:
        first = max(acquired, key=lambda radar: len(radar.bands))
        layers += [first.image("s1_before", first.before), first.image("s1_after", first.after)]
    else:
        nothing = Radar(0, ("vv",), folder, folder)
        for when in ("s1_before", "s1_after"):
            layers.append(replace(nothing.image(when, folder), sources=()))
    layers.append(_label(label))
    for radar in acquired:
        layers.append(radar.image(f"s1_before_{radar.orbit}", radar.before))
        layers.append(radar.image(f"s1_after_{radar.orbit}", radar.after))
    grid = before.sources[BANDS.index("B02")].path
    return Sample("oscd", name, name, _dates(folder), grid, tuple(layers))


def listed(path: Path) -> list[str]:
    """What a list holds, names or not; between commas, blanks and line ends."""
    return [name for name in re.split(r"[\s,]+", read_text(path)) if name]


def _optical(folder: Path, date: int) -> Image:
    registered = folder / f"imgs_{date}_rect"
    native = folder / f"imgs_{date}"
    fit: Fit = "resize"
    paths = {band: registered / f"{band}.tif" for band in BANDS}
    if native.is_dir() and not registered.is_dir():
        # Date 1 gives the grid: its bands cover the same ground. Those of date 2 need not.
        fit = "resize" if date == 1 else "place"
        for band in BANDS:
            named = sorted(native.glob(f"*_{band}.tif"))
            paths[band] = named[0] if named else native / f"{band}.tif"
    return Image(
        name="before" if date == 1 else "after",
        bands=BANDS,
        sources=tuple(Source(paths[band], (1,)) for band in BANDS),
        decode=units.reflectance,
        dtypes=("uint16",),
        count=1,
        fit=fit,
    )


def _label_path(root: Path, name: str) -> Path | None:
    for labels in LABELS.values():
        for file in (f"{name}-cm.tif", "cm.png"):
            path = root / labels / name / "cm" / file
            if path.exists():
                return path
    return None


def _label(path: Path | None) -> Label:
    """The tif says 1 and 2, the png black and white (grey, RGB or RGBA)."""
    picture = path is not None and path.suffix == ".png"
    return Label(
        name="change",
        sources=(Source(path, (1,)),) if path else (),
        decode=units.Bright() if picture else _TIF_CODES,
        dtypes=("uint8",),
        count=(1, 2, 3, 4) if picture else (1,),
    )


def radars(folder: Path, name: str) -> tuple[Radar, ...]:
    """Every orbit that has both dates: by number, the unnamed one last."""
    found = []
    for path in folder.glob(f"sentinel1_{name}_*_t1.tif"):
        match = re.fullmatch(rf"sentinel1_{re.escape(name)}_(\d+)_t1", path.stem)
        later = path.with_name(path.name.replace("_t1.tif", "_t2.tif"))
        if match and later.exists():
            found.append(Radar(int(match[1]), ("vv",), path, later))
    found.sort(key=lambda radar: radar.orbit)
    both = [sorted((folder / name / f"imgs_{k}" / "transformed").glob("*.tif")) for k in (1, 2)]
    if all(both):
        found.append(Radar(0, ("vv", "vh"), both[0][0], both[1][0]))
    return tuple(found)


def _dates(folder: Path) -> tuple[str, ...]:
    """Both dates, where the file that tells them is there: nothing depends on it."""
    try:
        text = read_text(folder / "dates.txt")
    except ReadError:
        return ()
    found = re.findall(r"date_[12]:\s*(\d{4})-?(\d{2})-?(\d{2})", text)
    return tuple("-".join(parts) for parts in found)
