"""How many windows go through a network at once, and how large: searched once, less if need be.

Neither decides what a map says; both decide how fast it comes, and whether memory suffices.
"""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cdscale.inference.device import out_of_memory

SMALLEST_CORE = 64
"""Below this a window is nearly all halo."""
MOST_WINDOWS = 64
"""In one batch."""
WORTH = 1.05
"""A batch of twice the size is taken where it is faster, window by window, by more than this."""


@dataclass(frozen=True)
class Sizes:
    """Side of what one window yields, and windows in a batch."""

    core: int
    batch: int

    def smaller(self, stride: int) -> Sizes | None:
        """What takes about half the memory: half the batch, then half the core; None: nothing."""
        if self.batch > 1:
            return Sizes(self.core, self.batch // 2)
        core = self.core // 2 // stride * stride
        return Sizes(core, 1) if core >= SMALLEST_CORE else None

    def within(self, other: Sizes | None) -> Sizes:
        """No larger than others."""
        if other is None:
            return self
        return Sizes(min(self.core, other.core), min(self.batch, other.batch))


def best_batch(seconds_of: Callable[[int], float], most: int = MOST_WINDOWS) -> int:
    """Windows in the fastest batch: 1, 2, 4 and so on, as long as doubling pays.

    Parameters
    ----------
    seconds_of : callable
        Time that a batch takes. A ``RuntimeError`` that says "out of memory" ends the search.
    most : int
        The largest.
    """
    best, seconds = 1, _tried(seconds_of, 1)
    while 2 * best <= most and math.isfinite(seconds):
        doubled = _tried(seconds_of, 2 * best)
        if 2 * seconds <= WORTH * doubled:
            break
        best, seconds = 2 * best, doubled
    return best


def _tried(seconds_of: Callable[[int], float], batch: int) -> float:
    """Seconds of a batch, without end where memory does not suffice."""
    try:
        return seconds_of(batch)
    except RuntimeError as err:
        if not out_of_memory(err):
            raise
        return math.inf


def fitting(batch: int, windows: int) -> int:
    """A batch for so many windows: the smallest power of two that holds them, or ``batch``.

    A batch is filled up, so that a large one would waste most of itself on few windows; powers of
    two keep the shapes that a network sees few.
    """
    return min(batch, 1 << max(0, windows - 1).bit_length())


class Memory:
    """Batches found before, by card, device, core and precision; kept in the user's cache.

    A file that cannot be read or written is as good as none.
    """

    def __init__(self, file: Path) -> None:
        self._file, self._lock = file, threading.Lock()
        self._known: dict[str, int] = {}

    def batch(self, key: str, search: Callable[[], int]) -> int:
        """The batch of a key, searched where nobody knows it."""
        with self._lock:
            if key not in self._known:
                self._known |= self._read()
            if key not in self._known:
                self._known[key] = search()
                self._write(key)
            return self._known[key]

    def _read(self) -> dict[str, int]:
        try:
            found = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        if not isinstance(found, dict):
            return {}
        return {k: n for k, n in found.items() if type(n) is int and 1 <= n <= MOST_WINDOWS}

    def _write(self, key: str) -> None:
        """Add to what others may have written in the meantime; whole or not at all."""
        text = json.dumps(self._read() | {key: self._known[key]}, indent=1, sort_keys=True)
        part = self._file.with_name(f".{self._file.name}.{os.getpid()}-{threading.get_ident()}")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(text + "\n", encoding="utf-8")
            os.replace(part, self._file)
        except OSError:
            with suppress(OSError):
                part.unlink()


def cache_file() -> Path:
    """Where batches are remembered between processes."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "cdscale" / "batches.json"


class Limits:
    """Sizes that memory sufficed for in this process, where larger ones failed."""

    def __init__(self) -> None:
        self._held: dict[str, Sizes] = {}

    def of(self, key: str) -> Sizes | None:
        """Of a card on a device in a precision; None where nothing has failed."""
        return self._held.get(key)

    def lower(self, key: str, sizes: Sizes) -> None:
        """Remember, from now on."""
        self._held[key] = sizes.within(self._held.get(key))


memory = Memory(cache_file())
limits = Limits()
