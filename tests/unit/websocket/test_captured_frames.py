from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaybroker.adapters.websocket.captured_frames import holds_token, read_text_frame, withhold_credentials
from relaybroker.domain.credentials import replaced
from relaybroker.domain.decoding import MAX_DEPTH
from relaybroker.domain.inputs import FrameArrived, FrameUnreadable
from tests.world import World

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), json_values, max_size=5))
def test_every_json_object_arrives_as_it_is(frame: dict[str, Any]) -> None:
    arrived = read_text_frame(1, json.dumps(frame))
    assert arrived == FrameArrived(dial=1, frame=frame)


@given(st.text())
def test_any_text_is_a_frame_or_a_fact_and_never_an_error(text: str) -> None:
    arrived = read_text_frame(2, text)
    assert isinstance(arrived, FrameArrived | FrameUnreadable)
    if isinstance(arrived, FrameUnreadable):
        assert (arrived.reason, arrived.size) == ("bad_json", len(text.encode()))


@pytest.mark.parametrize("text", ['{"a":"\\ud800"}', '{"a":' + "[" * 5000 + "]" * 5000 + "}"])
def test_text_that_only_some_parsers_take_is_decided_about(text: str) -> None:
    assert isinstance(read_text_frame(1, text), FrameArrived | FrameUnreadable)


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ({"data": {"token": "x"}}, True),
        ({"data": {"token": None}}, False),
        ({"data": []}, False),
        ({"token": "x"}, False),
        ({}, False),
    ],
)
def test_only_reply_data_can_bring_a_token(frame: dict[str, Any], expected: bool) -> None:
    assert holds_token(FrameArrived(dial=1, frame=frame)) is expected


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 400, 900])
def test_a_value_too_deep_to_be_written_down_counts_as_absent_and_stops_nobody(depth: int) -> None:
    """F059, D10: a payload of a thousand levels is poison, not a way to end the broker."""
    world = World()
    world.start()
    world.online()
    world.spawn("w1")
    nested = "[" * depth + "]" * depth
    frame = {"v": 1, "type": "deliver", "agent_id": "100", "agent": "w1", "msg_id": "M1", "seq": 1, "mode": "wait"}
    text = json.dumps(frame)[:-1] + f',"payload":{{"type":"message.created","data":{nested}}}}}'
    arrived = read_text_frame(world.broker.state.link.dial, text)
    assert isinstance(arrived, FrameArrived)
    world.tell(arrived)
    assert [item.event.reason for item in world.events("delivery.dropped.v1")] == ["poison"]
    assert world.acks("w1") == [1]


def test_wide_and_shallow_values_arrive_as_they_are() -> None:
    frame = {"type": "deliver", "payload": {"data": [[1], {"a": [2]}] * 100}}
    assert read_text_frame(1, json.dumps(frame)) == FrameArrived(dial=1, frame=frame)


@pytest.mark.parametrize(
    "name", ["token", "Agent_Token", "x-api-key", "OPENAI_API_KEY", "dbPassword", "client_secret", "env", "credentials"]
)
@pytest.mark.parametrize("wrap", [lambda secret: secret, lambda secret: [secret], lambda secret: {"any": [secret]}])
def test_whatever_is_named_like_a_credential_in_an_actions_input_is_withheld(name, wrap, vault):
    frame = {
        "type": "action.invoke",
        "input": {"deep": [{name: wrap("s3cret")}], "max_tokens": "many", "tokenizer": "t"},
    }
    arrived = withhold_credentials(FrameArrived(dial=1, frame=frame), vault)
    assert "s3cret" not in repr(arrived)
    assert (arrived.frame["input"]["max_tokens"], arrived.frame["input"]["tokenizer"]) == ("many", "t")
    assert replaced(arrived.frame["input"], vault.withheld, MAX_DEPTH) == frame["input"], "nothing else has changed"


@given(json_values)
def test_any_input_of_an_action_is_restored_as_it_was(value):
    kept: dict[str, str] = {}
    hidden = replaced(
        value,
        lambda secret: kept.setdefault(f"withheld:{len(kept)}", secret) and f"withheld:{len(kept) - 1}",
        MAX_DEPTH,
    )
    assert replaced(hidden, lambda shown: kept[shown], MAX_DEPTH) == value


def test_only_invocations_are_looked_through(vault):
    arrived = FrameArrived(dial=1, frame={"type": "deliver", "input": {"token": "t"}})
    assert withhold_credentials(arrived, vault) is arrived
