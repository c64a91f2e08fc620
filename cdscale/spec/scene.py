"""``Scene`` and ``SceneTable``: what the catalogue said, frozen for the length of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from functools import cached_property
from threading import Lock
from typing import Any, Literal

import numpy as np
import shapely
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, PrivateAttr
from shapely.geometry.base import BaseGeometry

from cdscale.months import Month
from cdscale.spec.base import Frozen, fingerprint
from cdscale.spec.profile import Access

FOOTPRINT_MARGIN = 0.01
"""Degrees by which the footprint of a catalogue may be too small; they are drawn coarsely."""


MONTHS_HELD = 2
"""Whose scenes a worker holds: where one month ends and the next begins it is at both."""


class Asset(Frozen):
    """One band of one scene: where it lies, on which pixels, and what its numbers mean."""

    model_config = ConfigDict(allow_inf_nan=False)

    href: str
    """Canonical and never signed: signing happens when it is read."""
    crs: str
    """``EPSG:32631``, another authority's code, or WKT; empty where only the file knows."""
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
    datatake: str = ""
    """Name of the acquisition whose granules or slices belong together, whatever processed them;
    empty where the item does not say."""
    baseline: str = ""
    cloud_cover: float | None = None
    """Percent, as the catalogue has it."""
    footprint: str
    """WKT, degrees."""
    assets: dict[str, Asset]
    mask: Asset | None = None
    mask_clear: tuple[int, ...] = ()
    mask_nodata: tuple[int, ...] = ()
    mask_saturated: tuple[int, ...] = ()
    mask_dark: tuple[int, ...] = ()
    mask_dilate_px: int = 0
    cloud: Asset | None = None
    """Probability of cloud in percent, where the spec asks for it and the item has it."""
    access: Access = Access()
    simulated: bool = False

    @cached_property
    def digest(self) -> str:
        """Fingerprint of everything that is known of it."""
        return fingerprint(self)

    @cached_property
    def polygon(self) -> BaseGeometry:
        """The footprint."""
        return shapely.from_wkt(self.footprint)

    @property
    def remote(self) -> bool:
        """Whether its pixels come over a network."""
        return any("://" in asset.href for asset in self.assets.values())

    @property
    def direction(self) -> str:
        """``ascending``, ``descending``, or empty where the item does not say."""
        return next((part for part in self.orbit.split() if part.endswith("scending")), "")

    def serves(self, month: Month, window: int = 1) -> bool:
        """Whether a composite draws on it: of a month, and of as many as the window has in all.

        One with start and end serves every month that it overlaps.
        """
        return month.overlaps(self.start, self.end, window)


class SetAside(Frozen):
    """An item that the catalogue returned and that is not used, and why."""

    id: str
    collection: str
    reason: str
    start: datetime | None = None
    """When it was seen, as far as the item says so in a way that reads."""
    end: datetime | None = None
    footprint: str = ""
    """WKT, degrees; empty where the item's own does not read."""

    def serves(self, month: Month, window: int = 1) -> bool:
        """Whether a composite would have drawn on it; as of a scene."""
        if self.start is None:
            return False
        return month.overlaps(self.start, self.end or self.start, window)

    @cached_property
    def polygon(self) -> BaseGeometry:
        """The footprint, empty where it is not known."""
        return shapely.from_wkt(self.footprint or "POLYGON EMPTY")


class SceneTable(Frozen):
    """The answer of one search, harmonised and frozen: a re-run needs no catalogue."""

    search: str
    """Fingerprint of what was searched for."""
    scenes: tuple[Scene, ...]
    set_aside: tuple[SetAside, ...] = Field(default=())
    window: int = 1
    """Months that a composite draws on, its own the last; "scenes of a month" are of all these."""

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
        scenes, tree = self._of(month)
        return tuple(scenes[i] for i in sorted(tree.query(footprint, predicate="intersects")))

    def of_month(self, month: Month) -> tuple[Scene, ...]:
        """Scenes of a month, wherever they lie, in the table's order."""
        return self._of(month)[0]

    def meetings(
        self, footprints: NDArray[np.object_], month: Month
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Which of the scenes of a month meet which of many polygons in degrees.

        Returns
        -------
        tuple of array
            Of each meeting the number of the polygon, and that of the scene in :meth:`of_month`.
        """
        polygon, scene = self._of(month)[1].query(footprints, predicate="intersects")
        return polygon, scene

    def _of(self, month: Month) -> tuple[tuple[Scene, ...], shapely.STRtree]:
        if month not in self._months:
            scenes = tuple(s for s in self.scenes if s.serves(month, self.window))
            self._months[month] = scenes, shapely.STRtree([scene.polygon for scene in scenes])
        return self._months[month]

    @cached_property
    def _aside(self) -> dict[Month, tuple[tuple[SetAside, ...], shapely.STRtree]]:
        return {}

    def aside_of(self, footprint: BaseGeometry, month: Month) -> tuple[SetAside, ...]:
        """Items set aside that would have belonged to a polygon in degrees and a month."""
        if month not in self._aside:
            items = tuple(item for item in self.set_aside if item.serves(month, self.window))
            self._aside[month] = items, shapely.STRtree([item.polygon for item in items])
        items, tree = self._aside[month]
        return tuple(items[i] for i in sorted(tree.query(footprint, predicate="intersects")))


class TableByMonth(SceneTable):
    """A table for who does tasks: it reads the scenes of a month when one is first asked for.

    Of a continent the whole table takes gigabytes, and a worker is at one month at a time. As a
    whole it cannot be looked through: it has no ``scenes``, and nothing that was set aside.
    """

    _read: Callable[[Month], tuple[Scene, ...]] = PrivateAttr()
    _all_simulated: bool = PrivateAttr()
    _lock: Lock = PrivateAttr(default_factory=Lock)

    @classmethod
    def reading(
        cls,
        search: str,
        read: Callable[[Month], tuple[Scene, ...]],
        *,
        simulated: bool,
        window: int = 1,
    ) -> TableByMonth:
        """A table whose months come from a function, in the order of the whole table."""
        known: dict[str, Any] = {"search": search, "window": window}
        table = cls.model_construct(**known)
        table._read, table._all_simulated = read, simulated
        return table

    @property
    def simulated(self) -> bool:
        """Whether every scene is simulated, those of other months too."""
        return self._all_simulated

    def _of(self, month: Month) -> tuple[tuple[Scene, ...], shapely.STRtree]:
        with self._lock:
            if month not in self._months:
                while len(self._months) >= MONTHS_HELD:
                    del self._months[next(iter(self._months))]
                scenes = tuple(s for s in self._read(month) if s.serves(month, self.window))
                self._months[month] = scenes, shapely.STRtree([s.polygon for s in scenes])
            return self._months[month]


LONGEST_PASS = timedelta(minutes=30)
"""Scenes of one platform and relative orbit that lie closer in time were seen in one pass."""


def passes(scenes: Iterable[Scene]) -> tuple[tuple[Scene, ...], ...]:
    """Scenes grouped by the pass of the satellite in which they were seen.

    The granules of one pass overlap and show the same observation twice there; whoever counts,
    averages or ranks observations has to take them together. Scenes of which the catalogue says
    neither datatake nor platform and orbit stand alone.
    """
    groups: dict[tuple[str, ...], list[list[Scene]]] = {}
    for scene in sorted(scenes, key=lambda s: (s.start, s.id)):
        if scene.datatake:
            key: tuple[str, ...] = (scene.collection, scene.datatake)
        elif scene.platform and scene.orbit:
            key = (scene.collection, scene.platform, scene.orbit)
        else:
            key = (scene.collection, "", scene.id)
        there = groups.setdefault(key, [])
        if there and (scene.datatake or scene.start - there[-1][0].start <= LONGEST_PASS):
            there[-1].append(scene)
        else:
            there.append([scene])
    every = [tuple(group) for series in groups.values() for group in series]
    return tuple(sorted(every, key=lambda group: (group[0].start, group[0].id)))
