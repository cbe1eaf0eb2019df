"""The tuning trials of a study, as the figures of tuning read them."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from bnnbench.entries import ENDED, TUNE
from bnnbench_reports.readings import in_order, judged_mode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bnnbench.results import Results
    from bnnbench.store import Entry


class Trial(NamedTuple):
    """A trial that has ended: its validation accuracy in percent, None where it has none."""

    number: int
    state: str
    accuracy: float | None
    hyperparameters: Mapping[str, Any]


class Search(NamedTuple):
    """The trials of a (task, method) in the order of their numbers."""

    task: str
    method: str
    trials: tuple[Trial, ...]

    @property
    def completed(self) -> list[tuple[Trial, float]]:
        """The trials that were trained to their end, each with its accuracy."""
        return [(trial, a) for trial in self.trials if (a := trial.accuracy) is not None]

    @property
    def accuracies(self) -> list[float]:
        """The accuracies of the completed trials."""
        return [accuracy for _, accuracy in self.completed]

    @property
    def varied(self) -> list[str]:
        """The hyperparameters that are not the same in all trials, by name."""
        found: dict[str, set[str]] = {}
        for trial in self.trials:
            for name, value in trial.hyperparameters.items():
                found.setdefault(name, set()).add(repr(value))
        return sorted(name for name, values in found.items() if len(values) > 1)


@lru_cache(maxsize=1)
def searches(results: Results) -> list[Search]:
    """Return the trials that have ended, by (task, method) in the order of the study.

    They are read once for all figures.
    """
    ended = [e for e in results.entries if e.role == TUNE and e.state in ENDED]
    return [
        Search(*cell, tuple(_trial(results, entry) for entry in mine))
        for cell, mine in in_order(results, ended, lambda entry: entry)
    ]


def _trial(results: Results, entry: Entry) -> Trial:
    """The accuracy is what the trial was judged by: at the selected epoch in the judged mode."""
    outcome = results.outcomes.get(entry.run_id)  # there is none of a trial that is not done
    accuracy = outcome.selected.get(judged_mode(entry)) if outcome else None
    return Trial(entry.number, entry.state, accuracy, entry.run.method.hyperparameters)


def left_out(found: Sequence[Search]) -> str:
    """Say how many trials have no accuracy, nothing where all have one.

    >>> left_out([Search("t", "m", (Trial(0, "pruned", None, {}), Trial(1, "done", 9.0, {})))])
    ' Left out: 1 pruned of 2 trials.'
    """
    states = [t.state for search in found for t in search.trials if t.accuracy is None]
    total = sum(len(search.trials) for search in found)
    counts = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
    return f" Left out: {counts} of {total} trials." if counts else ""
