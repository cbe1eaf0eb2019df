"""Figures as files: what a real browser makes of them, and what is said where there is none."""

from __future__ import annotations

import os
import re
import shutil
import struct
import sys
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from plotly.graph_objects import Figure as Drawing
from plotly.graph_objects import Scatter

from bnnbench.cli import main
from bnnbench.errors import UsageError
from bnnbench.interfaces import Figure
from bnnbench_reports import command, pictures
from bnnbench_reports.command import report

from .small_study import fill, record, study

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
browser = next(filter(None, map(shutil.which, BROWSERS)), os.environ.get("BROWSER_PATH"))


def is_there(package):
    from importlib.util import find_spec

    return find_spec(package) is not None


needs_kaleido = pytest.mark.skipif(not is_there("kaleido"), reason="kaleido is not installed")
needs_browser = pytest.mark.skipif(not browser, reason="there is no Chrome or Chromium")


@pytest.fixture
def run(store, tmp_path, monkeypatch):
    """``bnnbench report`` in an empty folder, with the store's database."""
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments):
        return CliRunner().invoke(report, [*arguments, "--storage", str(tmp_path / "bnnbench.db")])

    return invoke


@pytest.fixture
def drawn(monkeypatch):
    """No browser: a file holds the format and the title of its drawing."""
    told = []

    def rendered(drawings, form):
        told.extend(drawings)
        return [f"{form}: {drawing.layout.title.text}".encode() for drawing in drawings]

    monkeypatch.setattr(pictures, "rendered", rendered)
    return told


def offer(monkeypatch, **figures):
    monkeypatch.setattr(command, "figures", lambda plugins: list(figures.items()))


def simple(title="Simple", x=(1, 2, 3)):
    trace, layout = Scatter(x=list(x), y=[0.1, 0.3, 0.2]), {"xaxis_title": "an axis"}
    return lambda results: Figure(title, "how to read it", Drawing(trace, layout))


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_all_figures_with_data_are_written(store, run, drawn, tmp_path, monkeypatch):
    """A file for each, in NAME-figures; their paths are printed, no draft is left."""
    fill(store)
    offer(monkeypatch, one=simple("1 < 2"), none=lambda results: None, two=simple("Two"))

    result = run("figures", "s")

    folder = tmp_path / "s-figures"
    assert [f"{folder}/one.svg", f"{folder}/two.svg"] == result.output.split()
    assert ["one.svg", "two.svg"] == files(folder)
    assert b"svg: 1 &lt; 2" == (folder / "one.svg").read_bytes()


def test_what_is_asked_for_is_written(store, run, drawn, tmp_path, monkeypatch):
    """Some figures, another format, another folder, several studies; files are replaced."""
    fill(store)
    store.create_study("other", study(), "", "0")
    record(store, "ste", 1, {"binary": 80.0}, name="other")
    offer(monkeypatch, one=simple(), two=simple("Two"))
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "two.pdf").write_text("old")

    both = run("figures", "s", "other")
    chosen = run("figures", "s", "--figure", "two", "--format", "pdf", "-o", "deep")

    assert (0, 0) == (both.exit_code, chosen.exit_code)
    assert ["two.pdf"] == files(tmp_path / "deep")
    assert b"pdf: Two" == (tmp_path / "deep" / "two.pdf").read_bytes()
    assert ["one.svg", "two.svg"] == files(tmp_path / "s+other-figures")


def test_a_figure_that_fails_is_left_out(store, run, drawn, tmp_path, monkeypatch):
    """The others are written, with a warning; one that was asked for is an error."""
    fill(store)

    def bad(results):
        raise ZeroDivisionError("no way")

    offer(monkeypatch, one=simple(), bad=bad, none=lambda results: None)

    result = run("figures", "s")

    assert "warning: figure 'bad' is left out, it could not be drawn" in result.output
    assert ["one.svg"] == files(tmp_path / "s-figures")
    for name, said in {
        "bad": "figure 'bad' could not be drawn: ZeroDivisionError: no way",
        "none": "figure 'none' has nothing to show of this study; leave it out",
        "ones": "there is no figure 'ones'; did you mean 'one'?",
    }.items():
        error = run("figures", "s", "--figure", name, "-o", "other").exception
        assert isinstance(error, UsageError)
        assert said == str(error)
        assert not (tmp_path / "other" / "one.svg").exists()


def test_a_file_says_what_the_page_says_around_the_figure(store, run, drawn, monkeypatch):
    """The title with its n, and what sets the data apart; the drawing keeps its height."""
    store.create_study("s", study(), "", "0")
    record(store, "ste", 1, {"binary": 80.0}, facts={"synthetic": True})
    tall = Drawing(Scatter(y=[1]), layout={"height": 700, "margin": {"t": 60}})
    offer(monkeypatch, tall=lambda results: Figure("Tall (n = 1)", "e", tall), one=simple())

    run("figures", "s")

    assert ["Tall (n = 1)", "Simple"] == [each.layout.title.text for each in drawn]
    assert [("t: synthetic data",)] * 2 == [
        tuple(a.text for a in each.layout.annotations) for each in drawn
    ]
    extra = pictures.HEAD
    assert [700 + extra, pictures.HEIGHT + extra] == [each.layout.height for each in drawn]
    assert [60 + extra, 50 + extra] == [each.layout.margin.t for each in drawn]


def test_a_study_may_be_called_figures(store, run, drawn, tmp_path, monkeypatch):
    """Alone it is a name, as it always was; before another name it is a command; -- tells both."""
    store.create_study("figures", study(), "", "0")
    record(store, "ste", 1, {"binary": 80.0}, name="figures")
    fill(store)
    offer(monkeypatch, one=simple())

    alone, both, as_command = run("figures"), run("s", "figures"), run("figures", "figures")
    storage = ["--storage", str(tmp_path / "bnnbench.db")]
    also = CliRunner().invoke(report, [*storage, "--", "figures"])

    assert [0] * 4 == [r.exit_code for r in (alone, also, both, as_command)], alone
    assert alone.output == also.output == f"{tmp_path / 'figures.html'}\n"
    assert f"{tmp_path / 's+figures.html'}\n" == both.output
    assert ["one.svg"] == files(tmp_path / "figures-figures")


def test_help_of_both_commands(run):
    """Each has its own options, and the report's names the other."""
    above, below = (CliRunner().invoke(report, [*words, "--help"]) for words in ([], ["figures"]))

    assert (0, 0) == (above.exit_code, below.exit_code)
    assert "report figures NAME" in above.output
    assert ["--watch" in above.output, "--watch" in below.output] == [True, False]
    assert ["--format" in above.output, "--format" in below.output] == [False, True]
    assert "report figures [OPTIONS] NAME..." in below.output


def test_nothing_to_draw_and_nowhere_to_write(store, run, tmp_path, monkeypatch):
    """A study without a finished run, and a folder that is a file: one line each."""
    store.create_study("s", study(), "", "0")
    assert "no finished confirming run yet" in str(run("figures", "s").exception)

    record(store, "ste", 1, {"binary": 80.0})
    offer(monkeypatch, one=simple())
    (tmp_path / "file").write_text("")

    assert "file cannot be made: File exists; give -o another folder" == str(
        run("figures", "s", "-o", "file").exception
    )


def test_without_kaleido_it_is_said_what_to_install(monkeypatch):
    """Not installed, or of a version that has no such browser."""
    for module in ("kaleido", "choreographer"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            with pytest.raises(UsageError, match=r"pip install 'bnnbench\[export\]'"):
                pictures.rendered([Drawing()], "svg")


@needs_kaleido
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/nowhere/chrome", "install Chrome or Chromium, or set BROWSER_PATH"),
        ("/bin/true", "does not work; set BROWSER_PATH"),
    ],
)
def test_without_a_browser_it_is_said_what_to_set(monkeypatch, path, said):
    """There is none, or what is called one is none."""
    monkeypatch.setenv("BROWSER_PATH", path)

    with pytest.raises(UsageError, match=said):
        pictures.rendered([Drawing()], "svg")


@needs_kaleido
@needs_browser
@pytest.mark.filterwarnings("default")
def test_a_browser_draws_them(store, tmp_path, monkeypatch):
    """SVG holds the texts, PNG has its size in dots, PDF is one, of two of the report's figures."""
    monkeypatch.setenv("BROWSER_PATH", browser)
    monkeypatch.chdir(tmp_path)
    fill(store)

    for form, names in {"svg": ("loss", "test-accuracy"), "png": ["loss"], "pdf": ["loss"]}.items():
        wanted = [word for name in names for word in ("--figure", name)]
        call = ["report", "figures", "s", "--format", form, *wanted, "--storage", "bnnbench.db"]
        assert 0 == main([*call, "-o", "out"])

    folder = tmp_path / "out"
    assert ["loss.pdf", "loss.png", "loss.svg", "test-accuracy.svg"] == files(folder)
    text = (folder / "loss.svg").read_text(encoding="utf-8")
    width, height = map(int, re.search(r'viewBox="0 0 (\d+) (\d+)"', text).groups())
    said = set(ElementTree.fromstring(text).itertext())
    assert pictures.WIDTH == width
    assert {"Training loss per epoch (n = 2 seeds)", "real", "ste", "bop"} <= said
    png = (folder / "loss.png").read_bytes()
    assert (2 * width, 2 * height) == struct.unpack(">II", png[16:24])
    assert b"%PDF-" == (folder / "loss.pdf").read_bytes()[:5]
    assert text != (folder / "test-accuracy.svg").read_text(encoding="utf-8")
