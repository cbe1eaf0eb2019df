"""Global and local contrast normalization, as BinaryConnect has them for SVHN.

Global (GCN), of an image x with all its channels:

    x <- x - mean(x)
    x <- x/d          d = ||x||_2 / scale, or 1 where that is below 1e-8 (an image of one colour)

Local (LCN), of each channel x by itself, g the 7 x 7 Gaussian with sigma 2 and sum 1, * the
convolution with zeros outside the image:

    x <- (x - g * x) / max(s, mean(s), 1e-4)      s = sqrt(g * x^2), x not centred

g is the product of a column and a row, so g * x = G x G with a matrix G of one side's 7 weights.

source: pylearn2's GlobalContrastNormalization and LeCunLCN, which BinaryConnect's script calls with
scale 1
departs from the script: there LCN returns after the first channel, so that green and blue only go
through GCN; that is "gcn-lcn-red", and most likely what the published 2.15 % were obtained with
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from bnnbench_plugins.preprocessing import Transform

RADIUS, SIGMA = 3, 2.0  #: of the Gaussian
FLAT = 1e-8  #: a smaller divisor is none: there is no contrast
FLOOR = 1e-4  #: what is divided by at least, in LCN
BLOCK = 128  #: images at a time, so many as stay in the processor's cache


@dataclass(frozen=True)
class GcnLcn:
    """GCN, then LCN of some ``channels``, or of all where there are none named."""

    scale: float = 1.0
    channels: tuple[int, ...] = ()
    fits: ClassVar[bool] = False
    pointwise: ClassVar[bool] = False

    def fit(self, chunks: Iterable[NDArray[np.uint8]]) -> Transform:
        """Return itself: each image is treated by itself."""
        return self

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the normalized images in float32."""
        blocks = (images[start : start + BLOCK] for start in range(0, len(images), BLOCK))
        return np.concatenate([self._normalized(block) for block in blocks])

    def _normalized(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        x = global_contrast(images, self.scale).astype(np.float32).reshape(images.shape)
        if not self.channels:
            return local_contrast(x)
        for channel in self.channels:
            x[:, channel] = local_contrast(x[:, channel])
        return x


def global_contrast(images: NDArray[np.uint8], scale: float) -> NDArray[np.float64]:
    """Return images (n, C, H, W) after GCN, in rows (n, C H W)."""
    x = images.reshape(len(images), -1).astype(np.float64)
    x -= x.mean(1, keepdims=True)
    divisor = np.sqrt(np.einsum("ij,ij->i", x, x)) / scale
    divisor[divisor < FLAT] = 1
    x /= divisor[:, None]
    return x


def local_contrast(x: NDArray[Any]) -> NDArray[Any]:
    """Return channels (..., H, W) after LCN, in their own precision."""
    rows, columns = (gaussian(side).astype(x.dtype) for side in x.shape[-2:])
    spread = np.sqrt(rows @ (np.square(x) @ columns))
    divisor = np.maximum(spread, spread.mean((-2, -1), keepdims=True))
    np.maximum(divisor, FLOOR, out=divisor)
    centred: NDArray[Any] = x - rows @ (x @ columns)
    centred /= divisor
    return centred


def gaussian(side: int) -> NDArray[np.float64]:
    """Return the matrix (side, side) that convolves a side with the Gaussian's weights.

    >>> G = gaussian(9)
    >>> [round(float(x), 3) for x in G.sum(0)]  # near the border a part falls outside
    [0.608, 0.799, 0.93, 1.0, 1.0, 1.0, 0.93, 0.799, 0.608]
    """
    near = np.arange(-RADIUS, RADIUS + 1)
    distance = np.subtract.outer(np.arange(side), np.arange(side))
    whole = np.exp(-np.square(near) / (2 * SIGMA**2)).sum()
    weights = np.exp(-np.square(distance) / (2 * SIGMA**2)) / whole
    return np.where(np.abs(distance) <= RADIUS, weights, 0)
