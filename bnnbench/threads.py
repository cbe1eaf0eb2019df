"""How many threads compiled passes use: as many as torch."""

from __future__ import annotations

import numba
import torch


def follow_torch_threads() -> int:
    """Let compiled passes use as many threads as torch; return the number.

    As numba starts its threads it tells OpenMP to use all cores, and OpenMP is torch's too: torch
    would go on with all of them, and say that it uses fewer.
    """
    most: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    wanted = torch.get_num_threads()
    count = min(wanted, most)
    if count > 1:
        numba.set_num_threads(count)
        torch.set_num_threads(wanted)
    return count
