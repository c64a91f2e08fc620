"""``FaultServer``: a file server and proxy that fails on purpose, in a process of its own.

GDAL holds the interpreter's lock while it opens a file, so that a server in a thread of the same
process would never answer. The child runs this file alone, with nothing but the standard library,
and ends with its parent. Tests change what it does while it runs, and read what it was asked.
"""

from __future__ import annotations

import fnmatch
import hashlib
import http.client
import json
import subprocess
import sys
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

RANDOM_KINDS = ("429", "500", "503", "short", "cut", "html", "drop")
"""Faults that come and go on real servers, and cost no more time than an answer."""
KINDS = (*RANDOM_KINDS, "stall", "302", "401", "403", "404", "408", "410", "502", "504")
CONTROL = "/-/"
"""Paths below it steer the server; they are neither counted nor logged."""
NOTED_HEADERS = ("x-amz-request-payer", "authorization")


@dataclass(frozen=True)
class Fault:
    """One way to fail, and when.

    Parameters
    ----------
    kind : str
        An HTTP status (``429``, ``503``, ...), or ``short`` (the length is promised in full, the
        connection ends half-way), ``cut`` (half the bytes, and a length that says so), ``html`` (a
        page with status 200), ``drop`` (the connection ends without an answer), ``stall`` (the
        same after ``seconds``).
    path : str
        Pattern of the paths that it strikes, as for file names.
    rate : float
        Share of the requests that it strikes, chosen by the seed, the path and the count of the
        requests for that path: the same on each run, whatever the order between paths.
    first : int
        It strikes the first so many requests of each path as well.
    start : int
        Only requests for ranges that begin at this byte or later; 0: all.
    retry_after : float, optional
        Seconds that the answer asks the client to wait.
    seconds : float
        How long a stall takes.
    location : str
        Where a 302 leads.
    """

    kind: str
    path: str = "*"
    rate: float = 0.0
    first: int = 0
    start: int = 0
    retry_after: float | None = None
    seconds: float = 30.0
    location: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind of fault {self.kind!r}: one of {', '.join(KINDS)}")


@dataclass(frozen=True)
class Behaviour:
    """How a server treats requests; without arguments it is a healthy one.

    Parameters
    ----------
    faults : tuple of Fault
        The first that strikes a request decides.
    latency : float
        Seconds before every answer.
    seed : int
        Of everything random.
    signed : bool
        Files are only served to who gives a token that is still good (``sig=`` in the query).
    refusal : int
        Status for who does not.
    token_uses : int, optional
        A token is good for so many requests.
    token_seconds : float, optional
        A token is good for so long.
    token_says : float
        Seconds until the end that is told with a token; negative: it is said to have ended.
    """

    faults: tuple[Fault, ...] = ()
    latency: float = 0.0
    seed: int = 0
    signed: bool = False
    refusal: int = 403
    token_uses: int | None = None
    token_seconds: float | None = None
    token_says: float = 2700.0


def mixed_faults(
    rate: float, kinds: Iterable[str] = RANDOM_KINDS, **when: Any
) -> tuple[Fault, ...]:
    """Faults of several kinds, equally often, that strike a share of all requests together."""
    every = tuple(kinds)
    return tuple(Fault(kind, rate=rate / len(every), **when) for kind in every)


@dataclass(frozen=True)
class Request:
    """One request that a server was sent."""

    method: str
    path: str
    """Without the query."""
    range: str
    """As asked for, like ``bytes=0-16383``; empty where the whole was."""
    status: int
    """0 where there was no answer."""
    fault: str
    """Kind of the fault that struck it; ``signature`` for a token that was not good."""
    at: float
    """Seconds since the server started."""
    together: int
    """Requests under way at that moment, this one among them."""
    sent: int
    """Bytes of the body that went out."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """The few that tests look at; what authorises is only noted to be there."""


class FaultServer:
    """Serves a folder, or passes requests on to another server, and fails as it is told to.

    Use it as a context manager. ``/token/COLLECTION`` hands out tokens in the manner of the
    Planetary Computer.

    Parameters
    ----------
    folder : Path, optional
        Its files are served under their paths; ranges and ``HEAD`` are understood.
    upstream : str
        Address that answers what no file does.
    behaviour : Behaviour, optional
        How it begins.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        upstream: str = "",
        behaviour: Behaviour | None = None,
    ) -> None:
        self._start = {"folder": str(folder.resolve()) if folder else "", "upstream": upstream}
        self._first = behaviour or Behaviour()
        self._child: subprocess.Popen[str] | None = None
        self.port = 0

    def __enter__(self) -> FaultServer:
        command = [sys.executable, "-I", __file__, json.dumps(self._start)]
        self._child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._child.stdout is not None
        self.port = int(self._child.stdout.readline())
        self.behave(self._first)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None

    @property
    def url(self) -> str:
        """Address of the server, without a slash at its end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def tokens_url(self) -> str:
        """Address that hands out tokens, by collection."""
        return f"{self.url}/token"

    def behave(self, behaviour: Behaviour) -> None:
        """From now on treat requests like this; counts of requests begin anew, the log goes on."""
        self._control("behave", asdict(behaviour))

    def heal(self) -> None:
        """Be a healthy server from now on."""
        self.behave(Behaviour())

    def revoke(self) -> None:
        """Make every token that was handed out worthless."""
        self._control("revoke", {})

    def clear(self) -> None:
        """Forget the log."""
        self._control("clear", {})

    @property
    def log(self) -> list[Request]:
        """What was asked since the start or the last :meth:`clear`, in the order of the answers."""
        return [Request(**entry) for entry in self._control("log", {})]

    @property
    def count(self) -> int:
        """Number of requests in the log."""
        return len(self.log)

    def _control(self, verb: str, said: Mapping[str, Any]) -> Any:
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            link.request("POST", CONTROL + verb, body=json.dumps(said))
            return json.loads(link.getresponse().read())
        finally:
            link.close()


# ------------------------------------------------------------------------------------- the child


class _State:
    """What the threads of the server share."""

    def __init__(self, folder: str, upstream: str) -> None:
        self.folder = Path(folder) if folder else None
        self.upstream = urllib.parse.urlsplit(upstream)
        self.lock = threading.Lock()
        self.quiet = threading.Condition(self.lock)
        self.started = time.monotonic()
        self.behaviour = Behaviour()
        self.asked: Counter[tuple[str, str]] = Counter()
        self.log: list[dict[str, Any]] = []
        self.under_way = 0
        self.tokens: dict[str, tuple[float, int]] = {}
        self.handed_out = 0

    def control(self, verb: str, said: dict[str, Any]) -> Any:
        with self.lock:
            if verb == "behave":
                faults = tuple(Fault(**fault) for fault in said.pop("faults"))
                self.behaviour = Behaviour(faults=faults, **said)
                self.asked.clear()
            elif verb == "revoke":
                self.tokens.clear()
            elif verb == "clear":
                self.log.clear()
            elif verb == "log":
                # An answer may be with its asker before what became of it is noted here.
                self.quiet.wait_for(lambda: self.under_way == 0, timeout=1.0)
                return list(self.log)
        return {}

    def fault(self, path: str, start: int) -> Fault | None:
        """The fault that strikes the next request for a path."""
        with self.lock:
            chosen, below = None, 0.0
            self.asked[path, ""] += 1
            drawn = self._draw(path, self.asked[path, ""])
            for number, fault in enumerate(self.behaviour.faults):
                if not fnmatch.fnmatch(path, fault.path) or start < fault.start:
                    continue
                self.asked[path, str(number)] += 1
                below += fault.rate
                strikes = self.asked[path, str(number)] <= fault.first or drawn < below
                if strikes and chosen is None:
                    chosen = fault
            return chosen

    def _draw(self, path: str, number: int) -> float:
        text = f"{self.behaviour.seed} {path} {number}".encode()
        return int.from_bytes(hashlib.sha256(text).digest()[:6]) / 2**48

    def token(self) -> dict[str, str]:
        with self.lock:
            self.handed_out += 1
            name = f"t{self.handed_out}"
            self.tokens[name] = time.monotonic(), 0
        ends = datetime.now(UTC) + timedelta(seconds=self.behaviour.token_says)
        return {"token": f"sv=1&sig={name}", "msft:expiry": ends.isoformat()}

    def admits(self, query: str) -> bool:
        """Whether the token of a request is good; this is one of its uses."""
        now = self.behaviour
        if not now.signed:
            return True
        name = dict(urllib.parse.parse_qsl(query)).get("sig", "")
        with self.lock:
            since, uses = self.tokens.get(name, (0.0, 0))
            self.tokens |= {name: (since, uses + 1)} if name in self.tokens else {}
            return (
                name in self.tokens
                and (now.token_uses is None or uses < now.token_uses)
                and (now.token_seconds is None or time.monotonic() - since < now.token_seconds)
            )


@dataclass
class _Answer:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None
    """Of the body that a ``GET`` would have."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body in one packet: two small ones wait for each other.
    wbufsize = -1
    disable_nagle_algorithm = True
    state: _State

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing on the screen."""

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_GET

    def _serve(self) -> None:
        # Read in any case: what follows on a connection that is kept would else begin with it.
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        address = urllib.parse.urlsplit(self.path)
        path = urllib.parse.unquote(address.path)
        if path.startswith(CONTROL):
            said = self.state.control(path.removeprefix(CONTROL), json.loads(body))
            self._send(_Answer(200, json.dumps(said).encode()))
            return
        with self.state.lock:
            self.state.under_way += 1
            together = self.state.under_way
        at = time.monotonic() - self.state.started
        time.sleep(self.state.behaviour.latency)
        wanted = self.headers.get("Range") or ""
        fault = self.state.fault(path, _first_byte(wanted))
        name = fault.kind if fault else ""
        if not fault and not path.startswith("/token/") and not self.state.admits(address.query):
            name = "signature"
        noted = {key: self.headers[key] for key in NOTED_HEADERS if key in self.headers}
        if "authorization" in noted:
            noted["authorization"] = "present"
        entry = asdict(Request(self.command, path, wanted, 0, name, at, together, 0, noted))
        # In the log before the answer goes out: requests stand in it as they came.
        with self.state.lock:
            self.state.log.append(entry)
        with suppress(OSError):
            entry["status"], entry["sent"] = self._respond(path, body, fault, name)
        with self.state.quiet:
            self.state.under_way -= 1
            self.state.quiet.notify_all()

    def _respond(self, path: str, body: bytes, fault: Fault | None, name: str) -> tuple[int, int]:
        """Answer, or fail; the status and the bytes that went out."""
        if fault and fault.kind in {"drop", "stall"}:
            self._hang_up(fault)
            return 0, 0
        answer = self._answer(path, body, fault, name)
        return answer.status, self._send(answer, ends_early=name == "short")

    def _hang_up(self, fault: Fault) -> None:
        if fault.kind == "stall":
            time.sleep(fault.seconds)
        self.close_connection = True

    def _answer(self, path: str, body: bytes, fault: Fault | None, name: str) -> _Answer:
        if name == "signature":
            return _refusal(self.state.behaviour.refusal)
        if fault and fault.kind.isdigit():
            headers = {"Location": fault.location} if fault.location else {}
            if fault.retry_after is not None:
                headers["Retry-After"] = f"{fault.retry_after:g}"
            return _refusal(int(fault.kind), headers)
        if fault and fault.kind == "html":
            page = b"<html>down for maintenance</html>" * 50
            return _Answer(200, page, {"Content-Type": "text/html"})
        answer = self._found(path, body)
        if fault and fault.kind == "cut" and self.command != "HEAD":
            answer.body = answer.body[: len(answer.body) // 2]
            if "Content-Range" in answer.headers:
                span, _, size = answer.headers["Content-Range"].partition("/")
                first = int(span.removeprefix("bytes ").partition("-")[0])
                last = first + len(answer.body) - 1
                answer.headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        return answer

    def _found(self, path: str, body: bytes) -> _Answer:
        if path.startswith("/token/"):
            said = json.dumps(self.state.token()).encode()
            return _Answer(200, said, {"Content-Type": "application/json"})
        if self.state.folder is not None:
            file = (self.state.folder / path.lstrip("/")).resolve()
            if file.is_relative_to(self.state.folder) and file.is_file():
                return self._part(file)
        return self._passed_on(body) if self.state.upstream.netloc else _Answer(404, b"not here")

    def _part(self, file: Path) -> _Answer:
        headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        size = file.stat().st_size
        unit, _, span = (self.headers.get("Range") or "").partition("=")
        first, _, last = span.partition("-")
        if unit != "bytes" or not first.isdigit():
            if self.command == "HEAD":
                return _Answer(200, b"", headers, size)
            return _Answer(200, file.read_bytes(), headers)
        start, end = int(first), min(int(last or size), size - 1)
        if start >= size:
            return _Answer(416, b"", {"Content-Range": f"bytes */{size}"})
        headers["Content-Range"] = f"bytes {start}-{end}/{size}"
        with file.open("rb") as stream:
            stream.seek(start)
            return _Answer(206, stream.read(end - start + 1), headers)

    def _passed_on(self, body: bytes) -> _Answer:
        # The host that the client sees goes with it, so that links in the answer lead here again.
        dropped = {"connection", "content-length", "accept-encoding"}
        headers = {k: v for k, v in self.headers.items() if k.lower() not in dropped}
        there = http.client.HTTPConnection(self.state.upstream.netloc, timeout=60)
        try:
            target = self.state.upstream.path.rstrip("/") + self.path
            there.request(self.command, target, body=body or None, headers=headers)
            reply = there.getresponse()
            kept = {"content-type", "content-range", "location", "retry-after", "accept-ranges"}
            said = {k: v for k, v in reply.getheaders() if k.lower() in kept}
            length = reply.getheader("Content-Length") if self.command == "HEAD" else None
            return _Answer(reply.status, reply.read(), said, int(length) if length else None)
        except OSError:
            return _Answer(502, b"no upstream")
        finally:
            there.close()

    def _send(self, answer: _Answer, *, ends_early: bool = False) -> int:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        length = len(answer.body) if answer.length is None else answer.length
        self.send_header("Content-Length", str(length))
        self.end_headers()
        body = b"" if self.command == "HEAD" else answer.body
        if ends_early and body:
            body = body[: len(body) // 2]
            self.close_connection = True
        self.wfile.write(body)
        self.wfile.flush()
        return len(body)


def _refusal(status: int, headers: dict[str, str] | None = None) -> _Answer:
    """An answer as object stores give it: they say what is the matter in XML."""
    said = {404: "NoSuchKey", 403: "AccessDenied", 401: "InvalidAccessKeyId", 503: "SlowDown"}
    code = said.get(status, "InternalError")
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message></Error>"
    return _Answer(status, body.encode(), {"Content-Type": "application/xml", **(headers or {})})


def _first_byte(wanted: str) -> int:
    digits = wanted.partition("=")[2].partition("-")[0]
    return int(digits) if digits.isdigit() else 0


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is no news."""


def _main() -> None:
    _Handler.state = _State(**json.loads(sys.argv[1]))
    server = _Server(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    sys.stdin.read()  # ends with the parent, however that ends


if __name__ == "__main__":
    _main()
