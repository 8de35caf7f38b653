"""`log export --session` and `replay`: what they print, and their exit statuses."""

from __future__ import annotations

import json
import stat

import pytest


@pytest.fixture
def session(run, state):
    path = state / "session.jsonl"
    done = run("log", "export", "--session", "-o", path, "--title", "two", "--says", "Two.", "--state-dir", state)
    assert done.exit_code == 0, done.output
    return path


def test_a_log_is_exported_as_a_session_and_played(run, session):
    header = json.loads(session.read_text().splitlines()[0])
    assert (header["session"], header["name"], header["says"], header["source"]) == (1, "two", "Two.", "log")
    done = run("replay", session)
    assert done.exit_code == 0, done.output
    assert "No differences." in done.output


def test_a_difference_is_shown_with_its_place_and_ends_with_1(run, session, monkeypatch):
    monkeypatch.setattr("relaybroker.domain.delivery.INJECT_WINDOW", 0)
    monkeypatch.setattr("relaybroker.domain.rules.deliveries.INJECT_WINDOW", 0)
    done = run("replay", session)
    assert done.exit_code == 1
    assert "FrameArrived: decided differently" in done.output
    assert "  - #" in done.output
    as_data = json.loads(run("replay", session, "--json", "-n", "1").output)
    assert as_data["different"] >= 1
    assert len(as_data["differences"]) == 1


def test_a_state_is_shown_at_a_position(run, session):
    done = run("replay", session, "--until", "20")
    assert done.exit_code == 0
    assert "#20 " in done.output
    assert "agent   w1" in done.output
    state = json.loads(run("replay", session, "--until", "20", "--json").output)["state"]
    assert state["position"] == 20


def test_what_if_is_a_question_and_no_failure(run, session):
    done = run("replay", session, "--what-if", "default_channels=a,b")
    assert done.exit_code == 0
    assert "difference" in done.output
    assert run("replay", session, "--what-if", "weather=fair").exit_code == 2


def test_a_bad_file_is_refused_with_a_code(run, session, tmp_path):
    missing = run("replay", tmp_path / "none.jsonl")
    assert missing.exit_code == 3
    assert "[not_found]" in missing.output
    (tmp_path / "bad.jsonl").write_text("hello\n")
    bad = run("replay", tmp_path / "bad.jsonl")
    assert bad.exit_code == 2
    assert "[not_a_session]" in bad.output
    as_data = run("replay", tmp_path / "bad.jsonl", "--json").output
    assert json.loads(as_data.splitlines()[0])["error"]["code"] == "not_a_session"


def test_a_session_that_was_cut_off_is_played_and_said_to_be_so(run, session):
    lines = session.read_bytes().splitlines(keepends=True)
    session.write_bytes(b"".join(lines[:-1]))
    done = run("replay", session)
    assert done.exit_code == 0
    assert "cut off" in done.output


def test_redacted_sessions_come_from_the_log_and_from_a_file(run, session, state, tmp_path):
    assert '"text":"what was said"' in session.read_text()
    again = tmp_path / "again.jsonl"
    assert run("log", "export", "--session", "--redact", "-o", again, "--state-dir", state).exit_code == 0
    copy = tmp_path / "copy.jsonl"
    assert run("replay", session, "--redacted-to", copy).exit_code == 0
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    for path in (again, copy):
        assert '"text":"what was said"' not in path.read_text()
        assert run("replay", path).exit_code == 0
    assert run("replay", session, "--redacted-to", copy).exit_code == 1, "no file is overwritten"


def test_a_range_is_exported_as_events_or_as_a_session(run, state, tmp_path):
    events = run("log", "export", "--first", "5", "--last", "9", "--state-dir", state).output.splitlines()
    assert [json.loads(line)["position"] for line in events] == [5, 6, 7, 8, 9]
    path = tmp_path / "part.jsonl"
    assert run("log", "export", "--session", "--first", "30", "-o", path, "--state-dir", state).exit_code == 0
    assert run("replay", path).exit_code == 0
    assert run("log", "export", "--session", "--first", "9999", "-o", path, "--state-dir", state).exit_code == 1
    assert run("log", "export", "--redact", "--state-dir", state).exit_code == 2
