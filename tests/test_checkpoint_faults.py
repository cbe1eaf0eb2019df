"""Checkpoints and deaths: whatever happens to one, the study ends as it would have."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
import tomllib
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch

from bnnbench import trainer, updates
from bnnbench.checkpoints import BEFORE, TRAINING, Checkpoints
from bnnbench.cli import main
from bnnbench.consistency import look
from bnnbench.errors import DataError, UsageError
from bnnbench.experiments import Workbench
from bnnbench.plugins import load_plugins
from bnnbench.store import Store
from bnnbench.studyfile import parse_study
from bnnbench.tuning import StudyRunner

from .test_checkpoints import RUN, STATE, equal, weights
from .test_tuning import SILENT, fingerprint

STUDY = """
[task]
name = "t"
dataset = "digits"
architecture = { name = "mlp", depth = 1, width = 8 }
epochs = 5
batch_size = 200
[protocol]
trials = 0
seeds = 1
[[methods]]
method = "bop"
"""


@pytest.mark.slow
@pytest.mark.parametrize("part", [0, 1])
def test_death_at_any_write_changes_nothing(tmp_path, part):
    """Before, in and after each write of the database and of a checkpoint: the results are equal.

    Every other point is tried here, the rest in the other half.
    """
    script = Path(__file__).with_name("crashing.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, script, tmp_path, str(part), "2"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=500,
    )
    assert 0 == done.returncode, done.stderr[-2000:]
    told = json.loads(done.stdout)
    calm, deaths = told["calm"], told["deaths"]

    assert 30 < len(deaths)
    assert {9} == {death["status"] for death in deaths.values()}
    assert ["done"] == calm["states"]
    for death in deaths.values():
        for what in ("measured", "states", "faults"):
            assert calm[what] == death[what], death["name"]
    skipped = [deaths[point]["skipped"] for point in sorted(deaths, key=int)]
    taken_up = [epochs[0] for epochs in skipped if epochs]
    assert {0, 1, 2} == set(taken_up)
    assert sorted(taken_up) == taken_up  # to the very end nothing that was kept is trained anew
    names = {death["name"] for death in deaths.values()}
    assert names >= {"in the middle of a checkpoint", "before INSERT bnnbench_measurements"}


class Broken(Exception):
    """What breaks a training off in these tests."""


class Scene:
    """A study of one run, in a folder."""

    def __init__(self, folder, workbench):
        folder.mkdir()
        self.store = Store(str(folder / "x.db"))
        self.kept = Checkpoints(folder / "kept")
        self.workbench = workbench
        self.store.create_study("s", parse_study(tomllib.loads(STUDY), "x"), "cmd", "0")

    def run(self, after=lambda epoch: None):
        """Run it, and return the epochs that were skipped; ``after`` is told of each epoch."""
        self.workbench.checkpoints = self.kept
        skipped, epochs = [], []

        def epoch_ended(entry, measured):
            epochs.append(entry)
            after(max((m.epoch for m in measured), default=0))

        observer = SimpleNamespace(
            **{
                **vars(SILENT),
                "epochs_skipped": lambda entry, number: skipped.append(number),
                "epoch_ended": epoch_ended,
            }
        )
        StudyRunner(self.store, "s", self.workbench, observer, 0.0).run()
        return skipped

    def broken_off_after(self, last):
        """Run until an epoch is over, and what follows of it."""

        def after(epoch):
            if epoch == last + 1:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            self.run(after)
        return self.path(TRAINING), self.path(BEFORE)

    def path(self, kind):
        (entry,) = self.store.entries("s")
        return self.kept.folder / f"{entry.run.key}.{kind}.safetensors"

    def results(self):
        (entry,) = self.store.entries("s")
        return entry.run.key, entry.state, fingerprint(self.store, "s")


@pytest.fixture(scope="module")
def workbench():
    return Workbench(load_plugins(), "cpu", 1)


@pytest.fixture(autouse=True)
def each_epoch(monkeypatch):
    """Each epoch is a transaction, and nothing is compiled."""
    monkeypatch.setattr(trainer.Notebook, "LATE", 0.0)
    monkeypatch.setattr(updates, "WORTH", float("inf"))


@pytest.fixture(scope="module")
def undisturbed(workbench, tmp_path_factory):
    """What the study gives where nothing happens."""
    scene = Scene(tmp_path_factory.mktemp("calm") / "x", workbench)
    scene.run()
    assert "done" == scene.results()[1]
    yield scene.results()
    scene.store.engine.dispose()


@pytest.fixture
def scene(tmp_path, workbench):
    made = Scene(tmp_path / "x", workbench)
    yield made
    made.store.engine.dispose()


def cut(path):
    path.write_bytes(path.read_bytes()[:-7])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [cut, flip])
def test_damaged_checkpoint_falls_back_to_the_one_before(scene, undisturbed, damage):
    """The run is taken up an epoch earlier, says so, and ends with the same numbers."""
    last, before = scene.broken_off_after(3)
    assert last.exists()
    assert before.exists()
    damage(last)

    with pytest.warns(UserWarning, match=rf"{last.name} is damaged .*; the one before is taken"):
        assert [2] == scene.run()

    assert undisturbed == scene.results()


def test_two_damaged_checkpoints_begin_anew(scene, undisturbed):
    """Each is said; the numbers are the same."""
    for path in scene.broken_off_after(3):
        flip(path)

    with pytest.warns(UserWarning, match="is damaged") as said:
        assert [0] == scene.run()

    lines = [str(each.message) for each in said]
    assert 2 == len(lines)
    assert lines[0].endswith("the one before is taken")
    assert lines[1].endswith("the run begins anew")
    assert undisturbed == scene.results()


def test_death_between_two_renames_takes_the_one_before(scene, undisturbed):
    """Where the last one has no name yet, the one before is whole, and there is nothing to say."""
    last, _ = scene.broken_off_after(3)
    last.unlink()

    assert [2] == scene.run()

    assert undisturbed == scene.results()


def test_undamaged_checkpoint_is_the_last(scene, undisturbed):
    """What the others are compared with: it goes on after the epoch before the break."""
    scene.broken_off_after(3)

    assert [3] == scene.run()

    assert undisturbed == scene.results()
    assert not list(scene.kept.folder.glob("*.safetensors"))


def test_damaged_checkpoint_does_not_take_a_whole_ones_place(tmp_path):
    """After a fall-back the next checkpoint replaces the damaged one, not the whole one."""
    Checkpoints(tmp_path).save_training(RUN, {"epoch": 1})
    Checkpoints(tmp_path).save_training(RUN, {"epoch": 2})
    last, before = (tmp_path / f"{RUN.key}.{kind}.safetensors" for kind in (TRAINING, BEFORE))
    flip(last)

    Checkpoints(tmp_path).save_training(RUN, {"epoch": 3})

    assert {"epoch": 3} == Checkpoints(tmp_path).training(RUN)
    last.unlink()
    assert {"epoch": 1} == Checkpoints(tmp_path).training(RUN)
    assert before.exists()


def test_two_are_kept_and_no_more(tmp_path):
    """After any number of saves there are the last and the one before."""
    kept = Checkpoints(tmp_path)
    for epoch in range(1, 5):
        kept.save_training(RUN, {"epoch": epoch})

    assert 2 == len(list(tmp_path.iterdir()))
    assert {"epoch": 4} == kept.training(RUN)
    (tmp_path / f"{RUN.key}.{TRAINING}.safetensors").unlink()
    assert {"epoch": 3} == kept.training(RUN)


def test_checkpoint_is_on_the_disk_before_its_name(tmp_path, monkeypatch):
    """Written and synced, then the last becomes the one before, then named, the folder synced."""
    kept, done = Checkpoints(tmp_path), []
    kept.save_training(RUN, {"epoch": 1})
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor):
        done.append(("synced", Path(f"/proc/self/fd/{descriptor}").readlink().name))
        fsync(descriptor)

    def renamed(path, target):
        done.append((path.name, target.name))
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    kept.save_training(RUN, {"epoch": 2})

    last, before = (f"{RUN.key}.{kind}.safetensors" for kind in (TRAINING, BEFORE))
    part = f"{RUN.key}.{TRAINING}.{os.getpid()}.part"
    assert done == [("synced", part), (last, before), (part, last), ("synced", tmp_path.name)]


FULL = OSError(errno.ENOSPC, "No space left on device")
READ_ONLY = OSError(errno.EROFS, "Read-only file system")


@pytest.mark.parametrize(
    ("owner", "name", "error"),
    [
        (os, "fsync", FULL),
        (safetensors.torch, "save_file", FULL),
        (safetensors.torch, "save_file", READ_ONLY),
        (Path, "replace", READ_ONLY),
    ],
)
def test_checkpoint_that_cannot_be_written_costs_nothing_else(
    scene, undisturbed, monkeypatch, owner, name, error
):
    """A full disk or a folder that became read-only: an event, and the run goes on."""
    plain, failed = getattr(owner, name), []

    def fails(*values, **named):
        if 1 < len(kept) < 4:
            failed.append(name)
            raise error
        return plain(*values, **named)

    kept = []
    monkeypatch.setattr(owner, name, fails)
    scene.run(kept.append)

    assert failed
    assert undisturbed == scene.results()
    said = [text for _, kind, text in scene.store.events("s") if kind == "checkpoint"]
    assert said
    assert all("not written: OSError" in text and error.strerror in text for text in said)


def test_full_disk_keeps_the_checkpoint_that_was_there(scene, undisturbed, monkeypatch):
    """The last good one is kept until the next is whole: the run is taken up from it."""
    plain, number = os.fsync, []

    def full(descriptor):
        if number[-1] >= 3:
            raise FULL
        return plain(descriptor)

    def after(epoch):
        number.append(epoch)
        if epoch == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(KeyboardInterrupt):
        scene.run(after)
    monkeypatch.undo()
    monkeypatch.setattr(trainer.Notebook, "LATE", 0.0)

    assert [2] == scene.run()

    assert undisturbed == scene.results()


def test_kernel_that_refuses_in_the_middle_of_a_file(tmp_path):
    """A real short write: the file of before stays, and no half one."""
    kept = Checkpoints(tmp_path)
    kept.save_training(RUN, STATE)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        with pytest.raises(Exception, match=r"(?i)file too large"):
            kept.save_training(RUN, {"epoch": 2, "x": torch.zeros(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)

    assert equal(STATE, kept.training(RUN))
    assert 1 == len(list(tmp_path.iterdir()))


def test_folder_that_cannot_be_written_to_is_refused_at_once(tmp_path, monkeypatch):
    """Before anything is trained, in one line, with the way out."""

    def refuses(**_):
        raise READ_ONLY

    monkeypatch.setattr("tempfile.TemporaryFile", refuses)
    with pytest.raises(UsageError, match=r"\(Read-only file system\); name another with --checkp"):
        Checkpoints(tmp_path).check_folder()


def test_clock_that_jumps_back_changes_nothing(scene, undisturbed, monkeypatch, capsys):
    """A day back in mid-run: the same results, in a database that can be shown and is sound."""
    plain, begun = time.time, time.time()
    after = []
    monkeypatch.setattr(time, "time", lambda: plain() - 86_400 * len(after))

    def jump(epoch):
        if epoch == 2:
            after.append(epoch)

    scene.run(jump)

    assert undisturbed == scene.results()
    (entry,) = scene.store.entries("s")
    assert entry.finished_at < entry.started_at < begun + 1000
    assert [] == look(scene.store, scene.kept).faults
    assert 0 == main(["study", "show", "s", "--storage", str(scene.store.url.database)])
    assert "bop" in capsys.readouterr().out


# what a checksum covers


def rewritten(path, change):
    """The file with another header and the same numbers."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])


def tell(name, old, new):
    def change(header):
        assert old in header["__metadata__"][name]
        header["__metadata__"][name] = header["__metadata__"][name].replace(old, new)

    return change


def reshape(header):
    header["0"]["shape"] = header["0"]["shape"][::-1]


def retype(header):
    header["0"]["dtype"] = "I32"


def rename(header):
    header["1"] = header.pop("0")


@pytest.mark.parametrize(
    "change",
    [
        tell("facts", '"epoch", 1', '"epoch", 2'),
        tell("run", '"seed":1', '"seed":2'),
        reshape,
        retype,
        rename,
        lambda header: header["__metadata__"].pop("digest"),
        lambda header: header.pop("__metadata__"),
    ],
)
def test_checksum_is_of_all_that_a_file_says(tmp_path, change):
    """Another number in its texts, another shape or type of a tensor: damaged."""
    kept = Checkpoints(tmp_path)
    kept.save_training(RUN, {"epoch": 1, "x": torch.arange(6.0).reshape(2, 3)})
    path = tmp_path / f"{RUN.key}.{TRAINING}.safetensors"
    rewritten(path, lambda header: None)
    assert 1 == kept.training(RUN)["epoch"]

    rewritten(path, change)

    with pytest.warns(UserWarning, match="is damaged"):
        assert kept.training(RUN) is None
    assert "is damaged" in kept.fault(RUN.key, TRAINING)


def test_files_of_before_are_read(tmp_path):
    """The first versions had a checksum of the numbers alone; it still counts."""
    import hashlib

    kept = Checkpoints(tmp_path)
    kept.save_weights(weights())
    path = tmp_path / f"{RUN.key}.weights.safetensors"
    found = safetensors.torch.load_file(path)
    old = hashlib.sha256()
    for name in sorted(found):
        old.update(name.encode() + found[name].numpy().tobytes())

    def change(header):
        del header["__metadata__"]["digest"]
        header["__metadata__"]["sha256"] = old.hexdigest()

    rewritten(path, change)
    assert kept.has_weights(RUN.key)
    flip(path)
    assert not kept.has_weights(RUN.key)


@pytest.mark.parametrize("facts", ["[]", "3", "{}", '{"progress": 3}', "[[1, 2, 3]]", "nonsense"])
def test_nonsense_with_a_right_checksum_is_refused(tmp_path, facts):
    """What was written by somebody else on purpose is one line, too."""
    from bnnbench.checkpoints import _digest

    kept = Checkpoints(tmp_path)
    for kind in ("weights", TRAINING):
        header = {"run": RUN.to_json(), "facts": facts}
        header["digest"] = _digest({"network.x": torch.ones(2)}, header)
        path = tmp_path / f"{RUN.key}.{kind}.safetensors"
        safetensors.torch.save_file({"network.x": torch.ones(2)}, path, header)

    with pytest.raises(DataError, match="is damaged"):
        kept.weights(RUN.key)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert kept.training(RUN) is None
    assert re.search("is damaged|is of torch", str(said[0].message))
