"""What the commands print and with which status they end, without a broker."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from relaybroker.adapters.eventstore import archiving
from relaybroker.adapters.eventstore.lock import StateLock
from relaybroker.domain.machines import MACHINES


def test_help_lists_every_command_and_the_exit_statuses(run):
    done = run("--help")
    assert done.exit_code == 0
    for name in ("demo", "up", "down", "status", "engine", "agent", "message", "delivery", "why", "log", "machine"):
        assert f"\n  {name} " in done.output
    assert "10 message not delivered" in " ".join(done.output.split())
    assert "init" not in done.output


def test_help_imports_nothing_heavy():
    code = "import sys; sys.argv=['relaybroker','--help']\ntry:\n from relaybroker.cli import main; main()\nexcept SystemExit: pass\n"
    code += "print([name for name in ('aiohttp', 'pydantic', 'eventsourcing', 'transitions') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")


def test_why_ends_with_a_status_that_says_the_outcome(run, state):
    assert run("why", "M1", "--state-dir", state).exit_code == 0
    assert run("why", "M2", "--state-dir", state).exit_code == 11
    done = run("why", "nothing", "--state-dir", state)
    assert done.exit_code == 3
    assert "delivery ls" in done.output


def test_why_as_json_has_verdict_and_steps(run, state):
    (story,) = json.loads(run("why", "w1@1", "--state-dir", state, "--json").output)
    assert story["outcome"] == "delivered"
    assert "delivery.offered.v1" in [step["event"] for step in story["steps"]]


def test_deliveries_are_listed_with_state_and_reason(run, state):
    rows = json.loads(run("delivery", "ls", "--state-dir", state, "--json").output)
    assert [(row["msg_id"], row["state"]) for row in rows] == [("M1", "acked"), ("M2", "injecting")]
    assert "w1@2" in run("delivery", "ls", "--state-dir", state, "--state", "injecting").output


def test_the_log_is_shown_exported_and_verified(run, state):
    assert "link.online.v1" in run("log", "tail", "-n", "100", "--state-dir", state).output
    lines = run("log", "export", "--state-dir", state).output.strip().splitlines()
    assert [json.loads(line)["position"] for line in lines] == list(range(1, len(lines) + 1))
    verified = json.loads(run("log", "verify", "--state-dir", state, "--json").output)
    assert verified == {"events": len(lines), "folded": len(lines), "compared_at": 0, "problems": []}


def test_a_directory_without_a_log_is_not_found(run, tmp_path):
    done = run("log", "tail", "--state-dir", tmp_path)
    assert done.exit_code == 3
    assert "--state-dir" in done.output


@pytest.mark.parametrize(
    "words", [("status",), ("agent", "ls"), ("message", "send", "w1", "hi"), ("agent", "spawn", "x", "cat")]
)
def test_without_a_broker_commands_say_so_and_what_to_do(run, tmp_path, words):
    done = (
        run(*words, "--state-dir", tmp_path)
        if words[1:2] != ("spawn",)
        else run("agent", "spawn", "--state-dir", tmp_path, "x", "cat")
    )
    assert done.exit_code == 4
    assert "relaybroker up" in done.output


def test_a_variable_without_value_that_this_shell_does_not_have_is_a_usage_error(run, tmp_path, monkeypatch):
    monkeypatch.delenv("MY_KEY", raising=False)
    done = run("agent", "spawn", "--state-dir", tmp_path, "--env", "MY_KEY", "x", "cat")
    assert done.exit_code == 2
    assert "--env MY_KEY=VALUE" in done.output


def test_machines_are_listed_and_drawn(run):
    listed = json.loads(run("machine", "ls", "--json").output)
    assert set(listed) == set(MACHINES)
    assert run("machine", "show", "deliv", "--mermaid").output.startswith("stateDiagram-v2")
    assert run("machine", "show", "nothing").exit_code == 3


def test_unknown_commands_are_usage_errors(run):
    assert run("frobnicate").exit_code == 2


def test_counts_are_meant_as_they_are_written(run, state):
    assert run("log", "tail", "-n", "0", "--stream", "delivery", "--state-dir", state).output == ""
    assert len(run("log", "tail", "-n", "2", "--stream", "delivery", "--state-dir", state).output.splitlines()) == 2
    assert len(run("delivery", "ls", "-n", "1", "--state-dir", state).output.splitlines()) == 2, "with its titles"
    assert run("log", "tail", "-n", "-1", "--state-dir", state).exit_code == 2
    assert run("delivery", "ls", "-n", "0", "--state-dir", state).exit_code == 2


def test_a_log_is_archived_by_one_at_a_time_also_beside_its_broker(run, state, tmp_path):
    held = StateLock(state / "broker-desk.lock")
    moving = archiving._only_one(state / "journal-desk.sqlite")
    assert run("log", "archive", "--state-dir", state).exit_code == 5
    moving.release()
    assert json.loads(run("log", "archive", "--json", "--state-dir", state).output)["events"] == 0, (
        "it has fewer than 1000"
    )
    held.release()
    assert run("log", "archive", "--keep", "10", "--state-dir", state).exit_code == 2
    assert run("log", "archive", "--state-dir", tmp_path / "nothing").exit_code == 3
