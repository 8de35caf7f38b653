"""Of a delivery of megabytes the log keeps a head and a digest, and it is settled as the whole would be."""

from __future__ import annotations

import hashlib
import json

import msgspec
import pytest

from relaybroker.adapters.websocket.captured_frames import read_text_frame
from relaybroker.adapters.websocket.oversize import HEAD, WHOLE_FRAME
from relaybroker.domain.delivery import MAX_BODY_BYTES
from tests.world import World

SENT = {
    "v": 1,
    "type": "deliver",
    "agent": "w1",
    "agent_id": "100",
    "delivery_id": "del_1",
    "msg_id": "M1",
    "seq": 1,
    "mode": "wait",
}


def frame(**data):
    return SENT | {
        "payload": {"type": "message.created", "data": {"id": "M1", "agent_id": "55", "agent_name": "alice"} | data}
    }


@pytest.mark.parametrize(
    "data",
    [
        {"text": "x" * 2_000_000},
        {"text": "ä" * 900_000},
        {"text": "small", "blocks": [{"text": "y" * 5000, "n": n} for n in range(400)]},
        {"text": "small", "blocks": "[" * 50 + "z" * 1_900_000},
        {f"key{n}{'k' * 100}": n for n in range(20_000)},
        {"text": "small", "metadata": {"k" * 1_900_000: 1}},
    ],
    ids=lambda data: next(iter(data))[:8],
)
def test_what_is_kept_of_a_large_delivery_is_small_whatever_makes_it_large(data):
    text = json.dumps(frame(**data), ensure_ascii=False)
    assert len(text) > WHOLE_FRAME
    arrived = read_text_frame(1, text)
    assert len(msgspec.json.encode(arrived)) < 100_000
    assert {key: arrived.frame[key] for key in SENT} == SENT


def test_a_large_text_is_recognised_by_its_digest_and_still_too_large():
    text = "x" * 2_000_000
    kept = read_text_frame(1, json.dumps(frame(text=text))).frame["payload"]["data"]["text"]
    assert kept.startswith("x" * HEAD)
    assert hashlib.sha256(text.encode()).hexdigest() in kept
    assert len(kept.encode()) > MAX_BODY_BYTES


def test_other_frames_and_ordinary_deliveries_are_kept_whole():
    whole = frame(text="x" * 60_000)
    assert read_text_frame(1, json.dumps(whole)).frame == whole
    invoke = {
        "v": 1,
        "type": "action.invoke",
        "invocation_id": "inv_1",
        "action": "build",
        "input": {"source": "x" * 1_000_000},
    }
    assert read_text_frame(1, json.dumps(invoke)).frame == invoke


def test_the_log_grows_little_for_a_large_delivery_and_says_why_it_was_dropped():
    world = World()
    world.start()
    world.online()
    world.spawn("w1")
    before = len(world.log)
    sent = frame(text="x" * 1_900_000) | {"agent_id": world.agent_ids["w1"]}
    world.tell(read_text_frame(1, json.dumps(sent)))
    written = [msgspec.json.encode(msgspec.to_builtins(one.event)) + one.input_json for one in world.log[before:]]
    assert sum(map(len, written)) < 100_000
    assert any(b"too_large" in one for one in written)
