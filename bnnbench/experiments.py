"""From a run's description to its measurements: names become components, components are trained."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from bnnbench.errors import BnnbenchError, PluginError, UsageError
from bnnbench.failures import is_out_of_memory
from bnnbench.methods import unchanged
from bnnbench.parallel.helpers import Team
from bnnbench.plugins import describe
from bnnbench.spaces import hyperparameters, validate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor, nn

    from bnnbench.checkpoints import Checkpoints, Weights
    from bnnbench.interfaces import Dataset, Loss, Probe
    from bnnbench.methods import Method
    from bnnbench.pace import Pace
    from bnnbench.plugins import Component, Plugins
    from bnnbench.runs import Part, Run
    from bnnbench.spaces import Hyperparameter
    from bnnbench.training import Training

#: parameters that the harness supplies itself
GIVEN = {
    "architectures": ("shape", "classes"),
    "losses": ("teacher", "student"),
    "optimizers": ("self", "params"),
}
CROSS = "+"


class Workbench:
    """Builds and trains runs with the components of the plugins; data sets are loaded once.

    ``checkpoints`` holds the weights of the runs that others build on. A ``team`` of several
    processes trains each run, whose first this one is. Where a ``pace`` is given none is measured.
    """

    def __init__(
        self,
        plugins: Plugins,
        device: str = "cpu",
        threads: int | None = None,
        checkpoints: Checkpoints | None = None,
        team: Team | None = None,
        pace: Pace | None = None,
    ) -> None:
        import torch

        from bnnbench.checkpoints import Checkpoints

        self.team, self._given_pace = team or Team(), pace
        self.plugins, self.device, self.threads = plugins, device, threads
        self.checkpoints = checkpoints or Checkpoints("bnnbench.db.checkpoints")
        self._kept = checkpoints.folder if checkpoints else None
        self._all_threads = torch.get_num_threads()
        self._datasets: dict[str, Dataset] = {}

    def factory(self, kind: str, name: str) -> Callable[..., Any]:
        """Return the registered factory, or a cross of "binarizer+optimizer" as a method."""
        if kind == "methods" and CROSS in name:
            from bnnbench.methods import cross

            binarizer, optimizer = name.split(CROSS, 1)
            return cross(
                name,
                self.plugins.get("binarizers", binarizer),
                self.plugins.get("optimizers", optimizer),
            )
        factory: Callable[..., Any] = self.plugins.get(kind, name)
        return factory

    def hyperparameters(self, kind: str, name: str) -> dict[str, Hyperparameter]:
        """Return the hyperparameters of a component."""
        return hyperparameters(self.factory(kind, name), GIVEN.get(kind, ()))

    def complete(self, kind: str, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return all hyperparameters of a component, checked, its defaults filled in."""
        return validate(self.factory(kind, name), values, name, GIVEN.get(kind, ()))

    def versions(self, used: Iterable[tuple[str, str]]) -> dict[str, str]:
        """Return the distributions that some (kind, name) come from, and their versions."""
        plugins = [component.plugin for component in self._components(used)]
        return {plugin.distribution: plugin.version for plugin in plugins}

    def levels(self, run: Run) -> dict[str, str]:
        """Return how far each component of a run came when it was last checked here."""
        from bnnbench.conformance import known_levels

        parts = {"datasets": run.dataset, "architectures": run.architecture}
        parts |= {"losses": run.loss, "methods": run.method}
        probes = [p if isinstance(p, str) else p.name for p in run.probes]
        used = [(kind, part.name) for kind, part in parts.items()]
        return known_levels(self._components([*used, *(("probes", name) for name in probes)]))

    def _components(self, used: Iterable[tuple[str, str]]) -> list[Component]:
        """The components of some (kind, name), both halves of a method that is crossed."""
        plain: list[tuple[str, str]] = []
        for kind, name in used:
            if kind == "methods" and CROSS in name:
                plain += zip(("binarizers", "optimizers"), name.split(CROSS, 1), strict=True)
            else:
                plain.append((kind, name))
        return [self.plugins.component(kind, name) for kind, name in plain]

    def build(self, kind: str, part: Part, **given: Any) -> Any:
        """Return the component that a part of a run describes.

        Raises:
            UsageError: an unknown name or hyperparameter.
            PluginError: the component's own code failed.
        """
        factory = self.factory(kind, part.name)
        values = self.complete(kind, part.name, part.hyperparameters)
        try:
            return factory(**given, **values)
        except BnnbenchError:
            raise
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise PluginError(f"{part.name} cannot be built: {describe(error)}") from error
            told = ", ".join(f"{k} = {v!r}" for k, v in part.hyperparameters.items())
            raise UsageError(f"{part.name} with {told} does not fit into memory") from error
        except ValueError as error:
            raise UsageError(f"{part.name}: {describe(error).partition(': ')[2]}") from error
        except Exception as error:  # whatever a plugin's factory may raise
            raise PluginError(f"{part.name} cannot be built: {describe(error)}") from error

    def takes_teacher(self, loss: str) -> bool:
        """Whether a loss learns from another run."""
        return "teacher" in inspect.signature(self.factory("losses", loss)).parameters

    def loss(self, run: Run, student: nn.Module, teacher: nn.Module | None) -> Loss:
        """Return a run's loss, which may hold a teacher and look at the student's layers.

        Raises:
            UsageError: the loss needs a teacher and there is none, or has no use for one.
        """
        check_teacher(self, run.loss.name, named=teacher is not None)
        taken = inspect.signature(self.factory("losses", run.loss.name)).parameters
        given = {"teacher": teacher, "student": student}
        given = {name: network for name, network in given.items() if name in taken}
        loss: Loss = self.build("losses", run.loss, **given)
        return loss

    def dataset(self, part: Part) -> Dataset:
        """Return a data set, loaded at most once."""
        key = repr((part.name, sorted(part.hyperparameters.items())))
        if key not in self._datasets:
            self._datasets[key] = self.build("datasets", part)
        return self._datasets[key]

    def network(self, run: Run) -> nn.Module:
        """Return the run's network as it is before training; same seed, same weights."""
        from bnnbench.seeds import RandomState, derive

        data = self.dataset(run.dataset)
        with RandomState(derive(run.seed, "init")).in_force():
            model: nn.Module = self.build(
                "architectures", run.architecture, shape=data.shape, classes=data.classes
            )
        return model

    def method(self, run: Run) -> Method:
        """Return the run's method, judged as the run says."""
        method: Method = self.build("methods", run.method)
        if run.judged:
            method = replace(method, judged=run.judged)
        modes = method.inference_modes()
        if method.judged not in modes:
            raise UsageError(
                f"{run.method.name} cannot be judged by {method.judged!r}; its inference modes are"
                f" {', '.join(modes)}"
            )
        return method

    def probe(self, given: str | Part) -> Probe:
        """Return a new probe, by its name or with hyperparameters."""
        if isinstance(given, str):
            probe: Probe = self.plugins.get("probes", given)()
        else:
            probe = self.build("probes", given)
        return probe

    def prepare(self, run: Run) -> Experiment:
        """Return the run with its data, network, method, loss and probes, ready to be trained.

        Raises:
            BnnbenchError: in one line, what cannot be loaded or built.
        """
        data = self.dataset(run.dataset)
        from bnnbench.handover import hand_over

        network, method = self.network(run), self.method(run)
        if run.start_from:
            weights = self.checkpoints.weights(run.start_from)
            hand_over(weights, network, f"run {run.start_from}")
            method = replace(method, initialize=unchanged)
        teacher = self._teacher(run.teacher) if run.teacher else None
        pace = self._pace(network, (run.batch_size, *data.shape))
        return Experiment(
            run,
            data,
            network,
            method,
            self.loss(run, network, teacher),
            [self.probe(given) for given in run.probes],
            self.device,
            pace,
            self.levels(run),
        )

    def check(self, run: Run, start: Run | None = None, teacher: Run | None = None) -> None:
        """Build all that a run needs, with fresh networks for the runs that it builds on.

        Raises:
            BnnbenchError: in one line, what would have failed later.
        """
        from bnnbench.handover import check_places, check_teacher_mode
        from bnnbench.seeds import RandomState

        data = self.dataset(run.dataset)
        if run.batch_size > len(data.train):
            raise UsageError(
                f"batch_size must be at most the {len(data.train)} training examples"
                f" of {run.dataset.name!r}, got {run.batch_size}"
            )
        network = self.network(run)
        self.method(run).spans(run.epochs)
        if start is not None:
            check_places(self.network(start).state_dict(), network, "the run that it starts from")
        fixed = None
        if teacher is not None:
            method = self.method(teacher)
            draws = method.inference_modes()[method.judged].draws
            check_teacher_mode(method.name, method.judged, draws)
            fixed = self.network(teacher).eval()
        loss = self.loss(run, network, fixed)
        inputs, targets = next(data.train.batches(min(run.batch_size, 2)))
        with RandomState(0).in_force():
            outputs = _tried(network, inputs, run)
            check_outputs(run, data, outputs, targets)
            loss(outputs, inputs, targets)
        if self.team.size > 1:
            from bnnbench.parallel.division import divided, few

            divided(network, loss, few(data.train, run.batch_size, self.team.size), self.team.size)

    def _teacher(self, key: str) -> nn.Module:
        """The network of a run, as it is judged; a new one each time, for a loss may hook it."""
        from bnnbench.handover import as_teacher

        weights = self.checkpoints.weights(key)
        return as_teacher(weights, self.network(weights.run)).to(self.device)

    def _pace(self, network: nn.Module, batch: tuple[int, ...]) -> Pace:
        """How this machine trains the network fastest; threads and products are set to it.

        The processes of a run share the threads that one would have.
        """
        from bnnbench.pace import Pace, pace_of

        pace = self._given_pace or Pace(threads=self.threads or self._all_threads)
        if self.device == "cpu" and self._given_pace is None:
            pace = pace_of(network, batch, self.threads, self._all_threads, self._kept)
        if self.team.size > 1:
            pace = replace(pace, threads=max(1, pace.threads // self.team.size))
        pace.set()
        return pace


@dataclass
class Experiment:
    """A run whose every part is built; train it once."""

    run: Run
    data: Dataset
    network: nn.Module
    method: Method
    loss: Loss
    probes: list[Probe]
    device: str
    pace: Pace
    levels: Mapping[str, str] = field(default_factory=dict)

    @property
    def facts(self) -> dict[str, Any]:
        """What is true of the run and cannot be read from its description."""
        from bnnbench.roles import roles

        return {
            "judged": self.method.judged,
            "task": self.data.task,
            "synthetic": self.data.synthetic,
            "remark": ", ".join(filter(None, (self.data.remark, self._precision))),
            "examples": {name: len(getattr(self.data, name)) for name in _SPLITS},
            "splits": {name: getattr(self.data, name).fingerprint() for name in _SPLITS},
            "phases": phases(self.method, self.run.epochs),
            "roles": roles(self.network),
            "levels": dict(self.levels),
        }

    @property
    def _precision(self) -> str:
        return "" if self.run.precision == "fp32" else f"trained in {self.run.precision}"

    def training(self) -> Training:
        """Return the training; iterate for the measurements of each epoch."""
        from bnnbench.training import Settings, Training

        run = self.run
        settings = Settings(
            run.epochs,
            run.batch_size,
            run.seed,
            run.select,
            run.test,
            run.reestimate,
            self.device,
            precision=run.precision,
            channels_last=self.pace.channels_last,
        )
        return Training(self.network, self.method, self.data, self.loss, settings, self.probes)


def weights(run: Run, training: Training, mode: str = "") -> Weights:
    """Return what a finished training leaves behind: to the runs that build on it, or to export.

    ``mode`` is the inference mode whose network is meant, the judged one if none is named.
    """
    from bnnbench.checkpoints import Weights

    latents = {f"{name}.weight": latent for name, latent in training.latents.state().items()}
    mode, at = mode or training.method.judged, training.selected.at
    network = training.network(mode)
    last = training.at(at["epoch"] - 1, max(training.steps, 1) - 1)
    return Weights(run, network, latents, mode, training.modes[mode].draws, last)


def _tried(network: nn.Module, inputs: Tensor, run: Run) -> Tensor:
    """The outputs of a network in training.

    Raises:
        UsageError: it cannot be trained on such a batch.
    """
    try:
        outputs: Tensor = network(inputs)
    except BnnbenchError:
        raise
    except Exception as error:  # whatever a plugin's network may raise
        hint = "; take a larger batch_size" if len(inputs) == 1 else ""
        raise UsageError(
            f"{run.architecture.name!r} must take batches of {tuple(inputs.shape)} in training,"
            f" got: {describe(error)}{hint}"
        ) from error
    return outputs


def check_teacher(workbench: Workbench, loss: str, *, named: bool) -> None:
    """Refuse a loss that needs a teacher and has none, or has one and no use for it."""
    if workbench.takes_teacher(loss) == named:
        return
    if named:
        raise UsageError(f"the loss {loss!r} learns from no teacher; leave the teacher out")
    raise UsageError(
        f'the loss {loss!r} learns from a teacher; name one of the study\'s runs, teacher = "NAME"'
    )


def check_outputs(run: Run, data: Dataset, outputs: Tensor, targets: Tensor) -> None:
    """Refuse a network whose outputs are not what the data set's task asks for.

    Raises:
        UsageError: the outputs are not (batch, classes) and then what the targets have.
    """
    wanted = (len(targets), data.classes, *targets.shape[1:])
    if tuple(outputs.shape) != wanted:
        raise UsageError(
            f"a {data.task} of {run.dataset.name!r} needs outputs of shape {wanted}, but"
            f" {run.architecture.name!r} gives {tuple(outputs.shape)}; take another architecture"
        )


_SPLITS = ("train", "validation", "test")


def phases(method: Method, epochs: int) -> list[dict[str, Any]]:
    """Return each phase: its name, first and last epoch (from 1), whether it is selectable."""
    return [
        {"name": phase.name, "first": first + 1, "last": end, "selectable": phase.selectable}
        for phase, (first, end) in zip(method.phases, method.spans(epochs), strict=True)
    ]
