"""``FaultServer`` does what it is told: a fault that never strikes would prove nothing."""

from __future__ import annotations

import contextlib
import http.client
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests

from cdscale.testing import Behaviour, Fault, FaultServer, mixed_faults

BODY = bytes(range(256)) * 40


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FaultServer]:
    for name in ("a.bin", "b.bin", "deep/c.bin"):
        path = tmp_path / "www" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(BODY)
    (tmp_path / "secret").write_text("not served")
    with FaultServer(tmp_path / "www") as running:
        yield running


def get(server: FaultServer, path: str = "a.bin", span: str = "") -> requests.Response:
    headers = {"Range": f"bytes={span}"} if span else {}
    return requests.get(f"{server.url}/{path}", headers=headers, timeout=10)


def test_a_healthy_server_serves_files_ranges_and_heads(server: FaultServer) -> None:
    assert get(server).content == BODY
    part = get(server, "deep/c.bin", "100-199")
    assert (part.status_code, part.content) == (206, BODY[100:200])
    assert part.headers["Content-Range"] == f"bytes 100-199/{len(BODY)}"
    assert get(server, span="10200-99999").content == BODY[10200:]
    assert get(server, span="99999-").status_code == 416
    head = requests.head(f"{server.url}/a.bin", timeout=10)
    assert (head.headers["Content-Length"], head.content) == (str(len(BODY)), b"")
    assert get(server, "nothing.bin").status_code == 404
    link = http.client.HTTPConnection("127.0.0.1", server.port)
    with contextlib.closing(link):  # not made tidy by the client
        link.request("GET", "/../secret")
        assert link.getresponse().status == 404


def test_the_log_says_what_was_asked_and_hides_the_query(server: FaultServer) -> None:
    get(server, "a.bin?sig=SECRET", "0-9")
    requests.get(f"{server.url}/b.bin", headers={"Authorization": "SECRET"}, timeout=10)
    first, second = server.log
    assert (first.method, first.path, first.range) == ("GET", "/a.bin", "bytes=0-9")
    assert (first.status, first.fault, first.sent) == (206, "", 10)
    assert second.headers == {"authorization": "present"}
    assert "SECRET" not in repr(server.log)
    assert server.count == 2
    server.clear()
    assert server.count == 0


@pytest.mark.parametrize("status", [401, 403, 404, 408, 410, 429, 500, 502, 503, 504])
def test_a_status_for_the_first_requests_of_each_path(server: FaultServer, status: int) -> None:
    server.behave(Behaviour(faults=(Fault(str(status), first=2, retry_after=3),)))
    for path in ("a.bin", "b.bin"):
        answers = [get(server, path) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [status, status, 200]
        assert answers[0].headers["Retry-After"] == "3"
    assert [entry.fault for entry in server.log] == [str(status), str(status), ""] * 2


def test_bodies_that_end_early(server: FaultServer) -> None:
    server.behave(Behaviour(faults=(Fault("short", first=1),)))
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        get(server)
    server.behave(Behaviour(faults=(Fault("cut", first=2),)))
    assert get(server).content == BODY[: len(BODY) // 2]
    part = get(server, span="100-199")
    assert part.content == BODY[100:150]
    assert part.headers["Content-Range"] == f"bytes 100-149/{len(BODY)}"
    assert get(server).content == BODY


def test_a_page_instead_of_the_file_a_dropped_connection_and_a_stall(server: FaultServer) -> None:
    server.behave(Behaviour(faults=(Fault("html", path="/a*"), Fault("drop", path="/b*"))))
    assert get(server).content == BODY  # no rate and no count: it never strikes
    server.behave(
        Behaviour(
            faults=(
                Fault("html", path="/a*", rate=1),
                Fault("drop", path="/b*", rate=1),
                Fault("stall", path="/deep/*", rate=1, seconds=0.3),
            )
        )
    )
    page = get(server)
    assert page.status_code == 200
    assert page.content.startswith(b"<html>")
    with pytest.raises(requests.ConnectionError):
        get(server, "b.bin")
    began = time.monotonic()
    with pytest.raises(requests.ConnectionError):
        get(server, "deep/c.bin")
    assert time.monotonic() - began > 0.25
    server.heal()
    assert get(server, "b.bin").content == BODY


def test_only_later_ranges_fail_where_told_so(server: FaultServer) -> None:
    server.behave(Behaviour(faults=(Fault("503", rate=1, start=1000),)))
    assert get(server, span="0-99").status_code == 206
    assert get(server, span="1000-1099").status_code == 503


def test_random_faults_are_the_same_on_each_run(server: FaultServer) -> None:
    behaviour = Behaviour(faults=mixed_faults(0.3, ("500", "cut", "html")), seed=7)
    runs = []
    for _ in range(2):
        server.behave(behaviour)
        server.clear()
        for _ in range(100):
            get(server)
        runs.append([entry.fault for entry in server.log])
    assert runs[0] == runs[1]
    assert 15 < sum(fault != "" for fault in runs[0]) < 45
    assert set(runs[0]) == {"", "500", "cut", "html"}
    server.behave(Behaviour(faults=behaviour.faults, seed=8))
    server.clear()
    for _ in range(100):
        get(server)
    assert [entry.fault for entry in server.log] != runs[0]


def test_latency_is_on_every_request_and_requests_run_side_by_side(server: FaultServer) -> None:
    server.behave(Behaviour(latency=0.2))
    began = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: get(server), range(8)))
    assert 0.2 <= time.monotonic() - began < 1.2
    assert max(entry.together for entry in server.log) > 4


def test_files_need_a_token_that_is_still_good(server: FaultServer) -> None:
    server.behave(Behaviour(signed=True, token_uses=2, token_says=60))
    assert get(server).status_code == 403
    assert get(server, "a.bin?sig=t9").status_code == 403
    said = requests.get(f"{server.tokens_url}/sentinel-2-l2a", timeout=10).json()
    left = datetime.fromisoformat(said["msft:expiry"]) - datetime.now(UTC)
    assert timedelta(seconds=50) < left < timedelta(seconds=61)
    signed = f"a.bin?{said['token']}"
    assert [get(server, signed).status_code for _ in range(3)] == [200, 200, 403]
    assert [entry.fault for entry in server.log].count("signature") == 3
    server.behave(Behaviour(signed=True, token_seconds=0.2, refusal=401))
    fresh = requests.get(f"{server.tokens_url}/x", timeout=10).json()["token"]
    assert get(server, f"a.bin?{fresh}").status_code == 200
    time.sleep(0.3)
    assert get(server, f"a.bin?{fresh}").status_code == 401
    newest = requests.get(f"{server.tokens_url}/x", timeout=10).json()["token"]
    server.revoke()
    assert get(server, f"a.bin?{newest}").status_code == 401


def test_requests_are_passed_on_and_faults_stand_in_front(server: FaultServer) -> None:
    with FaultServer(upstream=server.url) as proxy:
        assert get(proxy, "deep/c.bin", "5-9").content == BODY[5:10]
        head = requests.head(f"{proxy.url}/a.bin", timeout=10)
        assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(BODY)))
        assert get(proxy, "gone.bin").status_code == 404
        proxy.behave(Behaviour(faults=(Fault("503", first=1),)))
        assert get(proxy).status_code == 503
        before = server.count
        assert get(proxy).content == BODY
        assert server.count == before + 1


def test_a_proxy_whose_upstream_is_gone_says_so() -> None:
    with FaultServer(upstream="http://127.0.0.1:9") as proxy:
        assert get(proxy).status_code == 502


def test_an_unknown_fault_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown kind of fault 'fire'"):
        Fault("fire")
