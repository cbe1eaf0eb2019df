"""The U-Net: its parts, how they are joined, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bnnbench.errors import UsageError
from bnnbench_plugins.architectures.unet import unet


def small(**given):
    """A U-Net of few filters, and a batch for it."""
    torch.manual_seed(2)
    given = {"width": 4, "depth": 2} | given
    return unet(shape=(3, 8, 12), classes=5, **given), torch.randn(6, 3, 8, 12)


def order(part):
    return list(dict(part.named_children()))


def test_order():
    """Level by level down, the bottom, and up again; convolution, norm, activation."""
    model, _ = small(activation="sign", pad_value=1)
    parts = {name: order(part) for name, part in model.named_children()}

    assert parts == {
        "contract1": ["conv1", "norm1", "sign1", "padding2", "conv2"],
        "skip1": ["norm2", "sign2"],
        "pool1": ["pool2", "norm2", "sign2"],
        "contract2": ["padding3", "conv3", "norm3", "sign3", "padding4", "conv4"],
        "skip2": ["norm4", "sign4"],
        "pool2": ["pool4", "norm4", "sign4"],
        "bottom": ["padding5", "conv5", "norm5", "sign5", "padding6", "conv6", "norm6", "sign6"],
        "enlarge2": ["conv7", "shuffle7", "norm7", "sign7"],
        "expand2": ["padding8", "conv8", "norm8", "sign8", "padding9", "conv9", "norm9", "sign9"],
        "enlarge1": ["conv10", "shuffle10", "norm10", "sign10"],
        "expand1": [
            "padding11",
            "conv11",
            "norm11",
            "sign11",
            "padding12",
            "conv12",
            "norm12",
            "sign12",
        ],
        "output": ["conv13"],
    }


def by_hand(model, x):
    """The same outputs, from the parameters and the running statistics alone."""
    parts = model.state_dict()

    def conv(part, n, x):
        name = f"{part}.conv{n}"
        return F.conv2d(x, parts[f"{name}.weight"], parts.get(f"{name}.bias"), padding="same")

    def norm(part, n, x):
        names = ("running_mean", "running_var", "weight", "bias")
        mean, var, gamma, beta = (parts[f"{part}.norm{n}.{k}"].view(-1, 1, 1) for k in names)
        return F.relu((x - mean) / (var + 1e-5).sqrt() * gamma + beta)

    def pooled(x):
        batch, channels, high, wide = x.shape
        return x.reshape(batch, channels, high // 2, 2, wide // 2, 2).amax((3, 5))

    def up(part, n, x):
        w = parts[f"{part}.conv{n}.weight"][..., 0, 0]
        w = w.view(-1, 2, 2, w.shape[1]).permute(3, 0, 1, 2)  # (inputs, filters, 2, 2)
        return norm(part, n, F.conv_transpose2d(x, w, stride=2))

    def double(part, n, x):
        return conv(part, n + 1, norm(part, n, conv(part, n, x)))

    one = double("contract1", 1, x)
    two = double("contract2", 3, norm("pool1", 2, pooled(one)))
    low = norm("bottom", 6, double("bottom", 5, norm("pool2", 4, pooled(two))))
    low = torch.cat([up("enlarge2", 7, low), norm("skip2", 4, two)], 1)
    low = norm("expand2", 9, double("expand2", 8, low))
    low = torch.cat([up("enlarge1", 10, low), norm("skip1", 2, one)], 1)
    return conv("output", 13, norm("expand1", 12, double("expand1", 11, low)))


def test_outputs_by_hand():
    """Skips join the level they left; an up-convolution is a transposed one of 2 x 2, stride 2."""
    model, x = small()
    for name, p in model.named_parameters():
        if "norm" in name:  # every one its own
            nn.init.uniform_(p, 0.5, 1.5)
    model(x)
    model.eval()

    torch.testing.assert_close(model(x), by_hand(model, x), rtol=1e-4, atol=1e-4)


def test_signs_of_the_pooled():
    """About half of the pooled activations are +1; of the maxima of the skipped ones far more."""
    model, _ = small(activation="sign", width=32, depth=1)
    x = torch.randn(8, 3, 32, 32)
    inner = model["contract1"](x)

    pooled, skipped = model["pool1"](inner), model["skip1"](inner)

    assert 0.4 < (pooled > 0).float().mean() < 0.6
    assert (F.max_pool2d(skipped, 2) > 0).float().mean() > 0.75


@pytest.mark.parametrize("depth", [1, 2])
def test_dropout(depth):
    """Dropout is at the ends of the lowest level and of the bottom, where it is asked for."""
    model, _ = small(depth=depth, dropout=0.5)
    n = 2 * depth
    places = {f"skip{depth}.dropout{n}", f"pool{depth}.dropout{n}", f"bottom.dropout{n + 2}"}

    assert places == {k for k, m in model.named_modules() if isinstance(m, nn.Dropout)}
    assert not any(isinstance(m, nn.Dropout) for m in small()[0].modules())


@pytest.mark.parametrize(
    ("shape", "depth"), [((1, 1, 2), 1), ((3, 8, 12), 3), ((3, 30, 32), 2), ((3, 128, 120), 4)]
)
def test_refuses(shape, depth):
    """An image that cannot be halved so often is refused in one line."""
    with pytest.raises(UsageError, match=rf"^unet of depth {depth} needs [^\n]+ got [^\n]+; take"):
        unet(shape=shape, classes=2, width=2, depth=depth)


@pytest.mark.parametrize(("shape", "depth"), [((1, 2, 4), 1), ((3, 8, 24), 3), ((2, 16, 16), 4)])
def test_accepts(shape, depth):
    """Outputs have the height and the width of the inputs, square or not."""
    model = unet(shape=shape, classes=2, width=2, depth=depth)

    assert model(torch.randn(3, *shape)).shape == (3, 2, *shape[1:])
