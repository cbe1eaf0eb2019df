"""Counters of energy, in a made-up folder of the system."""

from __future__ import annotations

import pytest

from bnnbench.energy import Meter


def zone(root, folder, name, counted, most=1_000_000):
    """A counter as Linux shows it."""
    made = root / folder
    made.mkdir(parents=True)
    (made / "name").write_text(f"{name}\n")
    (made / "energy_uj").write_text(f"{counted}\n")
    (made / "max_energy_range_uj").write_text(f"{most}\n")
    return made / "energy_uj"


def taken(meter, path, counted):
    """The joules until a counter stands at a number."""
    before = meter.read()
    path.write_text(str(counted))
    return meter.joules(before, meter.read())


def test_packages_and_memory_add_up(tmp_path):
    """Both packages and the memory count; cores are in their package, the whole board is not ours.

    250,000 + 1,000 + 20 microjoules.
    """
    first = zone(tmp_path, "intel-rapl:0", "package-0", 100_000)
    core = zone(tmp_path, "intel-rapl:0:0", "core", 5)
    memory = zone(tmp_path, "intel-rapl:0:1", "dram", 7)
    second = zone(tmp_path, "intel-rapl:1", "package-1", 0)
    board = zone(tmp_path, "intel-rapl:2", "psys", 0)
    twin = zone(tmp_path, "intel-rapl-mmio:0", "package-0", 100_000)
    (tmp_path / "intel-rapl").mkdir()
    meter = Meter(tmp_path)

    before = meter.read()
    for path, counted in (
        (first, 350_000), (second, 1_000), (memory, 27), (core, 999), (board, 999), (twin, 999)
    ):  # fmt: skip
        path.write_text(str(counted))

    assert meter.joules(before, meter.read()) == pytest.approx(0.25102, rel=1e-12)


def test_a_counter_that_ran_over(tmp_path):
    """From 999,990 over the end at 1,000,000 to 15 are 10 steps, one to 0, and 15: 26."""
    path = zone(tmp_path, "intel-rapl:0", "package-0", 999_990)

    assert taken(Meter(tmp_path), path, 15) == pytest.approx(26e-6, rel=1e-12)


def test_a_machine_at_rest(tmp_path):
    """A counter that has not moved is no energy, which is something else than not known."""
    path = zone(tmp_path, "intel-rapl:0", "package-0", 42)

    assert taken(Meter(tmp_path), path, 42) == 0.0


def test_without_counters(tmp_path):
    """No folder, or none with a counter: nothing is known, and nothing fails."""
    for root in (tmp_path, tmp_path / "absent"):
        meter = Meter(root)
        assert meter.counters == []
        assert meter.read() is None
        assert meter.joules(meter.read(), meter.read()) is None


@pytest.mark.parametrize("broken", ["energy_uj", "max_energy_range_uj", "name"])
@pytest.mark.parametrize("how", ["gone", "no number", "denied"])
def test_counters_that_cannot_be_read_are_left_out(tmp_path, broken, how):
    """Whatever file it is; the others are read."""
    zone(tmp_path, "intel-rapl:0", "package-0", 1)
    other = zone(tmp_path, "intel-rapl:1", "package-1", 1)
    path = tmp_path / "intel-rapl:0" / broken
    if how == "gone":
        path.unlink()
    elif how == "no number":
        path.write_text("none\n")
    else:
        path.unlink()
        path.mkdir()  # reading it raises an OSError, for root too

    meter = Meter(tmp_path)

    assert [counter.path for counter in meter.counters] == [other]
    assert taken(meter, other, 3) == pytest.approx(2e-6)


def test_a_counter_that_goes_away(tmp_path):
    """Then the energy of what was under way is not known."""
    path = zone(tmp_path, "intel-rapl:0", "package-0", 1)
    meter = Meter(tmp_path)
    before = meter.read()
    path.unlink()

    assert before == (1,)
    assert meter.joules(before, meter.read()) is None
