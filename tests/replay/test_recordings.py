"""Recordings of real runs, kept for ever: this version decides each of them the same, and each shows what it is there for."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from relaybroker.cli.app import cli
from tests.replay import recordings

EXPECTED = recordings.expected()


def test_every_recording_is_in_the_table_and_the_other_way_round():
    assert {path.stem for path in recordings.FOLDER.glob("*.jsonl")} == EXPECTED.keys()


@pytest.mark.parametrize("name", EXPECTED)
def test_it_is_decided_the_same_but_for_what_was_changed_on_purpose(name):
    done = CliRunner().invoke(cli, ["replay", str(recordings.path_of(name)), "--json", "-n", "10000"])
    outcome = json.loads(done.stdout)
    assert (outcome["complete"], done.stderr) == (True, "")
    assert {one["position"] for one in outcome["differences"]} == EXPECTED[name].otherwise
    assert done.exit_code == (1 if EXPECTED[name].otherwise else 0)


@pytest.mark.parametrize("name", EXPECTED)
def test_it_shows_its_subject(name):
    assert EXPECTED[name].shows, "a recording without a subject shows nothing"
    assert not recordings.missing(recordings.path_of(name), name)


def test_a_recording_without_its_subject_is_seen():
    assert recordings.missing(recordings.path_of("dialog-hold"), "crash-in-mid-injection")["broker.started.v1"] == 1


@pytest.mark.parametrize("name", EXPECTED)
def test_it_says_what_it_is_begins_at_the_beginning_and_ends_in_order(name):
    lines = recordings.path_of(name).read_text(encoding="utf-8").splitlines()
    first, last = json.loads(lines[0]), json.loads(lines[-1])
    assert (first["name"], first["says"]) == (name, EXPECTED[name].says)
    assert (first["source"], first.get("after", 0)) == ("log", 0), "readable for ever: no state, no effects (ADR-0026)"
    assert last == {"end": "range", "turns": len(lines) - 2, "last": last["last"]}


@pytest.mark.parametrize("name", EXPECTED)
def test_it_is_small_and_holds_nothing_private(name):
    path = recordings.path_of(name)
    assert recordings.private(path) == []
    assert path.stat().st_size <= recordings.MAX_BYTES


@pytest.mark.parametrize(
    "text",
    [
        '"token":"at_live_00000000000000000000"',
        '"workspace_key":"rk_live_0000"',
        '"api_key":"br_0123456789abcdef0123456789abcdef"',
        '"cwd":"/home/somebody/project"',
        '"argv":["/root/.venv/bin/python"]',
        '"cwd":"/tmp/session-x/w1"',
    ],
)
def test_what_is_private_is_seen(tmp_path, text):
    path = tmp_path / "leak.jsonl"
    path.write_text(f"{{{text}}}\n", encoding="utf-8")
    assert len(recordings.private(path)) == 1
