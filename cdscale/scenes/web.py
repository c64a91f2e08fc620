"""``Web``: JSON over HTTP that tries again, keeps to a budget, and tells no secret.

pystac-client leaves retries to urllib3, which sees statuses and lost connections only. Catalogues
also send half a page, or an HTML page with status 200; and every request has to be counted, those
of retries and redirects too. So each exchange is made once here, and the loop around it is ours.
"""

from __future__ import annotations

import json
import logging
import random
import re
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit, urlunsplit

import requests
from pystac_client.stac_api_io import StacApiIO
from requests.adapters import HTTPAdapter
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from cdscale.errors import CatalogueError, explain
from cdscale.spec.run import SearchLimits, public

TIMEOUT = (10.0, 60.0)
"""Seconds until a connection stands, and between two pieces of an answer."""
LONGEST_ANSWER = 300.0
"""Seconds until an answer is whole, however steadily it drips."""
LARGEST_ANSWER = 512 * 2**20
"""Bytes of one answer; a page of items has some millions."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds that the pause before a retry grows from and to; the pause is drawn below that."""
LONGEST_WISH = 120.0
"""Seconds that a ``Retry-After`` is heeded for; some say hours, or a date of another clock."""
REDIRECTS = 5

_HTTP_LOG = logging.getLogger("urllib3.connectionpool")
_NUMBER = re.compile(r"\s*\d+(\.\d*)?\s*")

_HEADER = re.compile(r"\b(Basic|Bearer|Token)\s+[\w+/=.~-]{8,}", re.IGNORECASE)
"""What a header ``Authorization`` holds."""

_PASSING = {408, 425, 429}
"""Statuses below 500 that another try may turn."""
_LASTING = {501, 505}
"""Statuses from 500 on that no other try turns."""


class Refused(Exception):
    """An answer that will be the same next time.

    Parameters
    ----------
    status : int
        Of HTTP; 0 where there was none.
    said : str
        What came, without secrets.
    """

    def __init__(self, status: int, said: str) -> None:
        super().__init__(status, said)
        self.status, self.said = status, said


class Unanswered(Exception):
    """No good answer in as many tries as allowed.

    Parameters
    ----------
    status : int
        Of the last try; 0 where there was none.
    said : str
        What came in the last try, without secrets.
    slow : bool
        Whether the last try took the server too long: less may be asked of it.
    """

    def __init__(self, status: int, said: str, *, slow: bool = False) -> None:
        super().__init__(status, said)
        self.status, self.said, self.slow = status, said, slow


class _Passing(Exception):
    """One try that failed in a way that may pass."""

    def __init__(self, said: str, status: int = 0, *, wish: str = "", slow: bool = False) -> None:
        super().__init__(said)
        self.said, self.status, self.wish, self.slow = said, status, wish, slow


class Budget:
    """Counts requests, and ends a search that takes too many.

    Parameters
    ----------
    limit : int
        Requests that may be made.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.spent = limit, 0

    def spend(self) -> None:
        """Count one request before it is made.

        Raises
        ------
        CatalogueError
            When it would be one too many.
        """
        if self.spent >= self.limit:
            raise CatalogueError(
                explain(
                    f"the search stopped after {self.spent} requests, retries included",
                    expected=f"at most {self.limit} (search.requests in the spec)",
                    do="Raise search.requests, or search for a smaller area or fewer months.",
                )
            )
        self.spent += 1


class _Counting(HTTPAdapter):
    """Every request passes here, also those that follow a redirect."""

    def __init__(self, budget: Budget) -> None:
        super().__init__(max_retries=0)
        self._budget = budget

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        self._budget.spend()
        return super().send(*args, **kwargs)


class Web(StacApiIO):
    """What pystac-client reads with; see the head of this file.

    User, password and query of the catalogue's address go with every request to its own host, and
    to no other.

    Parameters
    ----------
    address : str
        Of the catalogue.
    limits : SearchLimits
        Tries and requests allowed.

    Attributes
    ----------
    name : str
        The address without its secrets.
    """

    def __init__(self, address: str, limits: SearchLimits) -> None:
        super().__init__(max_retries=None, timeout=None)
        self.budget = Budget(limits.requests)
        self._tries = limits.tries
        self.name = public(address)
        try:
            parts = urlsplit(address)
            self._home = parts.scheme, parts.hostname, parts.port
        except ValueError:
            raise CatalogueError(
                explain(
                    "the catalogue's address does not read",
                    expected="an address like https://host/path",
                    got=self.name,
                )
            ) from None
        self._keys = dict(parse_qsl(parts.query))
        self._login = (unquote(parts.username or ""), unquote(parts.password or ""))
        texts = {*self._keys.values(), *self._login, parts.username or "", parts.password or ""}
        texts |= {quote(text, safe="") for text in texts}
        # Shorter ones are versions and switches, and would make messages unreadable.
        self._secrets = sorted((text for text in texts if len(text) > 3), key=len, reverse=True)
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, _Counting(self.budget))
        self.session.max_redirects = REDIRECTS
        if self._secrets:
            _HTTP_LOG.addFilter(self._filter)

    def get(self, address: str) -> dict[str, Any]:
        """One JSON object.

        Raises
        ------
        Refused, Unanswered
            When it does not come.
        CatalogueError
            When the budget is spent.
        """
        return self.read_json(address)

    def read_json(self, source: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As pystac has it, for objects only: whatever else is JSON is no STAC."""
        data: Any = super().read_json(source, *args, **kwargs)
        if not isinstance(data, dict):
            raise Refused(HTTPStatus.OK, f"JSON that is no object, but a {type(data).__name__}")
        return data

    def json_loads(self, txt: str, *_: Any, **__: Any) -> Any:
        """As Python reads it: servers send NaN, which JSON proper does not have."""
        return json.loads(txt)

    def read_text(self, source: Any, *args: Any, **kwargs: Any) -> str:
        """As pystac-client has it, but no link leads from a server to files or to inner hosts."""
        href = str(getattr(source, "href", source))
        try:
            parts = urlsplit(href)
            plain = parts.scheme == "http" and self._home[1] in {None, parts.hostname}
        except ValueError:
            parts, plain = urlsplit(""), False
        if parts.scheme != "https" and not plain:
            raise Refused(0, f"a link that leads elsewhere: {self.hide(public(href))[:200]}")
        return super().read_text(source, *args, **kwargs)

    def request(
        self,
        href: str,
        method: str | None = None,
        headers: dict[str, str] | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> str:
        """Text of one JSON document, tried again as long as there is hope.

        Raises
        ------
        Refused, Unanswered
            When it does not come.
        CatalogueError
            When the budget is spent.
        """
        number = 0
        while True:
            number += 1
            try:
                prepared = self._prepared(href, (method or "GET").upper(), headers, parameters)
                return self._exchange(prepared)
            except _Passing as fault:
                if number >= self._tries:
                    said = f"{fault.said}, at the end of {number} tries"
                    raise Unanswered(fault.status, self.hide(said), slow=fault.slow) from None
                wish = _wish(fault.wish)
            except requests.RequestException as err:
                # Its text may hold the whole address.
                said = f"an address that cannot be asked ({type(err).__name__})"
                raise Refused(0, f"{said}: {self.hide(public(href))[:200]}") from None
            # Full jitter: clients that failed together do not come back together.
            ceiling = min(FIRST_PAUSE * 2 ** (number - 1), LONGEST_PAUSE)
            pause(wish + random.uniform(0, ceiling))

    def _prepared(
        self, href: str, method: str, headers: Any, parameters: Mapping[str, Any] | None
    ) -> requests.PreparedRequest:
        parts = urlsplit(href)
        if self._home[0] == "https" and (parts.scheme, parts.netloc) == ("http", self._home[1]):
            # Servers behind a proxy often do not know that they are asked over https.
            href = urlunsplit(parts._replace(scheme="https"))
            parts = urlsplit(href)
        given = dict(parameters or {})
        body = given if method in {"POST", "PUT", "PATCH"} else None
        query, login = (given if body is None else {}), None
        if (parts.scheme, parts.hostname, parts.port) == self._home:
            there = dict(parse_qsl(parts.query))
            query = {**{k: v for k, v in self._keys.items() if k not in there}, **query}
            login = self._login if any(self._login) else None
        asked = requests.Request(method, href, headers=headers, params=query, json=body, auth=login)
        return self.session.prepare_request(asked)

    def _exchange(self, prepared: requests.PreparedRequest) -> str:
        """One try.

        Raises
        ------
        _Passing, Refused
            When no JSON comes.
        """
        url = str(prepared.url)
        settings = self.session.merge_environment_settings(url, {}, True, None, None)
        try:
            # A redirected POST would be asked again as a GET, without what it asked for.
            redirects = prepared.method == "GET"
            with self.session.send(
                prepared, timeout=TIMEOUT, allow_redirects=redirects, **settings
            ) as response:
                body = _body(response)
        except requests.ReadTimeout:
            raise _Passing("no answer in time", slow=True) from None
        except requests.exceptions.ChunkedEncodingError:
            raise _Passing("an answer that ends early") from None
        except requests.exceptions.ContentDecodingError:
            raise _Passing("an answer that does not unpack") from None
        except requests.ConnectionError as err:
            cause = _cause(err)
            raise _Passing(f"no connection ({cause})", slow="ReadTimeout" in cause) from None
        status = response.status_code
        if 200 <= status < 300:
            text = _decoded(body)
            if text is None:
                kind = "an HTML page" if b"<html" in body[:2000].lower() else "no JSON"
                raise _Passing(f"{kind} with status {status}", status)
            return text
        said = self.hide(f"status {status}{_told(body)}")
        if status in _PASSING or (status >= 500 and status not in _LASTING):
            wish = str(response.headers.get("Retry-After", ""))
            raise _Passing(said, status, wish=wish, slow=status == HTTPStatus.GATEWAY_TIMEOUT)
        raise Refused(status, said)

    def close(self) -> None:
        """Let go of connections, and of the log."""
        self.session.close()
        _HTTP_LOG.removeFilter(self._filter)

    def _filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self.hide(record.getMessage()), ()
        return True

    def hide(self, text: str) -> str:
        """The text without the secrets of the catalogue's address, and without keys of headers.

        Some servers' errors show what they were asked, user and password in base64 included; those
        of a ``.netrc`` are not known here.
        """
        text = _HEADER.sub(r"\1 ***", text)
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def pause(seconds: float) -> None:
    """Wait before the next try."""
    time.sleep(seconds)


def _wish(header: str) -> float:
    """Seconds that a ``Retry-After`` asks for, in seconds or as a date."""
    try:
        wish = float(header) if _NUMBER.fullmatch(header) else Retry().parse_retry_after(header)
    except (InvalidHeader, OverflowError, ValueError):
        return 0.0
    return min(wish, LONGEST_WISH)


def _body(response: requests.Response) -> bytes:
    """The whole of an answer, unless it never ends."""
    pieces, size, until = [], 0, time.monotonic() + LONGEST_ANSWER
    for piece in response.iter_content(2**16):
        pieces.append(piece)
        size += len(piece)
        if size > LARGEST_ANSWER:
            raise Refused(response.status_code, f"an answer of more than {LARGEST_ANSWER} bytes")
        if time.monotonic() > until:
            raise _Passing("an answer that does not end", slow=True)
    return b"".join(pieces)


def _decoded(body: bytes) -> str | None:
    """The text, if it is JSON."""
    try:
        text = body.decode("utf-8-sig")
        json.loads(text)
    except (ValueError, RecursionError):
        return None
    return text


def _told(body: bytes) -> str:
    """What an error's body says for people, in one short line."""
    try:
        data = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        return ""
    fields = data if isinstance(data, dict) else {}
    for key in ("description", "detail", "message", "errors", "error"):
        if fields.get(key):
            return ": " + re.sub(r"\s+", " ", str(fields[key]))[:200]
    return ""


def _cause(err: BaseException) -> str:
    """Why there was no connection, by the name of the innermost error: texts hold addresses."""
    inner = err.args[0] if err.args and isinstance(err.args[0], BaseException) else None
    reason = getattr(inner, "reason", None) or inner or err
    return type(reason).__name__
