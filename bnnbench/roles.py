"""What each parameter of a network is: binary or real, and where it stands."""

from __future__ import annotations

from typing import Any

from torch import nn

from bnnbench.layers import real_parameters


def roles(model: nn.Module) -> list[dict[str, Any]]:
    """Return the role of every parameter: "binary" or "real", its shape, and its place.

    Every parameter has exactly one role. ``place`` is empty for what has none of :func:`places`.
    """
    real, place = real_parameters(model), places(model)
    return [
        {
            "parameter": name,
            "role": "real" if name in real else "binary",
            "shape": list(parameter.shape),
            "place": place.get(name, ""),
        }
        for name, parameter in model.named_parameters()
    ]


def places(model: nn.Module) -> dict[str, str]:
    """Return the place of weights that have one, by parameter: "first", "last" or "shortcut".

    A weight of a dense or convolutional layer is on a shortcut if it or a module around it is
    named so ("shortcut", or numbered, "shortcut2"); first and last are those of the others, in the
    order of the network. The only weight is the first.
    """
    kinds = (nn.Linear, nn.Conv2d)
    weights = [f"{name}.weight" for name, m in model.named_modules() if isinstance(m, kinds)]
    beside = [name for name in weights if _on_shortcut(name)]
    straight = [name for name in weights if not _on_shortcut(name)]
    ends = dict.fromkeys(straight[-1:], "last") | dict.fromkeys(straight[:1], "first")
    return ends | dict.fromkeys(beside, "shortcut")


def _on_shortcut(name: str) -> bool:
    return any(part.rstrip("0123456789") == "shortcut" for part in name.split("."))
