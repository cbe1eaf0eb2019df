"""Training one run into the store, whatever happens on the way."""

from __future__ import annotations

import time
import warnings
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from bnnbench.buckets import CHECKPOINTS
from bnnbench.environment import FOREIGN, Neighbours, describe_environment
from bnnbench.errors import StoreError
from bnnbench.experiments import weights
from bnnbench.failures import TRANSIENT, Failure, failure_of
from bnnbench.leases import LostLeaseError
from bnnbench.notebook import Notebook
from bnnbench.plugins import describe
from bnnbench.stopping import Stop
from bnnbench.store import BASE, DIVERGED, DONE, FAILED, PENDING, PRUNED, TUNE, Entry, Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import optuna

    from bnnbench.experiments import Experiment, Workbench
    from bnnbench.leases import Claim
    from bnnbench.measurements import Measurement
    from bnnbench.runs import Run
    from bnnbench.training import Training


PAUSES = (1.0, 10.0, 60.0)  #: seconds until a run is tried again whose failure may pass by itself


class Observer(Protocol):
    """Who watches runs being trained; see :mod:`bnnbench.cli.progress`."""

    def run_started(self, entry: Entry) -> None:
        """A run begins."""

    def epochs_skipped(self, entry: Entry, epochs: int) -> None:
        """A run is taken up after so many epochs."""

    def epoch_ended(self, entry: Entry, measured: list[Measurement]) -> None:
        """An epoch's measurements are in the database."""

    def run_ended(self, entry: Entry, state: str, message: str) -> None:
        """A run is over."""


class Ending(NamedTuple):
    """How a run ended; ``whole`` says that one process has trained all of it."""

    state: str
    message: str = ""
    failure: Failure | None = None
    whole: bool = True


class Timer:
    """When a checkpoint is due: after so many seconds, or as often as costs a fiftieth of them.

    The latter lies between one second and sixty.
    """

    SHARE, SOONEST, LATEST = 50, 1.0, 60.0

    def __init__(self, every: float | None) -> None:
        self.every = self.SOONEST if every is None else every
        self.adapts, self.kept = every is None, time.monotonic()

    def is_due(self) -> bool:
        """Whether it is time."""
        return time.monotonic() - self.kept >= self.every

    @contextmanager
    def spent(self) -> Iterator[None]:
        """Time a checkpoint while the block lasts, and begin to wait for the next."""
        begun = time.monotonic()
        yield
        self.kept = time.monotonic()
        if self.adapts:
            self.every = min(self.LATEST, max(self.SOONEST, self.SHARE * (self.kept - begun)))


class Trainer:
    """Trains the runs of a study, each from where it was broken off.

    A run that fails is stored with its traceback. ``checkpoint_every`` are the seconds between two
    checkpoints, as many as they are worth if None; one that cannot be written costs nothing but the
    taking up. With ``keep`` the weights of runs that are no trials are kept to be exported. All
    that is written of a run names the claim on it.
    """

    def __init__(
        self,
        store: Store,
        study: str,
        workbench: Workbench,
        observer: Observer,
        checkpoint_every: float | None,
        stop: Stop | None = None,
        *,
        keep: bool = False,
    ) -> None:
        self.store, self.study, self.workbench, self.keep = store, study, workbench, keep
        self.observer, self.checkpoint_every = observer, checkpoint_every
        self.checkpoints, self.stop = workbench.checkpoints, stop or Stop()

    def train(
        self, entry: Entry, run: Run, trial: optuna.Trial | None, claim: Claim | None = None
    ) -> None:
        """Train one run; ``trial`` is whom its accuracy is told while a pruner may stop it.

        Raises:
            KeyboardInterrupt: somebody has asked for the end; the run is taken up again.
            LostLeaseError: another worker has taken the run over.
        """
        self.observer.run_started(entry)
        neighbours, notebook = Neighbours(), Notebook(self.store, entry.run_id, claim)
        try:
            ending = self._ending(entry, run, trial, notebook)
            share = neighbours.foreign_share()
            shared = not ending.whole or (share is not None and share > FOREIGN)
            self._end(entry, ending, notebook.measured, shared=shared, claim=claim)
        except (StoreError, BrokenPipeError):  # not the run's fault: it is taken up again
            with suppress(StoreError, LostLeaseError):
                self.store.end_run(entry.run_id, PENDING, claim=claim)
            raise
        self.checkpoints.forget_training(run.key)
        self.observer.run_ended(entry, ending.state, ending.message)

    def fail(self, entry: Entry, failure: Failure, claim: Claim | None = None) -> None:
        """Let a run end before it has begun."""
        self._end(entry, Ending(FAILED, failure.reason, failure), (), claim=claim)
        self.observer.run_started(entry)
        self.observer.run_ended(entry, FAILED, failure.reason)

    def _end(
        self,
        entry: Entry,
        ending: Ending,
        measured: Sequence[Measurement],
        *,
        shared: bool = False,
        claim: Claim | None = None,
    ) -> None:
        """Write down how a run ended."""
        failure = ending.failure or Failure("", ending.message)
        self.store.end_run(
            entry.run_id,
            ending.state,
            error=failure.text,
            failure=failure.kind,
            shared=shared,
            measured=measured,
            claim=claim,
        )
        if ending.message:
            kind = f"{failure.kind}: " if failure.kind else ""
            self._log(entry, ending.state, kind + ending.message)

    def _ending(
        self, entry: Entry, run: Run, trial: optuna.Trial | None, notebook: Notebook
    ) -> Ending:
        """Train a run to its end; what may pass by itself is tried again after each of PAUSES."""
        try:
            return self._last_attempt(entry, run, trial, notebook)
        except KeyboardInterrupt:
            claim = notebook.claim
            self.store.end_run(entry.run_id, PENDING, measured=notebook.measured, claim=claim)
            raise

    def _last_attempt(
        self, entry: Entry, run: Run, trial: optuna.Trial | None, notebook: Notebook
    ) -> Ending:
        """How the attempt ended after which there is no other."""
        from bnnbench.training import DivergedError

        for pause in (*PAUSES, None):
            try:
                with self.stop.patient():  # an interrupt in the middle of an import is no interrupt
                    whole = self._written(entry, run, trial, notebook)
                return Ending(DONE, whole=whole)
            except (LostLeaseError, StoreError, BrokenPipeError):
                raise
            except DivergedError as diverged:
                return Ending(DIVERGED, str(diverged))
            except _PrunedError:
                return Ending(PRUNED)
            except (Exception, SystemExit) as error:  # a plugin may raise anything
                if self.stop.insisted:  # what looks like a failure is the second interrupt
                    raise KeyboardInterrupt from error
                failure = failure_of(error, describe(error))
            if failure.kind != TRANSIENT or pause is None:
                break
            self._log(entry, TRANSIENT, f"{failure.reason}; tried again in {pause:g} s")
            time.sleep(pause)
        return Ending(FAILED, failure.reason, failure)

    def _written(
        self, entry: Entry, run: Run, trial: optuna.Trial | None, notebook: Notebook
    ) -> bool:
        """Write each epoch as it comes; return whether all of them are of this process.

        Who was at work beside an earlier process is not known, so that its times do not count.
        """
        experiment, training, begun = self._begun(entry, run)
        bench = self.workbench
        environment = describe_environment(bench.plugins, bench.device, bench.team.size)
        notebook.begin(experiment.facts, environment, begun)
        entry = entry._replace(facts=experiment.facts)
        self.observer.epochs_skipped(entry, begun or 0)
        with self._team(experiment, training, begun or 0):
            self._epochs(entry, run, trial, notebook, training)
        if entry.role == BASE:
            self.checkpoints.save_weights(weights(run, training))
        if self.keep and entry.role != TUNE:
            self.checkpoints.save_binary(weights(run, training, "binary"))
        return begun is None

    def _team(
        self, experiment: Experiment, training: Training, epoch: int
    ) -> AbstractContextManager[None]:
        """A block in which other processes train the run, too, where they are asked for."""
        if self.workbench.team.size == 1:
            return nullcontext()
        from bnnbench.parallel.helpers import helped

        return helped(self.workbench, experiment, training, epoch)

    def _epochs(
        self,
        entry: Entry,
        run: Run,
        trial: optuna.Trial | None,
        notebook: Notebook,
        training: Training,
    ) -> None:
        """Train; write each epoch, and now and then a checkpoint."""
        timer = Timer(self.checkpoint_every)
        self.stop.obey()
        for measured in training:
            is_last = training.epoch == run.epochs
            notebook.write(measured, is_last=is_last)
            self.observer.epoch_ended(entry, measured)
            if trial is not None:
                _prune(trial, measured, entry.facts, last=run.epochs)
            if is_last:
                continue  # what is left takes no longer than to keep it
            if training.epoch and (self.stop.asked or timer.is_due()):
                notebook.hand_in()  # a checkpoint counts if its epoch is in the database
                with timer.spent():
                    self._keep(entry, run, training)
            self.stop.obey()

    def _begun(self, entry: Entry, run: Run) -> tuple[Experiment, Training, int | None]:
        """A training where it was broken off, and its epoch; None at the beginning.

        Its measurements up to there must be in the database, and it must not have come to its end.
        """
        experiment = self.workbench.prepare(run)
        training, state = experiment.training(), self.checkpoints.training(run)
        if state is None:
            return experiment, training, None
        known = self.store.value(entry.run_id, "loss", split="train", epoch=state["epoch"])
        if known is None or self.store.value(entry.run_id, "selected_epoch") is not None:
            return experiment, training, None
        try:
            training.load(state)
        except Exception as failure:  # a plugin's own state may not fit it any more
            self._log(entry, "checkpoint", f"not taken up, begun anew: {describe(failure)}")
            experiment = self.workbench.prepare(run)
            return experiment, experiment.training(), None
        return experiment, training, int(state["epoch"])

    def _keep(self, entry: Entry, run: Run, training: Training) -> None:
        try:
            with training.clock.within(CHECKPOINTS):
                self.checkpoints.save_training(run, training.state())
        except Exception as failure:  # a full disk, or a plugin's state that no file can hold
            self._log(entry, "checkpoint", f"not written: {describe(failure)}")

    def _log(self, entry: Entry, kind: str, text: str) -> None:
        self.store.log(self.study, kind, f"{entry.label}: {text}", entry.run_id)


class _PrunedError(Exception):
    pass


def _prune(
    trial: optuna.Trial, measured: list[Measurement], facts: Mapping[str, Any], last: int
) -> None:
    """Tell the pruner the accuracy on validation; stop the run if it says so in time.

    Phases whose networks are not what the method is after are passed over.
    """
    for m in measured:
        told = (m.metric, m.split, m.mode) == ("accuracy", "validation", facts["judged"])
        if told and facts["phases"][m.phase]["selectable"]:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a resumed trial reports its epochs again
                trial.report(m.value, m.epoch)
            if m.epoch < last and trial.should_prune():
                raise _PrunedError
