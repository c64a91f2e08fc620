"""``CollectionProfile``: how one catalogue's collection is read, as data.

A profile says which asset holds which band, how stored numbers become physical values, which asset
masks clouds and by which classes, and what makes two items the same observation. Profiles ship as
YAML beside this module; a user points to one of their own by path.
"""

from __future__ import annotations

from datetime import date
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from cdscale.errors import SpecError, explain
from cdscale.spec.base import Frozen

PROFILES = files("cdscale.spec") / "profiles"
_BASELINE = r"^(\d\d\.\d\d)?$"
_HOST = r"^((https?|s3)://)?[a-z0-9._-]+(:\d+)?$"


class BandProfile(Frozen):
    """One band as its collection stores it: value = DN x scale + offset."""

    assets: tuple[str, ...] = Field(min_length=1)
    """Asset keys that may hold it; the first that an item has is read."""
    scale: float = 1.0
    offset: float = 0.0
    nodata: float | None = None
    """For files that carry no nodata tag of their own."""


class MaskProfile(Frozen):
    """The asset that says which pixels are not ground."""

    assets: tuple[str, ...] = Field(min_length=1)
    clear: tuple[int, ...]
    """Classes that count as clear."""
    nodata: tuple[int, ...] = (0,)
    saturated: tuple[int, ...] = ()
    """Classes of pixels that were seen and whose values are no use: saturated or defective."""
    dark: tuple[int, ...] = ()
    """Clear classes that reflect next to nothing in some band (vegetation, water): on them the
    radiometric offset is checked."""
    dilate_px: int = Field(default=0, ge=0)
    """Cloud grows by so many pixels of the cube on each side."""


class CloudProfile(Frozen):
    """The asset that gives the probability of cloud, where a catalogue has one."""

    assets: tuple[str, ...] = Field(min_length=1)
    scale: float = 1.0
    """Percent for each stored step."""
    nodata: float | None = None


class Access(Frozen):
    """What opening a collection's assets takes beside their address. Never a secret itself."""

    signing: Literal["none", "planetary-computer"] = "none"
    s3_endpoint: str = ""
    """Host that serves ``s3://`` hrefs, where not Amazon's; keys come from the environment."""
    s3_unsigned: bool = False
    """Whether ``s3://`` hrefs are read without keys."""
    requester_pays: bool = False


class OffsetRule(Frozen):
    """One line of the table that resolves an item's radiometric offset; the first that fits counts.

    ESA adds 1000 to every Sentinel-2 DN from processing baseline 04.00 on. Catalogues differ in
    whether they take it off again and in how they say so; see the design, decision 2. A rule fits
    where all that it names holds.
    """

    when_property: str = ""
    """Item property that must be there."""
    equals: str | bool | None = None
    """Value that it must have."""
    at_least: str | None = None
    """Least value, compared as text."""
    baseline_at_least: str = Field(default="", pattern=_BASELINE)
    """Least processing baseline, like ``04.00``, wherever the item says its own: in
    ``s2:processing_baseline``, ``sentinel:processing_baseline``, ``processing:version`` or the name
    of the product."""
    baseline_below: str = Field(default="", pattern=_BASELINE)
    """The same, from above."""
    sensed_before: date | None = None
    """Day before which the scene must have been seen."""
    when_asset_offset: bool = False
    """Fits where the asset's ``raster:bands``, ``bands`` or ``raster:offset`` names an offset."""
    offset: float | Literal["asset", "unknown"] = 0.0
    """Added to DN x scale; ``asset`` takes the one that the asset names, and ``unknown`` sets the
    item aside: nobody can tell what its numbers mean."""


class CollectionProfile(Frozen):
    """How one collection of one kind of catalogue is read."""

    name: str
    title: str
    sensor: Literal["s1", "s2"]
    bands: dict[str, BandProfile]
    unit: Literal["reflectance", "power", "dB"]
    mask: MaskProfile | None = None
    offsets: tuple[OffsetRule, ...] = ()
    trust: tuple[Literal["scale", "nodata"], ...] = ("nodata",)
    """What an item's own ``raster:bands`` or ``bands`` says that counts before the profile."""
    same_observation: tuple[str, ...] = ()
    """Item properties that together name an observation, where platform, MGRS tile and time
    (Sentinel-2) or platform and datatake (Sentinel-1) do not. Items that lack one are never
    merged."""
    newest_by: tuple[str, ...] = ()
    """Item properties that say how new a processing is, as text, where processing baseline and
    time of generation do not."""
    require: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Item properties and the values that can be read; others are set aside with a reason."""
    refuse: str = ""
    """Why no item of the collection can be read; each is then set aside for this reason."""
    cloud: CloudProfile | None = None
    hosts: tuple[Annotated[str, Field(pattern=_HOST)], ...] = ()
    """Where assets may be fetched from: a host (https, its subdomains included), a bucket
    (``s3://eodata``), or an origin with its scheme and port (``http://127.0.0.1:8000``)."""
    access: Access = Access()

    @model_validator(mode="after")
    def _units_fit(self) -> CollectionProfile:
        if (self.sensor == "s2") != (self.unit == "reflectance"):
            raise ValueError(f"sensor {self.sensor} cannot have the unit {self.unit}")
        return self


def profile_names() -> tuple[str, ...]:
    """Names of the profiles that ship."""
    return tuple(sorted(p.name.removesuffix(".yaml") for p in PROFILES.iterdir()))


@cache
def load_profile(name: str) -> CollectionProfile:
    """A shipped profile by name, or a user's own by the path of its YAML file.

    Raises
    ------
    SpecError
        For a name that is none of the shipped ones, or a file that does not read.
    """
    if name.endswith((".yaml", ".yml", ".json")):
        return CollectionProfile.read(Path(name))
    if name not in profile_names():
        raise SpecError(
            explain(
                "unknown profile",
                expected=f"one of {', '.join(profile_names())}, or the path of a YAML file",
                got=repr(name),
            )
        )
    return CollectionProfile.read(Path(str(PROFILES / f"{name}.yaml")))
