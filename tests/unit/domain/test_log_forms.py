"""Whatever any version has written into a log is read by this one: pinned forms, and an upcast for each that was superseded.

The lines of fixtures/log/forms.jsonl are never changed. A line whose topic is superseded gets a `becomes`: the event that its upcasts
make of it, with topic and body, written down by hand.
"""

from __future__ import annotations

import json
from typing import ClassVar

import msgspec
import pytest

from relaybroker.adapters.eventstore.errors import UnknownTopic
from relaybroker.adapters.eventstore.mapper import Mapper
from relaybroker.domain import recorded_input
from relaybroker.domain.events import REGISTRY, Earlier, Event, Registry
from tests.pin_log_forms import current, fields, kept, missing

MAPPER = Mapper(REGISTRY)
FORMS = kept()


def name_of(form):
    return form.get("topic") or form["input"]["type"]


def read(form, mapper=MAPPER):
    """What this version makes of a pinned form."""
    if "input" in form:
        return {"input": plain(recorded_input.decode(json.dumps(form["input"]).encode()))}
    event = mapper.to_event(form["topic"], json.dumps(form["body"]).encode(), 1, "test")
    return {"topic": event.topic, "body": plain(event)}


def plain(value):
    return json.loads(msgspec.json.encode(value))


def lost(form, mapper=MAPPER):
    """What a form says and this version does not read; for a superseded one, how what is read differs from what it must become."""
    decoded = read(form, mapper)
    if form.get("topic") in mapper.registry.superseded:
        return decoded != form["becomes"]
    return fields(form) - fields(decoded) or {
        key: value for key, value in form.get("body", {}).items() if not says(decoded["body"][key], value)
    }


def says(decoded, pinned):
    """Whether what is read has everything that the form says, and perhaps fields of its own that came later."""
    if isinstance(decoded, dict) and isinstance(pinned, dict):
        return all(key in decoded and says(decoded[key], value) for key, value in pinned.items())
    return decoded == pinned


@pytest.mark.parametrize("form", FORMS, ids=name_of)
def test_every_form_that_was_ever_written_is_read_whole(form):
    assert not lost(form)


def test_every_field_of_every_event_and_input_is_pinned():
    assert missing() == [], "run: python -m tests.pin_log_forms"
    assert {name_of(form) for form in current()} <= {name_of(form) for form in FORMS}


class Noted(Event, frozen=True, kw_only=True):
    topic: ClassVar[str] = "pretended.noted.v1"
    machine: ClassVar[str] = "pretended"
    reason: str
    until: float


class NotedOtherwise(Event, frozen=True, kw_only=True):
    """The same topic with a field renamed, as it must not be changed."""

    topic: ClassVar[str] = Noted.topic
    machine: ClassVar[str] = "pretended"
    why: str = ""
    until: float


class NotedAgain(Event, frozen=True, kw_only=True):
    """A new version that does not say what it was."""

    topic: ClassVar[str] = "pretended.noted.v2"
    machine: ClassVar[str] = "pretended"
    why: str
    until: float


class NotedOn(NotedAgain, frozen=True, kw_only=True):
    """One that does."""

    earlier: ClassVar[tuple[Earlier, ...]] = (
        Earlier(Noted.topic, lambda body: {"why": body["reason"], "until": body["until"]}),
    )


FORM = {"topic": Noted.topic, "body": {"reason": "text", "until": 1.5}}


def mapper_of(event):
    return Mapper(Registry([event]))


def test_a_form_is_read_whole_by_the_version_that_wrote_it():
    assert not lost(FORM, mapper_of(Noted))


def test_a_renamed_field_of_the_same_version_is_found():
    assert lost(FORM, mapper_of(NotedOtherwise)) == {"pretended.noted.v1.reason"}


def test_a_new_version_that_does_not_say_what_it_was_is_found():
    with pytest.raises(UnknownTopic):
        read(FORM, mapper_of(NotedAgain))


def test_a_new_version_that_says_what_it_was_is_read_as_what_it_becomes():
    mapper = mapper_of(NotedOn)
    assert not lost(FORM | {"becomes": {"topic": NotedOn.topic, "body": {"why": "text", "until": 1.5}}}, mapper)
    assert lost(FORM | {"becomes": {"topic": NotedOn.topic, "body": {"why": "other", "until": 1.5}}}, mapper)
    with pytest.raises(KeyError, match="becomes"):
        lost(FORM, mapper)
