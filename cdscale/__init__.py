"""cdscale: from STAC catalogues to continental change maps.

``cdscale.open(store)`` gives a store as an xarray dataset to ask, on disk or S3; see
:func:`cdscale.query.accessor.open`. ``cdscale.predict(dataset, model)`` maps a cube lazily; see
:func:`cdscale.maps.predict`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cdscale.maps import predict as predict
    from cdscale.query.accessor import open as open

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Imported when asked for: the command line starts without dask and xarray.
    if name == "predict":
        from cdscale.maps import predict

        return predict
    if name == "open":
        from cdscale.query import accessor

        return accessor.open
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
