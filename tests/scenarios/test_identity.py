"""Identity, tokens, registration and release: the rows of failure-scenarios.md sections C and E on the real broker."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat

import psutil
import pytest

from tests.scripted_engine import KEY, error
from tests.waiting import WAIT_S


def cached_tokens(node):
    return sorted((node.folder / "data" / "agent-relay" / "node-tokens").glob("*.json"))


async def test_a_second_workspace_in_one_directory_is_another_node(make_node, engine):
    """F042."""
    node = make_node()
    await node.start()
    await engine.online()
    first = engine.node_id
    await node.stop()
    engine.routes["GET /v1/workspace"] = lambda _: (200, {"id": "ws_other", "name": "other"})
    node.state = node.folder / "other-state"
    node.extra["AGENT_RELAY_WORKSPACE_KEY"] = "rk_live_" + "1" * 32
    await node.start()
    await engine.online(2)
    assert engine.node_id != first
    assert len(cached_tokens(node)) == 2


async def test_the_token_is_minted_once_and_kept_private(node, engine):
    """I4, I5, I7: cached for exactly this node, workspace and engine; no token anywhere else."""
    await node.stop()
    await node.start()
    await engine.online(2)
    assert len(engine.requests("POST", "/v1/nodes")) == 1
    (path,) = cached_tokens(node)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert set(json.loads(path.read_text())) == {"node_id", "workspace_id", "base_url", "token"}
    token = json.loads(path.read_text())["token"]
    for place in node.state.rglob("*"):
        if place.is_file():
            content = place.read_bytes()
            assert token.encode() not in content, place
            if place.name != "workspace.json":
                assert KEY.encode() not in content, place


async def test_a_killed_broker_has_its_identities_back(node, engine):
    """F063: node, own agent and agents; nothing is registered again."""
    await node.spawn("w1")
    before = len(engine.requests("POST", "/v1/agents"))
    node.kill()
    await node.start()
    await engine.online(2)
    assert len(engine.requests("POST", "/v1/nodes")) == 1
    assert len(engine.requests("POST", "/v1/agents")) == before
    assert len(engine.frames("agent.register")) == 1
    assert [row["name"] for row in engine.frames("inventory.sync", connection=2)[0]["agents"]] == ["w1"]


async def test_a_sender_that_is_no_local_agent_is_only_a_name(node, engine):
    """F061: nothing is registered or rotated for it."""
    before = len(engine.requests("POST", "/v1/agents"))
    status, _ = await node.api("POST", "/api/send", {"to": "#general", "message": "hi", "from": "stranger"})
    assert status == 200
    (posted,) = engine.requests("POST", "/v1/channels/general/messages")
    assert posted.body["data"] == {"from": "stranger"}
    assert len(engine.requests("POST", "/v1/agents")) == before
    assert engine.requests("POST", ".*rotate-token") == []


@pytest.mark.parametrize("status", ["online", "active", None])
async def test_a_name_that_somebody_else_holds_is_left_alone(node, engine, status):
    """F062, F066: live or of unknown state; refused, the holder's token unchanged."""
    engine.answers["agent.register"] = lambda _: error("agent_already_exists")
    engine.routes["GET /v1/agents/w1"] = lambda _: (
        200,
        {"id": "7", "name": "w1"} | ({"status": status} if status else {}),
    )
    code, answer = await node.api("POST", "/api/spawn", {"name": "w1", "cli": "cat"})
    assert (code, answer["code"]) == (409, "registration_refused")
    assert engine.requests("POST", ".*(takeover|rotate-token|recover)") == []


async def test_a_probe_that_hangs_is_bounded_and_takes_nothing(make_node, engine):
    """F066."""
    node = make_node(rate=5)
    await node.start()
    await engine.online()
    engine.answers["agent.register"] = lambda _: error("agent_already_exists")
    engine.routes["GET /v1/agents/w1"] = lambda _: (0, None)
    code, answer = await node.api("POST", "/api/spawn", {"name": "w1", "cli": "cat"})
    assert (code, answer["code"]) == (503, "engine_unavailable")
    assert engine.requests("POST", ".*(takeover|rotate-token|recover)") == []


async def test_a_name_of_ours_is_taken_back_once_for_several_callers(node, engine):
    """F067, F073: create-only engine, 409; one takeover, the others hear that the agent is there."""
    first = await node.spawn("w1")
    os.kill(first["pid"], signal.SIGKILL)
    await engine.frame("agent.deregister")
    engine.answers["agent.register"] = lambda _: error("agent_already_exists")
    engine.routes["POST /v1/agents/w1/takeover"] = lambda _: (200, engine.registered("w1"))
    answers = await asyncio.gather(*[node.api("POST", "/api/spawn", {"name": "w1", "cli": "cat"}) for _ in range(3)])
    assert sorted(status for status, _ in answers) == [200, 409, 409]
    (taken,) = engine.requests("POST", "/v1/agents/w1/takeover")
    assert taken.body["expected_agent_id"] == first["agent_id"]
    assert taken.body["actor"]
    assert taken.body["reason"]
    assert engine.requests("GET", "/v1/agents/w1") == []


@pytest.mark.parametrize(("code", "rotations", "status"), [("not_found", 1, 200), ("agent_not_found", 0, 409)])
async def test_a_404_is_judged_by_its_code(node, engine, code, rotations, status):
    """F068: no such route is not no such agent."""
    engine.answers["agent.register"] = lambda _: error("agent_already_exists")
    engine.agents["w1"] = "7"
    engine.routes["GET /v1/agents/w1"] = lambda _: (200, {"id": "7", "name": "w1", "status": "offline"})
    engine.routes["POST /v1/agents/w1/takeover"] = lambda _: (404, {"code": code})
    engine.routes["POST /v1/agents/w1/rotate-token"] = lambda _: (200, {"name": "w1", "token": "at_live_" + "7" * 32})
    got, answer = await node.api("POST", "/api/spawn", {"name": "w1", "cli": "cat"})
    assert got == status, answer
    assert len(engine.requests("POST", ".*rotate-token")) == rotations


async def test_a_registration_has_exactly_the_allowed_keys_and_ends_in_time(make_node, engine):
    """F072: an error that names no request still ends within the deadline."""
    node = make_node(rate=10)
    await node.start()
    await engine.online()
    engine.answers["agent.register"] = lambda _: {**error("invalid_message"), "id": "somebody-else"}
    engine.routes["POST /v1/agents"] = lambda _: (503, {"code": "unavailable"})
    code, _ = await node.api("POST", "/api/spawn", {"name": "w1", "cli": "cat"})
    assert code == 503
    (register,) = engine.frames("agent.register")
    assert set(register) == {"v", "id", "type", "name"}
    assert (await node.link())["last_error"]["code"] == "invalid_message"


async def test_an_agent_killed_from_outside_can_be_spawned_again_at_once(node, engine):
    """F073, B06, F110: the exit is seen within 2 s."""
    first = await node.spawn("w1")
    os.kill(first["pid"], signal.SIGKILL)
    await engine.frame("agent.deregister")
    again = await node.spawn("w1")
    assert again["pid"] != first["pid"]


async def test_an_agents_process_group_is_gone_after_its_release(node, engine):
    """F109, W8: child and grandchild."""
    command = "bash -c 'sleep 300 & bash -c \"sleep 301 & wait\" & cat'"
    status, answer = await node.api("POST", "/api/spawn", {"name": "w1", "cli": command})
    assert status == 200
    family = [psutil.Process(answer["pid"])]
    await node.until(lambda: len(psutil.Process(answer["pid"]).children(recursive=True)) >= 3, what="the family")
    family += psutil.Process(answer["pid"]).children(recursive=True)
    assert (await node.api("DELETE", "/api/spawned/w1"))[0] == 200
    _, alive = psutil.wait_procs(family, timeout=WAIT_S)
    assert alive == []


async def test_a_release_without_the_engine_keeps_its_bound_and_is_told_later(make_node, engine):
    """F105, F106, F107: `release_pending`; deregister leaves before a new registration of the name."""
    node = make_node(rate=4)
    await node.start()
    await engine.online()
    await node.spawn("w1")
    engine.handshakes = [503] * 3
    await engine.drop()
    await node.until_link("backing_off")
    status, answer = await node.api("DELETE", "/api/spawned/w1")
    assert (status, answer["release_pending"]) == (200, True)
    status, answer = await node.api("DELETE", "/api/spawned/w1")
    assert answer["release_pending"] is True
    await engine.frame("agent.deregister")
    await node.spawn("w1")
    kinds = [heard.frame["type"] for heard in engine.heard if heard.frame["type"].startswith("agent.")]
    assert kinds == ["agent.register", "agent.deregister", "agent.register"]


@pytest.mark.parametrize("cwd", ["no/such/place", "/no/such/place"])
async def test_a_directory_that_is_not_there_is_refused_before_any_engine_call(node, engine, cwd):
    """F113."""
    code, answer = await node.api("POST", "/api/spawn", {"name": "w1", "cli": "cat", "cwd": cwd})
    assert (code, answer["code"]) == (400, "invalid_cwd")
    assert engine.frames("agent.register") == []


async def test_a_spawn_without_a_link_is_answered_within_five_seconds(make_node, engine):
    """F047."""
    engine.handshakes = [503] * 50
    node = make_node()
    await node.start()
    code, answer = await node.api("POST", "/api/spawn", {"name": "w1", "cli": "cat"})
    assert (code, answer["code"]) == (503, "engine_unavailable")
    assert "node_control_disconnected" in answer["message"]


async def test_an_accepted_message_survives_a_kill_and_is_published_once(make_node, engine):
    """F034, B21: with the same idempotency key."""
    engine.routes["POST /v1/channels/general/messages"] = lambda _: (0, None)
    node = make_node()
    await node.start()
    await engine.online()
    sending = asyncio.create_task(node.api("POST", "/api/send", {"to": "#general", "message": "hello"}))
    await engine.until(lambda: engine.requests("POST", "/v1/channels/general/messages"))
    node.kill()
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    del engine.routes["POST /v1/channels/general/messages"]
    await node.start()
    await node.logged("message.published.v1")
    posted = engine.requests("POST", "/v1/channels/general/messages")
    assert [asked.body["text"] for asked in posted] == ["hello", "hello"]
    assert len({asked.key for asked in posted}) == 1


async def test_an_engine_that_swallows_everything_holds_up_no_stop(make_node, engine):
    """F131, NO-STALL."""
    node = make_node()
    await node.start()
    await engine.online()
    for number in range(5):
        await node.spawn(f"w{number}")
    engine.freeze()
    assert await node.stop() == 0
    engine.thaw()


async def test_a_refused_creation_is_not_repeated(make_node, engine):
    """F044, F130: a 4xx to the enrolment is tried once and shown."""
    engine.routes["POST /v1/nodes"] = lambda _: (403, {"code": "forbidden"})
    node = make_node()
    await node.start()
    link = await node.until_link("refused")
    assert "403 forbidden" in link["detail"]
    assert len(engine.requests("POST", "/v1/nodes")) == 1
