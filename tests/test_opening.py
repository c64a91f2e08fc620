"""Arrays are opened by another way to be read than to be written, whatever threads do meanwhile."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.codecs import Crc32cCodec
from zarr.core.codec_pipeline import BatchedCodecPipeline
from zarr.registry import register_pipeline

from cdscale.store import opening


class Rust(BatchedCodecPipeline):
    """Stands in for the pipeline of zarrs."""


@pytest.fixture
def group(tmp_path: Path) -> Any:
    made = zarr.open_group(tmp_path / "a.zarr", mode="w")
    array = made.create_array(
        "x", shape=(1, 64, 64), shards=(1, 64, 64), chunks=(1, 16, 16), dtype="int16",
        fill_value=-1, compressors=[zarr.codecs.BloscCodec(), Crc32cCodec()],
    )  # fmt: skip
    array[...] = np.arange(4096).reshape(1, 64, 64)
    return made


def pipeline(array: Any) -> str:
    return type(array._async_array.codec_pipeline).__name__


def test_without_zarrs_nothing_changes(group: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "find_spec", lambda name: None)
    assert pipeline(opening.to_read(group, "x")) == "BatchedCodecPipeline"


def test_only_reading_goes_the_other_way(group: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    register_pipeline(Rust)
    monkeypatch.setattr(opening, "find_spec", lambda name: name)
    monkeypatch.setattr(opening, "PIPELINE", f"{Rust.__module__}.{Rust.__qualname__}")

    def ways(_: int) -> tuple[str, str]:
        read, write = opening.to_read(group, "x"), opening.to_write(group, "x")
        return pipeline(read), pipeline(write)

    with ThreadPoolExecutor(4) as threads:
        found = set(threads.map(ways, range(200)))
    assert found == {("Rust", "BatchedCodecPipeline")}
    with pytest.raises(KeyError):
        opening.to_read(group, "y")
    assert pipeline(opening.to_write(group, "x")) == "BatchedCodecPipeline"


def test_zarrs_reads_the_same_and_sees_damage(group: Any) -> None:
    pytest.importorskip("zarrs")
    ours, theirs = group["x"], opening.to_read(group, "x")
    assert pipeline(theirs) == "ZarrsCodecPipeline"
    for window in (np.s_[...], np.s_[0, 5:40, 30:33], np.s_[:, 63, 0]):
        np.testing.assert_array_equal(theirs[window], ours[window])
    shard = next(p for p in Path(group.store.root).rglob("c/**/*") if p.is_file())
    whole = bytearray(shard.read_bytes())
    whole[len(whole) // 3] ^= 4
    shard.write_bytes(whole)
    with pytest.raises((ValueError, RuntimeError), match="checksum"):
        theirs[...]
