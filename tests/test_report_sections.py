"""The sections of the report: those with data are there and in the navigation, others are not."""

from __future__ import annotations

import re

import pytest

from bnnbench.deployments import keep
from bnnbench.interfaces import Figure
from bnnbench.measurements import Measurement
from bnnbench.results import Results
from bnnbench.store import BASE, DONE
from bnnbench_reports import page

from .small_study import DEPLOYED, EPOCHS, ROLES, enter, fill, record, study

ALWAYS = ["verdict", "results", "coverage", "repeat"]
EMPTY = re.compile("Not recorded|There is no |no figure|No run")


def built(store) -> str:
    return page.build(Results(store, "s"), [("drawn", drawn)])


def drawn(results):
    """A figure, where a run is done."""
    from plotly.graph_objects import Figure as Drawing

    return Figure("A figure", "It is explained.", Drawing()) if results.confirmed() else None


def sections(html: str) -> list[str]:
    return re.findall('<section id="(.*?)"', html)


def navigation(html: str) -> list[str]:
    return re.findall('<a href="#(.*?)"', re.search("<nav.*?</nav>", html)[0])


def finish(store, method="ste", facts=None, environment=None, measured=(), **place):
    """A finished run that has only what it is given here."""
    entry = enter(store, method, 1, **place)
    store.start_run(entry.run_id, facts or {}, environment or {})
    store.write(entry.run_id, list(measured))
    store.end_run(entry.run_id, DONE)
    return entry


def test_a_study_that_has_not_begun(store):
    """It has a verdict, lines without numbers, what is missing, and how to go on; no more."""
    store.create_study("s", study(), "", "0")

    html = built(store)

    assert ALWAYS == sections(html) == navigation(html)
    assert not EMPTY.search(html.partition("<script")[0])


def test_a_whole_study_has_them_all(store):
    """Runs that measured all there is, one of them packed: every section, in its order."""
    fill(store)
    keep(store, store.entries("s", method="ste")[0].run_id, DEPLOYED)

    html = built(store)

    assert [
        "verdict", "results", "comparisons", "explore", "figures", "coverage", "time",
        "deployment", "roles", "environments", "runs", "repeat",
    ] == sections(html) == navigation(html)  # fmt: skip


TESTED = Measurement("accuracy", 80.0, EPOCHS, "test", "binary")
SECONDS = Measurement("seconds.train", 1.0, 2)


@pytest.mark.parametrize(
    ("more", "given"),
    [
        ([], {}),
        (["explore"], {"facts": {"judged": "binary"}, "measured": [TESTED]}),
        (["explore", "time"], {"measured": [SECONDS]}),
        (["roles"], {"facts": {"roles": ROLES}}),
        (["environments"], {"environment": {"cores": 2}}),
    ],
)
def test_what_a_run_has_brings_its_section(store, more, given):
    """Each section comes with the data that it shows, and with nothing else."""
    store.create_study("s", study(), "", "0")
    finish(store, **given)

    html = built(store)

    assert {*ALWAYS, "figures", "runs", *more} == set(sections(html))
    assert sections(html) == navigation(html)
    assert not EMPTY.search(re.sub("(?s)<script.*?</script>", "", html))


@pytest.mark.parametrize("published", [[], [{"method": "ste", "value": 90.0}]])
def test_comparisons_need_something_to_compare_with(store, published):
    """A method alone is compared with nothing, unless a value of it was published."""
    store.create_study("s", study(methods=[{"method": "ste"}], published=published), "", "0")
    record(store, "ste", 1, {"binary": 80.0})

    assert ("comparisons" in sections(built(store))) == bool(published)


def test_a_run_that_others_build_on_is_listed_alone(store):
    """Before a confirming run there is a section of runs, and no empty table in it."""
    store.create_study("s", study(), "", "0")
    finish(store, "relaxed", role=BASE)

    html = built(store)

    runs = html[html.index('<section id="runs"') : html.index('<section id="repeat"')]
    assert 1 == runs.count("<table>") == runs.count("<details")
    assert not re.search(r"<tbody>\s*</tbody>", html)


@pytest.mark.parametrize("runs", [0, 1])
def test_no_table_is_empty(store, runs):
    """Whatever is missing, no table stands without a line."""
    store.create_study("s", study(), "", "0")
    if runs:
        finish(store)

    assert not re.search(r"<tbody>\s*</tbody>", built(store))
