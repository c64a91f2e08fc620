"""A store as an xarray dataset that reads on demand, from a disk or a bucket alike.

Nothing but the metadata is read to make one, and there is no graph: there are as many chunks as
there is land. Whoever wants Dask's arrays calls ``.chunk()``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from cdscale.spec.cube import Variable
from cdscale.store.layout import axes_of
from cdscale.store.source import Source


@dataclass(frozen=True)
class _Stored(BackendArray):
    """One variable of a store, read where it is asked for."""

    source: Source
    variable: Variable

    @property
    def shape(self) -> tuple[int, ...]:
        """(month, y, x), or (month, band, y, x)."""
        bands = (len(self.variable.bands),) if self.variable.bands else ()
        return (len(self.source.spec.months), *bands, *self.source.spec.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """As stored."""
        return np.dtype(self.variable.dtype)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        outer = indexing.IndexingSupport.OUTER
        return indexing.explicit_indexing_adapter(key, self.shape, outer, self._read)

    def _read(self, key: tuple[Any, ...]) -> NDArray[Any]:
        at = [np.atleast_1d(np.arange(n)[one]) for one, n in zip(key, self.shape, strict=True)]
        values = self.source.read(self.variable.name, at)
        dropped = tuple(i for i, one in enumerate(key) if isinstance(one, int | np.integer))
        return values.squeeze(axis=dropped).astype(self.dtype, copy=False)


def lazy(source: Source) -> xr.Dataset:
    """A store as xarray has it, values decoded when they are read.

    Raises
    ------
    StoreError
        When the store does not say which months are complete.
    """
    spec = source.spec
    said = {name: dict(array.get("attributes", {})) for name, array in source.arrays.items()}
    variables: dict[str, xr.Variable] = {
        v.name: xr.Variable(v.dims, indexing.LazilyIndexedArray(_Stored(source, v)), said[v.name])
        for v in spec.variables
    }
    for name, values in axes_of(spec).items():
        dim = name if name in ("y", "x") else "month"
        variables[name] = xr.Variable((dim,), values, said.get(name, {}))
    for v in spec.variables:
        if v.bands:
            variables[v.band_dim] = xr.Variable((v.band_dim,), np.array(v.bands, dtype=object))
    complete = set(source.published())
    flags = np.array([month in complete for month in spec.months], np.uint8)
    variables["published"] = xr.Variable(("month",), flags, said.get("published", {}))
    variables["spatial_ref"] = xr.Variable((), np.int64(0), said.get("spatial_ref", {}))
    dataset: xr.Dataset = xr.decode_cf(xr.Dataset(variables, attrs=source.attrs))
    dataset.encoding["source"] = str(source.place)
    return dataset
