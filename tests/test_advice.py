"""The plan of a study suggests how many workers are worth it, from what threads gain."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from bnnbench import pace
from bnnbench.cli import advice, main
from bnnbench.errors import DataError
from bnnbench.pace import Pace

from .conftest import TINY


@pytest.fixture
def planned(tmp_path, monkeypatch, capsys):
    """What ``study run --plan`` says after the table, on a machine of so many cores."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BNNBENCH_STORAGE", raising=False)
    (tmp_path / "tiny.toml").write_text(TINY)
    main(["study", "create", "s", "--from", "tiny.toml"])

    def call(cores, gains, *options):
        monkeypatch.setattr(sys, "argv", ["bnnbench"])
        monkeypatch.setattr(advice, "cores", lambda: cores)
        monkeypatch.setattr(advice, "gain", lambda network, batch, threads: gains[threads])
        capsys.readouterr()
        code = main(["study", "run", "s", "--plan", *options])
        out, err = capsys.readouterr()
        assert (0, "") == (code, err)
        return out.partition(" runs are missing\n")[2].strip()

    return call


@pytest.mark.parametrize(
    ("cores", "gains", "expected"),
    [
        (1, {}, ""),
        (2, {1: 1.0, 2: 1.07}, "--workers 2, one thread each: a step on 2 threads is 1.1"),
        (2, {1: 1.0, 2: 1.9}, "one process with all threads: a step on 2 of them is 1.9 times"),
        (8, {1: 1.0, 8: 5.0}, "--workers 8, one thread each: a step on 8 threads is 5.0"),
        (64, {8: 6.0, 64: 9.0}, "--workers 8, 8 threads each: a step on 64 threads is 9.0"),
        (64, {8: 6.0, 64: 45.0}, "one process with all threads: a step on 64 of them is 45.0"),
    ],
)
def test_workers_are_weighed_against_threads(planned, cores, gains, expected):
    """Eight runs are missing: as many workers as they can use, where threads gain less."""
    found = planned(cores, gains)

    assert bool(expected) == found.startswith("suggested: ")
    assert expected in found


def test_a_file_has_few_writers(planned, monkeypatch):
    """On SQLite there are no more workers than write to it without waiting long."""
    monkeypatch.setattr(advice, "MOST_ON_SQLITE", 2)

    assert "--workers 2, 4 threads each" in planned(8, {4: 2.0, 8: 3.0})


def test_nothing_to_choose(planned, monkeypatch):
    """One run, no run, or data that cannot be loaded yet: the plan suggests nothing."""
    assert planned(2, {1: 1.0, 2: 1.0})
    assert not planned(2, {}, "--workers", "2")  # it has been chosen
    needs = "bnnbench.tuning.StudyRunner.needs"
    monkeypatch.setattr("bnnbench.experiments.Workbench.dataset", missing)
    assert not planned(2, {1: 1.0, 2: 1.0})
    monkeypatch.setattr(needs, lambda runner: [])
    assert not planned(2, {})


def missing(workbench, part):
    raise DataError("not fetched")


def test_a_worker_for_each_gpu(planned, monkeypatch):
    """With several GPUs there is one each, but no more than runs; with one there is no choice."""
    monkeypatch.setattr("bnnbench.cli.run.usable_device", lambda device: "cuda")
    for gpus, expected in (
        (1, ""),
        (4, "suggested: --workers 4: one for each GPU"),
        (20, "8: one"),
    ):
        monkeypatch.setattr(torch.cuda, "device_count", lambda gpus=gpus: gpus)
        found = planned(2, {})
        assert expected in found
        assert bool(expected) == bool(found)


def test_gain_of_threads(monkeypatch):
    """It is the time on one thread in times on several; torch's settings stay."""
    before = torch.get_num_threads(), torch.get_float32_matmul_precision()

    def seconds(network, batch, paces):
        assert (Pace(1), Pace(3)) == paces
        paces[1].set()
        return 6.0, 2.5

    monkeypatch.setattr(pace, "_seconds", seconds)

    assert 2.4 == pace.gain(nn.Linear(2, 1), (1, 2), 3)
    assert before == (torch.get_num_threads(), torch.get_float32_matmul_precision())
    assert 1 == pace.gain(nn.Linear(2, 1), (1, 2), 1)
