"""A deliberate change of one rule is found by the recordings that exercise it, and by no other."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from relaybroker.domain import composition, couplings, mailbox
from relaybroker.domain import link as link_machine
from relaybroker.domain import message as message_machine
from relaybroker.domain.couplings import Settlement
from relaybroker.domain.mailbox import Judgement, Mailbox
from relaybroker.domain.reasons import Reason
from relaybroker.domain.rules import (
    agents,
    dead_letters,
    deliveries,
    hosts,
    link,
    mailboxes,
    resume,
    settling,
    sidecars,
    workers,
)
from tests.replay import recordings

# --- gap-and-hole -------------------------------------------------------------------------------------------------------


def _judged_otherwise(monkeypatch, change: Callable[[Judgement], Judgement]) -> None:
    judge = Mailbox.judge
    monkeypatch.setattr(Mailbox, "judge", lambda self, *frame, **more: change(judge(self, *frame, **more)))


def a_hole_is_given_up_later(monkeypatch):
    monkeypatch.setattr(mailbox, "GIVE_UP_S", 20.0)


def a_hole_is_asked_for_once(monkeypatch):
    monkeypatch.setattr(mailbox, "RESYNC_AFTER_S", (1.0,))
    monkeypatch.setattr(mailboxes, "RESYNC_AFTER_S", (1.0,))


def a_repeated_message_does_not_take_its_place(monkeypatch):
    _judged_otherwise(monkeypatch, lambda judgement: msgspec.structs.replace(judgement, advances=False))


def a_second_message_of_a_number_is_called_stale(monkeypatch):
    def stale(judgement):
        return Judgement(judgement.verdict, Reason.STALE) if judgement.reason is Reason.SEQ_CONFLICT else judgement

    _judged_otherwise(monkeypatch, stale)


# --- reconnect-storm, crash-in-mid-injection ------------------------------------------------------------------------------


def what_is_settled_is_called_a_duplicate(monkeypatch):
    def duplicate(judgement):
        return Judgement(judgement.verdict, Reason.DUPLICATE) if judgement.reason is Reason.STALE else judgement

    _judged_otherwise(monkeypatch, duplicate)


def a_new_session_begins_without_acknowledgements(monkeypatch):
    monkeypatch.setattr(settling, "acknowledge_all", lambda turn: None)


def whoever_was_superseded_comes_back_at_once(monkeypatch):
    monkeypatch.setattr(link_machine, "SUPERSEDED_WAIT_S", 1.0)


def the_programs_of_a_known_host_are_lost(monkeypatch):
    monkeypatch.setattr(hosts, "_resume", lambda turn, program: agents.lost(turn, program, "not trusted"))


def what_was_being_typed_at_a_crash_is_in_doubt(monkeypatch):
    unfinished = resume.unfinished_turns

    def doubtful(turn):
        unfinished(turn)
        for program in list(turn.state.workers.values()):
            for stream in list(program.typing):
                settling.settle_doubt(turn, turn.state.deliveries[stream], "the broker was restarted")

    monkeypatch.setattr(resume, "unfinished_turns", doubtful)


# --- token-remint ----------------------------------------------------------------------------------------------------------


def one_token_less_is_replaced(monkeypatch):
    monkeypatch.setattr(link_machine, "MAX_REMINTS", 4)


def a_refused_node_probes_sooner(monkeypatch):
    monkeypatch.setattr(link_machine, "REFUSED_PROBE_S", 60.0)


def the_first_pause_is_longer(monkeypatch):
    monkeypatch.setattr(link_machine, "BACKOFF_FIRST_S", 1.5)


# --- sidecar-drop ----------------------------------------------------------------------------------------------------------


def a_dropped_sidecar_is_waited_for_longer(monkeypatch):
    monkeypatch.setattr(sidecars, "GRACE_S", 10.0)


def what_ran_on_a_dropped_sidecar_stays_open(monkeypatch):
    def gone(turn, current, reason, detail, *, grace_s=0.0):
        grace_until = turn.now + grace_s if grace_s else 0.0
        turn.record(
            sidecars.events.SidecarGone(reason=reason, detail=detail[:500], grace_until=grace_until),
            current.stream,
            current.connection,
        )

    monkeypatch.setattr(sidecars, "_gone", gone)


# --- dialog-hold -----------------------------------------------------------------------------------------------------------


def a_dialog_is_not_noticed(monkeypatch):
    monkeypatch.setattr(workers, "_blocked", lambda turn, program, report: False)


def urgent_messages_are_typed_into_dialogs(monkeypatch):
    why_held = deliveries._why_held

    def held(turn, target, delivery, *, steered):
        reason = why_held(turn, target, delivery, steered=steered)
        return None if steered and reason is Reason.BLOCKED_BY_DIALOG else reason

    monkeypatch.setattr(deliveries, "_why_held", held)


# --- dead-letter-and-redeliver ----------------------------------------------------------------------------------------------


def messages_may_be_longer(monkeypatch):
    monkeypatch.setattr(mailboxes, "MAX_BODY_BYTES", 32 * 1024)


def what_may_have_been_typed_is_typed_again(monkeypatch):
    monkeypatch.setattr(couplings, "policy_settlement", lambda policy, *, returnable: (Settlement.RETURN, False))


def a_doubtful_letter_is_redelivered_without_force(monkeypatch):
    why_not = dead_letters._why_not
    monkeypatch.setattr(dead_letters, "_why_not", lambda turn, letter, *, force: why_not(turn, letter, force=True))


def a_redelivery_has_the_number_of_the_attempt_before(monkeypatch):
    opened = dead_letters._open_attempt

    def again(turn, letter):
        return opened(turn, msgspec.structs.replace(letter, attempt=letter.attempt - 1))

    monkeypatch.setattr(dead_letters, "_open_attempt", again)


def a_possible_duplicate_is_not_marked(monkeypatch):
    compose = composition.compose
    monkeypatch.setattr(composition, "compose", lambda **given: compose(**given | {"possible_duplicate": False}))


# --- two-nodes ---------------------------------------------------------------------------------------------------------------


def a_name_of_another_node_is_taken(monkeypatch):
    settle = link._settle_name
    monkeypatch.setattr(link, "_settle_name", lambda turn, holder: settle(turn, ""))


def a_sender_waits_longer_for_its_answer(monkeypatch):
    monkeypatch.setattr(message_machine, "ANSWER_S", 2 * message_machine.ANSWER_S)


EXERCISED_BY = {
    a_hole_is_given_up_later: {"gap-and-hole"},
    a_hole_is_asked_for_once: {"gap-and-hole"},
    a_repeated_message_does_not_take_its_place: {"gap-and-hole"},
    a_second_message_of_a_number_is_called_stale: {"gap-and-hole"},
    what_is_settled_is_called_a_duplicate: {"reconnect-storm", "crash-in-mid-injection"},
    a_new_session_begins_without_acknowledgements: {"reconnect-storm", "crash-in-mid-injection"},
    whoever_was_superseded_comes_back_at_once: {"reconnect-storm"},
    the_programs_of_a_known_host_are_lost: {"crash-in-mid-injection"},
    what_was_being_typed_at_a_crash_is_in_doubt: {"crash-in-mid-injection"},
    one_token_less_is_replaced: {"token-remint"},
    a_refused_node_probes_sooner: {"token-remint"},
    the_first_pause_is_longer: {"reconnect-storm", "token-remint"},
    a_dropped_sidecar_is_waited_for_longer: {"sidecar-drop"},
    what_ran_on_a_dropped_sidecar_stays_open: {"sidecar-drop"},
    a_dialog_is_not_noticed: {"dialog-hold"},
    urgent_messages_are_typed_into_dialogs: {"dialog-hold"},
    messages_may_be_longer: {"dead-letter-and-redeliver"},
    what_may_have_been_typed_is_typed_again: {"dead-letter-and-redeliver"},
    a_doubtful_letter_is_redelivered_without_force: {"dead-letter-and-redeliver"},
    a_redelivery_has_the_number_of_the_attempt_before: {"dead-letter-and-redeliver"},
    a_possible_duplicate_is_not_marked: {"dead-letter-and-redeliver"},
    a_name_of_another_node_is_taken: {"two-nodes-second"},
    a_sender_waits_longer_for_its_answer: {"two-nodes-first", "two-nodes-second"},
}


def _differing() -> set[str]:
    names = set()
    for name, expected in recordings.expected().items():
        differences = recordings.play(recordings.path_of(name)).differences
        assert not [one.error for one in differences if one.error], "it decides otherwise, it does not break"
        if {one.position for one in differences} != expected.otherwise:
            names.add(name)
    return names


@pytest.mark.parametrize("change", EXERCISED_BY, ids=lambda change: change.__name__)
def test_a_changed_rule_is_found_by_the_recordings_that_exercise_it_and_by_no_other(monkeypatch, change):
    change(monkeypatch)
    assert _differing() == EXERCISED_BY[change]


def test_every_recording_finds_a_changed_rule():
    assert set().union(*EXERCISED_BY.values()) == recordings.expected().keys()
