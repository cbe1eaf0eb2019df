"""What was measured in a run, on its way to the database."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bnnbench.leases import Claim
    from bnnbench.measurements import Measurement
    from bnnbench.store import Store


class Notebook:
    """Measurements of a run on their way to the database, a quarter of a second late at most.

    A transaction takes milliseconds, and so do the epochs of a small network. What is broken off is
    taken up after the last epoch that was handed in, or begun anew. The last of them, ``measured``,
    are left for the transaction in which the run ends.
    """

    LATE = 0.25

    def __init__(self, store: Store, run_id: int, claim: Claim | None = None) -> None:
        self.store, self.run_id, self.claim = store, run_id, claim
        self.measured: list[Measurement] = []
        self.handed_in = time.monotonic()

    def begin(
        self, facts: Mapping[str, Any], environment: Mapping[str, Any], after: int | None
    ) -> None:
        """Begin the run anew, or go on ``after`` an epoch."""
        self.measured, self.handed_in = [], time.monotonic()
        self.store.start_run(self.run_id, facts, environment, after, self.claim)

    def write(self, measured: list[Measurement], *, is_last: bool = False) -> None:
        """Take the measurements of an epoch; hand them in if it is time, and they are not last."""
        self.measured += measured
        if not is_last and time.monotonic() - self.handed_in >= self.LATE:
            self.hand_in()

    def hand_in(self) -> None:
        """Write what there is to the database, in one transaction."""
        if self.measured:
            self.store.write(self.run_id, self.measured, self.claim)
        self.measured, self.handed_in = [], time.monotonic()
