"""A machine that crashes may take the end of the log with it (ADR-0082): what may have been typed by then is marked."""

from __future__ import annotations

import pytest

from relaybroker.domain import inputs
from relaybroker.domain.delivery import CLOCKS_DIFFER_S, ENGINE_KEEPS_S
from relaybroker.domain.instants import rfc3339


@pytest.fixture
def running(make_world):
    world = make_world()
    world.start(machine_boot="run_1")
    world.online()
    world.spawn("w1")
    return world


def start_again(world, *, machine_boot="run_2", lost=0):
    """A new broker on a machine whose host and agents are gone; the last records of the log may be, too."""
    if lost:
        del world.log[-lost:]
    world.crash()
    world.host_id, world.sessions, world.reports, world.unconfirmed = "host_2", {}, 0, []
    world.pending_text.clear()
    world.start(machine_boot=machine_boot)
    world.online()
    world.spawn("w1")


def marks(world):
    return ["possible-duplicate" in text for text in world.texts("w1")]


def posted(at):
    return {
        "payload": {"type": "message.created", "data": {"agent_name": "alice", "text": "hi", "created_at": rfc3339(at)}}
    }


def test_a_message_of_which_the_log_lost_everything_is_marked_when_it_comes_again(running):
    before = len(running.log)
    running.deliver("w1", 1)
    assert marks(running) == [False]
    start_again(running, lost=len(running.log) - before)
    running.deliver("w1", 1)
    assert marks(running) == [True]
    running.assert_fold_is_live()


def test_a_message_that_was_posted_after_the_crash_is_not_marked(running):
    start_again(running)
    crash_at = running.broker.state.started_at
    running.deliver("w1", 1, **posted(crash_at - 1))
    running.deliver("w1", 2, **posted(crash_at + CLOCKS_DIFFER_S + 1))
    assert marks(running) == [True, False]


def test_a_message_without_a_date_is_marked_as_long_as_the_engine_may_have_it_from_before(running):
    start_again(running)
    running.advance(CLOCKS_DIFFER_S + ENGINE_KEEPS_S - 10)
    running.deliver("w1", 1)
    running.advance(20)
    running.deliver("w1", 2)
    assert marks(running) == [True, False]


def test_what_waited_when_the_machine_crashed_may_have_been_typed(running):
    """The record that it waits is there, and those behind it may not be."""
    running.auto_ready = running.auto_type = False
    running.deliver("w1", 1)
    until = [recorded.event.topic for recorded in running.log].index("delivery.injecting.v1")
    running.auto_ready = running.auto_type = True
    start_again(running, lost=len(running.log) - until)
    running.deliver("w1", 1, **posted(running.now + 2 * CLOCKS_DIFFER_S))
    assert marks(running)[-1]
    running.assert_fold_is_live()


@pytest.mark.parametrize("machine_boot", ["run_1", ""])
def test_a_killed_broker_doubts_nothing(running, machine_boot):
    """What it wrote is there: only a machine takes the end of a log with it."""
    start_again(running, machine_boot=machine_boot)
    running.deliver("w1", 1, **posted(running.now - 10))
    assert marks(running) == [False]


def test_after_a_clean_stop_the_machine_may_start_anew(running):
    running.tell(inputs.ShutdownRequested(reason="SIGTERM"))
    running.advance(10)
    assert running.exit is not None
    start_again(running)
    running.deliver("w1", 1, **posted(running.now - 10))
    assert marks(running) == [False]
