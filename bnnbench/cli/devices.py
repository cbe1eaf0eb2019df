"""Which device is meant, and whether torch can use it."""

from __future__ import annotations

from bnnbench.errors import UsageError


def usable_device(device: str) -> str:
    """Return the device that a name means, "auto" too.

    Raises:
        UsageError: torch cannot use it.
    """
    import torch

    if device == "auto":
        if not torch.cuda.is_available():
            return "cpu"
        torch.cuda.init()  # before that a GPU has no generator that a seed could reach
        return "cuda"
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"the device {device!r} cannot be used: {reason}") from None
    return device
