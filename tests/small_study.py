"""A study with a few runs written by hand, for the tests of the report."""

from __future__ import annotations

from bnnbench.deployments import Deployment, Layer, Timing
from bnnbench.measurements import Measurement
from bnnbench.runs import Part, Run
from bnnbench.store import CONFIRM, DONE
from bnnbench.studyfile import parse_study

EPOCHS = 3
LAYERS = ("dense2.weight", "dense1.weight")
ROLES = [
    {"parameter": "dense1.weight", "role": "binary", "shape": [4, 5], "place": "first"},
    {"parameter": "dense2.weight", "role": "binary", "shape": [2, 4], "place": "last"},
    {"parameter": "norm.bias", "role": "real", "shape": [4], "place": ""},
]
ENVIRONMENT = {"cores": 2, "packages": {"torch": "2.13.0+cpu", "ray": "not installed"}}


_TIMINGS = (
    Timing("packed", 1, 0.5, 0.4, 0.75),
    Timing("fp32", 1, 2.0, 1.5, 3.0),
    Timing("bf16", 1, 0.25, 0.2, 0.3),
    Timing("packed", 100, 4.0, 3.0, 5.0),
    Timing("fp32", 100, 50.0, 40.0, 60.0),
)
_ALONE = Layer(
    timings=(
        Timing("packed", 1, 0.25, 0.2, 0.3),
        Timing("fp32", 1, 1.5, 1.25, 2.0),
        Timing("fp32-best", 1, 0.75, 0.5, 1.0),
        Timing("packed", 100, 2.0, 1.0, 3.0),
        Timing("fp32", 100, 50.0, 40.0, 60.0),
    ),
    name="conv2",
    kind="convolution",
    shape="8×6×6 → 16×4×4, 3×3",
    bits="1/1",
    macs=18_432,
)
DEPLOYED = Deployment(
    bytes={"binary": 1024, "thresholds": 256, "real": 768},
    float32=40 * 1024,
    macs={"1/1": 700, "1/32": 200, "32/1": 0, "32/32": 100},
    examples=10_000,
    differing=0,
    strays=2,
    accuracy=91.25,
    rounds=30,
    threads=1,
    foreign=0.02,
    environment={"processor": "Abacus <b>", "cores": 2, "packages": {"torch": "2.13.0"}},
    timings=_TIMINGS,
    layers=(_ALONE,),
)


def study(**changes):
    """A study of one task, three methods, two seeds; "real" is the reference."""
    values = {
        "title": "Small",
        "source": "nobody",
        "task": {"name": "t", "dataset": "digits", "architecture": "mlp", "epochs": EPOCHS},
        "protocol": {"seeds": 2},
        "methods": [{"method": "real"}, {"method": "ste"}, {"method": "bop"}],
    }
    return parse_study(values | changes, "small")


def enter(store, method, seed, *, name="s", task="t", role=CONFIRM, values=None):
    """A run in its place, not yet begun."""
    part = Part(method, {"lr": 0.1, "for": f"{task} {role}"} | (values or {}))
    run = Run(Part("d"), Part("a"), Part("l"), part, seed, EPOCHS, 100)
    return store.enter(name, task, method, role, seed, run)


def record(store, method, seed, test, *, judged="binary", shared=False, facts=None, **place):
    """A finished run; ``test`` is its test accuracy in each mode, and all else follows from it.

    The validation accuracy in the judged mode is the test accuracy + epoch - 3, the loss 1 / epoch,
    an epoch takes as many seconds as the epoch's number times the seed (and twice that for all but
    "real"), and in dense1 an epoch's share of flips is 0.1 / epoch, in dense2 nothing flips.
    """
    entry = enter(store, method, seed, **place)
    known = {"judged": judged, "roles": ROLES, "synthetic": False} | (facts or {})
    store.start_run(entry.run_id, known, ENVIRONMENT)
    pace = seed * (1 if method == "real" else 2)
    measured = []
    for epoch in range(1, EPOCHS + 1):
        flips = 0.1 / epoch
        measured += [
            Measurement("accuracy", test[judged] + epoch - 3, epoch, "validation", judged),
            Measurement("accuracy", 1.0, epoch, "validation", "other"),
            Measurement("loss", 1 / epoch, epoch, "train"),
            Measurement("flip_step", flips * 20 / 28, epoch),
            Measurement("flip_step", flips, epoch, layer="dense1.weight"),
            Measurement("flip_step", 0.0, epoch, layer="dense2.weight"),
            Measurement("seconds.warmup" if epoch == 1 else "seconds.train", pace * epoch, epoch),
            Measurement("seconds.evaluation", 0.5, epoch),
        ]
    measured.append(Measurement("selected_epoch", EPOCHS, EPOCHS))
    measured.append(Measurement("activation_bits", 32, EPOCHS))
    measured.append(Measurement("seconds.evaluation", 0.25, EPOCHS + 1))
    for mode, accuracy in test.items():
        bits = 32 if mode == "real" else 1
        measured.append(Measurement("weight_bits", bits, EPOCHS, mode=mode))
        measured.append(Measurement("accuracy", accuracy, EPOCHS, "test", mode))
    store.write(entry.run_id, measured)
    store.end_run(entry.run_id, DONE, shared=shared)


def fill(store, **changes):
    """The whole study "s": real 90 and 92, ste 85 and 88, bop 84 and 85 percent."""
    store.create_study("s", study(**changes), "bnnbench study create s", "0")
    for seed, (real, ste, bop) in enumerate([(90.0, 85.0, 84.0), (92.0, 88.0, 85.0)], start=1):
        record(store, "real", seed, {"real": real, "binary": 20.0}, judged="real")
        record(store, "ste", seed, {"binary": ste, "real": 50.0})
        record(store, "bop", seed, {"binary": bop})
