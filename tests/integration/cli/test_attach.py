"""`agent attach` in a real terminal, on a real shell."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest

from tests.waiting import WAIT_S


def attach(desk, name):
    terminal = desk.terminal("agent", "attach", name)
    terminal.until(b"$ ")
    terminal.type(b"echo at''tached\r")
    terminal.until(b"attached")
    return terminal


@pytest.fixture
def attached(shared, request):
    """A terminal on a shell of this test's own."""
    name = f"a{abs(hash(request.node.name))}"
    spawned = shared.run("agent", "spawn", name, "--env", "PS1=$ ", "--", "bash", "--norc")
    assert spawned.returncode == 0, spawned.stderr
    return attach(shared, name)


def test_keys_before_the_leaving_key_still_arrive(shared, attached):
    attached.type(b"touch left-behind\r\x1d")
    assert attached.end() == 0
    assert b"[detached]" in attached.seen
    shared.until((shared.folder / "left-behind").exists, "the line was typed")


def test_long_pasted_text_arrives_whole_whatever_its_alphabet(shared, attached):
    """Characters of several bytes fall across reads of 4096 bytes."""
    line = "ä€😀" * 400
    attached.type(b"cat > pasted\r")
    for _ in range(4):
        attached.type(f"{line}\r".encode())
    attached.type(b"\x04")
    attached.type(b"echo do''ne\r")
    attached.until(b"done")
    attached.type(b"\x1d")
    assert attached.end() == 0
    assert (shared.folder / "pasted").read_text() == f"{line}\n" * 4


def test_the_agent_gets_the_size_of_the_terminal(attached):
    """Whatever COLUMNS and LINES say: the window may have changed since they were exported."""
    attached.process.setwinsize(31, 97)
    attached.type(b"while [ \"$(stty size)\" != '31 97' ]; do :; done; echo si''zed\r")
    attached.until(b"sized")
    attached.type(b"\x1d")
    assert attached.end() == 0


def test_a_view_shows_what_happens_and_types_and_sizes_nothing(shared, attached):
    """F122: what the program says between the picture and the first event is shown once; its modes are taken over and given up."""
    name = attached.process.argv[-1]
    attached.type(b"printf '\\033[?1h'; touch moded; echo mo''ded\r")
    attached.until(b"moded\r\n")
    viewer = shared.terminal("agent", "attach", "--view", name)
    viewer.process.setwinsize(11, 22)
    viewer.until(b"\x1b[?1h")
    viewer.type(b"touch typed-by-a-viewer\r")
    attached.type(b"echo lo''oked-at; stty size\r")
    viewer.until(b"looked-at")
    viewer.type(b"\x1d")
    assert viewer.end() == 0
    assert b"11 22" not in viewer.seen
    assert b"\x1b[?1l" in viewer.seen
    attached.type(b"\x1d")
    assert attached.end() == 0
    assert not (shared.folder / "typed-by-a-viewer").exists()


@pytest.mark.parametrize("ends", ["detached", "killed"])
def test_the_agent_has_its_former_size_when_the_attachment_has_ended(shared, attached, ends):
    """However it ended; a terminal of one cell (a hidden pane) never had a say."""
    attached.process.setwinsize(1, 1)
    attached.process.setwinsize(31, 97)
    attached.type(b"while [ \"$(stty size)\" != '31 97' ]; do :; done; echo si''zed\r")
    attached.until(b"sized")
    attached.type(
        b"echo wai''ting; while [ \"$(stty size)\" != '24 80' ]; do sleep 0.1; done; touch before-"
        + ends.encode()
        + b"\r"
    )
    attached.until(b"waiting")
    if ends == "detached":
        attached.type(b"\x1d")
        assert attached.end() == 0
    else:
        attached.process.kill(signal.SIGKILL)
    shared.until((shared.folder / f"before-{ends}").exists, "the size is the one from before")


def test_the_end_of_the_agent_ends_the_attachment(attached):
    attached.type(b"exit\r")
    attached.until(b"[agent exited]")
    assert attached.end() == 0


def test_the_loss_of_the_broker_ends_the_attachment_with_a_status_and_the_terminal_as_it_was(running):
    attached = attach(running, "w1")
    running.kill_broker()
    attached.until(b"[the broker ")
    assert attached.end() == 4
    assert b"relaybroker status" in attached.seen
    assert b"Traceback" not in attached.seen


def test_without_a_terminal_or_an_agent_it_says_so(shared):
    assert shared.run("agent", "attach", "w1").returncode == 2
    nobody = shared.terminal("agent", "attach", "nobody")
    assert nobody.end() == 3
    assert b"nobody" in nobody.seen


def test_the_log_can_be_followed_while_it_grows(shared):
    follower = shared.start("log", "tail", "-n", "1", "--follow", "--upkeep", "--json")
    first = json.loads(follower.stdout.readline())
    assert shared.run("message", "send", "w1", "hello").returncode == 0
    positions = [first["position"]]
    topic = ""
    while topic != "delivery.acked.v1":
        event = json.loads(follower.stdout.readline())
        positions.append(event["position"])
        topic = event["topic"]
    assert positions == list(range(positions[0], positions[0] + len(positions))), "nothing skipped, nothing twice"
    follower.terminate()
    follower.communicate(timeout=WAIT_S)


def test_a_transcript_stands_in_the_place_of_a_terminal_and_a_line_is_a_prompt(shared):
    """ADR-0094."""
    program = [sys.executable, str(Path(__file__).parents[2] / "acp_program.py")]
    spawned = shared.run("agent", "spawn", "piped", "--door", "acp", "--", *program)
    assert spawned.returncode == 0, spawned.stderr
    terminal = shared.terminal("agent", "attach", "piped")
    terminal.until("› ".encode())
    terminal.type(b"hello reply\r")
    terminal.until(b"you said: hello reply")
    terminal.type(b"please ask\r")
    terminal.until(b"2  Reject")
    terminal.type(b"2\r")
    terminal.until(b'"optionId": "no"')
    terminal.type(b"\x1d")
    assert terminal.end() == 0
    assert shared.run("agent", "release", "piped").returncode == 0
