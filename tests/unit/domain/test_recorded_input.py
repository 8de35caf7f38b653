"""What the log keeps of an input: all of it, except what may be a secret."""

from __future__ import annotations

from typing import Any

import pytest

from relaybroker.domain import inputs, recorded_input
from relaybroker.domain.events import Recorded
from tests.world import World


def roundtrip(item: recorded_input.RecordedInput) -> recorded_input.RecordedInput:
    return recorded_input.decode(recorded_input.encode(item))


@pytest.mark.parametrize(
    "item",
    [
        inputs.FrameArrived(dial=3, frame={"v": 1, "type": "deliver", "payload": {"text": "a token: t"}, "big": 2**70}),
        inputs.FrameArrived(dial=3, frame={"v": 1, "type": "reply", "data": {"token": "sha256:1f", "id": "a"}}),
        inputs.EngineAnswered(call_id="c", status=200, data=[{"id": "1"}, None]),
        inputs.HostAttached(host_id="h", host_pid=1, sessions=()),
        recorded_input.TimePassed(due=1.25),
    ],
)
def test_an_input_is_kept_as_it_is(item):
    assert roundtrip(item) == item


def test_nothing_that_is_named_like_a_credential_is_kept_of_an_answer():
    """I7: an engine may put a token where ours does not."""
    data = {"agent": {"token": "at_live_x", "Api_Key": "rk_live_x", "id": "7"}, "list": [{"secret": "s"}]}
    kept = {"agent": {"token": "", "Api_Key": "", "id": "7"}, "list": [{"secret": ""}]}
    assert roundtrip(inputs.EngineAnswered(call_id="c", status=200, data=data)).data == kept
    frame = {"v": 1, "type": "reply", "data": data}
    assert roundtrip(inputs.FrameArrived(dial=1, frame=frame)).frame["data"] == kept


def nested(levels: int) -> Any:
    value: Any = "bottom"
    for _ in range(levels):
        value = [value]
    return value


def test_an_answer_that_nests_too_deep_to_be_written_is_kept_as_far_as_rules_look():
    kept = roundtrip(inputs.EngineAnswered(call_id="c", status=200, data={"id": "7", "deep": nested(900)})).data
    assert kept["id"] == "7"
    depth = 0
    while isinstance(kept := (kept["deep"] if isinstance(kept, dict) else kept[0]), list):
        depth += 1
    assert depth == recorded_input.DEPTH - 1


def test_the_first_event_of_each_turn_says_what_the_core_was_told_and_no_other_does():
    world = World()
    world.start()
    world.online()
    world.spawn("w1")
    world.deliver("w1", 1)
    world.advance(30)

    def begins(recorded: Recorded) -> bool:
        return recorded.causation == recorded.event_id

    assert all(bool(recorded.input_json) is begins(recorded) for recorded in world.log)
    assert {type(recorded_input.decode(one.input_json)) for one in world.log if begins(one)} >= {
        inputs.BrokerStarted,
        inputs.FrameArrived,
        inputs.TextTyped,
        recorded_input.TimePassed,
    }
