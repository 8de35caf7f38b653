"""Records to rows and back: topics, upcasting, refusals, and the chain's links."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import msgspec
import pytest

from relaybroker.adapters.eventstore.errors import CorruptEvent, NotRecordable, UnknownTopic
from relaybroker.adapters.eventstore.mapper import CHAIN_BYTES, GENESIS, Mapper, link, split_state
from relaybroker.domain.events import Earlier, Event, Recorded, Registry


class NoteTaken(Event):
    topic: ClassVar[str] = "test.note_taken.v3"
    earlier: ClassVar[tuple[Earlier, ...]] = (
        Earlier("test.note_taken.v1", lambda body: {"text": body["words"]}),
        Earlier("test.note_taken.v2", lambda body: {**body, "tags": ["old"]}),
    )
    machine: ClassVar[str] = "test"
    text: str
    tags: tuple[str, ...] = ()


class Impostor(Event):
    topic: ClassVar[str] = "test.note_taken.v3"
    machine: ClassVar[str] = "test"
    text: str


REGISTRY = Registry([NoteTaken])


@pytest.fixture
def mapper():
    return Mapper(REGISTRY)


def taken(event, version=1):
    return Recorded(stream="test:1", version=version, at=2.0, causation="test:1@1", correlation="m", event=event)


def test_a_record_is_stored_under_its_topic_as_json_that_ends_in_its_chain_value(mapper):
    stored, chain = mapper.to_stored(taken(NoteTaken(text="hi")), GENESIS)
    assert (stored.originator_id, stored.originator_version, stored.topic) == ("test:1", 1, "test.note_taken.v3")
    assert msgspec.json.decode(stored.state) == {
        "at": 2.0,
        "cause": "test:1@1",
        "corr": "m",
        "body": {"text": "hi"},
        "chain": chain.hex(),
    }
    assert split_state(stored.state)[1] == chain
    assert len(chain) == CHAIN_BYTES


def test_a_stored_record_reads_back_equal(mapper):
    record = taken(NoteTaken(text='quote " brace } null \x00 snow ☃', tags=("a", "b")))
    stored, _ = mapper.to_stored(record, GENESIS)
    assert mapper.to_recorded(stored, 1) == record


def test_a_topic_nobody_registered_is_not_written(mapper):
    class Stranger(Event):
        topic: ClassVar[str] = "test.stranger.v1"

    with pytest.raises(UnknownTopic, match=r"test\.stranger\.v1"):
        mapper.to_stored(taken(Stranger()), GENESIS)


def test_another_class_under_a_registered_topic_is_not_written(mapper):
    with pytest.raises(UnknownTopic):
        mapper.to_stored(taken(Impostor(text="x")), GENESIS)


def test_an_unknown_topic_is_refused_when_read_and_its_place_is_named(mapper):
    stored, _ = mapper.to_stored(taken(NoteTaken(text="hi")), GENESIS)
    with pytest.raises(UnknownTopic, match=r"position 7.*test:1.*test\.later\.v9"):
        mapper.to_recorded(dataclasses.replace(stored, topic="test.later.v9"), 7)


def test_a_superseded_body_is_read_through_every_upcaster_up_to_the_current_version(mapper):
    state = b'{"at":1.0,"cause":"","corr":"","body":{"words":"old text"},"chain":"%s"}' % (b"0" * 32)
    stored, _ = mapper.to_stored(taken(NoteTaken(text="x")), GENESIS)
    old = dataclasses.replace(stored, topic="test.note_taken.v1", state=state)
    assert mapper.to_recorded(old, 1).event == NoteTaken(text="old text", tags=("old",))


def test_an_earlier_body_that_its_upcast_cannot_take_is_a_damaged_record_and_no_traceback(mapper):
    state = b'{"at":1.0,"cause":"","corr":"","body":{"sentence":"x"},"chain":"%s"}' % (b"0" * 32)
    stored, _ = mapper.to_stored(taken(NoteTaken(text="x")), GENESIS)
    with pytest.raises(CorruptEvent, match=r"position 7.*test\.note_taken\.v1 cannot be read as test\.note_taken\.v3"):
        mapper.to_recorded(dataclasses.replace(stored, topic="test.note_taken.v1", state=state), 7)


def test_a_record_is_given_in_todays_form_whatever_form_it_was_written_in(mapper):
    stored, _ = mapper.to_stored(taken(NoteTaken(text="x")), GENESIS)
    assert mapper.current(stored, 1) == ("test.note_taken.v3", b'{"text":"x"}')
    state = b'{"at":1.0,"cause":"","corr":"","body":{"words":"old"},"chain":"%s"}' % (b"0" * 32)
    old = dataclasses.replace(stored, topic="test.note_taken.v1", state=state)
    assert mapper.current(old, 1) == ("test.note_taken.v3", b'{"text":"old","tags":["old"]}')
    assert mapper.says(old, '"tags":["old"]', 1)
    assert not mapper.says(old, "words", 1)


def forms(topic, *earlier):
    class Formed(Event):
        machine: ClassVar[str] = "test"

    Formed.topic, Formed.earlier = topic, tuple(Earlier(name, dict) for name in earlier)
    return Formed


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        (forms("a.v2", "a.v1"), forms("a.v1"), "both current and superseded"),
        (forms("a.v2", "a.v1"), forms("b.v2", "a.v1"), "two events were once"),
        (forms("a.v1"), forms("a.v1"), "two events with topic"),
        (forms("a.v1", "a.v1"), forms("b.v1"), "both current and superseded"),
    ],
)
def test_a_topic_is_one_form_of_one_event(one, other, message):
    with pytest.raises(TypeError, match=message):
        Registry([one, other])


@pytest.mark.parametrize(
    "event",
    [
        NoteTaken(text=5),  # type: ignore[arg-type]
        NoteTaken(text="x", tags=["a list"]),  # type: ignore[arg-type]
        NoteTaken(text="lone surrogate \ud800"),
        NoteTaken(text=object()),  # type: ignore[arg-type]
    ],
)
def test_what_would_not_read_back_equal_is_not_written(mapper, event):
    """msgspec checks types only when it reads: without this check one bad event would make every later start refuse."""
    with pytest.raises(NotRecordable, match=r"test\.note_taken\.v3"):
        mapper.to_stored(taken(event), GENESIS)


def test_a_time_that_is_not_a_number_is_not_written(mapper):
    record = msgspec.structs.replace(taken(NoteTaken(text="x")), at=float("nan"))
    with pytest.raises(NotRecordable):
        mapper.to_stored(record, GENESIS)


@pytest.mark.parametrize(
    "state",
    [b"", b"{", b"[]", b'{"at":1}', b'{"at":1.0,"cause":"","corr":"","body":{"text":1},"chain":""}', b"\xff\xfe"],
)
def test_an_unreadable_state_is_refused_with_position_stream_and_reason(mapper, state):
    stored, _ = mapper.to_stored(taken(NoteTaken(text="x")), GENESIS)
    with pytest.raises(CorruptEvent, match=r"log position 12: stream 'test:1': .+") as caught:
        mapper.to_recorded(dataclasses.replace(stored, state=state), 12)
    assert (caught.value.position, caught.value.stream) == (12, "test:1")


@pytest.mark.parametrize("column", ["originator_version", "topic", "state", "originator_id"])
def test_a_column_of_another_type_is_corrupt(mapper, column):
    stored, _ = mapper.to_stored(taken(NoteTaken(text="x")), GENESIS)
    with pytest.raises(CorruptEvent):
        mapper.to_recorded(dataclasses.replace(stored, **{column: None}), 1)


def test_a_link_depends_on_every_part_of_a_record_and_on_the_one_before():
    base = link(GENESIS, "a", 1, "t", b"{}")
    others = [
        link(b"\x01" * 16, "a", 1, "t", b"{}"),
        link(GENESIS, "b", 1, "t", b"{}"),
        link(GENESIS, "a", 2, "t", b"{}"),
        link(GENESIS, "a", 1, "u", b"{}"),
        link(GENESIS, "a", 1, "t", b"{ "),
        link(GENESIS, "a 1", 1, "t", b"{}"),
        link(GENESIS, "a", 11, "t", b"{}"),
    ]
    assert len({base, *others}) == len(others) + 1


def test_a_row_that_does_not_follow_its_predecessor_is_refused(mapper):
    first, chain = mapper.to_stored(taken(NoteTaken(text="1"), 1), GENESIS)
    second, _ = mapper.to_stored(taken(NoteTaken(text="2"), 2), chain)
    assert mapper.follows(mapper.follows(GENESIS, first, 1), second, 2)
    with pytest.raises(CorruptEvent, match=r"position 2.*hash chain"):
        mapper.follows(GENESIS, second, 2)
    with pytest.raises(CorruptEvent, match="hash chain"):
        mapper.follows(chain, dataclasses.replace(second, originator_version=3), 2)
    assert mapper.follows(None, second, 2) == split_state(second.state)[1]


@pytest.mark.parametrize("state", [b"", b"{}", b"x" * 100, b'{"chain":"' + b"0" * 31 + b'g"}', None])
def test_a_row_without_a_chain_value_is_refused(mapper, state):
    stored, _ = mapper.to_stored(taken(NoteTaken(text="x")), GENESIS)
    with pytest.raises(CorruptEvent):
        mapper.follows(GENESIS, dataclasses.replace(stored, state=state), 1)
