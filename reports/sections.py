"""The sections of the page: those that have something to show, in their order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Section(NamedTuple):
    """A section's place in the page, and its name in the navigation.

    A ``live`` one needs script and is not offered without.
    """

    id: str
    name: str
    live: bool = False


def sections(
    told: Mapping[str, Any], known: Mapping[str, Any], cards: Sequence[Any]
) -> list[Section]:
    """Return the sections that are not empty.

    Args:
        told: what the page says, by the names of :func:`bnnbench_reports.page.facts`.
        known: the data of its controls.
        cards: its figures.
    """
    compared = ("differences", "published", "arrivals")
    there = {
        Section("verdict", "Verdict"): True,
        Section("results", "Results"): True,
        Section("comparisons", "Comparisons"): told["ranks_said"]
        or any(told[name].rows for name in compared),
        Section("explore", "Explore", live=True): known["scores"] or known["curves"],
        Section("figures", "Figures"): cards,
        Section("coverage", "Coverage"): True,
        Section("time", "Time"): told["buckets"].rows,
        Section("deployment", "Deployment"): told["sizes"].rows or told["refusals"],
        Section("roles", "Parameters"): told["roles"],
        Section("environments", "Environments"): told["environments"],
        Section("runs", "Runs"): told["runs"].rows or told["bases"].rows,
        Section("repeat", "Repeat it"): True,
    }
    return [section for section, something in there.items() if something]
