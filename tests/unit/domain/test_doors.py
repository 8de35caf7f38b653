"""Doors: the door and the program's own evidence stand in the log; what is in doubt is looked up before any policy settles it."""

from __future__ import annotations

import msgspec
import pytest

from relaybroker.domain import effects, inputs
from relaybroker.domain.delivery import HOST_SILENT_AGAIN_S, HOST_SILENT_S, INJECT_WINDOW, LOOK_UP_S, MAX_HANDOVERS
from relaybroker.domain.doors import MAX_POINTER
from relaybroker.domain.questions import Option, question
from tests.world import SETTINGS, World

POLICIES = ("ask", "at_least_once", "at_most_once")
DOOR, PLACE = "codex_app_server", "thread th_1"


def world_with_door(policy="ask", **spec):
    """An agent whose program takes deliveries through a door of its own; the test says what comes of each."""
    world = World(msgspec.structs.replace(SETTINGS, in_doubt=policy))
    world.auto_ready = False
    world.start()
    world.online()
    world.spawn("w1", doors=("claude_inbox", DOOR), **spec)
    world.auto_type = False
    choose_door(world)
    return world


def choose_door(world, door=DOOR):
    passed_over = {"claude_inbox": "it is no Claude Code"}
    world.report(inputs.DoorChosen, session_of(world), door=door, place=PLACE, passed_over=passed_over)
    world.report(inputs.ProgramReady, session_of(world), evidence="prompt")


def session_of(world):
    return world.broker.state.registration_of("w1").session_id


def taken(world, pointer="item_17"):
    """The program shows that it took the next message."""
    text = world.pending_text.pop(0)
    world.report(
        inputs.TextTyped,
        text.session_id,
        delivery_id=text.delivery_id,
        attempt=text.attempt,
        bytes_written=9,
        evidence="item",
        wait_ms=84.0,
        door=DOOR,
        pointer=pointer,
    )


def no_evidence(world, reason="no_evidence"):
    """The next message was handed over, and the program shows nothing; the host hands back what is behind it."""
    text = world.pending_text.pop(0)
    world.not_typed(text, reason=reason, typed="unknown")
    while world.pending_text:
        world.not_typed(world.pending_text.pop(0), reason="out_of_turn")
    return text


def lose_the_host(world):
    world.host_id, world.sessions, world.reports, world.unconfirmed = f"host_{len(world.log)}", {}, 0, []
    world.pending_text = []
    world.tell(inputs.HostLost(detail="eof"))
    world.advance(1)


def look_ups(world):
    return world.look_ups()


def tell(world, outcome, asked=None, **fields):
    """What the records say about what was looked up last."""
    world.looked_up(asked or world.look_ups()[-1], outcome, **fields)


def states(world):
    return {delivery.msg_id: delivery.state for delivery in world.broker.state.deliveries.values()}


def last_words(world):
    return [text.text.rpartition(": ")[2] for text in world.pending_text]


def test_the_program_is_started_with_the_doors_that_its_spawn_asks_for():
    world = world_with_door()
    (start,) = [effect for effect in world.effects if isinstance(effect, effects.StartProgram)]
    assert start.doors == ("claude_inbox", DOOR)


@pytest.mark.parametrize("doors", [("Inbox",), ("a b",), ("x",) * 2, tuple(f"d{n}" for n in range(9)), ("",)])
def test_what_is_no_list_of_doors_is_refused_before_anything_happens(doors):
    world = World()
    world.start()
    world.online()
    world.tell(inputs.SpawnRequested(request_id="r", spec=inputs.SpawnSpec(name="w1", cli="cat", doors=doors)))
    assert (world.replies["r"].status, world.replies["r"].body["code"]) == (400, "invalid_door")
    assert not world.sent("agent.register")


def test_door_evidence_and_pointer_stand_in_the_log_and_no_echo_is_waited_for():
    world = world_with_door()
    world.deliver("w1", 1)
    taken(world, pointer="x" * 1000)
    (chosen,) = [recorded.event for recorded in world.events("worker.door_chosen.v1")]
    assert (chosen.door, chosen.place, chosen.passed_over) == (DOOR, PLACE, {"claude_inbox": "it is no Claude Code"})
    (typed,) = [recorded.event for recorded in world.events("delivery.injected.v1")]
    assert (typed.door, typed.evidence, typed.pointer, typed.wait_ms) == (DOOR, "item", "x" * MAX_POINTER, 84.0)
    assert world.acks("w1") == [1]
    kinds = [item["kind"] for item in world.notified if item["kind"].startswith("delivery_")]
    assert {"delivery_injected", "delivery_verified"} <= set(kinds)
    assert world.broker.state.deliveries == {}, "nothing is waited for any more"
    world.assert_fold_is_live()


def test_what_the_records_hold_was_taken():
    """LOOKED-UP."""
    world = world_with_door()
    world.deliver("w1", 1)
    text = no_evidence(world)
    assert states(world) == {"M1": "in_doubt"}
    (asked,) = look_ups(world)
    assert (asked.delivery_id, asked.door, asked.place) == (text.delivery_id, DOOR, PLACE)
    assert world.acks("w1") == []
    tell(world, "accepted")
    (typed,) = [recorded.event for recorded in world.events("delivery.injected.v1")]
    assert (typed.door, typed.evidence, typed.pointer) == (DOOR, "item", "item_9")
    assert [recorded.event.outcome for recorded in world.events("delivery.looked_up.v1")] == ["accepted"]
    assert world.acks("w1") == [1]
    world.assert_fold_is_live()


def test_what_the_records_prove_absent_is_handed_over_again_in_its_place():
    """LOOKED-UP, D8 ORDER: nothing behind it goes before, also not what comes meanwhile."""
    world = world_with_door()
    for seq in (1, 2):
        world.deliver("w1", seq, text=str(seq))
    no_evidence(world)
    world.deliver("w1", 3, text="3")
    assert world.pending_text == [], "nothing is handed over while one is in doubt"
    tell(world, "absent")
    assert last_words(world) == ["1", "2", "3"]
    assert "possible-duplicate" not in world.pending_text[0].text, "it is no doubt any more"
    while world.pending_text:
        taken(world)
    assert world.acks("w1")[-1] == 3
    world.assert_fold_is_live()


@pytest.mark.parametrize("policy", POLICIES)
def test_what_the_records_do_not_tell_is_settled_by_the_policy(policy):
    world = world_with_door(policy)
    world.deliver("w1", 1)
    no_evidence(world)
    tell(world, "unknowable", detail="the transcript is gone")
    letters = world.broker.state.dead_letters
    assert [item["policy"] for item in world.notified if item["kind"] == "delivery_ambiguous"] == [policy]
    assert len(letters) == (policy == "ask")
    assert world.acks("w1") == ([] if policy == "at_least_once" else [1])
    world.assert_fold_is_live()


def test_a_program_that_never_takes_it_is_handed_it_a_bounded_number_of_times():
    world = world_with_door()
    world.deliver("w1", 1)
    for _ in range(MAX_HANDOVERS):
        no_evidence(world)
        tell(world, "absent")
    assert world.pending_text == []
    (letter,) = world.broker.state.dead_letters.values()
    assert (letter.reason, letter.in_doubt) == ("attempts_exhausted", False)


@pytest.mark.parametrize("outcome", ["accepted", "absent", "unknowable"])
def test_what_a_dead_host_had_is_looked_up_by_the_next_one(outcome):
    """LOOKED-UP: the agent is gone with its host; its program's records are not."""
    world = world_with_door()
    world.deliver("w1", 1)
    lose_the_host(world)
    assert world.broker.state.worker_of_agent(world.agent_ids["w1"]) is None or not world.sessions
    assert states(world) == {"M1": "in_doubt"}
    tell(world, outcome)
    assert states(world) == {}
    ends = [recorded.event.topic for recorded in world.log if recorded.stream.startswith("delivery:")][-1]
    expected = {"accepted": "acked", "absent": "dropped", "unknowable": "dead_lettered"}
    assert ends == f"delivery.{expected[outcome]}.v1"
    if outcome == "absent":
        (dropped,) = world.events("delivery.dropped.v1")
        assert (dropped.event.reason, dropped.event.settled) == ("worker_lost", False), "the engine offers it again"
    world.assert_fold_is_live()


def test_without_a_door_of_its_own_a_program_keeps_no_records_and_the_policy_settles_at_once():
    world = world_with_door()
    choose_door(world, door="")
    world.deliver("w1", 1)
    lose_the_host(world)
    assert look_ups(world) == []
    assert [letter.in_doubt for letter in world.broker.state.dead_letters.values()] == [True]


def test_a_program_that_is_started_again_gets_what_the_former_one_did_not_take():
    world = world_with_door(restart=inputs.RestartPolicy(cooldown_s=0.5))
    for seq in (1, 2, 3):
        world.deliver("w1", seq, text=str(seq))
    first = world.pending_text.pop(0)
    world.not_typed(first, reason="worker_exited", typed="unknown")
    while world.pending_text:
        world.not_typed(world.pending_text.pop(0), reason="worker_exited")
    former = session_of(world)
    world.report(inputs.ProgramExited, former, code=1, signal=None, last_output="", uptime_s=1.0, requested=False)
    world.advance(5)
    assert session_of(world) != former
    choose_door(world)
    assert world.pending_text == [], "the first is still in doubt"
    tell(world, "absent")
    assert last_words(world) == ["1", "2", "3"]
    world.assert_fold_is_live()


def test_a_doubt_ends_also_when_nobody_tells():
    """BOUNDED: it is asked for once more, then the policy settles it, and what waits goes on."""
    world = world_with_door()
    world.deliver("w1", 1)
    no_evidence(world)
    world.deliver("w1", 2, text="2")
    world.advance(2 * LOOK_UP_S - 1)
    assert (len(look_ups(world)), states(world)["M1"]) == (2, "in_doubt")
    world.advance(1)
    (letter,) = world.broker.state.dead_letters.values()
    assert (letter.msg_id, letter.reason, letter.in_doubt) == ("M1", "ambiguous", True)
    assert last_words(world) == ["2"]
    tell(world, "accepted")
    assert [item.event.what for item in world.events("host.report_ignored.v1")] == ["DeliveryLookedUp"]
    world.assert_fold_is_live()


def test_the_answer_about_an_earlier_hand_over_settles_nothing():
    world = world_with_door()
    world.deliver("w1", 1)
    no_evidence(world)
    first = look_ups(world)[-1]
    tell(world, "absent")
    no_evidence(world)
    tell(world, "accepted", asked=first)
    assert states(world) == {"M1": "in_doubt"}
    tell(world, "accepted")
    assert world.acks("w1") == [1]


def test_a_broker_that_was_killed_asks_again_whatever_time_has_passed():
    world = world_with_door()
    world.deliver("w1", 1)
    no_evidence(world)
    asked = len(look_ups(world))
    world.crash()
    world.now += 10 * LOOK_UP_S
    world.start()
    world.online()
    assert (len(look_ups(world)) - asked, states(world)) == (1, {"M1": "in_doubt"})
    tell(world, "accepted")
    assert world.acks("w1")[-1] == 1
    world.assert_fold_is_live()


def test_a_host_that_is_silent_about_a_hand_over_leaves_it_to_the_records():
    world = world_with_door()
    world.deliver("w1", 1)
    world.advance(HOST_SILENT_S + HOST_SILENT_AGAIN_S)
    assert states(world) == {"M1": "in_doubt"}
    assert look_ups(world)


def test_an_agent_that_is_released_in_the_middle_loses_nothing():
    world = world_with_door()
    for seq in range(1, INJECT_WINDOW + 2):
        world.deliver("w1", seq, text=str(seq))
    world.tell(inputs.ReleaseRequested(request_id="r", name="w1"))
    first = world.pending_text.pop(0)
    world.not_typed(first, reason="agent_released", typed="unknown")
    for text in world.pending_text:
        world.not_typed(text, reason="agent_released")
    world.advance(10)
    assert [state for state in states(world).values() if state != "acked"] == ["in_doubt"]
    tell(world, "accepted")
    assert states(world) == {}
    dropped = world.events("delivery.dropped.v1")
    assert len(dropped) == INJECT_WINDOW
    assert {recorded.event.settled for recorded in dropped} == {False}, "the engine keeps them"
    world.assert_fold_is_live()


ASKED = question("q1", "permission", ["May it?"], [Option("y", "Yes", "allow_once"), Option("n", "No", "reject_once")])


def test_what_a_door_tells_of_a_question_is_in_state_and_log_until_it_is_gone_and_who_answered_stays():
    """ADR-0095."""
    world = world_with_door()
    session = session_of(world)
    world.report(inputs.ProgramBlocked, session, pattern="permission", question=ASKED)
    world.deliver("w1", 1)
    assert world.texts("w1") == []
    world.crash()
    world.start()
    assert world.broker.state.workers[session].question == ASKED
    given = {"question_id": "q1", "question": "permission", "option_id": "y", "option": "Yes", "by": "ann"}
    world.report(inputs.AnswerGiven, session, request_id="r1", **given)
    world.report(inputs.ProgramUnblocked, session)
    assert world.broker.state.workers[session].question is None
    (event,) = [item.event for item in world.events("worker.question_answered.v1")]
    assert {name: getattr(event, name) for name in given} == given
    told = [body for body in world.notified if body["kind"] in ("agent_blocked", "agent_answered")]
    assert [body["question"] if body["kind"] == "agent_blocked" else body["by"] for body in told][-1] == "ann"
    assert told[0]["question"]["options"][0] == {"id": "y", "label": "Yes", "kind": "allow_once"}
    world.assert_fold_is_live()


def test_the_same_report_of_an_answer_is_recorded_once():
    world = world_with_door()
    session = session_of(world)
    world.report(inputs.ProgramBlocked, session, pattern="permission", question=ASKED)
    given = {"question_id": "q1", "question": "permission", "option_id": "y", "option": "Yes", "by": "ann"}
    world.report(inputs.AnswerGiven, session, request_id="r1", **given)
    again = inputs.AnswerGiven(
        host_id=world.host_id, report=world.reports, session_id=session, request_id="r1", **given
    )
    world.tell(again)
    world.crash()
    world.start()
    world.tell(again)
    assert len(world.events("worker.question_answered.v1")) == 1
