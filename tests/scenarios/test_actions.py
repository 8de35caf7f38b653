"""S13, S14, S19 and the action rows: one execution, the same result, the truth about what happened."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from tests.scripted_engine import error, ok, silence


@pytest.fixture
async def node(make_node, engine):
    """A broker that offers `cat` and a program that ends at once, online."""
    made = make_node()
    broken = made.folder / "broken"
    broken.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('no config')\n")
    broken.chmod(0o755)
    made.extra["RELAYBROKER_CAPABILITIES"] = f"cat,{broken},/no/such/program"
    await made.start()
    await engine.online()
    return made


async def result(engine, invocation_id, count=1):
    return await engine.frame("action.result", invocation_id=invocation_id, count=count)


async def test_a_spawn_without_cli_runs_the_suffix(make_node, engine):
    """S14, RV-X1: `spawn:<harness>`; F055: at once after the connection."""
    node = make_node(RELAYBROKER_CAPABILITIES="cat")
    await node.start()
    await engine.online()
    assert engine.frames("node.register")[0]["capabilities"] == [{"name": "spawn:cat", "kind": "spawn"}]
    await engine.invoke("inv_1", "spawn:cat", {"name": "w1", "task": None, "channel": None})
    assert (await result(engine, "inv_1"))["output"] == {"spawned": True, "name": "w1"}
    listed = (await node.api("GET", "/api/spawned"))[1]["agents"]
    assert [(agent["name"], agent["parent"]) for agent in listed] == [("w1", "Relaycast")]


async def test_one_invocation_runs_once_and_answers_the_same_across_a_kill(node, engine):
    """S13, F139, X1."""
    await engine.invoke("inv_1", "spawn:cat", {"name": "w1"})
    first = await result(engine, "inv_1")
    await engine.invoke("inv_1", "spawn:cat", {"name": "w1"})
    await result(engine, "inv_1", 2)
    node.kill()
    await node.start()
    await engine.online(2)
    count = len(engine.frames("action.result", invocation_id="inv_1"))
    await engine.invoke("inv_1", "spawn:cat", {"name": "w1"})
    again = await result(engine, "inv_1", count + 1)
    assert again["output"] == first["output"] == {"spawned": True, "name": "w1"}
    assert len(engine.frames("agent.register")) == 1


async def test_a_result_written_just_before_the_socket_ended_is_sent_unasked(node, engine):
    """S13, W-29."""
    await engine.invoke("inv_1", "nobody-serves-this")
    await result(engine, "inv_1")
    await engine.invoke("inv_2", "release", {"name": "nobody"})
    first = await result(engine, "inv_2")
    await engine.drop()
    again = await result(engine, "inv_2", 2)
    assert again["error"] == first["error"] == "release_failed"


async def test_a_program_that_ends_at_once_is_an_error_with_its_cause(node, engine):
    """F136, F101."""
    await engine.invoke("inv_1", "spawn:cat", {"name": "w1", "cli": str(node.folder / "broken")})
    assert (await result(engine, "inv_1"))["error"] == "spawn_failed"
    assert "no config" in (await node.logged("action.done.v1")).event.detail
    await engine.frame("agent.deregister")
    assert (await node.api("GET", "/api/spawned"))[1]["agents"] == []


@pytest.mark.parametrize("cli", ["/no/such/program", "cat 'unbalanced", "cat -u", "sh"])
async def test_a_program_that_cannot_be_started_leaves_nothing(node, engine, cli):
    """F101, F104, CLEAN-FAIL; what the node does not offer, or with arguments, is not started at all (local-api 11.6)."""
    await engine.invoke("inv_1", "spawn:cat", {"name": "w1", "cli": cli})
    assert (await result(engine, "inv_1"))["error"] == "spawn_failed"
    if engine.frames("agent.register"):
        await engine.frame("agent.deregister")
    await engine.invoke("inv_2", "spawn:cat", {"name": "w1"})
    assert (await result(engine, "inv_2"))["output"]["spawned"] is True


async def test_the_same_spawn_under_two_invocations_starts_one_program(node, engine):
    """F138."""
    await engine.invoke("inv_1", "spawn:cat", {"name": "w1"})
    await engine.invoke("inv_2", "spawn:cat", {"name": "w1"})
    assert (await result(engine, "inv_2"))["error"] == "spawn_failed"
    assert (await result(engine, "inv_1"))["output"]["spawned"] is True
    done = {recorded.correlation: recorded.event.reason for recorded in node.log("action.done.v1")}
    assert done == {"inv_1": None, "inv_2": "agent_exists"}


async def test_spawn_release_spawn_within_a_second_runs_the_last(node, engine):
    """F140."""
    await engine.invoke("inv_1", "spawn:cat", {"name": "w1"})
    await result(engine, "inv_1")
    await engine.invoke("inv_2", "release", {"name": "w1"})
    await result(engine, "inv_2")
    await engine.invoke("inv_3", "spawn:cat", {"name": "w1"})
    assert (await result(engine, "inv_3"))["output"]["spawned"] is True
    assert len((await node.api("GET", "/api/spawned"))[1]["agents"]) == 1


@pytest.mark.parametrize("given", [{"spawn_mode": "sideways"}, {"agent": {"spawnMode": "sideways"}}])
async def test_an_unknown_spawn_mode_is_refused(node, engine, given):
    """F141: at the top level and nested."""
    await engine.invoke("inv_1", "spawn:cat", {"name": "w1"} | given)
    assert (await result(engine, "inv_1"))["error"] == "spawn_failed"
    assert (await node.logged("action.done.v1")).event.reason == "invalid_spawn_mode"


async def test_a_refusal_by_the_engine_is_the_end_of_a_spawn(node, engine):
    """R9: no way round it."""
    engine.answers["agent.register"] = lambda _: error("node_capacity_exceeded")
    await engine.invoke("inv_1", "spawn:cat", {"name": "w1"})
    assert (await result(engine, "inv_1"))["error"] == "spawn_failed"
    assert "node_capacity_exceeded" in (await node.logged("action.done.v1")).event.detail
    assert engine.requests("POST", "/v1/nodes/.*/agents") == []


async def test_a_spawn_that_nothing_answers_ends_within_its_deadline(make_node, engine):
    """X5: 25 s, whatever the engine swallows."""
    node = make_node(rate=10, RELAYBROKER_CAPABILITIES="cat")
    await node.start()
    await engine.online()
    engine.answers["agent.register"] = silence
    engine.routes["POST /v1/agents"] = lambda _: (0, None)
    await engine.invoke("inv_1", "spawn:cat", {"name": "w1"})
    assert (await result(engine, "inv_1"))["error"] == "spawn_failed"


async def test_the_inventory_lists_exactly_who_lives(make_node, engine):
    """S19, R1, ROSTER: agents of three ways, one died during an outage; a running spawn is not disturbed."""
    node = make_node(rate=2, RELAYBROKER_CAPABILITIES="cat")
    await node.start()
    await engine.online()
    spawned = await node.spawn("by_api")
    await engine.invoke("inv_1", "spawn:cat", {"name": "by_action"})
    await result(engine, "inv_1")
    await node.spawn("short_lived")
    engine.handshakes = [503] * 2
    await engine.drop()
    await node.until_link("backing_off")
    pids = {agent["name"]: agent["pid"] for agent in (await node.api("GET", "/api/spawned"))[1]["agents"]}
    os.kill(pids["short_lived"], signal.SIGKILL)
    await node.logged("worker.exited.v1")
    await engine.online(4)
    rows = engine.frames("inventory.sync", connection=4)[0]["agents"]
    assert sorted(row["name"] for row in rows) == ["by_action", "by_api"]
    assert {row["agent_id"] for row in rows} >= {spawned["agent_id"]}
    assert all("invocation_id" not in row for row in rows)

    engine.answers["agent.register"] = lambda frame: (
        None if frame["name"] == "slow" else ok(engine.registered(frame["name"]))
    )
    await engine.invoke("inv_2", "spawn:cat", {"name": "slow"})
    asked = await engine.frame("agent.register", name="slow")
    count = len(engine.frames("inventory.sync"))
    await node.api("DELETE", "/api/spawned/by_api")
    await engine.frame("agent.deregister", name="by_api")
    assert len(engine.frames("inventory.sync")) == count, "a sync now would start the spawn again elsewhere"
    await engine.send(id=asked["id"], **ok(engine.registered("slow")))
    await result(engine, "inv_2")
    await engine.frame("inventory.sync", count=count + 1)
