"""A file that was broken off is taken up where it was, and begun again only where it must be."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys

import pytest

from bnnbench.bars import _Bar, _progress
from bnnbench.transfers import download, download_first

from .loopback import serving

CONTENT = bytes(range(256)) * 4000
CUT = 400_000
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A loopback server of one file, "a"."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    with serving(tmp_path / "served") as made:
        (made.root / "a").write_bytes(CONTENT)
        yield made


@pytest.fixture
def part(tmp_path):
    return tmp_path / "a.part"


def break_off(server, part):
    """Download until the connection breaks; return how many bytes are here then."""
    server.limit = CUT
    with pytest.raises(OSError, match=r"[Ii]ncomplete"):
        download(f"{server.url}/a", part, MD5)
    server.limit = None
    server.sent.clear()
    return part.stat().st_size


def test_only_the_rest_is_transferred(server, part):
    """After a broken connection exactly the bytes that are not here yet are sent."""
    here = break_off(server, part)
    assert CUT * 0.8 < here <= CUT
    assert part.read_bytes() == CONTENT[:here]

    download(f"{server.url}/a", part, MD5)

    assert [len(CONTENT) - here] == server.sent
    assert part.read_bytes() == CONTENT


def test_server_without_ranges(server, part):
    """A server that sends the whole file again is taken at its word."""
    break_off(server, part)
    server.ranges = False

    download(f"{server.url}/a", part, MD5)

    assert [len(CONTENT)] == server.sent
    assert part.read_bytes() == CONTENT


@pytest.mark.parametrize("size", [100, len(CONTENT), len(CONTENT) + 1])
def test_part_of_another_file(server, part, size):
    """A file that changed in between comes out wrong and is begun again, once.

    What is here may be shorter than the file, as long, or longer.
    """
    part.write_bytes(b"x" * size)

    download(f"{server.url}/a", part, MD5)

    rest = [len(CONTENT) - size] if size < len(CONTENT) else []
    assert [*rest, len(CONTENT)] == server.sent
    assert part.read_bytes() == CONTENT


def test_nothing_is_asked_for_twice(server, part):
    """A file that came whole before its process was killed is asked for no more."""
    part.write_bytes(CONTENT)

    download(f"{server.url}/a", part, MD5)

    assert [] == server.asked


@pytest.mark.parametrize(("here", "tries"), [(b"", 1), (b"x" * 100, 2)], ids=["new", "begun"])
def test_wrong_checksum(server, part, here, tries):
    """A file that is whole and wrong is not kept; it is begun again only if it was taken up."""
    if here:
        part.write_bytes(here)
    (server.root / "a").write_bytes(CONTENT[::-1])

    with pytest.raises(ValueError, match="the checksum is wrong"):
        download(f"{server.url}/a", part, MD5)

    assert tries == len(server.asked)
    assert not part.exists()


def test_a_refusal_costs_nothing(server, part):
    """What is here stays through a 404 and a dead server; what is not here leaves no empty file."""
    for url in (f"{server.url}/b", "http://127.0.0.1:1/a"):
        with pytest.raises(OSError):  # noqa: PT011  # whichever: requests' errors are OSErrors
            download(url, part, MD5)
        assert not part.exists()
    here = break_off(server, part)

    with pytest.raises(OSError, match="404"):
        download(f"{server.url}/b", part, MD5)

    assert here == part.stat().st_size


def test_the_next_mirror_goes_on(server, part):
    """Where one mirror breaks off the next goes on."""
    here = break_off(server, part)

    download_first(["http://127.0.0.1:1/a", f"{server.url}/a"], part, MD5)

    assert [len(CONTENT) - here] == server.sent


class Recorded:
    """A bar in pooch's protocol that writes down what it is told."""

    def __init__(self):
        self.start, self.total, self.calls = None, None, []

    def update(self, size):
        self.calls.append(size)

    def reset(self):
        self.calls.append("reset")

    def close(self):
        self.calls.append("close")


@pytest.mark.parametrize("ranges", [True, False])
def test_a_bar_begins_where_the_file_does(server, part, ranges):
    """A bar is told how much is here already, which is nothing where all of it comes again."""
    here = break_off(server, part) if ranges else 0 * break_off(server, part)
    server.ranges, bar = ranges, Recorded()

    download(f"{server.url}/a", part, MD5, bar)

    assert (here, len(CONTENT) - here) == (bar.start, bar.total)
    assert ["reset", len(CONTENT) - here, "close"] == bar.calls[-3:]


def test_bar_of_a_resumed_file():
    """The bar shows the bytes that were here, counts on from them, and ends full."""
    from rich.console import Console

    progress = _progress(Console(quiet=True))
    bar = _Bar(progress, "a")
    task = progress.tasks[bar.task]

    bar.start, bar.total = 30, 70
    shown = [(task.completed, task.total)]
    bar.update(10)
    shown.append((task.completed, task.total))
    bar.reset()
    bar.update(70)
    bar.close()

    assert [(30, 100), (40, 100)] == shown
    assert (100, 100) == (task.completed, task.total)


def test_kill(server, part):
    """kill -9 in the middle of a download: the next one transfers the rest."""
    server.limit = CUT
    server.go_on.clear()
    code = "import sys; from bnnbench.transfers import *; from pathlib import Path;"
    code += "download(sys.argv[1], Path(sys.argv[2]), sys.argv[3])"
    command = [sys.executable, "-c", code, f"{server.url}/a", str(part), MD5]
    with subprocess.Popen(command, env=dict(os.environ)) as process:
        assert server.halted.wait(60)
        while not part.exists() or not part.stat().st_size:
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    here = part.stat().st_size
    server.go_on.set()
    server.limit = None
    server.sent.clear()

    download(f"{server.url}/a", part, MD5)

    assert 0 < here <= CUT
    assert [len(CONTENT) - here] == server.sent
    assert part.read_bytes() == CONTENT
