"""Tables of blocks as ``tiff`` reads them, against GDAL's own word."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from cdscale.pixels import tiff

SIDE, BLOCK = 320, 64


def write(path: Path, **how: object) -> None:
    """A file that lacks all blocks but those of two rows of them, and one more."""
    with rasterio.open(
        path, "w", driver="GTiff", height=SIDE, width=SIDE, count=1, dtype="uint16",
        crs="EPSG:32631", transform=Affine(10, 0, 0, 0, -10, 0), sparse_ok=True, **how,
    ) as file:  # fmt: skip
        values = np.full((BLOCK, SIDE), 9, np.uint16)
        file.write(values, 1, window=((0, BLOCK), (0, SIDE)))
        file.write(values, 1, window=((3 * BLOCK, 4 * BLOCK), (0, SIDE)))


def fetcher(content: bytes) -> Callable[[int, int], bytes]:
    return lambda start, length: content[start : start + length]


@pytest.mark.parametrize("order", ["LITTLE", "BIG"])
@pytest.mark.parametrize("big", ["NO", "YES"])
@pytest.mark.parametrize("tiled", [True, False])
def test_places_are_those_that_gdal_knows(
    tmp_path: Path, order: str, big: str, tiled: bool
) -> None:
    path = tmp_path / "a.tif"
    width = {"blockxsize": BLOCK} if tiled else {}
    write(path, endianness=order, bigtiff=big, tiled=tiled, blockysize=BLOCK, **width)
    with rasterio.open(path) as file:
        across = SIDE // file.block_shapes[0][1]
        down = SIDE // file.block_shapes[0][0]
        expected = [
            file.get_tag_item(f"BLOCK_OFFSET_{x}_{y}", "TIFF", bidx=1) is not None
            for y in range(down)
            for x in range(across)
        ]
    got = tiff.places(fetcher(path.read_bytes()))
    assert 0 < sum(expected) < len(expected)
    assert got.tolist() == expected


def test_one_block_has_its_place_in_the_entry_itself(tmp_path: Path) -> None:
    with rasterio.open(
        tmp_path / "one.tif", "w", driver="GTiff", height=4, width=4, count=1, dtype="uint8",
        crs="EPSG:32631", transform=Affine(10, 0, 0, 0, -10, 0),
    ) as file:  # fmt: skip
        file.write(np.ones((4, 4), np.uint8), 1)
    assert tiff.places(fetcher((tmp_path / "one.tif").read_bytes())).tolist() == [True]


@pytest.mark.parametrize("kept", [0, 3, 7, 60, 400])
def test_what_ends_within_its_header_is_refused(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "a.tif"
    write(path, tiled=True, blockxsize=16, blockysize=16)
    with pytest.raises(tiff.BadHeader):
        tiff.places(fetcher(path.read_bytes()[:kept]))


@pytest.mark.parametrize("content", [b"<html>" * 50, b"II*\0" + b"\xff" * 90, b"MM\0+" + bytes(90)])
def test_what_is_no_tiff_is_refused(content: bytes) -> None:
    with pytest.raises(tiff.BadHeader):
        tiff.places(fetcher(content))


def test_tables_beyond_the_first_bytes_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.tif"
    write(path, tiled=True, blockxsize=16, blockysize=16)
    expected = tiff.places(fetcher(path.read_bytes()))
    monkeypatch.setattr(tiff, "HEAD", 64)
    np.testing.assert_array_equal(tiff.places(fetcher(path.read_bytes())), expected)
    assert 0 < expected.sum() < expected.size == (SIDE // 16) ** 2
