"""Deliveries as the log knows them, for `delivery ls`."""

from __future__ import annotations

import msgspec

from relaybroker.adapters.eventstore.reader import LogReader
from relaybroker.domain import events


class Row(msgspec.Struct):
    """One delivery attempt. Times are seconds since 1970."""

    stream: str
    delivery_id: str
    msg_id: str
    agent: str
    seq: int | None
    sender: str
    state: str
    reason: str
    verification: str
    """Of a text that was written: whether its echo was seen (`echo`) or not (`timeout_fallback`); "" = not known."""
    in_custody: bool
    """It was taken into custody: the engine was told that it is settled before it was typed."""
    offered_at: float
    changed_at: float


def newest(log: LogReader, count: int, *, state: str = "", agent: str = "") -> list[Row]:
    """The newest delivery attempts, oldest first: of all, or in this state, or for this agent."""
    rows = log.query(
        "SELECT stream, delivery_id, msg_id, name AS agent, seq, sender, state, coalesce(reason, '') AS reason,"
        " coalesce((SELECT json_extract(v.body, '$.verification') FROM v_events v WHERE v.stream = v_deliveries.stream"
        " AND v.topic = :verified), '') AS verification,"
        " EXISTS (SELECT 1 FROM v_events v WHERE v.stream = v_deliveries.stream AND v.topic = :taken_over) AS in_custody,"
        " began_at AS offered_at, changed_at FROM v_deliveries"
        " WHERE (:state = '' OR state = :state) AND (:agent = '' OR name = :agent) ORDER BY position DESC LIMIT :count",
        {
            "state": state,
            "agent": agent,
            "count": count,
            "verified": events.DeliveryVerified.topic,
            "taken_over": events.DeliveryTakenOver.topic,
        },
    )
    return [Row(**dict(row) | {"in_custody": bool(row["in_custody"])}) for row in reversed(rows)]
