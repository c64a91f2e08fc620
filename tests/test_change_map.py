"""Change maps as files: what is in them, where they lie, and that they come whole or not at all."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
from rasterio import Affine

from cdscale.errors import StoreError
from cdscale.export.change_map import ABSENT, MapGrid, change_map

GRID = MapGrid(6, 4, "EPSG:32631", Affine(10, 0, 500_000, 0, -10, 5_000_000))
SCORE = np.arange(24, dtype=np.float32).reshape(4, 6) / np.float32(23)


def write(path: Path, score: np.ndarray = SCORE, what: str = "change") -> None:
    with change_map(path, GRID, "tiny 1, threshold 0.5", "probability", what) as file:
        file.write(score >= 0.5, score)


def test_classes_and_scores_are_in_two_bands_on_the_grid(tmp_path: Path) -> None:
    score = SCORE.copy()
    score[0, 0] = np.nan
    write(tmp_path / "new" / "map.tif", score, "urban")
    with rasterio.open(tmp_path / "new" / "map.tif") as file:
        band1, band2 = file.read()
        assert (file.crs.to_epsg(), file.transform) == (32631, GRID.transform)
        assert file.descriptions == (
            f"urban (1 = urban, 0 = none, {ABSENT} = absent)", "probability",
        )  # fmt: skip
        assert file.tags()["METHOD"] == "tiny 1, threshold 0.5"
        np.testing.assert_array_equal(file.dataset_mask() > 0, np.isfinite(score))
    expected = (SCORE >= 0.5).astype(np.float32)
    expected[0, 0] = ABSENT
    np.testing.assert_array_equal(band1, expected)
    np.testing.assert_array_equal(band2, score)


def test_blocks_go_to_their_places(tmp_path: Path) -> None:
    write(tmp_path / "whole.tif")
    with change_map(tmp_path / "parts.tif", GRID, "m", "s") as file:
        for row, column in ((0, 0), (0, 4), (2, 0), (2, 4)):
            part = SCORE[row : row + 2, column : column + 4]
            file.write(part >= 0.5, part, row, column)
    with rasterio.open(tmp_path / "whole.tif") as one, rasterio.open(tmp_path / "parts.tif") as two:
        np.testing.assert_array_equal(one.read(), two.read())


def test_a_map_without_a_place_has_none(tmp_path: Path) -> None:
    grid = MapGrid(6, 4, None, Affine.identity())
    with change_map(tmp_path / "map.tif", grid, "m", "s") as file:
        file.write(SCORE > 0, SCORE)
    with rasterio.open(tmp_path / "map.tif") as file:
        assert (file.crs, file.transform) == (None, Affine.identity())


def test_what_fails_half_way_leaves_the_older_map_and_no_crumbs(tmp_path: Path) -> None:
    path = tmp_path / "map.tif"
    write(path)
    old = path.read_bytes()

    class Stop(Exception):
        pass

    def interrupted() -> None:
        with change_map(path, GRID, "m", "s") as file:
            file.write(SCORE > 0, SCORE)
            raise Stop

    with pytest.raises(Stop):
        interrupted()
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]
    write(path, SCORE / 2)
    assert path.read_bytes() != old


def test_a_disk_that_is_too_small_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(StoreError, match=r"cannot write .*map\.tif; expected 0\.3 MB free"):
        write(tmp_path / "map.tif")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(StoreError, match=r"cannot write .*taken.map\.tif"):
        write(tmp_path / "taken" / "map.tif")
