"""What disks and careless hands do to the files of a store."""

from __future__ import annotations

import os
import random
from pathlib import Path

DAMAGES = ("flip", "cut", "empty", "delete", "swap")


def damage(kind: str, file: Path, other: Path, rng: random.Random) -> None:
    """Damage a file.

    Parameters
    ----------
    kind : {"flip", "cut", "empty", "delete", "swap"}
        One bit flipped, the end cut off, no byte left, gone, or exchanged with another file.
    file : Path
        Which; it has bytes.
    other : Path
        The one that it is exchanged with.
    rng : random.Random
        Where.
    """
    content = bytearray(file.read_bytes())
    if kind == "flip":
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        file.write_bytes(content)
    elif kind == "cut":
        file.write_bytes(content[: rng.randrange(1, len(content))])
    elif kind == "empty":
        file.write_bytes(b"")
    elif kind == "delete":
        file.unlink()
    elif kind == "swap":
        beside = file.with_name(file.name + ".swap")
        os.replace(file, beside)
        os.replace(other, file)
        os.replace(beside, other)
    else:
        raise ValueError(kind)
