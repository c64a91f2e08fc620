"""A store as it is asked: any months, bands, rows and columns of a variable, from wherever it lies.

What zarr writes for us is read here without it. Its releases for Python 3.11 (3.1) fetch the inner
chunks of a shard one after another, each in a request of its own, and take four times the processor
time for a pixel's series; later ones do better. Here a shard costs two requests, its index and one
stretch of it, or one where all of it is wanted; a bucket's shards are read side by side; the
checksums are checked as zarr does. A store of another layout is refused.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import blosc
from numpy.typing import NDArray

from cdscale.errors import StoreError, explain
from cdscale.months import Month
from cdscale.spec.cube import CubeSpec, Variable
from cdscale.store.fetching import Fetch, File, Span, fetch_of, merged
from cdscale.store.places import Place, no_store

NOT_THERE = 2**64 - 1
"""Offset and length of a chunk of nothing but fill, which takes no place in a shard."""
CRC = 4
"""Bytes of a checksum."""
Index = NDArray[np.intp]


@dataclass(frozen=True)
class Source:
    """A store to be read. Made by :func:`open_source`."""

    place: Place
    spec: CubeSpec
    fetch: Fetch
    arrays: Mapping[str, dict[str, Any]]
    """Metadata of each array, as Zarr keeps it."""
    attrs: dict[str, Any]
    """What the store says of itself."""

    @cached_property
    def _layouts(self) -> dict[str, Layout]:
        return {v.name: Layout.of(self, v) for v in self.spec.variables}

    def layout(self, name: str) -> Layout:
        """How a variable lies in its shards.

        Raises
        ------
        StoreError
            When it is not how we lay out stores.
        """
        return self._layouts[name]

    def published(self) -> tuple[Month, ...]:
        """Months that are complete, in order.

        Raises
        ------
        StoreError
            When the store does not say.
        """
        said = self.arrays.get("published", {})
        if said.get("chunk_grid", {}).get("configuration", {}).get("chunk_shape") != [1]:
            raise StoreError(
                explain(f"{self.place} does not say which months are complete", do="Run again.")
            )
        keys = [f"published/c/{i}" for i in range(len(self.spec.months))]
        flags = self._side_by_side(self._flag, keys)
        return tuple(m for m, flag in zip(self.spec.months, flags, strict=True) if flag)

    def _flag(self, key: str) -> bool:
        file = self.fetch.open(key)
        try:
            return file is not None and file.whole() not in (b"", b"\0")
        except FileNotFoundError:  # zero is the fill value, and takes no place
            return False

    def read(self, name: str, index: Sequence[Index]) -> NDArray[Any]:
        """Values as stored at every combination of some positions along each axis.

        Parameters
        ----------
        name : str
            Variable.
        index : sequence of int array
            For each axis of the variable (month, band where it has bands, y, x) its positions.

        Returns
        -------
        array
            Of the lengths of these.

        Raises
        ------
        StoreError
            When what is stored there is damaged.
        """
        layout = self.layout(name)
        out = np.full([len(at) for at in index], layout.fill, layout.dtype)
        if out.size:
            axes = [_cut(at, n) for at, n in zip(index, layout.chunk, strict=True)]
            parts = [_by_shard(axis, n) for axis, n in zip(axes, layout.per_shard, strict=True)]
            shards = list(itertools.product(*(part.items() for part in parts)))
            self._side_by_side(lambda shard: self._fill(layout, shard, out), shards)
        return out

    def _fill(self, layout: Layout, shard: Sequence[tuple[int, list[Part]]], out: Any) -> None:
        """Bring what one shard has to say into an array."""
        key = "/".join((layout.name, "c", *(str(number) for number, _ in shard)))
        wanted = list(itertools.product(*(parts for _, parts in shard)))
        try:
            try:
                chunks = self._chunks(layout, key, wanted)
            except ValueError:  # between two requests somebody may have written it anew
                chunks = self._chunks(layout, key, wanted)
        except FileNotFoundError:
            return
        except (OSError, ValueError, RuntimeError) as err:
            raise StoreError(
                explain(
                    f"{self.place} is damaged: {key} does not read",
                    got=" ".join(str(err).split())[:200],
                    do="Use `cdscale verify` with --repair.",
                )
            ) from None
        for parts, chunk in chunks:
            out[_outer(p.out for p in parts)] = chunk[_outer(p.inside for p in parts)]

    def _chunks(
        self, layout: Layout, key: str, wanted: list[tuple[Part, ...]]
    ) -> list[tuple[tuple[Part, ...], NDArray[Any]]]:
        """Of each chunk of a shard that is wanted, and there, its pixels."""
        file = self.fetch.open(key)
        if file is None:
            return []
        if len(wanted) == layout.chunks:
            data = file.whole()
            found = _there(layout, layout.table(data[-layout.index_bytes :]), wanted)
            pieces = {Span(0, len(data)): data}
        else:
            found = _there(layout, layout.table(file.tail(layout.index_bytes)), wanted)
            spans = merged(sorted(span for _, span in found))
            pieces = {span: _all(file, span) for span in spans}
        return [(parts, layout.decoded(_piece(pieces, span))) for parts, span in found]

    def _side_by_side(self, do: Any, what: Sequence[Any]) -> list[Any]:
        lanes = min(self.fetch.at_once, len(what))
        if lanes < 2:
            return [do(one) for one in what]
        with ThreadPoolExecutor(lanes) as pool:
            return list(pool.map(do, what))


def open_source(place: Place, fetch: Fetch | None = None) -> Source:
    """A store to be read, from one request: its metadata.

    Parameters
    ----------
    place : Place
        Where it lies.
    fetch : Fetch, optional
        How its files are read.

    Raises
    ------
    StoreError
        When there is no store, or it is not one of cdscale's.
    """
    fetch = fetch or fetch_of(place)
    try:
        file = fetch.open("zarr.json")
        if file is None:
            raise FileNotFoundError
        data = json.loads(file.whole())
    except (FileNotFoundError, IsADirectoryError):
        raise no_store(place) from None
    except PermissionError as err:
        raise StoreError(explain(f"{place} may not be opened: {err.strerror}")) from None
    except ValueError:
        data = {}
    try:
        attrs = dict(data["attributes"])
        said, arrays = attrs["cdscale"]["spec"], dict(data["consolidated_metadata"]["metadata"])
    except (KeyError, TypeError):
        raise StoreError(
            explain(f"{place} is not a store of cdscale", expected="cube, urban or change.zarr")
        ) from None
    return Source(place, CubeSpec.check(said, where=str(place)), fetch, arrays, attrs)


# ---------------------------------------------------------------------------------------- layout


@dataclass(frozen=True)
class Layout:
    """How one variable lies in its shards, as the store's metadata say."""

    name: str
    dtype: np.dtype[Any]
    fill: Any
    chunk: tuple[int, ...]
    per_shard: tuple[int, ...]

    @classmethod
    def of(cls, source: Source, variable: Variable) -> Layout:
        """That of a variable.

        Raises
        ------
        StoreError
            When it is not how we lay out stores.
        """
        spec = source.spec
        shard = spec.shard_shape(variable)
        inner = (1,) * (len(shard) - 2) + (spec.chunk_px, spec.chunk_px)
        said = source.arrays.get(variable.name, {})
        if not _ours(said, shard, inner):
            raise StoreError(
                explain(
                    f"{source.place}: {variable.name} is not stored as cdscale stores it",
                    expected=f"shards of {shard} in chunks of {inner}, lz4 and crc32c",
                    do="Something else has rewritten the store: open it with xarray.open_zarr.",
                )
            )
        per_shard = tuple(n // m for n, m in zip(shard, inner, strict=True))
        dtype = np.dtype(variable.dtype).newbyteorder("<")
        return cls(variable.name, dtype, variable.fill, inner, per_shard)

    @property
    def chunks(self) -> int:
        """How many a shard has."""
        return int(np.prod(self.per_shard))

    @property
    def index_bytes(self) -> int:
        """Bytes at the end of a shard that say where its chunks lie."""
        return 16 * self.chunks + CRC

    def table(self, index: bytes) -> NDArray[np.uint64]:
        """Offset and length of each chunk of a shard, from its last bytes."""
        if len(index) != self.index_bytes:
            raise ValueError("the shard is cut short")
        pairs = np.frombuffer(_sound(index, "its index"), "<u8")
        return pairs.reshape(*self.per_shard, 2)

    def inside(self, parts: Sequence[Part]) -> tuple[int, ...]:
        """Number of a chunk within its shard."""
        return tuple(p.chunk % n for p, n in zip(parts, self.per_shard, strict=True))

    def decoded(self, data: bytes) -> NDArray[Any]:
        """Pixels of a chunk."""
        packed = _sound(data, "a chunk")
        size = int(np.prod(self.chunk)) * self.dtype.itemsize
        # Before it is unpacked: what a damaged header asks for would be allocated.
        if int.from_bytes(packed[4:8], "little") != size:
            raise ValueError("a chunk is not of its size")
        values = np.frombuffer(blosc.decompress(packed), self.dtype)
        return values.reshape(self.chunk)


def _ours(said: dict[str, Any], shard: tuple[int, ...], inner: tuple[int, ...]) -> bool:
    try:
        (sharding,) = said["codecs"]
        how = sharding["configuration"]
        return bool(
            said["chunk_grid"]["configuration"]["chunk_shape"] == list(shard)
            and said["chunk_key_encoding"]
            == {"name": "default", "configuration": {"separator": "/"}}
            and sharding["name"] == "sharding_indexed"
            and how["chunk_shape"] == list(inner)
            and how.get("index_location", "end") == "end"
            and [codec["name"] for codec in how["codecs"]] == ["bytes", "blosc", "crc32c"]
            and [codec["name"] for codec in how["index_codecs"]] == ["bytes", "crc32c"]
        )
    except (KeyError, TypeError, ValueError):
        return False


# ----------------------------------------------------------------------------------------- parts


@dataclass(frozen=True)
class Part:
    """Positions along one axis that lie in one chunk: in the answer, and in the chunk."""

    chunk: int
    out: Index
    inside: Index


def _cut(at: Index, chunk: int) -> list[Part]:
    """Positions along an axis by the chunk that they lie in."""
    at = np.asarray(at, np.intp)
    numbers = at // chunk
    return [
        Part(int(number), here := np.flatnonzero(numbers == number), at[here] - number * chunk)
        for number in np.unique(numbers)
    ]


def _by_shard(parts: list[Part], chunks: int) -> dict[int, list[Part]]:
    found: dict[int, list[Part]] = {}
    for part in parts:
        found.setdefault(part.chunk // chunks, []).append(part)
    return found


def _outer(positions: Iterator[Index]) -> tuple[Any, ...]:
    """An index of every combination, of slices where positions run on: these need no copy."""
    every = list(positions)
    if all(len(at) == at[-1] - at[0] + 1 for at in every):
        return tuple(slice(int(at[0]), int(at[-1]) + 1) for at in every)
    return np.ix_(*every)


def _there(
    layout: Layout, table: NDArray[np.uint64], wanted: list[tuple[Part, ...]]
) -> list[tuple[tuple[Part, ...], Span]]:
    """Chunks that a shard holds, of those that are wanted, and where; the others are all fill."""
    found = []
    for parts in wanted:
        start, size = table[layout.inside(parts)].tolist()
        if start != NOT_THERE:
            found.append((parts, Span(start, start + size)))
    return found


def _piece(pieces: dict[Span, bytes], span: Span) -> bytes:
    """Bytes of a span, from the pieces of a file of which one holds it."""
    for held, data in pieces.items():
        if held.start <= span.start and span.stop <= held.stop:
            return data[span.start - held.start : span.stop - held.start]
    raise ValueError("the shard is cut short")


def _all(file: File, span: Span) -> bytes:
    data = file.span(span)
    if len(data) != span.stop - span.start:
        raise ValueError("the shard is cut short")
    return data


def _sound(data: bytes, what: str) -> bytes:
    """What a checksum at the end speaks for."""
    body, crc = data[:-CRC], data[-CRC:]
    if google_crc32c.value(body) != int.from_bytes(crc, "little"):
        raise ValueError(f"the checksum of {what} does not match")
    return body
