"""What the documents show is true: commands run, study files are accepted, numbers have sources."""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from bnnbench.cells import cells
from bnnbench.cli import cli, main
from bnnbench.experiments import Workbench
from bnnbench.latents import Latents
from bnnbench.layers import BinaryLinear, binary_layers, real_parameters
from bnnbench.plugins import load_plugins
from bnnbench.runs import Part
from bnnbench.studies import MethodSpec, Protocol, Published, Study, Task
from bnnbench.studyfile import parse_study
from bnnbench.updates import OnePass, Separate, update_of
from bnnbench_plugins.binarizers import Sign

from .conftest import ROOT

SPEED = (ROOT / "docs" / "speed.md").read_text()
README = (ROOT / "README.md").read_text()
DOCUMENTS = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), ROOT / "CONTRIBUTING.md"])


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """Every bnnbench command of a document's shell blocks, without comments."""
    lines = [line for block in blocks("sh", text) for line in block.splitlines()]
    parts = [part for line in lines for part in line.split("&&")]
    split = [shlex.split(part, comments=True) for part in parts]
    bare = [[w for w in words if "=" not in w or w.startswith("-")] for words in split]
    return [words for words in bare if words[:1] == ["bnnbench"]]


def test_main_command_of_the_readme_works(tmp_path, monkeypatch, capsys):
    """Create, run and report the quickstart: a table of results and a report at the end."""
    (install, *steps) = blocks("sh")[0].strip().split(" && ")
    assert "pip install -c constraints.txt ." == install
    monkeypatch.chdir(tmp_path)

    for step in steps:
        words = shlex.split(step)
        monkeypatch.setattr(sys, "argv", words)
        assert 0 == main(words[1:]), capsys.readouterr().err

    out = capsys.readouterr().out
    assert "test accuracy %" in out
    assert "quickstart.html" in out.splitlines()[-1]
    assert (tmp_path / "quickstart.html").exists()


def test_second_command_is_what_continuous_integration_runs():
    """.ci/run takes the test command from the README."""
    assert "pip install tox && tox" == blocks("sh")[1].strip()
    assert "pip install tox && tox" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_exist(document):
    """Every bnnbench command in a document is one, with the options it is shown with."""
    for words in commands(document.read_text()):
        options = [word for word in words[1:] if word.startswith("--")]
        names = [word for word in words[1:3] if not word.startswith("-")]
        group = names if names[0] in ("study", "plugins", "data", "architectures") else names[:1]
        help_text = CliRunner().invoke(cli, [*group, "--help"]).output
        assert help_text.startswith("Usage:"), words
        assert all(option in help_text for option in options), words


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    """Every relative link and picture is a file of the project."""
    for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
        assert (document.parent / target).exists(), target


def test_every_module_has_its_room():
    """docs/design.md names each module and each folder of bnnbench/ once."""
    text = (ROOT / "docs" / "design.md").read_text().partition("## Where things are")[2]
    table = text.partition("\n## ")[0].partition("| room |")[2]
    named = re.findall(r"`(\w+/?)`", table)
    core = ROOT / "bnnbench"
    modules = {path.stem for path in core.glob("*.py")} - {"__init__", "__main__"}
    folders = {f"{path.parent.name}/" for path in core.glob("*/__init__.py")}

    assert sorted(modules | folders) == sorted(named)


def test_study_files_of_the_readme_are_accepted():
    """The example is a study whose every component exists; the plugin's own is parsed."""
    example, package, plugin_study = blocks("toml")

    assert 3 == len(cells("s", parse_study(tomllib.loads(example), "README"), WORKBENCH))
    assert (
        "my_optimizer"
        == tomllib.loads(package)["project"]["entry-points"]["bnnbench"]["my-optimizer"]
    )
    assert (
        "sign+sign-descent"
        == parse_study(tomllib.loads(plugin_study), "README").methods[1].component
    )


def test_optimizer_of_the_readme_is_short():
    """An optimizer is 20 lines, blank ones and imports aside."""
    lines = [x for x in blocks("python")[0].splitlines() if x and not re.match("import|from", x)]

    assert len(lines) <= 20


def test_every_key_of_a_study_file_is_documented():
    """docs/studies.md names each key of each table."""
    text = (ROOT / "docs" / "studies.md").read_text()

    tables = {"task": Task, "protocol": Protocol, "methods": MethodSpec}
    missing = [
        f"{table}.{key}"
        for table, model in tables.items()
        for key in model.model_fields
        if f"`{table}.{key}`" not in text
    ]
    missing += [
        key for key in Study.model_fields if f"`{key}`" not in text and f"[{key}]" not in text
    ]
    missing += [key for key in Published.model_fields if f"`{key}`" not in text]
    assert [] == missing


@pytest.mark.parametrize("name", load_plugins().names("studies"))
def test_bundled_studies_are_accepted(name, tmp_path, monkeypatch):
    """Every bundled study can be created: its components exist, its values are in range."""
    monkeypatch.chdir(tmp_path)

    assert 0 == main(["study", "create", name])


WORKBENCH = Workbench(load_plugins())


NETWORKS = re.findall(r"^\| `([\w-]+)` \|(.*)\|$", (ROOT / "docs/networks.md").read_text(), re.M)


@pytest.mark.parametrize(("name", "cells"), NETWORKS, ids=[name for name, _ in NETWORKS])
def test_counts_of_the_networks(name, cells):
    """The table of networks has the counts of the networks that are built."""
    shape, *counts = [cell.strip() for cell in cells.split("|")][1:4]
    shape = tuple(map(int, shape.split("×")))
    classes = {"unet": 3}.get(name, 1000 if shape[1] == 224 else 10)
    with torch.device("meta"):
        model = Workbench(load_plugins()).build(
            "architectures", Part(name), shape=shape, classes=classes
        )

    binary = sum(layer.weight.numel() for layer in binary_layers(model).values())
    real = sum(p.numel() for p in real_parameters(model).values())

    assert counts == [f"{binary:,}", f"{real:,}"]


def test_every_network_and_data_set_is_in_the_documents():
    """What can be named in a study file is explained."""
    plugins = load_plugins()
    networks = (ROOT / "docs/networks.md").read_text()
    data = (ROOT / "docs/data.md").read_text()

    for name in plugins.names("architectures"):
        assert f"`{name}`" in networks
    for name in plugins.names("datasets"):
        assert f"`{name}`" in data or f"`-{name.removeprefix('synthetic-')}`" in data


def test_the_readmes_optimizer_with_a_rule_moves_as_without():
    """docs/speed.md's rule, compiled, makes the latents and flips that the README's step makes."""
    module: dict[str, Any] = {"__name__": "my_optimizer"}
    (optimizer, *_), (rule,) = blocks("python"), blocks("python", SPEED)
    exec(optimizer + rule, module)
    found = []
    for kind, way in (("SignDescent", Separate), ("QuickSignDescent", OnePass)):
        torch.manual_seed(0)
        latents = Latents(torch.nn.Sequential(BinaryLinear(30, 20, bias=False)))
        moved = module[kind](latents.groups(), lr=0.03)
        update = update_of(latents, Sign(), moved, "compiled", 1)
        assert type(update) is way
        for _ in range(5):
            latents.weights["0"].grad = torch.randn(20, 30)
            update.step(Sign(), None)
        found.append((latents.tensors["0"], int(latents.flips.by_layer()["0"])))

    torch.testing.assert_close(found[0][0], found[1][0])
    assert found[0][1] > 0
