"""Decisions about what leaves the list of dead letters.

Source: domain/dead_letter.py; spec/failure-scenarios.md F036.
"""

from __future__ import annotations

import itertools

from relaybroker.domain import events
from relaybroker.domain.dead_letter import CUSTODY_LIMIT, LIMIT, DeadLetter
from relaybroker.domain.reasons import Reason
from relaybroker.domain.turn import Turn


def keep_within_limit(turn: Turn) -> None:
    """The oldest letters leave, each with a record, until the list is within its limit."""
    state = turn.state
    _keep(turn, LIMIT - (len(state.dead_letters) - state.custody_letters), from_custody=False)
    _keep(turn, CUSTODY_LIMIT - state.custody_letters, from_custody=True)


def _keep(turn: Turn, room: int, *, from_custody: bool) -> None:
    if room < 0:
        letters = (letter for letter in turn.state.dead_letters.values() if letter.from_custody is from_custody)
        for letter in list(itertools.islice(letters, -room)):
            remove(turn, letter, Reason.ARCHIVED)


def remove(turn: Turn, letter: DeadLetter, reason: Reason, request_id: str = "") -> None:
    """The letter leaves the list; what it said stays in the log."""
    turn.record(
        events.DeadLetterRemoved(letter_id=letter.letter_id, reason=reason, request_id=request_id),
        letter.stream,
        letter.msg_id,
    )
