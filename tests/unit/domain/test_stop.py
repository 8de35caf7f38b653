"""How a broker stops: what it waits for, and for how long."""

from __future__ import annotations

import msgspec
import pytest

from domain import inputs
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
