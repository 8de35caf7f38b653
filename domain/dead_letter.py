"""DeadLetter: a message that was not typed and that nobody else keeps any more (stream: that of the attempt that failed).

Rules:

* What had been taken into custody cannot go back to the engine: when its agent ends, it becomes a letter.
* A delivery that ends as `dead_lettered` becomes the one letter of its delivery id; the engine may send the frame again as often as it
  likes. From then on the list owns the message: it counts for the agent's cursor, the engine is told that it is settled.
* At most `LIMIT` letters are kept, and beside them `CUSTODY_LIMIT` of messages that had been in custody: a night on hold may end for many
  at once. Above that the sender with the most letters loses its oldest one, with a record (`archived`); the log still has its words.
* Redelivering a letter takes it off the list and opens a new attempt of the same delivery, in one event. The attempt has a stream and a
  typing id of its own: a late report about an earlier attempt finds nothing that it could change. If it fails too, the letter is back.
* An attempt that was redelivered is a message of this broker: it has no sequence number, and moves no cursor.
* A letter that may have been typed (`in_doubt`) is redelivered only by force, and then marked `possible-duplicate`.
* A letter belongs to its agent id. It is never given to a successor of the name.

Source: spec/failure-scenarios.md F012, F016, F025 to F030, F036; ADR-0021.
"""

from __future__ import annotations

import msgspec

from relaybroker.domain.delivery import MAX_BODY_BYTES
from relaybroker.domain.reasons import Reason

LIMIT = 500
"""Letters that are kept."""
CUSTODY_LIMIT = 8192
"""Letters of messages from custody that are kept, beside the others: as many as eight agents with full queues leave."""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """One message on the list."""

    letter_id: str
    """The delivery id that its first attempt had; a local id where the engine gave none."""
    stream: str
    """Of the attempt that ended here."""
    delivery_id: str
    attempt: int
    tries: int
    agent_id: str
    name: str
    seq: int | None
    """The place in the agent's sequence that the attempt had; None for a local message and for a redelivered one."""
    msg_id: str
    source: str
    sender: str
    target: str
    body: str
    """At most `MAX_BODY_BYTES` of it; what is longer is never typed."""
    body_bytes: int
    thread_id: str
    priority: int | None
    mode: str
    reason: Reason
    detail: str
    in_doubt: bool
    """It may have been typed."""
    offered_at: float
    buried_at: float
    from_custody: bool = False
    """The message had been taken into custody, or is a new attempt of one that had been."""
    event_id: str = ""
    """The id by which local clients know the message, if it was sent through this broker."""
    said_by: str = ""
    """Who said it, in the words of whoever sent it; "" = `sender`."""


def shortened(body: str) -> str:
    """What of a body a letter keeps: at most `MAX_BODY_BYTES`, cut between two characters."""
    return body.encode()[:MAX_BODY_BYTES].decode(errors="ignore")
