"""The figures as text: one column for each broker. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.targets import Verdict

PERCENTILES = ("p50", "p95", "p99", "max")
RECOVERY_S = ("recovery_bare_s", "recovery_snapshot_s", "recovery_fresh_s")
RECOVERY_MIB = ("recovery_bare_resident", "recovery_snapshot_resident", "recovery_fresh_resident")
ROWS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("1 message/s: text on stdin, ms, p50/p95/p99/max", tuple(f"text_ms_{part}" for part in PERCENTILES)),
    ("1 message/s: Enter on stdin, ms", tuple(f"enter_ms_{part}" for part in PERCENTILES)),
    ("1 message/s: ack, ms", tuple(f"ack_ms_{part}" for part in PERCENTILES)),
    ("  acked before Enter was typed, messages", ("acked_before_typed", "latency_messages")),
    ("  CPU per message, ms", ("slow_cpu_ms",)),
    *(
        row
        for size in ("1x500", "10x100", "50x20")
        for row in (
            (f"burst {size}: typed / acked, per s", (f"burst_{size}_typed_per_s", f"burst_{size}_acked_per_s")),
            ("  all of it typed and acked, s", (f"burst_{size}_seconds", f"burst_{size}_state")),
            ("  CPU per message, ms", (f"burst_{size}_cpu_ms",)),
        )
    ),
    ("memory, 1 agent, MiB: resident / private", ("memory_1_resident", "memory_1_private")),
    ("memory, 50 agents after the burst, MiB", ("memory_50_resident", "memory_50_private")),
    ("  private per extra agent, MiB", ("memory_per_agent",)),
    ("start to node.register, s (median)", ("start_s",)),
    ("spawn: program runs / request answered, s (median)", ("spawn_runs_s", "spawn_answered_s")),
    ("kill -9: messages in flight", ("crash_in_flight",)),
    ("  lost / of these acknowledged", ("crash_lost", "crash_lost_acked")),
    ("  typed twice", ("crash_twice",)),
    ("  agents alive after the restart, of", ("crash_agents_alive", "crash_agents")),
    ("  restart to node.register, s", ("restart_s",)),
    ("start on a long log, events", ("recovery_events",)),
    ("  to node.register, s: no snapshot / snapshot / short log", RECOVERY_S),
    ("  memory at rest, MiB resident", RECOVERY_MIB),
    ("MCP, 50 agents: looks / sends per s of one core", ("tool_looks_per_core_s", "tool_sends_per_core_s")),
    ("  broker's memory per connected agent, MiB private", ("tool_memory_per_agent",)),
    ("stdio bridge: first answer, s / private, MiB", ("bridge_answer_s", "bridge_private")),
    ("why on a long log, ms; a simulated day, s", ("why_ms", "simulated_day_s")),
)
"""Label, and the figures that stand side by side under it."""


def table(brokers: Mapping[str, Mapping[str, Any]]) -> str:
    """All figures, a column for each broker."""
    lines = [["", *brokers]]
    lines += [[label, *(cell(figures, keys) for figures in brokers.values())] for label, keys in ROWS]
    return aligned(lines)


def verdicts(judged: Sequence[Verdict]) -> str:
    """Every target with what was measured."""
    lines = [["target", "bound", "measured", ""]]
    lines += [[one.what, one.bound, shown(one.measured), "met" if one.met else "MISSED"] for one in judged]
    return aligned(lines)


def cell(figures: Mapping[str, Any], keys: Sequence[str]) -> str:
    """Figures side by side; what says nothing is left out."""
    values = [figures.get(key) for key in keys]
    if any(isinstance(value, str) and value for value in values):
        return next(value for value in values if isinstance(value, str) and value)
    return " / ".join(shown(value) for value in values if value != "")


def shown(value: float | None) -> str:
    """At most three significant digits after the point, no more than help; `-` where there is none."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Columns, each as wide as its widest cell."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
