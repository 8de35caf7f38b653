"""A redacted session says nothing that people wrote, and is decided the same all the same."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaybroker.domain import inputs
from relaybroker.domain.broker import Broker
from relaybroker.domain.turn import Decision
from relaybroker.replay.exporting import export
from relaybroker.replay.playing import Player
from relaybroker.replay.redaction import Redactor, redact
from relaybroker.replay.session import SessionError, open_session
from tests.unit.replay.conftest import reopened, session_bytes

SESSIONS = Path(__file__).parents[3] / "fixtures" / "sessions"
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
        events = [one.event for turn in reopened(session) for one in turn.events]
        return [event.body for event in events if event.topic == "delivery.offered.v1"]

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


@pytest.mark.parametrize("path", sorted(SESSIONS.glob("*.jsonl")), ids=lambda path: path.stem)
def test_every_recorded_session_is_decided_the_same_without_what_people_wrote(path):
    file = io.BytesIO()
    with open_session(path) as session:
        redact(session, file)
    assert Player(reopened(file.getvalue())).play().differences == []


def canaries(count):
    return [f"CANARY{number:03d}zq" for number in range(count)]


def strangely(words):
    """A frame's payload in which every member, known and unknown, holds a word that nobody knows."""
    known = "title code url status action type_name ticket_id event to cwd name reason key model"
    inner = {name: next(words) for name in known.split()}
    nested = [{"list": [next(words), {next(words): next(words)}]}]
    inner |= {
        next(words): 1,
        "nested": nested,
        "with space": f"a {next(words)} b",
        "agent_name": next(words),
        "text": next(words),
    }
    return {"type": "message.created", "data": {"id": "M9", "agent_id": "55"} | inner}


def test_a_word_that_nobody_knows_is_nowhere_whatever_holds_it(world):
    """An allow-list by construction: members, keys, reasons, frames and errors of which this test has never heard before."""
    given = canaries(80)
    words = iter(given)
    spec = inputs.SpawnSpec(
        name="w7",
        cli=f"bash -c 'exec cat #{next(words)}'",
        args=(f"--key={next(words)}", f"x {next(words)}"),
        cwd=f"/home/{next(words)}",
        task=next(words),
        channels=(next(words),),
        team=next(words),
        env={next(words): next(words)},
    )
    world.tell(inputs.SpawnRequested(request_id="r1", spec=spec))
    ids = {"agent_id": world.agent_ids["w1"], "delivery_id": "del_77", "msg_id": "M9"}
    deliver = {"type": "deliver", "agent": "w1", "seq": 40} | ids
    invoke = {"type": "action.invoke", "invocation_id": "inv_9", "action": next(words)}
    for frame in (
        deliver | {next(words): next(words), "payload": strangely(words)},
        {"type": next(words), "x": next(words)},
        {"type": "error", "id": "zz", "code": next(words), "message": f"no: {next(words)}"},
        {"type": "context.update", "event": "x", "data": {next(words): next(words)}, "agent_ids": []},
        invoke | {"input": {"q": next(words), "code": 987650123456789}},
    ):
        world.tell(inputs.FrameArrived(dial=1, frame={"v": 1} | frame))
    send = inputs.SendRequested(
        request_id="r2",
        to=f"#{next(words)}",
        text=next(words),
        sender=f"human:{next(words)}",
        key=next(words),
        attachments=(next(words),),
        data={"status": next(words), "phone": 5551234},
    )
    world.tell(send)
    world.tell(inputs.DeliveryModeRequested(request_id="r3", name="w1", mode="manual_flush", reason=next(words)))
    world.tell(inputs.ReleaseRequested(request_id="r4", name="w1", reason=f"because of {next(words)}"))
    written = session_bytes(world)
    used = given[: given.index(next(words))]
    after = redacted(written)
    assert [word for word in used if word.encode() in after] == []
    assert b"987650123456789" not in after
    assert b"5551234" not in after
    assert sum(word.encode() in written for word in used) >= 40, "they were in the session"
    assert b'"w7"' in after, "agents that are started here keep their names"
    assert Player(reopened(after)).play().differences == []


def test_two_words_never_become_the_same_one_and_lists_of_names_stay_lists():
    redactor = Redactor()
    names = [f"{first}{second}" for first in "abcdefgh" for second in "ABCDEFGH"] + list("qwertzuiop")
    placeholders = [redactor.words(name) for name in names]
    assert len(set(placeholders)) == len(names)
    assert redactor.words("qA:aA/#bB") == f"{redactor.words('qA')}:{redactor.words('aA')}/#{redactor.words('bB')}"


_LEAVES = st.none() | st.booleans() | st.integers() | st.text()


@given(st.recursive(_LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_any_value_is_redacted_to_a_value_of_its_shape(value):
    placeholder = Redactor().value(value, ours=False)
    assert type(placeholder) is type(value)
