"""Preprocessings by name: what is done to the bytes x of an image before a network sees them.

    unit                    x/255
    signed                  x/127.5 - 1
    centered                x/255 minus each pixel's mean over the training images
    scalar-centered         x/255 minus the one mean of all pixels of the training images
    standardized            (x/255 - mean)/sd of each channel, over the training images
    bnew-standardized       (x/255 - mean)/sd with the numbers of BNEW's public script
    md-bnn-standardized     ... of MD-BNN's public script
    imagenet-standardized   ... that all scripts for ImageNet use
    gcn-zca                 global contrast normalization, then ZCA whitening (:mod:`.whitening`)
    gcn-lcn                 global, then local contrast normalization (:mod:`.contrast`)
    gcn-lcn-red             the same, but only the red channel goes through the local one

used by: BinaryConnect's article MNIST unit, its script MNIST centered, both CIFAR-10 gcn-zca and
SVHN gcn-lcn-red; a PyTorch port of it MNIST scalar-centered; BNN and Bop signed; BNEW CIFAR
bnew-standardized; MD-BNN CIFAR md-bnn-standardized; ReActNet imagenet-standardized

What is fitted is fitted to the training images alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np
    from numpy.typing import NDArray

Preprocessing = Literal[
    "unit",
    "signed",
    "centered",
    "scalar-centered",
    "standardized",
    "bnew-standardized",
    "md-bnn-standardized",
    "imagenet-standardized",
    "gcn-zca",
    "gcn-lcn",
    "gcn-lcn-red",
]

VERSION = 1  #: to be raised when the same parameters give other numbers: it names cached results


class Transform(Protocol):
    """A preprocessing whose numbers are all known."""

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return images (n, C, H, W) as the network is to see them; same shape."""
        ...


class Recipe(Protocol):
    """A preprocessing before it has seen an image: a frozen dataclass of its parameters.

    ``fits`` says whether it learns anything from the training images, ``pointwise`` whether each
    value that it gives depends on one byte and its channel alone.
    """

    fits: ClassVar[bool]
    pointwise: ClassVar[bool]

    def fit(self, chunks: Iterable[NDArray[np.uint8]]) -> Transform:
        """Return the transform, fitted to all training images in one pass over their chunks.

        Where nothing is fitted, no chunk is looked at.
        """
        ...


def recipe(name: str) -> Recipe:
    """Return a preprocessing by its name.

    Raises:
        UsageError: no preprocessing has that name.
    """
    from bnnbench.errors import UsageError, suggestion

    known = _recipes()
    if name not in known:
        raise UsageError(f"no preprocessing is named {name!r}{suggestion(name, known)}")
    return known[name]


def _recipes() -> Mapping[str, Recipe]:
    from bnnbench_plugins.preprocessing import contrast, pixels, whitening

    return {
        "unit": pixels.Scaled(255),
        "signed": pixels.Scaled(127.5, shift=1),
        "centered": pixels.Centered(),
        "scalar-centered": pixels.ScalarCentered(),
        "standardized": pixels.Standardization(),
        "bnew-standardized": pixels.BNEW,
        "md-bnn-standardized": pixels.MD_BNN,
        "imagenet-standardized": pixels.IMAGENET,
        "gcn-zca": whitening.GcnZca(),
        "gcn-lcn": contrast.GcnLcn(),
        "gcn-lcn-red": contrast.GcnLcn(channels=(0,)),
    }
