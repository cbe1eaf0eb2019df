"""Numbers that were worked out elsewhere, of the methods with phases."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch

from bnnbench.schedules import Linear, Progress
from bnnbench.training import Settings, Training
from bnnbench_plugins.bmd import (
    AnnealedEpochs,
    AnnealedSteps,
    MirrorTanh,
    Tanh,
    TanhGradient,
    bmd,
    mirrored,
)
from bnnbench_plugins.bnew import Bnew, BudgetWarning, Hardening, Relaxed, bnew, relaxed
from bnnbench_plugins.frozen import Frozen, frozen_random
from bnnbench_plugins.proxquant import Homotopy, ProxAdam, proxquant

from .papers import bmd as bmd_rule
from .papers import bnew as bnew_rule
from .papers import proxquant as prox_rule
from .test_training import LOSS, network, synthetic

HALF, SINGLE, DOUBLE = torch.float16, torch.float32, torch.float64


def at_step(k, total):
    return Progress(k, total, 0, 1)


def at_epoch(e, epochs, steps=352):
    return Progress(e * steps, epochs * steps, e, epochs)


# Mirror descent


@pytest.mark.parametrize(
    ("factor", "interval", "final"), [(1.02, 200, 1.996e4), (1.2, 2000, 9.10e3)]
)
def test_beta_of_the_scripts(factor, interval, final):
    """Beta is multiplied after iterations 0, 200, 400, ...; the end of 100 000 is published."""
    updates = 100_000 // interval
    beta = AnnealedSteps(factor**updates, updates)
    powers = {0: 0, 1: 1, interval: 1, interval + 1: 2, 2 * interval + 1: 3, 99_999: updates}

    assert final == pytest.approx(factor**updates, rel=5e-4)
    for k, power in powers.items():
        assert beta(at_step(k, 100_000)) == pytest.approx(factor**power, rel=1e-9)


def test_beta_of_the_default():
    """The default ends where 500 factors of 1.02 do."""
    beta = bmd().phases[0].binarizer.hyper["beta"]

    assert beta(at_step(99_999, 100_000)) == pytest.approx(1.02**500, rel=2.5e-3)
    assert beta(at_step(1, 100_000)) == pytest.approx(1.02, rel=1e-5)


def test_beta_of_the_epochs():
    """The BNEW programs have 1 twice, then 1.01 times as much each epoch: 2.08e4 after 1000."""
    beta = AnnealedEpochs(1.01**998)
    seen = [beta(at_epoch(e, 1000)) for e in range(1000)]

    assert seen == pytest.approx([1, *(1.01 ** (e - 1) for e in range(1, 1000))], rel=1e-9)
    assert 1.01 * seen[-1] == pytest.approx(2.08e4, rel=3e-3)
    assert AnnealedEpochs(7.0)(at_epoch(0, 1)) == AnnealedEpochs(7.0)(at_epoch(0, 2)) == 1
    assert AnnealedEpochs(7.0)(at_epoch(1, 2)) == 7


@pytest.mark.parametrize("variant", ["md-tanh-s", "md-tanh", "gd-tanh", "md-softmax-s"])
def test_learning_rate_of_the_scripts(variant):
    """1e-3 in iteration 0 only, then 3e-4; times 0.3 after 30 000, 60 000 and 90 000 more."""
    (phase,) = bmd(variant=variant).phases
    expected = {0: 1e-3, 1: 3e-4, 30_000: 3e-4, 30_001: 9e-5, 60_001: 2.7e-5, 90_001: 8.1e-6}

    for scheduled in (phase.binary, phase.real):
        seen = {k: scheduled.hyper["lr"](at_step(k, 100_000)) for k in expected}
        assert seen == pytest.approx(expected, rel=1e-9)


def descent(betas, closed, lr=0.05, steps=4):
    """The weight after gradient descent on random gradients, in closed form or through its dual."""
    generator = torch.Generator().manual_seed(2)
    w = [0.3, -0.8, 0.0, 1.5, -0.01]
    b = bmd_rule.weights(w, beta=betas[0])
    for k in range(steps):
        g = torch.randn(len(w), generator=generator, dtype=DOUBLE)
        b = closed(b, [betas[k] * lr * x for x in g.tolist()])
        w = [x - lr * dx for x, dx in zip(w, g.tolist(), strict=True)]
    return torch.tensor(b, dtype=DOUBLE), torch.tensor(
        bmd_rule.weights(w, beta=betas[-1]), dtype=DOUBLE
    )


def ours(b, x):
    return mirrored(torch.tensor(b, dtype=DOUBLE), torch.tensor(x, dtype=DOUBLE)).tolist()


@pytest.mark.parametrize("closed", [bmd_rule.closed, ours], ids=["the paper's", "ours"])
@pytest.mark.parametrize("beta", [0.5, 1.0, 3.0])
def test_closed_form_at_a_constant_beta(beta, closed):
    """At a constant beta the closed form is the stable one, to the last digits."""
    b, stable = descent([beta] * 4, closed)

    assert (b - stable).abs().max() < 5e-15


@pytest.mark.parametrize("closed", [bmd_rule.closed, ours], ids=["the paper's", "ours"])
def test_closed_form_as_beta_grows(closed):
    """As beta grows the two are different methods."""
    b, stable = descent([1, 1, 2, 4], closed)

    assert (b - stable).abs().max() > 0.2


@pytest.mark.parametrize("b", [-1.0, -0.999, -0.5, 0.0, 1e-3, 0.7, 1.0 - 1e-9, 1.0])
@pytest.mark.parametrize("x", [-20.0, -1.0, -1e-3, 0.0, 0.5, 15.0, 30.0])
def test_closed_form(b, x):
    """The form without overflow is the published one, on the edges too: +1 can come back."""
    assert ours([b], [x]) == pytest.approx(bmd_rule.closed([b], [x]), rel=1e-9, abs=1e-12)


def test_closed_form_outside_the_hull():
    """A weight that starts outside [-1, 1] is taken for the nearest edge, not for no number."""
    assert ours([1.5, -2.0], [30.0, -30.0]) == ours([1.0, -1.0], [30.0, -30.0])


def test_closed_form_in_single_precision():
    """Where the published form overflows, ours stays a number in [-1, 1], and flips weights."""
    generator = torch.Generator().manual_seed(0)
    b = torch.tanh(torch.randn(1000, generator=generator))
    first = b.clone()
    optimizer = MirrorTanh([b], lr=1e-3, beta=2e4)
    for _ in range(200):
        b.grad = torch.randn(1000, generator=generator)
        optimizer.step()
        assert b.isfinite().all()
        assert b.abs().max() <= 1
    published = (1 + first) / (1 - first + 1e-20) * torch.exp(torch.tensor(2 * 60.0))
    assert 0 < (b * first < 0).sum() < 1000
    assert ((published - 1) / (published + 1)).isnan().all()


@pytest.mark.parametrize("dtype", [HALF, torch.bfloat16, SINGLE, DOUBLE])
@pytest.mark.parametrize("kind", [Tanh, TanhGradient])
def test_huge_beta(kind, dtype):
    """With the largest beta weights are +-1, or 0 where the dual is; gradients are finite."""
    latent = torch.tensor([-30.0, -1e-3, 0.0, 1e-3, 2.0], dtype=dtype)
    tanh = kind(1e35)

    assert tanh.forward(latent).tolist() == [-1, -1, 0, 1, 1]
    assert tanh.forward(latent).dtype == dtype
    if dtype in (SINGLE, DOUBLE):
        gradient = tanh.backward(latent, torch.ones_like(latent))
        assert gradient.isfinite().all()
    assert tanh.inference_modes()["binary"].view(latent).tolist() == [-1, -1, 1, 1, 1]


# BNEW


def test_growth():
    """A weight that nothing opposes grows by e^35.2 in 1000 epochs of 352 steps, lambda_0 1e-4."""
    rule = [bnew_rule.strength(1e-4, e, 1000) for e in range(1000)]
    schedule = Hardening(35.2)
    lams = [schedule(at_epoch(e, 1000)) for e in range(1000)]
    grown = bnew_rule.growth(lam for lam in lams for _ in range(352))

    assert lams == pytest.approx(rule, rel=1e-12)
    assert lams[-1] == pytest.approx(1e-4, rel=2e-3)
    assert math.log(grown) == pytest.approx(35.2, rel=2e-3)
    assert sum(2 * 352 * lam for lam in lams) == pytest.approx(35.2, rel=2e-3)


@pytest.mark.parametrize("ramp", ["epoch", "step"])
@pytest.mark.parametrize("epochs", [100, 400])
def test_growth_of_a_shorter_training(epochs, ramp):
    """The budget, not lambda, is what a training of another length keeps."""
    total = 352 * epochs
    schedule = Hardening(35.0, ramp)
    lams = [schedule(Progress(t, total, t // 352, epochs)) for t in range(total)]

    assert math.log(bnew_rule.growth(lams)) == pytest.approx(35, rel=0.011)
    assert max(lams) == pytest.approx(35 / total, rel=0.011)


def test_growth_of_an_optimizer():
    """So does a weight with a gradient of 0, which the optimizer moves."""
    w = torch.tensor([1e-15, -1e-15], dtype=DOUBLE)
    optimizer, schedule, total = Bnew([w]), Hardening(30.0), 20 * 50
    lams = [schedule(Progress(t, total, t // 50, 20)) for t in range(total)]
    for lam in lams:
        optimizer.param_groups[0]["lam"] = lam
        w.grad = torch.zeros_like(w)
        optimizer.step()

    grown = bnew_rule.growth(lams)
    assert w.tolist() == pytest.approx([1e-15 * grown, -1e-15 * grown], rel=1e-9)
    assert math.log(grown) == pytest.approx(30, rel=0.1)


def test_growth_of_the_poster():
    """The printed 1 + 2 lambda eta lets weights grow by 12 % in the same training."""
    lams = [bnew_rule.strength(1e-4, e, 1000) for e in range(1000)]
    rates = Linear(0.01, 0.0)
    total = 352_000
    exponent = sum(2 * lams[t // 352] * rates(at_step(t, total)) for t in range(0, total, 16)) * 16

    assert exponent == pytest.approx(0.12, abs=5e-3)


def test_strength_is_limited():
    """Lambda is 1 at most, however short the training."""
    assert Hardening(35.0)(Progress(3, 4, 3, 4)) == 1
    assert Hardening(35.0, "step")(Progress(0, 1, 0, 1)) == 0


def distance(budget):
    """Mean distance to +-1 of the weights that a small training has hardened, as next clipped."""
    training = Training(
        network(), bnew(budget=budget, relax=0, lr=3e-3), synthetic(150), LOSS, Settings(60, 5, 0)
    )
    far = []
    for _ in training:
        if training.stretch and training.stretch.phase.name == "harden":
            tensors = training.latents.tensors.values()
            far = [(1 - x.clamp(-1, 1).abs()).flatten() for x in tensors]
    return torch.cat(far).mean().item()


@pytest.mark.parametrize("budget", [18.0, 35.0])
def test_enough(budget):
    """A budget of 18 brings all weights to +-1 before the lock."""
    assert distance(budget) < 1e-5


def test_too_little():
    """A budget of 1.8 leaves them far from it, and one is told so."""
    with pytest.warns(BudgetWarning, match=r"budget of 1\.8 .* e\^1\.8 = 6\.05 times.* below 18"):
        assert distance(1.8) > 0.1


@pytest.mark.parametrize(("budget", "warned"), [(17.9, True), (18.0, False), (10.0, True)])
def test_when_one_is_warned(budget, warned, recwarn):
    """The warning comes below 18, and it is of its own kind."""
    bnew(budget=budget)

    assert [BudgetWarning] * warned == [warning.category for warning in recwarn]


def test_phases_of_bnew():
    """200 epochs of relax, 980 of hardening, 20 locked; the last two are one stage."""
    method = bnew()

    assert [(0, 200), (200, 1180), (1180, 1200)] == method.spans(1200)
    assert [(0, 200), (200, 1200), (200, 1200)] == method.stages(1200)
    assert ["relax", "harden", "fine-tune"] == [phase.name for phase in method.phases]
    assert [False, False, True] == [phase.selectable for phase in method.phases]
    assert [(0, 980), (980, 1000)] == bnew(relax=0.0).spans(1000)


def test_learning_rate_of_bnew():
    """1e-2 as each stage begins, 2e-4 at the lock, 0 in its last step."""
    relax, harden, locked = (phase.real.hyper["lr"] for phase in bnew().phases)
    first, last, lock = at_step(0, 1000), at_step(999, 1000), at_step(980, 1000)

    assert [0.01, 0.01] == [rate(first) for rate in (relax, harden)]
    assert [0, 0, 0] == [rate(last) for rate in (relax, harden, locked)]
    assert locked(lock) == harden(lock) == pytest.approx(2e-4, rel=0.06)


@pytest.mark.parametrize(
    ("order", "expected"),
    [("reg_then_adam", [1.0 - 0.1, 0.6 - 0.1, -1 - 0.1]), ("adam_then_reg", [0.84, 0.48, -1.0])],
)
def test_order(order, expected):
    """Expansion by 1.2 before or after a step of 0.1; before, a weight may leave the hull."""
    w = torch.tensor([0.9 if order == "reg_then_adam" else 0.8, 0.5, -0.95], dtype=DOUBLE)
    optimizer = Bnew([w], lr=0.1, lam=0.1, order=order)
    w.grad = torch.full_like(w, 3.0)

    optimizer.step()

    assert w.tolist() == pytest.approx(expected, abs=1e-8)


def test_filters_are_locked_to_their_means():
    """ "filter" has the mean absolute weight of each filter, for kernels too."""
    latent = torch.tensor([[[[0.5, -0.1]], [[0.0, 0.2]]], [[[-1.0, -1.0]], [[-0.5, 0.5]]]])
    means = torch.tensor([0.2, 0.75]).reshape(2, 1, 1, 1)
    signs = torch.tensor([[[[1.0, -1.0]], [[1.0, 1.0]]], [[[-1.0, -1.0]], [[-1.0, 1.0]]]])

    scaled = Relaxed("filter").inference_modes()["binary"].view(latent)
    plain = Relaxed().inference_modes()["binary"].view(latent)

    torch.testing.assert_close(scaled, means * signs)
    assert torch.equal(plain, signs)


# ProxQuant


def test_strength_of_proxquant():
    """In 300 epochs of 391 steps r is lr reg e, as published, and adds up to 7.78."""
    published = [prox_rule.strength(1e-2, 1e-4, e) for e in range(200)]
    schedule = Homotopy(391 * sum(published), 2 / 3)

    assert sum(published) * 391 == pytest.approx(7.7809)
    assert [schedule(at_epoch(e, 300, 391)) for e in range(200)] == pytest.approx(published)
    default = proxquant().phases[0].binary.hyper["r"]
    assert default(at_epoch(199, 300, 391)) == pytest.approx(published[199], rel=5e-3)


@pytest.mark.parametrize("epochs", [2, 3, 4, 30, 31])
def test_budget_of_proxquant(epochs):
    """The way of the prox adds up to the budget over the epochs that harden, however many."""
    method = proxquant(budget=3.0)
    (_, hardened), _ = method.spans(epochs)
    schedule = method.phases[0].binary.hyper["r"]

    assert sum(5 * schedule(at_epoch(e, epochs, 5)) for e in range(hardened)) == pytest.approx(3)


def test_prox():
    """Weights go r nearer to +-1 and not further; those outside the hull are clipped; 0 goes up."""
    w = torch.tensor([0.0, 0.3, -0.95, 1.4, -1.0], dtype=DOUBLE)
    w.grad = torch.zeros_like(w)

    ProxAdam([w], r=0.1).step()

    assert w.tolist() == pytest.approx([0.1, 0.4, -1.0, 1.0, -1.0])


def test_phases_of_proxquant():
    """The signs are frozen after 200 of 300 epochs; nothing is selected before."""
    assert [(0, 200), (200, 300)] == proxquant().spans(300)
    assert [(0, 300), (0, 300)] == proxquant().stages(300)
    assert [False, True] == [phase.selectable for phase in proxquant().phases]


# What does not move


@pytest.mark.parametrize("gradient", [0.0, 1.0])
def test_frozen(gradient):
    """Frozen weights keep every bit in 20 steps, with gradients of 0 or others; Adam moves them."""
    kept, moved = torch.randn(50), torch.zeros(50)
    first = kept.clone()
    frozen, adam = Frozen([kept]), torch.optim.Adam([moved])
    moved.grad = torch.ones(50)
    adam.step()
    for optimizer, w in ((frozen, kept), (adam, moved)):
        for _ in range(20):
            w.grad = torch.full_like(w, gradient) if w.grad is None else w.grad.fill_(gradient)
            before = w.clone()
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)

    assert torch.equal(first, kept)
    assert kept.grad.eq(0).all()
    assert not torch.equal(before, moved)
    assert frozen.step(lambda: 0.25) == 0.25


@pytest.mark.parametrize(
    "make",
    [
        Frozen,
        partial(Bnew, order="adam_then_reg", lam=0.01),
        partial(Bnew, order="reg_then_adam", lam=0.01),
        partial(ProxAdam, r=0.01),
        partial(MirrorTanh, lr=0.1),
    ],
)
def test_closures(make):
    """A closure is called once, with gradients on and the weights as they stand."""
    w = torch.tensor([0.25, -0.5], requires_grad=True)
    seen = []

    def closure():
        seen.append(w.detach().clone())
        loss = w.square().sum()
        loss.backward()
        return loss

    loss = make([w]).step(closure)

    assert [[0.25, -0.5]] == [x.tolist() for x in seen]
    assert loss.item() == pytest.approx(0.3125)
    assert w.grad.tolist() == [0.5, -1.0]


@pytest.mark.parametrize(
    ("method", "judged"),
    [
        (bnew(), "binary"),
        (relaxed(), "relaxed"),
        (proxquant(), "binary"),
        (frozen_random(), "binary"),
        (bmd(), "binary"),
        (bmd(variant="md-tanh", lock=0.1), "binary"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_what_methods_are_judged_with(method, judged):
    """The mode that judges is there in every phase; all but the floor have "relaxed" too."""
    assert judged == method.judged
    for phase in method.phases:
        modes = phase.binarizer.build(Progress(0, 1, 0, 1)).inference_modes()
        expected = {"binary"} if method.name == "frozen-random" else {"binary", "relaxed"}
        assert expected == set(modes)
