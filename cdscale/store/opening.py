"""How the arrays of a store are opened: by ``zarrs`` to be read, never to be written.

``zarrs`` (the extra of that name) decodes in Rust, at a third of the processor time or less, and
checks the same checksums. What it writes to a folder does not appear at once, though: a writer that
is killed leaves a torn shard. Zarr takes the way from one setting of the whole process when an
array is opened, so arrays are opened here one at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from threading import Lock
from typing import Any

import zarr

PIPELINE = "zarrs.ZarrsCodecPipeline"
_opening = Lock()


def to_read(group: Any, name: str) -> Any:
    """An array of a group, to be read from only.

    Raises
    ------
    KeyError
        When the group has none of this name.
    """
    if find_spec("zarrs") is None:
        return group[name]
    with _opening, zarr.config.set({"codec_pipeline.path": PIPELINE}):
        return group[name]


def to_write(group: Any, name: str) -> Any:
    """An array of a group, to be written to.

    Raises
    ------
    KeyError
        When the group has none of this name.
    """
    with _opening:
        return group[name]


@contextmanager
def making() -> Iterator[None]:
    """Make arrays, and write to them, while none is opened to be read."""
    with _opening:
        yield
