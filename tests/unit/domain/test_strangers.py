"""Frames for agents that are not here end, or stay with the engine; they never go round for ever (node-protocol.md 4.7, S8)."""

import pytest

from relaybroker.adapters.http.api import views
from relaybroker.domain import inputs
from relaybroker.domain.agent import MAX_EARLY
from relaybroker.domain.state import STRANGERS_KEPT


def letters(world):
    return [(letter.name, letter.msg_id, str(letter.reason)) for letter in world.broker.state.dead_letters.values()]


def answer_deregistrations(world):
    for frame in world.sent("agent.deregister"):
        world.frame(type="reply", id=frame["id"], ok=True, data={"deregistered": True})


def release(world, name):
    """The agent is released, and the engine knows."""
    world.tell(inputs.ReleaseRequested(request_id=f"release_{name}", name=name))
    world.advance(1.0)
    answer_deregistrations(world)
    assert world.broker.state.registration_of(name) is None


def exit_of(world, name):
    session = world.broker.state.registration_of(name).session_id
    world.report(inputs.ProgramExited, session, code=0, signal=None, last_output="", uptime_s=9.0, requested=False)
    answer_deregistrations(world)


@pytest.fixture
def ghost(world):
    """Nobody here ever had this agent."""
    world.agent_ids["ghost"] = "4711"
    return world


def test_a_message_for_an_agent_that_was_never_here_is_kept_and_then_acknowledged(ghost):
    """S8, F025, ONE-OWNER: the record of the dead letter is in the batch before the acknowledgement."""
    ghost.deliver("ghost", 7)
    assert letters(ghost) == [("ghost", "M7", "unknown")]
    assert ghost.acks("ghost") == [7]
    assert ghost.texts("ghost") == []
    (deregistration,) = ghost.sent("agent.deregister")
    assert (deregistration["agent_id"], deregistration["name"]) == ("4711", "ghost")
    assert [frame["type"] for frame in ghost.frames[-2:]] == ["delivery.ack", "agent.deregister"]
    topics = [recorded.event.topic for recorded in ghost.log]
    assert topics.index("delivery.dead_lettered.v1") < topics.index("mailbox.ack_sent.v1")
    ghost.assert_fold_is_live()


def test_a_frame_that_is_sent_five_hundred_times_leaves_one_letter_one_answer_and_a_bounded_log(ghost):
    """F025."""
    before = len(ghost.log)
    for _ in range(500):
        ghost.deliver("ghost", 7)
    assert letters(ghost) == [("ghost", "M7", "unknown")]
    assert len(ghost.sent("agent.deregister")) == 1
    assert len(ghost.acks("ghost")) <= 2
    assert len(ghost.log) - before < 12
    ghost.assert_fold_is_live()


def test_further_messages_follow_in_their_order(ghost):
    for seq in (7, 8, 9):
        ghost.deliver("ghost", seq)
    assert [msg_id for _, msg_id, _ in letters(ghost)] == ["M7", "M8", "M9"]
    assert ghost.acks("ghost") == [7, 8, 9]
    assert len(ghost.sent("agent.deregister")) == 1


def test_an_acknowledgement_never_covers_what_did_not_come(ghost):
    """ACK-FLOOR, NO-LOSS."""
    ghost.deliver("ghost", 7)
    ghost.deliver("ghost", 9)
    assert [msg_id for _, msg_id, _ in letters(ghost)] == ["M7"]
    assert max(ghost.acks("ghost")) == 7


def test_what_is_not_for_typing_is_settled_without_a_letter(ghost):
    ghost.deliver("ghost", 7, payload={"type": "message.read", "data": {"message_id": "M1", "agent_name": "bob"}})
    assert (letters(ghost), ghost.acks("ghost")) == ([], [7])


def test_a_message_for_a_released_agent_is_kept_and_then_acknowledged(world):
    """S8."""
    world.spawn("w1")
    world.deliver("w1", 1)
    release(world, "w1")
    world.deliver("w1", 2)
    assert letters(world) == [("w1", "M2", "retired")]
    assert world.acks("w1") == [1, 2]
    world.assert_fold_is_live()


def test_a_message_that_was_typed_before_the_release_is_acknowledged_again_and_is_no_letter(world):
    """TYPED-ONCE: the engine did not get the acknowledgement."""
    world.spawn("w1")
    world.deliver("w1", 1)
    release(world, "w1")
    world.deliver("w1", 1)
    assert (letters(world), world.acks("w1")) == ([], [1, 1])


def test_a_message_for_an_agent_whose_program_ended_stays_with_the_engine(world):
    """F024, ONE-OWNER: whoever registers it again gets it."""
    world.spawn("w1")
    exit_of(world, "w1")
    for _ in range(20):
        world.deliver("w1", 1)
    assert (letters(world), world.acks("w1")) == ([], [])
    assert len(world.events("mailbox.frame_ignored.v1")) == 1
    world.spawn("w1")
    world.deliver("w1", 1)
    assert len(world.texts("w1")) == 1


def test_where_another_agent_has_the_name_nothing_is_acknowledged_and_the_engine_is_told_once_by_id(world):
    """F011, IDENTITY: acknowledgements go by name."""
    world.spawn("w1")
    old = world.agent_ids.pop("w1")
    release(world, "w1")
    world.agent_ids["w1"] = "777"
    world.spawn("w1")
    before = len(world.sent("agent.deregister"))
    for _ in range(20):
        world.deliver("w1", 5, agent_id=old)
    (answer,) = world.sent("agent.deregister")[before:]
    assert (answer["agent_id"], answer.get("name")) == (old, None)
    assert (letters(world), world.acks("w1"), world.texts("w1")) == ([], [], [])
    assert [item.event.reason for item in world.events("mailbox.frame_ignored.v1")] == ["retired"]


def test_where_another_agent_had_the_name_since_nothing_is_acknowledged(world):
    """D2: an acknowledgement by name may still reach the cursor of the later one."""
    world.spawn("w1")
    old = world.agent_ids.pop("w1")
    release(world, "w1")
    world.agent_ids["w1"] = "777"
    world.spawn("w1")
    world.deliver("w1", 1)
    release(world, "w1")
    world.deliver("w1", 5, msg_id="M5", agent_id=old)
    assert (letters(world), world.acks("w1")) == ([], [1])


@pytest.mark.parametrize("was_here", [False, True])
def test_where_a_later_registration_of_the_name_was_not_answered_nothing_is_acknowledged(world, was_here):
    """D2, ACK-FLOOR: the engine may have given the name and this node to an agent whose id nobody here knows."""
    world.agent_ids["w1"] = "4711"
    if was_here:
        world.spawn("w1")
        release(world, "w1")
    acks = world.acks("w1")
    world.tell(inputs.SpawnRequested(request_id="r1", spec=inputs.SpawnSpec(name="w1", cli="cat")))
    world.advance(8.1)
    while world.broker.state.registration_of("w1") is not None:
        world.tell(inputs.EngineUnanswered(call_id=world.call("/agents").call_id, detail="timeout"))
        world.advance(2.1)
    world.deliver("w1", 1)
    assert (letters(world), world.acks("w1")) == ([], acks)
    world.spawn("w1")
    world.deliver("w1", 1)
    assert len(world.texts("w1")) == 1
    world.assert_fold_is_live()


def test_on_a_new_connection_the_engine_is_told_again(world):
    world.spawn("w1")
    exit_of(world, "w1")
    world.deliver("w1", 1)
    before = len(world.sent("agent.deregister"))
    world.drop()
    world.advance(5.0)
    world.online()
    world.deliver("w1", 1)
    world.deliver("w1", 1)
    assert len(world.sent("agent.deregister")) == before + 1


def test_the_status_says_for_whom_messages_come(ghost):
    ghost.deliver("ghost", 7)
    ghost.deliver("ghost", 8)
    (row,) = views.status(ghost.broker.state, ghost.now).strangers
    assert (row.name, row.agent_id, row.reason) == ("ghost", "4711", "unknown")
    assert (row.messages, row.kept_as_dead_letters) == (2, True)
    ghost.agent_ids.pop("ghost")
    ghost.agent_ids["ghost"] = "4711"
    ghost.spawn("ghost")
    assert views.status(ghost.broker.state, ghost.now).strangers == []


def test_thousands_of_strangers_are_remembered_within_a_bound(world):
    for number in range(3 * STRANGERS_KEPT):
        world.agent_ids[f"g{number}"] = f"id{number}"
        world.deliver(f"g{number}", 1)
    assert len(world.broker.state.strangers) == STRANGERS_KEPT


# --- during a registration -------------------------------------------------------------------------------------------------------


def coming(world):
    """A registration under way, and the id that the engine gives it."""
    world.agent_ids["w1"] = "100"
    world.tell(inputs.SpawnRequested(request_id="r1", spec=inputs.SpawnSpec(name="w1", cli="cat")))


def test_a_message_that_comes_before_the_engines_answer_waits_for_it(world):
    coming(world)
    for _ in range(2):
        world.deliver("w1", 1)
    world.deliver("w1", 2)
    assert world.sent("agent.deregister") == []
    world.accept("w1")
    world.advance(0.3)
    assert len(world.texts("w1")) == 2
    assert world.acks("w1")[-1] == 2
    world.assert_fold_is_live()


def test_a_registration_that_fails_leaves_its_early_messages_with_the_engine(world):
    """D2: its answer is not known, nor whether this agent is the one that the engine registered."""
    coming(world)
    world.deliver("w1", 1)
    world.tell(inputs.ReleaseRequested(request_id="r2", name="w1"))
    assert (letters(world), world.acks("w1")) == ([], [])
    assert [item.event.reason for item in world.events("mailbox.frame_ignored.v1")] == ["unknown"]
    world.assert_fold_is_live()


def test_another_agents_early_message_is_nobodys(world):
    """F011: the engine gives the new agent another id."""
    coming(world)
    world.deliver("w1", 1, agent_id="55")
    world.accept("w1")
    world.advance(0.3)
    assert (world.texts("w1"), world.acks("w1")) == ([], [])
    assert [item.event.reason for item in world.events("mailbox.frame_ignored.v1")] == ["unknown"]


def test_no_more_than_a_bounded_number_waits_for_a_registration(world):
    coming(world)
    for seq in range(1, MAX_EARLY + 20):
        world.deliver("w1", seq)
    assert len(world.broker.state.registration_of("w1").early) == MAX_EARLY
    assert {item.event.reason for item in world.events("mailbox.frame_ignored.v1")} == {"hold_full"}


def test_an_acknowledgement_by_name_is_not_sent_for_one_of_two_strangers_of_a_name(world):
    """ACK-FLOOR, ONE-OWNER: the engine might move the other one's cursor with it."""
    world.agent_ids["ghost"] = "4711"
    world.deliver("ghost", 1)
    world.agent_ids["ghost"] = "4712"
    world.deliver("ghost", 5)
    assert world.acks("ghost") == [1]
    world.agent_ids["ghost"] = "4711"
    world.deliver("ghost", 2)
    assert world.acks("ghost") == [1]
    assert len(letters(world)) == 1
