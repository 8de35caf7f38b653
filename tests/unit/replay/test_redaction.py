"""A redacted session says nothing that people wrote, and is decided the same all the same."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaybroker.domain import inputs
from relaybroker.domain.broker import Broker
from relaybroker.domain.turn import Decision
from relaybroker.replay.exporting import export
from relaybroker.replay.playing import Player
from relaybroker.replay.redaction import Redactor, redact
from relaybroker.replay.session import SessionError
from tests.unit.replay.conftest import reopened, session_bytes

WRITTEN = (b"garden", b"roses", b"sp\xc3\xa4te", b"tulips", b"hesitation")


def redacted(written: bytes) -> bytes:
    file = io.BytesIO()
    redact(reopened(written), file)
    return file.getvalue()


def test_no_body_is_left_and_every_decision_is_the_same(world, written):
    after = redacted(written)
    assert all(word in written and word not in after for word in WRITTEN)
    outcome = Player(reopened(after)).play()
    assert outcome.differences == []
    assert [one.event.topic for one in world.log] == [
        one.event.topic for turn in reopened(after) for one in turn.events
    ]
    assert reopened(after).header.redacted


def test_the_same_body_becomes_the_same_placeholder_and_another_file_has_another(world, written):
    def bodies(session: bytes) -> list[str]:
        found = [one.event for turn in reopened(session) for one in turn.events]
        return [event.body for event in found if event.topic == "delivery.offered.v1"]

    before, after = bodies(written), bodies(redacted(written))
    assert [len(body) for body in before] == [len(body) for body in after]
    assert [before.index(body) for body in before] == [after.index(body) for body in after]
    assert bodies(redacted(written)) != after


def test_a_session_that_begins_later_is_redacted_with_its_state(world, log):
    held = next(
        one for one in world.log if one.event.topic == "delivery.injecting.v1" and "hesitation" in one.event.text
    )
    file = io.BytesIO()
    export(log, file, first=held.version + 2)
    assert b"hesitation" in file.getvalue()
    after = redacted(file.getvalue())
    assert not any(word in after for word in WRITTEN)
    assert Player(reopened(after)).play().differences == []


def test_a_session_that_is_decided_otherwise_now_is_not_redacted(written, monkeypatch):
    monkeypatch.setattr(Broker, "on_time", lambda self, now: Decision([], []))
    with pytest.raises(SessionError) as caught:
        redacted(written)
    assert caught.value.code == "not_replayable"


@given(st.text())
def test_a_placeholder_has_the_length_the_lines_and_the_bytes_of_the_text(text):
    redactor = Redactor()
    placeholder = redactor.text(text)
    assert placeholder == redactor.text(text)
    assert [len(line) for line in placeholder.split("\n")] == [len(line) for line in text.split("\n")]
    assert len(placeholder.encode("utf-8", "surrogatepass")) == len(text.encode("utf-8", "surrogatepass"))


def test_what_local_callers_and_programs_say_goes_too(world):
    world.tell(
        inputs.SendRequested(request_id="r1", to="#general", text="the cellar key is under the mat", data={"x": "mat"})
    )
    world.tell(
        inputs.SpawnRequested(
            request_id="r2",
            spec=inputs.SpawnSpec(name="w2", cli="cat", args=("-u", "tell me all"), env={"MOTTO": "carpe diem"}),
        )
    )
    written = session_bytes(world)
    after = redacted(written)
    for word in (b"cellar", b'"mat"', b"tell me", b"carpe"):
        assert word in written
        assert word not in after
    assert b'"-u"' in after
