"""The report: one file that holds all, says what it cannot, and believes no name."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from plotly.graph_objects import Figure as Drawing

from bnnbench.comparisons import Comparisons
from bnnbench.errors import StoreError, UsageError
from bnnbench.interfaces import Figure
from bnnbench.measurements import Measurement
from bnnbench.plugins import load_plugins
from bnnbench.results import Results
from bnnbench.runs import Part
from bnnbench.store import BASE, CONFIRM, DIVERGED, DONE, FAILED, TUNE
from bnnbench.studyfile import parse_study, read_study
from bnnbench_reports import command, page, records, tables, thinning
from bnnbench_reports.caveats import head_starts
from bnnbench_reports.command import report
from bnnbench_reports.settings import settings_table
from bnnbench_reports.toml import study_file
from bnnbench_reports.verdict import lead, significance, verdict

from .small_study import enter, fill, record, study

HOSTILE = "</script><img src=x onerror=alert(1)>&\u2028'\""
TRACEBACK = (
    f'Traceback (most recent call last):\n  File "x.py", line 1\nValueError: {HOSTILE}\n more'
)


def built(store, figures=None) -> str:
    figures = command.figures(load_plugins()) if figures is None else figures
    return page.build(Results(store, "s"), figures)


def without_plotly(html: str) -> str:
    """The page but for the text of plotly.js."""
    first = html.index("/**\n* plotly.js")
    return html[:first] + html[html.index("</script>", first) :]


@pytest.fixture
def run(store, tmp_path, monkeypatch):
    """``bnnbench report`` in an empty folder, with the store's database."""
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str):
        options = ["--storage", str(tmp_path / "bnnbench.db")]
        return CliRunner().invoke(report, [*arguments, *options])

    return invoke


def error_of(result) -> str:
    assert isinstance(result.exception, UsageError), result
    assert "\n" not in str(result.exception)
    return str(result.exception)


def test_the_command_writes_one_file(store, run, tmp_path):
    """The report is NAME.html in the current folder; its path is printed, no draft is left."""
    fill(store)

    result = run("s")

    assert (0, f"{tmp_path / 's.html'}\n") == (result.exit_code, result.output)
    assert (tmp_path / "s.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert [] == list(tmp_path.glob(".*"))


def test_open_shows_the_file(store, run, tmp_path, monkeypatch):
    """``--open`` hands the file to the web browser, and says so if there is none."""
    fill(store)
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or False)

    result = run("s", "--open")

    assert [(tmp_path / "s.html").as_uri()] == opened
    assert "no web browser could be started" in result.output


def test_head_starts_are_told():
    """Who was trained before, where not all were; equal head starts need no word."""
    rows = [
        SimpleNamespace(task="t", method="real", epochs_before=0),
        SimpleNamespace(task="t", method="bop", epochs_before=4),
        SimpleNamespace(task="u", method="ste", epochs_before=4),
    ]

    (said,) = head_starts(rows)

    assert said.startswith("on t some methods start from a run")
    assert said.endswith(": bop (4)")


def test_same_database_same_bytes(store, run, tmp_path):
    """Two reports of one database are equal byte for byte, in processes of their own too."""
    fill(store)
    run("s", "-o", "a.html")
    code = "import sys; from bnnbench_reports.command import report; report(sys.argv[1:])"
    arguments = ["s", "-o", "b.html", "--storage", "bnnbench.db"]

    subprocess.run([sys.executable, "-c", code, *arguments], check=True, cwd=tmp_path)

    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_figures_stand_in_their_order(store):
    """The bundled figures follow each other as they were registered, those with data."""
    fill(store)

    titles = re.findall(r"<h3>(.*?) \(n", built(store))

    assert [
        "Test accuracy",
        "Test accuracy minus that of real",
        "Validation accuracy per epoch",
        "Training loss per epoch",
        "Flip rate per epoch",
        "Flip rate per layer",
    ] == titles[:6]
    assert "Training time per epoch" == titles[6]


def test_hostile_text_stays_text(store):
    """Titles, hyperparameters, layers, errors and figures cannot become markup."""
    fill(store, title=HOSTILE, source=HOSTILE, protocol={"seeds": 3})
    failed = enter(store, "ste", 3, values={HOSTILE: HOSTILE})
    store.start_run(failed.run_id, {"judged": HOSTILE}, {"processor": HOSTILE})
    store.end_run(failed.run_id, FAILED, error=TRACEBACK)
    role = {"parameter": HOSTILE, "role": HOSTILE, "shape": [1], "place": HOSTILE}
    facts = {"judged": HOSTILE, "roles": [role]}
    done = enter(store, "bop", 3, values={HOSTILE: HOSTILE})
    store.start_run(done.run_id, facts, {})
    measured = [Measurement("flip_step", 0.5, 1, layer=HOSTILE[:30])]
    measured.append(Measurement("accuracy", 5.0, 1, "test", HOSTILE))
    store.write(done.run_id, measured)
    store.end_run(done.run_id, DONE)

    def fails(results):
        raise ValueError(HOSTILE)

    def odd(results):
        return Figure(HOSTILE, HOSTILE, Drawing(layout={"title": {"text": HOSTILE}}))

    html = without_plotly(
        built(store, [*command.figures(load_plugins()), (HOSTILE, fails), ("o", odd)])
    )

    assert "<img" not in html
    assert html.count("<script type=") + 2 == html.count("<script")
    assert html.count("<script") == html.count("</script>")
    assert "&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;" in html
    assert "ValueError: &lt;/script&gt;" in html


def test_json_in_the_page_is_the_figure(store):
    """What is escaped in the page reads as what it was."""
    fill(store)
    drawing = Drawing(layout={"title": {"text": HOSTILE}})

    html = built(store, [("odd", lambda results: Figure("t", "e", drawing))])
    text = re.search(r'<script type="application/json" id="spec-1">(.*?)</script>', html)[1]

    assert not set("<>&\u2028") & set(text)
    assert HOSTILE == json.loads(text)["layout"]["title"]["text"]
    assert "template" not in json.loads(text)["layout"]


def test_nothing_is_loaded(store):
    """No element, style or script of ours refers to another file or host."""
    fill(store)
    html = without_plotly(built(store))

    assert [] == re.findall(
        r"""(?:src|href|action|data)\s*=\s*["']?(?!["']?#)[^"'>\s]+["']""", html
    )
    assert [] == re.findall(r"@import|url\(|<link|<iframe|<object|<embed|https?://", html)


def test_the_policy_knows_the_scripts_by_hash(store):
    """The security policy allows the page's two scripts and nothing from elsewhere."""
    fill(store)
    html = built(store)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="(.*?)"', html)[1]
    policy = policy.replace("&#39;", "'")
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)

    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in scripts
    ]

    assert 2 == len(scripts)
    assert policy.startswith("default-src 'none';")
    assert policy.endswith(f"script-src {' '.join(hashes)}")
    assert "plotlyServerURL" in scripts[1]
    assert "sendChartToCloud" in scripts[1]


def test_a_failing_figure_is_a_card(store):
    """What a figure raises is said in its place in one line; the rest of the page stands."""
    fill(store)

    def fails(results):
        raise ZeroDivisionError("no\nway")

    html = built(
        store, [("bad", fails), ("odd", lambda results: 3), ("none", lambda results: None)]
    )

    assert 2 == html.count('class="card failed"')
    assert "ZeroDivisionError: no</p>" in html
    assert "TypeError: a figure must be a bnnbench.interfaces.Figure" in html
    assert "could not be drawn" in html
    assert "How to repeat it" in html


def test_a_figure_that_cannot_be_imported_is_a_card(store, monkeypatch):
    """A figure's module is imported when the figure is drawn, so its failure is its own."""
    plugins = load_plugins()
    broken = plugins.component("figures", "loss")
    monkeypatch.setattr(broken, "reference", "bnnbench_reports.figures.nowhere:figure")
    fill(store)

    html = built(store, command.figures(plugins))

    assert 1 == html.count('class="card failed"')
    assert "cannot be imported" in html


def test_unfinished_study_has_a_banner(store):
    """A report of a part of the runs says of how many."""
    store.create_study("s", study(), "", "0")
    record(store, "real", 1, {"real": 90.0}, judged="real")
    record(store, "ste", 1, {"binary": 80.0})

    html = built(store, [])

    assert '<p class="banner" role="status"><strong>unfinished: 2 of 6 runs</strong>' in html


def test_finished_study_has_no_banner(store):
    """A study whose runs have all ended is complete, though some may have failed."""
    store.create_study("s", study(protocol={"seeds": 1}), "", "0")
    record(store, "real", 1, {"real": 90.0}, judged="real")
    record(store, "ste", 1, {"binary": 80.0})
    store.end_run(enter(store, "bop", 1).run_id, DIVERGED, error="the loss is nan")

    html = built(store, [])

    assert 'class="banner"' not in html
    assert "complete: 3 runs, 1 of them failed or diverged" in html


def test_no_finished_run(store, run):
    """A study without a finished confirming run has no report yet; the error says what to do."""
    store.create_study("s", study(), "", "0")

    assert (
        "study 's' has no finished confirming run yet; run 'bnnbench study run s' first"
        == error_of(run("s"))
    )

    store.end_run(enter(store, "ste", 1).run_id, FAILED, error="no")

    assert "(1 of its runs failed or diverged)" in error_of(run("s"))


def test_unknown_study_and_missing_database(store, run, tmp_path):
    """A name that is near is suggested; a database that is not there is not made."""
    fill(store)
    nowhere = tmp_path / "nowhere.db"

    assert "did you mean 's'?" in error_of(run("ss"))
    result = CliRunner().invoke(report, ["s", "--storage", str(nowhere)])
    assert isinstance(result.exception, StoreError)
    assert not nowhere.exists()


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("nowhere/r.html", "the folder of nowhere/r.html does not exist"),
        (".", "a report is a file, . is a folder"),
        ("", "is a folder"),
        ("/dev/null", "/dev/null is not one"),
        ("x" * 300, "File name too long"),
    ],
)
def test_unwritable_paths(store, run, output, said):
    """A path that cannot be written is named, with the way out."""
    fill(store)

    message = error_of(run("s", "-o", output))

    assert said in message
    assert "-o" in message


def test_a_folder_without_permission(tmp_path, monkeypatch):
    """A folder that may not be written is refused before the report is made."""
    monkeypatch.setattr("os.access", lambda path, mode: False)

    with pytest.raises(UsageError, match="no permission to write"):
        command.check_writable(str(tmp_path / "r.html"))


def test_a_failed_write_leaves_the_old_report(tmp_path, monkeypatch):
    """A report is replaced whole or not at all."""
    path = tmp_path / "r.html"
    command.write(path, "old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UsageError, match="No space left on device; give -o another path"):
        command.write(path, "new")

    assert "old" == path.read_text()
    assert [path] == list(tmp_path.iterdir())


def test_verdict_has_the_numbers(store):
    """The best method, the lead among binary methods with its paired deviation, and the caveats."""
    fill(store)
    results = Results(store, "s")

    first, second, third = verdict(results, results.rows())

    assert (
        "On t, real has the best test accuracy: 91.00 ± 1.41 % (n = 2, judged with real weights)."
    ) == first
    assert (
        "Among methods judged with binary weights, ste (86.50 ± 2.12 %) leads bop (84.50 ± 0.71 %)"
        " by 2.00 ± 1.41 points (paired difference over 2 common seeds)."
    ) == second
    assert "n = 2 seeds" in third
    assert "p = 0.5" in third


def test_verdict_names_its_caveats(store):
    """Synthetic data and runs that shared the machine are said."""
    store.create_study("s", study(), "", "0")
    record(store, "ste", 1, {"binary": 80.0}, shared=True, facts={"synthetic": True})
    record(store, "ste", 2, {"binary": 80.0})
    results = Results(store, "s")

    said = verdict(results, results.rows())

    assert "ste is the only method judged with binary weights." == said[1]
    assert said[3].startswith("The data of t are synthetic, so no published value compares; 1 of 2")


def test_a_run_without_a_test_accuracy(store):
    """Runs that were never tested give a page that says so, and no claim."""
    store.create_study("s", study(), "", "0")
    store.end_run(enter(store, "ste", 1).run_id, DONE)

    page = built(store)

    assert "No finished run has a test accuracy." in page
    assert 1 == page.count("<h3>")  # that of the runs that are done
    assert "<h3>Runs that are done (" in page


def test_significance_is_claimed_where_it_was_tested(store):
    """With five seeds Wilcoxon's p is at least 1/16; without a reference nothing was tested."""
    store.create_study("s", study(methods=[{"method": "ste"}]), "", "0")
    alone = Comparisons(Results(store, "s"))

    assert "p = 0.0625" in significance(5, alone)
    assert "no order of methods is claimed" in significance(5, alone)
    assert "No method was compared with a reference" in significance(6, alone)
    assert "No method here" in lead([])


@pytest.mark.parametrize(
    ("seeds", "ends"),
    [
        (6, "significant: n = 6 cannot reach 0.05 of 2 comparisons."),
        (
            7,
            "Different from real by Wilcoxon's signed-rank test with Holm's correction over 2"
            " comparisons: ste on t (-2.00 points, p = 0.031, n = 7).",
        ),
    ],
)
def test_the_verdict_names_what_differs(store, seeds, ends):
    """All of seven seeds are worse: 2 x 2^-6; of six, two comparisons could never show it."""
    store.create_study("s", study(protocol={"seeds": seeds}), "", "0")
    for seed in range(1, seeds + 1):
        real = 90.0 + 0.01 * seed
        record(store, "real", seed, {"real": real}, judged="real")
        record(store, "ste", seed, {"binary": real - 2})
        record(store, "bop", seed, {"binary": real + (-1) ** seed * 0.3})
    results = Results(store, "s")

    said = verdict(results, results.rows())

    assert said[2].endswith(ends)
    assert "bop on t" not in said[2]


def test_table_of_results(store):
    """A line has mode, bits, accuracy, n, flips, seconds, ratio and what was published."""
    published = {"method": "ste", "value": 84.5, "sigma": 0.3, "n": 5, "source": "A. Uthor"}
    fill(store, published=[published])
    results = Results(store, "s")

    table = tables.results_table(results.rows(), "real")
    ste, ste_real = table.rows[2], table.rows[3]

    assert {1, 3} == table.faint
    assert ("t", "ste", "binary\u00a0✓\u00a0judged", "1W32A", "86.50 ± 2.12", "2") == ste[:6]
    assert ("86.50 ± 2.12", "0.044", "7.50", "2.00 ± 0.00 (n = 2)") == ste[6:10]
    assert "84.5 ± 0.3 (n = 5)" == ste[11]
    assert ("real", "32W32A", "50.00 ± 0.00", "2") == ste_real[2:6]
    assert ("", "", "", "", "", "") == ste_real[7:]


def test_tuned_hyperparameters_stand_apart(store):
    """Tuned is what the trials varied; the rest is fixed or by default."""
    fill(store, protocol={"seeds": 2, "trials": 2})
    for number, rate in enumerate((0.1, 0.2)):
        entry = enter(store, "ste", number, role=TUNE, values={"lr": rate, "for": "t confirm"})
        store.end_run(entry.run_id, DONE)
    results = Results(store, "s")

    lines = tables.hyperparameters_table(results.rows()).rows

    assert ("t", "ste", "lr = 0.1", "for = t confirm", "–") == lines[1]
    assert ("t", "bop", "none", "for = t confirm, lr = 0.1", "–") == lines[2]


def test_coverage_counts_and_reasons(store):
    """Every run that was asked for is done, failed, diverged or missing, with the reason."""
    store.create_study("s", study(protocol={"seeds": 4}), "", "0")
    record(store, "ste", 1, {"binary": 80.0})
    store.end_run(enter(store, "ste", 2).run_id, FAILED, error="Traceback\nx\n")
    store.end_run(enter(store, "ste", 3).run_id, FAILED, error=TRACEBACK)

    ste = tables.coverage_table(Results(store, "s")).rows[1]

    assert ("4", "1", "2", "0", "1", "0", "0", "0", "0") == ste[2:11]
    assert f"1 × Traceback; 1 × ValueError: {HOSTILE}; 1 not finished" == ste[11].replace(
        "\u2028", "\u2028"
    )


def test_tuning_that_gave_nothing_is_the_reason(store):
    """Where all trials failed there is nothing to confirm, and the report says so."""
    store.create_study("s", study(protocol={"seeds": 1, "trials": 1}), "", "0")
    store.end_run(enter(store, "ste", 0, role=TUNE).run_id, DIVERGED, error="nan")

    ste = tables.coverage_table(Results(store, "s")).rows[1]

    assert "1 × nan; no trial was completed, so there is nothing to confirm" == ste[11]


def test_time_by_bucket(store):
    """Buckets are summed over a method's runs; shares are of all the time."""
    fill(store)

    columns, (real, *_), *_ = records.buckets_table(Results(store, "s"))

    assert ["total, s", "train, s (%)", "warmup, s (%)"] == list(columns[2:5])
    assert ("21.50", "15.00 (70 %)", "3.00 (14 %)", "3.50 (16 %)") == tuple(real[2:6])


def test_roles_and_counts(store):
    """The roles are told once for all methods of a task, with the number of parameters."""
    fill(store)

    (only,) = records.roles(Results(store, "s"))

    assert "t" == only.heading
    assert "28 of 32 parameters (87.5 %) can be binary, 4 are real." == only.summary
    assert ("dense1.weight", "binary", "4 × 5", "20", "first") == tuple(only.table.rows[0])


def test_every_run_is_listed(store):
    """A run has its seed, its accuracy in the judged mode, its state and its key."""
    fill(store)
    results = Results(store, "s")

    ste = records.runs_table(results).rows[1]

    assert ("t", "ste", "1", "85.00", "binary", "–") == tuple(ste[:6])
    assert ("no", "done", results.entries[1].run.key) == tuple(ste[7:])


def test_a_run_has_what_was_set_or_tuned(store):
    """What the study sets and what tuning varied stand with each run; a default does not."""
    methods = [{"method": "ste", "hyperparameters": {"gradient": "hardtanh"}}, {"method": "bop"}]
    store.create_study("s", study(methods=methods, protocol={"trials": 2}), "", "0")
    for number, rate in enumerate((0.1, 0.2)):
        for method in ("ste", "bop"):
            values = {"lr": rate if method == "bop" else 0.1}
            entry = enter(store, method, number, role=TUNE, values=values)
            store.end_run(entry.run_id, DONE)
    for method in ("ste", "bop"):
        values = {"gradient": "hardtanh", "lr": 0.25, "for": "t tune"}
        store.end_run(enter(store, method, 7, values=values).run_id, DONE)

    ste, bop = records.runs_table(Results(store, "s")).rows

    assert ("gradient = hardtanh", "lr = 0.25") == (ste[5], bop[5])


def test_the_settings_of_a_task_stand_once(store):
    """What all methods have is told once; a method with another network has a line of its own."""
    fill(store)
    other = enter(store, "bop", 9)
    run = replace(other.run, architecture=Part("mlp", {"depth": 2}), epochs=1_000, seed=10)
    store.enter("s", "t", "bop", CONFIRM, 10, run)

    first, second = settings_table(Results(store, "s")).rows

    assert ("t", "real, ste, bop", "d", "a", "l", "3", "100", "fp32") == tuple(first[:8])
    assert ("best on validation", "flips") == tuple(first[8:])
    assert ("bop", "mlp (depth = 2)", "1,000") == (second[1], second[3], second[5])
    assert "all" == settings_table(SimpleNamespace(entries=[other])).rows[0][1]


def test_the_data_have_checksums(store):
    """Each split has those that the runs saw, with how many saw them."""
    store.create_study("s", study(), "", "0")
    for seed, train in ((1, "aa"), (2, "aa"), (3, "bb")):
        splits = {"train": train, "test": "cc"}
        facts = {"splits": splits, "examples": {"train": 60_000}}
        record(store, "ste", seed, {"binary": 80.0}, facts=facts)

    table = records.splits_table(Results(store, "s"))

    assert [
        ("t", "train", "60,000", "aa", "2"),
        ("t", "test", "–", "cc", "3"),
        ("t", "train", "60,000", "bb", "1"),
    ] == table.rows
    html = built(store, [])
    repeat = html[html.index('<section id="repeat"') :]
    assert "<td>aa</td>" in repeat
    assert "SHA-256" in repeat


def test_runs_that_others_build_on(store):
    """They have the accuracy of the selected epoch in their judged mode; one that failed, none."""
    store.create_study("s", study(), "", "0")
    record(store, "relaxed", 1, {"binary": 80.0, "real": 50.0}, role=BASE)
    store.end_run(enter(store, "relaxed", 2, role=BASE).run_id, FAILED, error="no")

    done, failed = records.bases_table(Results(store, "s")).rows

    assert ("t", "relaxed", "1", "80.00", "binary", "–") == tuple(done[:6])
    assert ("t", "relaxed", "2", "–", "–", "–") == tuple(failed[:6])


def test_runs_beyond_the_limit_are_said(store, monkeypatch):
    """A table has the first runs, in the order in which they were made, and says of how many."""
    fill(store)
    monkeypatch.setattr(thinning, "ROWS", 6)
    assert "<summary>all 6 runs</summary>" in built(store, [])

    monkeypatch.setattr(thinning, "ROWS", 4)
    monkeypatch.setattr(records, "ROWS", 4)
    html = built(store, [])

    command = "&#39;bnnbench study export s&#39;"
    said = f"the first 4 of 6 runs; 2 are left out, {command} writes all"
    assert f"<summary>{said}</summary>" in html
    keys = [entry.run.key for entry in Results(store, "s").entries]
    assert [True] * 4 + [False] * 2 == [key in html for key in keys]


def test_reasons_beyond_the_limit_are_counted(monkeypatch):
    """The most frequent reasons stand, and how many runs had another."""
    monkeypatch.setattr(tables, "REASONS", 2)
    errors = ["a", "b", "b", "c", "d", "d", "d"]

    assert ["3 × d", "2 × b", "2 × one of 2 other reasons"] == tables.counted(errors)
    assert ["1 × a", "2 × b"] == tables.counted(errors[:3])


def test_a_thinned_report_is_the_same_twice_and_says_so(store, monkeypatch):
    """Where every limit is passed every figure says what it leaves out; the answers are of all."""
    fill(store)
    whole = built(store)
    for name in ("CURVES", "POINTS", "ROWS"):
        monkeypatch.setattr(thinning, name, 5)
    for module, name in (("layers", "CELLS"), ("scores", "DOTS"), ("times", "VALUES")):
        monkeypatch.setattr(f"bnnbench_reports.figures.{module}.{name}", 5)

    html = built(store)

    assert html == built(store)
    assert 3 == html.count("The 6 curves are too many to draw one by one")
    assert 4 == len(re.findall(r"Of up to 3 epochs one in \d+ is drawn, and the last", html))
    assert 2 == len(re.findall("Of a line with more than 2 (seeds|epochs) so many", html))
    for section in ("verdict", "results", "coverage", "time"):
        pattern = f'<section id="{section}">.*?</section>'
        assert re.search(pattern, whole, re.DOTALL)[0] == re.search(pattern, html, re.DOTALL)[0]
    assert "too many" not in without_plotly(whole)
    assert "is drawn, and the last" not in whole


def test_how_to_repeat(store):
    """The commands, versions and seeds are there; a password is not."""
    url = "postgresql://me:secret@host/db"
    store.create_study("s", study(), f"bnnbench study create s --storage {url}", "0")
    record(store, "ste", 1, {"binary": 80.0})
    results = Results(store, "s")

    assert [
        "bnnbench study create s --storage postgresql://me:***@host/db",
        "bnnbench study run s --storage 'postgresql://me:***@host/db'",
        "bnnbench report s --storage 'postgresql://me:***@host/db'",
    ] == page.commands(results)
    assert "bnnbench study export s --storage 'postgresql://me:***@host/db'" == page.exports(
        results
    )
    assert ["torch==2.13.0"] == page.requirements(results)
    assert "1 to 2" == page.seeds(results)
    assert "secret" not in built(store, [])


def test_the_study_file_reads_as_the_study(tmp_path):
    """The text in the report is a study file: read again it is the same study."""
    task = {"dataset": {"name": "digits", "odd key": [1, 2.5e-7, True]}, "architecture": "mlp"}
    values = {
        "title": f"{HOSTILE}\n\\\x7f",
        "tasks": [task | {"name": name, "epochs": 3} for name in ("a", "b")],
        "protocol": {"trials": 3, "seeds": 2},
        "methods": [
            {
                "method": "ste",
                "search": {"lr": {"low": 1e-5, "high": 0.1, "log": True}, "x": ["a"]},
            },
            {"binarizer": "sign", "optimizer": "adam", "hyperparameters": {"lr": 0.1}},
        ],
        "published": [{"method": "ste", "value": 84.5}],
        "probes": [],
    }
    path = tmp_path / "study.toml"
    offered = load_plugins()
    bundled = [read_study(offered.get("studies", name)) for name in offered.names("studies")]
    assert any(each.runs for each in bundled)
    for wanted in (parse_study(values, "x"), study(), *bundled):
        path.write_text(study_file(wanted), encoding="utf-8")

        assert wanted == read_study(path)


def test_naming_the_report_imports_nothing_heavy():
    """The hooks and the command load no plotly, jinja2, numpy, SQLAlchemy or torch."""
    heavy = {"plotly", "jinja2", "numpy", "torch", "sqlalchemy", "optuna"}
    code = (
        "import sys, bnnbench_reports, bnnbench_reports.command;"
        f" print(sorted({heavy} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "[]" == ran.stdout.strip()


def test_a_report_needs_no_torch(store, tmp_path):
    """A whole report is made where torch cannot be imported."""
    fill(store)
    code = (
        "import sys; sys.modules['torch'] = sys.modules['optuna'] = None;"
        " from bnnbench_reports.command import report; report(sys.argv[1:])"
    )
    arguments = ["s", "--storage", "bnnbench.db"]

    subprocess.run([sys.executable, "-c", code, *arguments], check=True, cwd=tmp_path)

    assert (tmp_path / "s.html").exists()
