"""Messages that are worth nothing after a moment: dropped with `expired`, never typed after it.

The sender says the moment in the message (`expires_at`, see domain/extraction.py). It is looked at when the message arrives, when its
moment comes while it waits, and right before it is typed: by the core, and again by the PTY host, which has it for a while before it
types. What has begun to be typed does not expire. A dropped message counts for the agent's cursor: the engine need not offer it again.

Source: ADR-0029.
"""

from __future__ import annotations

from relaybroker.domain.reasons import Reason
from relaybroker.domain.rules import settling
from relaybroker.domain.state import State as BrokerState
from relaybroker.domain.turn import Turn


def due(turn: Turn) -> None:
    """Drop what waits and has expired."""
    over = [stream for stream, when in turn.state.expiries.items() if when <= turn.now]
    for stream in over:
        settling.drop(turn, turn.state.deliveries[stream], Reason.EXPIRED, settled=True)


def deadline(state: BrokerState) -> float | None:
    """When the next waiting message expires."""
    return min(state.expiries.values(), default=None)
