"""How the cost of something grows with its size: measured in one process and one run, so that the machine's speed cancels out.

What is compared is the processor time of this process, the least of several rounds, small and large in turn: whatever else the machine
does can only add to it. Absolute figures are those of `make bench`.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

DOUBLED = 2.2
"""Twice the size may cost at most this many times as much."""
ROUNDS = 20
"""At most: a busy machine takes more of them until both had a quiet moment."""


def grows_by(work: Callable[[int], object], size: int) -> float:
    """How many times as much `work(2 * size)` costs as `work(size)`; no more rounds than it takes to be sure that it is in bounds."""
    small = large = float("inf")
    for _ in range(ROUNDS):
        small = min(small, _cost(work, size))
        large = min(large, _cost(work, 2 * size))
        if large <= DOUBLED * small:
            break
    return large / small


def _cost(work: Callable[[int], object], size: int) -> float:
    gc.collect()
    gc.disable()  # when it runs says more about what other tests have left than about this work
    try:
        began = time.process_time()
        work(size)
        return time.process_time() - began
    finally:
        gc.enable()
