"""Decisions about what leaves the list of dead letters.

Over the limit, the sender with the most letters loses its oldest one: whoever floods the list pushes out its own letters and no others.

Source: domain/dead_letter.py; spec/failure-scenarios.md F036.
"""

from __future__ import annotations

from collections import defaultdict

from relaybroker.domain import events
from relaybroker.domain.dead_letter import CUSTODY_LIMIT, LIMIT, DeadLetter
from relaybroker.domain.reasons import Reason
from relaybroker.domain.turn import Turn


def keep_within_limit(turn: Turn) -> None:
    """Letters leave, each with a record, until the list is within its limit."""
    state = turn.state
    _keep(turn, LIMIT - (len(state.dead_letters) - state.custody_letters), from_custody=False)
    _keep(turn, CUSTODY_LIMIT - state.custody_letters, from_custody=True)


def _keep(turn: Turn, room: int, *, from_custody: bool) -> None:
    if room >= 0:
        return
    senders: dict[str, list[DeadLetter]] = defaultdict(list)
    for letter in turn.state.dead_letters.values():
        if letter.from_custody is from_custody:
            senders[letter.sender].append(letter)
    for _ in range(-room):
        most = max(senders.values(), key=len)
        remove(turn, most.pop(0), Reason.ARCHIVED)


def remove(turn: Turn, letter: DeadLetter, reason: Reason, request_id: str = "") -> None:
    """The letter leaves the list; what it said stays in the log."""
    turn.record(
        events.DeadLetterRemoved(letter_id=letter.letter_id, reason=reason, request_id=request_id),
        letter.stream,
        letter.msg_id,
    )
