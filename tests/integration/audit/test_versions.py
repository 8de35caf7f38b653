"""A new version of an event breaks nothing: a log of today is the same log to a later version in which every event is another.

The later version is a process of its own, in which each event has a new topic and new names for its fields, and knows today's form
as the earlier one (`tests.versions.newer`). What it answers is compared with what today's program answers.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from relaybroker.domain.events import REGISTRY
from tests.versions.answers import ARCHIVED_BUT, JOURNAL
from tests.versions.newer import SUFFIX, newer

ROOT = Path(__file__).parents[3]
STORY = "dead-letter-and-redeliver"
SOURCES = ("forms", STORY)


def run(version, *words):
    """What a version of the program answers, as text."""
    module = {"today": "answers", "later": "newer"}[version]
    command = [sys.executable, "-m", f"tests.versions.{module}", *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def alike(text):
    """An answer with the names of the later version said in today's."""
    for topic in REGISTRY:
        text = text.replace(newer(topic), topic)
    return text.replace(SUFFIX, "")


def compare(today, later, *, archived=0, of_other_length=False):
    """Fail at the first answer that differs; where the later version wrote some of the log, it has another length in bytes."""
    assert today["commands"].keys() == later["commands"].keys()
    for words, answer in today["commands"].items():
        if words != "log stats --json":
            assert later["commands"][words] == answer, words
    expected, counted = (json.loads(answers["commands"]["log stats --json"][1]) for answers in (today, later))
    length = {"stored_bytes": None} if of_other_length else {}
    assert counted | length == expected | length | {"archived": archived}
    for name in today["views"].keys() & later["views"].keys():
        assert later["views"][name] == today["views"][name], name
    assert later["http"] == today["http"]
    assert later["read"] == today["read"]


@pytest.fixture(scope="module", params=SOURCES)
def older(request, tmp_path_factory):
    """A directory with a log that today's program wrote, and what it answers about it."""
    directory = tmp_path_factory.mktemp("older")
    count = int(run("today", "write", directory, request.param))
    return directory, request.param, count, json.loads(run("today", "ask", directory, "read"))


@pytest.fixture
def copy(older, tmp_path):
    shutil.copy(older[0] / JOURNAL, tmp_path)
    return tmp_path


def test_the_later_version_has_another_form_of_every_topic_and_the_older_log_has_them_all(tmp_path):
    assert json.loads(run("later", "topics")) == sorted(map(newer, REGISTRY))
    run("today", "write", tmp_path, "forms")
    with closing(sqlite3.connect(tmp_path / JOURNAL)) as database:
        assert {topic for (topic,) in database.execute("SELECT topic FROM stored_events")} == set(REGISTRY)


@pytest.mark.parametrize(
    ("older", "state"),
    [("forms", "read"), ("forms", "opened"), ("forms", "archived"), (STORY, "opened")],
    indirect=["older"],
)
def test_every_answer_about_an_older_log_is_the_same(older, copy, state):
    """`why`, `delivery ls|show`, `log show|tail|stats|grep|export|verify`, the local API's questions, and the views."""
    _, _, count, today = older
    later = json.loads(alike(run("later", "ask", copy, state)))
    compare(today, later, archived=count - ARCHIVED_BUT if state == "archived" else 0)


def test_a_log_that_both_versions_wrote_is_one_log(older, tmp_path):
    _, source, _, today = older
    run("today", "write", tmp_path, source, "first")
    run("later", "write", tmp_path, source, "second")
    later = json.loads(alike(run("later", "ask", tmp_path, "opened")))
    compare(today, later, of_other_length=True)


def test_every_recording_is_decided_the_same_by_the_later_version():
    assert json.loads(run("later", "play")) == json.loads(run("today", "play"))


def test_an_upcast_that_changes_the_meaning_is_a_difference():
    today, later = json.loads(run("today", "play")), json.loads(run("later", "--hasty", "play"))
    assert sum(differences for differences, _ in today.values()) < sum(differences for differences, _ in later.values())


def test_copies_in_todays_form_are_made_once_and_go_when_their_events_are_archived(tmp_path):
    first = int(run("today", "write", tmp_path, "forms", "first"))
    made = json.loads(run("later", "opened", tmp_path))
    assert made == list(range(1, first + 1))
    second = int(run("later", "write", tmp_path, "forms", "second"))
    assert json.loads(run("later", "opened", tmp_path)) == made
    run("later", "archive", tmp_path, second + 10)
    assert json.loads(run("later", "opened", tmp_path)) == made[-10:]
    assert json.loads(run("later", "findings", tmp_path)) == []


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE earlier_events SET state = (SELECT state FROM earlier_events WHERE position = 2) WHERE position = 1",
        "UPDATE earlier_events SET topic = 'delivery.held.v2' WHERE position = 1",
        "UPDATE earlier_events SET position = 9999 WHERE position = 1",
    ],
)
def test_a_copy_that_is_not_what_was_written_is_found(tmp_path, change):
    run("today", "write", tmp_path, "forms")
    run("later", "opened", tmp_path)
    with closing(sqlite3.connect(tmp_path / JOURNAL)) as database:
        database.execute(change)
        database.commit()
    (finding,) = json.loads(run("later", "findings", tmp_path))
    assert "its copy in today's form differs" in finding


def test_copies_that_other_upcasts_made_are_made_again(tmp_path):
    run("today", "write", tmp_path, "forms")
    made = run("later", "opened", tmp_path)
    with closing(sqlite3.connect(tmp_path / JOURNAL)) as database:
        database.execute("DROP TABLE earlier_events")
        database.execute("CREATE TABLE earlier_events (/* forms 0000000000000000 */ position INTEGER)")
        database.execute("INSERT INTO earlier_events VALUES (1)")
        database.commit()
    assert run("later", "opened", tmp_path) == made
    assert json.loads(run("later", "findings", tmp_path)) == []
