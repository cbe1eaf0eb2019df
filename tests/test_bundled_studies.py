"""The bundled study files: what they name exists, can be built and run, and was published so."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from bnnbench.cells import cells
from bnnbench.checkpoints import Checkpoints
from bnnbench.experiments import Workbench
from bnnbench.graph import bases
from bnnbench.pace import Pace
from bnnbench.plugins import load_plugins
from bnnbench.runs import Part
from bnnbench.store import BASE, CONFIRM, DONE, Store
from bnnbench.studies import Study
from bnnbench.studyfile import read_study
from bnnbench.tuning import StudyRunner

from .conftest import ROOT
from .test_tuning import SILENT

PLUGINS = load_plugins()
NAMES = PLUGINS.names("studies")
STUDIES = {name: read_study(PLUGINS.get("studies", name)) for name in NAMES}
METRICS = {"test_accuracy", "validation_accuracy", "seconds_per_epoch"}

#: inputs and outputs of the data sets, as their publishers describe them
DATA = {
    "digits": ((1, 8, 8), 10),
    "mnist": ((1, 28, 28), 10),
    "cifar10": ((3, 32, 32), 10),
    "cifar100": ((3, 32, 32), 100),
    "svhn": ((3, 32, 32), 10),
    "imagenet": ((3, 224, 224), 1000),
}


def component(each):
    return Part(each.name, each.hyperparameters)


def shape_of(dataset):
    """What a network is built for; the pets are squares of the size that is asked for."""
    if dataset.name == "oxford-iiit-pet":
        size = dataset.hyperparameters["size"]
        return (3, size, size), 3
    return DATA[dataset.name]


def trained(study):
    """Every (dataset, architecture, loss) that a study trains, each once."""
    places = list(study.tasks)
    places += [study.runs[name].on(task) for task in study.tasks for name in built_on(study, task)]
    return {repr(p): p for p in (p.model_copy(update=PLAIN) for p in places)}.values()


PLAIN = {"name": "t", "epochs": 1, "batch_size": 1, "start_from": "", "teacher": ""}


def built_on(study, task):
    """The names of the runs that a task's methods build on, directly or not."""
    waiting = [name for method in study.methods for name in bases(method, task).values()]
    found = []
    for name in waiting:
        if name not in found:
            found.append(name)
            waiting += bases(study.runs[name], study.runs[name].on(task)).values()
    return found


class Unhurried(Workbench):
    """Trains all networks alike: looking for the fastest way would be most of a miniature."""

    def _pace(self, network, batch):
        return Pace()


@pytest.fixture(scope="module")
def workbench(tmp_path_factory):
    """One for all miniatures, so that a data set is drawn once."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return Unhurried(PLUGINS, checkpoints=Checkpoints(folder))


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """One for all miniatures, so that what two of them have in common is trained once."""
    made = Store(str(tmp_path_factory.mktemp("database") / "bnnbench.db"))
    yield made
    made.engine.dispose()


# --- what they name ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_components_exist(name, workbench):
    """Every name and hyperparameter is known, every method is built, every search has a space."""
    study = STUDIES[name]

    found = cells(name, study, workbench)

    places = [(task.name, method.name) for task in study.tasks for method in study.methods]
    assert places == [cell.place for cell in found]
    unused = {*study.runs} - {run for task in study.tasks for run in built_on(study, task)}
    assert not unused


@pytest.mark.parametrize("name", NAMES)
def test_networks_and_losses_are_built(name, workbench):
    """At full size each network gives the outputs that its data and its loss ask for."""
    for place in trained(STUDIES[name]):
        shape, classes = shape_of(place.dataset)
        given = {"shape": shape, "classes": classes}
        with torch.device("meta"), torch.no_grad():
            network = workbench.build("architectures", component(place.architecture), **given)
            outputs = network(torch.empty(2, *shape))
        pixel = [1] * (outputs.ndim - 2)  # the loss of an image is told by that of a pixel
        assert (2, classes, *shape[1:])[: outputs.ndim] == outputs.shape
        teacher = {"teacher": nn.Identity()} if workbench.takes_teacher(place.loss.name) else {}
        loss = workbench.build("losses", component(place.loss), **teacher)
        given, ends = torch.randn(2, classes, *pixel), torch.zeros(2, *pixel, dtype=torch.long)
        told = loss(given, given, ends)
        assert () == told.shape
        assert told.isfinite()


@pytest.mark.parametrize("name", NAMES)
def test_published_values_stand_somewhere(name, workbench):
    """Each has a metric that is shown, a mode that its method has, a source, a possible value."""
    study = STUDIES[name]
    for published in study.published:
        spec = study.method(published.method)
        part = Part(spec.component, spec.hyperparameters)
        modes = workbench.build("methods", part).inference_modes()
        assert published.metric in METRICS
        assert published.mode in ("", *modes)
        assert published.source
        assert published.value > 0
        assert published.metric == "seconds_per_epoch" or published.value < 100


@pytest.mark.parametrize("name", NAMES)
def test_departures_are_sentences(name):
    """Whoever repeats a publication says where not, a sentence each, which ends in a full stop."""
    study = STUDIES[name]

    if not study.source.startswith("no publication"):
        assert study.departures
    assert study.title
    for sentence in study.departures:
        assert re.fullmatch(r"[A-Z0-9][^\n]+\.", sentence)
        assert "  " not in sentence


# --- what was published ---------------------------------------------------------------------------

DET, STOCH = "binaryconnect-det", "binaryconnect-stoch"
VALIDATION = "validation_accuracy"
POSTER = {  # (no distillation, distillation), each (mean, sigma) over five runs
    "bnew-cifar10": {
        "ste": [(84.3, 0.3), (85.1, 0.4)],
        "bmd": [(84.0, 0.4), (84.9, 0.3)],
        "bop": [(84.5, 0.2), (85.2, 0.4)],
        "bnew": [(84.5, 0.3), (85.1, 0.4)],
    },
    "bnew-cifar100": {
        "ste": [(55.0, 0.5), (56.8, 0.3)],
        "bmd": [(54.8, 0.5), (56.8, 0.5)],
        "bop": [(55.3, 0.4), (57.7, 0.4)],
        "bnew": [(55.0, 0.3), (57.5, 0.3)],
    },
}


def error(percent, *more):
    """An accuracy from the error that is printed."""
    return (round(100 - percent, 6), *more)


#: by study, (task, method, metric): every (value, sigma, n) printed, typed from the documents
PRINTED = {
    "bc-mnist-pytorch": {
        ("", STOCH, "test_accuracy"): [error(1.09), error(1.18, 0.04)],
        ("", STOCH, VALIDATION): [error(1.10)],
        ("", "real", "test_accuracy"): [error(1.26)],
        ("", "real", VALIDATION): [error(1.14)],
    },
    "bc-cifar10-pytorch": {
        ("", STOCH, "test_accuracy"): [error(8.03), error(8.27)],
        ("", STOCH, VALIDATION): [error(7.42)],
    },
    "bc-mnist-tensorflow": {
        ("plain", "real", "test_accuracy"): [(98.64,), error(1.30, 0.04)],
        ("plain", "real", VALIDATION): [(98.69,)],
        ("plain", DET, "test_accuracy"): [(98.29,), error(1.29, 0.08)],
        ("plain", DET, VALIDATION): [(98.55,)],
        ("plain", STOCH, "test_accuracy"): [(98.5,), error(1.18, 0.04)],
        ("plain", STOCH, VALIDATION): [(98.56,)],
        ("dropout", "real", "test_accuracy"): [(98.71,), error(1.01, 0.04)],
        ("dropout", "real", VALIDATION): [(98.76,)],
    },
    "bc-cifar10-tensorflow": {
        ("20-epochs", "real", "test_accuracy"): [(83.20,)],
        ("20-epochs", "real", VALIDATION): [(82.96,)],
        ("20-epochs", DET, "test_accuracy"): [(84.95,)],
        ("20-epochs", DET, VALIDATION): [(84.94,)],
        ("50-epochs", STOCH, "test_accuracy"): [(84.98,)],
        ("50-epochs", STOCH, VALIDATION): [(85.62,)],
        ("", "real", "test_accuracy"): [error(10.64)],
        ("", DET, "test_accuracy"): [error(9.90)],
        ("", STOCH, "test_accuracy"): [error(8.27)],
    },
    "bc-svhn-tensorflow": {
        ("20-epochs", "real", "test_accuracy"): [(97.2534,)],
        ("20-epochs", "real", VALIDATION): [(97.1833,)],
        ("30-epochs", DET, "test_accuracy"): [(96.9691,)],
        ("30-epochs", DET, VALIDATION): [(96.8167,)],
        ("30-epochs", STOCH, "test_accuracy"): [(90.4233,)],
        ("30-epochs", STOCH, VALIDATION): [(92.0333,)],
        ("", "real", "test_accuracy"): [error(2.44)],
        ("", DET, "test_accuracy"): [error(2.30)],
        ("", STOCH, "test_accuracy"): [error(2.15)],
    },
    "bop-cifar10": {
        ("", "ste", "test_accuracy"): [(91.02, None, 3)],
        ("", "bop", "test_accuracy"): [(91.6, None, 3), (91.3,)],
    },
    "bop-constant-lr": {("", "bop", "test_accuracy"): [(91,)]},
    "bop-dropout": {("dropout", "bop", "test_accuracy"): [(88,)]},
    "bop-constant-gamma": {("", "bop-constant-gamma", "test_accuracy"): [(10,)]},
    "bop-svhn": {
        ("", "ste", "test_accuracy"): [(92,)],
        ("", "bop", "test_accuracy"): [(93.2,)],
    },
    "bnew-real": {
        ("cifar10", "real", "test_accuracy"): [(91.4, 0.3, 5)],
        ("cifar100", "real", "test_accuracy"): [(67.1, 0.7, 5)],
    },
    "bnew-imagenet": {
        ("", "ste", "test_accuracy"): [(69.4,)],
        ("", "bnew", "test_accuracy"): [(69.7,)],
    },
    "timing-bc-pytorch": {
        ("mnist", "real", "seconds_per_epoch"): [(4.93,)],
        ("mnist", STOCH, "seconds_per_epoch"): [(9.58,)],
        ("cifar10", STOCH, "seconds_per_epoch"): [(71.22,)],
    },
    "timing-bc-tensorflow": {
        (task, method, "seconds_per_epoch"): [(round(60 * minutes, 6),)]
        for task, printed in (("cifar10", (1.88, 1.89, 1.87)), ("svhn", (16.7, 17.1, 17.6)))
        for method, minutes in zip(("real", DET, STOCH), printed, strict=True)
    },
} | {
    name: {
        (task, method, "test_accuracy"): [(*figure, 5)]
        for method, figures in table.items()
        for task, figure in zip(("labels", "taught"), figures, strict=True)
    }
    for name, table in POSTER.items()
}


@pytest.mark.parametrize("name", NAMES)
def test_published_values_are_the_printed_ones(name):
    """All of them and no others: value, deviation and number of runs."""
    found = {}
    for p in STUDIES[name].published:
        found.setdefault((p.task, p.method, p.metric), []).append((p.value, p.sigma, p.n))
    wanted = {
        place: [(*row, None, None)[:3] for row in rows]
        for place, rows in PRINTED.get(name, {}).items()
    }

    assert wanted == found


# --- what they claim of each other ----------------------------------------------------------------


def run_key(workbench, name, method, task=""):
    """The key of a confirming run of the first seed."""
    study = STUDIES[name]
    place = (task or study.tasks[0].name, method)
    (cell,) = [cell for cell in cells(name, study, workbench) if cell.place == place]
    return cell.run({}, 1, test=True).key


def test_studies_of_bop_share_their_run(workbench):
    """Bop as published on CIFAR-10 is trained once for four studies; what they vary is another."""
    published = run_key(workbench, "bop-cifar10", "bop")

    assert published == run_key(workbench, "bop-constant-lr", "bop")
    assert published == run_key(workbench, "bop-constant-gamma", "bop")
    assert published == run_key(workbench, "bop-dropout", "bop", "plain")
    baseline = run_key(workbench, "bop-cifar10", "ste")
    assert baseline == run_key(workbench, "bop-constant-lr", "ste")
    varied = [
        run_key(workbench, "bop-constant-lr", "ste-constant"),
        run_key(workbench, "bop-constant-gamma", "bop-constant-gamma"),
        run_key(workbench, "bop-dropout", "bop", "dropout"),
    ]
    assert 5 == len({published, baseline, *varied})


def test_posters_studies_differ_in_the_data_alone():
    """Of CIFAR-10 and CIFAR-100 the poster's table has one procedure."""
    ten, hundred = (STUDIES[f"bnew-cifar{n}"].model_dump() for n in (10, 100))
    for study in (ten, hundred):
        for key in ("title", "departures", "published"):
            study.pop(key)
        for task in study["tasks"]:
            assert task["dataset"].pop("name") in ("cifar10", "cifar100")

    assert ten == hundred


def test_tasks_of_the_budget_curve_differ_in_epochs_alone():
    """So that a difference between its tasks is one of length."""
    tasks = [task.model_dump() for task in STUDIES["budget-curve"].tasks]
    lengths = [task.pop("epochs") for task in tasks]

    assert [f"epochs-{n}" for n in lengths] == [task.pop("name") for task in tasks]
    assert len({*lengths}) == len(lengths) > 2
    assert all(task == tasks[0] for task in tasks)


@pytest.mark.parametrize("name", ["head-to-head", "budget-curve"])
def test_all_methods_are_compared(name):
    """Every registered method but the relaxed one, which is the first part of another."""
    study = STUDIES[name]

    assert {*PLUGINS.names("methods")} - {"relaxed"} == {m.method for m in study.methods}
    assert not study.runs
    assert (study.protocol.trials > 0) == (name == "head-to-head")


# --- in miniature --------------------------------------------------------------------------------

BINARYNET = {"name": "binarynet", "width": 2, "dense": 4}
SMALL = {
    "mlp": {"name": "mlp", "width": 4},
    "bc-vgg": BINARYNET,
    "bc-vgg-svhn": BINARYNET,
    "bop-binarynet": BINARYNET
    | {"activation": "sign", "bn_scale": False, "padding": "valid-first"},
    "bnew-small": {"name": "bnew-small", "width": 2, "blocks": 1},
    "wrn22": {"name": "wrn22", "width": 8, "blocks": 1},
    "unet": {"name": "unet", "width": 2, "depth": 2},
    "reactnet-a": {"name": "reactnet-a", "width": 2},
    "bireal18": {"name": "bireal18", "width": 2},
}
SYNTHETIC = {
    "oxford-iiit-pet": {"name": "synthetic-pets", "size": 16},
    "imagenet": {"name": "synthetic-imagenet", "size": 32},
}
COUNTS = {"train": 8, "validation": 4, "test": 4}


def small_network(given):
    """The same network with all that is chosen, its width and depth cut."""
    return given.hyperparameters | SMALL[given.name]


def small_data(given):
    """A few synthetic images of the same shape, augmented in the same way."""
    if given.name == "digits":
        return "digits"
    known = SYNTHETIC.get(given.name, {"name": f"synthetic-{given.name}"})
    kept = {k: v for k, v in given.hyperparameters.items() if k == "augmentation"}
    return kept | known | COUNTS


def kinds(study):
    """At most two tasks, which differ in more than length and hyperparameters."""
    found = {}
    for task in study.tasks:
        dropout = "dropout" in task.architecture.hyperparameters
        kind = (task.dataset.name, task.architecture.name, task.loss.name, dropout)
        found.setdefault(kind, task)
    return list(found.values())[:2]


def phases(workbench, spec):
    """How many epochs a method needs at least."""
    return len(workbench.build("methods", Part(spec.component, spec.hyperparameters)).phases)


def miniature(study, workbench):
    """The study with every method and run, for as few steps of as few images as may be."""
    epochs = max(phases(workbench, method) for method in study.methods)
    tasks = [
        task.model_dump()
        | {
            "dataset": small_data(task.dataset),
            "architecture": small_network(task.architecture),
            "batch_size": 500 if task.dataset.name == "digits" else COUNTS["train"] // 2,
            "epochs": epochs,
        }
        for task in kinds(study)
    ]
    runs = {
        name: run.model_dump()
        | {
            "architecture": run.architecture and small_network(run.architecture),
            "epochs": phases(workbench, run.as_method(name)),
            "batch_size": None,
        }
        for name, run in study.runs.items()
    }
    protocol = study.protocol.model_dump() | {"trials": 0, "seconds": None, "seeds": 1}
    changes = {"tasks": tasks, "runs": runs, "protocol": protocol, "published": []}
    return Study.model_validate(study.model_dump() | changes)


def ran(name, study, database, workbench):
    """A study that has been run: its runner, and its entries."""
    database.create_study(name, study, "cmd", "0")
    runner = StudyRunner(database, name, workbench, SILENT)
    runner.check()
    runner.run()
    return runner, database.entries(name)


@pytest.mark.parametrize("name", NAMES)
def test_every_study_runs_in_miniature(name, database, workbench):
    """Every method and every run that it builds on ends well, two steps an epoch."""
    study = miniature(STUDIES[name], workbench)

    _, entries = ran(name, study, database, workbench)

    wanted = {(t.name, m.name, CONFIRM) for t in study.tasks for m in study.methods}
    wanted |= {(t.name, run, BASE) for t in study.tasks for run in built_on(study, t)}
    assert wanted >= {(e.task, e.method, e.role) for e in entries}
    confirmed = [(e.task, e.method) for e in entries if e.role == CONFIRM]
    assert [(t.name, m.name) for t in study.tasks for m in study.methods] == sorted(
        confirmed, key=[(t.name, m.name) for t in study.tasks for m in study.methods].index
    )
    assert {*STUDIES[name].runs} == {e.method for e in entries if e.role == BASE}
    assert {} == {(e.task, e.method): e.error for e in entries if e.state != DONE}


def test_what_initializers_hand_over(database, workbench):
    """After an epoch of which nothing moves, latents are the weights as the network draws them."""
    study = miniature(STUDIES["bc-initializers"], workbench)
    _, entries = ran("initial", study, database, workbench)
    handed = [entry.run for entry in entries if entry.role == BASE]

    assert 2 == len(handed)
    for run in handed:
        drawn = workbench.network(run).state_dict()
        given = workbench.checkpoints.weights(run.key)
        assert given.latents
        assert all(drawn[name].equal(latent) for name, latent in given.latents.items())
        learned = [name for name in given.network if re.search(r"norm\d\.(weight|bias)", name)]
        assert learned
        assert all(drawn[name].equal(given.network[name]) for name in learned)
        starts = {e.run.start_from for e in entries if e.run.dataset == run.dataset} - {""}
        assert {run.key} == starts


# --- what the documents say of them --------------------------------------------------------------


def tasks_by_methods(study):
    return f"{len(study.tasks)} x {len(study.methods)} x {study.protocol.seeds}"


def full_cost(name, study, workbench):
    """The epochs of all trials, confirming runs and runs that others build on, each run once."""
    protocol, total, found = study.protocol, 0, {}
    seeds = range(1, protocol.seeds + 1)
    for cell in cells(name, study, workbench):
        budget = protocol.trials if cell.spaces else 0
        total += cell.task.epochs * (budget + protocol.seeds)
        for seed in [*seeds, *([0] if budget else [])]:
            for run in base_runs(cell, seed):
                found[run.key] = run.epochs
    return total + sum(found.values())


def base_runs(cell, seed):
    """The runs that a cell's run of a seed builds on, directly or not."""
    for base in cell.bases.values():
        own = base.seed_of(seed)
        under = {key: b.run({}, own, test=False).key for key, b in base.bases.items()}
        yield replace(base.run({}, own, test=False), **under)
        yield from base_runs(base, own)


@pytest.mark.parametrize(
    ("name", "epochs"),
    [
        ("bop-cifar10", 2 * 3 * 500),
        ("bc-cifar10-tensorflow", 3 * 3 * (20 + 50)),
        ("head-to-head", 13 * (20 + 5) * 100),
        ("bnew-mini", 2 * 5 * 3 * 20 + 2 * 3 * 4 + 1 * 20),  # a relaxed run by task and seed
        ("bnew-cifar10", 2 * 5 * 5 * 1000 + 2 * 5 * 200 + 5 * 200),  # and a teacher by seed
        ("bc-initializers", 5 * 3 * 3 * (100 + 50) + 10 * 3 * 1),
    ],
)
def test_full_cost(name, epochs, workbench):
    """Each training counts once, as it is added up by hand."""
    assert epochs == full_cost(name, STUDIES[name], workbench)


def test_documents_have_a_table_of_the_studies(workbench):
    """docs/studies.md names every bundled study, how large it is and what it costs in full."""
    text = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| `([\w-]+)` \| (.+?) \| (.+?) \| ([\d,]+) \|$", text, re.M)

    assert {
        name: (tasks_by_methods(study), f"{full_cost(name, study, workbench):,}")
        for name, study in STUDIES.items()
    } == {name: (size.replace("×", "x"), epochs) for name, _, size, epochs in lines}
