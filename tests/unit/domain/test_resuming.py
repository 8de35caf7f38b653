"""A broker that starts on a log that ends anywhere: nothing is stuck, nothing is lost (domain/rules/resume.py)."""

from __future__ import annotations

import msgspec
import pytest

from relaybroker.domain import inputs
from relaybroker.domain.broker import Broker
from relaybroker.domain.fold import apply
from relaybroker.domain.state import State
from tests.world import SETTINGS, World, plain_harness


def _history() -> World:
    """Everything that happens to one agent, with messages held, typed, handed back, and a release."""
    world = World(msgspec.structs.replace(SETTINGS, in_doubt="at_least_once"))
    world.start()
    world.online()
    world.auto_ready = False
    world.spawn("w1", task="first job")
    world.deliver("w1", 1)
    world.deliver("w1", 3)
    session = world.broker.state.registration_of("w1").session_id
    world.report(inputs.ProgramReady, session, evidence="prompt")
    world.deliver("w1", 2)
    world.report(inputs.ProgramBlocked, session, pattern="trust")
    world.deliver("w1", 4)
    world.report(inputs.ProgramUnblocked, session)
    world.auto_type = False
    world.deliver("w1", 5)
    text = world.pending_text.pop()
    world.report(
        inputs.TextNotTyped, session, delivery_id=text.delivery_id, attempt=1, reason="pty_write_failed", typed="no"
    )
    world.auto_type = True
    world.advance(5)
    world.tell(inputs.ReleaseRequested(request_id="r1", name="w1"))
    world.advance(20)
    return world


HISTORY = _history()
POSITIONS = range(len(HISTORY.log) + 1)


def _cut(position: int) -> World:
    """The log ends here; the machine was off: its PTY host and its programs are gone too."""
    world = World(HISTORY.settings)
    world.log = HISTORY.log[:position]
    world.boots, world.now = 1, HISTORY.now
    world.host_id = "host_2"
    world.agent_ids = {"w1": "100"}
    world.broker = Broker(plain_harness, world.fold())
    return world


@pytest.mark.parametrize("position", POSITIONS)
def test_from_every_prefix_of_a_log_everything_comes_to_its_end(position):
    """D14, S20, F032: whatever a turn had begun and not finished is finished."""
    world = _cut(position)
    world.start()
    world.online()
    world.advance(400)
    state = world.broker.state
    assert [delivery.stream for delivery in state.deliveries.values() if not delivery.ended] == []
    if state.registration_of("w1") is None:
        world.spawn("w1")
    for _ in range(2):
        for seq in range(1, 6):
            world.deliver("w1", seq)
        world.advance(60)
    assert [delivery.stream for delivery in state.deliveries.values() if not delivery.ended] == []
    assert world.acks("w1")[-1] == 5
    world.assert_fold_is_live()


def test_a_message_about_which_nothing_was_decided_goes_back_and_is_typed_when_it_comes_again(world):
    """D14: the log ends between "offered" and what was decided about it; program and host live."""
    world.spawn("w1")
    world.deliver("w1", 1)
    offered = next(index for index, one in enumerate(world.log) if one.event.topic == "delivery.offered.v1")
    world.log = world.log[: offered + 1]
    world.typed, world.done, world.frames = {}, set(), []
    state = State()
    for recorded in world.log:
        apply(state, recorded)
    world.broker = Broker(plain_harness, state)
    world.start()
    world.online()
    assert [item.event.reason for item in world.events("delivery.dropped.v1")] == ["undecided"]
    world.deliver("w1", 1)
    assert len(world.texts("w1")) == 1
    assert world.acks("w1") == [1]


def test_an_enrolment_that_is_answered_after_the_link_was_shut_changes_nothing(make_world):
    """F064: the answer belongs to a link that is no more."""
    world = make_world()
    world.start(has_node_token=False)
    call_id = world.call("/nodes").call_id
    world.tell(inputs.ShutdownRequested(reason="operator", agents_too=False))
    before = world.broker.state.link.state
    world.tell(inputs.EngineAnswered(call_id=call_id, status=201, data={"id": "node_1"}, code="", message=""))
    assert world.broker.state.link.state == before
