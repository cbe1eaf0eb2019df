"""What a run came to: the few numbers that the table of results is made of, found as it ends.

They follow from its series. They are kept beside its state, so that a study of thousands of runs is
shown without reading a single series.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bnnbench.series import Series

Numbers = Mapping[str, float]  #: by mode

BITS = ("weight_bits", "activation_bits")


class Outcome(NamedTuple):
    """What a run came to.

    ``flips`` is the mean of ``flip_step`` over the epochs, ``seconds`` the median of those of
    training, without warm-up; both over all layers, None where nothing was measured. The rest is of
    the selected network, by mode: its accuracy on validation, what was measured of it on the test
    split, by metric, and its bits, by "weight_bits" and "activation_bits".
    """

    flips: float | None
    seconds: float | None
    selected: Numbers
    test: Mapping[str, Numbers]
    bits: Mapping[str, Numbers]

    def to_json(self) -> str:
        """Return it as text."""
        return json.dumps(self)

    @classmethod
    def from_json(cls, text: str) -> Outcome:
        """Return the outcome that :meth:`to_json` wrote.

        >>> outcome = Outcome(0.1, None, {"real": 90.0}, {}, {"weight_bits": {"real": 32.0}})
        >>> Outcome.from_json(outcome.to_json()) == outcome
        True
        """
        return cls(*json.loads(text))


def outcome(found: Iterable[Series]) -> Outcome:
    """Return what the run of some series came to."""
    known = {series[1:4]: series.values() for series in found if not series.layer}
    flips = known.get(("flip_step", "", ""), {}).values()
    seconds = known.get(("seconds.train", "", ""), {}).values()
    epoch = next(iter(known.get(("selected_epoch", "", ""), {}).values()), None)
    selected: dict[str, float] = {}
    test: dict[str, dict[str, float]] = {}
    bits: dict[str, dict[str, float]] = {}
    for (metric, split, mode), values in known.items():
        if (metric, split) == ("accuracy", "validation") and epoch in values:
            selected[mode] = values[int(epoch)]
        elif split == "test" or metric in BITS:
            kind = test if split == "test" else bits
            kind.setdefault(metric, {})[mode] = list(values.values())[-1]
    return Outcome(
        flips=statistics.fmean(flips) if flips else None,
        seconds=statistics.median(seconds) if seconds else None,
        selected=selected,
        test=test,
        bits=bits,
    )
