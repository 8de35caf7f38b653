"""REPLAY: recordings of real runs of this project are decided as they were, and a changed rule shows in those that exercise it.

fixtures/sessions/README.md says what to do when a decision changes on purpose.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter

import pytest

from domain.delivery import State as DeliveryState
from domain.reasons import Reason
from domain.rules import dead_letters, deliveries, resume, settling
from domain.worker import State as WorkerState
from relaybroker.replay.playing import Player
from relaybroker.replay.session import open_session
from tests.sessions.record import NAMES, SESSIONS, STORIES, TWO_NODES

SUBJECTS = {
    "reconnect-storm": {"link.online.v1": 6, "link.backed_off.v1 dial_failed": 3, "mailbox.frame_ignored.v1 stale": 10},
    "gap-and-hole": {"mailbox.frame_buffered.v1": 3, "mailbox.resync_asked.v1": 3, "mailbox.range_lost.v1 lost": 1},
    "crash-mid-injection": {"broker.started.v1": 2, "delivery.injecting.v1": 2, "delivery.injected.v1": 2},
    "token-replaced": {"link.token_granted.v1": 6, "link.refused.v1 token_rejected": 1, "link.online.v1": 1},
    "sidecar-drop": {
        "sidecar.gone.v1 sidecar_lost": 1,
        "action.done.v1 handler_unavailable": 1,
        "action.reported.v1": 2,
    },
    "dialog-hold": {"delivery.held.v1 blocked_by_dialog": 1, "worker.unblocked.v1": 1, "delivery.acked.v1": 1},
    "dead-letter-redelivered": {
        "delivery.dead_lettered.v1 ambiguous": 1,
        "dead_letter.redelivery_skipped.v1 ambiguous": 1,
        "delivery.acked.v1": 1,
        "dead_letter.removed.v1 purged": 1,
    },
    "two-nodes-ann": {"broker.started.v1": 2, "message.published.v1": 1, "delivery.acked.v1": 2},
    "two-nodes-bob": {"broker.own_identity_refused.v1": 1, "message.published.v1": 2, "delivery.acked.v1": 1},
}
"""What each recording is about: event, with its reason if it has one -> at least so often."""


def path(name):
    return SESSIONS / f"{name}.jsonl"


def test_every_story_is_recorded_and_nothing_else_is_kept():
    assert {file.stem for file in SESSIONS.glob("*.jsonl")} == set(NAMES) == set(SUBJECTS)
    page = (SESSIONS / "README.md").read_text(encoding="utf-8")
    for name in NAMES:
        says = STORIES[name].says if name in STORIES else TWO_NODES[name]
        assert f"| `{name}` | {says} |" in page
        with open_session(path(name)) as session:
            assert (session.header.name, session.header.says) == (name, says)


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_is_decided_as_it_was(name, replay_session):
    outcome = replay_session(path(name))
    assert outcome.complete
    assert outcome.differences == []


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_contains_what_it_is_about(name):
    with open_session(path(name)) as session:
        events = [recorded.event for turn in session for recorded in turn.events]
    found = Counter(f"{event.topic} {getattr(event, 'reason', '') or ''}".strip() for event in events)
    assert {what: count for what, count in SUBJECTS[name].items() if found[what] < count} == {}, found


@pytest.mark.parametrize("name", NAMES)
def test_no_secret_and_no_place_of_the_machine_is_in_it(name):
    text = path(name).read_text(encoding="utf-8")
    assert not re.search(r"[an]t_live_|rk_live_|\bbr_[0-9a-f]{16}", text)
    assert not re.search(r"\"[^\"]*/(?:tmp|root|home|work|Users)/", text)


def test_the_command_says_the_same():
    done = subprocess.run(
        [sys.executable, "-m", "relaybroker", "replay", path("gap-and-hole")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all are decided the same" in done.stdout


# --- a deliberate change of one rule ---------------------------------------------------------------------------------------


def _dialogs_do_not_hold(patch):
    why_held = deliveries._why_held

    def otherwise(turn, target, delivery, *, steered):
        return None if target.state == WorkerState.BLOCKED else why_held(turn, target, delivery, steered=steered)

    patch.setattr(deliveries, "_why_held", otherwise)


def _doubt_needs_no_force(patch):
    why_not = dead_letters._why_not
    patch.setattr(dead_letters, "_why_not", lambda turn, letter, *, force: why_not(turn, letter, force=True))


def _a_crash_leaves_doubt(patch):
    unfinished = resume.unfinished_turns

    def otherwise(turn):
        unfinished(turn)
        for found in list(turn.state.deliveries.values()):
            if found.state == DeliveryState.INJECTING:
                settling.dead_letter(turn, found, Reason.AMBIGUOUS, in_doubt=True)

    patch.setattr(resume, "unfinished_turns", otherwise)


CHANGES = {
    "a gap is given up later": (
        lambda patch: patch.setattr("domain.mailbox.GIVE_UP_S", 20.0),
        {"gap-and-hole"},
    ),
    "a token is replaced four times": (
        lambda patch: patch.setattr("domain.node_connection.MAX_REMINTS", 4),
        {"token-replaced"},
    ),
    "the first pause after a lost link is longer": (
        lambda patch: patch.setattr("domain.node_connection.BACKOFF_FIRST_S", 4.0),
        {"reconnect-storm", "token-replaced"},
    ),
    "a sidecar has a minute to come back": (
        lambda patch: patch.setattr("domain.rules.sidecars.GRACE_S", 60.0),
        {"sidecar-drop"},
    ),
    "what was with the terminal at a crash is in doubt": (_a_crash_leaves_doubt, {"crash-mid-injection"}),
    "a dialog does not hold": (_dialogs_do_not_hold, {"dialog-hold"}),
    "what may have been typed is redelivered without force": (_doubt_needs_no_force, {"dead-letter-redelivered"}),
    "longer messages are typed": (
        lambda patch: patch.setattr("domain.rules.mailboxes.MAX_BODY_BYTES", 100_000),
        {"dead-letter-redelivered"},
    ),
    "nothing is published": (
        lambda patch: patch.setattr("domain.outbound_message.AT_ONCE", 0),
        {"two-nodes-ann", "two-nodes-bob"},
    ),
    "a taken name is not asked for again": (
        lambda patch: patch.setattr("domain.rules.messages.OWN_RETRY_S", 3600.0),
        {"two-nodes-bob"},
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_rule_shows_in_the_recordings_that_exercise_it_and_in_no_other(change, monkeypatch):
    make, exercised = CHANGES[change]
    make(monkeypatch)
    different = set()
    for name in NAMES:
        with open_session(path(name)) as session:
            if Player(session).play().differences:
                different.add(name)
    assert different == exercised
