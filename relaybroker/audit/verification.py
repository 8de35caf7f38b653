"""`log verify`: whether the log is whole, in order, unbroken in its hash chain, and folds by the tables."""

from __future__ import annotations

from adapters.eventstore.integrity import verify as verify_store
from adapters.eventstore.reader import LogReader
from domain.errors import CorruptLog, IllegalTransition
from domain.fold import apply
from domain.state import State


def verify(reader: LogReader) -> tuple[list[str], State]:
    """What is wrong with the log (nothing, if it is whole), and the state that it folds to as far as it goes."""
    problems = [str(finding) for finding in verify_store(reader)]
    state = State()
    if problems:
        return problems, state
    for position, recorded in reader.read():
        try:
            apply(state, recorded)
        except (CorruptLog, IllegalTransition, KeyError, ValueError) as error:
            problems.append(
                f"position {position}: {recorded.event.topic} on {recorded.stream} does not fold: {error!r}"
            )
            break
    return problems, state
