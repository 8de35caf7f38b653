"""Slow and failing starts of the link, and what a person finds about them: the real broker against a scripted engine."""

from __future__ import annotations

import asyncio
import json

from tests.scripted_engine import KEY, error


def log_file(node) -> str:
    """Everything in the broker's log files."""
    return "".join(path.read_text() for path in sorted((node.folder / "log").rglob("*.log")))


async def test_a_token_that_takes_half_a_minute_is_waited_for_and_then_delivery_begins(make_node, engine):
    """F045, 1.5: one mint, asked once; what is asked for meanwhile is answered."""
    rate = 20

    async def enrol(asked):
        await asyncio.sleep(30 / rate)
        return engine._fair_rest(asked)

    engine.routes["POST /v1/nodes"] = enrol
    node = make_node(rate=rate)
    await node.start()
    assert (await node.link())["state"] == "minting"
    await engine.online()
    assert len(engine.requests("POST", "/v1/nodes")) == 1
    await node.spawn("w1")
    await engine.deliver("w1", 1, "at last")
    await node.typed("w1", "at last")


async def test_the_log_file_names_status_and_code_of_what_failed(make_node, engine):
    """F044, F043: a failed enrolment and an error frame, each with its code, and no token (I7)."""
    statuses = iter([500])
    engine.routes["POST /v1/nodes"] = lambda asked: (
        (status, {"code": "database_down"}) if (status := next(statuses, 0)) else engine._fair_rest(asked)
    )
    refusals = iter([error("node_control_failed")])
    engine.answers["node.register"] = lambda frame: next(refusals, None) or engine._fair(frame)
    node = make_node(rate=20)
    await node.start()
    await engine.online(2)
    await engine.send(type="error", id="nobody", ok=False, code="odd", message="what?")
    await node.until(lambda: "odd" in log_file(node), what="the error frame in the log file")
    written = log_file(node)
    assert "500 database_down" in written
    assert "ERROR relaybroker.node.link_log: the engine says node_control_failed to node.register" in written
    assert "the engine says odd to something: what?" in written
    assert "_live_" not in written


async def test_a_second_workspace_that_fails_leaves_the_identity_of_the_first_alone(make_node, engine):
    """F074: what was taken back in the first is not given up because of the second, which a broker does not join."""
    first = make_node()
    await first.start()
    await engine.online()
    await first.spawn("w1")
    token = json.loads(next((first.folder / "data" / "agent-relay" / "node-tokens").iterdir()).read_text())
    registered = len(engine.requests("POST", "/v1/agents"))
    first.kill()

    engine.routes["GET /v1/workspace"] = lambda asked: (
        (200, {"id": "ws_scripted"}) if asked.token == KEY else (401, {"code": "unauthorized"})
    )
    memberships = [{"workspace_id": "ws_scripted", "api_key": KEY}, {"workspace_id": "ws_2", "api_key": "rk_live_bad"}]
    first.extra["RELAY_WORKSPACES_JSON"] = json.dumps(memberships)
    await first.start()
    await engine.online(2)
    assert [row["name"] for row in engine.frames("inventory.sync", connection=2)[0]["agents"]] == ["w1"]
    assert json.loads(next((first.folder / "data" / "agent-relay" / "node-tokens").iterdir()).read_text()) == token
    assert len(engine.requests("POST", "/v1/agents")) == registered
    assert engine.requests("DELETE", ".*") == []
    assert engine.frames("agent.deregister") == []
    assert {asked.token for asked in engine.asked} & {"rk_live_bad"} == set()
    assert "names 1 more workspaces" in log_file(first)


async def test_presence_is_not_release(node, engine):
    """F069: the engine says that a living agent is offline; it keeps its name, its token and its place in the inventory."""
    await node.spawn("w1")
    agent_id = engine.agents["w1"]
    before = len(engine.frames("agent.register"))
    await engine.send(
        type="context.update", topic="presence", event="agent.offline", agent_ids=[agent_id], data={"status": "offline"}
    )
    await engine.deliver("w1", 1, "still here")
    await node.typed("w1", "still here")
    code, answer = await node.api("POST", "/api/spawn", {"name": "w1", "cli": "cat"})
    assert (code, answer["code"]) == (409, "agent_exists")
    assert len(engine.frames("agent.register")) == before
    assert engine.frames("agent.deregister") == []
    assert engine.requests("POST", ".*(rotate-token|takeover|recover|disconnect)") == []
