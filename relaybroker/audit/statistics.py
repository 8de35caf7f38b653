"""What a log holds, in numbers: for `log stats`.

Source: spec/architecture.md section 8.
"""

from __future__ import annotations

from typing import Any

import msgspec

from relaybroker.adapters.eventstore.fields import field
from relaybroker.adapters.eventstore.lookup import LOG
from relaybroker.adapters.eventstore.reader import LogReader

_VIEWS = ("v_deliveries", "v_agents", "v_workers", "v_actions", "v_messages")


class Statistics(msgspec.Struct, frozen=True):
    """Numbers of a log. `first_at` and `last_at` are seconds since 1970 (None for an empty log).

    `states`: view -> state -> streams in it; `reasons`: reason -> topic -> events.
    """

    events: int
    archived: int
    """Of them in the archive; all other numbers are of both parts."""
    streams: int
    stored_bytes: int
    """Of the events' own content."""
    first_at: float | None
    last_at: float | None
    topics: dict[str, int]
    states: dict[str, dict[str, int]]
    reasons: dict[str, dict[str, int]]


def statistics(log: LogReader) -> Statistics:
    """Count everything. Reads the whole log: about 10 s for 1,000,000 events."""
    (totals,) = log.query(
        f"SELECT count(*) AS events, count(DISTINCT originator_id) AS streams, coalesce(sum(bytes), 0) AS bytes,"
        f" min({field('at')}) AS first_at, max({field('at')}) AS last_at FROM {LOG}"
    )
    topics = log.query(f"SELECT topic, count(*) AS times FROM {LOG} GROUP BY topic ORDER BY topic")
    states: dict[str, dict[str, int]] = {}
    for view in _VIEWS:
        rows = log.query(f"SELECT state, count(*) AS times FROM {view} GROUP BY state ORDER BY state")
        states[view.removeprefix("v_")] = {row["state"]: row["times"] for row in rows}
    reasons: dict[str, dict[str, int]] = {}
    for row in log.query("SELECT reason, topic, times FROM v_reasons ORDER BY reason, topic"):
        reasons.setdefault(row["reason"], {})[row["topic"]] = row["times"]
    return Statistics(
        events=totals["events"],
        archived=log.archive.last,
        streams=totals["streams"],
        stored_bytes=totals["bytes"],
        first_at=totals["first_at"],
        last_at=totals["last_at"],
        topics={row["topic"]: row["times"] for row in topics},
        states=states,
        reasons=reasons,
    )


def as_lines(numbers: Statistics) -> list[Any]:
    """The numbers as lines for a person."""
    lines = [f"{numbers.events} events in {numbers.streams} streams, {numbers.stored_bytes / 1e6:.1f} MB"]
    if numbers.archived:
        lines.append(f"{numbers.archived} of the events are in the archive; they are counted")
    if numbers.first_at is not None and numbers.last_at is not None:
        lines.append(f"over {(numbers.last_at - numbers.first_at) / 3600:.2f} hours")
    for view, states in numbers.states.items():
        if states:
            lines.append(f"{view}: " + ", ".join(f"{times} {state}" for state, times in states.items()))
    for reason, topics in numbers.reasons.items():
        lines += [f"  {times:>8} {reason:<20} {topic}" for topic, times in topics.items()]
    lines += [f"  {times:>8} {topic}" for topic, times in numbers.topics.items()]
    return lines
