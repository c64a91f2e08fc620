"""What a damaged shard does to whoever reads it, and to whoever writes over it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cdscale.errors import StoreError, explain

DAMAGED = (ValueError, RuntimeError)
"""What crc32c and Blosc raise."""


@contextmanager
def damage_told(what: str, do: str) -> Iterator[None]:
    """Say of a read that meets a damaged shard what was read, and what to do.

    Raises
    ------
    StoreError
        In place of what the codecs raise.
    """
    try:
        yield
    except DAMAGED as err:
        text = explain(f"{what} is damaged", got=str(err)[:200], do=do)
        raise StoreError(text) from err


def put(array: Any, index: tuple[Any, ...], block: Any, files: Iterable[Path]) -> None:
    """Write whole shards over what is there; each appears at once or not at all.

    Zarr may read an old shard before it writes a new one: a damaged one is in the way, and goes.
    """
    try:
        array[index] = block
    except DAMAGED:
        for file in files:
            file.unlink(missing_ok=True)
        array[index] = block
