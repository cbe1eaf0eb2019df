"""Losses with a teacher, compared with plain floats; what they do to teacher and student."""

from __future__ import annotations

import copy
import gc
import inspect
import io
import weakref

import pytest
import torch
from torch import nn

from bnnbench.errors import UsageError
from bnnbench.interfaces import Dataset, Split
from bnnbench.layers import BinaryLinear
from bnnbench.metrics import UNLABELLED
from bnnbench.spaces import hyperparameters
from bnnbench.training import Settings, train
from bnnbench_plugins.distillation import Tap, Taps, Teacher, attention, distribution, hinton
from bnnbench_plugins.ste import ste

from .papers import distillation as rule

CLASSES, BATCH = 4, 6
LAYERS = ("conv1", "pool2")


class Fixed(nn.Module):
    """A teacher of whom the outputs are known."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = outputs

    def forward(self, inputs):
        return self.outputs


def network(channels=3, seed=0):
    """Two convolutions with maps of 6 x 6 and 3 x 3, normalization, a dense layer."""
    torch.manual_seed(seed)
    model = nn.Sequential()
    model.add_module("conv1", nn.Conv2d(1, channels, 3, padding=1))
    model.add_module("norm1", nn.BatchNorm2d(channels))
    model.add_module("relu1", nn.ReLU())
    model.add_module("conv2", nn.Conv2d(channels, channels, 3, padding=1))
    model.add_module("pool2", nn.MaxPool2d(2))
    model.add_module("flatten", nn.Flatten())
    model.add_module("dense3", BinaryLinear(9 * channels, CLASSES))
    return model.double()


def pixel_network(channels, seed):
    """A convolution, and outputs for each pixel."""
    torch.manual_seed(seed)
    model = nn.Sequential()
    model.add_module("conv1", nn.Conv2d(1, channels, 3, padding=1))
    model.add_module("conv2", nn.Conv2d(channels, CLASSES, 1))
    return model.double()


def batch(seed=0, size=BATCH):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(size, 1, 6, 6, generator=generator, dtype=torch.float64)
    return inputs, torch.randint(CLASSES, (size,), generator=generator)


def drawn(seed):
    """Outputs of student and teacher, and labels."""
    generator = torch.Generator().manual_seed(seed)
    z = 3 * torch.randn(2, BATCH, CLASSES, generator=generator, dtype=torch.float64)
    return z[0].requires_grad_(), z[1], torch.randint(CLASSES, (BATCH,), generator=generator)


def drawn_pixels(seed, share=0.3):
    """Outputs of student and teacher for each pixel, and classes that some pixels lack."""
    generator = torch.Generator().manual_seed(seed)
    z = 3 * torch.randn(2, 2, CLASSES, 5, 3, generator=generator, dtype=torch.float64)
    targets = torch.randint(CLASSES, (2, 5, 3), generator=generator)
    lacking = torch.rand(2, 5, 3, generator=generator) < share
    return z[0].requires_grad_(), z[1], targets.masked_fill(lacking, UNLABELLED)


def rows(targets, *many):
    """The rows of outputs, and the classes, of the pixels that have a class; in plain floats."""
    known = targets != UNLABELLED
    return [*(outputs.movedim(1, -1)[known].tolist() for outputs in many), targets[known].tolist()]


def volumes(model, layer, inputs):
    """A layer's outputs for each example and channel, the places in a row, in plain floats."""
    seen = []
    hook = model.get_submodule(layer).register_forward_hook(lambda *call: seen.append(call[2]))
    with torch.no_grad():
        model(inputs)
    hook.remove()
    return seen[0].flatten(2).tolist()


def close(expected, actual):
    assert torch.as_tensor(expected, dtype=torch.float64).allclose(actual, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_distribution(seed):
    """The cross-entropy with the teacher's softmax; its gradient is a difference of softmaxes."""
    student, teacher, targets = drawn(seed)

    value = distribution(teacher=Fixed(teacher))(student, student, targets)
    value.backward()

    close(rule.distribution(student.tolist(), teacher.tolist()), value)
    close(rule.distribution_gradient(student.tolist(), teacher.tolist()), student.grad)


def test_distribution_has_no_labels():
    """Whatever the labels are, the value is the same."""
    student, teacher, targets = drawn(0)
    loss = distribution(teacher=Fixed(teacher))

    assert loss(student, student, targets) == loss(student, student, (targets + 1) % CLASSES)


@pytest.mark.parametrize("share", [0.0, 0.3])
@pytest.mark.parametrize("seed", range(3))
def test_distribution_of_pixels(seed, share):
    """On a segmentation it is the mean over the pixels that have a class, its gradient too."""
    student, teacher, targets = drawn_pixels(seed, share)

    value = distribution(teacher=Fixed(teacher))(student, student, targets)
    value.backward()

    *plain, _ = rows(targets, student, teacher)
    close(rule.distribution(*plain), value)
    *gradient, _ = rows(targets, student.grad)
    close(rule.distribution_gradient(*plain), torch.tensor(gradient[0], dtype=torch.float64))
    assert student.grad.movedim(1, -1)[targets == UNLABELLED].eq(0).all()


@pytest.mark.parametrize("share", [0.0, 0.3])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_hinton_of_pixels(weight, share):
    """On a segmentation labels and teacher are means over the same pixels."""
    student, teacher, targets = drawn_pixels(0, share)
    hyper = {"weight": weight, "temperature": 3.0}

    value = hinton(teacher=Fixed(teacher), **hyper)(student, student, targets)
    value.backward()

    plain = rows(targets, student, teacher)
    close(rule.hinton(*plain, **hyper), value)
    *gradient, _ = rows(targets, student.grad)
    found = torch.tensor(gradient[0], dtype=torch.float64)
    close(rule.hinton_gradient(*plain, **hyper), found)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_attention_of_pixels(share):
    """On a segmentation labels and teacher are means over pixels, the maps over all places."""
    student, teacher = pixel_network(3, 0), pixel_network(5, 1)
    inputs, _ = batch(size=2)
    _, _, targets = drawn_pixels(0, share)
    targets = nn.functional.pad(targets, (3, 0, 1, 0), value=2)
    hyper = {"distribution_weight": 2.0, "labels_weight": 0.5, "temperature": 3.0}
    loss = attention(teacher=teacher, student=student, layers=("conv1",), weight=7.0, **hyper)

    outputs = student(inputs)
    value = loss(outputs, inputs, targets)

    mine, theirs, classes = rows(targets, outputs, teacher(inputs))
    expected = 0.5 * rule.labels(mine, classes) + 2.0 * 9 * rule.divergence(mine, theirs, 3.0)
    maps = (volumes(model, "conv1", inputs) for model in (student, teacher))
    close(expected + 7.0 * rule.matching(*maps), value)


@pytest.mark.parametrize("number", range(3))
def test_no_label_at_all(number):
    """Where no pixel has a class there is nothing to learn but where to look."""
    student, teacher = pixel_network(3, 0), pixel_network(3, 1)
    inputs, _ = batch(size=2)
    loss = all_losses(student, teacher, ("conv1",), 0.0)[number]

    value = loss(student(inputs), inputs, torch.full((2, 6, 6), UNLABELLED))
    value.backward()

    assert 0 == value
    assert all(p.grad.eq(0).all() for p in student.parameters())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_hinton(seed, weight, temperature):
    """Labels and the softened distribution, weighted; T^2 is in the value and in the gradient."""
    student, teacher, targets = drawn(seed)
    hyper = {"weight": weight, "temperature": temperature}

    value = hinton(teacher=Fixed(teacher), **hyper)(student, student, targets)
    value.backward()

    plain = student.tolist(), teacher.tolist(), targets.tolist()
    close(rule.hinton(*plain, **hyper), value)
    close(rule.hinton_gradient(*plain, **hyper), student.grad)


def test_a_sure_teacher_is_a_label():
    """With a confident teacher the gradient is about that of the cross-entropy with labels."""
    student, teacher, targets = drawn(1)

    distribution(teacher=Fixed(100 * teacher))(student, student, targets).backward()

    y = nn.functional.one_hot(teacher.argmax(1), CLASSES)
    assert ((student.softmax(1) - y) / BATCH).allclose(student.grad, atol=1e-3)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("weight", [0.0, 7.0])
def test_attention(seed, weight):
    """Labels, divergence, and the maps of each layer, whose channels may differ in number."""
    student, teacher = network(3, seed), network(5, seed + 10)
    inputs, targets = batch(seed)
    hyper = {"distribution_weight": 2.0, "labels_weight": 0.5, "temperature": 3.0}
    loss = attention(teacher=teacher, student=student, layers=LAYERS, weight=weight, **hyper)

    outputs = student(inputs)
    value = loss(outputs, inputs, targets)

    taught = teacher.eval()(inputs).tolist()
    expected = 0.5 * rule.labels(outputs.tolist(), targets.tolist())
    expected += 2.0 * 9 * rule.divergence(outputs.tolist(), taught, 3.0)
    for layer in LAYERS:
        maps = (volumes(model, layer, inputs) for model in (student, teacher))
        expected += weight * rule.matching(*maps)
    close(expected, value)


def test_attention_teaches_the_layers():
    """The gradient of the matching reaches what comes before the layers, and nothing after."""
    student, teacher = network(3), network(5, 1)
    inputs, targets = batch()
    loss = attention(
        teacher=teacher,
        student=student,
        layers=("conv1",),
        weight=7.0,
        distribution_weight=0.0,
        labels_weight=0.0,
    )

    loss(student(inputs), inputs, targets).backward()

    assert student.conv1.weight.grad.abs().max() > 0
    assert student.conv2.weight.grad is None or student.conv2.weight.grad.abs().max() == 0


def test_a_map_of_zeros_stays_zeros():
    """An example that no channel answers to has a value and a gradient all the same."""
    student, teacher = network(), network(seed=1)
    student.relu1 = nn.Threshold(1e6, 0.0)
    inputs, targets = batch()
    loss = attention(teacher=teacher, student=student, layers=("relu1",))

    value = loss(student(inputs), inputs, targets)
    value.backward()

    zeros = [[[0.0] * 36] * 3] * BATCH
    plain = attention(teacher=teacher, student=student, layers=("relu1",), weight=0.0)
    difference = value - plain(student(inputs), inputs, targets)
    close(10 * rule.matching(zeros, volumes(teacher, "relu1", inputs)), difference)
    assert all(p.grad is None or p.grad.isfinite().all() for p in student.parameters())


def all_losses(student, teacher, layers=LAYERS, weight=10.0):
    return [
        distribution(teacher=teacher),
        hinton(teacher=teacher),
        attention(teacher=teacher, student=student, layers=layers, weight=weight),
    ]


@pytest.mark.parametrize("number", range(3))
def test_the_teacher_stands_still(number):
    """No statistic, weight or gradient of the teacher moves, though it is put into train mode."""
    student, teacher = network(), network(seed=1)
    loss = all_losses(student, teacher)[number]
    before = copy.deepcopy(teacher.state_dict())
    inputs, targets = batch()

    for _ in range(3):
        teacher.train()
        loss(student(inputs), inputs, targets).backward()

    assert all(before[name].equal(value) for name, value in teacher.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert not any(module.training for module in teacher.modules())
    assert student.dense3.weight.grad is not None


def test_the_teacher_judges_each_input_by_itself():
    """What it says of an example does not depend on the rest of the batch, and has no graph."""
    teacher = Teacher(network().train())
    inputs, _ = batch()

    alone = torch.cat([teacher(x) for x in inputs.split(1)])

    close(alone, teacher(inputs))
    assert not teacher(inputs.requires_grad_()).requires_grad


def test_judging_has_no_attention():
    """Where the student does not learn, the loss is that of labels and distribution alone."""
    student, teacher = network(), network(seed=1)
    inputs, targets = batch()
    full = attention(teacher=teacher, student=student, layers=LAYERS)
    base = attention(teacher=teacher, student=student, layers=LAYERS, weight=0.0)
    outputs = student(inputs)
    learning = full(outputs, inputs, targets)

    with torch.no_grad():
        found = full(outputs, inputs, targets), base(outputs, inputs, targets)
    student.eval()
    judged = full(student(inputs), inputs, targets), base(student(inputs), inputs, targets)

    assert found[0] == found[1] < learning
    assert judged[0] == judged[1]


def test_only_the_last_pass_counts():
    """Outputs of another pass than the last one are refused: their features are gone."""
    student, teacher = network(), network(seed=1)
    loss = attention(teacher=teacher, student=student, layers=LAYERS)
    (inputs, targets), (others, _) = batch(0), batch(1)
    first = student(inputs)
    second = student(others)

    with pytest.raises(ValueError, match="the student's last pass"):
        loss(first, inputs, targets)
    with pytest.raises(ValueError, match="last pass"):
        loss(second, others, targets)  # what was kept is forgotten by now


@pytest.mark.parametrize(
    ("layers", "told"),
    [
        (("pool3",), "the teacher has no layer 'pool3'; did you mean 'pool2'?"),
        (("x",), "no layer 'x'; known: conv1, conv2, dense3, flatten, norm1, pool2, relu1"),
        (("flatten",), "'flatten' of the teacher must give a map"),
        (("pool2", "dense3"), "its layers: conv1, norm1, relu1, conv2, pool2, flatten, dense3"),
    ],
)
def test_layers_that_cannot_be_matched(layers, told):
    """A layer that is not there or has no map is named, with those that there are."""
    inputs, targets = batch()
    student = network()
    with pytest.raises(UsageError) as error:
        attention(teacher=network(), student=student, layers=layers)(
            student(inputs), inputs, targets
        )

    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_maps_of_different_sizes():
    """Both sizes are told."""
    student, teacher = network(), network()
    student.conv1.stride = (2, 2)
    student.dense3 = BinaryLinear(3, CLASSES).double()
    loss = attention(teacher=teacher, student=student, layers=("conv1",))
    inputs, targets = batch()

    with pytest.raises(UsageError, match=r"got 3 x 3 \(student\) and 6 x 6 \(teacher\); .* conv1,"):
        loss(student(inputs), inputs, targets)


def test_a_layer_without_part_in_the_outputs():
    """A layer that is not passed through has no map to match."""
    student, teacher = network(), network()
    teacher.conv1.add_module("idle", nn.Identity())
    student.conv1.add_module("idle", nn.Identity())
    loss = attention(teacher=teacher, student=student, layers=("conv1.idle",))
    inputs, targets = batch()

    with pytest.raises(UsageError, match="takes no part"):
        loss(student(inputs), inputs, targets)


def test_hooks_let_the_graph_go():
    """After the step no output of a layer is left, nor of the passes that are not of learning."""
    student, teacher = network(), network(seed=1)
    seen = []
    student.conv1.register_forward_hook(lambda *call: seen.append(weakref.ref(call[2])))
    loss = attention(teacher=teacher, student=student, layers=LAYERS)
    inputs, targets = batch()

    loss(student(inputs), inputs, targets).backward()
    with torch.no_grad():
        student(inputs)
    student.eval()(inputs)
    gc.collect()

    assert [None] * 3 == [ref() for ref in seen]


def test_the_student_can_be_copied_and_saved():
    """In the midst of a step too; the copy has no taps, and its state is what it was without."""
    plain, student, teacher = network(), network(), network(seed=1)
    loss = attention(teacher=teacher, student=student, layers=LAYERS)
    inputs, targets = batch()
    outputs = student(inputs)

    twin = copy.deepcopy(student)
    torch.save(student, io.BytesIO())
    twin(2 * inputs)

    assert list(plain.state_dict()) == list(student.state_dict())
    assert student.state_dict()["conv1.weight"].equal(twin.state_dict()["conv1.weight"])
    assert loss(outputs, inputs, targets).isfinite()  # the copy's pass was not the student's
    hooks = [hook for module in twin.modules() for hook in module._forward_hooks.values()]
    assert hooks
    assert all(isinstance(hook, Tap) and hook.taps is None for hook in hooks)


@pytest.mark.parametrize("number", range(3))
def test_in_training(number):
    """The loop trains and judges with each of them; the student comes to agree with its teacher."""
    student, teacher = network(), network(seed=1)
    torch.manual_seed(3)
    inputs = torch.randn(60, 1, 6, 6, dtype=torch.float64)
    with torch.no_grad():
        teacher.dense3.weight.mul_(10)  # one that is sure
        split = Split(inputs, teacher.eval()(inputs).argmax(1))
    loss = all_losses(student, teacher)[number]

    measured = [
        m
        for epoch in train(
            student,
            ste(lr=1e-2, lr_end=1e-3),
            Dataset(split, split, split, classes=CLASSES),
            loss,
            Settings(epochs=20, batch_size=10, seed=0, test=True),
        )
        for m in epoch
    ]

    losses = [m.value for m in measured if (m.metric, m.split) == ("loss", "train")]
    accuracy = [m.value for m in measured if (m.metric, m.split) == ("accuracy", "validation")]
    assert losses[-1] < losses[0]
    assert max(accuracy) > 60


def test_taps_are_of_one_network():
    """Two losses on one student do not disturb each other."""
    student = network()
    one, two = (Taps(student, "student", LAYERS, lambda: True) for _ in range(2))
    outputs = student(batch()[0])

    assert one.read(outputs).keys() == two.read(outputs).keys() == set(LAYERS)


@pytest.mark.parametrize("factory", [distribution, hinton, attention])
def test_hyperparameters(factory):
    """All but teacher and student are hyperparameters; each is explained, and legal by default."""
    found = hyperparameters(factory, ("teacher", "student"))

    for name, hyper in found.items():
        assert f"{name}: " in inspect.getdoc(factory)
        assert hyper.check(hyper.default, "") == hyper.default
        assert hyper.space is None or hyper.space.holds(hyper.default)


def test_layers_are_given_as_a_list():
    """As a study file has them; there must be one at least."""
    layers = hyperparameters(attention, ("teacher", "student"))["layers"]

    assert ("conv1", "pool2") == layers.check(["conv1", "pool2"], "")
    with pytest.raises(UsageError, match="at least 1 item"):
        layers.check([], "attention")
