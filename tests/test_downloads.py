"""Files are fetched from the first mirror that has them, checked always, and named when wrong."""

from __future__ import annotations

import fcntl
import hashlib
import os

import pytest

from bnnbench import bars as module
from bnnbench.downloads import (
    Source,
    data_root,
    downloads,
    folder,
    path_of,
    verify,
)
from bnnbench.errors import DataError, PluginError
from bnnbench.fetching import fetch

from .loopback import serving

CONTENT = {"a.gz": b"first" * 1000, "b.gz": b"second"}


@pytest.fixture
def server(tmp_path):
    """A loopback server of the folder ``served``."""
    with serving(tmp_path / "served") as made:
        yield made


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("BNNBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("BNNBENCH_MIRROR", raising=False)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    return tmp_path / "data"


def md5(content):
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def source(*urls, name="toy"):
    return Source(
        name=name,
        urls=urls,
        files={filename: md5(content) for filename, content in CONTENT.items()},
        size_bytes=sum(map(len, CONTENT.values())),
    )


def serve(server, place, content=None):
    where = server.root / place
    where.mkdir(parents=True, exist_ok=True)
    for filename, value in (CONTENT if content is None else content).items():
        (where / filename).write_bytes(value)
    return f"{server.url}/{place}"


def held(data):
    return {path.name: path.read_bytes() for path in (data / "toy").iterdir()}


def test_fetch(server, data):
    """All files arrive, whole, readable by others, and nothing else is left in the folder."""
    toy = source(serve(server, "one"))
    assert {"missing"} == set(verify(toy).values())

    assert ["a.gz", "b.gz"] == fetch(toy, progress=False)

    assert held(data) == CONTENT
    assert {"present"} == set(verify(toy).values())
    assert (data / "toy" / "a.gz").read_bytes() == path_of(toy, "a.gz").read_bytes()
    assert {0o644} == {path.stat().st_mode & 0o777 for path in (data / "toy").iterdir()}


def test_good_files_are_kept(server, data):
    """A second fetch asks for nothing."""
    toy = source(serve(server, "one"))
    fetch(toy, progress=False)
    server.asked.clear()

    assert [] == fetch(toy, progress=False)
    assert [] == server.asked


def test_damaged_files_are_replaced(server, data):
    """A damaged file is fetched again, and only that."""
    toy = source(serve(server, "one"))
    fetch(toy, progress=False)
    (data / "toy" / "b.gz").write_bytes(b"secon")
    assert {"a.gz": "present", "b.gz": "damaged"} == verify(toy)

    assert ["b.gz"] == fetch(toy, progress=False)
    assert held(data) == CONTENT


def test_mirrors_in_order(server, data):
    """What the first mirror lacks or has damaged comes from the next."""
    empty = serve(server, "empty", {})
    damaged = serve(server, "damaged", {"a.gz": b"frist", "b.gz": CONTENT["b.gz"]})
    good = serve(server, "good")

    fetch(source(empty, damaged + "/", good), progress=False)

    assert held(data) == CONTENT
    assert server.asked == [
        "/empty/a.gz",
        "/damaged/a.gz",
        "/good/a.gz",
        "/empty/b.gz",
        "/damaged/b.gz",
    ]


def test_no_mirror_has_it(server, data):
    """When every mirror fails, one line names the file, each mirror and its failure."""
    empty = serve(server, "empty", {})
    damaged = serve(server, "damaged", {"a.gz": b"frist"})

    with pytest.raises(DataError) as raised:
        fetch(source(empty, damaged, "http://127.0.0.1:1"), progress=False)

    message = str(raised.value)
    assert "\n" not in message
    assert message.startswith("toy/a.gz must come whole from one of its mirrors")
    assert f"{empty}/a.gz: 404" in message
    assert f"{damaged}/a.gz: the checksum is wrong" in message
    assert "http://127.0.0.1:1/a.gz: " in message
    assert "http://127.0.0.1:1/a.gz: Connection refused;" in message
    assert "BNNBENCH_MIRROR" in message
    assert f"put the file at {data}/toy/a.gz by hand" in message
    assert not (data / "toy").exists()


def test_a_failed_fetch_keeps_what_was_there(server, data):
    """A damaged file stays until a good one takes its place."""
    toy = source(serve(server, "empty", {}))
    (data / "toy").mkdir(parents=True)
    (data / "toy" / "a.gz").write_bytes(b"half")

    with pytest.raises(DataError):
        fetch(toy, progress=False)

    assert held(data) == {"a.gz": b"half"}


def test_own_mirror(server, data, monkeypatch):
    """BNNBENCH_MIRROR takes the place of all mirrors; NAME/FILE lies below it."""
    serve(server, "mirror/toy")
    monkeypatch.setenv("BNNBENCH_MIRROR", f"{server.url}/mirror/")

    fetch(source("http://127.0.0.1:1"), progress=False)

    assert ["/mirror/toy/a.gz", "/mirror/toy/b.gz"] == server.asked
    assert held(data) == CONTENT


@pytest.mark.parametrize(("content", "found"), [(None, "missing"), (b"x", md5(b"x"))])
def test_path_of_a_wrong_file(data, content, found):
    """A file that is missing or damaged is named, with both checksums and the way to mend it."""
    if content is not None:
        (data / "toy").mkdir(parents=True)
        (data / "toy" / "a.gz").write_bytes(content)

    with pytest.raises(DataError) as raised:
        path_of(source(), "a.gz")

    expected = f"{data}/toy/a.gz must have MD5 {md5(CONTENT['a.gz'])}, got {found}"
    assert f"{expected}; run: bnnbench data fetch toy" == str(raised.value)


def test_a_folder_in_the_way(data):
    """A folder where a file should be, or a file where the folder should be, is one line too."""
    (data / "toy" / "a.gz").mkdir(parents=True)
    with pytest.raises(DataError, match="must be a readable file"):
        verify(source())
    (data / "other").write_bytes(b"")
    with pytest.raises(DataError, match="must be a folder that can be written"):
        fetch(source(name="other"), progress=False)


def test_plain_lines(server, capsys):
    """Where standard error is no terminal, each file is a plain line there, and none elsewhere."""
    fetch(source(serve(server, "one")))

    assert ("", "downloaded toy/a.gz (5.0 kB)\ndownloaded toy/b.gz (6 bytes)\n") == tuple(
        capsys.readouterr()
    )


def test_bars(server, capsys, monkeypatch):
    """On a terminal each file has a bar that is full at its end, though its first mirror failed."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    damaged = serve(server, "damaged", {"a.gz": b"frist"})
    bars = []
    make = module._Bar
    monkeypatch.setattr(module, "_Bar", lambda *args: bars.append(make(*args)) or bars[-1])

    fetch(source(damaged, serve(server, "one")))

    tasks = [bar.progress.tasks[bar.task] for bar in bars]
    assert [len(content) for content in CONTENT.values()] == [bar.total for bar in bars]
    assert [task.total for task in tasks] == [task.completed for task in tasks]
    assert "toy/b.gz" in capsys.readouterr().err


def test_silence(server, capsys):
    """Without progress nothing is printed."""
    fetch(source(serve(server, "one")), progress=False)

    assert ("", "") == tuple(capsys.readouterr())


def test_a_broken_download_goes_on(server, data):
    """What has come before the connection broke is not transferred again by the next fetch."""
    content = bytes(300_000)
    toy = Source("toy", (serve(server, "one", {"a": content}),), {"a": md5(content)}, 0)
    server.limit = 200_000
    with pytest.raises(DataError, match="goes on where it was broken off"):
        fetch(toy, progress=False)
    here = len(held(data)["a.part"])
    server.limit = None
    server.sent.clear()

    fetch(toy, progress=False)

    assert 0 < here <= 200_000
    assert [len(content) - here] == server.sent
    assert held(data) == {"a": content}


def test_one_at_a_time(server, data):
    """A folder into which another process downloads is not touched."""
    toy = source(serve(server, "one"))
    (data / "toy").mkdir(parents=True)
    handle = os.open(data / "toy", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)

    with pytest.raises(DataError, match="one process at a time; wait for the other"):
        fetch(toy, progress=False)

    assert [] == server.asked
    os.close(handle)
    assert ["a.gz", "b.gz"] == fetch(toy, progress=False)


@pytest.mark.parametrize("name", ["../a", "a/b", "a\\b", "..", ".", "", ".hidden", "C:a", "a\n"])
def test_names_stay_in_their_folder(name):
    """Neither a file nor a source can be named so that it would lie elsewhere."""
    good = md5(b"")
    with pytest.raises(PluginError, match="plain file name"):
        Source("toy", (), {name: good}, 0)
    with pytest.raises(PluginError, match="plain file name"):
        Source(name, (), {"a": good}, 0)


def test_checksums_are_md5s():
    """A checksum that is no MD5 is refused as the source is stated."""
    with pytest.raises(PluginError, match="32 hexadecimal digits"):
        Source("toy", (), {"a": "abc"}, 0)


def test_where_files_lie(data, monkeypatch):
    """BNNBENCH_DATA, with its tilde, else the user's cache."""
    assert data / "toy" == folder(source())
    monkeypatch.setenv("BNNBENCH_DATA", "~/somewhere")
    assert "~" not in str(data_root())
    monkeypatch.delenv("BNNBENCH_DATA")
    assert data_root().name == "bnnbench"


def test_decorator():
    """The decorator puts the source on the factory, which stays itself."""
    toy = source()

    def factory():
        return 1

    assert factory is downloads(toy)(factory)
    assert factory.source is toy
