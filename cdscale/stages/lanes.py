"""Several tasks of one process, each in another phase: one reads, one computes, one writes.

A task has three phases: its inputs are read and decoded, a network runs over them on the device,
and what it says is packed, encoded, written, read back and receipted. A worker has as many threads
as lanes, each with one task in hand, and no more blocks of pixels than theirs. Only the device is
one task's at a time: two networks at once take twice its memory and are no faster. While one task
has it, others read and write.

Nothing holds tasks back from reading or writing. There are never more of them than lanes, and a
gate could only leave lanes idle where reading, or writing, is what takes longest.

A task without a network never asks for the device. Where it waits for servers it reads several
scenes at once by itself, so that further lanes gain it little on a processor that is busy.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

_device = threading.Lock()
_hand = threading.Lock()
_taken: set[int] = set()


@contextmanager
def on_device() -> Iterator[None]:
    """Have the device of this process to oneself; wait for it where another task has it."""
    with _device:
        yield


@contextmanager
def in_hand() -> Iterator[int]:
    """Number of a lane, from 1 on, that no other task of this process has meanwhile."""
    with _hand:
        number = next(n for n in count(1) if n not in _taken)
        _taken.add(number)
    try:
        yield number
    finally:
        with _hand:
            _taken.remove(number)
