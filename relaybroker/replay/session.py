"""The session file: JSON lines, self-contained, readable for ever.

    {"session":1,"broker":"relaybroker/0.1.0","source":"log","after":0,"name":"…","says":"…","redacted":false}
    {"at":1764115200.25,"input":{"type":"BrokerStarted",…},"events":[{"stream":"broker:…","topic":"broker.started.v1","body":{…}},…],"effects":[…]}
    {"at":1764115230.25,"input":{"type":"TimePassed","due":1764115230.25},"events":[…]}
    {"end":"range","turns":812,"last":4711}

* The first line says what this is. `after` is the log position before the first turn; positions go on from there, one
  an event. `state` is the state at that position, absent for a log's beginning. A session from the beginning stays
  readable for ever; a state belongs to the version of the program that wrote it, like any snapshot.
* Then one line a turn: the moment, what the core was told, the events in order, and the effects
  where they are known (a live recording has them, the log has not).
* The last line says how it ended: `range`, `shutdown`, or why the recording was given up. Without it the recording
  was cut off; what is whole can be played.

What an event once was is read as what it is today. Source: ADR-0026, ADR-0046.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Literal, Self

import msgspec

from relaybroker.adapters.eventstore.errors import UnknownTopic
from relaybroker.adapters.eventstore.mapper import Mapper
from relaybroker.domain import recorded_input
from relaybroker.domain import state as domain_state
from relaybroker.domain.decoding import NOT_READABLE
from relaybroker.domain.effects import Effect
from relaybroker.domain.events import REGISTRY, Recorded
from relaybroker.domain.recorded_input import RecordedInput
from relaybroker.domain.state import State

FORMAT = 1
EFFECTS = 3
"""How effects are written. Those of another form say nothing about what this version would do, and are not compared."""
MAX_LINE_BYTES = 64 * 1024 * 1024
"""A longer line is refused: no turn is, and a state of a full broker is below it."""

Code = Literal[
    "not_found",
    "not_a_session",
    "newer_format",
    "bad_line",
    "unknown_topic",
    "unknown_input",
    "out_of_order",
    "old_state",
    "no_inputs",
    "no_such_position",
    "not_replayable",
]
CODES: dict[Code, str] = {
    "not_found": "the file cannot be opened",
    "not_a_session": "its first line is not a session header",
    "newer_format": "a newer version of relaybroker wrote it",
    "bad_line": "a line cannot be read",
    "unknown_topic": "it has an event that this version does not know",
    "unknown_input": "it has an input that this version does not know",
    "out_of_order": "its turns are not in the order in which they were decided",
    "old_state": "it starts with a state written by another version; export the range again, or export from the beginning of the log",
    "no_inputs": "the log was written by a version that did not keep inputs",
    "no_such_position": "the log has no such range",
    "not_replayable": "this version decides it differently, so it cannot be redacted; use the version that recorded it",
}
"""Every way in which a session cannot be used."""


class SessionError(Exception):
    """A session cannot be read or made; `code` is one of `CODES`, `line` counts from 1 (0 = none)."""

    def __init__(self, code: Code, detail: str, line: int = 0) -> None:
        place = f"line {line}: " if line else ""
        super().__init__(f"[{code}] {place}{CODES[code]}: {detail}")
        self.code = code
        self.detail = detail
        self.line = line


_ABSENT = msgspec.Raw(b"")
"""A member that is not there."""


class Header(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The first line."""

    session: int
    broker: str
    source: Literal["log", "live"]
    after: int = 0
    name: str = ""
    says: str = ""
    """One sentence: what this session shows."""
    redacted: bool = False
    effects: int = 1
    """The form of the effects, where they are known."""
    state: msgspec.Raw = _ABSENT


class End(msgspec.Struct, frozen=True, kw_only=True):
    """The last line."""

    end: str
    turns: int
    last: int


class _Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    stream: str
    topic: str
    corr: str = ""
    body: msgspec.Raw


class _Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    at: float
    input: msgspec.Raw
    events: list[_Event]
    effects: list[Any] | None = None


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One turn of the core: `input_json` is what it was told, as it is kept; `effects` plain data, None where they are not known."""

    at: float
    input_json: bytes
    events: list[Recorded]
    effects: list[Any] | None = None
    line: int = 0

    @property
    def first(self) -> int:
        """Position of its first event."""
        return self.events[0].version

    @property
    def last(self) -> int:
        """Position of its last event."""
        return self.events[-1].version

    def input(self) -> RecordedInput:
        """What the core was told.

        Raises:
            SessionError: `unknown_input`.
        """
        try:
            return recorded_input.decode(self.input_json)
        except NOT_READABLE as error:
            raise SessionError("unknown_input", str(error), self.line) from error


def plain(effects: Iterable[Effect]) -> list[Any]:
    """Effects as the data that a file holds."""
    data: list[Any] = msgspec.json.decode(msgspec.json.encode(list(effects)))
    return data


def starting_state(state: State) -> msgspec.Raw:
    """A state as a header holds it: without what local clients were told, which nothing is decided from. Absent for the beginning."""
    if not state.position:
        return _ABSENT
    kept = msgspec.structs.replace(state, announcements=[])
    return msgspec.Raw(domain_state.encode(kept))


class Writer:
    """Writes a session to an open file, line by line."""

    def __init__(self, file: IO[bytes], header: Header) -> None:
        self._file = file
        self._encoder = msgspec.json.Encoder()
        self._turns = 0
        self._last = header.after
        self._put(header)

    def turn(self, turn: Turn) -> None:
        """Write one turn."""
        events = [
            _Event(
                stream=recorded.stream,
                topic=recorded.event.topic,
                corr=recorded.correlation,
                body=msgspec.Raw(self._encoder.encode(recorded.event)),
            )
            for recorded in turn.events
        ]
        self._put(_Line(at=turn.at, input=msgspec.Raw(turn.input_json), events=events, effects=turn.effects))
        self._turns += 1
        self._last = turn.last

    def end(self, how: str) -> None:
        """Write the last line."""
        self._put(End(end=how, turns=self._turns, last=self._last))

    def _put(self, line: Header | _Line | End) -> None:
        self._file.write(self._encoder.encode(line) + b"\n")


class Session:
    """A session file that is open for reading. Iterate over it once; leaving the context closes the file."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file = file
        self.name = name
        self._mapper = Mapper(REGISTRY)
        self._lines = msgspec.json.Decoder(_Line)
        self.header = self._header()
        self.end: End | None = None
        """The last line, once it has been read; None = cut off."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def state(self) -> State:
        """The state before the first turn, a new one each time.

        Raises:
            SessionError: `old_state`.
        """
        if not bytes(self.header.state):
            return State()
        state = domain_state.decode(bytes(self.header.state))
        if state is None:
            raise SessionError("old_state", f"written by {self.header.broker}", 1)
        return state

    def __iter__(self) -> Iterator[Turn]:
        position, at = self.header.after, 0.0
        for number, line in enumerate(self._rest(), 2):
            if self.end is not None:
                raise SessionError("bad_line", "something follows the last line", number)
            turn = self._turn(number, line, position)
            if turn is None:
                continue
            if turn.at < at:
                raise SessionError("out_of_order", f"{turn.at} comes after {at}", number)
            position, at = turn.last, turn.at
            yield turn

    def _rest(self) -> Iterator[bytes]:
        while line := self._file.readline(MAX_LINE_BYTES):
            yield line

    def _turn(self, number: int, line: bytes, position: int) -> Turn | None:
        try:
            if line.startswith(b'{"end"'):
                self.end = msgspec.json.decode(line, type=End)
                if self.end.last != position:
                    raise SessionError("out_of_order", f"it ends at {self.end.last}, its turns at {position}", number)
                return None
            entry = self._lines.decode(line)
        except NOT_READABLE as error:
            if not line.endswith(b"\n") and not self._file.peek(1):  # type: ignore[attr-defined] # opened buffered
                return None  # the writer was killed in the middle of its last line
            raise SessionError("bad_line", str(error), number) from error
        if not entry.events:
            raise SessionError("bad_line", "a turn without events", number)
        cause = f"{entry.events[0].stream}@{position + 1}"
        heard = bytes(entry.input)
        events = [
            self._recorded(number, event, position + offset, entry.at, cause, heard if offset == 1 else b"")
            for offset, event in enumerate(entry.events, 1)
        ]
        return Turn(at=entry.at, input_json=heard, events=events, effects=entry.effects, line=number)

    def _recorded(self, number: int, event: _Event, version: int, at: float, cause: str, heard: bytes) -> Recorded:
        try:
            body = self._mapper.to_event(event.topic, event.body, version, event.stream)
        except UnknownTopic as error:
            raise SessionError("unknown_topic", event.topic, number) from error
        except NOT_READABLE as error:
            raise SessionError("bad_line", f"{event.topic}: {error}", number) from error
        return Recorded(
            stream=event.stream,
            version=version,
            at=at,
            causation=cause,
            correlation=event.corr,
            event=body,
            input_json=heard,
        )

    def _header(self) -> Header:
        line = self._file.readline(MAX_LINE_BYTES)
        try:
            version = msgspec.json.decode(line, type=dict[str, Any])["session"]
        except (*NOT_READABLE, KeyError) as error:
            raise SessionError("not_a_session", f"{self.name} begins with {line[:60]!r}", 1) from error
        if not isinstance(version, int) or version > FORMAT:
            raise SessionError("newer_format", f"format {version}, this version reads up to {FORMAT}", 1)
        try:
            return msgspec.json.decode(line, type=Header)
        except NOT_READABLE as error:
            raise SessionError("not_a_session", str(error), 1) from error


def open_session(path: Path) -> Session:
    """A session file, open for reading.

    Raises:
        SessionError: there is none, or its first line is none.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise SessionError("not_found", str(error)) from error
    try:
        return Session(file, path.name)
    except SessionError:
        file.close()
        raise
