"""A session from any range of a log.

Turns are whole: a range that begins or ends inside a turn is widened to it. A session that begins later than the log begins with the state
there, which is folded from what is before.

Source: ADR-0025, ADR-0026.
"""

from __future__ import annotations

from typing import IO, NamedTuple

from relaybroker import __version__
from relaybroker.adapters.eventstore.reader import LogReader
from relaybroker.domain import fold
from relaybroker.domain.events import Recorded
from relaybroker.domain.state import State
from relaybroker.replay.session import FORMAT, Header, SessionError, Turn, Writer, starting_state
from relaybroker.replay.turns import turns_of


class Exported(NamedTuple):
    """What was written."""

    turns: int
    first: int
    last: int


def export(
    log: LogReader, file: IO[bytes], *, first: int = 1, last: int | None = None, name: str = "", says: str = ""
) -> Exported:
    """Write the session of the positions from `first` to `last` (None = the log's end).

    Raises:
        SessionError: `no_such_position`, `no_inputs`.
        CorruptEvent, UnknownTopic, StateCorrupt: the log is damaged there.
    """
    end = log.position if last is None else last
    if not 1 <= first <= end <= log.position:
        raise SessionError("no_such_position", f"{first} to {end}; the log has 1 to {log.position}")
    state = State()
    writer: Writer | None = None
    written, begun, reached = 0, 0, 0
    for turn in turns_of(recorded for _, recorded in log.read()):
        if turn.first > end:
            break
        if turn.last < first:
            _fold(state, turn.events)
            continue
        check_input(turn)
        if writer is None:
            begun = turn.first
            writer = Writer(file, _header(state, name, says))
        writer.turn(turn)
        written, reached = written + 1, turn.last
    assert writer is not None, "the range is in the log"
    writer.end("range")
    return Exported(written, begun, reached)


def check_input(turn: Turn) -> None:
    """Raise SessionError (`no_inputs`) for a turn of a version that kept no inputs."""
    if not turn.input_json:
        raise SessionError("no_inputs", f"position {turn.first}")


def _fold(state: State, records: list[Recorded]) -> None:
    for recorded in records:
        fold.apply(state, recorded)


def _header(state: State, name: str, says: str) -> Header:
    return Header(
        session=FORMAT,
        broker=f"relaybroker/{__version__}",
        source="log",
        after=state.position,
        name=name,
        says=says,
        state=starting_state(state),
    )
