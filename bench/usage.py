"""CPU and memory of a broker with every helper process that it keeps, without the agents and what they start. From /proc."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import psutil


class Memory(NamedTuple):
    """MiB, summed over processes."""

    resident: float
    """Counts pages that several processes share once for each."""
    private: float
    """Counts only pages that no other process has."""


def helpers(roots: Collection[int], agents: Collection[int]) -> list[psutil.Process]:
    """The root processes and all their descendants, cut off at agents."""
    processes: list[psutil.Process] = []
    looking = [pid for pid in roots if psutil.pid_exists(pid)]
    while looking:
        try:
            process = psutil.Process(looking.pop())
            looking += [child.pid for child in process.children() if child.pid not in agents]
        except psutil.NoSuchProcess:
            continue
        processes.append(process)
    return processes


def cpu_s(processes: Collection[psutil.Process]) -> float:
    """User and system time so far, seconds; the kernel counts in hundredths."""
    return sum(times.user + times.system for times in (process.cpu_times() for process in processes))


def memory(processes: Collection[psutil.Process]) -> Memory:
    """What they hold now."""
    held = [process.memory_full_info() for process in processes]
    return Memory(
        round(sum(info.rss for info in held) / 2**20, 1),
        round(sum(info.uss for info in held) / 2**20, 2),
    )
