"""Messages that wait for an agent, from the log: for `why AGENT`.

Source: spec/architecture.md section 8; user requirement U03.
"""

from __future__ import annotations

import msgspec

from relaybroker.adapters.eventstore.lookup import IS_OFFER, OFFERED_SEQ, OFFERED_TO
from relaybroker.adapters.eventstore.reader import LogReader
from relaybroker.domain.delivery import MAX_WAITING, TABLE

LOOKED_AT = MAX_WAITING
"""So many of the newest messages for an agent are looked at, of those with and without sequence number each."""


class Waiting(msgspec.Struct, frozen=True):
    """A message that is not settled: why, since when (seconds since 1970) and until when at the latest (0: no limit)."""

    msg_id: str
    seq: int | None
    state: str
    reason: str
    since: float
    until: float


def waiting_for(log: LogReader, name: str) -> list[Waiting]:
    """What is not settled of the newest messages for this agent, oldest first."""
    found: dict[int, Waiting] = {}
    for numbers in (f"{OFFERED_SEQ} IS NULL", f"{OFFERED_SEQ} = 0", f"{OFFERED_SEQ} > 0"):
        rows = log.query(
            "SELECT position, msg_id, seq, state, reason, changed_at, until FROM v_deliveries WHERE position IN "
            f"(SELECT rowid FROM stored_events WHERE {IS_OFFER} AND {OFFERED_TO} = ? AND {numbers} "
            f"ORDER BY {OFFERED_SEQ} DESC, rowid DESC LIMIT ?)",
            (name, LOOKED_AT),
        )
        for row in rows:
            if row["state"] not in TABLE.terminal:
                found[row["position"]] = Waiting(
                    msg_id=row["msg_id"],
                    seq=row["seq"],
                    state=row["state"],
                    reason=row["reason"] or "",
                    since=row["changed_at"],
                    until=row["until"] or 0.0,
                )
    return [waiting for _, waiting in sorted(found.items())]
