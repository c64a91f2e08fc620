"""Zarr: a store is laid out from a ``CubeSpec``, written in whole shards, grown, and read lazily.

Every write is one tile and one month of one variable, that is one shard: smaller writes from two
processes lose data without an error, so the store refuses them. Inner chunks carry a crc32c, which
the default codecs do not. A store grows towards later months, and says of each month whether it is
published. The ledger of receipts lies beside the stores: a task is done when its receipt, written
last, says so.

``layout`` makes stores and lets them grow, ``shards`` writes and reads pixels, ``overviews`` has
them at lower resolutions, ``ledger`` keeps receipts, ``record`` what a run is. Whoever asks a
store, on a disk or in a bucket, reads it through ``source`` (any pixels, by ``fetching`` from
``places``) or ``dataset`` (xarray).
"""

from cdscale.store.dataset import lazy
from cdscale.store.fetching import Counted, Fetch, fetch_of
from cdscale.store.layout import (
    coordinates_differ,
    exists,
    grown,
    lay_out_again,
    mend,
    open_dataset,
    outside_stores,
    read_spec,
)
from cdscale.store.ledger import Ledger, read_receipt, write_json, write_text
from cdscale.store.overviews import (
    Plane,
    lay_out_overviews,
    overview_coordinates_differ,
    planes,
)
from cdscale.store.places import Place, find
from cdscale.store.record import keep_job, read_job, read_job_by_month
from cdscale.store.shards import Store, create, open_store
from cdscale.store.source import Source, open_source

__all__ = [
    "Counted",
    "Fetch",
    "Ledger",
    "Place",
    "Plane",
    "Source",
    "Store",
    "coordinates_differ",
    "create",
    "exists",
    "fetch_of",
    "find",
    "grown",
    "keep_job",
    "lay_out_again",
    "lay_out_overviews",
    "lazy",
    "mend",
    "open_dataset",
    "open_source",
    "open_store",
    "outside_stores",
    "overview_coordinates_differ",
    "planes",
    "read_job",
    "read_job_by_month",
    "read_receipt",
    "read_spec",
    "write_json",
    "write_text",
]
