"""How a broker stops: what it waits for, and for how long."""

from __future__ import annotations

import msgspec
import pytest

from relaybroker.domain import effects, inputs
from relaybroker.domain.worker import LAST_WORDS_S, READ_S
from tests.world import SETTINGS


def test_the_engine_is_told_within_three_seconds_though_the_host_says_nothing(world):
    """2.12, N9: the end of the programs is not waited for longer; the close is waited for a second more."""
    world.spawn("w1")
    world.sessions.clear()  # the host does not report any more
    began = world.now
    world.tell(inputs.ShutdownRequested(reason="SIGTERM"))
    world.advance(2.9)
    assert world.sent("node.deregister") == []
    world.advance(0.2)
    assert world.frames[-1]["type"] == "node.deregister"
    assert world.exit is None
    world.advance(1.0)
    assert world.exit is not None
    assert world.log[-1].at - began <= 4.0
    world.assert_fold_is_live()


@pytest.mark.parametrize("state", ["minting", "connecting", "backing_off", "refused", "registering"])
def test_a_stop_without_a_link_ends_at_once(make_world, state):
    """N9: also from a dial and from a pause."""
    world = make_world(msgspec.structs.replace(SETTINGS, token_pinned=state == "refused"))
    world.start(has_node_token=state != "minting")
    dial = world.broker.state.link.dial
    if state == "registering":
        world.tell(inputs.LinkOpened(dial=dial))
    elif state == "backing_off":
        world.tell(inputs.LinkDialFailed(dial=dial, status=503, detail="no"))
    elif state == "refused":
        world.tell(inputs.LinkDialFailed(dial=dial, status=401, detail="no"))
    assert world.broker.state.link.state == state
    world.tell(inputs.ShutdownRequested(reason="SIGTERM"))
    assert world.exit is not None


def stops(world):
    return [effect for effect in world.effects if isinstance(effect, effects.StopProgram)]


def shut_down(world):
    world.tell(inputs.ShutdownRequested(reason="SIGTERM"))


def release(world):
    world.tell(inputs.ReleaseRequested(request_id="r", name="w1"))


def loses_its_host(world):
    world.host_id, world.sessions, world.reports, world.unconfirmed = "host_2", {}, 0, []


@pytest.mark.parametrize("stop", [shut_down, release])
def test_a_program_has_time_to_read_what_was_typed_last_before_it_is_told_to_end(world, stop):
    """A message typed right before a stop is acknowledged, so it must have been readable."""
    world.spawn("w1")
    world.deliver("w1", 1)
    world.advance(0.01)
    stop(world)
    assert (world.acks("w1"), stops(world)) == ([1], [])
    world.advance(READ_S - 0.02)
    assert stops(world) == []
    world.advance(0.01)
    assert len(stops(world)) == 1
    world.assert_fold_is_live()


@pytest.mark.parametrize("stop", [shut_down, release])
def test_a_program_that_was_typed_nothing_lately_is_told_at_once(world, stop):
    world.spawn("w1")
    world.deliver("w1", 1)
    world.advance(READ_S)
    stop(world)
    assert len(stops(world)) == 1


@pytest.mark.parametrize("stop", [shut_down, release])
def test_a_stop_lets_what_is_being_typed_come_to_its_end(world, stop):
    """W5: typed and acknowledged, or handed back; nothing is torn in the middle, and nothing new is begun."""
    world.spawn("w1")
    world.auto_type = False
    world.deliver("w1", 1, text="being typed")
    stop(world)
    world.deliver("w1", 2, text="too late")
    world.advance(LAST_WORDS_S / 2)
    assert stops(world) == []
    world.type_next()
    assert world.pending_text == [], "stop typing first"
    world.advance(READ_S)
    assert len(stops(world)) == 1
    assert max(world.acks("w1")) == 1
    assert world.broker.state.mailboxes[world.agent_ids["w1"]].returned == {2: 1}
    world.assert_fold_is_live()


def test_a_stop_does_not_wait_for_a_text_that_comes_to_no_end(world):
    """N9, W8."""
    world.spawn("w1")
    world.auto_type = False
    world.deliver("w1", 1)
    began = world.now
    shut_down(world)
    world.advance(LAST_WORDS_S)
    assert len(stops(world)) == 1
    world.advance(4)
    assert world.exit is not None
    assert world.log[-1].at - began <= 4.0


def test_a_stop_that_a_crash_interrupts_goes_on(world):
    """D14: the program that was to be told is told by the next broker, or has ended meanwhile."""
    world.spawn("w1")
    world.auto_type = False
    world.deliver("w1", 1)
    release(world)
    world.crash()
    world.start()
    world.online()
    assert stops(world) == []
    world.advance(LAST_WORDS_S)
    assert [stop.reason for stop in stops(world)] == ["agent_released"]
    assert world.broker.state.workers == {}


def test_a_host_that_is_attached_again_is_asked_again(world):
    world.spawn("w1")
    session = world.broker.state.registration_of("w1").session_id
    world.advance(1)
    world.sessions.pop(session)  # it does not do it
    release(world)
    world.sessions[session] = "stopping"
    world.tell(inputs.HostLost(detail="eof"))
    world.advance(1)
    assert [stop.grace_s for stop in stops(world)] == [2.0, 2.0]


def test_what_the_brokers_own_stop_ended_is_not_said_to_be_the_hosts_death(world):
    """`why` names the stop."""
    world.spawn("w1")
    world.sessions.clear()  # the host never says that it has ended
    shut_down(world)
    world.advance(5)
    loses_its_host(world)
    world.crash()
    world.start()
    (lost,) = world.events("worker.lost.v1")
    assert lost.event.reason == "shutdown"
    assert lost.event.detail == "the broker's own stop ended it, with the PTY host, before its end was reported"
    (leaving,) = world.events("agent.leaving.v1")
    assert leaving.event.reason == "shutdown"


def test_a_host_that_dies_is_the_reason_where_nobody_stopped_anything(world):
    world.spawn("w1")
    loses_its_host(world)
    world.tell(inputs.HostLost(detail="eof"))
    world.advance(1)
    (lost,) = world.events("worker.lost.v1")
    assert (lost.event.reason, lost.event.detail) == ("worker_lost", "the PTY host that ran it is gone")


def test_a_text_that_a_stop_tore_says_that_it_was_the_stop(world):
    """A doubtful delivery of a clean stop names the stop, not a dead host."""
    world.spawn("w1")
    world.auto_type = False
    world.deliver("w1", 1)
    shut_down(world)
    world.not_typed(world.pending_text.pop(), reason="agent_released", typed="partly")
    (letter,) = world.broker.state.dead_letters.values()
    assert (letter.reason, letter.detail, letter.in_doubt) == ("ambiguous", "policy ask: shutdown", True)


def test_a_release_whose_end_the_host_does_not_report_is_not_said_to_be_complete(world):
    """A host that hangs: the agent is given up, its program may live until the host answers, and then it is ended."""
    world.spawn("w1")
    (program,) = world.broker.state.workers.values()
    sessions = dict(world.sessions)
    world.sessions.clear()
    world.tell(inputs.ReleaseRequested(request_id="x1", name="w1"))
    world.advance(30)
    assert world.replies["x1"].body["end_unconfirmed"] is True
    assert world.broker.state.registration_of("w1") is None or program.ended
    world.sessions |= sessions
    world.assert_fold_is_live()


def test_a_release_whose_end_is_reported_says_nothing_of_that(world):
    world.spawn("w1")
    world.tell(inputs.ReleaseRequested(request_id="x1", name="w1"))
    world.advance(30)
    assert "end_unconfirmed" not in world.replies["x1"].body
