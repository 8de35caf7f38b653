"""The file: what is written is read, and what cannot be used is refused with a code."""

from __future__ import annotations

import io
import json

import msgspec
import pytest

from relaybroker.domain import state as domain_state
from relaybroker.domain.recorded_input import TimePassed
from relaybroker.replay.exporting import export
from relaybroker.replay.playing import Player
from relaybroker.replay.session import CODES, SessionError, open_session
from relaybroker.replay.turns import turns_of
from tests.log_at_hand import LogAtHand
from tests.unit.replay.conftest import reopened


def refusal(written: bytes) -> SessionError:
    with pytest.raises(SessionError) as caught:
        list(reopened(written))
    assert str(caught.value).startswith(f"[{caught.value.code}]")
    assert CODES[caught.value.code] in str(caught.value)
    return caught.value


def changed_line(written: bytes, number: int, **members) -> bytes:
    lines = written.splitlines(keepends=True)
    lines[number] = json.dumps(json.loads(lines[number]) | members).encode() + b"\n"
    return b"".join(lines)


def test_what_is_written_is_read_again(world, written):
    session = reopened(written)
    turns = list(session)
    assert [recorded for turn in turns for recorded in turn.events] == world.log
    assert session.end is not None
    assert (session.end.turns, session.end.last) == (len(turns), len(world.log))


def test_every_turn_has_the_input_that_began_it_or_time(world):
    turns = list(turns_of(world.log))
    assert [type(turn.input()).__name__ for turn in turns][:4] == [
        "BrokerStarted",
        "HostAttached",
        "LinkOpened",
        "FrameArrived",
    ]
    assert any(isinstance(turn.input(), TimePassed) for turn in turns)
    assert all(turn.input_json for turn in turns)
    assert all(not recorded.input_json for turn in turns for recorded in turn.events[1:])


def bare(state):
    return msgspec.structs.replace(state, announcements=[])


def exported(log, **options) -> bytes:
    file = io.BytesIO()
    export(log, file, **options)
    return file.getvalue()


def test_a_session_of_a_whole_log_is_the_log(world, log):
    assert [one for turn in reopened(exported(log)) for one in turn.events] == world.log


def test_a_session_that_begins_later_has_the_state_there_and_plays_the_same(world, log):
    outcome = Player(reopened(exported(log, first=len(world.log) // 2))).play()
    assert outcome.differences == []
    assert bare(outcome.state) == bare(world.fold())


@pytest.mark.parametrize("first", [1, 2, 17, 50])
def test_a_range_is_widened_to_whole_turns(world, log, first):
    turns = list(reopened(exported(log, first=first, last=first + 20)))
    assert turns[0].first <= first
    assert turns[-1].last >= first + 20
    assert [turn.events[0].causation for turn in turns] == [turn.events[0].event_id for turn in turns]


@pytest.mark.parametrize(("first", "last"), [(5, 4), (1, 10**6), (10**6, None)])
def test_a_range_that_the_log_does_not_have_is_refused(log, first, last):
    with pytest.raises(SessionError) as caught:
        exported(log, first=first, last=last)
    assert caught.value.code == "no_such_position"


def test_a_log_of_a_version_that_kept_no_inputs_cannot_be_exported(world):
    old = [msgspec.structs.replace(one, input_json=b"") for one in world.log]
    with pytest.raises(SessionError) as caught:
        export(LogAtHand(old), io.BytesIO())
    assert caught.value.code == "no_inputs"


def test_a_session_that_was_cut_off_is_read_as_far_as_it_goes(written):
    whole = list(reopened(written))
    last_line = written.rstrip(b"\n").rindex(b"\n") + 1
    for cut in (last_line, last_line + 5, last_line - 5):
        session = reopened(written[:cut])
        turns = list(session)
        assert session.end is None
        assert len(whole) - 1 <= len(turns) <= len(whole)
        assert [turn.events for turn in turns] == [turn.events for turn in whole[: len(turns)]]


def test_a_file_that_is_not_there_is_said_so(tmp_path):
    with pytest.raises(SessionError) as caught:
        open_session(tmp_path / "none")
    assert caught.value.code == "not_found"


@pytest.mark.parametrize("content", [b"", b"hello\n", b"{}\n", b'{"session":1}\n', b"[1]\n"])
def test_what_has_no_header_is_no_session(content):
    assert refusal(content).code == "not_a_session"


def test_a_newer_format_is_refused(written):
    assert refusal(changed_line(written, 0, session=2)).code == "newer_format"


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"events": []}, "bad_line"),
        ({"events": [{"stream": "a", "topic": "link.online.v1", "body": {}}]}, "bad_line"),
        ({"events": [{"stream": "a", "topic": "link.sung.v1", "body": {}}]}, "unknown_topic"),
        ({"at": -1.0}, "out_of_order"),
        ({"at": "noon"}, "bad_line"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(written, members, code):
    error = refusal(changed_line(written, 4, **members))
    assert (error.code, error.line) == (code, 5)


def test_a_broken_line_in_the_middle_is_no_cut(written):
    lines = written.splitlines(keepends=True)
    lines[3] = lines[3][:40] + b"\n"
    error = refusal(b"".join(lines))
    assert (error.code, error.line) == ("bad_line", 4)


def test_turns_that_are_missing_are_noticed_at_the_end(written):
    lines = written.splitlines(keepends=True)
    del lines[-2]
    assert refusal(b"".join(lines)).code == "out_of_order"


def test_nothing_follows_the_last_line(written):
    lines = written.splitlines(keepends=True)
    assert refusal(b"".join([*lines, lines[-2]])).code == "bad_line"


def test_an_input_of_another_version_is_named(written):
    with pytest.raises(SessionError) as caught:
        Player(reopened(changed_line(written, 3, input={"type": "Sung"}))).play()
    assert (caught.value.code, caught.value.line) == ("unknown_input", 4)


def test_a_state_of_another_version_is_refused(log, monkeypatch):
    later = exported(log, first=40)
    monkeypatch.setattr(domain_state, "SNAPSHOT_FORMAT", domain_state.SNAPSHOT_FORMAT + 1)
    with pytest.raises(SessionError) as caught:
        Player(reopened(later))
    assert caught.value.code == "old_state"
