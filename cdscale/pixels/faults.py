"""Reading in spite of faults: which are for good, which pass, and the loop that tells them."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from typing import TypeVar

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from cdscale.errors import ReadError, explain
from cdscale.pixels.access import Source, Target, ask, back_off, redacted
from cdscale.pixels.files import Incomplete, Unfit, opened
from cdscale.pixels.tiff import BadHeader
from cdscale.pixels.tokens import Tokens

TRIES = 6
"""How often one asset is asked for in one read."""
# The last is a warning, which some programs have raised.
FAILURES = (
    RasterioError, RuntimeError, OSError, ValueError, Incomplete, BadHeader,
    NotGeoreferencedWarning,
)  # fmt: skip

_GONE = re.compile(
    r"No such file|does not exist|HTTP response code: (404|410)|specified key|NoSuch", re.IGNORECASE
)
_REFUSED = re.compile(
    r"Permission denied|HTTP response code: (401|403)|Access ?Denied|InvalidAccessKey|"
    r"SignatureDoesNotMatch|InvalidCredentials",
    re.IGNORECASE,
)
_KEYLESS = re.compile(
    r"AWS_SECRET_ACCESS_KEY.* not defined|No valid AWS credentials", re.IGNORECASE
)
_DAMAGED = re.compile(
    r"not recognized as|TIFFReadEncoded|TIFFFillTile|TIFFFillStrip|TIFFReadDirectory|ZIPDecode|"
    r"LZWDecode|Decoding error|came short|beyond its end|table of blocks|where it lies|"
    r"no geotransform|opj_|JPEG ?2000",
    re.IGNORECASE,
)

T = TypeVar("T")


class Kind(Enum):
    """What a failure means for another try."""

    GONE = "not there"
    REFUSED = "not allowed"
    KEYLESS = "no keys"
    DAMAGED = "damaged"
    PASSING = "did not come"


def persist(
    source: Source, tokens: Tokens, read: Callable[[Target, rasterio.DatasetReader], T]
) -> T:
    """Open an asset and read from it, again where that may help.

    Another try forgets all that GDAL remembers of the last: it keeps what went wrong as well. The
    server is asked in between what the matter is, and left alone for as long as it says.

    Parameters
    ----------
    source : Source
        What to read.
    tokens : Tokens
        Signs what must be signed; a token that is refused is replaced once.
    read : callable
        Gets the open file, under the settings with which it was opened.

    Raises
    ------
    ReadError
        When all tries failed, or no other could help.
    """
    renewed = False
    for number in range(TRIES):
        target = Target(source, tokens.sign(source.asset.href, source.scene), number)
        try:
            with target.environment(), opened(target) as file:
                return read(target, file)
        except Unfit as err:
            raise _error(source, redacted(str(err)), permanent=True) from None
        except FAILURES as err:
            kind, why = classify(err)
        # From here on outside of the handler: what is raised carries no context that shows an
        # address.
        if not source.remote or kind is Kind.KEYLESS:
            raise _error(source, why, permanent=kind is not Kind.PASSING)
        said = ask(target) if target.plain_url else None
        if said is not None:
            kind = _kind_of(said.status, kind)
            why = f"{why} (HTTP {said.status})" if said.status >= 400 else why
        if kind is Kind.REFUSED and not renewed and tokens.renew(target.url, source.scene):
            renewed = True
            continue
        # What GDAL remembers is not believed; what the server says is.
        if kind in {Kind.GONE, Kind.REFUSED} and (said is not None or target.fresh):
            raise _error(source, f"{kind.value}: {why}", permanent=True)
        if number + 1 < TRIES:
            back_off(number, at_least=said.wait if said else 0.0)
    raise _error(source, f"{why} (after {TRIES} tries)", permanent=False)


def classify(err: BaseException) -> tuple[Kind, str]:
    """What a failure of GDAL means, and what it says, without the queries of addresses."""
    # GDAL tells the cause itself only in the errors that lie beneath.
    causes: list[str] = []
    beneath: BaseException | None = err
    while beneath is not None and len(causes) < 20:
        causes.append(str(beneath))
        beneath = beneath.__cause__ or beneath.__context__
    every = "\n".join(causes)
    why = next((text for text in causes if "See previous exception" not in text), causes[0])
    if _KEYLESS.search(every):
        return Kind.KEYLESS, explain(
            "no keys for its bucket",
            do="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment of the workers.",
        )
    for kind, pattern in (
        (Kind.REFUSED, _REFUSED),
        (Kind.GONE, _GONE),
        (Kind.DAMAGED, _DAMAGED),
    ):
        if pattern.search(every):
            return kind, redacted(why)
    return Kind.PASSING, redacted(why)


def _kind_of(status: int, kind: Kind) -> Kind:
    """What the server's own word makes of a failure over HTTP."""
    if status in {404, 410}:
        return Kind.GONE
    if status in {401, 403}:
        return Kind.REFUSED
    # It answers, or something passing is wrong: what GDAL said may be what it remembered.
    return Kind.DAMAGED if kind is Kind.DAMAGED else Kind.PASSING


def _error(source: Source, why: str, *, permanent: bool) -> ReadError:
    return ReadError(f"{source}: {why[:300]}", permanent=permanent)
