"""Which streams of the log an identifier means.

An identifier may be a message id, a delivery id, `agent@seq`, an invocation id, a local event id (`http_…`, `init_…`), an agent name, a
node id or `node`, the name of a stream, or a prefix of an id that fits only one. Every question is answered from an index, whatever the
length of the log.

Source: spec/architecture.md section 8; user requirements U01, U02 (failure-scenarios.md section 4).
"""

from __future__ import annotations

from typing import NamedTuple

from relaybroker.adapters.eventstore.fields import attribute
from relaybroker.adapters.eventstore.lookup import IS_OFFER, LOG, MESSAGE_ID, NAMES_MESSAGE, OFFERED_SEQ, OFFERED_TO
from relaybroker.adapters.eventstore.reader import LAST_POSITION, LogReader
from relaybroker.domain import events
from relaybroker.domain.decoding import is_text
from relaybroker.domain.events import REGISTRY

SHORTEST_PREFIX = 4
"""Characters of an id that are enough when they fit only one."""

CHOICES = 8
"""So many of the ids that an ambiguous prefix may mean are named."""

STORIES = 50
"""An identifier that means more than this (a message to a large channel) is told by its first ones."""

_NAMED_STREAMS = ("delivery:", "action:", "message:", "agent:", "node:", "worker:")
_SHARED = ("mailbox:", "node:")
_DIGITS = len(str(LAST_POSITION))
_LAST = "\U0010ffff"
_OFFERS = (events.DeliveryOffered,)
_OF_MAILBOXES = tuple(event for event in REGISTRY.values() if event.machine == "mailbox")
_OF_AGENTS = tuple(event for event in REGISTRY.values() if event.machine == "agent")


class NotFoundError(Exception):
    """Nothing in the log has this id."""


class AmbiguousError(Exception):
    """A prefix that fits several ids; `choices` are some of them."""

    def __init__(self, choices: list[str]) -> None:
        super().__init__(", ".join(choices))
        self.choices = choices


class Subject(NamedTuple):
    """A stream that an identifier means.

    `positions` are those of what concerns it, where the stream is shared (a mailbox); `later` the streams of the further attempts of a
    delivery, oldest first.
    """

    stream: str
    positions: tuple[int, ...] = ()
    later: tuple[str, ...] = ()


def find(log: LogReader, wanted: str) -> tuple[str, list[Subject]]:
    """The full identifier, and what it means, oldest first.

    Raises:
        NotFoundError: the log does not know the id.
        AmbiguousError: a prefix that means several things.
    """
    if not (wanted and is_text(wanted)):
        raise NotFoundError(wanted)
    subjects = _exact(log, wanted)
    if not subjects and len(wanted) >= SHORTEST_PREFIX:
        choices = _begin_so(log, wanted)
        if len(choices) > 1:
            raise AmbiguousError(choices[:CHOICES])
        if choices:
            wanted = choices[0]
            subjects = _exact(log, wanted)
    if not subjects:
        raise NotFoundError(wanted)
    return wanted, list(dict.fromkeys(_whole(log, subject) for subject in subjects[:STORIES]))


def _exact(log: LogReader, wanted: str) -> list[Subject]:
    return _deliveries(log, wanted) or _of_message(log, wanted) or _numbered(log, wanted) or _of_name(log, wanted)


def _deliveries(log: LogReader, wanted: str) -> list[Subject]:
    """Every attempt of the delivery with this id; an invocation or a local message."""
    attempts = [*streams(log, f"delivery:{wanted}", exact=True), *streams(log, f"delivery:{wanted}#")]
    if attempts:
        return attempts
    exact = (f"action:{wanted}", f"message:{wanted}", wanted if wanted.startswith(_NAMED_STREAMS) else "")
    named = [subject for name in exact if name for subject in streams(log, name, exact=True)]
    return [*named, *_of_message(log, wanted)] if f"message:{wanted}" in {one.stream for one in named} else named


def _whole(log: LogReader, subject: Subject) -> Subject:
    """A delivery with all of its attempts, whichever of them was found."""
    if not subject.stream.startswith("delivery:"):
        return subject
    first = subject.stream.partition("#")[0]
    offers = log.query(
        f"SELECT originator_id AS stream, {attribute('delivery_id', _OFFERS)} AS delivery_id, {attribute('agent_id', _OFFERS)} AS agent_id "
        f"FROM {LOG} WHERE {IS_OFFER} AND (originator_id = ? OR (originator_id >= ? AND originator_id < ?)) ORDER BY position",
        (first, f"{first}#", f"{first}#{_LAST}"),
    )
    whose = {offer["stream"]: (offer["delivery_id"], offer["agent_id"]) for offer in offers}
    stream, *later = (attempt for attempt in whose if whose[attempt] == whose[subject.stream])
    return Subject(stream, later=tuple(later))


def _of_message(log: LogReader, wanted: str) -> list[Subject]:
    by_stream = _named(log, wanted)
    for event_id in [stream.removeprefix("message:") for stream in by_stream if stream.startswith("message:")]:
        by_stream |= _named(log, event_id)  # what its recipient was given before the engine had it
    # A frame of which a delivery came is told with the delivery, and what the engine said of a message with the message.
    own = [Subject(stream) for stream in by_stream if not stream.startswith(_SHARED)]
    return own or [Subject(stream, tuple(positions)) for stream, positions in by_stream.items()]


def _named(log: LogReader, message_id: str) -> dict[str, list[int]]:
    """Streams whose events name a message by this id, with their positions."""
    rows = log.query(
        f"SELECT position, originator_id AS stream FROM {LOG} WHERE {NAMES_MESSAGE} AND {MESSAGE_ID} = ? ORDER BY position",
        (message_id,),
    )
    by_stream: dict[str, list[int]] = {}
    for row in rows:
        by_stream.setdefault(row["stream"], []).append(row["position"])
    return by_stream


def deliveries_of(log: LogReader, message_id: str) -> list[Subject]:
    """Every delivery of a message to an agent here, with all of its attempts."""
    subjects = [subject for subject in _of_message(log, message_id) if subject.stream.startswith("delivery:")]
    return list(dict.fromkeys(_whole(log, subject) for subject in subjects[:STORIES]))


def failures_of(log: LogReader, message_id: str) -> list[int]:
    """Positions at which the engine said that it could not deliver a message."""
    topic = events.DeliveryFailureHeard.topic
    query = f"SELECT position FROM {LOG} WHERE {NAMES_MESSAGE} AND {MESSAGE_ID} = ? AND topic = ? ORDER BY position"
    return [row["position"] for row in log.query(query, (message_id, topic))]


def _numbered(log: LogReader, wanted: str) -> list[Subject]:
    name, at, number = wanted.rpartition("@")
    if not (at and number.isascii() and number.isdecimal() and len(number) <= _DIGITS and int(number) <= LAST_POSITION):
        return []
    rows = log.query(
        f"SELECT DISTINCT originator_id AS stream FROM {LOG} WHERE {IS_OFFER} AND {OFFERED_TO} = ? AND {OFFERED_SEQ} = ?",
        (name, int(number)),
    )
    return [Subject(row["stream"]) for row in rows] or _numbered_frames(log, name, int(number))


def _numbered_frames(log: LogReader, name: str, seq: int) -> list[Subject]:
    """Frames with this number of an agent's mailbox of which no delivery came: ignored, waiting, never seen."""
    seqs, first, last = (attribute(name, _OF_MAILBOXES) for name in ("seq", "first", "last"))
    covers = f"{seqs} = :seq OR :seq BETWEEN {first} AND {last}"
    subjects = []
    for mailbox in _mailboxes(log, name):
        rows = log.query(
            f"SELECT position FROM {LOG} WHERE originator_id = :stream AND ({covers}) ORDER BY position",
            {"stream": mailbox, "seq": seq},
        )
        if rows:
            subjects.append(Subject(mailbox, tuple(row["position"] for row in rows)))
    return subjects


def _mailboxes(log: LogReader, name: str) -> list[str]:
    """Mailboxes of every agent id that the name has had."""
    query = f"SELECT DISTINCT {attribute('agent_id', _OF_AGENTS)} AS agent_id FROM {LOG} WHERE originator_id = ?"
    rows = [row for subject in streams(log, f"agent:{name}:") for row in log.query(query, (subject.stream,))]
    return [f"mailbox:{agent_id}" for agent_id in dict.fromkeys(row["agent_id"] for row in rows) if agent_id]


def _of_name(log: LogReader, wanted: str) -> list[Subject]:
    """The newest generation of an agent, or the node."""
    if (newest := newest_registration(log, wanted)) is not None:
        return [newest]
    if wanted == "node":
        return streams(log, "node:")
    return streams(log, f"node:{wanted}", exact=True)


def newest_registration(log: LogReader, name: str, upto: int | None = None) -> Subject | None:
    """The newest generation of an agent name that began at or before a position; None when there is none."""
    prefix = f"agent:{name}:"
    rows = log.query(
        f"SELECT originator_id AS stream, min(originator_version) AS began FROM {LOG} "
        "WHERE originator_id >= ? AND originator_id < ? GROUP BY originator_id HAVING began <= ? ORDER BY began DESC LIMIT 1",
        (prefix, prefix + _LAST, log.position if upto is None else upto),
    )
    return Subject(rows[0]["stream"]) if rows else None


def _begin_so(log: LogReader, wanted: str) -> list[str]:
    """Ids that begin so, at most one more than are named."""
    limit = CHOICES + 1
    rows = log.query(
        f"SELECT DISTINCT {MESSAGE_ID} AS id FROM {LOG} WHERE {NAMES_MESSAGE} AND {MESSAGE_ID} >= ? AND {MESSAGE_ID} < ? LIMIT ?",
        (wanted, wanted + _LAST, limit),
    )
    ids = dict.fromkeys(row["id"] for row in rows)
    for kind in ("delivery:", "action:", "message:", "agent:", "node:"):
        for subject in streams(log, kind + wanted, limit=limit):
            known = subject.stream.removeprefix(kind).partition("#")[0]
            ids[known.rpartition(":")[0] if kind == "agent:" else known] = None
    return sorted(ids)


def streams(log: LogReader, name: str, *, exact: bool = False, limit: int = STORIES) -> list[Subject]:
    """Streams of this name, or whose names begin so, in order; each is found by one step in the table's key."""
    if exact:
        rows = log.query(f"SELECT 1 FROM {LOG} WHERE originator_id = ? LIMIT 1", (name,))
        return [Subject(name)] if rows else []
    subjects: list[Subject] = []
    after = name
    while len(subjects) < limit:
        rows = log.query(
            f"SELECT originator_id AS stream FROM {LOG} WHERE originator_id >= ? AND originator_id < ? ORDER BY originator_id LIMIT 1",
            (after, name + _LAST),
        )
        if not rows:
            break
        stream = rows[0]["stream"]
        subjects.append(Subject(stream))
        after = stream + "\0"
    return subjects
