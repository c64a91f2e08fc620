"""SpaceNet7 with Sentinel-1 and Sentinel-2: built-up area of 60 sites, month by month.

S. Hafner, Y. Ban, A. Nascetti, Semi-Supervised Urban Change Detection Using Multi-Modal Sentinel-1
SAR and Sentinel-2 MSI Data, Remote Sensing 15(21), 2023; Zenodo 7794693, rasters on a 10 m grid.
A sample is one site and month with radar and label that is not flagged as masked. Its optical image
is missing where the metadata say so or where there is no file: ``has("image")`` is False then, and
``image`` reads as NaN.

Bands are taken by name. The experiment of IGARSS 2023 ran on another, private copy whose files have
four bands (blue, green, red, NIR): its indices [2, 1, 0, 3] pick the red edge here, not NIR.

20 further sites have images without labels: the split ``unlabelled``.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdscale.errors import ReadError
from cdscale.learn.data import units
from cdscale.learn.data.base import DataSet, Image, Label, Sample, Source
from cdscale.learn.data.check import expect_places, inspect
from cdscale.learn.data.download import Download
from cdscale.learn.data.files import is_name, read_text, safe_name, unreadable
from cdscale.learn.data.report import Inspection, Report, made_up_decibel, made_up_places
from cdscale.learn.data.spacenet7_sites import SITES as SITES
from cdscale.months import Month

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
"""Of the public files, in their order."""
RGB_NIR = ("B04", "B03", "B02", "B08")
"""What the networks of IGARSS 2023 see."""
POLARISATIONS = ("vv", "vh")
METADATA = "metadata.json"
UNLABELLED = "unlabelled"

_FLOAT = ("float32", "float64")
_FLAGS = ("s1", "s2", "buildings", "masked")


@dataclass(frozen=True)
class SiteMonth:
    """One entry of the metadata."""

    site: str
    month: Month
    s1: bool
    s2: bool
    buildings: bool
    masked: bool

    @property
    def stamp(self) -> str:
        """The month as files have it, ``2018_01``."""
        return str(self.month).replace("-", "_")

    @property
    def usable(self) -> bool:
        """Whether it is a labelled sample; a missing optical image is no hindrance."""
        return self.s1 and self.buildings and not self.masked

    def path(self, root: Path, part: str) -> Path:
        """The file of ``s1``, ``s2`` or ``buildings``."""
        name = f"{part}_{self.site}_{self.stamp}.tif"
        return root / self.site / part / name


def read_metadata(root: Path) -> tuple[SiteMonth, ...]:
    """All months of ``metadata.json``, in its order.

    Raises
    ------
    ReadError
        When it is absent or damaged, or names a site with more than a name.
    """
    path = root / METADATA
    months = []
    for site, entries in _metadata(path).items():
        safe_name(site, path)
        months += [_month(path, site, entry) for entry in entries]
    return tuple(months)


def _metadata(path: Path) -> dict[str, list[Any]]:
    try:
        data = json.loads(read_text(path))
    except (ValueError, RecursionError) as err:
        raise unreadable(path, f"not JSON: {err}") from None
    if not isinstance(data, dict) or not all(isinstance(part, list) for part in data.values()):
        raise unreadable(path, "expected lists of months by site")
    return data


def _month(path: Path, site: str, entry: Any) -> SiteMonth:
    """One entry, all of whose fields have the types that they should have."""
    fields = entry if isinstance(entry, dict) else {}
    year, month = fields.get("year"), fields.get("month")
    flags = [fields.get(name) for name in _FLAGS]
    sound = fields.get("aoi_id") == site and all(isinstance(flag, bool) for flag in flags)
    if (
        not sound
        or not isinstance(year, int)
        or not isinstance(month, int)
        or not (1900 < year < 2200 and 1 <= month <= 12)
    ):
        raise unreadable(path, f"an entry of {site} that makes no sense: {str(entry)[:120]}")
    return SiteMonth(site, Month(year, month), *(bool(flag) for flag in flags))


@dataclass(frozen=True)
class _Folder:
    """A root, with what a made-up one has of its own: its sites, and its range of backscatter."""

    root: Path
    sites: Mapping[str, Collection[str]]
    decibel: tuple[float, float]

    @classmethod
    def at(cls, root: Path) -> _Folder:
        decibel = made_up_decibel(root, units.SPACENET7_DB)
        return cls(root, made_up_places(root) or SITES, decibel)

    def split_of(self, site: str) -> str:
        named = (split for split, sites in self.sites.items() if site in sites)
        return next(named, UNLABELLED)


def _sample(folder: _Folder, month: SiteMonth) -> Sample:
    root, power = folder.root, units.UnitPower(folder.decibel)
    s2 = month.path(root, "s2")
    optical = (Source(s2, tuple(range(1, len(BANDS) + 1))),) if month.s2 and s2.is_file() else ()
    label = (Source(month.path(root, "buildings"), (1,)),) if month.buildings else ()
    s1 = month.path(root, "s1")
    return Sample(
        data="spacenet7",
        key=f"{month.site}_{month.stamp}",
        place=month.site,
        when=(str(month.month),),
        grid_file=s1,
        layers=(
            Image("s1", POLARISATIONS, (Source(s1, (1, 2)),), power, _FLOAT, 2),
            Image("image", BANDS, optical, units.unit_reflectance, _FLOAT, len(BANDS)),
            Label("urban", label, units.present, _FLOAT, (1,)),
        ),
    )


def _of_split(folder: _Folder, split: str) -> list[SiteMonth]:
    months = read_metadata(folder.root)
    own = [month for month in months if folder.split_of(month.site) == split]
    if split == UNLABELLED:
        return [month for month in own if month.s1]
    return [month for month in own if month.usable]


def _samples(root: Path, split: str) -> tuple[Sample, ...]:
    folder = _Folder.at(root)
    return tuple(_sample(folder, month) for month in _of_split(folder, split))


def _check(root: Path, deep: bool) -> Report:
    inspection, folder = Inspection("spacenet7", root, deep), _Folder.at(root)
    for name in ("sites", "months", "samples", "without S2"):
        inspection.count(name, 0)
    months = _sound_months(inspection)
    sites = dict.fromkeys(month.site for month in months)
    inspection.count("sites", len(sites))
    inspection.count("months", len(months))
    found: dict[str, list[str]] = {split: [] for split in (*folder.sites, UNLABELLED)}
    for site in sites:
        found[folder.split_of(site)].append(site)
    expect_places(inspection, found, SITES)
    for month in months:
        _inspect_month(inspection, folder, month)
    inspection.surplus(root, {*sites, METADATA})
    return inspection.done()


def _sound_months(inspection: Inspection) -> tuple[SiteMonth, ...]:
    """Months of the metadata; what is wrong with them becomes findings."""
    path = inspection.root / METADATA
    if not path.is_file():
        inspection.error("missing", path, "the table of sites and months is not there")
        return ()
    months = []
    try:
        table = _metadata(path)
    except ReadError as err:
        inspection.error("unreadable", path, str(err))
        return ()
    for site, entries in table.items():
        if not is_name(site):
            inspection.error("name", path, f"refused {site[:80]!r}: it is more than a name")
            continue
        for entry in entries:
            try:
                months.append(_month(path, site, entry))
            except ReadError as err:
                inspection.error("unreadable", path, str(err))
    return tuple(months)


def _inspect_month(inspection: Inspection, folder: _Folder, month: SiteMonth) -> None:
    """The files that the metadata promise; what they call missing is counted, no error."""
    sample = _sample(folder, month)
    if month.s1:
        inspect(inspection, sample)
    for part in ("s2", "buildings"):
        path, said = month.path(inspection.root, part), getattr(month, part)
        if said and not path.is_file() and not (part == "buildings" and month.s1):
            inspection.error("missing", path, f"{METADATA} says that it is there")
        if not said and path.is_file():
            inspection.note("surplus", path, f"{METADATA} says that it is missing: it is not read")
    if month.usable and folder.split_of(month.site) != UNLABELLED:
        inspection.count("samples")
        inspection.count("without S2", 0 if sample.has("image") else 1)


SPACENET7 = DataSet(
    name="spacenet7",
    title="SpaceNet7 with Sentinel-1 and Sentinel-2, monthly",
    citation="S. Hafner, Y. Ban, A. Nascetti, Semi-Supervised Urban Change Detection Using "
    "Multi-Modal Sentinel-1 SAR and Sentinel-2 MSI Data, Remote Sensing 15(21), 5135, 2023, "
    "doi:10.3390/rs15215135; data: doi:10.5281/zenodo.7794693",
    licence="see the Zenodo record; contains modified Copernicus Sentinel data and labels made "
    "from SpaceNet 7",
    task="urban",
    splits=("train", "val", "test", UNLABELLED),
    layers=("s1", "image", "urban"),
    bands=BANDS,
    classes={0: "not built-up", 1: "built-up"},
    download=Download(
        page="https://doi.org/10.5281/zenodo.7794693",
        steps=(
            "Fetch all files of the record; Zenodo shows an md5 beside each.",
            f"Unpack them so that {METADATA} and one folder for each site lie in the root.",
        ),
    ),
    listed=_samples,
    checked=_check,
)
