"""Miniatures of the data sets: a few made-up scenes in the published layout of each.

Small enough for tests, whole enough that ``DataSet.check`` passes, and learnable: what the labels
mark is what brightens. They are simulated, and each says so in a file ``MINIATURE.json``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cdscale.errors import SpecError, StoreError, explain
from cdscale.testing.miniatures.aerial import write_hrscd, write_quickbird, write_sztaki
from cdscale.testing.miniatures.oscd import OscdForm, write_oscd
from cdscale.testing.miniatures.series import (
    write_dynamicearthnet_2021,
    write_dynamicearthnet_2022,
    write_spacenet7,
)

__all__ = ["MINIATURES", "OscdForm", "write_miniature", "write_oscd"]

MINIATURES: dict[str, Callable[[Path, int], None]] = {
    "oscd": write_oscd,
    "hrscd": write_hrscd,
    "spacenet7": write_spacenet7,
    "dynamicearthnet-2021": write_dynamicearthnet_2021,
    "dynamicearthnet-2022": write_dynamicearthnet_2022,
    "sztaki": write_sztaki,
    "quickbird": write_quickbird,
}
"""Writers by name of the data set."""


def write_miniature(name: str, folder: Path, seed: int = 0) -> Path:
    """Write the miniature of a data set.

    Parameters
    ----------
    name : str
        Of the data set.
    folder : Path
        Its root; must be new or empty, so that made-up scenes never mix with real ones.
    seed : int
        Of all that is random: the same seed gives the same files.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    SpecError
        When there is no such data set.
    StoreError
        When the folder holds something.
    """
    if name not in MINIATURES:
        known = ", ".join(MINIATURES)
        raise SpecError(explain("unknown data set", expected=f"one of {known}", got=repr(name)))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StoreError(
            explain(f"{folder} is not empty", do="Name a new folder for the miniature.")
        )
    MINIATURES[name](folder, seed)
    return folder
