"""One signal waits for the end of an epoch, two do not."""
# ruff: noqa: PT012  # what is interrupted has more than one statement

import os
import signal

import pytest

from bnnbench.stopping import SIGNALS, Stop


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_waits_while_patient(number):
    """It is noted and told; :meth:`obey` raises it."""
    said = []
    stop = Stop(lambda: said.append("stopping"))
    with pytest.raises(KeyboardInterrupt), stop.heeded(), stop.patient():
        send(number)
        assert (True, False, ["stopping"]) == (stop.asked, stop.insisted, said)
        stop.obey()
        pytest.fail("it went on")


@pytest.mark.parametrize("number", SIGNALS)
def test_a_second_signal_does_not_wait(number):
    """Whoever insists interrupts at once, and is told nothing more."""
    said = []
    stop = Stop(lambda: said.append("stopping"))
    with pytest.raises(KeyboardInterrupt), stop.heeded(), stop.patient():
        send(signal.SIGINT)
        send(number)
        pytest.fail("it went on")
    assert (True, ["stopping"]) == (stop.insisted, said)


def test_elsewhere_a_signal_interrupts():
    """Outside of the block nothing is worth waiting for; what was noted in it comes out later."""
    stop = Stop()
    with pytest.raises(KeyboardInterrupt), stop.heeded():
        send(signal.SIGTERM)
        pytest.fail("it went on")
    with pytest.raises(KeyboardInterrupt), stop.patient():
        pytest.fail("it began, though somebody had asked for the end")


def test_handlers_are_put_back():
    """After the block, signals are whose they were."""
    before = [signal.getsignal(number) for number in SIGNALS]
    stop = Stop()
    with stop.heeded():
        assert before != [signal.getsignal(number) for number in SIGNALS]

    assert before == [signal.getsignal(number) for number in SIGNALS]
