"""The app-server of Codex: what is asked of it, what proves that a message was taken, and what its rollouts say afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import sys
from pathlib import Path

import pytest

from relaybroker.adapters.sessions import codex_app_server
from relaybroker.adapters.sessions.codex_app_server import (
    CodexAppServer,
    CodexAppServerKind,
    server_arguments,
    terminal_arguments,
)
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
from relaybroker.adapters.sessions.rows import Rows, append
from tests.unit.sessions.codex_peer import CodexPeer, took
from tests.waiting import WAIT_S

OURS = message_id("del_1")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="the door needs a subreaper")


@pytest.fixture
async def peer(tmp_path):
    peer = CodexPeer(tmp_path)
    await peer.listen()
    yield peer
    await peer.die()


@pytest.fixture
def notes(peer, tmp_path):
    notes = tmp_path / "notes.jsonl"
    append(notes, {"socket": str(peer.socket)})
    return notes


@pytest.fixture
async def closed(notes):
    door = CodexAppServer(notes)
    yield door
    await door.close()


async def opened(door):
    return await asyncio.wait_for(door.open(), WAIT_S)


@pytest.fixture
async def door(peer, closed, notes):
    peer.thread("t1")
    assert await opened(closed) == Opened(str(notes))
    return closed


async def becomes(door, state):
    async with asyncio.timeout(WAIT_S):
        while door.state != state:
            await asyncio.sleep(0.005)


async def evidence(door):
    return await asyncio.wait_for(door.evidence("del_1"), WAIT_S)


# --- start ------------------------------------------------------------------------------------------------------------


async def test_the_thread_that_the_terminal_shows_is_waited_for(peer, closed, notes):
    opening = asyncio.create_task(closed.open())
    async with asyncio.timeout(WAIT_S):
        while ("thread/loaded/list", {}) not in peer.asked:
            await asyncio.sleep(0.005)
    await peer.tell("thread/started", thread=peer.thread("title", ephemeral=True))
    await peer.tell("thread/started", thread=peer.thread("helper", parentThreadId="t0"))
    await peer.tell("thread/started", thread=peer.thread("t1"))
    assert await asyncio.wait_for(opening, WAIT_S) == Opened(str(notes))
    assert [row["thread"] for _, row in Rows(notes).new() if "thread" in row] == ["t1"]
    assert closed.state == "idle"


@pytest.mark.parametrize("agent", ["relaybroker/0.170.9 (somewhere)", "something else"])
async def test_another_version_is_passed_over(peer, closed, agent):
    peer.agent = agent
    outcome = await opened(closed)
    assert isinstance(outcome, PassedOver)
    assert "older" in outcome.reason
    assert closed.state == "closed"


async def test_a_thread_without_a_paginated_rollout_is_passed_over(peer, closed):
    peer.thread("t1", historyMode="legacy")
    assert isinstance(await opened(closed), PassedOver)


@pytest.mark.parametrize("method", ["initialize", "thread/loaded/list", "thread/read"])
async def test_a_server_that_does_not_know_a_request_is_passed_over(peer, closed, method):
    peer.thread("t1")
    peer.refusals[method] = {"code": -32601, "message": "no such method"}
    outcome = await opened(closed)
    assert isinstance(outcome, PassedOver)
    assert "no such method" in outcome.reason


async def test_a_server_that_is_not_there_is_passed_over(peer, closed):
    await peer.die()
    assert isinstance(await opened(closed), PassedOver)


def test_server_and_terminal_get_what_is_theirs_of_the_options():
    given = ["-c", "a=1", "--model", "m", "--config=b=2", "--no-daemon", "--enable", "x", "resume", "some-id"]
    assert server_arguments(given, Path("/s")) == [
        "app-server", "--listen", "unix:///s", "-c", "a=1", "--config=b=2", "--enable", "x",
    ]  # fmt: skip
    assert terminal_arguments(given, Path("/s")) == [
        "--remote", "unix:///s", *(word for word in given if word != "--no-daemon"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("argv", "profile"),
    [
        (("codex", "--remote", "ws://x"), "codex"),
        (("codex", "exec", "do it"), "codex"),
        (("claude",), "claude"),
        (("no-codex",), "codex"),
    ],
)
@linux_only
async def test_a_codex_with_another_server_or_without_a_session_is_passed_over(tmp_path, argv, profile):
    outcome = await CodexAppServerKind().prepare(
        Launch("ws_1", argv, {"PATH": "/usr/bin:/bin"}, "/", profile, tmp_path)
    )
    assert isinstance(outcome, PassedOver)


def codex_that(does: str, folder: Path) -> Launch:
    """A program called codex whose server does this."""
    program = folder / "codex"
    program.write_text(f"#!{sys.executable}\nimport os, signal, socket, sys, time\n{does}\n")
    program.chmod(0o755)
    argv = (str(program), "--no-daemon")
    return Launch("ws_1", argv, dict(os.environ), str(folder), "codex", folder / "doors" / "ws_1", umask=0o027)


LISTENS = 's = socket.socket(socket.AF_UNIX); s.bind(sys.argv[3].removeprefix("unix://")); s.listen(); time.sleep(600)'


@linux_only
async def test_the_server_listens_before_the_program_starts_and_ends_if_that_never_does(tmp_path):
    started, door = await asyncio.wait_for(CodexAppServerKind().prepare(codex_that(LISTENS, tmp_path)), WAIT_S)
    (remote, address) = started.argv[1:]
    socket = Path(address.removeprefix("unix://"))
    assert (remote, stat.S_IMODE(socket.parent.stat().st_mode)) == ("--remote", 0o700)
    assert await codex_app_server.listens(socket)
    environment = Path(f"/proc/{door.server.process.pid}/environ").read_text()
    assert "RELAYBROKER_SESSION=ws_1" in environment.split("\0")
    assert "Umask:\t0027" in Path(f"/proc/{door.server.process.pid}/status").read_text()
    assert Path(f"/proc/{door.server.process.pid}/cwd").readlink() == tmp_path
    await door.close()
    assert door.server.process.has_ended
    assert not socket.exists()


@linux_only
async def test_a_door_that_is_passed_over_leaves_the_server_to_the_program(tmp_path):
    started, door = await asyncio.wait_for(CodexAppServerKind().prepare(codex_that(LISTENS, tmp_path)), WAIT_S)
    opening = asyncio.create_task(door.open())
    await asyncio.sleep(0)
    opening.cancel()
    await door.close()
    assert not door.server.process.has_ended
    assert await codex_app_server.listens(Path(started.argv[-1].removeprefix("unix://"))), (
        "the program has yet to find it"
    )
    door.server.process.kill()


@linux_only
async def test_a_server_that_ends_at_once_is_passed_over(tmp_path):
    outcome = await asyncio.wait_for(CodexAppServerKind().prepare(codex_that("sys.exit(2)", tmp_path)), WAIT_S)
    assert outcome == PassedOver("Codex' server ended at once")


@linux_only
async def test_a_server_that_never_listens_is_ended_with_our_patience(tmp_path):
    mark = tmp_path / "pid"
    launch = codex_that(f"open({str(mark)!r}, 'w').write(str(os.getpid())); time.sleep(600)", tmp_path)
    preparing = asyncio.create_task(CodexAppServerKind().prepare(launch))
    async with asyncio.timeout(WAIT_S):
        while not mark.exists() or not mark.read_text():
            await asyncio.sleep(0.01)
    preparing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await preparing
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text()), signal.SIGCONT)


# --- hand-over and evidence -------------------------------------------------------------------------------------------


async def test_a_message_begins_a_turn_of_the_thread_that_is_shown(door, peer):
    await peer.tell("thread/started", thread=peer.thread("t2"))
    await peer.tell("thread/status/changed", threadId="t2", status={"type": "active", "activeFlags": []})
    await becomes(door, "busy")
    await door.hand_over("del_1", "hello", steer=True)
    assert peer.asked[-1] == (
        "turn/start",
        {"threadId": "t2", "input": [{"type": "text", "text": "hello"}], "clientUserMessageId": OURS},
    )


async def test_the_user_message_with_our_id_is_the_evidence_and_the_pointer_leads_to_it(door, peer):
    peer.shows({"type": "session_meta"})
    await door.hand_over("del_1", "hello", steer=False)
    peer.shows(took(message_id("del_2")), took(OURS, kind="AgentMessage"), {"client_id": OURS}, took(OURS, "item_18"))
    assert await evidence(door) == Evidence("item", f"item_18 in {peer.rollout()}:5")


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ({"type": "active", "activeFlags": []}, "busy"),
        ({"type": "active", "activeFlags": ["waitingOnApproval"]}, "blocked"),
        ({"type": "active", "activeFlags": ["waitingOnUserInput"]}, "blocked"),
    ],
)
async def test_its_server_says_what_it_does(door, peer, status, state):
    await peer.tell("thread/status/changed", threadId="another", status={"type": "active", "activeFlags": []})
    await peer.tell("thread/status/changed", threadId="t1", status=status)
    await becomes(door, state)
    await peer.tell("thread/status/changed", threadId="t1", status={"type": "idle"})
    await becomes(door, "idle")


async def test_a_person_who_works_in_an_earlier_thread_is_followed(door, peer):
    await peer.tell("thread/started", thread=peer.thread("t2"))
    await peer.tell("thread/status/changed", threadId="t2", status={"type": "active", "activeFlags": []})
    await becomes(door, "busy")
    await peer.tell(
        "thread/status/changed", threadId="t1", status={"type": "active", "activeFlags": ["waitingOnApproval"]}
    )
    await becomes(door, "blocked")


async def test_what_the_server_refuses_is_not_handed_over(door, peer):
    peer.refusals["turn/start"] = {"code": -32600, "message": "thread not found"}
    with pytest.raises(NotHandedOver, match="thread not found"):
        await door.hand_over("del_1", "hello", steer=False)
    assert door.state == "idle"


async def test_a_turn_that_was_begun_is_busy_until_the_server_says_otherwise(door, peer):
    await door.hand_over("del_1", "hello", steer=False)
    assert door.state == "busy"
    await peer.tell("thread/status/changed", threadId="t1", status={"type": "idle"})
    await becomes(door, "idle")


async def test_an_error_within_the_server_says_nothing(door, peer):
    peer.refusals["turn/start"] = {"code": -32603, "message": "internal"}
    with pytest.raises(Exception, match="internal") as failure:
        await door.hand_over("del_1", "hello", steer=False)
    assert not isinstance(failure.value, NotHandedOver)


async def test_a_server_that_dies_amid_a_hand_over_says_nothing(door, peer):
    peer.silent.add("turn/start")
    handing = asyncio.create_task(door.hand_over("del_1", "hello", steer=False))
    await asyncio.wait_for(peer.turned.wait(), WAIT_S)
    await peer.die()
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(handing, WAIT_S)
    await becomes(door, "closed")


async def test_a_dead_server_is_handed_nothing(door, peer):
    await peer.die()
    await becomes(door, "closed")
    with pytest.raises(NotHandedOver, match="ended"):
        await door.hand_over("del_1", "hello", steer=False)


async def test_questions_of_the_server_are_left_to_the_person(door, peer):
    for client in peer._clients:
        await client.send_json(
            {"id": 0, "method": "item/commandExecution/requestApproval", "params": {"threadId": "t1"}}
        )
    await peer.tell(
        "thread/status/changed", threadId="t1", status={"type": "active", "activeFlags": ["waitingOnApproval"]}
    )
    await becomes(door, "blocked")
    assert all(method for method, _ in peer.asked), "it was answered"


class Successor:
    """Stands for the server's process: when it has ended, another one is there."""

    def __init__(self, peer, starts=True):
        self.peer, self.starts, self.process = peer, starts, None

    async def has_ended(self):
        return True

    async def start(self, notes):
        if not self.starts:
            return "it ended at once"
        await self.peer.listen()
        append(notes, {"socket": str(self.peer.socket)})
        return ""

    def forget(self):
        pass

    def kill(self):
        raise AssertionError("its program was started")


async def test_a_server_that_dies_is_started_again_and_what_it_had_is_absent(door, peer, notes):
    door.server = Successor(peer)
    await door.hand_over("del_1", "hello", steer=False)
    peer.asked.clear()
    await peer.die()
    await becomes(door, "idle")
    assert ("thread/read", {"threadId": "t1"}) in peer.asked
    assert await looked_up(notes) == Absent()
    await door.hand_over("del_1", "hello", steer=False)
    assert isinstance(await looked_up(notes), Unknowable)
    peer.shows(took(OURS))
    assert await evidence(door) == Evidence("item", f"item_17 in {peer.rollout()}:1")


async def test_messages_wait_while_it_is_started_again(door, peer, notes):
    peer.silent.add("initialize")
    door.server = Successor(peer)
    await peer.die()
    async with asyncio.timeout(WAIT_S):
        while len(list(Rows(notes).new("socket"))) < 2 or door.state != "busy":
            await asyncio.sleep(0.005)
    with pytest.raises(ConnectionError):
        await door.hand_over("del_1", "hello", steer=True)
    assert await looked_up(notes) == Absent()


async def test_a_server_that_cannot_be_started_again_closes_the_door(door, peer):
    door.server = Successor(peer, starts=False)
    await peer.die()
    await becomes(door, "closed")


# --- look-up ----------------------------------------------------------------------------------------------------------


async def looked_up(notes):
    return await CodexAppServer(str(notes)).look_up("del_1")


async def test_a_look_up_finds_what_was_taken_alive_or_dead_in_whatever_thread(door, peer, notes):
    await door.hand_over("del_1", "hello", steer=False)
    peer.shows(took(OURS))
    await peer.tell("thread/started", thread=peer.thread("t2"))
    taken = Accepted(Evidence("item", f"item_17 in {peer.rollout('t1')}:1"))
    assert await looked_up(notes) == taken
    await peer.die()
    assert await looked_up(notes) == taken


async def test_what_a_living_server_has_not_written_down_may_be_in_its_queue(door, notes):
    await door.hand_over("del_1", "hello", steer=False)
    assert isinstance(await looked_up(notes), Unknowable)


async def test_what_a_dead_server_has_not_written_down_is_absent(door, peer, notes):
    await door.hand_over("del_1", "hello", steer=False)
    peer.shows(took(message_id("del_0")))
    await peer.die()
    assert await looked_up(notes) == Absent()


@linux_only
async def test_a_server_that_lives_on_without_its_socket_may_have_the_message(door, peer, notes):
    """The door has closed behind a hand-over, and the server ends with its program, a little later."""
    server = await asyncio.create_subprocess_exec("sleep", "600")
    append(notes, {"socket": str(peer.socket), "pid": server.pid})
    await door.hand_over("del_1", "hello", steer=False)
    await peer.die()
    peer.socket.unlink(missing_ok=True)
    assert isinstance(await looked_up(notes), Unknowable)
    server.kill()
    await server.wait()
    assert await looked_up(notes) == Absent()


async def test_a_look_up_leaves_the_socket_to_the_session(door, peer, notes):
    other = CodexAppServer(notes)
    await other.look_up("del_1")
    await other.close()
    assert peer.socket.is_socket()


async def test_without_our_notes_nothing_is_proved(tmp_path):
    assert isinstance(await looked_up(tmp_path / "none"), Unknowable)


async def test_a_server_that_is_being_killed_is_waited_for(tmp_path):
    """Its connections end a moment before its process does: then it still seemed to have the message."""
    ends = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE)
    notes = tmp_path / "notes.jsonl"
    append(notes, {"socket": str(tmp_path / "gone.sock"), "pid": ends.pid})
    append(notes, {"handed": OURS})
    looking = asyncio.create_task(CodexAppServer(notes).look_up("del_1"))
    await asyncio.sleep(0)
    await ends.communicate(b"\n")
    assert isinstance(await asyncio.wait_for(looking, WAIT_S), Absent)
