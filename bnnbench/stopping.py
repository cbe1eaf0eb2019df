"""Ctrl-C and SIGTERM: the epoch under way is finished and kept, unless one comes again."""

from __future__ import annotations

import signal
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether somebody has asked for the end, and whether more than once (``insisted``).

    The first signal is noted while the block :meth:`patient` is on, and is a KeyboardInterrupt
    elsewhere; a second one is a KeyboardInterrupt wherever it comes. ``told`` is called when one
    is noted.
    """

    def __init__(self, told: Callable[[], object] = lambda: None) -> None:
        self.asked = self.insisted = False
        self._told, self._patient = told, False

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """Take the signals until the block ends; only the main thread may ask for it."""
        before: dict[Any, Any] = {each: signal.signal(each, self._take) for each in SIGNALS}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    @contextmanager
    def patient(self) -> Iterator[None]:
        """Let a first signal wait until :meth:`obey` is called, or the block ends."""
        self.obey()
        self._patient = True
        try:
            yield
        finally:
            self._patient = False

    def obey(self) -> None:
        """Raise what was noted.

        Raises:
            KeyboardInterrupt: somebody has asked for the end.
        """
        if self.asked:
            raise KeyboardInterrupt

    def _take(self, number: int, _frame: object) -> None:
        self.insisted, self.asked = self.asked, True
        if self.insisted or not self._patient:
            raise KeyboardInterrupt
        with suppress(OSError):  # nobody may be there to be told
            self._told()
