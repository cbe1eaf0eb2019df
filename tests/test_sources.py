"""Archives of a data set are fetched, unpacked and checked, and the commands tell how it stands."""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile

import pytest

from bnnbench.archives import Archive
from bnnbench.cli import main
from bnnbench.downloads import Source, by_hand, checksum_of, member_of, verify
from bnnbench.errors import DataError, PluginError
from bnnbench.fetching import fetch
from bnnbench_plugins.datasets.mnist import mnist

from .loopback import serving


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


def serve(server, content):
    (server.root / "set.tar.gz").write_bytes(content)
    return server.url


INSIDE = {"set/a.bin": b"first" * 99, "set/b.bin": b"second"}  #: an archive's members


def packed(content=INSIDE):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name, value in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(value)
            tar.addfile(info, io.BytesIO(value))
    return made.getvalue()


PACKED = packed()
ARCHIVE = Archive(md5(PACKED), tuple(INSIDE), 1000)


def archived(*urls, **options):
    return Source("toy", urls, {}, len(PACKED), archives={"set.tar.gz": ARCHIVE}, **options)


def test_names_are_of_one_thing():
    """Files, archives and the folders they unpack to have names of their own."""
    twice = {"a.tar.gz": ARCHIVE, "b.tar.gz": ARCHIVE}
    hidden = {"a.tar.gz": Archive(md5(b""), (".git/config",), 1)}
    for files, archives in (({}, twice), ({"set": md5(b"")}, {"a.tar.gz": ARCHIVE})):
        with pytest.raises(PluginError, match="a name for each file and folder of its own"):
            Source("toy", (), files, 0, archives=archives)
    with pytest.raises(PluginError, match="plain file name"):
        Source("toy", (), {}, 0, archives=hidden)
    with pytest.raises(PluginError, match="plain file name"):
        Source("toy", (), {}, 0, archives={"../a.tar.gz": ARCHIVE})


def test_fetch_an_archive(server, data):
    """An archive is unpacked and not kept; what came out is checked without it."""
    toy = archived(serve(server, PACKED))
    assert {"set": "missing"} == verify(toy)

    assert ["set.tar.gz"] == fetch(toy, progress=False)

    assert ["set"] == [path.name for path in (data / "toy").iterdir()]
    for name, content in INSIDE.items():
        assert content == member_of(toy, name).read_bytes()
        assert md5(content) == checksum_of(toy, name)
    assert dict.fromkeys(INSIDE, "present") == verify(toy)
    assert [] == fetch(toy, progress=False) == by_hand(toy)
    assert ["/set.tar.gz"] == server.asked
    (data / "toy" / "set" / "a.bin").unlink()
    assert md5(INSIDE["set/a.bin"]) == checksum_of(toy, "set/a.bin")  # nothing was read


def test_an_archive_that_is_here(server, data):
    """An archive that someone has put there is unpacked, not downloaded, and stays."""
    (data / "toy").mkdir(parents=True)
    (data / "toy" / "set.tar.gz").write_bytes(PACKED)
    toy = archived(server.url)

    fetch(toy, progress=False)

    assert [] == server.asked
    assert {"set", "set.tar.gz"} == {path.name for path in (data / "toy").iterdir()}
    assert dict.fromkeys(INSIDE, "present") == verify(toy)


@pytest.mark.parametrize("change", ["damaged", "missing"])
def test_a_damaged_member(server, data, change):
    """A member that is not as it came out is named, and the archive is fetched again."""
    toy = archived(serve(server, PACKED))
    fetch(toy, progress=False)
    path = data / "toy" / "set" / "b.bin"
    path.unlink()
    if change == "damaged":
        path.write_bytes(b"Second")

    assert {"set/a.bin": "present", "set/b.bin": change} == verify(toy)
    message = f"{path} must be as it was unpacked, got: {change}; run: bnnbench data fetch toy"
    with pytest.raises(DataError) as raised:
        member_of(toy, "set/b.bin")
    assert message == str(raised.value)
    assert member_of(toy, "set/a.bin").exists()

    assert ["set.tar.gz"] == fetch(toy, progress=False)
    assert dict.fromkeys(INSIDE, "present") == verify(toy)


def test_a_damaged_archive(server, data):
    """An archive whose checksum is wrong is not unpacked."""
    toy = archived(serve(server, packed({"set/a.bin": b"x"})))

    with pytest.raises(DataError, match=r"set\.tar\.gz: the checksum is wrong"):
        fetch(toy, progress=False)

    assert not (data / "toy").exists()


def test_another_archive_is_stated(server, data):
    """What came out of another archive than the one that is stated now is not used."""
    fetch(archived(serve(server, PACKED)), progress=False)
    newer = Archive(md5(b"newer"), ARCHIVE.members, 1000)
    new = Source("toy", (), {}, 0, archives={"set.tar.gz": newer})

    assert {"set": "damaged"} == verify(new)
    with pytest.raises(DataError, match="must be as it was unpacked, got: damaged"):
        member_of(new, "set/a.bin")


def test_put_there_by_hand(server, data):
    """A folder without a manifest is used as it is, and fetch leaves it alone."""
    toy = archived(server.url)
    (data / "toy" / "set").mkdir(parents=True)
    (data / "toy" / "set" / "a.bin").write_bytes(b"mine")

    (data / "toy" / "set" / "b.bin").write_bytes(b"too")

    assert {"set": "by hand"} == verify(toy)
    assert b"mine" == member_of(toy, "set/a.bin").read_bytes()
    assert md5(b"mine") == checksum_of(toy, "set/a.bin")
    assert [] == fetch(toy, progress=False) == server.asked
    assert [data / "toy" / "set"] == by_hand(toy)


def test_put_there_by_hand_in_part(server, data):
    """Files that are missing from such a folder are named; to fetch it, it must be removed."""
    toy = archived(serve(server, PACKED))
    place = data / "toy" / "set"
    place.mkdir(parents=True)
    (place / "a.bin").write_bytes(b"mine")
    (place / "b.bin").mkdir()  # is no file

    assert {"set": "incomplete"} == verify(toy)
    with pytest.raises(DataError) as raised:
        member_of(toy, "set/b.bin", ", or do without")
    way = f"put it there, or remove {place} and run: bnnbench data fetch toy, or do without"
    assert str(raised.value).endswith(f"b.bin must be as it was unpacked, got: missing; {way}")
    with pytest.raises(DataError, match=rf"{place} must be whole, but lacks set/b\.bin; "):
        fetch(toy, progress=False)
    assert [] == server.asked

    shutil.rmtree(place)
    assert ["set.tar.gz"] == fetch(toy, progress=False)
    assert dict.fromkeys(INSIDE, "present") == verify(toy)


def test_what_a_licence_forbids(data):
    """What cannot be downloaded says where to get it and how its folder must look."""
    toy = Source("toy", (), {}, 0, by_hand="register with its makers; one folder for each class")
    assert {"toy": "missing"} == verify(toy)

    with pytest.raises(DataError, match=f"{data}/toy must be made by hand: register .* class$"):
        fetch(toy)

    (data / "toy").mkdir(parents=True)
    assert {"toy": "missing"} == verify(toy)
    (data / "toy" / "n01440764").mkdir()
    assert {"toy": "by hand"} == verify(toy)
    assert [] == fetch(toy)
    assert [data / "toy"] == by_hand(toy)


def listed(capsys):
    """What ``data list`` says of mnist's files."""
    assert 0 == main(["data", "list"])
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.split()[:1] == ["mnist"]]
    return line


def test_commands(server, data, monkeypatch, capsys):
    """``data list`` and ``data fetch`` tell what is there, what is not, what is wrong and whose."""
    toy = archived(serve(server, PACKED), citation="Toy, 2020")
    monkeypatch.setattr(mnist, "source", toy)
    assert "not fetched" in listed(capsys)

    assert 0 == main(["data", "fetch", "mnist"])

    assert f"mnist is in {data}/toy\n" == capsys.readouterr().out
    assert "present" in listed(capsys)
    (data / "toy" / "set" / "a.bin").write_bytes(b"")
    (data / "toy" / "set" / "b.bin").unlink()
    assert "set/a.bin damaged, set/b.bin missing" in listed(capsys)
    (data / "toy" / "set" / ".manifest.json").unlink()
    assert "set incomplete" in listed(capsys)
    assert 3 == main(["data", "fetch", "mnist"])
    out, err = capsys.readouterr()
    assert ("", 1) == (out, len(err.strip().splitlines()))
    assert "must be whole, but lacks set/b.bin; it was put there by hand" in err
    (data / "toy" / "set" / "b.bin").touch()
    assert "by hand" in listed(capsys)
    assert 0 == main(["data", "fetch", "mnist"])
    out = capsys.readouterr().out.splitlines()
    left = f"{data}/toy/set was put there by hand and left as it is; remove it to fetch it anew"
    assert [left, f"mnist is in {data}/toy"] == out


def test_trouble_stays_in_its_row(data, capsys):
    """A folder where a file should be is told in that data set's row; all others are listed."""
    (data / "mnist" / "train-images-idx3-ubyte.gz").mkdir(parents=True)

    assert 0 == main(["data", "list"])

    out = capsys.readouterr().out
    assert {"readable", "directory;"} <= {*out.split()}
    rows = [line.split()[:1] for line in out.splitlines()]
    assert [True] * 4 == [[n] in rows for n in ("cifar10", "mnist", "svhn", "synthetic-mnist")]
    assert "Return" not in out


def test_forbidden_by_command(data, monkeypatch, capsys):
    """``data fetch`` of what cannot be downloaded ends with one line and the code of data."""
    toy = Source("toy", (), {}, 0, by_hand="register with its makers")
    monkeypatch.setattr(mnist, "source", toy)

    assert "not fetched" in listed(capsys)
    assert 3 == main(["data", "fetch", "mnist"])

    out, err = capsys.readouterr()
    assert ("", 1) == (out, len(err.strip().splitlines()))
    assert "must be made by hand: register with its makers" in err
