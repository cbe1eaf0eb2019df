"""Leases: a name has one holder at a time, and one that is gone loses it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import warnings
from contextlib import ExitStack, contextmanager, suppress

import psycopg
import pytest
import sqlalchemy as sa

from bnnbench import outages, schema
from bnnbench.entries import DONE, PENDING, RUNNING, TUNE
from bnnbench.errors import StoreError, UsageError
from bnnbench.holding import held, shared, workers
from bnnbench.leases import (
    Claim,
    ElsewhereError,
    Leases,
    LostLeaseError,
    is_gone,
    is_here,
    told,
)
from bnnbench.measurements import Measurement
from bnnbench.store import Store

from .small_study import enter, study

AWAY = "another-machine:1:7:5:abcdef01"


@pytest.fixture
def store(tmp_path):
    """A database with a study in it."""
    made = Store(str(tmp_path / "bnnbench.db"))
    made.create_study("s", study(), "", "0")
    yield made
    made.engine.dispose()


def stranger(store, name="run x", holder=AWAY):
    """Let somebody else hold a lease."""
    other = Leases(store)
    other.holder = holder
    claim = other.take(name)
    assert claim == Claim(name, holder)
    return other


def test_a_name_has_one_holder(store):
    """While one has it nobody else can; given back, another may."""
    one, other = Leases(store), Leases(store)

    claim = one.take("run x")
    assert claim is not None
    assert other.take("run x") is None
    assert other.take("run y") is not None
    assert one.take("run x") == claim
    one.give_back(claim)
    assert other.take("run x") == Claim("run x", other.holder)


def test_only_the_holder_gives_back(store):
    """Giving back a lease that was lost changes nothing."""
    stranger(store)
    Leases(store).give_back(Claim("run x", "somebody:1:1:1:1"))

    assert Leases(store).take("run x") is None


def test_one_of_many_gets_it(store):
    """Of thirty threads that ask at once, for a free lease and for a stale one, one has it."""
    for name, holder in (("run free", None), ("run stale", gone())):
        if holder:
            stranger(store, name, holder)
        asking = [Leases(store) for _ in range(30)]
        found: list[Claim | None] = [None] * len(asking)
        start = threading.Barrier(len(asking))

        def ask(place, asking=asking, found=found, start=start, name=name):
            start.wait()
            found[place] = asking[place].take(name)

        threads = [threading.Thread(target=ask, args=(n,)) for n in range(len(asking))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        (won,) = filter(None, found)
        assert won.former == (holder or "")


def gone() -> str:
    """The holder of a process of this machine that has ended."""
    code = "from bnnbench.leases import _process; import os; print(_process(os.getpid()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return f"{done.stdout.strip()}:12345678"


def test_a_process_of_this_machine_that_has_ended_is_gone_at_once(store):
    """Its lease is taken over without waiting, and the claim says whose it was."""
    holder = gone()
    stranger(store, holder=holder)

    claim = Leases(store, patience=1000).take("run x")

    assert claim is not None
    assert (True, holder) == (is_gone(holder), claim.former)


def test_a_process_number_that_is_used_again_is_another_process(store):
    """A living process that began at another time is not the holder."""
    host, space, pid, started, mark = Leases(store).holder.rsplit(":", 4)

    assert not is_gone(":".join([host, space, pid, started, mark]))
    assert is_gone(":".join([host, space, pid, str(int(started) + 1), mark]))


def test_elsewhere_one_is_gone_when_its_beats_stand_still(store):
    """Patience is counted from when the observer first saw the count, on its own clock."""
    beating = stranger(store)
    watcher = Leases(store, patience=0.2)

    for _ in range(4):
        assert watcher.take("run x") is None
        time.sleep(0.1)
        beating._beat()
    assert watcher.take("run x") is None
    time.sleep(0.25)
    claim = watcher.take("run x")

    assert claim is not None
    assert (AWAY, False) == (claim.former, is_here(AWAY))


def test_the_clock_of_the_wall_does_not_matter(store, monkeypatch):
    """A clock that jumps makes nobody stale."""
    stranger(store)
    watcher = Leases(store, patience=1000)
    assert watcher.take("run x") is None

    monkeypatch.setattr(time, "time", lambda: 1e12)

    assert watcher.take("run x") is None


def test_a_thread_beats_until_the_block_ends(store):
    """A holder that is merely busy is not taken over; afterwards its leases are free."""
    busy = Leases(store, patience=0.4)
    busy.holder = AWAY
    watcher = Leases(store, patience=0.4)
    with busy.kept_alive():
        busy.take("run x")
        for _ in range(8):
            assert watcher.take("run x") is None
            time.sleep(0.1)

    assert watcher.take("run x") == Claim("run x", watcher.holder)


def test_time_without_a_database_does_not_count(store, monkeypatch):
    """After an outage longer than their patience the living are not passed over, the dead are."""
    living, watcher = Leases(store, patience=0.4), Leases(store, patience=0.4)
    living.holder = AWAY
    stranger(store, "run dead", "another-machine:1:8:5:abcdef02")
    is_away, begin = threading.Event(), store.begin

    def absent():
        if is_away.is_set():
            raise StoreError("the server is away")
        return begin()

    monkeypatch.setattr(store, "begin", absent)
    with living.kept_alive(), watcher.kept_alive():
        assert living.take("run x")
        time.sleep(0.15)
        assert [None, None] == [watcher.take(name) for name in ("run x", "run dead")]
        is_away.set()
        time.sleep(1.0)
        is_away.clear()
        back = time.monotonic()

        assert [None, None] == [watcher.take(name) for name in ("run x", "run dead")]
        while watcher.take("run dead") is None:
            assert watcher.take("run x") is None
            assert time.monotonic() < back + 20
            time.sleep(0.02)
        assert watcher.take("run x") is None


def test_leases_wait_for_a_server_that_is_away(store, monkeypatch):
    """What breaks off in mid-transaction is done again, whole; the answer is the same."""
    monkeypatch.setattr(outages, "FIRST_PAUSE", 0.001)
    lost = sa.exc.OperationalError("UPDATE", {}, psycopg.OperationalError("gone"))
    lost.connection_invalidated = True
    begin, breaks = store.begin, []

    @contextmanager
    def breaking():
        with begin() as connection:
            yield connection
            breaks.append(len(breaks))
            if len(breaks) % 3 == 1:
                raise lost

    leases = Leases(store)
    monkeypatch.setattr(store, "begin", breaking)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the server does not answer
        claim = leases.take("run x")
        assert claim == Claim("run x", leases.holder)
        leases._beat()
        assert [] == leases.others("run")
        leases.enrol("worker s/", "1", lambda places: None)
        leases.give_back(claim)
        assert Leases(store).take("run x") is not None
    assert 4 <= sum(number % 3 == 0 for number in breaks)


def test_what_was_taken_over_can_no_longer_be_written(store):
    """The former holder's measurements and its end of the run are refused, the new one's not."""
    entry = enter(store, "bop", 1, role=TUNE)
    name = f"run {entry.run.key}"
    former = stranger(store, name)
    old = Claim(name, former.holder)
    store.start_run(entry.run_id, {}, {}, claim=old)
    store.write(entry.run_id, [Measurement("loss", 1.0, epoch=1, split="train")], old)
    new = Leases(store, take_over=True).take(name)
    assert new is not None

    late = [Measurement("loss", 2.0, epoch=2, split="train")]
    for write in (
        lambda: store.write(entry.run_id, late, old),
        lambda: store.end_run(entry.run_id, DONE, claim=old),
        lambda: store.start_run(entry.run_id, {}, {}, claim=old),
    ):
        with pytest.raises(LostLeaseError, match="taken over"):
            write()

    key = entry.run.key
    assert (1, {key: RUNNING}) == (store.reached(entry.run_id), store.states([key]))
    store.write(entry.run_id, late, new)
    store.end_run(entry.run_id, PENDING, claim=new)
    assert (2, {key: PENDING}) == (store.reached(entry.run_id), store.states([key]))


def test_claimed_gives_back_whatever_happens(store):
    """A block that fails leaves the lease free; one that cannot have it does not begin."""
    one, other = Leases(store), Leases(store)
    with suppress(ZeroDivisionError), one.claimed("run x"):
        with pytest.raises(ElsewhereError), other.claimed("run x"):
            pytest.fail("it began")
        1 / 0  # noqa: B018  # a block that fails

    assert other.take("run x") is not None


def test_many_work_at_a_study_but_one_changes_it_alone(store):
    """Workers share a study; who changes it waits for them, and they for it."""
    with shared(store, "s") as one, shared(store, "s") as other:
        assert {one.holder, other.holder} == set(workers(store, "s"))
        by_us = f"being worked at by process {os.getpid()} on"
        with pytest.raises(UsageError, match=by_us), held(store, "s"):
            pytest.fail("it began")
    with held(store, "s"):
        with pytest.raises(UsageError, match="'s' is being worked at"), shared(store, "s"):
            pytest.fail("it began")
        changed = "being changed by another process"
        with pytest.raises(UsageError, match=changed), held(store, "s"):
            pytest.fail("it began")
    assert [] == workers(store, "s")


def test_on_sqlite_a_study_has_eight_workers(store):
    """The ninth is told of PostgreSQL; who goes makes room, and so does who was killed."""
    with ExitStack() as working:
        for _ in range(7):
            working.enter_context(shared(store, "s"))
        stranger(store, f"worker s/1 {gone()}", gone())
        with shared(store, "s"), shared(store, "s", places=0):
            with pytest.raises(UsageError, match=r"8 workers at most, this would make 9; .*://"):
                working.enter_context(shared(store, "s"))
            assert 9 == len(workers(store, "s"))
        with pytest.raises(UsageError, match="this would make 10;"):
            working.enter_context(shared(store, "s", places=3))
        working.enter_context(shared(store, "s"))
    assert [] == names(store)


def test_a_supervisor_has_the_places_of_its_workers(store):
    """Five and three are eight; one of a crew is counted with its supervisor."""
    too_many = pytest.raises(UsageError, match="this would make 9;")
    with shared(store, "s", places=5), shared(store, "s", places=3), shared(store, "s", places=0):
        ninth = shared(store, "s")
        with too_many, ninth:
            pytest.fail("it began")


def test_of_many_at_once_eight_begin(store):
    """They are counted one after the other, so that none is let in too many, or too few."""
    begin, over = threading.Barrier(12), threading.Barrier(12)
    found = []

    def work():
        begin.wait()
        try:
            with shared(store, "s"):
                found.append(True)
                over.wait(60)
        except UsageError:
            found.append(False)
            over.wait(60)

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [False] * 4 + [True] * 8 == sorted(found)


def names(store):
    """The names of all leases."""
    with store.begin() as connection:
        return list(connection.execute(sa.select(schema.leases.c.name)).scalars())


def test_a_study_of_a_longer_name_is_another(store):
    """Who works at "s" does not hold "s2", nor "s/", whatever characters SQL knows."""
    for name in ("s2", "s%", "s_"):
        stranger(store, f"worker {name}/{AWAY}")

    with held(store, "s"):
        assert [] == workers(store, "s")


def test_who_is_gone_with_its_machine_is_taken_over(store):
    """A worker elsewhere counts until --take-over."""
    stranger(store, f"worker s/{AWAY}")

    with pytest.raises(UsageError, match=r"process 7 on another-machine.*--take-over"):
        _begin(store)
    with held(store, "s", take_over=True):
        pass


def _begin(store):
    with held(store, "s"):
        pytest.fail("it began")


def test_holders_in_words():
    """A host may have colons in its name."""
    assert "process 7 on a:b" == told("a:b:1:7:5:abcdef01")
