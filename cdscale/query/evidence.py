"""Why a map says what it says of a pixel: scenes, clear dates, series, models and their versions.

All of it is read from a run's output: the three stores, the receipts and the record of the run.
What is not there any more is named, and the rest is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import numpy as np
import shapely

from cdscale.errors import StoreError
from cdscale.months import Month
from cdscale.query.points import at_month, pixel_series
from cdscale.query.reasons import reasons
from cdscale.query.spots import Pixel, Spot, pixel_of
from cdscale.query.wanted import ALL, Wanted, head, subject
from cdscale.spec.cube import Variable
from cdscale.spec.job import STORES, Job
from cdscale.spec.scene import Scene, passes
from cdscale.spec.task import Receipt, Stage, Task
from cdscale.store import Source, open_source, read_job_by_month, read_receipt

Plain = dict[str, Any]
AXIS = {"s1": "radar", "s2": "optical"}


def explain(source: Source, spot: Spot, wanted: Wanted = ALL) -> Plain:
    """What stands behind a pixel of a run's output.

    Parameters
    ----------
    source : Source
        One of the stores; the others, and the run's record, lie beside it.
    spot : Spot
        Where.
    wanted : Wanted
        Which months; its variables are not looked at.

    Returns
    -------
    dict
        Plain data: ``reasons`` in words; ``state``, what the change store says last; ``models``;
        and for each month what the maps say, and of either sensor quality, passes over the pixel
        with their days (UTC), values, and scenes used, unused and failed. ``missing`` names what
        is no longer beside the store.

    Raises
    ------
    SpecError
        When the place lies outside the store, or it has not the months.
    StoreError
        When a store is damaged.
    """
    pixel = pixel_of(source, spot)
    about = subject(source, Wanted(unpublished=wanted.unpublished))
    run = _Run.beside(source, pixel, wanted)
    if wanted.months.difference(run.months):  # in words, if it is one of this store
        subject(source, Wanted(wanted.months, (), wanted.unpublished))
    lon, lat = pixel.lon_lat(source.spec)
    months = [run.month(month) for month in run.months]
    told: Plain = {
        **head(source, about),
        "lon": round(lon, 7),
        "lat": round(lat, 7),
        "crs": source.spec.grid.crs,
        "x": pixel.x,
        "y": pixel.y,
        "tile": str(pixel.tile),
        "models": run.models,
        "state": next((m["change"] | {"month": m["month"]} for m in months[::-1] if "change" in m),
                      None),
        "months": months,
        "missing": run.missing,
    }  # fmt: skip
    return {"reasons": reasons(told), **told}


@dataclass
class _Run:
    """The output of a run, as far as it is still there, at one pixel."""

    pixel: Pixel
    sources: dict[Stage, Source]
    job: Job | None
    missing: list[str]
    wanted: Wanted

    @classmethod
    def beside(cls, source: Source, pixel: Pixel, wanted: Wanted) -> _Run:
        """What lies beside a store."""
        folder, missing = source.place.parent, []
        sources: dict[Stage, Source] = {}
        for stage, name in STORES.items():
            if source.spec.product == name.removesuffix(".zarr"):
                sources[stage] = source
                continue
            try:
                other = open_source(folder / name)
            except StoreError:
                missing.append(name)
                continue
            if other.spec.grid == source.spec.grid and other.spec.window == source.spec.window:
                sources[stage] = other
            else:
                missing.append(f"{name} on the same tiles")
        try:
            job: Job | None = read_job_by_month(folder / "run")
        except (OSError, ValueError):
            job = None
            missing.append("the record of the run (run/job.json)")
        return cls(pixel, sources, job, missing, wanted)

    @cached_property
    def _series(self) -> dict[Stage, tuple[tuple[Month, ...], tuple[Variable, ...], Any]]:
        """Of each store its months that may be told, and their values."""
        found = {}
        for stage, source in self.sources.items():
            about = subject(source, Wanted(unpublished=self.wanted.unpublished))
            asked = self.wanted.months
            months = tuple(m for m in about.months if not asked or m in asked)
            values = pixel_series(source, self.pixel, months, about.variables)
            found[stage] = months, about.variables, values
        return found

    @property
    def months(self) -> list[Month]:
        """Months that one of the stores has: a change rests on more than its own."""
        return sorted({month for months, _, _ in self._series.values() for month in months})

    @property
    def models(self) -> dict[str, Plain]:
        """The networks behind the maps."""
        if self.job is None:
            return {}
        return {
            task: {
                "name": card.name,
                "version": card.version,
                "weights_sha256": card.weights_sha256,
                "threshold": card.threshold,
                "trained_on": card.training.data,
                "trained_on_simulated_scenes": card.training.simulated,
            }
            for task, card in self.job.cards.items()
        }

    def month(self, month: Month) -> Plain:
        """Everything about one month."""
        told: Plain = {"month": str(month)}
        change, urban = (self._values(stage, month) for stage in (Stage.CHANGE, Stage.MAP))
        if change:
            earlier = self.sources[Stage.CHANGE].spec.reference.get(str(month))
            told["change"] = change | ({"reference_month": earlier} if earlier else {})
        if urban:
            told["urban"] = urban
        receipt = self._receipt(month)
        cube = self._values(Stage.COMPOSE, month)
        for sensor, name in AXIS.items():
            told[name] = self._sensor(sensor, month, cube, receipt)
        if receipt is None:
            told["receipt"] = "missing"
        return told

    def _values(self, stage: Stage, month: Month) -> Plain:
        months, variables, values = self._series.get(stage, ((), (), {}))
        return at_month(values, variables, months.index(month)) if month in months else {}

    def _receipt(self, month: Month) -> Receipt | None:
        folder = next(iter(self.sources.values())).place.parent / "run" / "receipts"
        return read_receipt(folder, Task(Stage.COMPOSE, month, self.pixel.tile))

    def _sensor(self, sensor: str, month: Month, cube: Plain, receipt: Receipt | None) -> Plain:
        told: Plain = {}
        if cube:
            told |= {
                "quality": cube.get(f"{sensor}_quality"),
                "passes": cube.get(f"{sensor}_scenes"),
            }
        if sensor == "s2" and cube:
            told |= {"clear": cube.get("s2_clear"), "seen_on": cube.get("s2_date")}
            told["reflectance"] = cube.get("s2")
        elif cube:
            power = cube.get("s1") or {}
            told["power"] = power
            told["dB"] = {band: _decibels(value) for band, value in power.items()}
        covering = self._covering(sensor, month)
        told["seen"] = sorted({_day(group[0].start) for group in passes(covering)})
        told["scenes"] = [_scene(s, receipt, told.get("seen_on")) for s in covering]
        return told

    def _covering(self, sensor: str, month: Month) -> list[Scene]:
        """Scenes of a month over the pixel, as their footprints say."""
        if self.job is None:
            return []
        source = next(iter(self.sources.values()))
        point = shapely.Point(*self.pixel.lon_lat(source.spec))
        return [s for s in self.job.scenes.of(point, month) if s.sensor == sensor]


def _decibels(power: float | None) -> float | None:
    return round(10 * float(np.log10(power)), 2) if power is not None and power > 0 else None


def _day(moment: datetime) -> str:
    return moment.astimezone(UTC).date().isoformat()


def _scene(scene: Scene, receipt: Receipt | None, shown: str | None) -> Plain:
    """One scene: when and from where, and what became of it on this tile."""
    told: Plain = {
        "id": scene.id,
        "time": scene.start.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "platform": scene.platform,
        "orbit": scene.orbit,
        "baseline": scene.baseline,
        "cloud_cover": scene.cloud_cover,
    }
    told = {key: value for key, value in told.items() if value not in ("", None)}
    if receipt is not None:
        told["tile"] = (
            f"failed: {receipt.failed[scene.id]}" if scene.id in receipt.failed
            else f"unused: {receipt.unused[scene.id]}" if scene.id in receipt.unused
            else "used" if scene.id in receipt.scenes
            else "not read"
        )  # fmt: skip
    read = receipt is None or told["tile"] == "used"
    if scene.sensor == "s2" and read and shown == _day(scene.start):
        told["shown"] = True
    return told
