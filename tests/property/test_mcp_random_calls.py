"""Whatever a client sends to the tools is answered with an error of the protocol or a result, and changes nothing that it may not change.

Bad types, huge and deep values, wrong eras, calls in any order: of every message the answer is whole JSON-RPC (or none where none is due),
and what reached the core was asked for by this agent, with a legal tool call, and nothing else.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from relaybroker.adapters.http.api.agent_scope import AgentCaller
from relaybroker.adapters.http.api.broker_access import BrokerAccess
from relaybroker.adapters.http.engine_calls import HttpCall
from relaybroker.domain import effects, inputs
from relaybroker.mcp.toolbox import AgentToolbox
from relaybroker.mcp.tools import EVERYBODYS
from tests.world import World

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
DEEP = st.integers(1, 3000).map(lambda depth: json.loads("[" * min(depth, 900) + "]" * min(depth, 900)))
PLAUSIBLE = {
    "to": ["planner", "@w1", "ghost", "#general", "thread:7"],
    "text": ["hello", "x" * 16_384, "x" * 17_000, "\u00e9" * 9000, " ", "\x00"],
    "channel": ["general", "#general", "dm_1", "..", "a/b"],
    "message_id": ["77", "999", "9" * 30, "http_1"],
    "mode": ["wait", "steer", "fly"],
    "status": ["online", "all", "away"],
    "limit": [1, 100, 101, -1],
    "name": ["ops", "#ops", "Ops"],
    "participants": [["planner"], ["w1"], []],
    "input": [{}, {"text": "hi"}, "hi"],
    "data": [None, {"done": True}, "x" * 300_000],
}
"""What may stand in an argument; some of it is refused."""


def arguments_of(tool: str) -> st.SearchStrategy[Any]:
    """Arguments that are mostly right."""
    schema = EVERYBODYS[tool].listed()["inputSchema"]
    values = {name: st.sampled_from(PLAUSIBLE.get(name, ["planner"])) | JSON | DEEP for name in schema["properties"]}
    required = {name: st.sampled_from(PLAUSIBLE.get(name, ["planner"])) for name in schema.get("required", ())}
    right = st.fixed_dictionaries(required)
    return right | right | st.fixed_dictionaries({}, optional=values) | JSON


GOOD_CALLS = st.sampled_from(list(EVERYBODYS)).flatmap(
    lambda tool: st.fixed_dictionaries({"name": st.just(tool), "arguments": arguments_of(tool)})
)
META = st.sampled_from(
    [
        {},
        {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}},
        {"io.modelcontextprotocol/protocolVersion": "2099-01-01", "io.modelcontextprotocol/clientCapabilities": {}},
        {"io.modelcontextprotocol/protocolVersion": 7},
        "none",
    ]
)
CALLS = st.fixed_dictionaries(
    {"name": st.sampled_from([*EVERYBODYS, "fly", ""]) | JSON, "arguments": JSON}, optional={"_meta": META}
)
METHODS = st.sampled_from(["tools/call", "tools/list", "initialize", "ping", "server/discover", "x"])
GOOD = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0"), "method": st.just("tools/call"), "params": GOOD_CALLS, "id": st.integers(0, 99)}
)
BAD = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0") | JSON, "method": METHODS | JSON, "params": CALLS | GOOD_CALLS | JSON},
    optional={"id": st.integers() | st.text(max_size=300) | JSON},
)
GOOD_BODIES = GOOD.map(lambda value: json.dumps(value).encode())
BODIES = GOOD_BODIES | GOOD_BODIES | (BAD | JSON).map(lambda value: json.dumps(value).encode()) | st.binary(max_size=64)
HEADERS = (
    st.just({})
    | st.just({})
    | st.fixed_dictionaries(
        {},
        optional={
            "mcp-protocol-version": st.sampled_from(["2025-06-18", "2026-07-28", "2099-01-01", ""]),
            "mcp-method": METHODS,
            "mcp-name": st.sampled_from([*EVERYBODYS, "=?base64?x?="]),
        },
    )
)


class Gateway:
    """A core whose engine answers as chance has it."""

    def __init__(self) -> None:
        self.world = World()
        self.world.start()
        self.world.online()
        self.agent_id = self.world.spawn("w1")
        self.offered: list[inputs.Input] = []
        self.access = BrokerAccess(self)  # type: ignore[arg-type]
        self.audit = self
        self.statuses = iter(())

    @property
    def state(self) -> Any:
        return self.world.broker.state

    def log_locked_s(self) -> float:
        return 0.0

    def offer(self, item: inputs.Input) -> bool:
        self.offered.append(item)
        before = len(self.world.effects)
        self.world.tell(item)
        for call in self.world.effects[before:]:
            if isinstance(call, HttpCall):
                status = next(self.statuses, 201)
                self.world.tell(inputs.EngineAnswered(call_id=call.call_id, status=status, code="c", data={"id": "5"}))
        self.world.advance(10)
        asyncio.get_running_loop().call_soon(self.answer)
        return True

    def answer(self) -> None:
        for effect in self.world.effects:
            if isinstance(effect, effects.Reply):
                self.access.reply(effect)

    async def ask_engine(self, call: HttpCall) -> inputs.EngineAnswered:
        assert call.method == "GET"
        return inputs.EngineAnswered(
            call_id=call.call_id, status=next(self.statuses, 200), data=[{"id": 5, "name": None}, 7]
        )

    async def why(self, _identifier: str) -> list[Any]:
        return []


class NoFleet:
    """Nobody starts or ends agents here: it is not allowed, and so it is not asked."""


def is_answer(body: bytes) -> bool:
    value = json.loads(body)
    assert value["jsonrpc"] == "2.0"
    assert "id" in value
    if "error" in value:
        return isinstance(value["error"]["code"], int) and isinstance(value["error"]["message"], str)
    result = value["result"]
    if "content" in result:
        return result["isError"] in (True, False) and result["content"][0]["type"] == "text"
    return isinstance(result, dict)


@settings(max_examples=max(400, settings.default.max_examples))
@given(
    messages=st.lists(st.tuples(BODIES, HEADERS, st.sampled_from(["", "k"])), min_size=1, max_size=6),
    statuses=st.lists(st.sampled_from([200, 201, 403, 404, 500]), max_size=12),
)
def test_every_message_is_answered_and_changes_only_what_it_may(messages, statuses):
    """OWN-SCOPE: the agent's own sends and acts, and nothing of anybody else."""

    async def run() -> None:
        gateway = Gateway()
        gateway.statuses = iter(statuses)
        tools, caller = AgentToolbox(gateway.access, NoFleet()), AgentCaller(gateway.agent_id, "w1")
        position = gateway.state.position
        for body, headers, key in messages:
            before = len(gateway.offered)
            status, answer, _ = await tools.answered(caller, body, headers, key)
            assert status in (200, 202, 400, 404)
            assert (answer is None) == (status == 202)
            assert answer is None or is_answer(answer)
            assert len(gateway.offered) - before <= (2 if b"send_group_dm" in body else 1)
            assert status == 200 or len(gateway.offered) == before
        assert all(item.agent_id == gateway.agent_id for item in gateway.offered)
        touched = {one.stream.partition(":")[0] for one in gateway.world.log[position:]}
        assert touched <= {"message", "agent", "broker", "node"}
        assert gateway.state.acting(gateway.agent_id) is not None
        gateway.world.assert_fold_is_live()

    asyncio.run(run())
