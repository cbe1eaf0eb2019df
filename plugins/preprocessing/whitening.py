"""Global contrast normalization and ZCA whitening, as BinaryConnect has them for CIFAR-10.

    x <- GCN(x), scale 55                                      see :mod:`.contrast`
    C = mean of (x - m)(x - m)^T, m = mean of x                over the training images
    C + 0.1 I = V diag(e) V^T
    x <- V diag(e)^(-1/2) V^T (x - m)

An image is one vector x of all its pixels and channels. The covariance of what comes out has the
eigenvectors of C, and in place of each eigenvalue c of C it has c/(c + 0.1).

C and m are summed in float64, and so is all that follows from them; only the product with each
image is in float32.

source: pylearn2's ZCA (filter_bias 0.1) after global_contrast_normalize(scale=55), the script
make_cifar10_gcn_whitened
departs from the script: fitted to the images that are trained on, there to all 50,000, those for
validation among them; float64, there Theano's floatX
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bnnbench_plugins.preprocessing.contrast import global_contrast

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from bnnbench_plugins.preprocessing import Transform


@dataclass(frozen=True)
class GcnZca:
    """GCN, then ZCA; ``bias`` is what is added to the diagonal of the covariance."""

    scale: float = 55.0
    bias: float = 0.1
    fits: ClassVar[bool] = True
    pointwise: ClassVar[bool] = False

    def fit(self, chunks: Iterable[NDArray[np.uint8]]) -> Transform:
        """Return the whitening of these images, by one pass over them."""
        mean, covariance = moments(global_contrast(chunk, self.scale) for chunk in chunks)
        return _Whitening(self.scale, mean, whitener(covariance, self.bias).astype(np.float32))


@dataclass(frozen=True)
class _Whitening:
    """(GCN(x) - mean) P, with one product for each chunk."""

    scale: float
    mean: NDArray[np.float64]
    P: NDArray[np.float32]

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        x = global_contrast(images, self.scale)
        x -= self.mean
        white: NDArray[np.float32] = x.astype(np.float32) @ self.P
        return white.reshape(images.shape)


def moments(
    chunks: Iterable[NDArray[np.float64]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean (d,) and the covariance (d, d) of all rows of chunks (n, d)."""
    total: Any = 0.0
    products: Any = 0.0
    count = 0
    for x in chunks:
        total += x.sum(0)
        products += x.T @ x
        count += len(x)
    mean = total / count
    return mean, products / count - np.outer(mean, mean)


def whitener(covariance: NDArray[np.float64], bias: float) -> NDArray[np.float64]:
    """Return (covariance + bias I)^(-1/2), (d, d) and symmetric."""
    e, V = np.linalg.eigh(covariance + bias * np.eye(len(covariance)))
    whitening: NDArray[np.float64] = (V / np.sqrt(e)) @ V.T
    return whitening
