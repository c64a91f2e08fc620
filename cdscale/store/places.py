"""Where stores lie, for whoever only reads them: a folder, or a prefix of an S3 bucket.

Runs write to disks; what they wrote may be copied to a bucket and asked there. S3 is spoken through
obstore: one wheel without dependencies, whose requests run outside the interpreter's lock, and that
takes credentials from the environment (``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``,
``AWS_SESSION_TOKEN``, ``AWS_REGION``, ``AWS_ENDPOINT_URL``; web identities, and containers').
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from cdscale.errors import SpecError, StoreError, explain

Answer = TypeVar("Answer")

SCHEME = "s3://"
CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
TRIES = 3
"""Of a request that a bucket did not answer, after the first; in half a minute at most."""


class Place(Protocol):
    """Something to read from by name, and what lies in it; a path is one."""

    @property
    def name(self) -> str:
        """The last part."""

    @property
    def parent(self) -> Self:
        """What it lies in."""

    def __truediv__(self, key: str, /) -> Self: ...

    def read_bytes(self) -> bytes:
        """Everything that is there; ``FileNotFoundError`` where nothing is."""

    def read_text(self, encoding: str | None = None) -> str:
        """The same as text."""


def no_store(place: Place) -> StoreError:
    """The error for a place without a store; in a folder of stores, a run's, it names them."""
    said = f"there is no Zarr store at {place}"
    try:
        inside = sorted(p.name for p in Path(str(place)).iterdir() if p.suffix == ".zarr")
    except OSError:
        inside = []
    if inside:
        return StoreError(explain(said, do=f"It holds {', '.join(inside)}: name one of them."))
    return StoreError(explain(said, do="Check the path, or run first."))


def find(text: str | Path) -> Place:
    """Where a store lies that a user names: ``s3://BUCKET/PREFIX``, or a path.

    Raises
    ------
    SpecError
        For another scheme, or an address without a bucket.
    """
    said = str(text)
    scheme, colon, rest = said.partition("://")
    if not colon:
        return Path(said).expanduser()
    if f"{scheme.lower()}://" != SCHEME or not rest.partition("/")[0]:
        raise SpecError(
            explain(f"{said} is no place of a store", expected="a folder, or s3://BUCKET/PREFIX")
        )
    return Remote(SCHEME + rest.rstrip("/"))


@dataclass(frozen=True)
class Remote:
    """An object in a bucket, or the prefix of some. Nothing is asked before something is read."""

    url: str

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        """The last part."""
        return self.url.rpartition("/")[2]

    @property
    def parent(self) -> Remote:
        """What it lies in; a bucket lies in itself."""
        return self if self.key == "" else Remote(self.url.rpartition("/")[0])

    def __truediv__(self, key: str) -> Remote:
        return Remote(f"{self.url}/{key}")

    @property
    def bucket(self) -> str:
        """Name of the bucket."""
        return self.url.removeprefix(SCHEME).partition("/")[0]

    @property
    def key(self) -> str:
        """Name within the bucket."""
        return self.url.removeprefix(SCHEME).partition("/")[2]

    def read_bytes(self) -> bytes:
        """Everything that is there.

        Raises
        ------
        FileNotFoundError
            When nothing is.
        StoreError
            When the bucket is not there, or does not let us read.
        """
        return bytes(self.asked(lambda client, key: client.get(key).bytes()))

    def read_text(self, encoding: str | None = None) -> str:
        """The same as text."""
        return self.read_bytes().decode(encoding or "utf-8")

    def asked(self, ask: Callable[[Any, str], Answer]) -> Answer:
        """Ask the bucket; what it refuses is an error that says what to do."""
        import obstore.exceptions as trouble

        try:
            return ask(_client(self.bucket), self.key)
        except (FileNotFoundError, trouble.NotFoundError):
            raise FileNotFoundError(2, "no such object", self.url) from None
        except (trouble.PermissionDeniedError, trouble.UnauthenticatedError) as err:
            raise StoreError(
                explain(
                    f"{self.url} may not be read",
                    got=_short(err),
                    do="Credentials come from the environment: AWS_ACCESS_KEY_ID and "
                    "AWS_SECRET_ACCESS_KEY, or none for a public bucket. Without the right to list "
                    "a bucket it refuses what is not there, too.",
                )
            ) from None
        except trouble.BaseError as err:
            raise StoreError(
                explain(
                    f"{self.url} does not read",
                    got=_short(err),
                    do="Check the bucket, AWS_REGION and AWS_ENDPOINT_URL.",
                )
            ) from None


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


@cache
def _client(bucket: str) -> Any:
    """The connections to a bucket, kept as long as the process."""
    from obstore.store import S3Store

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    options: dict[str, Any] = {"endpoint": endpoint} if endpoint else {}
    unasked = os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true"
    if unasked and not any(os.environ.get(name) for name in CREDENTIALS):
        # Else the client asks the machine's metadata service for some, and waits for it.
        options["skip_signature"] = True
    return S3Store(
        bucket,
        client_options={
            "allow_http": endpoint.startswith("http://"),
            "timeout": "30s",
            "connect_timeout": "5s",
        },
        retry_config={"max_retries": TRIES, "retry_timeout": timedelta(seconds=30)},
        **options,
    )
