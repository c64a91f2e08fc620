"""Bytes of a store by key and range, from a disk or a bucket; ranges close together in one request.

``Counted`` counts what is asked of another one: what a question costs is a test, not a hope.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import NamedTuple, Protocol

from cdscale.store.places import Place, Remote


class Span(NamedTuple):
    """Bytes from ``start`` up to ``stop``."""

    start: int
    stop: int


class File(Protocol):
    """One file of a store, while it is read."""

    def whole(self) -> bytes:
        """All of it."""

    def tail(self, size: int) -> bytes:
        """Its last bytes."""

    def span(self, span: Span) -> bytes:
        """Some of its bytes; fewer where it ends before them."""


class Fetch(Protocol):
    """How the files of a store are read."""

    @property
    def at_once(self) -> int:
        """Files that are best read side by side."""

    def open(self, key: str) -> File | None:
        """A file by its key, or None where there may be none; opening asks for nothing remote."""


class _OnDisk:
    """A file that stays the one that was opened, whatever is renamed over it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __del__(self) -> None:
        os.close(self._descriptor)

    @property
    def _size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def whole(self) -> bytes:
        return self.span(Span(0, self._size))

    def tail(self, size: int) -> bytes:
        end = self._size
        return self.span(Span(max(0, end - size), end))

    def span(self, span: Span) -> bytes:
        return os.pread(self._descriptor, span.stop - span.start, span.start)


@dataclass(frozen=True)
class Disk:
    """A store in a folder."""

    root: Path
    at_once: int = 1
    """A disk answers at once, and the interpreter's lock makes threads slower than one of them."""

    def open(self, key: str) -> File | None:
        """A file by its key; None where there is none."""
        try:
            return _OnDisk(os.open(self.root / key, os.O_RDONLY | os.O_CLOEXEC))
        except (FileNotFoundError, NotADirectoryError):
            return None


@dataclass(frozen=True)
class _InBucket:
    place: Remote

    def whole(self) -> bytes:
        return self.place.read_bytes()

    def tail(self, size: int) -> bytes:
        options = {"range": {"suffix": size}}
        return bytes(self.place.asked(lambda c, key: c.get(key, options=options).bytes()))

    def span(self, span: Span) -> bytes:
        start, stop = span
        return bytes(self.place.asked(lambda c, key: c.get_range(key, start=start, end=stop)))


@dataclass(frozen=True)
class Bucket:
    """A store under a prefix of a bucket. What is not there shows when it is read."""

    root: Remote
    at_once: int = 32
    """Requests in flight: each waits tens of milliseconds for its first byte."""

    def open(self, key: str) -> File | None:
        """A file by its key."""
        return _InBucket(self.root / key)


def fetch_of(place: Place) -> Fetch:
    """How what lies at a place is read."""
    return Bucket(place) if isinstance(place, Remote) else Disk(Path(str(place)))


WASTE = 3.0
"""Bytes between spans that a request may fetch along, for each byte that is wanted. Of a shard of
four chunks by four, in the order in which zarr writes them, this joins whatever a window of half a
chunk touches; windows at random then fetch 1.5 times what they touch."""


def merged(spans: Sequence[Span]) -> list[Span]:
    """Spans in fewer requests: the smallest gaps are closed, as long as that wastes little.

    Parameters
    ----------
    spans : sequence of Span
        In order, and apart.

    Returns
    -------
    list of Span
        In order; each of the given ones lies in one of them.
    """
    spare = WASTE * sum(stop - start for start, stop in spans)
    gaps = sorted((b.start - a.stop, i) for i, (a, b) in enumerate(pairwise(spans)))
    closed = set()
    for gap, i in gaps:
        spare -= gap
        if spare < 0:
            break
        closed.add(i)
    found: list[Span] = []
    for i, span in enumerate(spans):
        if i - 1 in closed:
            found[-1] = Span(found[-1].start, span.stop)
        else:
            found.append(span)
    return found


# ------------------------------------------------------------------------------------- counting


@dataclass
class Counted:
    """Another one, with its requests counted, and the bytes that were fetched."""

    inner: Fetch
    requests: int = 0
    fetched: int = 0
    keys: set[str] = field(default_factory=set)
    _lock: Lock = field(default_factory=Lock)

    @property
    def at_once(self) -> int:
        """That of the other one."""
        return self.inner.at_once

    def open(self, key: str) -> File | None:
        """A file whose reads are counted."""
        file = self.inner.open(key)
        return None if file is None else _CountedFile(self, key, file)

    def add(self, key: str, data: bytes) -> bytes:
        """Count one answer."""
        with self._lock:
            self.requests += 1
            self.fetched += len(data)
            self.keys.add(key)
        return data

    @contextmanager
    def fresh(self) -> Iterator[Counted]:
        """Count from nothing."""
        self.requests = self.fetched = 0
        self.keys = set()
        yield self


@dataclass(frozen=True)
class _CountedFile:
    counted: Counted
    key: str
    file: File

    def whole(self) -> bytes:
        return self.counted.add(self.key, self.file.whole())

    def tail(self, size: int) -> bytes:
        return self.counted.add(self.key, self.file.tail(size))

    def span(self, span: Span) -> bytes:
        return self.counted.add(self.key, self.file.span(span))
