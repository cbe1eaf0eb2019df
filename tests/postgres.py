"""A real PostgreSQL server of the tests' own, on a socket in a folder of its own, with a password.

Its programs must be on this machine; ``BNNBENCH_POSTGRES=required`` makes their absence a failure.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import quote

import pytest

PASSWORD = "Geh@im/7:x"  # with all that a URL must escape
USER = "bench"
ENCODED = quote(PASSWORD, safe="")


def program(name: str) -> str | None:
    """One of the server's programs: Debian keeps the newest beside others, and off the path."""
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=version, reverse=True)
    return str(places[0]) if places else shutil.which(name)


def version(path: Path) -> float:
    return float(path.parts[-3]) if path.parts[-3].replace(".", "").isdigit() else 0.0


class Server:
    """A server that can be stopped and started; databases are made as they are asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "data"
        self.numbers = itertools.count()
        secret = folder / "password"
        secret.write_text(PASSWORD)
        self.owner = unprivileged()
        if self.owner:
            for path in (folder, secret):
                shutil.chown(path, self.owner)
        login = ["--username", USER, "--auth", "scram-sha-256", "--pwfile", str(secret)]
        self._do("initdb", "--pgdata", str(self.data), "--no-sync", "--encoding", "UTF8", *login)

    def start(self) -> None:
        where = f"-c listen_addresses='' -c unix_socket_directories={self.folder}"
        quick = "-c fsync=off -c max_connections=120"  # the machine does not die, the server does
        log = str(self.folder / "log")
        self._control("start", "--log", log, "--options", f"{where} {quick}")

    def stop(self, mode: str = "fast") -> None:
        self._control("stop", "--mode", mode)

    def _control(self, *arguments: str) -> None:
        self._do("pg_ctl", "--pgdata", str(self.data), "--wait", *arguments)

    def _do(self, name: str, *arguments: str) -> None:
        command = [str(program(name)), *arguments]
        log = self.folder.parent / f"{self.folder.name}.{name}"  # a pipe would outlive pg_ctl
        with log.open("w") as out:
            done = subprocess.run(
                command, stdout=out, stderr=out, cwd=self.folder, user=self.owner, timeout=120
            )
        said = log.read_text()
        log.unlink()
        assert 0 == done.returncode, said

    def url(self, database: str) -> str:
        return f"postgresql://{USER}:{ENCODED}@/{database}?host={self.folder}"

    def database(self) -> str:
        """The URL of a new database."""
        import psycopg

        name = f"b{next(self.numbers)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)


def unprivileged() -> str | None:
    """Whom root lets the server run as, which refuses root itself."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


@contextlib.contextmanager
def running():
    """A server while the block lasts; skips, with a reason, where there is none."""
    pytest.importorskip("psycopg", reason="the extra 'postgres' is not installed")
    if program("initdb") is None or program("pg_ctl") is None:
        reason = "no PostgreSQL here: neither /usr/lib/postgresql/*/bin nor the path has initdb"
        if os.environ.get("BNNBENCH_POSTGRES") == "required":
            pytest.fail(reason)
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="bnnpg", dir="/tmp"))  # a socket's path must be short
    server = Server(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop("immediate")
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres():
    """A running server."""
    with running() as server:
        yield server
