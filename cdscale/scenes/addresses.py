"""Where assets may be fetched from: catalogues are not trusted with what GDAL can reach."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

from cdscale.scenes.unusable import Unusable

_PORTS = {"http": 80, "https": 443}
_OPEN = re.compile(r"[^\x00-\x20\x7f<>|\\\"^`{}]+")
"""An address of a remote file: no control characters, no blanks, nothing that starts a driver."""
_SIGNED = {
    "sig", "signature", "x-amz-signature", "x-goog-signature", "x-amz-security-token",
    "awsaccesskeyid", "token", "access_token", "key-pair-id", "hdnea", "hdnts",
}  # fmt: skip
"""Parameters of which one is enough for the whole query to be a signature."""
_SECRET = re.compile(
    r"(^|api|access|subscription|account)[-_.]?key$|token|secret|passw|credential|signature|jwt|"
    r"(^|[-_.])auth(orization)?($|[-_.])",
    re.IGNORECASE,
)
"""Part of a name by which servers elsewhere call such a parameter."""
_KEPT = {"versionid"}


def canonical(href: str, hosts: Iterable[str], *, local: bool) -> str:
    """The address as it is kept: checked, and without a signature.

    Parameters
    ----------
    href : str
        As the item has it.
    hosts : iterable of str
        What the profile allows; see ``CollectionProfile.hosts``.
    local : bool
        Whether the catalogue lies on disk, so that assets may too.

    Raises
    ------
    Unusable
        Naming the address without what could be a secret in it.
    """
    try:
        url = urlsplit(href)
        host, port = url.hostname or "", url.port
    except ValueError:
        raise Unusable("its asset's address does not read") from None
    if url.scheme in {"", "file"}:
        if local and (path := _file(href, url)):
            return path
    elif _OPEN.fullmatch(href) and _allowed(url, host, port, hosts):
        return url._replace(query=_unsigned(url.query), fragment="").geturl()
    shown = f"{url.scheme}://{host}{url.path}" if host else url.path
    # An address within another one may have a user and a password too.
    shown = re.sub(r"[^\x20-\x7e]", "?", re.sub(r"//[^/]*@", "//", shown))
    raise Unusable(f"its asset lies where the profile does not allow it: {shown[:80]}")


def _file(href: str, url: SplitResult) -> str:
    """Path on disk; empty for what GDAL would take for more than a path."""
    if url.scheme and url.netloc not in {"", "localhost"}:
        return ""
    path = unquote(url.path) if url.scheme else href
    hostile = "/vsi" in path or any(
        ord(sign) < 32 or sign in "<>|" or "\ud800" <= sign <= "\udfff" for sign in path
    )
    return "" if hostile or not path.strip() or path.startswith("//") else path


def _allowed(url: SplitResult, host: str, port: int | None, hosts: Iterable[str]) -> bool:
    if not host or "@" in url.netloc or ".." in unquote(url.path).split("/"):
        return False
    # An address within GDAL's own file systems, however deep it is hidden.
    if "/vsi" in unquote(url.path):
        return False
    for one in hosts:
        if "://" not in one:
            there = host == one or host.endswith("." + one)
            if url.scheme == "https" and port in {None, 443} and there:
                return True
            continue
        origin = urlsplit(one)
        same = url.scheme == origin.scheme and host == origin.hostname
        if same and (port or _PORTS.get(url.scheme)) == (origin.port or _PORTS.get(url.scheme)):
            return True
    return False


def _unsigned(query: str) -> str:
    """The query without a signature; a version of the file is kept."""
    pairs = parse_qsl(query, keep_blank_values=True)
    if not any(key.lower() in _SIGNED or _SECRET.search(key) for key, _ in pairs):
        return query
    return urlencode([(key, value) for key, value in pairs if key.lower() in _KEPT])
