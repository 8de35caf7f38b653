from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.websocket.captured_frames import holds_token, read_text_frame
from domain.inputs import FrameArrived, FrameUnreadable

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


@pytest.mark.parametrize("levels", [300, 900, 985])
def test_a_frame_that_is_too_deep_to_be_written_into_the_log_is_decided_about_as_unreadable(levels: int) -> None:
    text = '{"data":' + '{"a":' * levels + "1" + "}" * levels + "}"
    assert read_text_frame(1, text) == FrameUnreadable(dial=1, reason="bad_json", size=len(text))


def test_a_wide_frame_is_not_a_deep_one() -> None:
    frame = {"data": [{"a": [number]} for number in range(1000)]}
    assert read_text_frame(1, json.dumps(frame)) == FrameArrived(dial=1, frame=frame)
