"""cdscale: from STAC catalogues to continental change maps.

``cdscale.predict(dataset, model)`` maps a cube lazily; see :func:`cdscale.maps.predict`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cdscale.maps import predict as predict

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Imported when asked for: the command line starts without dask and xarray.
    if name == "predict":
        from cdscale.maps import predict

        return predict
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
