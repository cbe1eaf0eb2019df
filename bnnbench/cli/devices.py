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
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"the device {device!r} cannot be used: {reason}") from None
    return device
