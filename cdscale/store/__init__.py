"""Zarr: a store is laid out from a ``CubeSpec``, written in whole shards, grown, and read lazily.

Every write is one tile and one month of one variable, that is one shard: smaller writes from two
processes lose data without an error, so the store refuses them. Inner chunks carry a crc32c, which
the default codecs do not. A store grows towards later months, and says of each month whether it is
published. The ledger of receipts lies beside the stores: a task is done when its receipt, written
last, says so.

``layout`` makes stores and lets them grow, ``shards`` writes and reads pixels, ``overviews`` has
them at lower resolutions, ``ledger`` keeps receipts, ``record`` what a run is.
"""

from cdscale.store.layout import (
    coordinates_differ,
    exists,
    grown,
    lay_out_again,
    mend,
    open_dataset,
    read_spec,
)
from cdscale.store.ledger import Ledger, write_json, write_text
from cdscale.store.overviews import Plane, lay_out_overviews, planes
from cdscale.store.record import keep_job, read_job, read_job_by_month
from cdscale.store.shards import Store, create, open_store

__all__ = [
    "Ledger",
    "Plane",
    "Store",
    "coordinates_differ",
    "create",
    "exists",
    "grown",
    "keep_job",
    "lay_out_again",
    "lay_out_overviews",
    "mend",
    "open_dataset",
    "open_store",
    "planes",
    "read_job",
    "read_job_by_month",
    "read_spec",
    "write_json",
    "write_text",
]
