"""A study: tasks, methods, a protocol and published values, read from TOML and checked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from bnnbench.errors import UsageError, suggestion
from bnnbench.graph import check_graph
from bnnbench.spaces import check_ends

NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Component(_Table):
    """A registered component and its hyperparameters, as far as they are given."""

    name: str
    hyperparameters: dict[str, Any] = {}


def _component(value: Any) -> Any:
    """Let ``"mlp"`` and ``{name = "mlp", width = 512}`` both name a component."""
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, Mapping) and "hyperparameters" not in value:
        return {
            "name": value.get("name", ""),
            "hyperparameters": {k: v for k, v in value.items() if k != "name"},
        }
    return value


Named = Annotated[Component, BeforeValidator(_component)]


class Task(_Table):
    """What is learned: the data, the network, the loss, and for how long."""

    name: Annotated[str, Field(pattern=f"^{NAME}$")] = ""
    dataset: Named
    architecture: Named
    loss: Named = Component(name="squared-hinge")
    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)] = 100
    precision: Literal["fp32", "bf16"] = "fp32"
    start_from: str = ""
    teacher: str = ""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and not values.get("name"):
            parts = [_component(values.get(k, "")) for k in ("dataset", "architecture")]
            names = [str(p.get("name", "")) for p in parts if isinstance(p, Mapping)]
            return {**values, "name": "-".join(filter(None, names)) or "task"}
        return values


class Range(_Table):
    """Where to search a number."""

    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        check_ends(self.low, self.high, log=self.log)
        return self


class MethodSpec(_Table):
    """A method, or a binarizer crossed with an optimizer, under a name of the study's own.

    A hyperparameter given here is fixed; the others are searched where they have a search space,
    or, if ``search`` is given, exactly those that it names. ``judged`` names another inference
    mode than the method's own to tune and select by. ``start_from`` and ``teacher`` name runs of
    the study; left out, the task's count.
    """

    name: Annotated[str, Field(pattern=f"^{NAME}$")] = ""
    method: str = ""
    binarizer: str = ""
    optimizer: str = ""
    hyperparameters: dict[str, Any] = {}
    search: dict[str, Range | Annotated[list[Any], Field(min_length=1)]] | None = None
    judged: str = ""
    start_from: str = ""
    teacher: str = ""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and not values.get("name"):
            parts = [values.get("method"), values.get("binarizer"), values.get("optimizer")]
            name = "-".join(str(p) for p in parts if p).replace("+", "-")
            return {**values, "name": name or "method"}
        return values

    @model_validator(mode="after")
    def _one_way(self) -> MethodSpec:
        _check_one_way(self)
        both = sorted(set(self.hyperparameters) & set(self.search or ()))
        if both:
            raise ValueError(f"a hyperparameter is either fixed or searched, {both[0]!r} is both")
        return self

    @property
    def component(self) -> str:
        """The method's registered name, or "binarizer+optimizer"."""
        return self.method or f"{self.binarizer}+{self.optimizer}"


def _check_one_way(spec: MethodSpec | RunSpec) -> None:
    crossed = bool(spec.binarizer and spec.optimizer)
    if bool(spec.method) == crossed or bool(spec.binarizer) != bool(spec.optimizer):
        raise ValueError("name either a method, or a binarizer and an optimizer")


class RunSpec(_Table):
    """A run that others start from or learn from.

    What is left out is the task's: network, loss and its teacher, epochs, batch size. A run that
    names its own loss has only the teacher that it names too. ``seed`` is one for all the runs that
    build on it; left out, each has the seed of its own. ``select`` is by default the protocol's.
    """

    method: str = ""
    binarizer: str = ""
    optimizer: str = ""
    hyperparameters: dict[str, Any] = {}
    judged: str = ""
    start_from: str = ""
    teacher: str = ""
    architecture: Named | None = None
    loss: Named | None = None
    epochs: Annotated[int | None, Field(ge=1)] = None
    batch_size: Annotated[int | None, Field(ge=1)] = None
    seed: Annotated[int | None, Field(ge=0)] = None
    select: Literal["best", "last"] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> RunSpec:
        _check_one_way(self)
        return self

    def as_method(self, name: str) -> MethodSpec:
        """Return how it is trained, under its name in the study."""
        given = {key: getattr(self, key) for key in ("method", "binarizer", "optimizer", "judged")}
        return MethodSpec(name=name, hyperparameters=self.hyperparameters, **given)

    def on(self, task: Task) -> Task:
        """Return the task with what the run has of its own."""
        own = {key: getattr(self, key) for key in ("architecture", "loss", "epochs", "batch_size")}
        teacher = self.teacher or ("" if self.loss else task.teacher)
        own = {key: value for key, value in own.items() if value is not None}
        return task.model_copy(update=own | {"teacher": teacher, "start_from": self.start_from})


class Protocol(_Table):
    """Tune on validation with an equal budget, confirm with fresh seeds, test once.

    ``trials`` is the number of Optuna trials for each (task, method); 0 takes the published
    hyperparameters. With ``seconds`` a method's trials end when they have trained for so long, or
    when there are ``trials`` of them, whichever comes first. Tuning runs have the seed ``seed``;
    the confirming runs of every method have the seeds ``seed + 1`` to ``seed + seeds``, so that
    differences are paired. ``reference`` is the method that times are compared with; by default the
    one called "real".
    """

    trials: Annotated[int, Field(ge=0)] = 0
    seconds: Annotated[float | None, Field(gt=0)] = None
    seeds: Annotated[int, Field(ge=1)] = 5
    seed: Annotated[int, Field(ge=0)] = 0
    sampler: Literal["tpe", "random", "qmc", "grid", "gp"] = "tpe"
    pruner: Literal["none", "median", "hyperband"] = "none"
    select: Literal["best", "last"] = "best"
    reestimate: Annotated[int, Field(ge=0)] = 0
    reference: str = ""

    @model_validator(mode="after")
    def _known_points(self) -> Protocol:
        if self.sampler in ("grid", "qmc") and self.seconds and not self.trials:
            raise ValueError(
                f"the sampler {self.sampler!r} spreads a known number of points; give trials beside"
                " seconds, or take another sampler"
            )
        return self

    @property
    def tunes(self) -> bool:
        """Whether there is a budget to tune with."""
        return bool(self.trials or self.seconds)


class Published(_Table):
    """A figure that somebody published, to stand beside the measured one."""

    method: str
    task: str = ""
    metric: str = "test_accuracy"
    value: float
    sigma: float | None = None
    n: int | None = None
    mode: str = ""
    source: str = ""


class PluginFiles(_Table):
    """Plugins that a study brings along: Python files, in a study file beside it."""

    files: tuple[Annotated[str, Field(pattern=r"\.py$")], ...] = ()


class Study(_Table):
    """A study file, checked; everything in it is plain and frozen.

    ``departures`` says, a sentence each, where the study is not what its source did. ``scale`` is
    the share of the published training that it has: 1 as in the file.
    """

    title: str = ""
    source: str = ""
    departures: tuple[str, ...] = ()
    scale: Annotated[float, Field(gt=0, le=1)] = 1.0
    tasks: Annotated[tuple[Task, ...], Field(min_length=1)]
    protocol: Protocol = Protocol()
    methods: Annotated[tuple[MethodSpec, ...], Field(min_length=1)]
    runs: dict[Annotated[str, Field(pattern=f"^{NAME}$")], RunSpec] = {}
    probes: tuple[Named, ...] = (Component(name="flips"),)
    plugins: PluginFiles = PluginFiles()
    published: tuple[Published, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _one_task(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and "task" in values:
            if "tasks" in values:
                raise ValueError("give either [task] or [[tasks]], not both")
            return {**{k: v for k, v in values.items() if k != "task"}, "tasks": [values["task"]]}
        return values

    @field_validator("tasks", "methods")
    @classmethod
    def _unique(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        names = [value.name for value in values]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"names must differ, got {twice[0]!r} twice; give one a name of its own"
            )
        return values

    @model_validator(mode="after")
    def _references(self) -> Study:
        known = [method.name for method in self.methods]
        named = [p.method for p in self.published] + [self.protocol.reference or known[0]]
        for name in named:
            if name not in known:
                raise ValueError(f"there is no method {name!r} here{suggestion(name, known)}")
        tasks = [task.name for task in self.tasks]
        for published in self.published:
            if published.task and published.task not in tasks:
                hint = suggestion(published.task, tasks)
                raise ValueError(f"there is no task {published.task!r} here{hint}")
        check_graph(self)
        return self

    @field_validator("probes")
    @classmethod
    def _once(cls, probes: tuple[Component, ...]) -> tuple[Component, ...]:
        names = [probe.name for probe in probes]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"a probe is named once, got {twice[0]!r} twice; leave one out")
        return probes

    def with_plugin_files(self, paths: Iterable[str]) -> Study:
        """Return the study with the plugins of these files instead of its own."""
        files = tuple(str(Path(path).expanduser().resolve()) for path in paths)
        return self.model_copy(update={"plugins": PluginFiles(files=tuple(dict.fromkeys(files)))})

    @property
    def reference(self) -> str:
        """The name of the method that others are compared with; empty if there is none."""
        names = [method.name for method in self.methods]
        return self.protocol.reference or ("real" if "real" in names else "")

    def task(self, name: str) -> Task:
        """Return the task of this name."""
        return next(task for task in self.tasks if task.name == name)

    def method(self, name: str) -> MethodSpec:
        """Return the method of this name."""
        return next(method for method in self.methods if method.name == name)


def check_name(name: str) -> str:
    """Return the name of a study if it can be one.

    Raises:
        UsageError: it has other characters than letters, digits and -_. in it.
    """
    if not re.fullmatch(NAME, name):
        raise UsageError(f"a study's name must be letters, digits and -_. only, got {name!r}")
    return name
