"""docs/plugins.md works when it is followed, and `bnnbench plugins docs` says what is so."""

from __future__ import annotations

import inspect
import re
import tomllib

import pytest

from bnnbench.cli import main
from bnnbench.cli.components import explanations
from bnnbench.cli.pages import markdown, page, sections, usage
from bnnbench.experiments import GIVEN
from bnnbench.plugins import KINDS, load_plugins
from bnnbench.spaces import hyperparameters
from bnnbench.studyfile import parse_study

from .conftest import ROOT
from .first_plugin import call, environment

TEXT = (ROOT / "docs" / "plugins.md").read_text()
FENCE = r"^```(\w+)\n(.*?)^```$"
COMPONENTS = [(k, n) for k, names in ((k, load_plugins().names(k)) for k in KINDS) for n in names]
PLAIN = ("studies", "figures")


def steps(text: str) -> list[tuple[str, str]]:
    """All blocks in order: ("bash", commands), or the file's name and what is to be in it.

    The paragraph before a block of Python or TOML ends with the file's name; "At the end of" adds
    to the file.
    """
    found: list[tuple[str, str]] = []
    files: dict[str, str] = {}
    before = 0
    for fence in re.finditer(FENCE, text, flags=re.DOTALL | re.MULTILINE):
        language, block = fence.groups()
        last = text[before : fence.start()].strip().split("\n\n")[-1]
        before = fence.end()
        if language == "bash":
            found.append(("bash", block))
            continue
        (name,) = re.findall(r"`([\w./-]+\.(?:py|toml))`:$", last)
        files[name] = files[name] + "\n\n" + block if "At the end of" in last else block
        found.append((name, files[name]))
    return found


@pytest.mark.slow
def test_following_the_document(tmp_path):
    """Every block, in order, in an empty folder and a clean environment: the study is reported."""
    commands, folder = environment(tmp_path / "env"), tmp_path / "folder"
    folder.mkdir()
    said, place = "", folder
    for what, block in steps(TEXT):
        if what == "bash":
            said += call(f'{block}pwd > "{tmp_path}/place"', commands, place)
            place = type(tmp_path)((tmp_path / "place").read_text().strip())
        else:
            (place / what).write_text(block)

    for line in ("sign-sign-descent +binary", "steady +binary", "triangle +binary", "mine +binary"):
        assert re.search(rf"^ *{line}", said, flags=re.MULTILINE), said
    assert "Best epochs" in (folder / "compare.html").read_text()
    assert "sign-descent" in (folder / "first.html").read_text()


def test_the_document_has_one_of_each():
    """It builds an optimizer, a method, a binarizer, an architecture, a data set and a figure."""
    hooks = re.findall(r"^def (register_\w+)\(register\):$", TEXT, flags=re.MULTILINE)

    wanted = {"optimizers", "methods", "binarizers", "architectures", "datasets", "figures"}
    assert {f"register_{kind}" for kind in wanted} == set(hooks)


def test_every_block_is_followed():
    """No block is of a language that is left out."""
    languages = re.findall(r"^```(\w+)$", TEXT, flags=re.MULTILINE)

    assert {"bash", "python", "toml"} == set(languages)
    assert TEXT.count("```") == 2 * len(languages) == 2 * len(steps(TEXT))


@pytest.fixture(scope="module")
def pages():
    """The page of every component that is installed with bnnbench."""
    plugins = load_plugins()
    return {(k, n): page(plugins, plugins.component(k, n)) for k, n in COMPONENTS}


def target(kind: str, name: str):
    return load_plugins().get(kind, name)


def table(text: str, title: str) -> list[list[str]]:
    """The rows of the first table below a heading."""
    part = text.split(f"\n## {title}\n")[1].split("\n## ")[0]
    rows = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows[2:]]


def test_every_component_has_a_page(pages):
    """It begins with the name, the plugin and the version, and ends with a line break."""
    for (_, name), text in pages.items():
        assert text.startswith(f"# {name}: ")
        plugin = text.splitlines()[2]
        assert re.fullmatch(r"Of plugin '\w+' \(bnnbench \d+\.\d+\.\d+\)\.", plugin)
        assert text.endswith("\n")
        assert "\n\n\n" not in re.sub(FENCE, "-", text, flags=re.DOTALL | re.MULTILINE)


def test_equations_stay_as_they_are(pages):
    """Every indented line of a module's text is a line of the page, as an indented block of it."""
    counted = 0
    for (kind, name), text in pages.items():
        if kind == "studies":
            continue
        written = inspect.getdoc(inspect.getmodule(target(kind, name)))
        paragraphs = [p for p in written.split("\n\n") if re.match(r"    \S", p)]
        for paragraph in paragraphs:
            counted += 1
            shown = paragraph.rstrip().replace("``", "`")
            assert f"\n\n{shown}\n\n" in text, (kind, name)
    assert counted > 100


def test_hyperparameters_stand_in_a_table(pages):
    """Each is a row, in the order of the signature, with its default and its meaning."""
    for (kind, name), text in pages.items():
        if kind in PLAIN:
            continue
        known = hyperparameters(target(kind, name), GIVEN.get(kind, ()))
        meanings = explanations(target(kind, name))
        if not known:
            assert "## Hyperparameters" not in text
            continue
        rows = table(text, "Hyperparameters")
        assert [f"`{h}`" for h in known] == [row[0] for row in rows], name
        for row, hyper in zip(rows, known.values(), strict=True):
            default = row[2].strip("`").replace("\\|", "|")
            assert default in (
                repr(hyper.default),
                f"{hyper.default:.6g}" if _number(hyper) else "",
            )
            assert str(hyper.space or "-") == row[3].replace("\\|", "|")
            assert bool(meanings.get(hyper.name)) is bool(row[4])


def _number(hyper) -> bool:
    return isinstance(hyper.default, float)


def test_source_and_departures_have_sections_of_their_own(pages):
    """What a module says after its labels is below the headings, and no label is left above."""
    counted = {"source": 0, "departs from": 0, "tune": 0}
    headings = {"source": "Source", "departs from": "Departures", "tune": "What to tune"}
    for (kind, name), text in pages.items():
        if kind == "studies":
            continue
        written = inspect.getdoc(inspect.getmodule(target(kind, name)))
        for label, heading in headings.items():
            for line in re.findall(rf"^{label}[^:]*:(.*)$", written, flags=re.MULTILINE):
                counted[label] += 1
                above, below = text.split(f"\n## {heading}\n")
                words = markdown(line.strip())
                assert words in below.split("\n## ")[0], (kind, name)
                assert not re.search(rf"^{label}\b.*:", above, flags=re.MULTILINE)
    assert min(counted.values()) > 10


def test_phases_of_a_method(pages):
    """BNEW has its four phases with their shares, and the modes that it can be judged in."""
    text = pages["methods", "bnew"]

    rows = table(text, "Phases")
    phases = [row for row in rows if len(row) == 6]
    method = target("methods", "bnew")()

    assert [f"{100 * p.share:.3g} %" for p in method.phases] == [row[1] for row in phases]
    assert [p.name for p in method.phases] == [row[0].partition(" ")[2] for row in phases]
    modes = [tuple(row) for row in rows if len(row) == 2][2:]
    told = [(n, "judged with" if n == method.judged else "") for n in method.inference_modes()]
    assert told == modes


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in PLAIN])
def test_the_study_file_of_a_page_is_one(pages, kind):
    """It is accepted, it names the component, and what it sets is a hyperparameter's default."""
    for (found, name), text in pages.items():
        if found != kind:
            continue
        (block,) = re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL)
        study = parse_study(tomllib.loads(block), name)
        known = hyperparameters(target(kind, name), GIVEN.get(kind, ()))

        task, method = study.tasks[0], study.methods[0]
        named = {
            "methods": method.method,
            "binarizers": method.binarizer,
            "optimizers": method.optimizer,
            "architectures": task.architecture.name,
            "datasets": task.dataset.name,
            "losses": task.loss.name,
            "probes": study.probes[0].name,
        }
        part = {"architectures": task.architecture, "datasets": task.dataset}
        part |= {"losses": task.loss, "probes": study.probes[0]}
        set_ = part[kind].hyperparameters if kind in part else method.hyperparameters
        assert name == named[kind]
        assert all(known[h].default == value for h, value in set_.items())
        plain = any(isinstance(h.default, bool | int | float | str) for h in known.values())
        assert plain is bool(set_)


def test_the_file_of_a_study_is_in_its_page(pages):
    """A bundled study's page has the file itself, and the command that makes it."""
    text = pages["studies", "quickstart"]

    (block,) = re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL)
    assert target("studies", "quickstart").read_text(encoding="utf-8").strip() == block.strip()
    assert "`bnnbench study create quickstart`" in text


def test_the_command_writes_the_pages(capsys, pages):
    """A name is that of a component, of one of several kinds, or of a whole plugin."""
    said = []
    for name in ("digits", "optimizers/bop", "bop"):
        assert 0 == main(["plugins", "docs", name])
        said.append(capsys.readouterr().out)

    assert said[0] == pages["datasets", "digits"]
    assert said[1] == pages["optimizers", "bop"]
    assert said[2] == pages["methods", "bop"] + "\n" + pages["optimizers", "bop"]
    assert 2 == main(["plugins", "docs", "digit"])
    assert "did you mean 'digits'?" in capsys.readouterr().err


HEAD = """A rule.

    a | b
    c

source: here
and there
departs from it: once
departs from them, too: twice: indeed
tune: ``lr``
stored: w    moved by: nothing

Last words, see :class:`~bnnbench.layers.BinaryLinear`.

>>> 1 + 1
2
"""


def test_parts_of_a_text():
    """Labelled parts are taken out, each whole; all else stays in its order."""
    text, labelled = sections(HEAD)

    assert {
        "source": "here\nand there",
        "departs from": "From it: once\n\nFrom them, too: twice: indeed",
        "tune": "``lr``",
    } == labelled
    assert text == (
        "A rule.\n\n    a | b\n    c\n\nstored: w    moved by: nothing\n\n"
        "Last words, see `bnnbench.layers.BinaryLinear`.\n\n    >>> 1 + 1\n    2"
    )


def test_usage_of_a_loss_tells_of_teachers():
    """A loss may want a teacher, which a study file must name."""
    assert "`teacher`" in usage("losses", "hinton")
    assert "`teacher`" not in usage("datasets", "digits")
