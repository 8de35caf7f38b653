"""In doubt: whether a text was typed cannot be known; and what is no doubt, because the living host knows."""

from __future__ import annotations

import msgspec
import pytest

from relaybroker.adapters.http.api import views
from relaybroker.domain import inputs
from relaybroker.domain.delivery import CUSTODY_S, HOST_SILENT_AGAIN_S, HOST_SILENT_S, MAX_HANDOVERS, MAX_WRITES
from relaybroker.domain.worker import DRAFT
from tests.world import SETTINGS, World

POLICIES = ("ask", "at_least_once", "at_most_once")


def world_with(policy):
    world = World(msgspec.structs.replace(SETTINGS, in_doubt=policy))
    world.start()
    world.online()
    world.spawn("w1")
    return world


def lose_the_host(world):
    world.host_id, world.sessions, world.reports, world.unconfirmed = f"host_{len(world.log)}", {}, 0, []
    world.pending_text = []
    world.tell(inputs.HostLost(detail="eof"))
    world.advance(1)


def session_of(world):
    return world.broker.state.registration_of("w1").session_id


def not_typed(world, *, typed="no", reason="pty_write_failed", wait_s=0.0):
    """The host reports that it did not complete the next text."""
    text = world.pending_text.pop(0)
    world.report(
        inputs.TextNotTyped,
        text.session_id,
        delivery_id=text.delivery_id,
        attempt=text.attempt,
        reason=reason,
        typed=typed,
    )
    world.advance(wait_s)
    return text


def open_one(world):
    (delivery,) = [item for item in world.broker.state.deliveries.values() if not item.ended]
    return delivery


def policies_told(world):
    return [item["policy"] for item in world.notified if item["kind"] == "delivery_ambiguous"]


def ambiguous_in_the_log(world):
    topics = ("delivery.dropped.v1", "delivery.dead_lettered.v1")
    return [item.event for item in world.log if item.event.topic in topics and item.event.reason == "ambiguous"]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_host_that_dies_with_a_message_leaves_it_to_the_policy_which_is_recorded(policy):
    """F033, B10, D5: a dead letter for a person, or typed once more with the mark, or dropped; never silently."""
    world = world_with(policy)
    world.auto_type = False
    world.deliver("w1", 1, text="perhaps")
    lose_the_host(world)
    world.auto_type = True
    (settled,) = ambiguous_in_the_log(world)
    assert settled.detail.startswith(f"policy {policy}: worker_lost")
    assert policies_told(world) == [policy]
    failed = [item["lastError"] for item in world.notified if item["kind"] == "message_delivery_failed"]
    letters = world.broker.state.dead_letters
    match policy:
        case "ask":
            assert ([letter.in_doubt for letter in letters.values()], world.acks("w1")) == ([True], [1])
            assert failed == ["ambiguous"]
        case "at_most_once":
            assert (letters, world.acks("w1"), failed) == ({}, [1], ["ambiguous"])
        case _:
            assert (letters, world.acks("w1"), failed) == ({}, [], [])
    world.spawn("w1")
    world.deliver("w1", 1, text="perhaps")
    again = ["Relay message from alice in #general [M1 possible-duplicate]: perhaps"]
    assert world.texts("w1") == (again if policy == "at_least_once" else [])
    assert world.acks("w1")[-1] == 1
    world.assert_fold_is_live()


def offered_again_in_doubt():
    """What may have been typed came back from the engine to an agent that types nothing yet."""
    world = world_with("at_least_once")
    world.auto_type = False
    world.deliver("w1", 1, text="perhaps")
    lose_the_host(world)
    world.spawn("w1")
    world.report(inputs.ProgramBlocked, session_of(world), pattern="permission")
    world.deliver("w1", 1, text="perhaps")
    world.auto_type = True
    return world


def test_a_message_in_doubt_keeps_its_mark_in_custody():
    """D5, TYPED-ONCE: nothing of the engine's is left to tell that it is the same one."""
    world = offered_again_in_doubt()
    world.advance(CUSTODY_S + 1)
    assert open_one(world).in_custody
    world.report(inputs.ProgramUnblocked, session_of(world))
    assert world.texts("w1") == ["Relay message from alice in #general [M1 possible-duplicate]: perhaps"]
    world.assert_fold_is_live()


def test_a_dead_letter_of_a_message_in_doubt_says_so():
    """TRUE-END: it is redelivered by force only, and with the mark."""
    world = offered_again_in_doubt()
    world.advance(CUSTODY_S + 1)
    world.tell(inputs.ReleaseRequested(request_id="r", name="w1"))
    assert [letter.in_doubt for letter in world.broker.state.dead_letters.values()] == [True]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_local_message_in_doubt_has_nobody_to_go_back_to(policy):
    """A task under `at_least_once` is kept for a person, as the coupling table says; `at_most_once` ends it."""
    world = world_with(policy)
    world.auto_type = False
    world.tell(inputs.ReleaseRequested(request_id="r", name="w1"))
    world.spawn("w1", task="the brief")
    lose_the_host(world)
    assert len(world.broker.state.dead_letters) == (policy != "at_most_once")
    assert policies_told(world) == [policy]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_killed_broker_leaves_no_doubt_while_the_host_lives(policy):
    """F032: intent in the log, no completion; the host says that it was typed."""
    world = world_with(policy)
    world.auto_type = False
    world.deliver("w1", 1)
    world.crash()
    world.auto_type = True
    world.start()
    world.online()
    while world.pending_text:
        world.type_next()
    assert len(world.texts("w1")) == 1
    assert ambiguous_in_the_log(world) == []
    assert world.acks("w1")[-1] == 1


def test_a_text_that_stands_unsubmitted_is_finished_by_the_living_host():
    """F084 composer_unclear, TYPED-ONCE: the same delivery again, nothing on top of it, later ones wait and say why."""
    world = world_with("ask")
    world.auto_type = False
    world.deliver("w1", 1, text="one")
    world.report(inputs.ProgramBlocked, session_of(world), pattern=DRAFT)
    first = not_typed(world, typed="partly")
    world.deliver("w1", 2, text="two")
    assert open_reasons(world) == {"M1": "write_backoff", "M2": "composer_unclear"}
    assert world.pending_text == []
    world.advance(6)
    (again,) = world.pending_text
    assert (again.delivery_id, again.attempt) == (first.delivery_id, 2)
    world.auto_type = True
    world.type_next()
    world.report(inputs.ProgramUnblocked, session_of(world))
    assert [text.rpartition(": ")[2] for text in world.texts("w1")] == ["one", "two"]
    assert "possible-duplicate" not in world.texts("w1")[0]
    assert ambiguous_in_the_log(world) == []
    assert world.acks("w1")[-1] == 2


def open_reasons(world):
    return {item.msg_id: item.reason for item in world.broker.state.deliveries.values() if not item.ended}


@pytest.mark.parametrize("policy", POLICIES)
def test_a_text_that_a_person_touched_is_in_doubt(policy):
    """F085 ambiguous: nobody knows whether it was submitted."""
    world = world_with(policy)
    world.auto_type = False
    world.deliver("w1", 1)
    registers = len(world.sent("node.register"))
    not_typed(world, typed="partly", reason="composer_unclear")
    assert policies_told(world) == [policy]
    assert len(world.broker.state.dead_letters) == (policy == "ask")
    world.advance(3)
    asked = len(world.sent("node.register")) - registers
    assert asked == (policy == "at_least_once"), "the engine is asked to offer it again"


def test_a_text_that_stands_when_its_program_ends_is_in_doubt():
    world = world_with("ask")
    world.auto_type = False
    world.deliver("w1", 1)
    world.report(inputs.ProgramBlocked, session_of(world), pattern=DRAFT)
    not_typed(world, typed="partly")
    world.report(
        inputs.ProgramExited, session_of(world), code=1, signal=None, last_output="", uptime_s=1.0, requested=False
    )
    (letter,) = world.broker.state.dead_letters.values()
    assert (letter.reason, letter.in_doubt, letter.detail) == ("ambiguous", True, "policy ask: worker_exited")


def test_a_text_that_stands_stays_in_doubt_when_the_host_only_refuses_it_later():
    """Found by simulation (seed 1): the second hand-over came back untyped, out of turn; the first half still stood there."""
    world = world_with("ask")
    world.auto_type = False
    world.deliver("w1", 1)
    not_typed(world, typed="partly")
    world.advance(6)
    world.report(inputs.ProgramBlocked, session_of(world), pattern="permission")
    not_typed(world, reason="out_of_turn")
    assert world.pending_text == [], "it is not with the terminal"
    world.tell(inputs.ReleaseRequested(request_id="r", name="w1"))
    (letter,) = world.broker.state.dead_letters.values()
    assert (letter.reason, letter.in_doubt) == ("ambiguous", True)


def test_a_text_that_can_never_be_finished_is_in_doubt_after_a_bounded_number_of_writes():
    world = world_with("ask")
    world.auto_type = False
    world.deliver("w1", 1)
    world.report(inputs.ProgramBlocked, session_of(world), pattern=DRAFT)
    for _ in range(MAX_WRITES):
        not_typed(world, typed="partly", wait_s=40)
    (letter,) = world.broker.state.dead_letters.values()
    assert (letter.reason, letter.tries, letter.in_doubt) == ("ambiguous", MAX_WRITES, True)
    assert world.pending_text == []


# --- bounds on what fails without doubt -------------------------------------------------------------------------------------


def test_a_terminal_that_refuses_writes_for_a_minute_gets_its_messages_after_it_and_delays_nobody():
    """F023 write_backoff, U09: waits grow, few events, the other agent is typed to at once."""
    world = world_with("ask")
    world.spawn("w2")
    world.auto_type = False
    for seq in (1, 2):
        world.deliver("w1", seq, text=f"stuck {seq}")
    before, began, busy_s = len(world.log), world.now, 0
    while world.now - began < 60:
        world.advance(1)
        busy_s = busy_s + 1 if world.pending_text else 0
        if busy_s == 10:  # no progress for ten seconds: the host gives the write up, and hands back what is behind it
            not_typed(world)
            while world.pending_text:
                not_typed(world, reason="out_of_turn")
            busy_s = 0
    world.deliver("w2", 1, text="meanwhile")
    world.pending_text.insert(0, world.pending_text.pop())  # another terminal is another queue
    world.type_next()
    (meanwhile,) = world.typed[world.broker.state.registration_of("w2").session_id]
    assert meanwhile.endswith("meanwhile")
    beats = 8 * 12  # heartbeats, inventories and the messages themselves
    assert len(world.log) - before < beats, "the processor is idle"
    assert set(open_reasons(world).values()) <= {"write_backoff", "out_of_turn", None}
    world.advance(30)
    while world.pending_text:
        world.type_next()
    assert [text.rpartition(": ")[2] for text in world.texts("w1")] == ["stuck 1", "stuck 2"]


def test_messages_behind_one_that_was_not_taken_stay_behind_it():
    """D8 ORDER: also those that the host had already, and those that came meanwhile; taken on in the same moment."""
    world = world_with("ask")
    world.auto_type = False
    for seq in (1, 2, 3):
        world.deliver("w1", seq, text=str(seq))
    not_typed(world)
    world.deliver("w1", 4, text="4")
    not_typed(world, reason="out_of_turn")
    world.deliver("w1", 5, text="5")
    not_typed(world, reason="out_of_turn")
    assert world.pending_text == []
    assert open_reasons(world) == {
        "M1": "write_backoff", "M2": "out_of_turn", "M3": "out_of_turn", "M4": None, "M5": None,
    }  # fmt: skip
    world.advance(6)
    while world.pending_text:
        world.type_next()
    assert [text.rpartition(": ")[2] for text in world.texts("w1")] == ["1", "2", "3", "4", "5"]
    assert world.acks("w1")[-1] == 5


def test_a_host_that_takes_nothing_is_asked_a_bounded_number_of_times():
    """F022 attempts_exhausted: then the sender is told and later messages go on."""
    world = world_with("ask")
    world.auto_type = False
    world.deliver("w1", 1)
    for _ in range(MAX_HANDOVERS):
        not_typed(world, reason="queue_full", wait_s=MAX_HANDOVERS)
    (letter,) = world.broker.state.dead_letters.values()
    assert (letter.reason, letter.in_doubt) == ("attempts_exhausted", False)
    world.auto_type = True
    world.deliver("w1", 2, text="goes on")
    assert len(world.texts("w1")) == 1
    assert world.acks("w1")[-1] == 2


def test_a_message_that_the_host_swallows_ends_and_later_ones_go_on():
    """F022 hold_expired: no report at all; BOUNDED, the sender is told, and nobody calls it untyped for sure."""
    world = world_with("at_least_once")
    world.auto_type = False
    world.deliver("w1", 1)
    swallowed = world.pending_text.pop()
    world.advance(HOST_SILENT_S + HOST_SILENT_AGAIN_S - 1)
    assert (open_one(world).state, open_one(world).asked_again) == ("injecting", True)
    assert world.pending_text == [swallowed], "asked once more for the same try"
    assert world.acks("w1") == [1], "it is in custody, and the engine may forget it"
    world.pending_text.clear()
    world.auto_type = True
    world.deliver("w1", 2, text="goes on")
    world.advance(2)
    (letter,) = world.broker.state.dead_letters.values()
    assert (letter.msg_id, letter.reason, letter.in_doubt) == ("M1", "hold_expired", True)
    assert [item["event_id"] for item in world.notified if item["kind"] == "message_delivery_failed"] == ["M1"]
    assert world.acks("w1")[-1] == 2
    world.report(
        inputs.TextTyped,
        swallowed.session_id,
        delivery_id=swallowed.delivery_id,
        attempt=1,
        bytes_written=3,
        evidence="none",
        wait_ms=1.0,
    )
    assert world.events("host.report_ignored.v1")[-1].event.what == "TextTyped"


def test_waiting_for_a_dialog_uses_up_no_attempt():
    """U08."""
    world = world_with("ask")
    world.auto_type = False
    world.deliver("w1", 1)
    for _ in range(MAX_HANDOVERS + 5):
        world.report(inputs.ProgramBlocked, session_of(world), pattern="trust")
        not_typed(world, reason="blocked_by_dialog")
        assert open_reasons(world) == {"M1": "blocked_by_dialog"}
        world.report(inputs.ProgramUnblocked, session_of(world))
        world.advance(2)
    assert world.broker.state.dead_letters == {}
    assert open_one(world).failures == 0


def test_a_text_whose_echo_is_never_seen_is_written_and_not_verified():
    """F014, B13: evidence and verification are said as they are, in record, event and list."""
    world = world_with("ask")
    world.auto_type = False
    world.deliver("w1", 1)
    text = world.pending_text.pop()
    about = {"delivery_id": text.delivery_id}
    world.report(inputs.TextTyped, text.session_id, attempt=1, bytes_written=9, evidence="none", wait_ms=500.0, **about)
    assert [item["evidence"] for item in world.notified if item["kind"] == "delivery_injected"] == ["none"]
    assert not [item for item in world.notified if item["kind"] == "delivery_verified"]
    world.report(inputs.TextVerified, text.session_id, verification="timeout_fallback", **about)
    assert [item.event.verification for item in world.events("delivery.verified.v1")] == ["timeout_fallback"]
    announced = [item["verification"] for item in world.notified if item["kind"] == "delivery_verified"]
    assert announced == ["timeout_fallback"]
    assert "echo" not in str([item for item in world.notified if item["kind"].startswith("delivery_")])
    assert views.status(world.broker.state, world.now).pending_deliveries == []
