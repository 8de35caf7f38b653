"""The inbox of Claude Code: what is posted, what proves that it was taken, and what its records say afterwards."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest

from relaybroker.adapters.sessions import claude_inbox, rows
from relaybroker.adapters.sessions.claude_inbox import BURST, EVERY_S, ClaudeInbox, ClaudeInboxKind, Pace, options
from relaybroker.adapters.sessions.door import (
    Absent,
    Accepted,
    Evidence,
    NotHandedOver,
    Opened,
    PassedOver,
    Unknowable,
    message_id,
)
from relaybroker.adapters.sessions.kinds import Launch
from relaybroker.adapters.sessions.rows import Rows
from tests.unit.sessions.claude_peer import ClaudePeer, folded, user
from tests.waiting import WAIT_S

OURS = message_id("del_1")


@pytest.fixture
async def peer(tmp_path):
    peer = ClaudePeer(tmp_path)
    await peer.listen()
    yield peer
    await peer.die()


@pytest.fixture
def settings(peer):
    return options([], peer.notes)[1]


@pytest.fixture
async def door(peer, settings):
    peer.hook(settings, "SessionStart")
    door = ClaudeInbox(peer.notes)
    assert await door.open() == Opened(str(peer.notes))
    return door


async def handed(door, peer, *, steer=False):
    await door.hand_over("del_1", "hello", steer=steer)
    await asyncio.wait_for(peer.posted.wait(), WAIT_S)


async def evidence(door):
    return await asyncio.wait_for(door.evidence("del_1"), WAIT_S)


# --- start ------------------------------------------------------------------------------------------------------------


async def test_the_hooks_note_a_start_with_its_key_for_nobody_else(peer, settings):
    peer.hook(settings, "SessionStart")
    ((_, row),) = Rows(peer.notes).new()
    assert row["start"]["transcript_path"] == str(peer.transcript)
    assert (row["socket"], row["token"]) == (str(peer.socket), "a-token")
    assert stat.S_IMODE(peer.notes.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"version": "2.1.223"}, "older"),
        ({"peerProtocol": 2}, "speaks version 2"),
        ({"messagingSocketPath": "/elsewhere/1.sock"}, "names another inbox"),
    ],
)
async def test_what_is_not_as_it_was_seen_is_passed_over(peer, settings, entry, reason):
    peer.register(**entry)
    peer.hook(settings, "SessionStart")
    outcome = await asyncio.wait_for(ClaudeInbox(peer.notes).open(), WAIT_S)
    assert isinstance(outcome, PassedOver)
    assert reason in outcome.reason


@pytest.mark.parametrize(("socket", "reason"), [("", "no inbox"), ("/tmp/of-another-kind", "another place")])
async def test_a_session_without_inbox_is_passed_over(peer, settings, socket, reason):
    peer.hook(settings, "SessionStart", socket=socket)
    outcome = await asyncio.wait_for(ClaudeInbox(peer.notes).open(), WAIT_S)
    assert isinstance(outcome, PassedOver)
    assert reason in outcome.reason


async def test_the_program_is_started_with_the_hooks_before_its_own_options(tmp_path):
    launch = Launch("ws_1", ("nice", "claude", "--continue"), {}, "/", "claude", tmp_path / "doors" / "ws_1")
    started, door = await ClaudeInboxKind().prepare(launch)
    assert (*started.argv[:3], *started.argv[4:]) == ("nice", "claude", "--settings", "--continue")
    assert stat.S_IMODE(launch.folder.stat().st_mode) == 0o700
    assert door.state == "closed"


@pytest.mark.parametrize(
    ("argv", "profile"),
    [
        (("claude", "--settings", "{}"), "claude"),
        (("claude", "--settings={}"), "claude"),
        (("codex",), "codex"),
        (("start-it",), "claude"),
    ],
)
async def test_another_program_and_settings_of_its_own_are_passed_over(tmp_path, argv, profile):
    assert isinstance(await ClaudeInboxKind().prepare(Launch("ws_1", argv, {}, "/", profile, tmp_path)), PassedOver)


# --- hand-over and evidence -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("steer", "more"), [(False, {}), (True, {"priority": "now"})])
async def test_a_message_is_posted_with_the_key_and_our_id(door, peer, steer, more):
    await handed(door, peer, steer=steer)
    assert peer.frames == [
        {"type": "auth", "token": "a-token"},
        {"type": "user", "msgV": 1, "msg_id": OURS, "message": {"role": "user", "content": "hello"}} | more,
    ]


@pytest.mark.parametrize("taken", [user, folded])
async def test_the_row_with_our_id_is_the_evidence_and_the_pointer_leads_to_it(door, peer, taken):
    peer.shows({"type": "mode"}, user(message_id("del_0")))
    await handed(door, peer)
    peer.shows({"type": "queue-operation", "operation": "enqueue", "content": OURS}, taken(OURS))
    assert await evidence(door) == Evidence("transcript", f"{peer.transcript}:4")


async def test_rows_that_only_name_our_id_are_no_evidence(door, peer):
    await handed(door, peer)
    peer.shows(
        {"type": "assistant", "origin": {"msg_id": OURS}},
        {"type": "user", "message": {"content": f'"msg_id": "{OURS}"'}},
        {"type": "attachment", "attachment": {"type": "date", "origin": {"msg_id": OURS}}},
        user(message_id("del_2")),
        {"type": "user", "origin": "msg_id"},
    )
    peer.shows(user(OURS))
    assert await evidence(door) == Evidence("transcript", f"{peer.transcript}:6")


async def test_half_a_row_is_no_row(door, peer):
    await handed(door, peer)
    peer.shows(user(OURS), end="")
    assert not [row for _, row in Rows(peer.transcript).new()]
    peer.shows()
    assert await evidence(door) == Evidence("transcript", f"{peer.transcript}:1")


async def test_after_the_person_cleared_the_conversation_its_transcript_is_the_new_one(door, peer, settings):
    peer.shows({"type": "mode"})
    peer.session = "second"
    peer.hook(settings, "SessionStart")
    await handed(door, peer)
    peer.shows(user(OURS))
    assert await evidence(door) == Evidence("transcript", f"{peer.transcript}:1")


@pytest.mark.parametrize(
    ("status", "state"), [("idle", "idle"), ("busy", "busy"), ("waiting", "blocked"), ("new", "busy")]
)
async def test_its_registry_says_what_it_does(door, peer, status, state):
    peer.register(status=status)
    assert door.state == state


async def test_a_program_that_left_the_registry_is_closed(door, peer):
    peer.leave()
    assert door.state == "closed"


@pytest.mark.parametrize(("text", "reason"), [("", "empty"), ("x" * claude_inbox.MAX_LINE, "characters")])
async def test_what_the_inbox_would_drop_is_not_handed_over(door, text, reason):
    with pytest.raises(NotHandedOver, match=reason):
        await door.hand_over("del_1", text, steer=False)
    assert await door.look_up("del_1") == Absent()


async def test_a_dead_program_is_handed_nothing(door, peer):
    await peer.die()
    with pytest.raises(NotHandedOver, match="cannot be reached"):
        await door.hand_over("del_1", "hello", steer=False)
    assert await door.look_up("del_1") == Absent()
    await peer.listen()


def test_behind_a_burst_messages_go_at_the_pace_of_the_inbox():
    pace = Pace(now=0.0)
    assert [pace.take(now=0.0) for _ in range(BURST)] == [0.0] * BURST
    assert [round(pace.take(now=0.0), 6) for _ in range(2)] == [EVERY_S, round(2 * EVERY_S, 6)]
    assert pace.take(now=4 * EVERY_S) == 0.0
    assert pace.take(now=10_000.0) == 0.0
    assert [pace.take(now=10_000.0) for _ in range(BURST)][-2:] == [0.0, EVERY_S], "credit does not grow without end"


# --- look-up ----------------------------------------------------------------------------------------------------------


async def looked_up(peer):
    return await ClaudeInbox(str(peer.notes)).look_up("del_1")


async def test_a_look_up_finds_what_was_taken_alive_or_dead(door, peer):
    await handed(door, peer)
    peer.shows(user(OURS))
    taken = Accepted(Evidence("transcript", f"{peer.transcript}:1"))
    assert await looked_up(peer) == taken
    await peer.die()
    assert await looked_up(peer) == taken
    await peer.listen()


async def test_what_a_living_program_has_not_shown_may_be_in_its_queue(door, peer):
    peer.shows({"type": "mode"})
    await handed(door, peer)
    assert isinstance(await looked_up(peer), Unknowable)


async def test_what_a_dead_program_never_began_is_absent(door, peer, settings):
    peer.hook(settings, "UserPromptSubmit")  # somebody else's, before
    peer.shows(user(message_id("del_0")))
    await handed(door, peer)
    await peer.die()
    assert await looked_up(peer) == Absent()
    await peer.listen()


async def test_a_prompt_that_was_begun_and_is_not_in_the_transcript_may_have_been_ours(door, peer, settings):
    peer.shows({"type": "mode"})
    await handed(door, peer)
    peer.hook(settings, "UserPromptSubmit")
    await peer.die()
    assert isinstance(await looked_up(peer), Unknowable)
    await peer.listen()


async def test_what_was_handed_to_a_busy_program_may_have_been_folded_unseen(door, peer):
    peer.shows({"type": "mode"})
    peer.register(status="busy")
    await handed(door, peer, steer=True)
    await peer.die()
    assert isinstance(await looked_up(peer), Unknowable)
    await peer.listen()


async def test_without_a_transcript_or_our_notes_nothing_is_proved(door, peer):
    await handed(door, peer)
    await peer.die()
    assert isinstance(await looked_up(peer), Unknowable)
    peer.notes.unlink()
    assert isinstance(await looked_up(peer), Unknowable)
    await peer.listen()


# --- files of rows ----------------------------------------------------------------------------------------------------


def test_a_row_that_is_too_long_is_passed_and_counted(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(rows, "MAX_ROW", 64)
    file = tmp_path / "rows"
    file.write_text('{"a": 1}\n{"long": "' + "x" * 500 + '"}\n[1]\nno json\n{"b": 2}\n{"c"')
    reader = Rows(file)
    assert list(reader.new()) == [(1, {"a": 1}), (5, {"b": 2})]
    with file.open("a") as more:
        more.write(": 3}\n")
    assert list(reader.new()) == [(6, {"c": 3})]
    assert list(reader.new()) == []


def test_a_file_that_is_not_there_has_no_rows(tmp_path: Path):
    assert list(Rows(tmp_path / "none").new()) == []
