"""``cdscale.open``: a store as an xarray dataset, with the questions at hand under ``.cd``.

What ``.cd`` answers is of the dataset as it stands: of the months and variables that were selected.
Places and polygons are longitude and latitude in that order, or easting and northing of ``crs``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from shapely.geometry import shape

from cdscale.errors import SpecError, explain
from cdscale.grid import LON_LAT
from cdscale.months import Month, Months
from cdscale.query.evidence import explain as explained
from cdscale.query.ground import ground
from cdscale.query.points import at_month, pixel_series
from cdscale.query.spots import Spot, pixel_of
from cdscale.query.tables import columns_of, rows
from cdscale.query.wanted import Wanted
from cdscale.query.zonal import statistics
from cdscale.query.zones import Zones
from cdscale.spec.cube import Variable
from cdscale.store import Source, find, lazy, open_source


def open(store: str | Path, *, months: str = "", unpublished: bool = False) -> xr.Dataset:
    """A store of a run, lazily: nothing but its metadata is read before values are asked for.

    Parameters
    ----------
    store : str or Path
        ``cube.zarr``, ``urban.zarr`` or ``change.zarr``: a path, or ``s3://BUCKET/PREFIX`` with
        credentials from the environment.
    months : str
        Like ``2022-04..2022-06``; by default every published month.
    unpublished : bool
        Show months as well that are not complete, or are just being made.

    Returns
    -------
    Dataset
        (month, y, x), decoded; ``.cd`` asks it (:class:`Questions`). Values are read where they are
        asked for, without a graph; ``.chunk()`` gives Dask's arrays.

    Raises
    ------
    SpecError
        When a month is not there, or not published.
    StoreError
        When there is no store of cdscale.

    Examples
    --------
    >>> import cdscale
    >>> change = cdscale.open("runs/rio/change.zarr")  # doctest: +SKIP
    >>> change.cd.series(-43.39, -22.98)  # doctest: +SKIP
    """
    from cdscale.query.wanted import subject

    source = open_source(find(store))
    named = frozenset(Months.parse(months)) if months else frozenset[Month]()
    about = subject(source, Wanted(named, (), unpublished))
    dataset = lazy(source)
    if about.months != tuple(source.spec.months):
        at = [source.spec.months.index(month) for month in about.months]
        dataset = dataset.isel(month=at)
    return dataset


@xr.register_dataset_accessor("cd")
class Questions:
    """What can be asked of a dataset that :func:`open` made, or of a part of it.

    Parameters
    ----------
    dataset : Dataset
        With the months and variables that the answers are about.
    """

    def __init__(self, dataset: xr.Dataset) -> None:
        self._dataset = dataset

    def point(self, lon: float, lat: float, *, crs: str = LON_LAT) -> xr.Dataset:
        """Values of the pixel that holds a place: the dataset without y and x, lazily.

        Raises
        ------
        SpecError
            When the place lies outside the store, or outside the part of it that is selected.
        """
        source = self._source
        pixel = pixel_of(source, Spot.checked(lon, lat, crs))
        try:
            found: xr.Dataset = self._dataset.sel(
                x=pixel.x, y=pixel.y, method="nearest", tolerance=source.spec.grid.resolution / 4
            )
        except KeyError:
            raise SpecError(
                explain(
                    f"the point {lon:g}, {lat:g} lies outside what is selected",
                    expected="a place on the dataset's y and x",
                    do="Ask the whole dataset.",
                )
            ) from None
        return found

    def series(self, lon: float, lat: float, *, crs: str = LON_LAT) -> pd.DataFrame:
        """A table of a pixel: a row for each month, a column for each variable, or of its bands.

        Codes are named, dates and months are text, what is not there is None.
        """
        source, wanted = self._source, self._wanted
        pixel = pixel_of(source, Spot.checked(lon, lat, crs))
        months = [m for m in source.spec.months if m in wanted.months]
        variables = self._variables
        values = pixel_series(source, pixel, months, variables)
        lines = [_flat(at_month(values, variables, i)) for i in range(len(months))]
        index = pd.DatetimeIndex([m.to_numpy() for m in months], name="month")
        return pd.DataFrame(lines, index=index)

    def area(self, polygon: Any, *, crs: str = LON_LAT, sample: str | Path = "") -> pd.DataFrame:
        """Square kilometres of each class, and means, in a polygon: with exact shares of pixels.

        Parameters
        ----------
        polygon : geometry
            Of shapely, a mapping as GeoJSON has it, or anything with ``__geo_interface__``.
        crs : str
            Of its coordinates.
        sample : str or Path
            Interpreted points of ``cdscale accuracy design``: with the area of their classes on
            the ground and its 95 % interval, see :mod:`cdscale.query.ground`.

        Returns
        -------
        DataFrame
            A row for each month, variable, band and class; columns as of ``cdscale stats``.
        """
        geometry = shape(getattr(polygon, "__geo_interface__", polygon))
        return self._table(Zones.of(geometry, crs), sample, drop=True)

    def stats(
        self, polygons: str | Path, *, by: str, crs: str = "", sample: str | Path = ""
    ) -> pd.DataFrame:
        """The same for every zone of a vector file, which a field of it names."""
        return self._table(Zones.read(Path(polygons), by=by, crs=crs), sample)

    def explain(self, lon: float, lat: float, *, crs: str = LON_LAT) -> dict[str, Any]:
        """What stands behind a pixel: see :func:`cdscale.query.explain`; ``reasons`` in words."""
        return explained(self._source, Spot.checked(lon, lat, crs), self._wanted)

    def events(self, *, mmu: int = 0, log: str | Path = "") -> pd.DataFrame:
        """Change events that stand in the last of the months: see ``docs/products.md``.

        Parameters
        ----------
        mmu : int
            Pixels of an event, at least; 0: as an export has it.
        log : str or Path
            A log that ``cdscale export geoparquet`` wrote: its events keep their names. Without
            one the months of the dataset are followed from the first, which takes as long as they
            are many.

        Returns
        -------
        GeoDataFrame
            A row for each, in the CRS of the grid; columns as of the log.

        Raises
        ------
        SpecError
            When there is no such log.
        StoreError
            When the store has no change, or is not on a disk.
        """
        # Imported here: it brings geopandas, and nobody else who asks needs that.
        from cdscale.export import event_log

        if log:
            kept = event_log.read(Path(log))
            return event_log.frame(kept.current, kept.about)
        months = Months.of(self._wanted.months)
        return event_log.follow(str(self._source.place), months, mmu)

    # ---------------------------------------------------------------------------------- inside

    def _table(self, zones: Zones, sample: str | Path, *, drop: bool = False) -> pd.DataFrame:
        source = self._source
        found = statistics(source, zones, self._wanted)
        sampled = ground(source, zones, found, Path(sample)) if sample else None
        names = list(columns_of(zones.field, sampled))
        table = pd.DataFrame(list(rows(found, zones.field, sampled)), columns=names)
        table.attrs["notes"] = [*found.notes, *(sampled.notes if sampled else ())]
        return table.drop(columns=names[0]) if drop else table

    @property
    def _source(self) -> Source:
        """The store that the dataset came from."""
        place = self._dataset.encoding.get("source")
        if place is None or "cdscale" not in self._dataset.attrs:
            raise SpecError(
                explain(
                    "this dataset does not say which store it is of",
                    expected="one of cdscale.open, or a selection from it",
                    do="Ask before you compute with it.",
                )
            )
        return open_source(find(place))

    @property
    def _wanted(self) -> Wanted:
        """The months and variables of the dataset; those published or not were settled before."""
        values = np.atleast_1d(self._dataset["month"].values)
        months = frozenset(Month.from_numpy(value) for value in values)
        return Wanted(months, tuple(v.name for v in self._variables), unpublished=True)

    @property
    def _variables(self) -> tuple[Variable, ...]:
        return tuple(v for v in self._source.spec.variables if v.name in self._dataset)


def _flat(told: dict[str, Any]) -> dict[str, Any]:
    """Bands side by side: ``s2_B04`` of ``s2`` and ``B04``."""
    flat: dict[str, Any] = {}
    for name, value in told.items():
        many = value if isinstance(value, dict) else None
        flat |= {name: value} if many is None else {f"{name}_{b}": v for b, v in many.items()}
    return flat
