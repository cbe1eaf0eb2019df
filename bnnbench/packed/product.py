"""The product of packed inputs and packed weights, by whatever counts bits fastest here.

    c = number of products x_i w_i that are -1,    sum of products = length - 2 c

    sums:   base - 2 c          base = length, and at an image's rim what the padding adds
    signs:  c <= most           most = floor((base - least) / 2), the threshold as a count

Rows of an image that miss the same part of the filter have the same base: they are of one kind.
Three passes count, with the same results:

    tables    bnnbench.packed.tables: AVX2
    counts    bnnbench.packed.counts: AVX-512 with vector popcount, and every other processor
    plain     numpy: where numba may not compile
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numba
import numpy as np
from numba import prange
from numpy.typing import NDArray

from bnnbench.packed import counts, tables, vectors
from bnnbench.packed.bits import Words, pack, words
from bnnbench.threads import follow_torch_threads

Pass = Literal["tables", "counts", "plain"]
Kinds = NDArray[np.int32]

WORTH = 2**23  #: products of signs from which on more threads than one pay
BLOCK = 32  #: outputs of a block
SMALL = 4  #: rows up to which two are taken at a time, else 8


@functools.cache
def fastest() -> Pass:
    """Return the pass for the processor that numba compiles for."""
    if not vectors.COMPILED:
        return "plain"
    has = _features()
    return "tables" if "avx2" in has and "avx512vpopcntdq" not in has else "counts"


def _features() -> frozenset[str]:
    """The names of what the processor can do, as LLVM has them."""
    from numba.core.registry import cpu_target

    # the features that numba compiles for, which may be fewer than the processor has
    told = cpu_target.target_context.codegen()._tm_features
    return frozenset(feature[1:] for feature in told.split(",") if feature.startswith("+"))


class Rows(NamedTuple):
    """What sets the rows of inputs apart.

    ``kinds`` (period,) is the kind of each place of an image, the first row at place ``start``.
    """

    kinds: Kinds
    start: int


ALIKE = Rows(np.zeros(1, np.int32), 0)


@dataclass(frozen=True)
class Weights:
    """Binary weights of ``outputs`` rows of ``length`` signs, arranged for one of the passes."""

    arranged: Any
    outputs: int
    length: int
    by: Pass

    @classmethod
    def of(cls, weight: Words, length: int) -> Weights:
        """Arrange (outputs, words(length)) for the fastest pass of this processor."""
        by = fastest()
        if by == "tables" and length > tables.LONGEST:
            by = "counts"
        passes: dict[Pass, Any] = {"tables": tables.arranged, "counts": counts.arranged}
        arranged = passes[by](weight) if by in passes else np.array(weight)
        return cls(arranged, len(weight), length, by)

    def nbytes(self) -> int:
        """Return the memory that they take while they are used, in bytes."""
        return int(self.arranged.nbytes)

    def limits(self, values: Kinds) -> Kinds:
        """Return ``base`` or ``most`` (kinds, outputs), arranged likewise."""
        wide = np.full((len(values), -(-self.outputs // BLOCK) * BLOCK), -1, np.int32)
        wide[:, : self.outputs] = values
        return wide

    def sums(self, x: Words, base: Kinds, rows: Rows = ALIKE) -> NDArray[np.int32]:
        """Return the sums of products (n, outputs); ``base`` is made by :meth:`limits`."""
        found = np.empty((len(x), self.outputs), np.int32)
        self._run(x, base, rows, found, NO_SIGNS, packed=False)
        return found

    def signs(self, x: Words, most: Kinds, rows: Rows = ALIKE) -> Words:
        """Return as words (n, words(outputs)) where counts are at most ``most``.

        A count is never below 0, so that most = -1 is never true; see :meth:`limits`.
        """
        found = np.zeros((len(x), words(self.outputs)), np.uint64)
        self._run(x, most, rows, NO_SUMS, found.view(np.uint32), packed=True)
        return found

    def _run(
        self, x: Words, limits: Kinds, rows: Rows, sums: Any, signs: Any, *, packed: bool
    ) -> None:
        if self.by == "plain":
            _plain(self, x, limits, rows, sums, signs, packed=packed)
            return
        blocks, pairs = len(self.arranged), 1 if len(x) <= SMALL else 4
        threads = 1
        if len(x) * self.outputs * self.length > WORTH:
            threads = follow_torch_threads()
        groups = -(-len(x) // (2 * pairs))
        parts = 1 if threads == 1 else min(blocks, max(1, 4 * threads // max(groups, 1)))
        carrier = tables.WORD if self.by == "tables" else counts.WORD
        compiled(self.by, pairs, parallel=threads > 1)(
            x.view(carrier),
            self.arranged,
            limits,
            rows.kinds,
            rows.start,
            parts,
            packed,
            sums,
            signs,
        )


NO_SUMS, NO_SIGNS = np.empty((0, 0), np.int32), np.empty((0, 0), np.uint32)


@functools.cache
def compiled(by: Pass, pairs: int, *, parallel: bool) -> Any:
    """Return the product of rows, ``2 pairs`` at a time, and blocks of 32 outputs.

    Its arguments are the words of the rows, the arranged weights, the limits (base or most), the
    kinds and the first row's place, into how many parts the blocks are split between threads, what
    is wanted, and where both of it goes: the sums (n, outputs), or the signs as half words
    (n, 2 words).
    """
    some, height = _some(by, pairs), 2 * pairs

    @numba.njit(nogil=True, error_model="numpy", parallel=parallel)
    def whole(x, weight, limits, kinds, start, parts, packed, sums, signs):
        blocks = weight.shape[0]
        groups = (x.shape[0] + height - 1) // height
        for task in prange(groups * parts):
            first, part = height * (task // parts), task % parts
            begin, end = blocks * part // parts, blocks * (part + 1) // parts
            some(x, weight, limits, kinds, start, first, begin, end, packed, sums, signs)

    return whole


@functools.cache
def _some(by: Pass, pairs: int) -> Any:
    """The product of ``2 pairs`` rows from ``first`` on and the blocks from begin to end."""
    module = tables if by == "tables" else counts
    spread, count = module.parts(pairs)
    height, kind = 2 * pairs, module.COUNT
    most, count_steps = module.SLAB, vectors.inner(module.steps)

    @vectors.inner
    def some(x, weight, limits, kinds, start, first, begin, end, packed, sums, signs):
        found = np.zeros((end - begin, height, BLOCK), kind)
        starts = np.empty(height, np.intp)  # of the limits of each row
        for r in range(height):
            starts[r] = kinds[(start + first + r) % kinds.size] * limits.shape[1]
        steps = count_steps(x.shape[1])
        slabs = (steps + most - 1) // most
        for slab in range(slabs):
            low, high = steps * slab // slabs, steps * (slab + 1) // slabs
            ready = spread(x, first, low, high)
            count(ready, low, weight, begin, found)
        if packed:
            _finish_signs(found, limits, starts, first, begin, signs)
        else:
            _finish_sums(found, limits, starts, first, begin, sums)

    return some


@vectors.inner
def _finish_sums(found, limits, starts, first, block, sums):
    """Write the sums of blocks of outputs, ``found`` (blocks, rows, 32) being their counts."""
    line = np.empty(BLOCK, np.int32)
    rows, outputs = min(found.shape[1], sums.shape[0] - first), sums.shape[1]
    for b in range(found.shape[0]):
        begin = (block + b) * BLOCK
        for r in range(rows):
            base, place = starts[r] + begin, (b * found.shape[1] + r) * BLOCK
            if begin + BLOCK <= outputs:
                at = (first + r) * outputs + begin
                vectors.differences(limits, base, found, place, sums, at)
            else:
                vectors.differences(limits, base, found, place, line, 0)
                for lane in range(outputs - begin):
                    sums[first + r, begin + lane] = line[lane]


@vectors.inner
def _finish_signs(found, limits, starts, first, block, signs):
    """Write where the counts of blocks of outputs are at most the limit."""
    for r in range(min(found.shape[1], signs.shape[0] - first)):
        for b in range(found.shape[0]):
            most, place = starts[r] + (block + b) * BLOCK, (b * found.shape[1] + r) * BLOCK
            signs[first + r, block + b] = vectors.half(found, place, limits, most)


ONES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(1).astype(np.uint8)


def _plain(
    weights: Weights, x: Words, limits: Kinds, rows: Rows, sums: Any, signs: Any, *, packed: bool
) -> None:
    """The same in numpy, row by row."""
    for r, row in enumerate(x):
        differ = np.ascontiguousarray(row ^ weights.arranged).view(np.uint8)
        found = ONES[differ].sum(-1, dtype=np.int32)
        limit = limits[rows.kinds[(rows.start + r) % len(rows.kinds)], : weights.outputs]
        if packed:
            signs[r] = pack(found <= limit).view(np.uint32)
        else:
            sums[r] = limit - 2 * found
