"""Augmentations: chances taken with a whole batch of images (n, C, H, W) at once.

    flip                mirrored with probability 1/2
    crop-flip           4 pixels added on all sides, a part of the old size cut out, then flip
    resized-crop-flip   a box with .08 to 1 of the area and width/height 3/4 to 4/3, scaled to the
                        old size, then flip

All numbers for a batch come from one draw, those of an image next to each other: the same generator
gives the same images however they are divided into batches. Where there is a class for each pixel,
targets (n, H, W), they move with the pixels; what was outside the image has no class.

source: crop-flip, the CIFAR recipe of Bop, MD-BNN and BNEW; resized-crop-flip, that of Bi-Real Net
and ReActNet for ImageNet, where a box is tried 10 times before the largest in the middle is taken
departs from them: they treat each image by itself, and scale those of many sizes to one
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from bnnbench.metrics import UNLABELLED
from bnnbench.sending import sent

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from bnnbench.interfaces import Augmentation

Augment = Literal["none", "flip", "crop-flip", "resized-crop-flip"]

PADDING = 4  #: pixels added on each side before a crop
AREA, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)  #: of a box: its share of the area, its width/height
TRIES = 10  #: to find a box that is not larger than the image
_NUMBERS = 2 * TRIES + 2  #: what one box needs


def augmentation(name: Augment, fill: Tensor) -> Augmentation | None:
    """Return an augmentation by its name, or None for "none".

    Args:
        name: the name.
        fill: (C,), what is outside an image in each channel.
    """
    known: dict[str, Augmentation | None] = {
        "none": None,
        "flip": Flip(),
        "crop-flip": CropFlip(fill),
        "resized-crop-flip": ResizedCropFlip(),
    }
    return known[name]


class Flip:
    """Each image is mirrored, left to right, with probability 1/2."""

    def __call__(
        self, inputs: Tensor, targets: Tensor, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        """Return inputs, and targets with a class for each pixel, mirrored."""
        import torch

        flips = torch.randint(2, (len(inputs),), generator=generator)
        if targets.ndim > 1:
            targets = _mirror_(targets.clone(), flips)
        return _mirror_(inputs.clone(), flips), targets


@dataclass(frozen=True, eq=False)
class CropFlip:
    """Each image is shifted by up to ``padding`` pixels in each direction, and mirrored or not.

    All shifts are equally likely. What comes in from outside is ``fill`` (C,).
    """

    fill: Tensor
    padding: int = PADDING
    _kept: dict[Any, Tensor] = field(default_factory=dict, repr=False)

    def __call__(
        self, inputs: Tensor, targets: Tensor, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        """Return inputs, and targets with a class for each pixel, shifted and mirrored."""
        import torch

        shifts = 2 * self.padding + 1
        drawn = torch.randint(2 * shifts**2, (len(inputs),), generator=generator)
        flips, start = drawn % 2, drawn // 2
        top, left = start // shifts, start % shifts

        def changed(images: Tensor, fill: Tensor) -> Tensor:
            return cropped(images, self._bordered(images, fill), flips, top, left, self.padding)

        if targets.ndim == 1:
            return changed(inputs, self.fill), targets
        nothing = torch.tensor([UNLABELLED])
        return changed(inputs, self.fill), changed(targets.unsqueeze(1), nothing).squeeze(1)

    def _bordered(self, images: Tensor, fill: Tensor) -> Tensor:
        """Memory for images and a border, which is there already where one was asked for before."""
        kind = (images.shape[1:], images.dtype, images.device)
        kept = self._kept.get(kind)
        if kept is None or len(kept) < len(images):
            kept = self._kept[kind] = bordered(images, fill, self.padding)
        return kept[: len(images)]


class ResizedCropFlip:
    """A box of each image is scaled to the image's size, and mirrored or not.

    Bilinear, without a look beyond the box; targets take the class of the nearest pixel.
    """

    def __call__(
        self, inputs: Tensor, targets: Tensor, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        """Return inputs, and targets with a class for each pixel, scaled and mirrored."""
        import torch

        n, _, height, width = inputs.shape
        drawn = torch.rand(n, _NUMBERS + 1, generator=generator, dtype=torch.float64)
        box, flips = _boxes(drawn[:, :-1], height, width), drawn[:, -1] < 0.5
        top, left, tall, wide = box.unbind(1)
        rows, columns = _sources(top, tall, height), _sources(left, wide, width)
        columns = torch.where(flips[:, None], columns.flip(1), columns)
        rows, columns = (sent(places, inputs.device) for places in (rows, columns))
        if targets.ndim == 1:
            return _between(inputs, rows, columns), targets
        return _between(inputs, rows, columns), _nearest(targets, rows, columns)


def bordered(images: Tensor, fill: Tensor, padding: int) -> Tensor:
    """Return memory (n, C, H + 2 padding, W + 2 padding) for images, all of it ``fill`` (C,)."""
    n, channels, height, width = images.shape
    sides = (height + 2 * padding, width + 2 * padding)
    return fill.to(images).view(1, -1, 1, 1).expand(n, channels, *sides).contiguous()


def cropped(
    images: Tensor, padded: Tensor, flips: Tensor, top: Tensor, left: Tensor, padding: int
) -> Tensor:
    """Return parts of the old size out of images (n, C, H, W), mirrored and with a border added.

    Args:
        images: of any type, on any device.
        padded: what :func:`bordered` returned; all but its border is written over.
        flips: (n,) int64, 1 for each image that is mirrored, else 0.
        top: (n,) int64, the first row of each part, from 0 to 2 ``padding``.
        left: (n,) int64, the first column.
        padding: the border's width.
    """
    import torch

    n, channels, height, width = images.shape
    by_flip = flips.numpy().argsort(kind="stable")  # those that are mirrored come last
    order, places = torch.from_numpy(by_flip), torch.from_numpy(by_flip.argsort())
    _fill_in(padded, images, order, n - int(flips.sum()), padding)
    _, _, tall, wide = padded.shape
    # every part of every image is a view that begins at a place of its own: gather n of them
    starts = places * (channels * tall * wide) + top * wide + left
    count = (n - 1) * channels * tall * wide + 2 * padding * (wide + 1) + 1
    parts = padded.as_strided((count, channels, height, width), (1, tall * wide, wide, 1))
    return parts.index_select(0, sent(starts, images.device))


def _fill_in(padded: Tensor, images: Tensor, order: Tensor, kept: int, padding: int) -> None:
    """Write images in this order inside of a border, all but the first ``kept`` mirrored."""
    import torch

    height, width = images.shape[2:]
    inner = padded[..., padding : padding + height, padding : padding + width]
    order = sent(order, images.device)
    torch.index_select(images, 0, order[:kept], out=inner[:kept])
    mirrored = images.index_select(0, order[kept:])
    if images.device.type == "cpu":  # numpy reads backwards; torch would make a copy first
        inner[kept:].numpy()[...] = mirrored.numpy()[..., ::-1]
    else:
        inner[kept:] = mirrored.flip(-1)


def boxes(n: int, height: int | Tensor, width: int | Tensor, generator: Generator) -> Tensor:
    """Return a random box for each of n images: top, left, height and width, (n, 4) in int64.

    Its share of the area is uniform in :data:`AREA`, the logarithm of its width/height in that of
    :data:`RATIO`, its place uniform among all that there are. Where :data:`TRIES` such boxes are
    all larger than the image, it is the largest of an allowed ratio, in the middle.

    Args:
        n: the number of images.
        height: of all images, or (n,) of each.
        width: the same.
        generator: on the CPU; it gives 22 numbers for each image.
    """
    import torch

    drawn = torch.rand(n, _NUMBERS, generator=generator, dtype=torch.float64)
    return _boxes(drawn, height, width)


def _boxes(drawn: Tensor, height: int | Tensor, width: int | Tensor) -> Tensor:
    """Boxes from numbers (n, 22) that are uniform in [0, 1)."""
    import torch

    H, W = (torch.as_tensor(side).expand(len(drawn)) for side in (height, width))
    area = (H * W)[:, None] * _uniform(drawn[:, :TRIES], *AREA)
    ratio = _uniform(drawn[:, TRIES:-2], math.log(RATIO[0]), math.log(RATIO[1])).exp()
    tall, wide = (area / ratio).sqrt().round().long(), (area * ratio).sqrt().round().long()
    fits = (tall > 0) & (tall <= H[:, None]) & (wide > 0) & (wide <= W[:, None])
    first = fits.long().argmax(1, keepdim=True)
    fitting, found = fits.any(1), (tall.gather(1, first)[:, 0], wide.gather(1, first)[:, 0])
    largest = torch.minimum(H, (W / RATIO[0]).round()), torch.minimum(W, (H * RATIO[1]).round())
    tall, wide = (torch.where(fitting, a, b.long()) for a, b in zip(found, largest, strict=True))
    top, left = (
        torch.where(fitting, (u * (side - part + 1)).long(), (side - part) // 2)
        for u, side, part in ((drawn[:, -2], H, tall), (drawn[:, -1], W, wide))
    )
    return torch.stack([top, left, tall, wide], 1)


def _uniform(drawn: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * drawn


def _mirror_(images: Tensor, flips: Tensor) -> Tensor:
    """Mirror in place those images (n, ..., W) whose flip (n,) is not 0."""
    chosen = sent(flips.nonzero().squeeze(1), images.device)
    return images.index_copy_(0, chosen, images.index_select(0, chosen).flip(-1))


def _sources(start: Tensor, part: Tensor, size: int) -> Tensor:
    """Where each of ``size`` pixels comes from when a part of a side is scaled to it: (n, size).

    In pixels of the old image, whose centres are whole numbers, and not beyond the part's ends.
    """
    import torch

    centre = (torch.arange(size, dtype=torch.float64) + 0.5) * part[:, None] / size - 0.5
    inside = torch.minimum(centre.clamp_min(0), part[:, None] - 1)
    return start[:, None] + inside


def _between(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Images at rows (n, H) and columns (n, W) that lie between pixels, bilinear.

    All three lie on one device.
    """
    import torch
    from torch.nn import functional

    n, _, height, width = images.shape
    x = ((2 * columns + 1) / width - 1)[:, None, :].expand(n, height, width)
    y = ((2 * rows + 1) / height - 1)[:, :, None].expand(n, height, width)
    grid = torch.stack([x, y], -1).to(images)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _nearest(targets: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Targets (n, H, W) of the pixels that are nearest to rows (n, H) and columns (n, W)."""
    import torch

    y, x = ((places + 0.5).floor().long() for places in (rows, columns))
    image = torch.arange(len(targets), device=targets.device)
    return targets[image[:, None, None], y[:, :, None], x[:, None, :]]
