"""A real STAC API to test against: stac-fastapi on pgstac on PostgreSQL, in processes of its own.

``serve`` starts it on free ports of this machine with a data folder that goes away with it, fills
it, and says ``Missing`` where something that it needs is not installed. What it starts ends with
the tests, also when these are killed: this file, run as a program, watches over it.

PostgreSQL and PostGIS are the system's (Debian: ``postgresql-15-postgis-3``); the rest comes with
the extra ``api``.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

STARTED_WITHIN = 90.0
"""Seconds; some five are usual."""
NEEDED = ("pypgstac", "psycopg", "stac_fastapi.pgstac", "uvicorn")
SETTINGS = {
    # Nothing here outlives the tests, so nothing has to reach the disk.
    "fsync": "off", "full_page_writes": "off", "synchronous_commit": "off",
    "shared_buffers": "32MB", "max_connections": "30", "jit": "off", "timezone": "UTC",
}  # fmt: skip


class Missing(Exception):
    """Something that the API needs is not here; its text says what."""


@contextlib.contextmanager
def serve(collections: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    """Address of an API that has these collections, each with its items.

    Raises
    ------
    Missing
        When PostgreSQL, PostGIS or one of the packages is not installed.
    """
    check()
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(collections, file)
        file.flush()
        program = [sys.executable, __file__, file.name]
        with subprocess.Popen(
            program,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            try:
                url = child.stdout.readline().strip()
                if not url:
                    raise RuntimeError(f"the STAC API did not start: {child.communicate()[1]}")
                yield url
            finally:
                with contextlib.suppress(OSError):
                    child.stdin.close()
                child.wait(30)


def check() -> None:
    """Say what is missing."""
    for name in NEEDED:
        top = name.partition(".")[0]
        if importlib.util.find_spec(top) is None or importlib.util.find_spec(name) is None:
            raise Missing(f"{name} is not installed: pip install 'cdscale[api]'")
    programs = _programs()
    share = subprocess.check_output([programs / "pg_config", "--sharedir"], text=True).strip()
    if not (Path(share) / "extension" / "postgis.control").is_file():
        raise Missing(f"PostgreSQL at {programs} has no PostGIS")
    if os.geteuid() == 0:
        _servant()


def _programs() -> Path:
    """Folder of PostgreSQL's programs, which Debian keeps out of the path."""
    there = shutil.which("initdb")
    folders = [Path(there).parent] if there else []
    folders += sorted(
        Path("/usr/lib/postgresql").glob("*/bin"),
        key=lambda p: p.parent.name.zfill(3),
        reverse=True,
    )
    for folder in folders:
        if all((folder / name).exists() for name in ("initdb", "postgres", "pg_config")):
            return folder
    raise Missing("PostgreSQL is not installed (initdb, postgres and pg_config)")


def _servant() -> pwd.struct_passwd:
    """Whom the server runs as: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid())
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise Missing("PostgreSQL does not run as root, and there is no user postgres or nobody")


# --------------------------------------------------------------------------------- the watching end


def _watch(file: Path) -> None:
    """Start everything, say where, and end it when the other side is gone."""
    with contextlib.ExitStack() as stack:
        environment = {**os.environ, **stack.enter_context(_database())}
        load = [sys.executable, "-W", "ignore", __file__, "--load", str(file)]
        subprocess.run(load, env=environment, check=True, stdout=sys.stderr)
        sys.stdout.write(stack.enter_context(_api(environment)) + "\n")
        sys.stdout.flush()
        sys.stdin.read()


@contextlib.contextmanager
def _database() -> Iterator[dict[str, str]]:
    """A server with an empty database; yields what its clients need in their environment."""
    programs, user = _programs(), _servant()
    who: dict[str, Any] = {}
    if os.geteuid() == 0:
        who = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    with tempfile.TemporaryDirectory(prefix="cdscale-postgres-", dir="/tmp") as folder:
        os.chown(folder, user.pw_uid, user.pw_gid)
        data, port = f"{folder}/data", free_port()
        plain: dict[str, Any] = {**who, "cwd": folder, "stdout": sys.stderr}
        make = [str(programs / "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-N"]
        subprocess.run([*make, "-E", "UTF8", "--locale=C"], check=True, **plain)
        start = [str(programs / "postgres"), "-D", data, "-h", "127.0.0.1", "-p", str(port)]
        for name, value in {**SETTINGS, "unix_socket_directories": folder}.items():
            start += ["-c", f"{name}={value}"]
        with subprocess.Popen(start, **plain) as server:
            try:
                yield {
                    "PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": "postgres",
                    "PGPASSWORD": "none", "PGDATABASE": "postgres",
                }  # fmt: skip
            finally:
                server.send_signal(3)  # at once, without a last word to the disk
                server.wait(30)


@contextlib.contextmanager
def _api(environment: dict[str, str]) -> Iterator[str]:
    port = free_port()
    program = [sys.executable, "-W", "ignore", "-m", "uvicorn", "--factory", "--port", str(port)]
    program += ["--log-level", "warning", "stac_fastapi.pgstac.app:create_app"]
    with subprocess.Popen(program, env=environment, stdout=sys.stderr) as server:
        try:
            url = f"http://127.0.0.1:{port}"
            _until_it_answers(url, server)
            yield url
        finally:
            server.terminate()
            server.wait(30)


def _until_it_answers(url: str, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + STARTED_WITHIN
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        try:
            opener.open(f"{url}/", timeout=5).close()
            return
        except OSError:
            if server.poll() is not None or time.monotonic() > end:
                raise
            time.sleep(0.1)


def _load(file: Path) -> None:
    """Make pgstac's tables and fill them; in a process of its own, for its environment."""
    import psycopg
    from pypgstac.db import PgstacDB
    from pypgstac.load import Loader
    from pypgstac.migrate import Migrate

    end = time.monotonic() + STARTED_WITHIN
    while True:
        try:
            psycopg.connect().close()
            break
        except psycopg.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
    # With the name of the database in the address, it is not asked of the settings' file.
    with PgstacDB(dsn="postgresql://") as database:
        Migrate(database).run_migration()
        database.connect().execute(
            "INSERT INTO pgstac.pgstac_settings (name, value) VALUES ('context', 'on')"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value"
        )
        every = json.loads(file.read_text())
        loader = Loader(database)
        loader.load_collections(iter([_collection(name) for name in every]))
        loader.load_items(item for items in every.values() for item in items)


def _collection(name: str) -> dict[str, Any]:
    """As little as the API needs to know of a collection."""
    return {
        "type": "Collection", "stac_version": "1.0.0", "id": name, "description": name,
        "license": "other", "links": [],
        "extent": {
            "spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]},
        },
    }  # fmt: skip


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def real_items(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Real items by the name of their file, which becomes their collection.

    Catalogues share names of collections; an API has each once.
    """
    return {path.stem: list(_items_of(path)) for path in sorted(folder.glob("*.json"))}


def _items_of(path: Path) -> Iterable[dict[str, Any]]:
    for item in json.loads(path.read_text(encoding="utf-8"))["features"]:
        yield {**item, "collection": path.stem}


if __name__ == "__main__":
    _load(Path(sys.argv[2])) if sys.argv[1] == "--load" else _watch(Path(sys.argv[1]))
