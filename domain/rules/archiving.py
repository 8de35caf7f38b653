"""Decisions about what leaves the list of dead letters.

Source: domain/dead_letter.py; spec/failure-scenarios.md F036.
"""

from __future__ import annotations

from domain import events
from domain.dead_letter import LIMIT, DeadLetter
from domain.reasons import Reason
from domain.turn import Turn


def keep_within_limit(turn: Turn) -> None:
    """The oldest letters leave, each with a record, until the list is within its limit."""
    letters = turn.state.dead_letters
    for letter in list(letters.values())[: max(0, len(letters) - LIMIT)]:
        remove(turn, letter, Reason.ARCHIVED)


def remove(turn: Turn, letter: DeadLetter, reason: Reason, request_id: str = "") -> None:
    """The letter leaves the list; what it said stays in the log."""
    turn.record(
        events.DeadLetterRemoved(letter_id=letter.letter_id, reason=reason, request_id=request_id),
        letter.stream,
        letter.msg_id,
    )
