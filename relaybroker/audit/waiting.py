"""Messages that wait for an agent, from the log: for `why AGENT`.

Source: spec/architecture.md section 8; user requirement U03.
"""

from __future__ import annotations

from relaybroker.adapters.eventstore.lookup import IS_OFFER, LOG, OFFERED_SEQ, OFFERED_TO
from relaybroker.adapters.eventstore.reader import LogReader
from relaybroker.domain.delivery import MAX_WAITING, TABLE
from relaybroker.domain.story import Waiting

LOOKED_AT = MAX_WAITING
"""So many of the newest messages for an agent are looked at, of those with and without sequence number each."""


def waiting_for(log: LogReader, name: str) -> list[Waiting]:
    """What is not settled of the newest messages for this agent, oldest first."""
    by_position: dict[int, Waiting] = {}
    for numbers in (f"{OFFERED_SEQ} IS NULL", f"{OFFERED_SEQ} = 0", f"{OFFERED_SEQ} > 0"):
        rows = log.query(
            "SELECT position, msg_id, seq, state, reason, changed_at, until FROM v_deliveries"
            f" WHERE position IN ({', '.join(map(str, _newest(log, name, numbers)))})"
        )
        for row in rows:
            if row["state"] not in TABLE.terminal:
                by_position[row["position"]] = Waiting(
                    msg_id=row["msg_id"],
                    seq=row["seq"],
                    state=row["state"],
                    reason=row["reason"] or "",
                    since=row["changed_at"],
                    until=row["until"] or 0.0,
                )
    return [waiting for _, waiting in sorted(by_position.items())]


def _newest(log: LogReader, name: str, numbers: str) -> list[int]:
    """Positions of the newest offers to an agent, of those whose number is so."""
    rows = log.query(
        f"SELECT position, {OFFERED_SEQ} AS seq FROM {LOG} WHERE {IS_OFFER} AND {OFFERED_TO} = ? AND {numbers} "
        "ORDER BY seq DESC, position DESC LIMIT ?",
        (name, LOOKED_AT),
    )
    return [row["position"] for row in rows]
