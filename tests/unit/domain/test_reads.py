"""A message that its agent has read elsewhere while it waited is settled with that reason, and not typed."""

from __future__ import annotations

import pytest

from relaybroker.adapters.http.engine_calls import HttpCall
from relaybroker.domain import inputs
from relaybroker.domain.delivery import CUSTODY_S


@pytest.fixture
def waiting(world):
    """An agent whose program is not ready; two messages wait for it."""
    world.auto_ready = False
    world.spawn("w1")
    world.deliver("w1", 1)
    world.deliver("w1", 2)
    return world


def read_frame(world, message_id, agent_id):
    data = {"message_id": message_id, "agent_id": agent_id, "read_at": "2026-01-01T00:00:00.000Z", "agent_name": "w1"}
    world.deliver(
        "w1", 0, msg_id=message_id, delivery_id=f"evt_{message_id}_{agent_id}",
        payload={"type": "message.read", "data": data},
    )  # fmt: skip


def ready(world):
    session = world.broker.state.registration_of("w1").session_id
    world.report(inputs.ProgramReady, session, evidence="prompt")


def reasons(world):
    return [
        (item.event.reason, item.event.settled)
        for item in world.events("delivery.dropped.v1")
        if item.event.reason != "receipt_only"
    ]


def test_the_engines_read_mark_of_the_agent_itself_settles_what_waits(waiting):
    """TRUE-END."""
    read_frame(waiting, "M1", waiting.agent_ids["w1"])
    assert reasons(waiting) == [("read_elsewhere", True)]
    ready(waiting)
    assert len(waiting.texts("w1")) == 1
    assert "M2" in waiting.texts("w1")[0]
    assert waiting.acks("w1")[-1] == 2
    waiting.assert_fold_is_live()


def test_what_others_read_and_what_is_not_known_changes_nothing(waiting):
    read_frame(waiting, "M1", "55")
    read_frame(waiting, "M9", waiting.agent_ids["w1"])
    assert reasons(waiting) == []


def test_the_mark_that_our_own_acknowledgement_leaves_settles_nothing(waiting):
    """What is in custody was acknowledged, which marks it as read."""
    waiting.advance(CUSTODY_S + 60)
    assert waiting.acks("w1")[-1] == 2
    read_frame(waiting, "M1", waiting.agent_ids["w1"])
    assert reasons(waiting) == []
    ready(waiting)
    assert len(waiting.texts("w1")) == 2


def test_the_agents_own_word_settles_it_also_in_custody(waiting):
    waiting.advance(CUSTODY_S + 60)
    agent_id = waiting.agent_ids["w1"]
    waiting.tell(
        inputs.ActRequested(request_id="a1", agent_id=agent_id, act="mark_message_read", arguments={"message_id": "M1"})
    )
    call = [one for one in waiting.effects if isinstance(one, HttpCall)][-1]
    assert reasons(waiting) == []
    waiting.tell(inputs.EngineAnswered(call_id=call.call_id, status=200, data={}))
    assert reasons(waiting) == [("read_elsewhere", True)]
    waiting.assert_fold_is_live()


def test_what_the_terminal_has_is_not_taken_back(world):
    world.auto_type = False
    world.spawn("w1")
    world.deliver("w1", 1)
    read_frame(world, "M1", world.agent_ids["w1"])
    assert reasons(world) == []
    world.type_next()
    assert world.acks("w1")[-1] == 1
