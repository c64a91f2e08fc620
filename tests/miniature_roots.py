"""Miniatures for tests: written once, copied where a test is to break one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from rasterio import Affine

from cdscale.learn.data.files import opened
from cdscale.testing.miniatures import MINIATURES, write_miniature
from cdscale.testing.miniatures.painting import picture


class Miniatures:
    """One root for each data set, made when first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __getitem__(self, name: str) -> Path:
        root = self.folder / name
        return root if root.is_dir() else write_miniature(name, root)

    def copy(self, name: str, to: Path) -> Path:
        """A copy to be broken."""
        return Path(shutil.copytree(self[name], to / name))


@pytest.fixture(scope="session")
def miniatures(tmp_path_factory: pytest.TempPathFactory) -> Miniatures:
    return Miniatures(tmp_path_factory.mktemp("miniatures"))


NAMES = tuple(MINIATURES)


def cut(path: Path, keep: float = 0.5) -> None:
    """Cut a file short, as an interrupted download does."""
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])


def rewrite(path: Path, change, **profile) -> None:
    """Read a file, change its values (B, Y, X), and write them in its place."""
    with opened(path) as file:
        values = file.read()
        if file.crs and "crs" not in profile:
            profile |= {"crs": file.crs, "transform": file.transform}
    path.unlink()
    picture(path, change(values), **profile)


def elsewhere(path: Path) -> None:
    """Give a file another CRS."""
    at = Affine(10, 0, 500_000, 0, -10, 4_000_000)
    rewrite(path, lambda x: x, crs="EPSG:32633", transform=at)
