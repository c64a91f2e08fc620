"""``Tokens``: what lets assets be read that are not for everyone."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import monotonic

import requests

from cdscale.errors import ReadError
from cdscale.pixels.access import ASK_TIMEOUT, back_off, now_of, wait_of
from cdscale.spec.scene import Scene

TOKENS = "https://planetarycomputer.microsoft.com/api/sas/v1/token"
"""Where the Planetary Computer hands out tokens, one for each collection; they last some 45 min."""
TOKEN_SPARE = timedelta(minutes=5)
"""A token is renewed when less than this, or a fifth of its life, is left of it."""
TOKEN_LEAST = 30.0
"""Seconds for which a token is kept in any case: also one that is handed out as ended already,
by a server or beside a clock that goes wrong, is tried rather than asked for again at once."""
TOKEN_TRIES = 4


@dataclass
class _Kept:
    """The token of one collection."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    token: str = field(default="", repr=False)
    until: float = 0.0
    """By the clock that only goes forward."""


class Tokens:
    """Tokens that let assets be read, fetched when needed and kept until shortly before they end.

    They live in this process only: stores, receipts and errors hold hrefs without them. Threads
    that need the same one wait for one fetch.

    Parameters
    ----------
    address : str
        Where they are handed out, by collection.
    """

    def __init__(self, address: str = TOKENS) -> None:
        self._address = address
        self._kept: dict[str, _Kept] = {}
        self._lock = threading.Lock()

    def sign(self, href: str, scene: Scene) -> str:
        """The href as it can be opened now.

        Raises
        ------
        ReadError
            When no token is to be had.
        """
        if scene.access.signing == "none":
            return href
        kept = self._of(scene)
        with kept.lock:
            if monotonic() >= kept.until:
                kept.token, life = self._fetch(scene)
                spare = min(TOKEN_SPARE.total_seconds(), life / 5)
                kept.until = monotonic() + max(TOKEN_LEAST, life - spare)
            return f"{href}{'&' if '?' in href else '?'}{kept.token}"

    def renew(self, refused: str, scene: Scene) -> bool:
        """Forget the token with which an address was refused, unless it is another by now.

        Returns whether another try makes sense: there are tokens at all.
        """
        if scene.access.signing == "none":
            return False
        kept = self._of(scene)
        with kept.lock:
            if kept.token and refused.endswith(kept.token):
                kept.until = 0.0
        return True

    def _of(self, scene: Scene) -> _Kept:
        with self._lock:
            return self._kept.setdefault(scene.collection, _Kept())

    def _fetch(self, scene: Scene) -> tuple[str, float]:
        """A token and the seconds that it lasts."""
        address, why = f"{self._address}/{scene.collection}", ""
        for number in range(TOKEN_TRIES):
            wait = 0.0
            try:
                answer = requests.get(address, timeout=ASK_TIMEOUT, allow_redirects=False)
                wait = wait_of(answer)
                answer.raise_for_status()
                said = answer.json()
                ends = datetime.fromisoformat(said["msft:expiry"])
                return str(said["token"]), (ends.astimezone(UTC) - now_of(answer)).total_seconds()
            except (requests.RequestException, KeyError, TypeError, ValueError) as err:
                response = getattr(err, "response", None)
                why = type(err).__name__ if response is None else f"HTTP {response.status_code}"
            if number + 1 < TOKEN_TRIES:
                back_off(number, at_least=wait)
        raise ReadError(
            f"scene {scene.id}: no token for {scene.collection} ({why})", permanent=False
        )
