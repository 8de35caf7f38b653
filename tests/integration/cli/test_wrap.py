"""`wrap` in a real terminal: one program in its foreground, with delivery (local-api.md section 4.1; B5)."""

from __future__ import annotations

import json
import signal
import sys
import termios

import psutil
import pytest

from relaybroker.cli.wrap import passed_on, status_of
from tests.e2e.conftest import AGENTS

NOTE_TAKER = AGENTS / "note_taker.py"


def wrapped(desk, *command, name="w1", **environment):
    return desk.terminal("wrap", "--", *command, RELAY_AGENT_NAME=name, **environment)


def agents(desk):
    listed = desk.run("agent", "ls", "--json")
    return {one["name"]: one for one in json.loads(listed.stdout)} if listed.returncode == 0 else {}


def has_ended(desk):
    return not (desk.state / "connection.json").exists()


def test_the_program_has_this_terminal_and_its_status_is_that_of_the_command(desk):
    """Its environment, directory, size and keys; the broker that was started for it ends with it."""
    script = "echo $COLOUR; touch here; stty size; read line; echo go''t $line; exit 7"
    terminal = wrapped(desk, "sh", "-c", script, COLOUR="blue", RELAY_API_KEY="")
    before = termios.tcgetattr(terminal.process.fd)
    assert b"blue" in terminal.until(b"24 80")
    assert (desk.folder / "here").exists()
    terminal.type(b"a\x1db\r")
    assert b"a\x1db" in terminal.until(b"got "), "no key is the command's own"
    assert terminal.end() == 7
    assert termios.tcgetattr(terminal.process.fd) == before
    assert has_ended(desk)


def test_messages_are_delivered_into_it(desk):
    notes = desk.folder / "notes"
    terminal = wrapped(desk, sys.executable, str(NOTE_TAKER), str(notes))
    terminal.until(b"ready")
    sent = desk.run("message", "send", "w1", "water the plants", "--wait", "typed")
    assert sent.returncode == 0, sent.stderr
    assert "water the plants" in notes.read_text()
    terminal.until(b"Relay message from")
    terminal.type(b"\x04")
    assert terminal.end() == 0


def test_a_killed_broker_is_replaced_and_neither_program_nor_terminal_notices(desk):
    terminal = wrapped(desk, "sh", "-c", "echo be''gun; read line; echo go''t $line; read line; exit 3")
    terminal.until(b"begun")
    pid, former = agents(desk)["w1"]["pid"], desk.connection["pid"]
    desk.kill_broker()
    terminal.type(b"typed meanwhile\r")
    shown = terminal.until(b"got typed meanwhile")
    assert b"listening" not in shown, "nothing of ours is drawn over the program"
    assert (agents(desk)["w1"]["pid"], desk.connection["pid"] == former) == (pid, False)
    terminal.type(b"\r")
    assert terminal.end() == 3
    assert has_ended(desk)


def test_what_output_set_in_the_terminal_is_set_back_however_the_program_ends(desk):
    terminal = wrapped(
        desk, "sh", "-c", r"echo be''gun; read line; printf '\033[?1049h\033[?1000h\033[?25lse''t'; kill -9 $$"
    )
    terminal.until(b"begun")
    terminal.type(b"\r")
    assert terminal.end() == 128 + signal.SIGKILL
    last = terminal.seen[terminal.seen.rindex(b"set") :]
    assert [one in last for one in (b"\x1b[?1049l", b"\x1b[?1000l", b"\x1b[?25h")] == [True] * 3


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_the_program_ends_with_its_terminal(desk, number):
    terminal = wrapped(desk, "sh", "-c", "echo $$ be''gun; read line")
    before = termios.tcgetattr(terminal.process.fd)
    terminal.until(b"begun")
    pid = agents(desk)["w1"]["pid"]
    terminal.process.kill(number)
    assert terminal.end() == 128 + number
    assert termios.tcgetattr(terminal.process.fd) == before
    desk.until(lambda: not psutil.pid_exists(pid), "the program has ended")
    assert has_ended(desk)


def test_beside_a_broker_that_runs_it_takes_another_name_and_ends_nothing_of_it(running):
    terminal = wrapped(running, "sh", "-c", "echo be''gun; read line")
    terminal.until(b"begun")
    assert set(agents(running)) == {"w1", "w1-2"}
    terminal.type(b"\r")
    assert terminal.end() == 0
    assert set(agents(running)) == {"w1"}
    strict = wrapped(running, "sh", "-c", "read line", RELAY_STRICT_AGENT_NAME="1")
    assert strict.end() == 5
    assert b"[agent_exists]" in strict.seen
    assert set(agents(running)) == {"w1"}


def test_a_command_that_is_not_there_or_a_terminal_that_is_not_there_is_an_error(desk):
    assert desk.run("wrap", "cat").returncode == 2
    terminal = wrapped(desk, "no-such-program-here")
    assert terminal.end() == 3
    assert b"[cli_not_found]" in terminal.seen
    assert has_ended(desk)


def test_the_program_gets_the_environment_but_no_secret_and_no_identity_of_another():
    environment = {
        "A": "b",
        "RELAY_API_KEY": "rk",
        "RELAY_AGENT_TOKEN": "at",
        "RELAY_AGENT_NAME": "x",
        "BASH_FUNC_x%%": "()",
    }
    assert passed_on(environment) == {"A": "b"}


@pytest.mark.parametrize(
    ("event", "status"),
    [
        ({"kind": "agent_exited", "code": 7, "signal": None}, 7),
        ({"kind": "agent_exited", "code": None, "signal": "11"}, 139),
        ({"kind": "agent_exited", "code": None, "signal": None}, 1),
        ({"kind": "agent_released"}, 143),
        ({"kind": "signal", "signal": signal.SIGHUP}, 129),
    ],
)
def test_the_status_says_how_the_program_ended(event, status):
    assert status_of(event) == status
