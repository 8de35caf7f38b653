"""Whatever the engine sends is decided and recorded; nothing that it sends can stop the broker (ALL-FRAMES, D10, D11)."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from relaybroker.adapters.eventstore.mapper import GENESIS, Mapper
from relaybroker.adapters.websocket.captured_frames import read_text_frame
from relaybroker.domain.events import REGISTRY
from relaybroker.domain.state import decode, encode
from tests.world import World

scalars = (
    st.none() | st.booleans() | st.integers() | st.integers(-(10**40), 10**40) | st.floats() | st.text(max_size=20)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
TYPES = ["deliver", "action.invoke", "reply", "error", "ping", "context.update", "brand.new"]
KEYS = {
    "deliver": ["agent", "agent_id", "delivery_id", "msg_id", "seq", "mode", "payload"],
    "action.invoke": ["invocation_id", "action", "input", "agent_id", "agent_name"],
    "reply": ["id", "ok", "data"],
    "error": ["id", "ok", "code", "message"],
}
good = {
    "agent": st.sampled_from(["ann", "nobody", ""]),
    "agent_id": st.sampled_from(["100", "77", ""]),
    "seq": st.integers(0, 5) | st.sampled_from([2**63, 2**64 - 1, 2**64]),
    "payload": st.dictionaries(st.sampled_from(["type", "data", "text", "from", "to", "priority"]), values, max_size=4),
    "action": st.sampled_from(["spawn", "spawn:cat", "release", "echo"]),
    "input": st.dictionaries(
        st.sampled_from(["name", "cli", "agent", "task", "spawn_mode", "model"]), values, max_size=4
    ),
}


@st.composite
def frames(draw: st.DrawFn) -> str:
    """A frame as text: of a known type more often than not, with any value in any key."""
    kind = draw(st.sampled_from(TYPES))
    frame = {"v": draw(st.sampled_from([1, 1, 1, 2, "1", True])), "type": kind}
    for key in KEYS.get(kind, []):
        if draw(st.booleans()):
            frame[key] = draw(good.get(key, st.text(max_size=10)) | values)
    frame |= draw(st.dictionaries(st.text(max_size=6), values, max_size=2))
    return json.dumps(frame)


@given(texts=st.lists(frames() | st.text(max_size=30), min_size=1, max_size=6))
def test_any_sequence_of_frames_is_decided_recorded_and_folded(texts):
    world = World()
    world.start()
    world.online()
    world.spawn("ann")
    mapper = Mapper(REGISTRY)
    for text in texts:
        before = len(world.log)
        world.tell(read_text_frame(world.broker.state.link.dial, text))
        assert len(world.log) > before
        world.advance(0.7)
    chain = GENESIS
    for recorded in world.log:
        stored, chain = mapper.to_stored(recorded, chain)
        assert mapper.to_recorded(stored, recorded.version) == recorded
    world.assert_fold_is_live()
    assert decode(encode(world.broker.state)) == world.broker.state
