"""What the networks of convolutions ask of their inputs."""

from __future__ import annotations

from bnnbench.errors import UsageError


def image(network: str, shape: tuple[int, ...], least: int = 1) -> tuple[int, int, int]:
    """Return ``shape`` as (channels, height, width) where it is that of an image.

    Raises:
        UsageError: it is not, or a side has less than ``least`` pixels.

    >>> image("vgg16", (3, 32, 32), least=32)
    (3, 32, 32)
    """
    if len(shape) != 3:
        raise UsageError(
            f"{network} needs inputs of (channels, height, width), got {shape}; take a dataset of"
            " images, or the architecture mlp"
        )
    channels, height, width = shape
    if min(height, width) < least:
        raise UsageError(
            f"{network} needs images of {least} x {least} or more, got {height} x {width}; take"
            " larger images, or the architecture mlp"
        )
    return channels, height, width
