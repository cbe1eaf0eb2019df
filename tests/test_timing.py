"""``bnnbench time``: who is visited when, what is counted, and what is made of it."""

from __future__ import annotations

import json
import math
import sys
import tempfile
import tomllib
from collections import Counter
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from scipy import stats
from torch.optim import SGD

from bnnbench import pace, timing
from bnnbench.cells import cells
from bnnbench.checkpoints import Checkpoints
from bnnbench.cli import main
from bnnbench.cli.time import print_times
from bnnbench.costs import beside, cost, estimate
from bnnbench.environment import Neighbours
from bnnbench.errors import PluginError, UsageError
from bnnbench.experiments import Workbench
from bnnbench.interfaces import Split
from bnnbench.methods import Method, Phase
from bnnbench.plugins import load_plugins
from bnnbench.schedules import Scheduled
from bnnbench.store import Store
from bnnbench.studyfile import parse_study, read_study
from bnnbench.timing import Clocked, Endless, Timing, Untrained, turns
from bnnbench_plugins.binarizers import Identity, Stochastic

from .conftest import TINY
from .test_graph import GRAPH, TAUGHT

PLUGINS = load_plugins()


# --- what is made of the seconds -----------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 5, 6, 7, 10, 17, 24, 101])
def test_intervals_are_those_of_the_sign_test(n):
    """The interval of a median is scipy's, in any order of the values; there is none below six."""
    values = torch.rand(n, generator=torch.Generator().manual_seed(n)).tolist()

    found = estimate(values)
    wanted = stats.quantile_test(values, p=0.5).confidence_interval(0.95)

    assert sorted(values)[n // 2] == found.median or n % 2 == 0
    assert (n < 6) == (found.low is None) == (found.high is None) == math.isnan(wanted.low)
    assert n < 6 or (wanted.low, wanted.high) == (found.low, found.high)
    assert n == found.n


def test_ratios_are_those_within_rounds():
    """A machine that is ten times as slow for three rounds of seven leaves the ratio as it is."""
    pace = [1, 1, 10, 10, 10, 1, 1]
    reference = [2.0 * p for p in pace]

    found = cost("m", [3.0 * p for p in pace], reference)
    skewed = cost("m", [1.0, 1.0, 9.0], [1.0, 2.0, 3.0])

    assert (3.0, 1.5, 1.5, 1.5) == (found.seconds.median, *found.ratio[:3])
    assert 1.0 == skewed.ratio.median  # of 1, 0.5 and 3; the ratio of the medians is 0.5


def test_a_round_that_was_broken_off_does_not_count():
    """The reference may be a visit ahead; its last one has nothing to be compared with."""
    found = cost("m", [3.0, 4.0], [1.0, 2.0, 1000.0])

    assert (2.5, 2, 2) == (found.ratio.median, found.ratio.n, found.seconds.n)


def test_published_seconds_are_compared_within_their_source():
    """Only seconds of an epoch, of this task and method; the ratio is to the same source's."""
    study = parse_study(
        tomllib.loads(TINY)
        | {
            "published": [
                {"method": "bop", "metric": "seconds_per_epoch", "value": 6, "source": "a"},
                {"method": "bop", "metric": "seconds_per_epoch", "value": 8, "source": "b"},
                {"method": "real", "metric": "seconds_per_epoch", "value": 4, "source": "b"},
                {"method": "bop", "metric": "test_accuracy", "value": 90, "source": "b"},
            ]
        },
        "x",
    )

    found = [(p.value, p.ratio, p.source) for p in beside(study.published, "t", "bop", "real")]

    assert [(6, None, "a"), (8, 2.0, "b")] == found


# --- who is visited when -------------------------------------------------------------------------


class Scripted:
    """A phase whose visits take the seconds that it was given, the first of them warm-up."""

    def __init__(self, seconds, share=1.0, name=""):
        self.left, self.share, self.name = list(seconds), share, name

    def visit(self):
        return self.left.pop(0)


def visited(rounds, seed=0, names="abcd"):
    """Who was visited, by round; ``a`` is the reference."""
    first, *others = (Clocked(name, [Scripted([9.0] * 99)]) for name in names)
    found = list(turns(first, others, rounds, seed))
    return [
        "".join(each.name for number, each in found if number == wanted)
        for wanted in range(rounds + 1)
    ]


def test_turns():
    """Every round begins with the reference and visits each of the others once, in a new order."""
    found = visited(60)

    assert all(each[0] == "a" and sorted(each) == list("abcd") for each in found)
    assert 6 == len(set(found))
    assert max(Counter(found).values()) < 30
    assert found == visited(60)
    assert found != visited(60, seed=1)


def test_the_first_visit_is_warm_up():
    """It counts nowhere; of several phases the mean is weighted by their shares."""
    first = Clocked("a", [Scripted([900, 1, 2, 3])])
    second = Clocked("b", [Scripted([900, 2, 4, 8], 0.75), Scripted([900, 4, 4, 4], 0.25)])

    list(turns(first, [second], 3, 0))

    assert [(1,), (2,), (3,)] == first.visits
    assert [0.75 * 2 + 1, 0.75 * 4 + 1, 0.75 * 8 + 1] == second.mean()


def test_a_method_that_fails_is_named():
    """A plugin's exception is one line that names the method; ours keep their kind."""

    def fail(error):
        raise error

    for error, kind in ((RuntimeError("it broke"), PluginError), (UsageError("no"), UsageError)):
        broken = Clocked("mine", [SimpleNamespace(visit=lambda error=error: fail(error))])
        with pytest.raises(kind, match=r"^mine"):
            broken.visit()
        assert [] == broken.visits


def test_every_example_has_its_turn():
    """Visits go through the whole split before an example comes again; one may be longer."""
    split = Split(torch.arange(12.0).reshape(12, 1), torch.arange(12))
    examples = Endless(split, 6, seed=0)

    seen = []
    for _ in range(4):
        list(examples.batches(2))  # a look at them is not a visit
        order = torch.tensor([3, 5, 1, 0, 4, 2])
        seen += [i for x, _ in examples.batches(2, order) for i in x[:, 0].tolist()]
    whole = [i for _, y in Endless(split, 30, 0).batches(10, torch.arange(30)) for i in y.tolist()]

    assert sorted(seen[:12]) == sorted(seen[12:]) == list(range(12))
    assert sorted(seen[:6]) != [0, 1, 2, 3, 4, 5]  # not as they lie
    assert {2, 3} == set(Counter(whole).values())
    assert (6, (1,)) == (len(examples), examples.shape)


# --- what is clocked -----------------------------------------------------------------------------


class Ticks:
    """Time that passes only when a loss is computed: ``pace[method]`` seconds for a batch.

    Those of an evaluation are slow, and of a visit's training steps the first and the ``last``.
    """

    def __init__(self, monkeypatch, last=0, **pace):
        self.now, self.pace, self.calls = 0.0, pace, Counter()
        self.last, self.step = last, 0
        monkeypatch.setattr("bnnbench.clock.time", SimpleNamespace(perf_counter=lambda: self.now))
        monkeypatch.setattr(Workbench, "loss", self._wrapping(Workbench.loss))

    def _wrapping(self, before):
        def loss(bench, run, student, teacher):
            inner, name = before(bench, run, student, teacher), run.method.name

            def ticking(outputs, inputs, targets):
                self.step = self.step + 1 if torch.is_grad_enabled() else 0
                slow = self.step in (0, 1, self.last)
                self.now += 1000 if slow else self.pace[name]
                self.calls[name] += torch.is_grad_enabled()
                return inner(outputs, inputs, targets)

            return ticking

        return loss


METHODS = '[[methods]]\nmethod = "real"\n[[methods]]\nmethod = "bop"\n'


def timed(text=TINY, reference="real", task="t", **plan):
    """A timing of a task of a study, every visit made."""
    with tempfile.TemporaryDirectory() as folder:
        workbench = Workbench(PLUGINS, threads=1, checkpoints=Untrained(folder))
        planned = cells("s", parse_study(tomllib.loads(text), "s"), workbench)
        mine = [cell for cell in planned if cell.task.name == task]
        made = Timing(mine, workbench, reference, **({"rounds": 2} | plan))
        list(made)
    return made


def test_seconds_of_an_epoch(monkeypatch):
    """Training alone, scaled to the whole set: not evaluation, not a visit's first step or last."""
    ticks = Ticks(monkeypatch, last=6, real=2.0, bop=3.0)

    times = timed(steps=4).times()

    real, bop = times.costs
    assert (10, 4, 2) == (times.epoch, times.steps, times.rounds)
    assert (20.0, 30.0, 1.5) == (real.seconds.median, bop.seconds.median, bop.ratio.median)
    assert (1.0, (20.0, 20.0)) == (real.ratio.median, real.rounds)
    assert {"real": 3 * 6 + 1, "bop": 3 * 6 + 1} == ticks.calls  # once each to check the loss


def test_a_visit_lasts_a_quarter_of_a_second(monkeypatch):
    """The reference's pace gives the number of steps, the same for all, at least three."""
    Ticks(monkeypatch, real=0.025, bop=1.0)

    assert 10 == timed().times().steps
    assert 3 == timed(reference="bop").times().steps


def test_each_method_is_built_once_and_goes_on(monkeypatch):
    """A network and a training for each method, its latents those that the visit before left."""
    Ticks(monkeypatch, real=1.0, bop=1.0)
    seen = []
    before = timing.Stint.visit

    def visit(stint):
        latents = stint.measured.gi_frame.f_locals["self"].latents
        begun = {name: tensor.clone() for name, tensor in latents.tensors.items()}
        found = before(stint)
        seen.append((id(latents), begun, {n: t.clone() for n, t in latents.tensors.items()}))
        return found

    monkeypatch.setattr(timing.Stint, "visit", visit)
    timed(steps=3, rounds=3)

    assert {4} == set(Counter(owner for owner, _, _ in seen).values())
    for wanted in {owner for owner, _, _ in seen}:
        mine = [(begun, ended) for owner, begun, ended in seen if owner == wanted]
        for (_, ended), (begun, _) in pairwise(mine):
            assert all(torch.equal(ended[name], begun[name]) for name in begun)
        assert any(not torch.equal(mine[0][0][n], mine[-1][1][n]) for n in mine[0][0])


def test_a_training_is_as_long_as_the_study_s():
    """What depends on the number of steps is decided as it would be in the study."""
    long = timed(TINY.replace("epochs = 2", "epochs = 1000"), steps=3, rounds=1)
    short = timed(steps=30, rounds=4)

    lengths = [
        {
            training.steps * training.settings.epochs
            for clocked in made.clocked
            for stint in clocked.stints
            for training in [stint.measured.gi_frame.f_locals["self"]]
        }
        for made in (long, short)
    ]

    assert [{10_000}, {5 * 32}] == lengths


def test_phases_are_timed_one_by_one(monkeypatch):
    """Each phase has its share of the study's epochs; its name stands in the table."""
    Ticks(monkeypatch, real=1.0, bnew=2.0)
    text = TINY.replace('"bop"', '"bnew"').replace("epochs = 2", "epochs = 20")

    real, bnew = timed(text, steps=3, rounds=1).times().costs

    wanted = Workbench(PLUGINS).factory("methods", "bnew")()
    spans = [(end - first) / 20 for first, end in wanted.spans(20)]
    assert ((), "real") == (real.phases, real.name)
    assert [(p.name, s) for p, s in zip(wanted.phases, spans, strict=True)] == [
        (p.name, p.share) for p in bnew.phases
    ]
    assert len(spans) > 1
    assert {2.0} == {p.ratio.median for p in bnew.phases} | {bnew.ratio.median}


def test_all_methods_have_one_pace(monkeypatch):
    """Threads, products and memory order are measured once, not for each method anew."""
    before, asked = pace._fastest, []
    monkeypatch.setattr(pace, "_fastest", lambda *given: asked.append(given) or before(*given))

    timed(steps=1, rounds=1)

    assert 1 == len(asked)


def test_weights_of_a_study_are_not_written_over(tmp_path):
    """A workbench with a study's checkpoints is refused."""
    workbench = Workbench(PLUGINS, checkpoints=Checkpoints(tmp_path))

    with pytest.raises(TypeError, match="untrained checkpoints only"):
        Timing([], workbench, "real", rounds=1)


@pytest.mark.parametrize("method", PLUGINS.names("methods"))
def test_every_phase_of_every_method_can_be_alone(method):
    """A phase's mode of judging is one that it has."""
    whole = Workbench(PLUGINS).factory("methods", method)()

    for number, phase in enumerate(whole.phases):
        single = timing.alone(whole, number)
        assert [phase.name] == [each.name for each in single.phases]
        assert single.judged in single.inference_modes()


def test_a_phase_is_judged_by_a_mode_that_it_has():
    """Where the method's own is missing, another takes its place."""
    phases = [
        Phase(Scheduled(binarizer), Scheduled(SGD, lr=1.0), Scheduled(SGD, lr=1.0), share=0.5)
        for binarizer in (Identity, Stochastic)
    ]
    whole = Method("m", tuple(phases), judged="ensemble")

    judged = [timing.alone(whole, number).judged for number in range(2)]

    assert "ensemble" == judged[1]
    assert judged[0] in ("binary", "real")


def test_what_a_method_builds_on_is_not_trained(monkeypatch, tmp_path):
    """A start and a teacher need no finished run, and no file is read or written."""
    monkeypatch.chdir(tmp_path)
    for name in ("_read", "_write"):
        monkeypatch.setattr(Checkpoints, name, None)

    started = timed(GRAPH, task="plain", steps=3, rounds=1).times()
    taught = timed(TAUGHT + METHODS, task="taught", steps=3, rounds=1).times()

    assert (3, 2) == (len(started.costs), len(taught.costs))
    assert [] == list(tmp_path.iterdir())


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Call bnnbench in an empty folder; returns the exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BNNBENCH_STORAGE", raising=False)
    monkeypatch.setenv("BNNBENCH_DATA", str(tmp_path / "data"))
    (tmp_path / "tiny.toml").write_text(TINY)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["bnnbench", *arguments])
        code = main(list(arguments))
        return code, *capsys.readouterr()

    yield call
    torch.set_num_threads(1)


def rows(out):
    """The cells of each method's row, by its name."""
    lines = [line.split() for line in out.splitlines() if line.startswith(" ") and line.strip()]
    return {name: cells for name, *cells in lines}


SHORT = ("--rounds", "2", "--steps", "2", "--threads", "1")


def test_table(run, tmp_path):
    """A study file's methods, the reference first in the ratios; nothing is left behind."""
    code, out, _ = run("time", "tiny.toml", *SHORT, "--reference", "bop")

    assert 0 == code
    assert "tiny.toml: t (digits, mlp, batches of 100, 10 to an epoch)" in out
    assert "x bop" in out
    found = rows(out)
    assert ["1.000", "2"] == found["bop"][1:]
    assert ["2"] == found["real"][2:]
    assert "an interval takes 6 rounds" in out
    assert "published" not in out
    assert "threads 1" in out
    assert ["tiny.toml"] == [path.name for path in tmp_path.iterdir()]


def test_json_is_all_there_is_on_standard_output(run, tmp_path):
    """All that was measured, the same in a file."""
    code, out, _ = run("time", "tiny.toml", *SHORT, "--json", "-", "--threads", "2")
    told = json.loads(out)
    (task,) = told["tasks"]

    assert 0 == code
    assert ("tiny.toml", 0) == (told["study"], told["seed"])
    assert ("real", 2) == (task["reference"], task["rounds"])
    assert ["real", "bop"] == [each["name"] for each in task["costs"]]
    assert {"median", "low", "high", "n"} == set(task["costs"][1]["ratio"])
    assert (2, 2) == (task["steps"], len(task["costs"][1]["rounds"]))
    assert 2 == task["environment"]["threads"]
    assert torch.__version__ == task["environment"]["packages"]["torch"]

    code, out, _ = run("time", "tiny.toml", *SHORT, "--json", "out.json")

    assert (0, True) == (code, "s/epoch" in out)
    assert task.keys() == json.loads((tmp_path / "out.json").read_text())["tasks"][0].keys()


def test_a_created_study_comes_before_a_bundled_one(run, tmp_path):
    """Its description in the database counts, which is left as it was."""
    run("study", "create", "quickstart", "--from", "tiny.toml")

    created = run("time", "quickstart", *SHORT)
    other = run("time", "quickstart", *SHORT, "--storage", "elsewhere.db")

    assert (0, True) == (created[0], "batches of 100" in created[1])
    store = Store(str(tmp_path / "bnnbench.db"))
    assert [] == store.entries("quickstart")
    store.engine.dispose()
    assert (0, True) == (other[0], "batches of 50" in other[1])
    assert not (tmp_path / "elsewhere.db").exists()


def test_wrong_names_are_one_line(run):
    """Study, task, method: each is answered with the nearest known one."""
    for arguments, wanted in (
        (("quickstrat",), "did you mean 'quickstart'?"),
        (("tiny.toml", "--task", "u"), "there is no task 'u' in this study; known: t"),
        (("tiny.toml", "--reference", "rael"), "did you mean 'real'?"),
        (("tiny.toml", "--json", "no/out.json"), "--json must name a file in a folder that exists"),
        (("none.toml",), "none.toml: cannot be read"),
    ):
        code, out, err = run("time", *arguments)

        assert (2, "", 1) == (code, out, err.count("\n")), err
        assert wanted in err


def test_ctrl_c_shows_what_was_measured(run, monkeypatch, tmp_path):
    """Whole visits count; the exit code is that of an interruption."""
    before, visits = timing.Stint.visit, []

    def visit(stint):
        visits.append(stint)
        if len(visits) == 2 * 3 + 2:  # the second method's in the third round that counts
            raise KeyboardInterrupt
        return before(stint)

    monkeypatch.setattr(timing.Stint, "visit", visit)
    arguments = ("time", "tiny.toml", "--rounds", "9", "--steps", "2", "--json", "out.json")
    code, out, err = run(*arguments)

    found = rows(out)
    assert (130, "error: interrupted") == (code, err.splitlines()[-1])
    assert ("3", "2") == (found["real"][-1], found["bop"][-1])
    (task,) = json.loads((tmp_path / "out.json").read_text())["tasks"]
    assert [3, 2] == [each["ratio"]["n"] for each in task["costs"]]


def test_ctrl_c_in_warm_up_shows_nothing(run, monkeypatch, tmp_path):
    """Where nothing counts yet there is no table, and no file."""
    monkeypatch.setattr(timing, "turns", interrupted)

    code, out, _ = run("time", "tiny.toml", *SHORT, "--json", "out.json")

    assert (130, "") == (code, out)
    assert not (tmp_path / "out.json").exists()


def interrupted(reference, others, rounds, seed):
    """Ctrl-C after the first visit."""
    reference.visit(warmup=True)
    yield 0, reference
    raise KeyboardInterrupt


def test_tasks_without_data_are_left_out(run, tmp_path):
    """Of several tasks with a warning; where there is no other it is an error."""
    text = TINY.replace("[task]", "[[tasks]]", 1)
    more = '\n[[tasks]]\nname = "m"\ndataset = "mnist"\narchitecture = "mlp"\nepochs = 2\n'
    (tmp_path / "two.toml").write_text(text + more)

    code, out, err = run("time", "two.toml", *SHORT)
    alone = run("time", "two.toml", *SHORT, "--task", "m")

    assert (0, True) == (code, "two.toml: t (" in out)
    assert "warning: task 'm' is left out: " in err
    assert "two.toml: m" not in out
    assert (3, "", 1) == (alone[0], alone[1], alone[2].count("\n"))


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (0.5, "warning: others used 50% of the machine"),
        (0.02, "others used 2%"),
        (None, "not known"),
    ],
)
def test_neighbours_are_told(monkeypatch, capsys, share, said):
    """Above the threshold of the harness it is a warning."""
    monkeypatch.setattr(Neighbours, "foreign_share", lambda self: share)

    print_times("s", timed(steps=1, rounds=1).times())

    out = capsys.readouterr().out
    assert said in out
    assert ("warning" in out) == (share == 0.5)


# --- the bundled studies -------------------------------------------------------------------------


def test_published_times_are_those_of_the_sources():
    """Slides: 9.58 against 4.93 s. Report, table 8: minutes, real, deterministic, stochastic."""
    minutes = {"cifar10": (1.88, 1.89, 1.87), "svhn": (16.7, 17.1, 17.6)}
    names = ("real", "binaryconnect-det", "binaryconnect-stoch")
    slides, report = (
        read_study(PLUGINS.get("studies", f"timing-bc-{name}"))
        for name in ("pytorch", "tensorflow")
    )

    ((found),) = beside(slides.published, "mnist", "binaryconnect-stoch", "real")
    assert (9.58, 9.58 / 4.93) == (found.value, found.ratio)
    for task, wanted in minutes.items():
        for name, value in zip(names, wanted, strict=True):
            (found,) = beside(report.published, task, name, "real")
            assert pytest.approx((60 * value, value / wanted[0])) == (found.value, found.ratio)
    assert {"mnist", "cifar10"} == {task.name for task in slides.tasks}
    assert all(p.metric == "seconds_per_epoch" for p in slides.published + report.published)


def test_published_seconds_stand_in_the_table(run, tmp_path):
    """Value and ratio beside the measured ones, and their source below."""
    figures = "".join(
        f'\n[[published]]\nmethod = "{name}"\nmetric = "seconds_per_epoch"\nvalue = {value}\n'
        'source = "them"\n'
        for name, value in (("real", 4.93), ("bop", 9.58))
    )
    (tmp_path / "told.toml").write_text(TINY + figures)

    _, out, _ = run("time", "told.toml", *SHORT)

    found = rows(out)
    assert ["4.93", "1.000"] == found["real"][-2:]
    assert ["9.58", "1.943"] == found["bop"][-2:]
    assert "published: them" in out
