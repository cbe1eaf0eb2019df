"""The report in a browser: it opens offline, and what it computes is what Python computes."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import re
import shutil
import xml.etree.ElementTree as ElementTree
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from plotly.graph_objects import Bar
from plotly.graph_objects import Figure as Drawing
from scipy import stats

from bnnbench.comparisons import Comparisons
from bnnbench.interfaces import Figure
from bnnbench.plugins import load_plugins
from bnnbench.results import Results
from bnnbench.statistics.intervals import interval
from bnnbench.statistics.paired import Cannot, compare
from bnnbench.store import DIVERGED, DONE, Store
from bnnbench_reports import command, data, page, thinning
from bnnbench_reports.figures.drawing import plain

from .small_study import EPOCHS, enter, record, study

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run")
FLAGS += ("--disable-background-networking", "--disable-component-update", "--disable-sync")
HOSTILE = "</script><img src=x onerror=alert(1)><b>&\u2028'\","
SEEDS = range(1, 9)
METHODS = ("real", "ste", "bop", "bmd")
TASKS = ("a", "b", "c")
MEANS = {"real": 90, "ste": 87, "bop": 84, "bmd": 93}
FIGURES = ("test-accuracy", "accuracy", "loss", "flips")


def cannot(reason, *, must=False):
    """Skip; fail where a browser must be tried, or ``BNNBENCH_BROWSER=required`` says so."""
    if must or os.environ.get("BNNBENCH_BROWSER") == "required":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def chromium():
    """The browser; without one the tests are skipped, for nobody can be asked to have it."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if not found:
        cannot("no browser here: the path has neither chromium nor chromium-browser")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        # where CI is set and there is a browser, it must be tried
        cannot("playwright is not installed", must=bool(os.environ.get("CI")))

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.mark.parametrize(
    ("required", "must", "outcome"),
    [
        ("required", False, pytest.fail.Exception),
        ("", True, pytest.fail.Exception),
        ("", False, pytest.skip.Exception),
    ],
)
def test_a_browser_can_be_required(monkeypatch, required, must, outcome):
    """Without a browser tests are skipped, and fail where somebody says that it must be there."""
    monkeypatch.setenv("BNNBENCH_BROWSER", required)

    with pytest.raises((pytest.fail.Exception, pytest.skip.Exception), match="none") as caught:
        cannot("none", must=must)

    assert outcome is type(caught.value)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Four methods on three tasks; half of the runs of bmd on b diverged, ste is judged twice."""
    store = Store(str(tmp_path_factory.mktemp("browser") / "bnnbench.db"))
    fill(store)
    yield Results(store, "s")
    store.engine.dispose()


def fill(store):
    tasks = [{"name": t, "dataset": "digits", "architecture": "mlp", "epochs": 3} for t in TASKS]
    store.create_study("s", several(tasks), "bnnbench study create s", "0")
    rng = random.Random(1)
    for task in TASKS:
        for method in METHODS:
            for seed in SEEDS:
                put(store, rng, task, method, seed)


def put(store, rng, task, method, seed):
    if (task, method) == ("b", "bmd") and seed % 2:
        store.end_run(enter(store, method, seed, task=task).run_id, DIVERGED, error="nan")
        return
    judged = "real" if method == "real" else "binary"
    value = round(MEANS[method] + rng.gauss(0, 1.5), 1)
    other = {"binary": 20.0 + seed} if method == "real" else {"real": 50.0 + seed}
    test = {judged: value} | (other if method in ("real", "ste") else {})
    facts = {"examples": {"train": 1000}, "synthetic": task == "c"}
    shared = seed == 1
    record(store, method, seed, test, task=task, judged=judged, shared=shared, facts=facts)


def several(tasks):
    from bnnbench.studyfile import parse_study

    methods = [{"method": method} for method in METHODS]
    values = {"title": "Several", "tasks": tasks, "methods": methods, "protocol": {"seeds": 8}}
    return parse_study(values, "several")


def few_figures():
    """Some of the bundled figures, and one whose data are known."""
    known = command.figures(load_plugins())
    bars = Drawing(Bar(x=[1.5, 2.5], y=[7, 0.125], name=plain("a <b> & c")))
    odd = ("bars", lambda results: Figure("Bars", "Bars.", bars))
    return [(name, drawn) for name, drawn in known if name in FIGURES] + [odd]


@pytest.fixture(scope="module")
def report(results, tmp_path_factory):
    """The path of the report."""
    path = tmp_path_factory.mktemp("report") / "s.html"
    path.write_text(page.build(results, few_figures(), load_plugins()), encoding="utf-8")
    return path


class Seen:
    """A page without a network, and what it asked for and complained of."""

    def __init__(self, browser, path, **options):
        self.context = browser.new_context(offline=True, accept_downloads=True, **options)
        self.context.set_default_timeout(60_000)
        self.page = self.context.new_page()
        self.requests, self.complaints, self.address = [], [], path.as_uri()
        self.context.route(lambda url: not url.startswith("file:"), lambda route: route.abort())
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.on("console", lambda message: self.complaints.append(message.text))

    def open(self, view=""):
        self.page.goto(self.address + view)
        return self

    def show(self, view):
        """Go to a view by its URL, as somebody who changes the address does."""
        self.page.evaluate("hash => { location.hash = hash; }", view)
        self.page.wait_for_function("hash => location.hash === hash", arg=view)
        self.page.wait_for_timeout(50)

    def download(self, selector):
        with self.page.expect_download() as caught:
            self.page.click(selector)
        return Path(caught.value.path()).read_bytes().decode("utf-8")

    def rows(self, selector):
        return list(csv.DictReader(io.StringIO(self.download(selector), newline="")))

    def selection(self):
        """The lines of the selection by task and method; numbers are floats, or None."""
        found = self.rows("[data-file=selection]")
        return {(line["task"], line["method"]): numbers(line) for line in found}

    def style(self, selector, name):
        code = "([selector, name]) => getComputedStyle(document.querySelector(selector))[name]"
        return self.page.evaluate(code, [selector, name])


TEXTS = ("task", "method", "mode", "metric", "reference", "line", "panel")


def numbers(line):
    return {
        name: text if name in TEXTS else float(text) if text else None
        for name, text in line.items()
    }


@pytest.fixture(scope="module")
def once(chromium, report):
    """One page for all tests that leave it as they found it."""
    seen = Seen(chromium, report).open()
    yield seen
    seen.context.close()


@pytest.fixture
def seen(once):
    """The page in its first view."""
    once.show("#?theme=light")
    yield once
    assert [] == once.complaints


def expected(results, methods, tasks, reference):
    """What Python says of a part of the study."""
    judged = Comparisons(results).judged
    cells = [(task, method) for task in tasks for method in methods]
    pairs = {
        (task, method): [
            value - judged[task, reference][seed]
            for seed, value in judged[task, method].items()
            if seed in judged[task, reference]
        ]
        for task, method in cells
        if method != reference
    }
    compared = dict(zip(pairs, compare(list(pairs.values())), strict=True))
    return {cell: one(judged[cell], compared.get(cell)) for cell in cells}


def one(by_seed, paired):
    values = list(by_seed.values())
    low, high = interval(values).within(0, 100)
    found = {"n": len(values), "mean": np.mean(values), "sd": np.std(values, ddof=1)}
    found |= {"low": low, "high": high, "pairs": 0}
    found |= dict.fromkeys(("difference", "difference_low", "difference_high", "p_holm"))
    if paired:
        found |= {"pairs": paired.n, "difference": paired.mean}
        found |= {"p_holm": None if isinstance(paired.p, Cannot) else paired.p}
        found["difference_low"], found["difference_high"] = paired.interval
    return found


def agree(found, wanted):
    assert list(wanted) == list(found)
    for cell, line in wanted.items():
        for name, value in line.items():
            near = value if value is None else pytest.approx(value, rel=1e-9, abs=1e-9)
            assert found[cell][name] == near, (cell, name)


def ranked(results, methods, tasks):
    """Ranks by scipy; bmd, half of whose runs on b diverged, is last there."""
    judged, found = Comparisons(results).judged, {}
    for task in tasks:
        means = [np.mean(list(judged[task, method].values())) for method in methods]
        means = [0 if (task, m) == ("b", "bmd") else v for m, v in zip(methods, means, strict=True)]
        ranks = stats.rankdata(-np.array(means))
        found |= {(task, m): rank for m, rank in zip(methods, ranks, strict=True)}
    return found


def test_it_opens_offline_and_asks_for_nothing(chromium, report):
    """With the network blocked every figure is drawn, nothing but the file is asked for.

    A script that is put into the page does not run: the policy knows the page's own by hash.
    """
    seen = Seen(chromium, report).open()

    plots = seen.page.locator(".card:not(.replaced) .plot")

    assert 3 == plots.count()
    for number in range(3):
        plots.nth(number).scroll_into_view_if_needed()
        plots.nth(number).locator(".main-svg").first.wait_for()
    assert [seen.address] == seen.requests
    assert [] == seen.complaints

    seen.page.evaluate(
        "() => { const element = document.createElement('script');"
        " element.textContent = 'window.ran = true'; document.body.append(element); }"
    )

    assert seen.page.evaluate("() => window.ran") is None
    assert any("Content Security Policy" in said for said in seen.complaints)
    seen.context.close()


def test_the_whole_selection_is_that_of_python(seen, results):
    """With all chosen, the selection has the numbers of the tables above, and scipy's ranks."""
    found = seen.selection()

    agree(found, expected(results, METHODS, TASKS, "real"))
    agree(found, {cell: {"rank": r} for cell, r in ranked(results, METHODS, TASKS).items()})
    assert "" == seen.page.inner_text("#part")


def test_hiding_a_method_computes_again(seen, results):
    """Ranks, mean ranks and Holm's family are those of what is left, and a badge says so."""
    before = seen.selection()
    seen.page.uncheck("input[value=ste]")
    seen.page.uncheck("input[name=tasks][value=c]")
    methods, tasks = ("real", "bop", "bmd"), ("a", "b")

    found = seen.selection()

    agree(found, expected(results, methods, tasks, "real"))
    ranks = ranked(results, methods, tasks)
    agree(found, {cell: {"rank": rank} for cell, rank in ranks.items()})
    assert before["a", "bop"]["p_holm"] != found["a", "bop"]["p_holm"]
    assert "a part of the study: 3 of 4 methods, 2 of 3 tasks" == seen.page.inner_text("#part")
    cells = seen.page.locator("#selection-table tr:nth-child(2) td").all_inner_texts()
    assert f"{np.mean([ranks[task, 'bop'] for task in tasks]):.2f}" == cells[7]


def test_another_reference_gives_other_differences(seen, results):
    """Differences, intervals and p are those to the chosen method, hidden or not, by seed."""
    seen.page.select_option("select[name=reference]", "bmd")

    agree(seen.selection(), expected(results, METHODS, TASKS, "bmd"))

    seen.page.uncheck("input[value=bmd]")
    agree(seen.selection(), expected(results, ("real", "ste", "bop"), TASKS, "bmd"))
    seen.page.select_option("select[name=reference]", "")
    assert {None} == {line["difference"] for line in seen.selection().values()}


def test_modes_and_metrics(seen, results):
    """All methods can be judged alike: who has no such mode has no number; less loss is better."""
    seen.page.select_option("select[name=mode]", "real")

    found = seen.selection()

    assert np.mean([50 + seed for seed in SEEDS]) == found["a", "ste"]["mean"]
    assert found["a", "bop"]["mean"] is None
    assert [1, 2, None] == [found["a", method]["rank"] for method in ("real", "ste", "bop")]

    seen.page.select_option("select[name=metric]", "seconds_per_epoch")
    found = seen.selection()
    assert 7 == found["a", "real"]["n"]
    assert np.mean([2.5 * seed for seed in SEEDS[1:]]) == found["a", "real"]["mean"]
    assert [1, 3] == [found["a", method]["rank"] for method in ("real", "ste")]
    seen.page.select_option("select[name=metric]", "flip_step")
    assert {None} == {line["rank"] for line in seen.selection().values()}


def test_a_url_restores_the_view(seen, chromium, report):
    """The address that a view has shows the same view in another window, at the same place."""
    for name, value in (("reference", "ste"), ("x", "step"), ("band", "quartiles")):
        seen.page.select_option(f"select[name={name}]", value)
    seen.page.uncheck("input[value=bmd]")
    assert "reference=ste" in seen.page.url
    seen.page.click("nav a[href='#explore']")
    address = seen.page.url
    other = Seen(chromium, report).open(address[address.index("#") :])

    shown = "() => Array.from(document.querySelectorAll('#controls input, #controls select'), "
    shown += "each => each.type === 'checkbox' ? each.checked : each.value)"

    assert seen.page.evaluate(shown) == other.page.evaluate(shown)
    assert seen.selection() == other.selection()
    assert address == other.page.url
    assert abs(other.page.evaluate("() => byIdTop('explore')".replace("byIdTop", TOP))) < 2
    other.context.close()


TOP = "(id => document.getElementById(id).getBoundingClientRect().top)"


def test_a_url_of_nonsense_is_the_first_view(seen):
    """What no choice knows is passed over."""
    usual = seen.selection()

    seen.show("#nowhere?theme=light&reference=nobody&x=%E0%A4%A&__proto__=1&methods2=a")

    assert usual == seen.selection()
    seen.show("#?theme=light&methods=ste,%25,nobody")
    assert [("a", "ste"), ("b", "ste"), ("c", "ste")] == list(seen.selection())


def test_nothing_chosen_is_said(seen):
    """Without a method there is no table and no figure, and a word for it."""
    seen.page.click("[data-all=methods]")

    assert seen.page.inner_text("#selection-said").startswith("Nothing is selected")
    assert 0 == seen.page.locator("#selection-table table").count()
    assert not seen.page.is_visible("#curves")
    seen.page.click("#reset")
    assert 12 == len(seen.selection())


def test_curves_are_those_of_numpy(seen, results):
    """The CSV of the curves has every line that is drawn: aggregate, band and seeds, over x."""
    seen.show("#?theme=light&aggregate=median&band=quartiles&x=seconds&methods=ste&tasks=a")
    curves = results.curves("accuracy", split="validation", mode="binary")
    mine = [c for c in curves if (c.entry.task, c.entry.method) == ("a", "ste")]
    values = np.array([curve.values for curve in mine if not curve.entry.shared])
    clock = np.array([np.cumsum([2.0 * s, 4.0 * s, 6.0 * s]) for s in SEEDS[1:]])

    rows = [numbers(row) for row in seen.rows("[data-file=csv][data-of=curves]")]
    lines = {name: [r["value"] for r in rows if r["line"] == name] for name in LINES}

    assert 3 * EPOCHS == len(rows)
    np.testing.assert_allclose(clock.mean(0), [r["seconds"] for r in rows[:EPOCHS]], rtol=1e-5)
    np.testing.assert_allclose(np.median(values, 0), lines["median"], rtol=1e-5)
    np.testing.assert_allclose(np.percentile(values, 25, 0), lines["quartiles low"], rtol=1e-5)
    np.testing.assert_allclose(np.percentile(values, 75, 0), lines["quartiles high"], rtol=1e-5)

    seen.show("#?theme=light&methods=ste&tasks=a&x=step&band=seeds")
    rows = [numbers(row) for row in seen.rows("[data-file=csv][data-of=curves]")]
    assert [10.0, 20.0, 30.0] == [row["step"] for row in rows if row["line"] == "seed 3"]
    third = next(curve for curve in mine if curve.entry.number == 3)
    assert third.values.tolist() == [row["value"] for row in rows if row["line"] == "seed 3"]


LINES = ("median", "quartiles low", "quartiles high")


def test_few_epochs_have_whole_ticks(seen):
    """On the first panel's axis there is nothing between two epochs."""
    seen.page.locator("#curves").scroll_into_view_if_needed()
    seen.page.locator("#curves .main-svg").first.wait_for()

    ticks = seen.page.locator("#curves [class~=xtick] text").all_text_contents()

    assert ticks
    assert {str(epoch) for epoch in range(1, EPOCHS + 1)} >= set(ticks)


def test_the_legend_chooses_too(seen):
    """A click on a method in the legend hides it in the table as well."""
    seen.page.locator("#curves .legendtoggle").nth(1).click()
    seen.page.wait_for_function("() => location.hash.includes('methods')")

    assert not seen.page.is_checked("input[value=ste]")
    assert ("a", "ste") not in seen.selection()


def column(page, place, number):
    """The texts of a column, from the top."""
    return page.locator(f"{place} tbody tr td:nth-child({number})").all_inner_texts()


def test_tables_are_sorted_by_a_column(seen):
    """A click on a number's head: greatest first, least first, as at first; "–" stands last."""
    place, mean = "#selection-table", 4
    first = column(seen.page, place, mean)
    known = sorted((float(text) for text in first if text != "–"), reverse=True)
    head = seen.page.locator(f"{place} th:nth-child({mean})")

    found = []
    for _ in range(3):
        head.locator("button").click()
        found.append((head.get_attribute("aria-sort"), column(seen.page, place, mean)))

    missing = ["–"] * first.count("–")
    assert found == [
        ("descending", [f"{value:.2f}" for value in known] + missing),
        ("ascending", [f"{value:.2f}" for value in reversed(known)] + missing),
        (None, first),
    ]


def test_the_selection_keeps_its_order(seen):
    """A table that is made anew is sorted as the one before it, and method goes with its number."""
    place = "#selection-table"
    seen.page.locator(f"{place} th:nth-child(4) button").click()
    before = list(zip(column(seen.page, place, 2), column(seen.page, place, 4), strict=True))
    seen.page.uncheck("input[value=ste]")

    after = list(zip(column(seen.page, place, 2), column(seen.page, place, 4), strict=True))

    assert after == [row for row in before if row[0] != "ste"]
    assert after


def test_other_modes_stay_with_their_method(seen):
    """In the table of results a faint row follows the row of its method, however it is sorted."""
    rows = "#results table tbody tr"
    pairs = """rows => rows.map((row, at) => [row, rows[at - 1]])
        .filter(([row]) => row.className === "faint").map(pair => pair.map(r => r.innerText))"""
    before = seen.page.locator(rows).evaluate_all(pairs)
    seen.page.locator("#results th:nth-child(2) button").first.click()

    assert before
    assert sorted(before) == sorted(seen.page.locator(rows).evaluate_all(pairs))
    assert seen.page.locator("#results th").nth(1).get_attribute("aria-sort") == "ascending"


def test_figures_are_files(seen, results):
    """Every figure's numbers are a CSV and its drawing an SVG, dark on white, without script."""
    bars = seen.page.locator(".card .plot").count()
    rows = [numbers(row) for row in seen.rows(f"[data-file=csv][data-of=plot-{bars - 1}]")]
    assert [("a <b> & c", 1.5, 7.0), ("a <b> & c", 2.5, 0.125)] == [
        (row["line"], row["x"], row["y"]) for row in rows
    ]
    scores = seen.rows("[data-file=csv][data-of=plot-1]")
    value = Comparisons(results).judged["a", "bop"][2]
    assert value in [float(row["x"]) for row in scores if row["y"] == "bop, binary*"]

    seen.show("#?theme=dark&methods=ste,bop&band=none&tasks=a")
    tree = ElementTree.fromstring(seen.download("[data-file=svg][data-of=curves]"))
    names = [element.tag.rpartition("}")[2] for element in tree.iter()]
    text = "".join(tree.itertext())

    assert "script" not in names
    assert "ste" in text
    assert "real" not in text
    lines = sum(element.get("class") == "js-line" for element in tree.iter())
    assert 2 + 2 == lines  # in the panel and in the legend
    background = next(e for e in tree.iter() if e.get("style", "").startswith("fill:"))
    assert "rgb(255, 255, 255)" in background.get("style") or "white" in background.get("style")


def test_every_figure_has_its_numbers_as_a_table(seen):
    """Beside each figure there is a table of what it shows, made when it is opened."""
    cards = seen.page.locator(".card:not(.replaced):not(.failed)")
    for number in range(cards.count()):
        card = cards.nth(number)
        card.locator("summary").click()
        card.locator("details table tbody tr").first.wait_for()
        assert card.locator("details table tbody tr").count() >= 2
    cells = cards.last.locator("tbody tr").first.locator("td").all_inner_texts()
    assert ["1", "a <b> & c", "1.5", "7"] == cells
    table = cards.first.locator("tbody tr").nth(1).locator("td").all_inner_texts()
    assert ["a", "ste", "8"] == table[:3]


BEYOND = """width => Array.from(document.querySelectorAll("body *"))
  .filter(each => each.checkVisibility() && !each.closest(".scroll *, svg *, #js-plotly-tester"))
  .filter(each => { const box = each.getBoundingClientRect();
    return box.width && (box.right > width + 0.5 || box.left < -0.5); })
  .map(each => `${each.localName}#${each.id}.${each.className}`)"""


OVER = """() => Array.from(document.querySelectorAll("td, th"))
  .filter(each => each.scrollWidth > each.clientWidth + 1).map(each => each.innerText)"""


@pytest.mark.parametrize("width", [1440, 400])
def test_nothing_sticks_out_sideways(chromium, report, width):
    """At the width of a screen and of a telephone, with every table open and every figure drawn.

    Tables scroll in their own boxes, figures are as wide as their cards, the page does not scroll;
    no text reaches into the next cell.
    """
    seen = Seen(chromium, report, viewport={"width": width, "height": 800}).open()
    seen.page.evaluate("() => document.querySelectorAll('details').forEach(d => d.open = true)")
    plots = seen.page.locator(".card:not(.replaced) .plot")
    for number in range(plots.count()):
        plots.nth(number).scroll_into_view_if_needed()
        plots.nth(number).locator(".main-svg").first.wait_for()

    assert width == seen.page.evaluate("() => document.documentElement.scrollWidth")
    assert [] == seen.page.evaluate(BEYOND, width)
    assert [] == seen.page.evaluate(OVER)
    drawn = plots.evaluate_all(
        "plots => plots.map(p => [p.querySelector('.main-svg').clientWidth, p.clientWidth])"
    )
    assert drawn
    assert all(svg <= box for svg, box in drawn)
    box = seen.page.locator("#results .scroll").first
    if width == 400:
        assert box.evaluate("box => box.scrollWidth > box.clientWidth && box.clientWidth <= 400")
    seen.context.close()


def test_images_are_told_in_a_sentence(seen, results):
    """What the curves show is said anew with every choice: who ends highest, who lowest."""
    seen.show("#?theme=light&methods=ste,bop&tasks=a&aggregate=mean")
    ends = {}
    for method in ("ste", "bop"):
        curves = results.curves("accuracy", split="validation", mode="binary")
        mine = [c for c in curves if (c.entry.task, c.entry.method) == ("a", method)]
        ends[method] = np.mean([curve.values[-1] for curve in mine])
    low, high = sorted(ends, key=ends.get)

    said = seen.page.get_attribute("#curves", "aria-label")

    assert said.startswith("Validation accuracy in %, mean over the seeds, at the end of 2 lines:")
    assert f"the highest is {ends[high]:.2f} ({high}, n = 8)" in said.replace(" %", "")
    assert f"the lowest {ends[low]:.2f} ({low}, n = 8)." in said.replace(" %", "")
    images = seen.page.locator("[role=img]")
    for label in images.evaluate_all("images => images.map(i => i.getAttribute('aria-label'))"):
        assert re.search(r"n = \d|\d lines?:", label), label


REACHABLE = """() => Array.from(document.querySelectorAll(
  'a[href], button, input, select, summary, [tabindex="0"]'))
  .filter(each => each.checkVisibility() && each.getClientRects().length).length"""
FOCUSED = """() => { const at = document.activeElement;
  window.reached = window.reached || new Set(); window.reached.add(at);
  return at === document.body ? '' : getComputedStyle(at).outlineStyle; }"""


def test_all_is_reached_by_keyboard(chromium, report):
    """Tab comes to every control, link and table; where it is can be seen; space chooses."""
    seen = Seen(chromium, report).open()
    wanted = seen.page.evaluate(REACHABLE)
    outlines = []
    for _ in range(wanted):
        seen.page.keyboard.press("Tab")
        outlines.append(seen.page.evaluate(FOCUSED))

    assert wanted == seen.page.evaluate("() => window.reached.size")
    assert {"solid"} == set(outlines) - {"auto"}
    seen.page.focus("input[value=ste]")
    seen.page.keyboard.press("Space")
    assert not seen.page.is_checked("input[value=ste]")
    assert "input" == seen.page.evaluate("() => document.activeElement.localName")
    assert "3 of 4 methods" in seen.page.inner_text("#part")
    seen.context.close()


INK = """ink => { const text = document.querySelector('#curves .xtick text');
  return text && getComputedStyle(text).fill === ink; }"""


def test_light_and_dark(seen):
    """The page is as the system is, until the button says otherwise; figures follow."""
    seen.page.emulate_media(color_scheme="dark")
    seen.show("#?")
    assert "rgb(20, 23, 27)" == seen.style("body", "backgroundColor")
    seen.page.locator("#curves").scroll_into_view_if_needed()
    seen.page.wait_for_function(INK, arg="rgb(230, 233, 237)")

    seen.page.click("#theme")

    assert "rgb(255, 255, 255)" == seen.style("body", "backgroundColor")
    seen.page.locator("#curves").scroll_into_view_if_needed()
    seen.page.wait_for_function(INK, arg="rgb(27, 31, 36)")
    assert "theme=light" in seen.page.url
    seen.page.click("#theme")
    assert "theme" not in seen.page.url
    seen.page.emulate_media(color_scheme="light")


def test_print(seen):
    """On paper there are no controls, every table is open and every curve drawn, in light."""
    seen.show("#?theme=dark&methods=ste")
    seen.page.emulate_media(media="print")
    seen.page.evaluate("() => window.dispatchEvent(new Event('beforeprint'))")

    assert not seen.page.is_visible("#controls")
    assert not seen.page.is_visible(".tools >> nth=0")
    assert "rgb(255, 255, 255)" == seen.style("body", "backgroundColor")
    replaced = seen.page.locator(".replaced .plot")
    assert 3 == replaced.count()
    for number in range(3):
        assert replaced.nth(number).locator(".scatterlayer .js-line").count() >= 4 * len(TASKS)
    assert 0 == seen.page.locator("details:not([open]):not(.alternative)").count()
    assert seen.page.is_visible("#selection-table")

    seen.page.emulate_media(media="screen")
    seen.page.evaluate("() => window.dispatchEvent(new Event('afterprint'))")
    assert not seen.page.is_visible(".replaced >> nth=0")
    assert seen.page.pdf().startswith(b"%PDF")


def test_without_script(chromium, report):
    """The tables stand; what needs a script is not offered."""
    seen = Seen(chromium, report, java_script_enabled=False).open()

    assert seen.page.locator("#results table").first.is_visible()
    for selector in ("#explore", "#theme", ".tools", ".alternative", "nav a[href='#explore']"):
        assert 0 == seen.page.locator(f"{selector}:visible").count()
    assert seen.page.is_visible("noscript p")
    seen.context.close()


def test_hostile_names_stay_names(chromium, store, tmp_path):
    """Names that would be markup, or end a script, are shown, chosen and saved as they are."""
    task, method = f"t{HOSTILE}", f"=m{HOSTILE}"
    store.create_study("s", study(), "", "0")
    for seed in (1, 2, 3):
        for name in ("real", method):
            record(store, name, seed, {"binary": 80.0 + seed, HOSTILE: 3.0}, task=task)
    results = Results(store, "s")
    names = ("real", method, HOSTILE)
    named = zip(results.study.methods, names, strict=True)
    methods = tuple(each.model_copy(update={"name": name}) for each, name in named)
    tasks = (results.study.tasks[0].model_copy(update={"name": task}),)
    results.study = results.study.model_copy(update={"tasks": tasks, "methods": methods})
    path = tmp_path / "hostile.html"
    path.write_text(page.build(results, few_figures()), encoding="utf-8")

    seen = Seen(chromium, path).open()
    seen.page.locator("#curves").scroll_into_view_if_needed()
    assert method in seen.page.locator("#curves .legendtext").nth(1).text_content()
    seen.page.uncheck("input[value=real]")
    seen.page.select_option("select[name=reference]", method)
    seen.page.select_option("select[name=mode]", HOSTILE)
    seen.page.click("#curves ~ details summary")
    found, address = seen.selection(), seen.page.url
    seen.show("#nothing")
    assert found != seen.selection()
    seen.show(address.partition(".html")[2])

    assert [(task, f"'{method}"), (task, HOSTILE)] == list(found)
    assert 3.0 == found[task, f"'{method}"]["mean"]
    assert found == seen.selection()
    assert 0 == seen.page.locator("img").count()
    assert [] == seen.complaints
    seen.context.close()


@pytest.fixture(scope="module")
def javascript(chromium):
    """A function that calls one of the page's statistics with some arguments."""
    tab = chromium.new_page()
    text = files("bnnbench_reports").joinpath("statistics.js").read_text(encoding="utf-8")
    tab.add_script_tag(content=text)
    yield lambda name, *given: tab.evaluate(f"given => {name}(...given)", list(given))
    tab.close()


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 20, 101, 150])
def test_statistics_are_those_of_numpy_and_scipy(javascript, n):
    """Of random values, with ties and zeros: quantiles, means, intervals, tests, corrections."""
    rng = np.random.default_rng(n)
    for values in (rng.normal(50, 3, n), rng.integers(-2, 3, n) / 4, np.full(n, 0.1)):
        given = values.tolist()
        check_summaries(javascript, given)
        assert javascript("interval", given) == approx(interval(given))
        assert javascript("signedRank", given) == approx(compare([given])[0].p, given)
    fine = [*rng.normal(0, 1e-8, n), 0.5e-9, 1.5e-9, -2.5e-9, 0.7]
    for value in fine:
        assert javascript("rounded", value) == np.round(value, 9)
    family = [rng.integers(-3, 9, size).tolist() for size in (7, 8, 5, 9, 8)]
    wanted = [str(each.p) if isinstance(each.p, Cannot) else each.p for each in compare(family)]
    for found, p in zip(javascript("corrected", family), wanted, strict=True):
        assert found == (p if isinstance(p, str) else pytest.approx(p, rel=1e-9))


def check_summaries(javascript, given):
    n = len(given)
    sd = np.std(given, ddof=1) if n > 1 else None
    assert javascript("deviation", given) == (sd if sd is None else pytest.approx(sd, abs=1e-12))
    for share in (0.25, 0.5, 0.9):
        wanted = np.quantile(given, share)
        assert javascript("quantile", given, share) == pytest.approx(wanted, abs=1e-12)
    wanted = stats.trim_mean(given, 0.25)
    assert javascript("middleMean", given) == pytest.approx(wanted, abs=1e-12)
    assert javascript("midranks", given) == stats.rankdata(given).tolist()


def approx(wanted, given=()):
    """Python's number; of a p that it would not give, scipy's of all signs."""
    if isinstance(wanted, Cannot):
        wanted = exact(given)
    if wanted is None:
        return None
    plain = list(wanted) if isinstance(wanted, tuple) else wanted
    return pytest.approx(plain, rel=1e-9, abs=1e-12)


def exact(differences):
    """Wilcoxon's p by counting every choice of signs."""
    kept = [d for d in differences if d]
    ranks = stats.rankdata(np.abs(kept)) if kept else np.zeros(0)
    plus = sum(r for r, d in zip(ranks, kept, strict=True) if d > 0)
    most = min(plus, ranks.sum() - plus)
    signs = (np.arange(2 ** len(ranks))[:, None] >> np.arange(len(ranks))) & 1
    return min(1.0, 2 * float(np.mean(signs @ ranks <= most + 1e-9)))


def test_the_data_are_a_file(results, tmp_path, monkeypatch):
    """``--json`` writes the data of the page and more, the same twice, where it was asked for."""
    monkeypatch.chdir(tmp_path)
    options = ["--storage", str(results._store.engine.url)]
    monkeypatch.setattr(command, "figures", lambda plugins: [])

    ran = CliRunner().invoke(command.report, ["s", "--json", "s.json", *options])
    first = (tmp_path / "s.json").read_bytes()
    CliRunner().invoke(command.report, ["s", "--json", "s.json", *options])
    html = (tmp_path / "s.html").read_text(encoding="utf-8")
    inside = html.partition('id="report">')[2].partition("</script>")[0]

    assert f"{tmp_path / 's.html'}\n{tmp_path / 's.json'}\n" == ran.output
    assert first == (tmp_path / "s.json").read_bytes()
    assert json.loads(first) == json.loads(first) | json.loads(inside)
    assert {"verdict", "figures", "runs"} <= set(json.loads(first)) - set(json.loads(inside))
    assert not {"Infinity", "NaN"} & set(first.decode().split())
    same = CliRunner().invoke(command.report, ["s", "--json", "s.html", *options])
    assert "report and data are two files" in str(same.exception)
    nowhere = CliRunner().invoke(command.report, ["s", "--json", "no/s.json", *options])
    assert "give --json another path" in str(nowhere.exception)


def test_the_data_say_what_the_runs_came_to(results):
    """Scores are exact, curves have five digits, clocks add up, all found by their places."""
    known = data.collected(results)
    metrics = [metric["name"] for metric in known["metrics"]]
    cell = known["cells"][METHODS.index("bmd") + len(METHODS)]
    assert ("b", "bmd") == (known["tasks"][cell["task"]]["name"], METHODS[cell["method"]])
    assert (8, 4, 0, 10, [2, 4, 6, 8]) == tuple(
        cell[key] for key in ("asked", "diverged", "failed", "steps", "seeds")
    )
    judged = Comparisons(results).judged
    score = next(
        each
        for each in known["scores"]
        if (each["cell"], metrics[each["metric"]]) == (1, "test_accuracy") and not each["mode"]
    )
    assert list(judged["a", "ste"].values()) == score["values"]
    clock = next(each for each in known["clocks"] if each["cell"] == 1)
    assert (list(SEEDS[1:]), [4.0, 12.0, 24.0]) == (clock["lines"], clock["values"][0])
    assert "synthetic data" == known["tasks"][2]["note"]


def test_many_runs_are_summed_up(chromium, results, tmp_path, monkeypatch):
    """Beyond a number of runs the data have their mean, median, quartiles and ends, and say so."""
    whole = data.collected(results)
    monkeypatch.setattr(thinning, "CURVES", 5)
    monkeypatch.setattr(data, "MAIN", 100)
    known = data.collected(results)

    assert [1, 3] == known["epochs"][known["curves"][0]["epochs"]]
    values = np.array(whole["curves"][0]["values"])[:, [0, 2]]
    for name, line in zip(known["curves"][0]["lines"], known["curves"][0]["values"], strict=True):
        np.testing.assert_allclose(SUMMED[name](values), line, rtol=1e-4)

    path = tmp_path / "many.html"
    path.write_text(page.build(results, []), encoding="utf-8")
    seen = Seen(chromium, path).open("#?band=range&aggregate=median")
    said = seen.page.inner_text("#curves-said")
    assert "The seeds are not held one by one" in said
    assert "One epoch in" in said
    rows = [numbers(row) for row in seen.rows("[data-file=csv][data-of=curves]")]
    assert {"median", "range low", "range high"} == {row["line"] for row in rows}
    assert [] == seen.complaints
    seen.context.close()


SUMMED = {
    "mean": lambda values: values.mean(0),
    "median": lambda values: np.median(values, 0),
    "quartile 1": lambda values: np.quantile(values, 0.25, axis=0),
    "quartile 3": lambda values: np.quantile(values, 0.75, axis=0),
    "min": lambda values: values.min(0),
    "max": lambda values: values.max(0),
}


def test_a_run_that_measured_nothing(chromium, store, tmp_path):
    """A report without a score or a curve has no controls, and its button still works."""
    store.create_study("s", study(), "", "0")
    store.end_run(enter(store, "ste", 1).run_id, DONE)
    path = tmp_path / "empty.html"
    path.write_text(page.build(Results(store, "s"), []), encoding="utf-8")

    seen = Seen(chromium, path).open()
    seen.page.click("#theme")

    assert 0 == seen.page.locator("#explore").count()
    assert "theme=dark" in seen.page.url
    assert [] == seen.complaints
    seen.context.close()
