"""``Scene`` and ``SceneTable``: what the catalogue said, frozen for the length of a run."""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from typing import Literal

import shapely
from pydantic import ConfigDict, Field
from shapely.geometry.base import BaseGeometry

from cdscale.months import Month
from cdscale.spec.base import Frozen, fingerprint


class Asset(Frozen):
    """One band of one scene: where it lies, on which pixels, and what its numbers mean."""

    model_config = ConfigDict(allow_inf_nan=False)

    href: str
    """Canonical and never signed: signing happens when it is read."""
    epsg: int | None
    transform: tuple[float, ...] | None
    """Affine, six numbers in row-major order."""
    shape: tuple[int, int] | None
    scale: float
    offset: float
    nodata: float | None


class Scene(Frozen):
    """One item of a catalogue, reduced to what reading its pixels needs."""

    id: str
    collection: str
    sensor: Literal["s1", "s2"]
    unit: Literal["reflectance", "power", "dB"]
    start: datetime
    end: datetime
    platform: str = ""
    orbit: str = ""
    """Relative orbit and direction, like ``161 ascending``; empty where the item does not say."""
    baseline: str = ""
    cloud_cover: float | None = None
    """Percent, as the catalogue has it."""
    footprint: str
    """WKT, degrees."""
    assets: dict[str, Asset]
    mask: Asset | None = None
    mask_clear: tuple[int, ...] = ()
    mask_nodata: tuple[int, ...] = ()
    mask_dilate_px: int = 0
    signing: Literal["none", "planetary-computer"] = "none"
    simulated: bool = False

    @cached_property
    def polygon(self) -> BaseGeometry:
        """The footprint."""
        return shapely.from_wkt(self.footprint)

    def serves(self, month: Month) -> bool:
        """Whether the scene belongs to a month; one with start and end serves all it overlaps."""
        return month.overlaps(self.start, self.end)


class SetAside(Frozen):
    """An item that the catalogue returned and that is not used, and why."""

    id: str
    collection: str
    reason: str


class SceneTable(Frozen):
    """The answer of one search, harmonised and frozen: a re-run needs no catalogue."""

    search: str
    """Fingerprint of what was searched for."""
    scenes: tuple[Scene, ...]
    set_aside: tuple[SetAside, ...] = Field(default=())

    @cached_property
    def digest(self) -> str:
        """Sha256 over every scene."""
        return fingerprint(self)

    @property
    def simulated(self) -> bool:
        """Whether every scene is simulated."""
        return bool(self.scenes) and all(scene.simulated for scene in self.scenes)

    @cached_property
    def _months(self) -> dict[Month, tuple[tuple[Scene, ...], shapely.STRtree]]:
        return {}

    def of(self, footprint: BaseGeometry, month: Month) -> tuple[Scene, ...]:
        """Scenes of a month whose footprint meets a polygon in degrees, in the table's order."""
        if month not in self._months:
            scenes = tuple(scene for scene in self.scenes if scene.serves(month))
            self._months[month] = scenes, shapely.STRtree([scene.polygon for scene in scenes])
        scenes, tree = self._months[month]
        return tuple(scenes[i] for i in sorted(tree.query(footprint, predicate="intersects")))
