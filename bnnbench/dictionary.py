"""The data dictionary: every column of every table that a study is handed out as.

Whoever writes a table, shows it or explains it reads this list, so that none says what another
does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

from bnnbench.columns import Column, Table, flag, integer, nested, number, text
from bnnbench.entries import ENDED, PENDING, RUNNING

STATES = ", ".join(f"`{state}`" for state in (PENDING, RUNNING, *ENDED))


def _fact(name: str) -> Callable[[Any], Any]:
    return lambda line: line.entry.facts.get(name)


def _environment(name: str, usual: Any = None) -> Callable[[Any], Any]:
    return lambda line: line.environment.get(name, usual)


def _judged(line: Any) -> Any:
    return line.entry.facts.get("judged", "")


def _in_judged(found: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Of numbers by inference mode the one of the judged mode."""
    return lambda line: found(line).get(_judged(line))


def _weight_bits(line: Any) -> Any:
    return line.outcome.bits.get("weight_bits", {})


def _activation_bits(line: Any) -> Any:
    return line.outcome.bits.get("activation_bits", {}).get("")


def _tested(line: Any) -> Any:
    return line.outcome.test.get("accuracy", {})


def _wall(line: Any) -> float | None:
    begun, ended = line.entry.started_at, line.entry.finished_at
    return None if begun is None or ended is None else ended - begun


def _part(name: str, what: str) -> tuple[Column, ...]:
    """The two columns of a component of a run."""
    return (
        text(name, f"run.{name}.name", what),
        nested(f"{name}_hyperparameters", f"run.{name}.hyperparameters", f"{what}: all of its own"),
    )


def _spread(name: str, what: str, unit: str) -> tuple[Column, ...]:
    """The three columns of a spread over runs, one for each seed."""
    found = attrgetter(name)
    return (
        number(f"{name}_mean", lambda row: getattr(found(row), "mean", None), what, unit),
        number(f"{name}_sd", lambda row: getattr(found(row), "sd", None), "its sample sd", unit),
        integer(f"{name}_n", lambda row: getattr(found(row), "n", 0), "of how many", "runs"),
    )


#: lines: :class:`bnnbench.tidy.Placed`
RUNS = Table(
    "runs",
    "a run in its place in the study, in whatever state; a run in two places has two rows",
    (
        text("study", "study", "the study"),
        text("task", "entry.task", "the task, as the study names it"),
        text("method", "entry.method", "the method or the run of `[runs]`, as the study names it"),
        text(
            "role",
            "entry.role",
            "`tune`, `confirm`, or `base`: others build on it; `former 1`, ...: a confirming run of"
            " what was the best before, it counts nowhere",
        ),
        integer("number", "entry.number", "the trial of a tuning run, from 0; else the seed"),
        text("key", "run.key", "the digest of the run's description, its name in other tables"),
        text(
            "state", "entry.state", "`pending`, `running`, `done`, `pruned`, `diverged` or `failed`"
        ),
        integer("seed", "run.seed", "the seed of the training"),
        text("component", "run.method.name", "the registered method, or `binarizer+optimizer`"),
        nested("hyperparameters", "run.method.hyperparameters", "all of the method's"),
        *_part("dataset", "the data set"),
        *_part("architecture", "the network"),
        *_part("loss", "the loss"),
        integer("epochs", "run.epochs", "how long the whole training is", "epochs"),
        integer("batch_size", "run.batch_size", "of training", "examples"),
        text("precision", "run.precision", "of the matrix products in training"),
        text("select", "run.select", "the epoch that is judged: `best` on validation, or `last`"),
        integer("reestimate", "run.reestimate", "for batch norms before judging", "batches"),
        text("start_from", "run.start_from", "the key of the run whose weights it begins with"),
        text("teacher", "run.teacher", "the key of the run that it learns from"),
        text("kind", _fact("task"), "`classification` or `segmentation`, once it has begun"),
        flag("synthetic", _fact("synthetic"), "whether the data are made up"),
        text("remark", _fact("remark"), "what sets the data apart from the published ones"),
        text("judged", _judged, "the inference mode in which the method is judged"),
        number("weight_bits", _in_judged(_weight_bits), "of a weight, judged so", "bits"),
        number("activation_bits", _activation_bits, "of an activation", "bits"),
        integer("selected_epoch", "selected_epoch", "the epoch whose network is judged", "epochs"),
        number(
            "validation_accuracy",
            _in_judged(attrgetter("outcome.selected")),
            "of the selected epoch, in the judged mode",
            "percent",
        ),
        number("test_accuracy", _in_judged(_tested), "likewise; confirming runs only", "percent"),
        nested("validation_by_mode", "outcome.selected", "accuracy by inference mode", "percent"),
        nested("test_by_mode", "outcome.test", "all of the test split by metric, then by mode"),
        nested("weight_bits_by_mode", _weight_bits, "by inference mode", "bits"),
        number("flips", "outcome.flips", "the mean of `flip_step` over the epochs", "share"),
        number(
            "seconds_per_epoch",
            "outcome.seconds",
            "the median of `seconds.train` over the epochs, without warm-up",
            "seconds",
        ),
        number("wall_seconds", _wall, "from start to end, breaks and all", "seconds"),
        flag("shared", "entry.shared", "whether others used the machine: no times to compare"),
        text("environment", "entry.environment", "the digest of what it was trained on and with"),
        text("device", _environment("device"), "`cpu`, or the accelerator"),
        text("processor", _environment("processor"), "the processor's model"),
        integer("cores", _environment("cores"), "that the run could use", "cores"),
        integer("processes", _environment("processes", 1), "that trained it together", "processes"),
        integer("threads", _environment("threads"), "of torch, in each process", "threads"),
        number("memory_gib", _environment("memory_gib"), "of the machine", "GiB"),
        text("system", _environment("system"), "the operating system"),
        text("python", _environment("python"), "its version"),
        nested("packages", _environment("packages", {}), "their versions, by name"),
        nested("plugins", _environment("plugins", {}), "their versions, by name"),
        nested("code", "run.code", "versions of what the run's components come from"),
        text("error", "entry.error", "why it failed, diverged or was pruned"),
        text("failure", "entry.failure", "its kind, where it failed"),
    ),
)

_MEASURED = (
    text("key", "key", "the run, by its key in `runs`"),
    integer("epoch", "measured.epoch", "from 1; 0 is before training", "epochs"),
    integer("phase", "measured.phase", "the phase of the method, from 0"),
    text("split", "measured.split", "`train`, `validation`, `test`; empty where none matters"),
    text("mode", "measured.mode", "the inference mode; empty where none matters"),
    text("layer", "measured.layer", "the weight; empty, as always in `measurements`: all of them"),
    text("metric", "measured.metric", "what was measured; docs/studies.md explains each"),
    number("value", "measured.value", "see docs/studies.md", "the metric's"),
)

#: lines: :class:`bnnbench.tidy.Reading`
MEASUREMENTS = Table("measurements", "a number of a run in an epoch, over all layers", _MEASURED)
LAYERS = Table("layers", "a number of a run in an epoch, of one layer", _MEASURED)

#: lines: :class:`bnnbench.rows.Row`
RESULTS = Table(
    "results",
    "a method on a task in one inference mode: a line of `study show` and of the report",
    (
        text("task", "task", "the task"),
        text("method", "method", "the method"),
        text("mode", "mode", "the inference mode; empty where no run is finished"),
        flag("judged", "judged", "whether the method is judged in this mode"),
        text(
            "weight_bits", "weight_bits", "of a weight; `1-32`: they differ, `?`: unknown", "bits"
        ),
        text("activation_bits", "activation_bits", "of an activation, likewise", "bits"),
        *_spread("test", "test accuracy of the finished confirming runs", "percent"),
        *_spread("validation", "validation accuracy of their selected epochs", "percent"),
        *_spread("flips", "share of signs that change in a step", "share"),
        number("seconds", "seconds", "of an epoch: median over the runs that count", "seconds"),
        *_spread("ratio", "a run's seconds to the reference's with the same seed", "ratio"),
        integer("timed", "timed", "whose times count", "runs"),
        integer("asked", "asked", "confirming runs that the study asks for", "runs"),
        integer("done", "done", "confirming runs that are finished", "runs"),
        nested("ended_badly", "ended_badly", "confirming runs not finished, by state", "runs"),
        nested("trials", "trials", "tuning runs, by state", "runs"),
        nested("hyperparameters", "hyperparameters", "of the confirming runs"),
        nested("tuned", "tuned", "the names of those that were searched"),
        nested(
            "others",
            lambda row: {metric: spread._asdict() for metric, spread in row.others.items()},
            "test metrics beside accuracy: mean, sd and n",
            "percent",
        ),
        nested(
            "published",
            lambda row: [value.model_dump(mode="json") for value in row.published],
            "the published values in the study file",
        ),
        nested("builds_on", "builds_on", "what its runs start from and learn from"),
        integer("epochs_before", "epochs_before", "of the runs that they start from", "epochs"),
        text("kind", "kind", "`classification` or `segmentation`"),
        text("note", "note", "what sets the data apart"),
    ),
)

#: lines: a table and a column of it
DICTIONARY = Table(
    "dictionary",
    "a column of a table",
    (
        text("table", lambda pair: pair[0].name, "the table"),
        text("column", lambda pair: pair[1].name, "the column"),
        text("type", lambda pair: pair[1].kind, "`text`, `integer`, `number`, `flag` or `json`"),
        text("unit", lambda pair: pair[1].unit, "what it counts"),
        text("meaning", lambda pair: pair[1].meaning, "what it says"),
    ),
)

TABLES = (RUNS, MEASUREMENTS, LAYERS, RESULTS, DICTIONARY)


def described(tables: Sequence[Table] = TABLES) -> str:
    """Return the dictionary as Markdown: for each table a heading and a table of its columns."""
    return "\n".join(_described(table) for table in tables)


def _described(table: Table) -> str:
    head = f"### {table.name}\n\nA row is {table.meaning}.\n\n"
    lines = ["| column | type | unit | meaning |", "|---|---|---|---|"]
    lines += [f"| `{c.name}` | {c.kind} | {c.unit} | {c.meaning} |" for c in table.columns]
    return head + "\n".join(lines) + "\n"
