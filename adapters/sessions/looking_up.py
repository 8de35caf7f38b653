"""Asks a program's own records what became of a delivery: through the session's open door, or one made for the purpose.

Whatever goes wrong is an answer too, `unknowable` with the reason: the broker waits for one.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from relaybroker.adapters.sessions.door import MAX_POINTER, Absent, Accepted, LookedUp, Unknowable
from relaybroker.adapters.sessions.known import KINDS

if TYPE_CHECKING:
    from relaybroker.adapters.sessions.host.protocol import LookUp

LOOK_UP_S = 40.0
"""Within this time a door tells what the records say; the broker waits longer (`relaybroker.domain.delivery.LOOK_UP_S`)."""

_logger = logging.getLogger(__name__)


class Session(Protocol):
    """What a look-up asks of a session."""

    async def look_up(self, request: LookUp) -> LookedUp | None:
        """What its open door sees; None: it has no such door."""


async def look_up(session: Session | None, request: LookUp) -> dict[str, str | int | tuple[int, ...]]:
    """The data of the answer to a `LookUp`; `session`: the one that had the delivery, if this host has it."""
    try:
        async with asyncio.timeout(LOOK_UP_S):
            outcome = await session.look_up(request) if session is not None else None
            if outcome is None:
                outcome = await _made_for_it(request)
    except TimeoutError:
        outcome = Unknowable(f"the door {request.door} did not tell within {LOOK_UP_S:g} s")
    except Exception as error:  # noqa: BLE001 - records that cannot be read prove nothing, and why is told
        _logger.warning("a look-up through door %s failed: %r", request.door, error)
        outcome = Unknowable(f"the door {request.door} failed: {error!r}")
    match outcome:
        case Accepted(evidence):
            return {"outcome": "accepted", "evidence": evidence.kind, "pointer": evidence.pointer[:MAX_POINTER]}
        case Absent():
            return {"outcome": "absent"}
        case Unknowable(reason):
            return {"outcome": "unknowable", "detail": reason[:500]}


async def _made_for_it(request: LookUp) -> LookedUp:
    kind = KINDS.get(request.door)
    if kind is None:
        return Unknowable(f"this host has no door {request.door}")
    door = kind.at(request.place)
    try:
        return await door.look_up(request.delivery_id)
    finally:
        await door.close()
