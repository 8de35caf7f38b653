"""Deliveries as the log knows them, for `delivery ls`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from relaybroker.adapters.eventstore.fields import attribute
from relaybroker.adapters.eventstore.lookup import IS_OFFER, LOG, OFFERED_TO
from relaybroker.adapters.eventstore.reader import LogReader
from relaybroker.domain import events

LOOKED_AT = 10_000
"""Offers that are looked at in one step, where few are in the state that is asked for."""

STREAMS_AT_ONCE = 500
"""Streams that one statement asks for; SQLite takes 999 values in its older versions."""


class Row(msgspec.Struct):
    """One delivery attempt. Times are seconds since 1970."""

    position: int
    """Of its offer."""
    stream: str
    delivery_id: str
    msg_id: str
    agent: str
    seq: int | None
    source: str
    """`local`: it was given from here, before the engine had it; else `engine`, `task` or `notice`."""
    sender: str
    state: str
    reason: str
    verification: str
    """Of a text that was written: whether its echo was seen (`echo`) or not (`timeout_fallback`); "" = not known."""
    in_custody: bool
    """It was taken into custody: the engine was told that it is settled before it was typed."""
    offered_at: float
    changed_at: float


def newest(log: LogReader, count: int, *, state: str = "", agent: str = "", before: int = 0) -> list[Row]:
    """The newest delivery attempts, oldest first: of all, or in this state, or for this agent; `before` = those before a position."""
    rows: list[Row] = []
    before, looked_at = before or log.position + 1, 2 * count
    while len(rows) < count and (offers := _offers(log, agent, before, looked_at)):
        rows += _states(log, offers, state)
        before, looked_at = offers[-1], min(2 * looked_at, LOOKED_AT)
    rows = rows[:count]
    later = _later_facts(log, [row.stream for row in rows])
    return [msgspec.structs.replace(row, **later.get(row.stream, _NOTHING_LATER)) for row in reversed(rows)]


def _offers(log: LogReader, agent: str, before: int, limit: int) -> list[int]:
    """Positions of the newest offers before a position, newest first."""
    rows = log.query(
        f"SELECT position FROM {LOG} WHERE {IS_OFFER} AND position < :before"
        f"{f' AND {OFFERED_TO} = :agent' if agent else ''} ORDER BY position DESC LIMIT :limit",
        {"before": before, "limit": limit} | ({"agent": agent} if agent else {}),
    )
    return [row["position"] for row in rows]


def _states(log: LogReader, offers: list[int], state: str) -> list[Row]:
    """The attempts that these offers began, newest first, of those in this state ("" = any)."""
    rows = log.query(
        "SELECT position, stream, delivery_id, msg_id, name AS agent, seq, source, sender, state, coalesce(reason, '') AS reason,"
        " began_at AS offered_at, changed_at FROM v_deliveries"
        f" WHERE position IN ({', '.join(map(str, offers))}) AND (:state = '' OR state = :state) ORDER BY position DESC",
        {"state": state},
    )
    return [Row(**dict(row), verification="", in_custody=False) for row in rows]


_NOTHING_LATER: dict[str, Any] = {"verification": "", "in_custody": False}


def _later_facts(log: LogReader, streams: list[str]) -> dict[str, dict[str, Any]]:
    """What later events of these streams say: the first verification, whether custody was taken, and the number of the engine's copy."""
    verified, taken, recognised = events.DeliveryVerified, events.DeliveryTakenOver, events.DeliveryRecognised
    facts: dict[str, dict[str, Any]] = {}
    for batch in _batches(streams):
        rows = log.query(
            f"SELECT originator_id AS stream, topic, {attribute('verification', [verified])} AS verification,"
            f" {attribute('seq', [recognised])} AS seq FROM {LOG}"
            f" WHERE originator_id IN ({', '.join('?' * len(batch))}) AND topic IN (?, ?, ?) ORDER BY position",
            (*batch, verified.topic, taken.topic, recognised.topic),
        )
        for row in rows:
            one = facts.setdefault(row["stream"], dict(_NOTHING_LATER))
            if row["topic"] == taken.topic:
                one["in_custody"] = True
            elif row["topic"] == recognised.topic:
                one["seq"] = row["seq"]
            else:
                one["verification"] = one["verification"] or row["verification"]
    return facts


def _batches(streams: list[str]) -> Iterator[list[str]]:
    for first in range(0, len(streams), STREAMS_AT_ONCE):
        yield streams[first : first + STREAMS_AT_ONCE]
