"""One frame of every type as it is on the wire (`fixtures/wire/`): what we write is exactly that, what we read means the same
with keys that only a newer engine knows.

Source: spec/node-protocol.md section 2.5; RV-N2; invariants N10, N11.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from relaybroker.adapters.websocket.captured_frames import read_text_frame
from relaybroker.domain import frames, inputs
from relaybroker.domain.broker import Broker
from relaybroker.domain.entities import Registration
from relaybroker.domain.events import Harness
from relaybroker.domain.inputs import FrameArrived, SpawnSpec
from relaybroker.domain.manifest import Capability, Manifest
from tests.world import SETTINGS, World

HERE = Path(__file__).parents[3] / "fixtures" / "wire"
NODE = "node_639daddb1d148460fc0feba950292f14"
REGISTER = "agent_register_0123456789abcdef0123456789abcdef"
OFFERED = Manifest(capabilities=(Capability("spawn:claude", "spawn"), Capability("echo")), version="relaybroker/1.0.0")
WORKER = Registration(
    stream="agent:worker1:1",
    name="worker1",
    generation=1,
    state="live",
    session_id="ws_1",
    source="http_api",
    spec=SpawnSpec(name="worker1", cli="cat", session_ref="sess-1"),
    harness=Harness(profile="default"),
    argv=("cat",),
    until=0.0,
    reserved_at=0.0,
    agent_id="A",
)

OUTBOUND: dict[str, frames.Frame] = {
    "node.register": frames.node_register(
        "node_register_01", name="vm-639daddb", node_id=NODE, manifest=OFFERED, cursor=False
    ),
    "node.heartbeat": frames.node_heartbeat(
        "hb_01",
        name="vm-639daddb",
        node_id=NODE,
        manifest=Manifest(version="relaybroker/1.0.0"),
        active_agents=1,
        handlers_live=False,
    ),
    "node.deregister": frames.node_deregister("leave_1"),
    "agent.register": frames.agent_register(REGISTER, name="worker1", invocation_id="", session_ref="sess-1"),
    "agent.deregister": frames.agent_deregister("dereg_1", agent_id="A", name="worker1"),
    "delivery.ack": frames.delivery_ack("ack_7", agent="worker1", up_to=1),
    "action.result.output": frames.action_result(
        "res_1", invocation_id="inv_10", output={"spawned": True, "name": "w2"}, error=""
    ),
    "action.result.error": frames.action_result(
        "res_2", invocation_id="inv_10", output=None, error="handler_unavailable"
    ),
    "inventory.sync": frames.inventory_sync("sync_1", [WORKER]),
}
INBOUND = ("deliver", "action.invoke", "reply", "reply.agent_register", "error", "ping", "context.update")


def text_of(name: str) -> str:
    return (HERE / f"{name}.json").read_text()


def test_there_is_one_fixture_for_each_type_and_no_other() -> None:
    assert {path.stem for path in HERE.iterdir()} == {*OUTBOUND, *INBOUND}


@pytest.mark.parametrize("name", [*OUTBOUND, *INBOUND])
def test_a_fixture_goes_through_our_reader_and_encoder_unchanged(name: str) -> None:
    """N10: parse(serialise(f)) = f."""
    arrived = read_text_frame(1, text_of(name))
    assert isinstance(arrived, FrameArrived)
    again = read_text_frame(1, msgspec.json.encode(arrived.frame).decode())
    assert again == arrived
    assert arrived.frame == json.loads(text_of(name))
    kind = frames.frame_type(arrived.frame)
    assert name in (kind, f"{kind}.agent_register", f"{kind}.output", f"{kind}.error")


@pytest.mark.parametrize("name", OUTBOUND)
def test_what_we_write_is_what_the_fixture_says(name: str) -> None:
    """N10: no key more, none less; null only where the contract wants it."""
    built = OUTBOUND[name]
    assert json.loads(msgspec.json.encode(built)) == json.loads(text_of(name))
    assert {key for key, value in built.items() if value is None} <= {"resume_cursor"}


def test_a_result_has_exactly_one_of_output_and_error() -> None:
    """N10, X2: also when the output is null."""
    nothing = frames.action_result("r", invocation_id="i", output=None, error="")
    failed = frames.action_result("r", invocation_id="i", output={"ignored": 1}, error="no")
    assert ("output" in nothing, "error" in nothing, nothing["output"]) == (True, False, None)
    assert ("output" in failed, "error" in failed) == (False, True)


# --- inbound ------------------------------------------------------------------------------------------------------------


def waiting_for(name: str) -> World:
    """A world in which the frame means something."""
    world = World(msgspec.structs.replace(SETTINGS, node_name="desk", capabilities=("spawn:codex",), remote_args=True))
    world.broker = Broker(lambda _argv, _name: Harness(profile="codex", model_flag="--model"))
    world.start()
    world.tell(inputs.LinkOpened(dial=world.broker.state.link.dial))
    if name not in ("reply", "error"):
        world.frame(type="reply", id=world.frames[0]["id"], ok=True, data={})
        world.agent_ids["worker1"] = "A"
        world.spawn("worker1")
    if name == "reply.agent_register":
        spec = inputs.SpawnSpec(name="worker2", cli="cat")
        world.tell(inputs.SpawnRequested(request_id="r2", spec=spec))
    return world


def hear(name: str, **more: Any) -> World:
    """The world after the fixture's frame, with further keys at its top and in its data."""
    world = waiting_for(name)
    frame = json.loads(text_of(name)) | more
    if "id" in frame:
        kind = "agent.register" if name == "reply.agent_register" else "node.register"
        frame["id"] = world.sent(kind)[-1]["id"]
    if isinstance(frame.get("data"), dict) and more:
        frame["data"] |= more
    arrived = read_text_frame(world.broker.state.link.dial, json.dumps(frame))
    world.tell(arrived)
    world.advance(0.5)
    return world


@pytest.mark.parametrize("name", INBOUND)
def test_keys_that_only_a_newer_engine_knows_change_nothing(name: str) -> None:
    """RV-N2, N11: same events, same frames."""
    plain, extended = hear(name), hear(name, brand_new={"deep": [1]}, _x=None)
    assert [(one.stream, one.event) for one in plain.log] == [(one.stream, one.event) for one in extended.log]
    assert plain.frames == extended.frames


def test_each_inbound_fixture_has_its_effect() -> None:
    """2.4: what would make the test above true for a reader that reads nothing."""
    assert hear("reply").broker.state.link.state == "online"
    assert hear("reply.agent_register").broker.state.agents["248"] == "agent:worker2:1"
    assert hear("deliver").texts("worker1") == ["Relay message from agent-a in #general [M]: hi"]
    assert hear("error").sent("node.register")[-1]["name"] == "desk-01234567"
    for kind in ("ping", "context.update"):
        noted = [one.event.frame_type for one in hear(kind).log if one.event.topic == "link.frame_noted.v1"]
        assert noted[-1] == kind
    spawned = hear("action.invoke").broker.state.registration_of("codex-builder-1")
    assert spawned is not None
    assert spawned.argv[:3] == ("codex", "--model", "gpt-5-codex")


@pytest.mark.parametrize("key", ["mode", "payload", "delivery_id"])
def test_an_explicit_null_counts_as_absent(key: str) -> None:
    """2.2."""
    frame = json.loads(text_of("deliver"))
    without = frames.read_deliver({name: value for name, value in frame.items() if name != key})
    assert frames.read_deliver(frame | {key: None}) == without
