"""Nothing of what has ended remains (F017), and the check that looks for it sees what it should."""

from __future__ import annotations

import pytest

from relaybroker.domain import inputs
from relaybroker.domain.delivery import HOLD_S, HOST_SILENT_AGAIN_S
from relaybroker.domain.soundness import contradictions
from relaybroker.domain.worker import LAST_WORDS_S


@pytest.fixture
def busy(world):
    """One message with the host, one that waits for a person, one in a gap."""
    world.spawn("w1")
    world.auto_type = False
    world.deliver("w1", 1)
    world.tell(inputs.DeliveryModeRequested(request_id="m", name="w1", mode="manual_flush"))
    world.deliver("w1", 2)
    world.deliver("w1", 4)
    return world


def exits(world):
    session = world.broker.state.registration_of("w1").session_id
    world.report(inputs.ProgramExited, session, code=1, signal=None, last_output="", uptime_s=1.0, requested=False)


def is_released(world):
    world.tell(inputs.ReleaseRequested(request_id="r", name="w1"))
    world.advance(LAST_WORDS_S)


def loses_its_host(world):
    world.host_id, world.sessions, world.reports, world.unconfirmed = "host_2", {}, 0, []
    world.tell(inputs.HostLost(detail="eof"))
    world.advance(1)


def waits_too_long(world):
    world.advance(20)
    for wait_s in (HOLD_S, HOST_SILENT_AGAIN_S):  # what the host has is asked for again before it is given up
        world.jump(wait_s)


def is_killed_and_exits(world):
    world.crash()
    world.start()
    world.online()
    exits(world)


def is_dead_lettered(world):
    world.not_typed(world.pending_text.pop(0), reason="too_large")
    assert [letter.reason for letter in world.broker.state.dead_letters.values()] == ["too_large"]
    assert contradictions(world.broker.state) == []
    exits(world)


@pytest.mark.parametrize(
    "end", [is_dead_lettered, exits, is_released, loses_its_host, waits_too_long, is_killed_and_exits]
)
def test_a_delivery_that_has_ended_leaves_no_timer_no_waiting_ack_and_no_queue_entry(busy, end):
    """F017 ONE-END: exit, release, dead letter, time-out, restart."""
    end(busy)
    state = busy.broker.state
    assert contradictions(state) == []
    assert [delivery for delivery in state.deliveries.values() if not delivery.ended] == []
    box = state.mailboxes[busy.agent_ids["w1"]]
    assert (box.open, box.typed) == ({}, {})
    for program in state.workers.values():
        assert (program.waiting, program.typing) == ([], [])
    busy.assert_fold_is_live()


def spoil_lane(state):
    (program,) = state.workers.values()
    program.waiting.append(program.typing[0])


def spoil_mailbox(state):
    state.mailboxes["100"].typed[9] = "delivery:gone"


def spoil_open_number(state):
    state.mailboxes["100"].open[9] = "delivery:gone"


def forget_in_lane(state):
    (program,) = state.workers.values()
    program.waiting.clear()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_lane, "is waiting 1 times and should be 0 times"),
        (forget_in_lane, "is waiting 0 times and should be 1 times"),
        (spoil_mailbox, "owes the acknowledgement of 9"),
        (spoil_open_number, "waits for 9 of delivery:gone"),
    ],
)
def test_the_check_sees_what_is_left_over(busy, spoil, said):
    assert contradictions(busy.broker.state) == []
    spoil(busy.broker.state)
    (contradiction,) = contradictions(busy.broker.state)
    assert said in contradiction
