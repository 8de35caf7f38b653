"""Arithmetic of the benchmark: percentiles, and whether a burst is done, hanging or too slow. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

State = Literal["going", "done", "hang", "slow"]


def percentile(values: Sequence[float], part: float) -> float:
    """The smallest value that at least `part` (0 to 1) of the values do not exceed. `values` is not empty."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]


def spread(name: str, values: Sequence[float]) -> dict[str, float | None]:
    """`<name>_p50`, `_p95`, `_p99` and `_max`, to a hundredth; None where there are no values."""
    parts = {"p50": 0.50, "p95": 0.95, "p99": 0.99, "max": 1.0}
    return {f"{name}_{key}": round(percentile(values, part), 2) if values else None for key, part in parts.items()}


def per_second(began_ns: int, ends_ns: Iterable[int]) -> float | None:
    """How many ended per second, from `began_ns` to the last end; None when none did."""
    ends = list(ends_ns)
    return round(len(ends) * 1e9 / (max(ends) - began_ns), 1) if ends else None


class Progress:
    """Decides when to stop waiting for `total`: all came, nothing new for `stall_s`, or `limit_s` since `began`. Seconds."""

    def __init__(self, total: int, began: float, *, stall_s: float, limit_s: float) -> None:
        self._total, self._stall_s, self._until = total, stall_s, began + limit_s
        self._count, self._moved = 0, began

    def state(self, count: int, now: float) -> State:
        """What to make of `count` that came so far."""
        if count > self._count:
            self._count, self._moved = count, now
        if count >= self._total:
            return "done"
        if now - self._moved >= self._stall_s:
            return "hang"
        return "slow" if now >= self._until else "going"
