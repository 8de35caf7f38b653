"""Two brokers on one host, in one workspace, from different directories: two nodes that leave each other's identity alone."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from tests.waiting import WAIT_S

CAPABILITIES = "cat,note"


@pytest.fixture
async def pair(make_deployment, tmp_path):
    """Both online; the second one uses the first one's engine and workspace. Both were given the same name."""
    made = []
    for number in (1, 2):
        folder = tmp_path / f"project{number}"
        folder.mkdir()
        deployment = make_deployment(
            folder, RELAYBROKER_CAPABILITIES=CAPABILITIES, XDG_DATA_HOME=str(tmp_path / "data")
        )
        deployment.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=WAIT_S))
        made.append(deployment)
    (tmp_path / "data").mkdir(mode=0o700)
    first, second = made
    try:
        await first.start()
        await first.meet()
        second.extra |= {"RELAYCAST_BASE_URL": first.engine, "AGENT_RELAY_WORKSPACE_KEY": first.workspace}
        await second.start()
        second.engine, second.workspace, second.planner = first.engine, first.workspace, first.planner
        for deployment in made:
            await deployment.until_api(lambda status: status["link"]["state"] == "online", "online")
        yield first, second
    finally:
        for deployment in reversed(made):
            await deployment.close()


async def nodes_of(first):
    return {
        node["id"]: node
        for node in await first.ask_engine("GET", "/v1/nodes", first.workspace)
        if node.get("role") == "broker"
    }


def tokens(tmp_path):
    return {path.name: path.read_bytes() for path in (tmp_path / "data" / "agent-relay" / "node-tokens").glob("*.json")}


async def test_two_brokers_of_one_name_are_two_nodes_and_keep_their_tokens(pair, tmp_path):
    """F043, W-20, F063: no fight over a token, over a restart of each either."""
    first, _second = pair
    named = {(await one.status())["node"]["id"]: (await one.status())["node"]["name"] for one in pair}
    assert len(named) == 2
    assert min(named.values()) == "desk"
    assert sorted(named.values())[1].startswith("desk-")
    before = tokens(tmp_path)
    assert len(before) == 2
    for one in pair:
        one.kill_broker()
        await one.start()
        await one.until_api(lambda status: status["link"]["state"] == "online", "online again")
    assert tokens(tmp_path) == before
    online = {key: node["name"] for key, node in (await nodes_of(first)).items() if node["status"] == "online"}
    assert online == named
    for one in pair:
        assert (await one.status())["link"]["remints"] == 0


async def test_agents_of_one_node_message_agents_of_the_other(pair):
    """B20, F001: as their true senders, typed once each."""
    first, second = pair
    await first.spawn("ann")
    await second.spawn("bob")
    for sender, to, deployment in (("ann", "bob", first), ("bob", "ann", second)):
        status, answer = await deployment.api(
            "POST", "/api/send", {"to": to, "message": f"from {sender}", "from": sender}
        )
        assert (status, answer["relaycast_published"], answer["local"]) == (200, True, False)
        assert answer["recipient_live"] is None, "what another node's agent does is not known here"
    await second.until(lambda: (second.folder / "bob.notes").read_text().endswith("from ann\n"), "bob has it")
    await first.until(lambda: (first.folder / "ann.notes").read_text().endswith("from bob\n"), "ann has it")
    assert (second.folder / "bob.notes").read_text().startswith("Relay message from ann ")
    assert len(first.received("ann")) == len(second.received("bob")) == 1
    await second.until_api(lambda shown: shown["totals"]["acked"] >= 1, "acked")


async def spawn_by_engine(first, given):
    made = await first.ask_engine("POST", "/v1/actions/spawn/invoke", first.planner, {"input": given})
    path = f"/v1/actions/spawn/invocations/{made['invocation_id']}"
    async with asyncio.timeout(WAIT_S):
        ended = ("completed", "failed")
        while (invocation := await first.ask_engine("GET", path, first.planner))["status"] not in ended:
            await asyncio.sleep(0.1)
    return invocation


async def names_at(deployment):
    return {agent["name"] for agent in (await deployment.api("GET", "/api/spawned"))[1]["agents"]}


async def test_spawns_go_where_they_should(pair):
    """A targeted one to its node, others to the one with fewer agents; release through the engine; ROSTER (F053, U25)."""
    first, second = pair
    target = (await second.status())["node"]["name"]
    invocation = await spawn_by_engine(first, {"name": "aimed", "cli": "cat", "target_node": target})
    assert invocation["output"] == {"spawned": True, "name": "aimed"}
    assert await names_at(second) == {"aimed"}

    await second.until_api(lambda _: True, "")
    ids = {(await one.status())["node"]["id"]: one for one in pair}
    await until_counted(first, {key: len(await names_at(one)) for key, one in ids.items()})
    invocation = await spawn_by_engine(first, {"name": "free", "cli": "cat"})
    assert invocation["output"]["spawned"] is True
    assert await names_at(first) == {"free"}

    await until_counted(first, dict.fromkeys(ids, 1))
    made = await first.ask_engine("POST", "/v1/agents/release", first.workspace, {"name": "aimed"})
    assert made["invocation_id"]
    await until_counted(first, {key: len({"free"}) if one is first else 0 for key, one in ids.items()})
    assert await names_at(second) == set()
    status, answer = await first.api("POST", "/api/spawn", {"name": "aimed", "cli": "cat"})
    assert status == 200, f"a released name may live on another node: {answer}"


async def until_counted(first, counts):
    async with asyncio.timeout(WAIT_S):
        while True:
            seen = {key: node["active_agents"] for key, node in (await nodes_of(first)).items()}
            if seen == counts:
                return
            await asyncio.sleep(0.1)
