"""Archives are unpacked whole or not at all, and only what is wanted of them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnnbench import archives as module
from bnnbench.archives import MANIFEST, Archive, lacking, manifest, matches, states, unpack
from bnnbench.errors import DataError, PluginError

WANTED = {"toy/a.bin": b"first" * 1000, "toy/more/b.txt": b"second", "toy/more/c.txt": b""}
MEMBERS = ("toy/a.bin", "toy/more/*.txt")
LIMIT = sum(map(len, WANTED.values()))


def md5(content):
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def entry(name, content=b"", **facts):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for fact, value in facts.items():
        setattr(info, fact, value)
    return info, content


def tar(entries):
    """A tar.gz file of entries; a mapping is one of regular files."""
    if isinstance(entries, dict):
        entries = [entry(name, content) for name, content in entries.items()]
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as made:
        for info, content in entries:
            made.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def archive(content, members=MEMBERS, limit=LIMIT):
    return Archive(md5(content), members, limit)


@pytest.fixture
def root(tmp_path):
    made = tmp_path / "root"
    made.mkdir()
    return made


def unpacked(content, root, **options):
    path = root.parent / "toy.tar.gz"
    path.write_bytes(content)
    made = archive(content, **options)
    unpack(path, made, root)
    return made


def held(root):
    """Everything below a folder: the bytes of files, None for all else."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None
        for path in root.rglob("*")
        if not path.is_dir() or path.is_symlink()
    }


def bare(root):
    return {name: content for name, content in held(root).items() if MANIFEST not in name}


def test_what_was_packed(root):
    """The wanted files come out, byte for byte, and nothing else is left anywhere."""
    others = {"toy/d.bin": b"x", "toy/more/._b.txt": b"x", "toy/more/e/f.txt": b"x", "g": b"x"}
    made = unpacked(tar(WANTED | others), root)

    assert bare(root) == WANTED
    assert ["toy"] == [path.name for path in root.iterdir()]
    assert {"present"} == set(states(root, made).values())
    assert set(WANTED) == set(states(root, made))


def test_manifest(root):
    """The manifest holds the size and the MD5 of each file, and the archive's."""
    content = tar(WANTED)
    made = unpacked(content, root)

    written = json.loads((root / "toy" / MANIFEST).read_text())
    assert {"archive", "members"} == set(written)
    assert md5(content) == written["archive"]
    expected = {name: [len(value), md5(value)] for name, value in WANTED.items()}
    assert expected == written["members"]
    assert expected == {name: list(m) for name, m in manifest(root, made).members.items()}


def test_only_bytes_are_taken(root):
    """Modes, owners and times of the archive are not taken over."""
    bits = {"mode": 0o4777, "uid": 12345, "uname": "nobody", "mtime": 0}
    unpacked(tar([entry(name, value, **bits) for name, value in WANTED.items()]), root)

    found = (root / "toy" / "a.bin").stat()
    assert 0o666 & ~0o133 == found.st_mode & 0o7111 | found.st_mode & 0o644
    assert (os.getuid(), True) == (found.st_uid, found.st_mtime > 1e9)


def test_names_with_a_dot(root):
    """ "./toy/a.bin" is the same file as "toy/a.bin"."""
    unpacked(tar({f"./{name}": value for name, value in WANTED.items()}), root)

    assert bare(root) == WANTED


def link(name, kind, target):
    return entry(name, type=kind, linkname=target)


HOSTILE = {
    "parent": ([entry("../evil", b"x")], "stay in its own folder"),
    "parent inside": ([entry("toy/more/../../../evil", b"x")], "stay in its own folder"),
    "pattern": ([entry("toy/more/../b.txt", b"x")], "stay in its own folder"),
    "absolute": ([entry("/tmp/evil", b"x")], "stay in its own folder"),
    "backslash": ([entry("toy/more/..\\..\\evil.txt", b"x")], "stay in its own folder"),
    "symlink": ([link("toy/more/d.txt", tarfile.SYMTYPE, "/etc/passwd")], "regular file"),
    "hard link": ([link("toy/more/d.txt", tarfile.LNKTYPE, "toy/a.bin")], "regular file"),
    "fifo": ([entry("toy/more/d.txt", type=tarfile.FIFOTYPE)], "regular file"),
    "device": ([entry("toy/more/d.txt", type=tarfile.CHRTYPE, devmajor=1)], "regular file"),
    "block device": ([entry("toy/more/d.txt", type=tarfile.BLKTYPE, devmajor=8)], "regular file"),
    "folder": ([entry("toy/more/d.txt", type=tarfile.DIRTYPE)], "regular file"),
    "twice": ([entry("toy/a.bin", b"x")], "hold toy/a.bin once"),
    "bomb": ([entry("toy/more/d.txt", bytes(LIMIT))], f"at most {LIMIT} bytes, got more at toy/"),
    "one byte more": ([entry("toy/more/d.txt", b"x")], f"at most {LIMIT} bytes"),
}


@pytest.mark.parametrize(("more", "law"), HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("first", [True, False])
def test_hostile_archives(root, more, law, first):
    """An archive that reaches out of its folder, or is not as stated, leaves all as it was.

    Whether the offence comes before what is wanted or after it.
    """
    former = unpacked(tar(WANTED), root)
    before, around = held(root), set(root.parent.iterdir())
    good = [entry(name, value) for name, value in WANTED.items()]

    with pytest.raises(DataError, match=law) as raised:
        unpacked(tar([*more, *good] if first else [*good, *more]), root)

    assert "\n" not in str(raised.value)
    assert "toy.tar.gz must" in str(raised.value)
    assert before == held(root)
    assert around == set(root.parent.iterdir())
    assert {"present"} == set(states(root, former).values())


def test_a_link_that_is_not_wanted(root, tmp_path):
    """A link is passed over, and a file that names it as its folder does not follow it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    members = [link("toy/more", tarfile.SYMTYPE, str(outside)), link("x", tarfile.LNKTYPE, "/etc")]
    unpacked(tar(members + [entry(name, value) for name, value in WANTED.items()]), root)

    assert bare(root) == WANTED
    assert [] == list(outside.iterdir())


def test_a_bomb_is_not_written(root, monkeypatch):
    """What would break the limit is known from its header: not a byte of it is written."""
    written = []
    copy = module._copy
    monkeypatch.setattr(module, "_copy", lambda *call: written.append(call[1].name) or copy(*call))
    bomb = entry("toy/more/bomb.txt", bytes(50_000_000))

    with pytest.raises(DataError, match="must unpack to at most"):
        unpacked(tar([entry("toy/a.bin", WANTED["toy/a.bin"]), bomb]), root)

    assert ["a.bin"] == written
    assert {} == held(root)


@pytest.mark.parametrize("missing", WANTED)
def test_what_is_wanted_and_is_not_there(root, missing):
    """Each wanted name must be there, of each pattern at least one file."""
    content = tar({name: value for name, value in WANTED.items() if name != missing})
    if missing == "toy/a.bin":
        with pytest.raises(DataError, match=r"must hold toy/a\.bin"):
            unpacked(content, root)
        assert {} == held(root)
    else:
        unpacked(content, root)
    with pytest.raises(DataError, match=r"must hold toy/more/\*\.txt"):
        unpacked(tar({"toy/a.bin": b"x"}), root)


def damage(content):
    whole = bytearray(content)
    whole[-6] ^= 1
    return bytes(whole)


@pytest.mark.parametrize(
    "change",
    [lambda c: c[:-9], lambda c: c[: len(c) // 2], lambda c: b"", gzip.decompress, damage],
    ids=["end", "half", "empty", "not packed", "checksum"],
)
def test_damaged_archives(root, change):
    """A file that is no whole tar.gz leaves nothing."""
    values = {"toy/a.bin": os.urandom(4000), "toy/more/b.txt": b"x"}

    with pytest.raises(DataError, match=r"must be a whole tar\.gz file") as raised:
        unpacked(change(tar(values)), root)

    assert "\n" not in str(raised.value)
    assert {} == held(root)


def test_no_place_to_unpack(tmp_path):
    """A folder that cannot be written to is one line."""
    (tmp_path / "root").write_bytes(b"")

    with pytest.raises(DataError, match=r"must be unpacked in .*root, got: Not a directory$"):
        unpacked(tar(WANTED), tmp_path / "root")


@pytest.mark.parametrize("what", ["truncated", "flipped", "gone", "longer"])
def test_damaged_members(root, what):
    """A file that is no longer as it came out is named, and the others are right."""
    made = unpacked(tar(WANTED), root)
    path = root / "toy" / "a.bin"
    content = path.read_bytes()
    if what == "gone":
        path.unlink()
    else:
        changed = {"truncated": content[:-1], "flipped": b"F" + content[1:], "longer": content * 2}
        path.write_bytes(changed[what])

    state = "missing" if what == "gone" else "damaged"
    assert states(root, made) == {**dict.fromkeys(WANTED, "present"), "toy/a.bin": state}


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"archive": 1, "members": []}', '{"archive": "x", "members": {"a": 1}}'],
)
def test_damaged_manifests(root, text):
    """A manifest that is not one, or is another archive's, vouches for nothing."""
    made = unpacked(tar(WANTED), root)
    (root / "toy" / MANIFEST).write_text(text)

    assert {"toy": "damaged"} == states(root, made)


def test_another_archive(root):
    """What came out of another archive than the stated one is not taken for it."""
    unpacked(tar(WANTED), root)
    other = archive(tar(WANTED | {"toy/more/d.txt": b""}))

    assert {"toy": "damaged"} == states(root, other)


def test_by_hand(root):
    """A folder without a manifest was put there by hand; an empty one or none is missing.

    It is whole where each member that is wanted, or one for each star, has a file.
    """
    made = archive(tar(WANTED))
    assert {"toy": "missing"} == states(root, made)
    (root / "toy").mkdir()
    assert {"toy": "missing"} == states(root, made)
    (root / "toy" / "a.bin").write_bytes(b"mine")
    assert {"toy": "incomplete"} == states(root, made)
    (root / "toy" / "more").mkdir()
    (root / "toy" / "more" / "._b.txt").write_bytes(b"of another system")
    assert ["toy/more/*.txt"] == lacking(root, made)
    (root / "toy" / "more" / "c.txt").write_bytes(b"mine")
    assert {"toy": "by hand"} == states(root, made)


KILLED = """
import os, signal, sys
from pathlib import Path
from bnnbench import archives

def killing(function, number):
    calls = []
    def call(*arguments):
        calls.append(1)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments)
    return call

owner, name, number = {
    "reading": (archives, "_extract", 1), "writing": (archives, "_copy", 2),
    "manifest": (Path, "write_text", 1), "placing": (archives, "_replace", 1),
    "between": (Path, "rename", 2),
}[sys.argv[1]]
if name == "write_text":
    write = Path.write_text
    def half(path, text, **options):
        write(path, text[:20], **options)
        os.kill(os.getpid(), signal.SIGKILL)
    Path.write_text = half
else:
    setattr(owner, name, killing(getattr(owner, name), number))
path, md5, limit, root = sys.argv[2:]
made = archives.Archive(md5, ("toy/a.bin", "toy/more/*.txt"), int(limit))
archives.unpack(Path(path), made, Path(root))
"""


@pytest.mark.parametrize("former", [False, True])
@pytest.mark.parametrize("moment", ["reading", "writing", "manifest", "placing", "between"])
def test_kill(root, moment, former):
    """kill -9 at any moment leaves the folder as it was or none; the next unpacking clears up."""
    if former:
        unpacked(tar({"toy/a.bin": b"old", "toy/more/b.txt": b"old"}), root)
    elif moment == "between":
        return  # there is one rename only
    before, content = bare(root), tar(WANTED)
    path, made = root.parent / "new.tar.gz", archive(content)
    path.write_bytes(content)

    command = [sys.executable, "-c", KILLED, moment, str(path), made.md5, str(LIMIT), str(root)]
    done = subprocess.run(command, check=False)

    assert -signal.SIGKILL == done.returncode
    left = {name: value for name, value in bare(root).items() if name.startswith("toy/")}
    assert left == ({} if moment == "between" else before)
    assert any(place.name.startswith(".unpacking-") for place in root.iterdir())
    assert {"toy": "damaged" if left else "missing"} == states(root, made)
    unpack(path, made, root)
    assert ["toy"] == [place.name for place in root.iterdir()]
    assert bare(root) == WANTED


NAMES = st.lists(st.text("ab./*", max_size=4), min_size=1, max_size=3).map("/".join)


@given(name=NAMES, pattern=NAMES)
def test_patterns(name, pattern):
    """A star stands for anything but a slash, and does not begin with a dot."""
    if "" in pattern.split("/"):
        return
    law = "/".join(
        re.escape(part).replace(r"\*", "[^/]*")
        if part[0] == "."
        else r"(?!\.)" + re.escape(part).replace(r"\*", "[^/]*")
        for part in pattern.split("/")
    )

    assert matches(name, pattern) == bool(re.fullmatch(law, name))


@pytest.mark.parametrize(
    "members",
    [
        (),
        ("a",),
        ("*/a",),
        ("a/b", "c/d"),
        ("../a",),
        ("/a/b",),
        ("a/../b",),
        ("a/b", "a/"),
        ("a\\b/c",),
    ],
)
def test_members_share_a_folder(members):
    """Members that are no files below one folder are refused as the archive is stated."""
    with pytest.raises(PluginError, match="files below one folder"):
        Archive(md5(b""), members, 1)
    with pytest.raises(PluginError, match="32 hexadecimal digits"):
        Archive("abc", ("a/b",), 1)
