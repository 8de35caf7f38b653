"""What all commands have in common: one shape of JSON, failures in it too, examples that are commands, nearest names, tables, times."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator

import click
import pytest

from relaybroker.audit import times
from relaybroker.cli.app import cli
from relaybroker.cli.tables import table


def _leaves(
    command: click.Command = cli, words: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if not isinstance(command, click.Group):
        yield words, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        subcommand = command.get_command(context, name)
        assert subcommand is not None
        yield from _leaves(subcommand, (*words, name))


LEAVES = dict(_leaves())
WITHOUT_EXAMPLES = {("mcp",)}
"""Started by programs, never by a person."""


@pytest.mark.parametrize("words", LEAVES.keys() - WITHOUT_EXAMPLES, ids=" ".join)
def test_every_command_shows_examples_of_itself_that_can_be_parsed(words):
    examples = [line.strip() for line in (LEAVES[words].epilog or "").splitlines() if "relaybroker" in line]
    own = [line for line in examples if f"relaybroker {' '.join(words)}" in line]
    assert own, "no example of this very command"
    for line in examples:
        for part in line.split("&&"):
            lexed = shlex.split(part.split("|")[0].split(">")[0])
            given = lexed[lexed.index("relaybroker") + 1 :]
            command: click.Command = cli
            context = click.Context(cli, info_name="relaybroker", **cli.context_settings)
            while isinstance(command, click.Group):
                subcommand = command.get_command(context, given.pop(0))
                assert subcommand is not None, line
                command = subcommand
            command.make_context("example", given, parent=context, resilient_parsing=False)


@pytest.mark.parametrize(
    ("words", "shape"),
    [
        (("why", "M1"), list),
        (("delivery", "ls"), list),
        (("delivery", "show", "M1"), list),
        (("log", "show", "3"), list),
        (("log", "stats"), dict),
        (("log", "verify"), dict),
    ],
)
def test_what_lists_prints_an_array_and_all_else_an_object(run, state, words, shape):
    answer = json.loads(run(*words, "--json", "--state-dir", state).output)
    assert isinstance(answer, shape)
    assert "error" not in answer


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        (("why", "nothing"), 3, "not_found"),
        (("log", "show", "99999"), 3, "not_found"),
        (("log", "grep", "--reason", "no_such"), 2, "usage"),
        (("log", "tail", "-n", "many"), 2, "usage"),
        (("log", "tail", "--folow"), 2, "usage"),
        (("delivery", "ls", "--state", "akced"), 2, "usage"),
        (("status",), 4, "no_broker"),
        (("agent", "ls"), 4, "no_broker"),
        (("dead-letters", "show", "x"), 4, "no_broker"),
        (("replay", "/nowhere.jsonl"), 3, "not_found"),
    ],
)
def test_a_failure_is_an_object_too_and_says_the_same_as_the_exit_status(run, state, words, status, code):
    place = () if words[0] == "replay" else ("--state-dir", state)
    done = run(*words, *place, "--json")
    said = json.loads(done.stdout)["error"]
    assert (done.exit_code, said["status"], said["code"]) == (status, status, code)
    assert said["message"]
    assert done.stderr == ""


def test_json_behind_two_dashes_is_another_programs(run, tmp_path):
    done = run("agent", "spawn", "x", "--state-dir", tmp_path, "--", "claude", "--json")
    assert done.exit_code == 4
    assert done.stderr.startswith("relaybroker: no broker is running")


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("stats",), "status"),
        (("agent", "spwan"), "spawn"),
        (("log", "tial"), "tail"),
        (("log", "tail", "--folow"), "--follow"),
        (("delivery", "ls", "--state", "akced"), "acked"),
        (("machine", "show", "devilery"), "delivery"),
    ],
)
def test_a_misspelt_word_gets_the_nearest_one(run, words, meant):
    done = run(*words)
    assert done.exit_code != 0
    assert f"Did you mean {meant}" in done.stderr.replace("'", "")


def test_the_word_that_other_tools_use_is_understood(run, tmp_path):
    assert run("agent", "list", "--state-dir", tmp_path).exit_code == 4


def test_moments_of_answers_are_iso_and_those_of_the_log_as_recorded(run, state):
    (row, *_) = json.loads(run("delivery", "ls", "--json", "--state-dir", state).output)
    assert row["offered_at"].endswith("Z")
    lines = run("log", "tail", "--json", "-n", "1", "--state-dir", state).output
    assert json.loads(lines)["at"].endswith("Z")


def test_the_tail_leaves_out_what_only_keeps_the_link_alive(run, state):
    short = run("log", "tail", "-n", "100", "--state-dir", state).output
    whole = run("log", "tail", "-n", "100", "--upkeep", "--state-dir", state).output
    assert "heartbeat_due" in whole
    assert "heartbeat_due" not in short
    assert "heartbeat_due" in run("log", "tail", "--topic", "link.heartbeat*", "--state-dir", state).output


def test_a_log_of_nothing_hides_no_other(run, state):
    """A start that is killed before it recorded anything leaves one."""
    (state / "journal-other.sqlite").touch()
    assert run("why", "M1", "--state-dir", state).exit_code == 0
    assert run("log", "verify", "--state-dir", state).exit_code == 0
    missing = run("log", "verify", "--name", "desc", "--state-dir", state)
    assert missing.exit_code == 3
    assert "desk, other" in missing.stderr


def test_of_several_logs_why_asks_all_and_others_say_which_they_read(run, state):
    (state / "journal-other.sqlite").write_bytes((state / "journal-desk.sqlite").read_bytes())
    done = run("why", "M1", "--state-dir", state, "--json")
    assert len(json.loads(done.stdout)) == 2
    tail = run("log", "tail", "--state-dir", state)
    assert tail.exit_code == 0
    assert "choose another with --name" in tail.stderr


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 ms"), (0.04, "40 ms"), (3.21, "3.2 s"), (59.97, "1m 00s"), (125, "2m 05s"), (3600, "1h 00m"), (19200, "5h 20m"),
        (86399.9, "1d 00h"), (273600, "3d 04h"), (4e7, "462d 23h"),
    ],
)  # fmt: skip
def test_a_length_is_said_in_its_two_largest_units(seconds, shown):
    assert times.length(seconds) == shown


def test_a_list_is_aligned_by_cells_and_never_wraps_in_a_terminal(capsys, monkeypatch):
    rows = [("你好", "x" * 200), ("a", "short")]
    table(("NAME", "TEXT"), rows)
    first, second, third = capsys.readouterr().out.splitlines()
    assert second == f"你好  {'x' * 200}"
    assert (first.index("TEXT"), third.index("short")) == (6, 6)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    table(("NAME", "TEXT"), rows)
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 40


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_what_completes(run, shell):
    done = run("completion", shell)
    assert done.exit_code == 0
    assert "_RELAYBROKER_COMPLETE" in done.output


def test_identifiers_and_names_are_completed(run, state, monkeypatch):
    from click.testing import CliRunner

    words = {
        "COMP_WORDS": f"relaybroker why --state-dir {state} M",
        "COMP_CWORD": "4",
        "_RELAYBROKER_COMPLETE": "bash_complete",
    }
    done = CliRunner().invoke(cli, [], env=words, prog_name="relaybroker")
    assert {line.partition(",")[2] for line in done.output.splitlines()} >= {"M1", "M2"}
