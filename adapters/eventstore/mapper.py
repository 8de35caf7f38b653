"""Recorded events to stored rows and back, and the hash chain that ties the rows together.

The stored form of a record (state column, UTF-8 JSON, this key order) is

    {"at":…,"cause":…,"corr":…,"body":{…},"input":{…},"chain":"<32 hex digits>"}

where `input` is there for the first record of a turn that an input began (ADR-0025).

Rules:

* The topic column holds the event's explicit topic, never an import path. A topic that no event has or had is refused.
* The chain value of a record is blake2b-128 of the previous record's chain value, the stream, version and topic
  (with their lengths), and every byte of the state before the chain member. So no byte of a row can change
  unnoticed, and no row can be taken out, put in or moved. The first record follows `GENESIS`. Order is the log's order.
* What cannot be read back equal is not written: msgspec checks types when it reads, not when an event is built, and one
  unreadable record would make every later start refuse.
* What an event once was is read as what it is today: the upcasts beside its class run while reading, on plain data, one
  version at a time. Rows are never rewritten.

Source: design/architecture.md sections 3 and 4; ADR-0046.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from eventsourcing.persistence import StoredEvent

from relaybroker.adapters.eventstore.errors import CorruptEvent, NotRecordable, UnknownTopic
from relaybroker.domain.decoding import NOT_READABLE
from relaybroker.domain.events import Event, Recorded, Registry

CHAIN_BYTES = 16
GENESIS = bytes(CHAIN_BYTES)
"""What the first record of a log is chained to."""

_CHAIN_KEY = b',"chain":"'
_SUFFIX_LENGTH = len(_CHAIN_KEY) + 2 * CHAIN_BYTES + len(b'"}')


class _Content(msgspec.Struct, frozen=True):
    """The state without its chain member; the order of the fields is the order of the bytes."""

    at: float
    cause: str
    corr: str
    body: Event


class _Turn(msgspec.Struct, frozen=True):
    """The same for the first record of a turn."""

    at: float
    cause: str
    corr: str
    body: Event
    input: msgspec.Raw


class _Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The state as it is read: the body stays bytes until its topic says what it is."""

    at: float
    cause: str
    corr: str
    body: msgspec.Raw
    chain: str
    input: msgspec.Raw = msgspec.Raw(b"")


def link(previous: bytes, stream: str, version: int, topic: str, content: bytes) -> bytes:
    """The chain value (16 bytes) of a record after `previous`; `content` is its state before the chain member."""
    head = f"{len(stream)} {stream} {version} {len(topic)} {topic} ".encode()
    return hashlib.blake2b(previous + head + content, digest_size=CHAIN_BYTES).digest()


def split_state(state: bytes) -> tuple[bytes, bytes]:
    """State bytes as (content, chain value).

    Raises:
        ValueError: the state does not end in a chain member.
    """
    content, suffix = state[:-_SUFFIX_LENGTH], state[-_SUFFIX_LENGTH:]
    digits = suffix[len(_CHAIN_KEY) : -2]
    if not suffix.startswith(_CHAIN_KEY) or not suffix.endswith(b'"}') or digits != digits.lower():
        raise ValueError("no chain value at the end of the record")
    return content, bytes.fromhex(digits.decode("ascii"))


class Mapper:
    """Turns records into stored rows and back, the same both ways.

    Args:
        registry: the events, with their earlier forms.
    """

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._bodies: dict[str, msgspec.json.Decoder[Event]] = {}  # made when first needed: a log has few of the topics
        self._old_body = msgspec.json.Decoder(dict[str, Any])
        self._envelope = msgspec.json.Decoder(_Envelope)
        self._encoder = msgspec.json.Encoder()

    def to_stored(self, recorded: Recorded, previous: bytes) -> tuple[StoredEvent, bytes]:
        """The row for `recorded` after the record whose chain value is `previous`, and the row's own chain value.

        Raises:
            UnknownTopic: the event's class is not the one registered for its topic.
            NotRecordable: the record would not read back equal.
        """
        event = recorded.event
        topic = event.topic
        if self.registry.get(topic) is not type(event):
            raise UnknownTopic(topic, stream=recorded.stream)
        try:
            state = self._encoder.encode(_content(recorded))
            content = state[:-1]
            chain = link(previous, recorded.stream, recorded.version, topic, content)
            stored = StoredEvent(
                originator_id=recorded.stream,
                originator_version=recorded.version,
                topic=topic,
                state=b'%s%s%s"}' % (content, _CHAIN_KEY, chain.hex().encode()),
            )
            read_back = self.to_recorded(stored, 0)
        except (TypeError, ValueError, CorruptEvent) as error:
            raise NotRecordable(f"{topic} in stream {recorded.stream!r}: {error}") from error
        if read_back != recorded:
            raise NotRecordable(
                f"{topic} in stream {recorded.stream!r}: reads back as {read_back.event!r}, not {event!r}"
            )
        return stored, chain

    def to_recorded(self, stored: StoredEvent, position: int) -> Recorded:
        """The record that a row holds; superseded bodies come back as the current version's event.

        Args:
            stored: the row.
            position: its place in the log, for the error.

        Raises:
            UnknownTopic: no event has or had it.
            CorruptEvent: the row cannot be read.
        """
        stream, topic = stored.originator_id, stored.topic
        if not (isinstance(stream, str) and _has_column_types(stored)):
            raise CorruptEvent(position, str(stream), "a column has the wrong type")
        try:
            envelope = self._envelope.decode(stored.state)
            return Recorded(
                stream=stream,
                version=stored.originator_version,
                at=envelope.at,
                causation=envelope.cause,
                correlation=envelope.corr,
                event=self.to_event(topic, envelope.body, position, stream),
                input_json=bytes(envelope.input),
            )
        except NOT_READABLE as error:
            raise CorruptEvent(position, stream, str(error)) from error

    def to_event(self, topic: str, body: bytes | msgspec.Raw, position: int, stream: str) -> Event:
        """The event of a topic, current or superseded, from its body.

        Raises:
            UnknownTopic: no event has or had it.
            msgspec.DecodeError: the body does not fit.
        """
        decoder = self._bodies.get(topic)
        if decoder is None:
            kind = self.registry.get(topic)
            if kind is None:
                return self._upcast(topic, body, position, stream)
            decoder = self._bodies[topic] = msgspec.json.Decoder(kind)
        return decoder.decode(body)

    def follows(self, previous: bytes | None, stored: StoredEvent, position: int) -> bytes:
        """The row's chain value, after checking that it follows `previous` (None = its predecessor is not at hand).

        Raises:
            CorruptEvent: the row, or what was before it, is not what was written.
        """
        stream = str(stored.originator_id)
        try:
            content, chain = split_state(stored.state)
            fits = previous is None or chain == link(previous, stream, stored.originator_version, stored.topic, content)
        except (ValueError, TypeError, AttributeError) as error:
            raise CorruptEvent(position, stream, str(error)) from error
        if not fits:
            raise CorruptEvent(position, stream, "the hash chain is broken here")
        return chain

    def current(self, stored: StoredEvent, position: int) -> tuple[str, bytes]:
        """Topic and body (JSON) of a row in today's form; where it was written in that, the very bytes.

        Raises:
            UnknownTopic, CorruptEvent: as for `to_recorded`.
        """
        if stored.topic in self.registry:
            try:
                return stored.topic, bytes(self._envelope.decode(stored.state).body)
            except NOT_READABLE as error:
                raise CorruptEvent(position, str(stored.originator_id), str(error)) from error
        event = self.to_recorded(stored, position).event
        return event.topic, self._encoder.encode(event)

    def says(self, stored: StoredEvent, text: str, position: int) -> bool:
        """Whether the body of a row, in today's form, has this text; raises as `current`."""
        wanted = text.encode()
        if stored.topic in self.registry and wanted not in stored.state:
            return False
        return wanted in self.current(stored, position)[1]

    def _upcast(self, topic: str, body: bytes | msgspec.Raw, position: int, stream: str) -> Event:
        form = self.registry.superseded.get(topic)
        if form is None:
            raise UnknownTopic(topic, position, stream)
        try:
            return msgspec.convert(form.upcast(self._old_body.decode(body)), form.event)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise msgspec.ValidationError(f"{topic} cannot be read as {form.event.topic}: {error!r}") from error


def _content(recorded: Recorded) -> _Content | _Turn:
    content = (recorded.at, recorded.causation, recorded.correlation, recorded.event)
    return _Turn(*content, msgspec.Raw(recorded.input_json)) if recorded.input_json else _Content(*content)


def _has_column_types(stored: StoredEvent) -> bool:
    """Whether the columns hold what their types say; a damaged file yields any types."""
    columns: tuple[Any, ...] = (stored.originator_version, stored.topic, stored.state)
    return tuple(map(type, columns)) == (int, str, bytes)
