"""What relaybroker is to reach on two cores, and whether a run did. Pure. Source: README, section "Figures"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Target(NamedTuple):
    """One figure and its bound."""

    what: str
    figures: tuple[str, ...]
    """Every one of these must be within the bound; the worst is shown."""
    bound: float
    at_least: bool = False


TARGETS = (
    Target("text on stdin, p50, ms", ("text_ms_p50",), 3),
    Target("text on stdin, p99, ms", ("text_ms_p99",), 20),
    Target("ack, p50, ms", ("ack_ms_p50",), 8),
    Target("10 x 100, typed and acked per second", ("burst_10x100_per_s",), 1500, at_least=True),
    Target("50 x 20, typed and acked per second", ("burst_50x20_per_s",), 1500, at_least=True),
    Target("500 to one agent, s", ("burst_1x500_seconds",), 2),
    Target("CPU per message in bursts, ms", ("burst_1x500_cpu_ms", "burst_10x100_cpu_ms", "burst_50x20_cpu_ms"), 0.6),
    Target("memory per extra agent, MiB", ("memory_per_agent",), 1),
    Target("start to node.register, s", ("start_s",), 0.6),
    Target("lost in the crash", ("crash_lost",), 0),
    Target("typed twice in the crash", ("crash_twice",), 0),
    Target("1,000,000 events: start with a snapshot, s", ("recovery_snapshot_s",), 2),
    Target("1,000,000 events: start without one, s", ("recovery_bare_s",), 30),
    Target("memory after them, of a fresh broker's", ("recovery_memory_ratio",), 1.2),
    Target("tool calls per second of one core", ("tool_looks_per_core_s", "tool_sends_per_core_s"), 200, at_least=True),
    Target("memory per agent connected to MCP, MiB", ("tool_memory_per_agent",), 1),
    Target("stdio bridge: private memory, MiB", ("bridge_private",), 25),
    Target("stdio bridge: first answer, s", ("bridge_answer_s",), 0.3),
    Target("why on 1,000,000 events, ms", ("why_ms",), 200),
    Target("a simulated day of three agents, s", ("simulated_day_s",), 1),
)


class Verdict(NamedTuple):
    """A target with what was measured; None = not measured."""

    what: str
    bound: str
    measured: float | None
    met: bool


def judge(figures: Mapping[str, Any]) -> list[Verdict]:
    """Every target, met or not. A figure that could not be had is a miss."""
    return [_judge(target, [figures.get(key) for key in target.figures]) for target in TARGETS]


def _judge(target: Target, values: list[Any]) -> Verdict:
    sign = ">=" if target.at_least else "<="
    bound = f"{sign} {target.bound:g}"
    if any(value is None for value in values):
        return Verdict(target.what, bound, None, met=False)
    worst = min(values) if target.at_least else max(values)
    return Verdict(target.what, bound, worst, met=worst >= target.bound if target.at_least else worst <= target.bound)
