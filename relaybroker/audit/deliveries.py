"""Deliveries as the log knows them, for `delivery ls` and `delivery show`."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from domain import events
from domain.delivery import TABLE
from domain.events import Recorded


class Row(msgspec.Struct):
    """One delivery attempt."""

    stream: str
    delivery_id: str
    msg_id: str
    agent: str
    seq: int | None
    sender: str
    state: str
    reason: str
    offered_at: float
    changed_at: float


def listing(log: Iterable[tuple[int, Recorded]]) -> list[Row]:
    """Every delivery attempt in the log, oldest first."""
    rows: dict[str, Row] = {}
    for _, recorded in log:
        event = recorded.event
        if isinstance(event, events.DeliveryOffered):
            rows.pop(recorded.stream, None)
            rows[recorded.stream] = Row(
                stream=recorded.stream,
                delivery_id=event.delivery_id,
                msg_id=event.msg_id,
                agent=event.name,
                seq=event.seq,
                sender=event.sender,
                state=TABLE.initial,
                reason="",
                offered_at=recorded.at,
                changed_at=recorded.at,
            )
        elif event.machine == "delivery" and event.trigger:
            row = rows[recorded.stream]
            row.state = TABLE.follow(row.state, event.trigger)
            row.reason = str(getattr(event, "reason", "") or "")
            row.changed_at = recorded.at
    return list(rows.values())
