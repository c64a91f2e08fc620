"""How assets are reached: paths and settings for GDAL, and questions put to servers.

Which hosts and buckets may be asked is decided where items are read (``spec.profile``). GDAL
follows a redirect wherever it leads and knows no setting against it; what comes back is opened by
no driver but those of ``files.DRIVERS``, and the questions that are put here follow none.
"""

from __future__ import annotations

import logging
import os
import random
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any

import rasterio
import requests

from cdscale.spec.scene import Asset, Scene

GDAL_OPTIONS = {
    # A look into the folder of each file would be a request more, or many.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    # Little troubles of single requests are mended where they happen. 429 is not among them: GDAL
    # does not read Retry-After, and the loop in ``faults`` does.
    "GDAL_HTTP_MAX_RETRY": "2",
    "GDAL_HTTP_RETRY_DELAY": "0.3",
    "GDAL_HTTP_RETRY_CODES": "500,502,503,504",
    # GDAL waits for ever unless told otherwise.
    "GDAL_HTTP_TIMEOUT": "60",
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1000",
    "GDAL_HTTP_LOW_SPEED_TIME": "20",
    "GDAL_CACHEMAX": 256,
}
"""What holds for every read."""
REMOTE_OPTIONS = {
    # Tables of blocks of a large file come with its header.
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
}
"""What holds as well where a file lies behind a network."""
REMOTE_THREADS = 16
"""Reading over a network waits: so many assets are asked for at once in one process."""

LONGEST_WAIT = 60.0
"""Seconds; a server that asks for more is asked again after this."""
ASK_TIMEOUT = 15.0


@dataclass(frozen=True)
class Source:
    """One asset of one scene that is to be read."""

    scene: Scene
    name: str
    asset: Asset

    @property
    def scheme(self) -> str:
        """``http``, ``https``, ``s3``; empty for a file."""
        scheme, found, _ = self.asset.href.partition("://")
        return scheme.lower() if found else ""

    @property
    def remote(self) -> bool:
        """Whether it lies behind a network."""
        return self.scheme not in {"", "file"}

    @property
    def over_http(self) -> bool:
        """Whether a server can be asked for it without GDAL."""
        return self.scheme in {"http", "https"}

    def __str__(self) -> str:
        return f"scene {self.scene.id}: {self.name}"


@dataclass(frozen=True)
class Target:
    """A source as it can be opened now. Holds a secret, and shows none."""

    source: Source
    url: str = field(repr=False)
    number: int = 0
    """Of the try, from 0 on."""

    @property
    def fresh(self) -> bool:
        """Whether nothing may come from GDAL's memory of earlier requests: it may be the fault.

        Of buckets GDAL forgets only after it has used what it remembers once more: there, nothing
        is remembered from the start.
        """
        return self.number > 0 or self.source.scheme == "s3"

    @property
    def plain_url(self) -> str:
        """An address that any client can read; empty where there is none without keys."""
        if self.source.over_http:
            return self.url
        access = self.source.scene.access
        if self.source.scheme != "s3" or not access.s3_unsigned:
            return ""
        host = access.s3_endpoint or "s3.amazonaws.com"
        host = host if "://" in host else f"https://{host}"
        return f"{host.rstrip('/')}/{self.url.partition('://')[2]}"

    @property
    def path(self) -> str:
        """The name under which GDAL opens it."""
        href = self.url
        if self.source.over_http:
            return f"/vsicurl/{href}"
        if self.source.scheme == "s3":
            return f"/vsis3/{href.partition('://')[2]}"
        return href.removeprefix("file://")

    @property
    def options(self) -> dict[str, Any]:
        """Settings of GDAL under which it is opened and read."""
        options: dict[str, Any] = dict(GDAL_OPTIONS)
        if not self.source.remote:
            return options
        options |= REMOTE_OPTIONS
        access = self.source.scene.access
        if self.source.scheme == "s3":
            options["AWS_NO_SIGN_REQUEST"] = "YES" if access.s3_unsigned else "NO"
            if access.requester_pays:
                options["AWS_REQUEST_PAYER"] = "requester"
            if access.s3_endpoint:
                scheme, found, host = access.s3_endpoint.rpartition("://")
                options["AWS_S3_ENDPOINT"] = host.rstrip("/")
                options["AWS_HTTPS"] = "NO" if found and scheme == "http" else "YES"
                options["AWS_VIRTUAL_HOSTING"] = "FALSE"
        if self.fresh:
            # GDAL keeps what came of a request, and that there was nothing: what it keeps may be
            # the fault. A prefix is enough; the setting is split at colons.
            options["CPL_VSIL_CURL_NON_CACHED"] = "/vsis3/:/vsicurl/"
        return options

    def environment(self) -> rasterio.Env:
        """The settings as a context; they hold for the thread that enters it."""
        return rasterio.Env(**self.options)


@cache
def remote_pool() -> ThreadPoolExecutor:
    """The threads of this process that wait for servers."""
    return ThreadPoolExecutor(REMOTE_THREADS, thread_name_prefix="cdscale-read")


# Threads do not live on in a process that was forked off.
os.register_at_fork(after_in_child=remote_pool.cache_clear)


# ------------------------------------------------------------------------------ asking, waiting

FIRST_WAIT = 0.5
"""Seconds, at most, before the second try; doubled for each one after."""


def back_off(number: int, *, at_least: float = 0.0) -> None:
    """Wait before another try: a random time below a bound that doubles with each.

    Many that failed together must not come back together: hence all of the wait is random.
    """
    drawn = random.uniform(0, min(LONGEST_WAIT, FIRST_WAIT * 2**number))
    time.sleep(at_least + drawn if at_least else drawn)


@dataclass(frozen=True)
class Said:
    """What a server says of an address when it is asked for a single byte."""

    status: int
    """0 where it did not answer."""
    wait: float = 0.0
    """Seconds that it asks to be left alone."""


def ask(target: Target) -> Said:
    """Ask a server what the matter is: GDAL drops most of what it says.

    A failed read is most often told as bytes that did not come, whatever the status was.
    """
    try:
        with requests.get(
            target.plain_url,
            headers={"Range": "bytes=0-0"},
            timeout=ASK_TIMEOUT,
            allow_redirects=False,
            stream=True,
        ) as answer:
            return Said(answer.status_code, wait_of(answer))
    except requests.RequestException:
        return Said(0)


def wait_of(answer: requests.Response) -> float:
    """Seconds that a server asks to be left alone, within bounds."""
    text = answer.headers.get("Retry-After", "").strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(text) - now_of(answer)).total_seconds()
        except (ValueError, TypeError):
            return 0.0
    return min(max(seconds, 0.0), LONGEST_WAIT)


def now_of(answer: requests.Response) -> datetime:
    """The moment by the server's own clock, so that a local one may be wrong."""
    try:
        return parsedate_to_datetime(answer.headers["Date"]).astimezone(UTC)
    except (KeyError, ValueError, TypeError):
        return datetime.now(UTC)


# ---------------------------------------------------------------------------------------- secrets

_QUERY = re.compile(r"\?[^'\"\s,;]*")


def redacted(text: str) -> str:
    """A text without the queries of the addresses in it, which may hold tokens."""
    return _QUERY.sub("", text)


class _Redact(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redacted(record.getMessage()), ()
        return True


def keep_secrets_out_of_logs() -> None:
    """Libraries log the addresses that they fail to open, as they were given."""
    for name in (
        "rasterio", "rasterio._env", "rasterio._err", "rasterio._io", "rasterio._base",
        "rasterio._warp", "rasterio.env", "rasterio.session", "stackstac.rio_reader",
        "odc.loader._rio", "urllib3.connectionpool",
    ):  # fmt: skip
        logger = logging.getLogger(name)
        if not any(isinstance(there, _Redact) for there in logger.filters):
            logger.addFilter(_Redact())


keep_secrets_out_of_logs()
