"""The maps of a run's report: which months they show, and what each of them is.

Shapes: ``YX`` rows and columns, ``YXC`` with colours.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cdscale import kernels
from cdscale.export import pictures
from cdscale.export.chips import Chip, PatchFacts, clearest
from cdscale.export.largest import MOST_PATCHES, Patch, largest
from cdscale.export.outcome import Outcome
from cdscale.export.pictures import Map
from cdscale.export.reading import SETTLED, Product, Tally, View, days_since_1970
from cdscale.grid import to_lon_lat
from cdscale.kernels import Bool, Float
from cdscale.months import Month
from cdscale.spec.cube import ChangeState
from cdscale.spec.job import Job
from cdscale.spec.task import Stage

Told = tuple[tuple[Month, Month], dict[str, Any]]
"""Months before and after that show a patch, and what is known of it."""


class Atlas:
    """The maps of a run, and a place worth asking about."""

    def __init__(self, job: Job, products: dict[Stage, Product], tally: Tally) -> None:
        self.job = job
        self.products = products
        self.outcome: Outcome | None = None
        """What the maps are to show; None: no change."""
        self.before, self.after = self._months(tally)
        self.place = job.spec.aoi.geometry.representative_point().coords[0]
        self._rank = 0

    def _months(self, tally: Tally) -> tuple[Month, Month]:
        """The latest pair that is there; else the first and last months with an optical image."""
        pairs = self.job.pairs
        if Stage.CHANGE in self.job.stages and pairs:
            there = [m for m in sorted(pairs) if tally.codes_of(Stage.CHANGE, m)]
            after = (there or sorted(pairs))[-1]
            return pairs[after], after
        period = list(self.job.spec.period)
        seen = [m for m in period if tally.codes_of(Stage.COMPOSE, m).get("valid")]
        return (seen or period)[0], (seen or period)[-1]

    @property
    def pair(self) -> dict[str, str]:
        """The months of the composites that are shown."""
        return {"before": str(self.before), "after": str(self.after)}

    # ------------------------------------------------------------------------------ overview

    def overview(self, view: View) -> tuple[str, Map] | None:
        """Change by month, all of it in one map; None where no change was mapped."""
        if self.outcome is None:
            return None
        ground_YXC = self._ground(view)
        series = self.outcome.kind == "series"
        days_YX, done_YX = (self._days_of_series if series else self._days_of_pairs)(view)
        self._place(view, days_YX >= 0, 2)
        if not series and len(self.job.pairs) == 1:
            title = f"Change, {self.outcome.since} to {self.outcome.until}"
            codes_YX = np.where(done_YX, days_YX >= 0, 255).astype(np.uint8)
            names = {0: "", 1: self.outcome.what}
            return "change-month", pictures.classes(title, ground_YXC, codes_YX, names)
        if series:
            months = list(self.job.spec.period)
            title = f"Change by month, as of {self.outcome.until}"
            label = "first month that shows it"
        else:
            months = sorted(self.job.pairs)
            title, label = "Change by month", "later month of the first pair that shows it"
        return "change-month", pictures.change_months(
            title, ground_YXC, days_YX, done_YX, months, label
        )

    def _days_of_series(self, view: View) -> tuple[NDArray[np.int32], Bool]:
        """First day of the first month of changes that count, -1 elsewhere; and what was seen."""
        product, last = self.products[Stage.CHANGE], self._last
        state_YX = product.picture("state", last, view)
        first_YX = product.picture("first_month", last, view)
        days_YX = np.where(np.isin(state_YX, SETTLED), first_YX, -1).astype(np.int32)
        return days_YX, np.asarray(state_YX > ChangeState.unobserved)

    def _days_of_pairs(self, view: View) -> tuple[NDArray[np.int32], Bool]:
        """Of each pixel the first day of the earliest later month in which a pair shows change."""
        product = self.products[Stage.CHANGE]
        days_YX = np.full(view.shape, -1, np.int32)
        done_YX = np.zeros(view.shape, bool)
        for month in sorted(self.job.pairs):
            codes_YX = product.picture("change", month, view)
            done_YX |= codes_YX != 255
            days_YX[(days_YX < 0) & (codes_YX > 0) & (codes_YX != 255)] = days_since_1970(month)
        return days_YX, done_YX

    @property
    def _last(self) -> Month:
        if self.outcome is None:
            return self.after
        return Month.parse(self.outcome.until)

    def _ground(self, view: View) -> Float:
        """A pale composite to draw on; of a vast view nothing but land."""
        if view.vast:
            return np.full((*view.shape, 3), 0.86, np.float32)
        seen = [self.reflectance(view, month) for month in (self.after, self.before)]
        image_YXC = np.where(np.isfinite(seen[0]), seen[0], seen[1])
        return pictures.dimmed(pictures.stretch([image_YXC])[0])

    # ------------------------------------------------------------------------- all other maps

    def maps(self, view: View) -> Iterator[tuple[str, Map]]:
        """Every other map of a view; none of a vast one, which would have to be read for them."""
        if view.vast:
            return
        months = list(dict.fromkeys([self.before, self.after]))
        cube = self.products[Stage.COMPOSE]
        colours = pictures.stretch([self.reflectance(view, month) for month in months])
        names = [", before", ", after"] if Stage.CHANGE in self.products else ["", ""]
        for month, colour_YXC, name in zip(months, colours, names, strict=False):
            quality_YX = cube.picture("s2_quality", month, view)
            title = f"Sentinel-2 composite of {month}{name}"
            yield f"composite-{month}", pictures.composite(title, colour_YXC, quality_YX)
        self._place(view, np.asarray(np.isfinite(colours[-1]).all(axis=-1)), 1)
        if Stage.MAP in self.products and "change" not in self.job.cards:
            for month in months:
                values_YX = self._probability(Stage.MAP, view, month)
                title, label = f"Built-up land in {month}", "probability of built-up land"
                yield f"urban-{month}", pictures.probability(title, values_YX, label)
        if self.outcome is not None:
            yield from self._change(view)

    def _change(self, view: View) -> Iterator[tuple[str, Map]]:
        product, ground_YXC = self.products[Stage.CHANGE], self._ground(view)
        if self.outcome is not None and self.outcome.kind == "series":
            state_YX = product.picture("state", self._last, view)
            title = f"State of change at the end of {self._last}"
            yield "state", pictures.states(title, ground_YXC, state_YX)
        if card := self.job.cards.get("change"):
            span = f"{self.before} to {self.after}"
            values_YX = self._probability(Stage.CHANGE, view, self.after)
            codes_YX = product.picture("change", self.after, view)
            if np.isfinite(values_YX).any():
                self._place(view, values_YX == np.nanmax(values_YX), 3)
            title = f"Pair network: probability, {span}"
            yield "probability", pictures.probability(title, values_YX, "probability of change")
            if self.outcome is not None and (
                self.outcome.kind == "series" or len(self.job.pairs) > 1
            ):
                title = f"Pair network: change, {span}"
                yield "change", pictures.classes(title, ground_YXC, codes_YX, card.classes)

    def _probability(self, stage: Stage, view: View, month: Month) -> Float:
        return kernels.unpack_probability(self.products[stage].picture("probability", month, view))

    def reflectance(self, view: View, month: Month) -> Float:
        """Red, green and blue of a month, NaN where there is none: (y, x, 3)."""
        cube = self.products[Stage.COMPOSE]
        variable = cube.layout.variable("s2")
        true = ("B04", "B03", "B02")
        bands = true if set(true) <= set(variable.bands) else (variable.bands * 3)[:3]
        stored = np.stack([cube.picture("s2", month, view, band) for band in bands], axis=-1)
        values = stored.astype(np.float32) * np.float32(variable.scale or 1)
        return np.where(stored == variable.fill, np.float32(np.nan), values)

    def _place(self, view: View, wanted_YX: Bool, rank: int) -> None:
        """Remember the most central of these pixels, unless there is one as worth asking about."""
        if rank <= self._rank or not wanted_YX.any():
            return
        rows, columns = np.nonzero(wanted_YX)
        middle = np.hypot(rows - view.shape[0] / 2, columns - view.shape[1] / 2)
        nearest = int(np.argmin(middle))
        grid = self.job.spec.lattice
        left, _, _, top = view.extent_km
        x = 1000 * left + (columns[nearest] * view.step + 0.5) * grid.resolution
        y = 1000 * top - (rows[nearest] * view.step + 0.5) * grid.resolution
        self.place, self._rank = to_lon_lat(x, y, grid.crs), rank

    # -------------------------------------------------------------------------------- chips

    def chips(self, drawn: tuple[View, ...]) -> tuple[list[Chip], int]:
        """The largest patches of the views, looked at closely; and how many patches there are."""
        if self.outcome is None:
            return [], 0
        found: list[Patch] = []
        number = 0
        for view in drawn:
            patches, more = largest(view, self._changed(view) & view.inside_YX)
            found += patches
            number += more
        found.sort(key=lambda patch: -patch.km2)
        chips = [self._chip(i, patch) for i, patch in enumerate(found[:MOST_PATCHES], 1)]
        return chips, number

    def _changed(self, view: View) -> Bool:
        """What counts as change: by the series at its last month, or by the latest pair."""
        if self.outcome is not None and self.outcome.kind == "series":
            return self._days_of_series(view)[0] >= 0
        codes_YX = self.products[Stage.CHANGE].picture("change", self.after, view)
        return np.asarray((codes_YX > 0) & (codes_YX != 255))

    def _chip(self, number: int, patch: Patch) -> Chip:
        view = patch.chip
        changed_YX = self._changed(view)
        lon, lat = patch.place
        plain: dict[str, Any] = {
            "number": number, "km2": round(patch.km2, 6), "lon": round(lon, 5),
            "lat": round(lat, 5),
        }  # fmt: skip
        series = self.outcome is not None and self.outcome.kind == "series"
        months, told = (self._of_series if series else self._of_pair)(view, changed_YX)
        before, after = months
        facts = PatchFacts(**plain, before=str(before), after=str(after), **told)
        return Chip(view, changed_YX, before, after, facts)

    def _of_pair(self, view: View, changed_YX: Bool) -> Told:
        """The months of the pair, and how probable the change is."""
        sure = self._mean("probability", self.after, view, changed_YX)
        return (self.before, self.after), {"first": "", "confirmed": "", "sure": sure}

    def _of_series(self, view: View, changed_YX: Bool) -> Told:
        """Months that show the ground before and after, and what the states say of the change."""
        days_YX, _ = self._days_of_series(view)
        settled_YX = self.products[Stage.CHANGE].picture("confirmed_month", self._last, view)
        began = _commonest(days_YX[changed_YX], self.job)
        seen = _commonest(settled_YX[changed_YX], self.job)
        first, confirmed = (str(month) if month else "" for month in (began, seen))
        sure = self._mean("confidence", self._last, view, changed_YX)
        months = self._around(view, began or self._last, seen or self._last)
        return months, {"first": first, "confirmed": confirmed, "sure": sure}

    def _around(self, view: View, first: Month, confirmed: Month) -> tuple[Month, Month]:
        """Clear months before a change began, the nearest first, and after it was confirmed."""
        months, cube = list(self.job.spec.period), self.products[Stage.COMPOSE]
        earlier = [m for m in reversed(months) if m < first]
        later = [m for m in months if m >= confirmed]
        before = clearest(cube, view, earlier) or first
        return before, clearest(cube, view, later) or confirmed

    def _mean(self, name: str, month: Month, view: View, where_YX: Bool) -> float | None:
        """Mean of a packed probability over some pixels."""
        packed_YX = self.products[Stage.CHANGE].picture(name, month, view)
        values = kernels.unpack_probability(packed_YX)[where_YX]
        return round(float(np.nanmean(values)), 3) if np.isfinite(values).any() else None


def _commonest(days: NDArray[np.int32], job: Job) -> Month | None:
    """The month that most of these days begin."""
    known = {days_since_1970(month): month for month in job.spec.period}
    values, counts = np.unique(days, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return next((known[int(values[i])] for i in order if int(values[i]) in known), None)
