"""Whatever a command is given or finds in the state directory, it ends with a sentence and a status, and never in a trace."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing

import click
import pytest
from click.testing import CliRunner

from relaybroker.cli.app import cli
from relaybroker.cli.border import as_command_error
from relaybroker.cli.exits import LAST, Exit

BAD = (
    "\udcff", "a\n", "\x1b[31m", "a\0b", "", "-1", "0", "1e9", str(LAST + 1), "9" * 5000, "w1@" + "9" * 30, "w1@\u0663", "[" * 5000, "../x",
    "%s", "*", "'; DROP TABLE stored_events; --", "\u202e", "x" * 100_000,
)  # fmt: skip
"""Values for every argument and every option."""

STARTING = {"up", "demo", "engine", "init", "mcp", "agent attach"}
"""Commands that start something or go on until they are ended; they have tests of their own."""


def _leaves(group, words=()):
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        if isinstance(command, click.Group):
            yield from _leaves(command, (*words, name))
        elif " ".join((*words, name)) not in STARTING:
            yield (*words, name), command


LEAVES = dict(_leaves(cli))


def _calls(words, command, state):
    """The command with each bad value in the place of each of its parameters, everything else as it should be."""
    params = [param for param in command.params if not getattr(param, "is_flag", False)]
    place = ["--state-dir", str(state)] if any("--state-dir" in param.opts for param in params) else []
    arguments = [param for param in params if isinstance(param, click.Argument)]
    options = [
        param
        for param in params
        if isinstance(param, click.Option) and not {"--state-dir", "--output"} & set(param.opts)
    ]
    for value in BAD:
        for wrong in arguments:
            given = [value if param is wrong else "1" for param in arguments]
            yield [*words, *place, "--", *given]
        for option in options:
            yield [*words, *place, option.opts[0], value, "--", *("1" for _ in arguments)]


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_a_bad_value_in_any_place_of_any_command_is_a_sentence(words, state, monkeypatch):
    """The command ends by itself, with a status of ours, and says something where it fails."""
    monkeypatch.delenv("RELAY_BROKER_URL", raising=False)
    for call in _calls(words, LEAVES[words], state):
        if any("\0" in word for word in call):
            continue  # no process can be given one
        got = CliRunner().invoke(cli, call)
        assert got.exception is None or isinstance(got.exception, SystemExit), (call, got.exception)
        assert got.exit_code in set(Exit), call
        quiet = (Exit.DONE, Exit.NOT_DELIVERED, Exit.PENDING, *((Exit.NOT_FOUND,) if words == ("log", "grep") else ()))
        assert got.exit_code in quiet or got.output.strip(), call


# --- a log that is not what was written -----------------------------------------------------------------------------------------


def _edit(statement, *values):
    def edit(state):
        with closing(sqlite3.connect(state / "journal-desk.sqlite")) as database:
            database.execute(statement, values)
            database.commit()
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    return edit


def _of_row(change):
    def edit(state):
        with closing(sqlite3.connect(state / "journal-desk.sqlite")) as database:
            (row_state,) = database.execute("SELECT state FROM stored_events WHERE rowid = 20").fetchone()
            database.execute("UPDATE stored_events SET state = ? WHERE rowid = 20", (change(bytes(row_state)),))
            database.commit()

    return edit


def _file(content):
    return lambda state: (state / "journal-desk.sqlite").write_bytes(content)


def _pipe(state):
    (state / "journal-desk.sqlite").unlink()
    os.mkfifo(state / "journal-desk.sqlite")


DAMAGE = {
    "a text was changed": _of_row(lambda state: state.replace(b'"at":1', b'"at":2', 1) + b" "),
    "a record is no UTF-8": _of_row(lambda state: state[:40] + b"\xff" + state[41:]),
    "a record is empty": _of_row(lambda _state: b""),
    "a record is deep": _of_row(lambda _state: b"[" * 100_000),
    "a record has a huge number": _of_row(lambda state: state[:-1] + b',"x":' + b"9" * 6000 + b"}"),
    "a row is gone": _edit("DELETE FROM stored_events WHERE rowid = 20"),
    "the beginning is gone": _edit("DELETE FROM stored_events WHERE rowid < 20"),
    "a row moved": _edit("UPDATE stored_events SET rowid = 999999 WHERE rowid = 20"),
    "an unknown topic": _edit("UPDATE stored_events SET topic = 'delivery.queued.v99' WHERE rowid = 20"),
    "somebody's trigger": _edit(
        "CREATE TRIGGER t AFTER INSERT ON stored_events BEGIN DELETE FROM stored_events WHERE rowid < 5; END"
    ),
    "no database": _file(b"no database at all" * 1000),
    "empty": _file(b""),
}
READING = (
    ("log", "verify"), ("log", "export"), ("log", "export", "--session"), ("log", "export", "--session", "--redact"),
    ("log", "tail", "-n", "500"), ("log", "grep", "--topic", "delivery.*"), ("log", "stats"), ("log", "show", "20"), ("log", "show", "21"),
    ("delivery", "ls"), ("why", "M1"), ("why", "w1"), ("log", "archive", "--keep", "1000"),
)  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_every_reading_command_says_of_a_damaged_log_what_is_wrong(damage, run, state):
    """F134: in a sentence; `verify` finds every damage; nothing is changed."""
    DAMAGE[damage](state)
    before = (state / "journal-desk.sqlite").read_bytes()
    for words in READING:
        got = run(*words, "--state-dir", state)
        assert got.exception is None or isinstance(got.exception, SystemExit), (words, got.exception)
        assert got.exit_code == 0 or got.output.strip(), words
        if words == ("log", "verify"):
            assert got.exit_code == Exit.FAILED, got.output
    assert (state / "journal-desk.sqlite").read_bytes() == before


def test_what_no_command_expects_keeps_its_trace():
    """A fault of ours is not hidden behind a sentence."""
    assert as_command_error(KeyError("x")) is None
    assert as_command_error(AssertionError()) is None
    assert as_command_error(OSError(28, "No space left on device", "/x")).message == "/x: No space left on device"


# --- files of the state directory -----------------------------------------------------------------------------------------------


GARBAGE = {
    "empty": b"", "no UTF-8": b"\xff\xfe{}", "no JSON": b"{", "another shape": b"[1,2]", "null": b"null", "deep": b"[" * 200_000,
    "huge numbers": b'{"pid":' + b"9" * 400 + b',"port":' + b"9" * 400 + b',"url":"http://127.0.0.1:1","api_key":"x"}',
    "a negative pid": b'{"pid":-1,"port":1,"url":"http://127.0.0.1:1","api_key":"x"}',
    "a bad URL": b'{"pid":1,"port":1,"url":"http://[::1:99999999/\\n","api_key":"x"}',
    "a port that is none": b'{"pid":1,"port":99999,"url":"http://127.0.0.1:99999","api_key":"x"}',
    "a header in the key": b'{"pid":1,"port":1,"url":"http://127.0.0.1:1","api_key":"x\\r\\nHost: evil"}',
    "NUL": b"\0" * 1000,
}  # fmt: skip
OWN_FILES = (
    "connection.json", "connection-desk.json", "workspace.json", "memory-desk.json", "broker-desk.lock", "host-desk.sock.pid",
    "host-desk.sock.sessions", "engine/engine.json", "engine/ready.json",
)  # fmt: skip


@pytest.mark.parametrize("content", [*GARBAGE, "a pipe", "a directory", "a link to itself"])
def test_nonsense_in_any_file_of_the_state_directory_is_a_sentence(content, run, tmp_path, monkeypatch):
    monkeypatch.delenv("RELAY_BROKER_URL", raising=False)
    for name in OWN_FILES:
        folder = tmp_path / "state"
        (folder / name).parent.mkdir(parents=True)
        match content:
            case "a pipe":
                os.mkfifo(folder / name)
            case "a directory":
                (folder / name).mkdir()
            case "a link to itself":
                (folder / name).symlink_to(folder / name)
            case _:
                (folder / name).write_bytes(GARBAGE[content])
        for words in (("status",), ("agent", "ls"), ("message", "send", "w1", "x"), ("down",)):
            got = run(*words, "--state-dir", folder)
            assert got.exception is None or isinstance(got.exception, SystemExit), (name, words, got.exception)
            assert got.output.strip(), (name, words)
        shutil.rmtree(folder)
