"""The cache: made once, by one at a time, whole or not at all, whoever else is at work."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from bnnbench.errors import DataError, UsageError
from bnnbench_plugins import cache as module
from bnnbench_plugins.cache import cache_root, kept

IDENTITY = {"toy": 1, "shape": (5, 3)}
ARRAYS = {
    "a": np.linspace(0, 1, 15, dtype=np.float32).reshape(5, 3),
    "b": np.arange(-2, 2).astype(">i8"),
    "c": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
}
SIZE = sum(array.nbytes for array in ARRAYS.values())
FACTS = {"fill": [0.1, -1.0]}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own for each test; it need not exist."""
    folder = tmp_path / "deep" / "cache"
    monkeypatch.setenv("BNNBENCH_CACHE", str(folder))
    return folder


def make(draft):
    for name, array in ARRAYS.items():
        draft.write(name, np.array_split(array, 2), array.shape, array.dtype)
    draft.facts.update(FACTS)


def unmade(draft):
    raise AssertionError("made again")


def toy(made=make):
    return kept(IDENTITY, SIZE, made)


def right(found):
    assert found.arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert isinstance(found.arrays[name], np.memmap)
        assert found.arrays[name].dtype == array.dtype.newbyteorder("<")
        assert found.arrays[name].shape == array.shape
        assert np.array_equal(array, found.arrays[name])
    assert found.facts == FACTS
    return True


def folders(cache):
    return sorted(path.name for path in cache.iterdir())


def entry(cache):
    (folder,) = cache.iterdir()
    return folder


def stamps(cache):
    return {path: path.stat().st_mtime_ns for path in cache.rglob("*")}


def test_kept(cache):
    """Arrays of any type and facts come back as they were; the files are ordinary .npy files."""
    assert right(toy())

    assert ["a.npy", "b.npy", "c.npy", "meta.json"] == folders(entry(cache))
    assert 0o755 == entry(cache).stat().st_mode & 0o777  # others of the machine may read it
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(array, np.load(entry(cache) / f"{name}.npy"))


def test_made_once(cache, monkeypatch):
    """The second time nothing is made, written or waited for."""
    toy()
    before = stamps(cache)
    monkeypatch.setattr(module, "_turn", None)

    assert right(toy(unmade))
    assert before == stamps(cache)


def test_no_header_is_parsed(monkeypatch):
    """What is kept is mapped without numpy's reader, which is not safe in threads."""
    toy()

    def refuse(*args, **options):
        raise AssertionError("parsed")

    monkeypatch.setattr("ast.literal_eval", refuse)
    monkeypatch.setattr(np, "load", refuse)

    assert right(toy(unmade))


def test_identity(cache):
    """What is in an identity names the folder, the order of its keys and its kind of lists not."""
    toy()
    kept({"shape": [5, 3], "toy": 1}, SIZE, unmade)

    kept({**IDENTITY, "toy": 2}, SIZE, make)

    assert 2 == len(folders(cache))


def test_written_to_by_nobody():
    """What a process writes to its arrays stays with it."""
    toy().arrays["a"][:] = 7

    assert right(toy(unmade))


# damage


def rewrite(folder, change):
    """Change what meta.json says, with the right checksum."""
    meta = json.loads((folder / "meta.json").read_text())
    del meta["sha256"]
    change(meta)
    text = json.dumps(meta, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()
    (folder / "meta.json").write_text(json.dumps({**meta, "sha256": digest}))


def replaced(name, array):
    return lambda folder: np.save(folder / f"{name}.npy", array)


def bytes_replaced(old, new):
    def damage(folder):
        content = (folder / "a.npy").read_bytes()
        assert old in content
        (folder / "a.npy").write_bytes(content.replace(old, new, 1))

    return damage


def swapped(folder):
    (folder / "a.npy").rename(folder / "x")
    (folder / "b.npy").rename(folder / "a.npy")
    (folder / "x").rename(folder / "b.npy")


def longer(folder):
    with (folder / "c.npy").open("ab") as file:
        file.write(b"\0")


def other_facts(folder):
    text = (folder / "meta.json").read_text()
    (folder / "meta.json").write_text(text.replace("-1.0", "-2.0"))


def no_folder(folder):
    shutil.rmtree(folder)
    folder.write_text("something else")


DAMAGES = {
    "no meta": lambda folder: (folder / "meta.json").unlink(),
    "half a meta": lambda folder: (folder / "meta.json").write_text('{"identity"'),
    "a list": lambda folder: (folder / "meta.json").write_text('["a", "b", "c"]'),
    "no text": lambda folder: (folder / "meta.json").write_bytes(b"\xff"),
    "no checksum": lambda folder: (folder / "meta.json").write_text('{"identity": {}}'),
    "other facts": other_facts,
    "other identity": lambda folder: rewrite(folder, lambda meta: meta["identity"].update(toy=2)),
    "no arrays": lambda folder: rewrite(folder, lambda meta: meta.pop("arrays")),
    "no such type": lambda f: rewrite(f, lambda meta: meta["arrays"]["a"].update(dtype="<x4")),
    "more of a form": lambda f: rewrite(f, lambda meta: meta["arrays"]["a"].update(order="C")),
    "missing": lambda folder: (folder / "b.npy").unlink(),
    "empty": lambda folder: (folder / "b.npy").write_bytes(b""),
    "shorter": lambda folder: os.truncate(folder / "c.npy", (folder / "c.npy").stat().st_size - 1),
    "longer": longer,
    "another array": replaced("a", np.zeros(7)),
    "another shape": replaced("a", ARRAYS["a"].reshape(3, 5)),
    "another type": replaced("a", ARRAYS["a"].view("<i4")),
    "another order": replaced("a", np.asfortranarray(ARRAYS["a"])),
    "a value": bytes_replaced(ARRAYS["a"][-1].tobytes(), bytes(12)),
    "other values": replaced("a", ARRAYS["a"] + 1),
    "objects": bytes_replaced(b"'<f4'", b"'|O' "),
    "swapped": swapped,
    "no folder": no_folder,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damage_is_mended(damage, cache):
    """Whatever is missing or wrong is made anew, and is whole afterwards."""
    toy()
    damage(entry(cache))
    calls = []

    assert right(toy(lambda draft: calls.append(make(draft))))
    assert 1 == len(calls)
    assert right(toy(unmade))
    assert ["a.npy", "b.npy", "c.npy", "meta.json"] == folders(entry(cache))


def test_objects_are_never_read(cache):
    """An array of Python objects is refused, though all that is written of it agrees."""
    toy()
    shape = ARRAYS["a"].shape
    path = entry(cache) / "a.npy"
    path.write_bytes(module._header(shape, "|O") + bytes(8 * 15))
    with path.open("rb") as file:
        form = {"dtype": "|O", "sample": module._sample(file)}
    rewrite(entry(cache), lambda meta: meta["arrays"]["a"].update(form))

    assert right(toy())


@pytest.mark.parametrize("stop", [KeyboardInterrupt, MemoryError, UsageError])
def test_broken_off(stop, cache):
    """What is broken off leaves nothing, and lets others go on."""

    def broken(draft):
        make(draft)
        raise stop

    with pytest.raises(stop):
        toy(broken)
    assert [] == folders(cache)
    assert right(toy())


@pytest.mark.parametrize("rows", [4, 6])
def test_not_what_was_announced(rows, cache):
    """An array with fewer or more values than its shape has is not kept."""

    def wrong(draft):
        draft.write("a", [np.zeros((rows, 3), np.float32)], (5, 3), np.float32)

    with pytest.raises(DataError, match="not what was written"):
        toy(wrong)
    assert [] == folders(cache)


def test_what_a_killed_process_left(cache):
    """Another machine's folder goes if nobody has written to it for a day; else it stays."""
    toy()
    others = set(folders(cache))
    day = 86_400
    for name, age in (("old", 2 * day), ("young", day / 2), ("busy", 2 * day)):
        work = cache / f"{name}.part"
        work.mkdir(parents=True)
        (work / "a.npy").write_bytes(b"half")
        for path in (work / "a.npy", work):
            os.utime(path, (time.time() - age,) * 2)
    os.utime(cache / "busy.part" / "a.npy")

    kept({"another": 1}, SIZE, make)

    assert {"busy.part", "young.part"} == {x for x in folders(cache) if x.endswith(".part")}
    assert others < set(folders(cache))


KILLED = """
import os, signal
import numpy as np
from bnnbench_plugins import cache

def make(draft):
    draft.write("a", [np.arange(1000)], (1000,), np.int64)
    os.kill(os.getpid(), signal.SIGKILL)

cache.kept({"toy": 1}, 8000, make)
"""


def test_killed(cache):
    """What a process on this machine left when it was killed goes with the next that is made."""
    done = subprocess.run([sys.executable, "-c", KILLED], check=False)
    assert done.returncode < 0
    assert [True] == [name.endswith(".part") for name in folders(cache)]

    kept({"another": 1}, SIZE, make)

    assert [False] == [name.endswith(".part") for name in folders(cache)]


def test_where_nothing_can_be_locked_others_may_be_at_work(cache, monkeypatch):
    """Without a lock nobody knows whether a folder is still written to: a young one stays."""
    subprocess.run([sys.executable, "-c", KILLED], check=False)
    left = folders(cache)
    monkeypatch.setattr(module, "_turn", lambda root: nullcontext(False))

    kept({"another": 1}, SIZE, make)

    assert {*left} < {*folders(cache)}


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 12_000, 300_000, 1_048_575])
def test_all_of_a_small_array_is_looked_at(size, tmp_path):
    """No byte of up to a megabyte can change unseen."""
    path, content = tmp_path / "a", bytearray(size)

    def sample():
        path.write_bytes(content)
        with path.open("rb") as file:
            return module._sample(file)

    before = sample()
    for place in {0, 1, size // 3, size // 2, size - 2, size - 1} & {*range(size)}:
        content[place] = 1
        assert before != sample()
        content[place] = 0
    assert before == sample()


def test_pieces_of_a_large_array_are_looked_at(tmp_path):
    """Of a large one the ends and every stretch of a 256th are, in a megabyte that is read."""
    path, size = tmp_path / "a", 40_000_000

    def sample(start=0, stop=0):
        with path.open("wb") as file:
            file.truncate(size)
            file.seek(start)
            file.write(b"x" * (stop - start))
        with path.open("rb") as file:
            return module._sample(file)

    whole = sample()
    stretch = size // 255
    for start in (0, size // 2, size - stretch):
        assert whole != sample(start, start + stretch)
    assert whole != sample(size - 1, size)


def test_on_the_disk_before_it_has_its_name(cache, monkeypatch):
    """Every file has reached the disk before the folder gets the name that says it is whole."""
    synced, fsync = set(), os.fsync

    def noted(handle):
        fsync(handle)
        assert not [path for path in cache.iterdir() if path.suffix != ".part"]
        synced.add((os.fstat(handle).st_ino, os.fstat(handle).st_size))

    monkeypatch.setattr(os, "fsync", noted)

    toy()

    stats = [path.stat() for path in entry(cache).iterdir()]
    assert {(stat.st_ino, stat.st_size) for stat in stats} == synced


# others at work


def at_once(count=3):
    """Ask for the same in several threads; what they have, and how often it was made."""
    found, calls = [None] * count, []

    def one(place):
        found[place] = toy(lambda draft: calls.append(make(draft)))

    threads = [threading.Thread(target=one, args=(place,)) for place in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found, len(calls)


def test_one_makes_it_and_others_wait(cache):
    """Of several threads that want the same at once, one makes it and all have it."""
    found, made = at_once()

    assert 1 == made
    assert all(right(each) for each in found)
    assert 1 == len(folders(cache))


PROCESS = """
import os, sys, time
import numpy as np
from contextlib import nullcontext
from bnnbench_plugins import cache

turns, made = sys.argv[1] == "turns", [0]
if not turns:
    cache._turn = lambda root: nullcontext()

def make(draft):
    made[0] += 1
    draft.write("a", [np.arange(1000)], (1000,), np.int64)
    time.sleep(0.02 * turns)

print("ready", flush=True)
for line in sys.stdin:
    os.environ["BNNBENCH_CACHE"], made[0] = line.strip(), 0
    try:
        found = cache.kept({"toy": 1}, 8000, make).arrays["a"]
        said = "right" if found.tolist() == list(range(1000)) else "wrong"
    except Exception as error:
        said = repr(error)
    print(made[0], said, flush=True)
"""


@pytest.fixture
def processes(request):
    """Three processes that wait for the name of a cache, then want the same from it."""
    command = [sys.executable, "-c", PROCESS, request.param]
    running = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert ["ready\n"] * 3 == [process.stdout.readline() for process in running]

    def asked(cache):
        for process in running:
            process.stdin.write(f"{cache}\n")
            process.stdin.flush()
        return [process.stdout.readline().split(maxsplit=1) for process in running]

    yield asked
    for process in running:
        process.stdin.close()
        process.wait(60)
        process.stdout.close()


def damaged_copy(cache, place):
    """A cache of one entry that is damaged."""
    shutil.copytree(cache, place)
    os.truncate(entry(place) / "a.npy", 200)


@pytest.mark.parametrize("processes", ["turns", "none"], indirect=True)
@pytest.mark.parametrize("damaged", [False, True])
def test_processes(processes, damaged, tmp_path, request):
    """Several processes at once: one makes it, or all where none can wait; all have it whole."""
    turns = "turns" in request.node.callspec.id
    processes(tmp_path / "whole")
    for trial in range(8):
        place = tmp_path / str(trial)
        if damaged:
            damaged_copy(tmp_path / "whole", place)

        answers = processes(place)

        assert ["right\n"] * 3 == [said for _, said in answers]
        made = sum(int(count) for count, _ in answers)
        assert made == 1 if turns else 1 <= made <= 3
        assert ["a.npy", "meta.json"] == folders(entry(place))


@pytest.fixture
def meanwhile(cache, tmp_path, monkeypatch):
    """A damaged entry, and what another process does once we have moved it out of the way."""
    toy()
    shutil.copytree(entry(cache), tmp_path / "whole")
    os.truncate(entry(cache) / "a.npy", 10)
    shutil.copytree(entry(cache), tmp_path / "damaged")
    discard, calls = module._discard, []

    def let(*steps):
        def discarded(place):
            discard(place)
            calls.append(place)
            if len(calls) <= len(steps):
                steps[len(calls) - 1](place)

        monkeypatch.setattr(module, "_discard", discarded)
        return calls

    let.discard = discard
    let.publish = lambda place: shutil.copytree(tmp_path / "whole", place)
    let.spoil = lambda place: shutil.copytree(tmp_path / "damaged", place)
    return let


def test_another_has_removed_the_damage(meanwhile, cache):
    """A damaged folder that is gone by the time it is to be removed is no fault."""
    calls = meanwhile(meanwhile.discard)

    assert right(toy())
    assert 1 == len(calls)
    assert right(toy(unmade))


def test_another_was_first(meanwhile, cache):
    """A whole folder that another process has put there meanwhile is taken, ours is dropped."""
    before = []
    calls = meanwhile(lambda place: [meanwhile.publish(place), before.append(stamps(cache))])

    assert right(toy())
    assert 1 == len(calls)
    assert stamps(entry(cache)).items() <= before[0].items()
    assert ["a.npy", "b.npy", "c.npy", "meta.json"] == folders(entry(cache))


def test_damaged_again(meanwhile, cache):
    """A damaged folder that comes back is removed again, and ours gets its place."""
    calls = meanwhile(meanwhile.spoil, meanwhile.spoil)

    assert right(toy())
    assert 3 == len(calls)
    assert right(toy(unmade))


def test_damaged_for_ever(meanwhile, cache):
    """A damaged folder that always comes back is given up in one line, and nothing else stays."""
    meanwhile(*[meanwhile.spoil] * 99)

    with pytest.raises(DataError, match="not empty") as raised:
        toy()

    assert one_line(raised)
    assert 1 == len(folders(cache))


def test_all_make_it_at_once(cache, monkeypatch):
    """Where nothing makes them wait all make it, and what is whole already is kept."""
    ready, load, discarded = threading.Barrier(3, timeout=60), module._load, []
    monkeypatch.setattr(module, "_turn", lambda root: nullcontext())
    monkeypatch.setattr(module, "_discard", discarded.append)

    def together(work, identity):
        if work.suffix == ".part":
            ready.wait()
        return load(work, identity)

    monkeypatch.setattr(module, "_load", together)

    found, made = at_once(3)

    assert 3 == made
    assert all(right(each) for each in found)
    assert 1 == len(folders(cache))
    assert [] == discarded


# what cannot be


def one_line(raised):
    text = str(raised.value)
    return "\n" not in text and text.endswith("; set BNNBENCH_CACHE to another")


def test_too_little_space(cache, monkeypatch):
    """Where there is not enough space it says so at once, in one line, and begins nothing."""
    usage = type("Usage", (), {"free": SIZE - 1})
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage)

    with pytest.raises(DataError, match=r"to which 1 MB can .* not so much space left") as raised:
        toy(unmade)

    assert one_line(raised)
    assert [] == folders(cache)
    usage.free = SIZE
    assert right(toy())


def test_full_disk(cache, monkeypatch):
    """A disk that fills up while it is written to is named in one line, and nothing stays."""

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(DataError, match="No space left on device") as raised:
        toy()

    assert one_line(raised)
    assert [] == folders(cache)


def test_cache_that_cannot_be(cache):
    """A file where the cache should be is named in one line."""
    cache.parent.mkdir(parents=True)
    cache.write_text("a file")

    with pytest.raises(DataError, match=rf"{cache} must be a folder to which") as raised:
        toy()

    assert one_line(raised)


def test_cache_root(cache, monkeypatch, tmp_path):
    """BNNBENCH_CACHE names the cache, else it is the user's; never where the data are."""
    assert cache == cache_root()
    monkeypatch.setenv("BNNBENCH_CACHE", "~/there")
    assert Path("~/there").expanduser() == cache_root()
    monkeypatch.delenv("BNNBENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("BNNBENCH_DATA", str(tmp_path / "data"))
    assert tmp_path / "home" / "bnnbench" / "prepared" == cache_root()
