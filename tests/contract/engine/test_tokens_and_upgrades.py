"""engine-contract.md sections 1.3 and 3: who is let in, and where sockets are."""

import pytest
from aiohttp import WSServerHandshakeError


async def refused(world, path, **headers):
    with pytest.raises(WSServerHandshakeError) as failure:
        await world.session.ws_connect(world.engine.base_url + path, headers=headers)
    return failure.value.status


async def test_a_node_socket_without_a_valid_token_is_refused_at_the_upgrade(world):
    assert await refused(world, "/v1/node/ws") == 401
    assert await refused(world, "/v1/node/ws", Authorization="Bearer nonsense") == 401
    assert await refused(world, "/v1/node/ws", Authorization=f"Bearer {world.key}") == 401
    assert await refused(world, "/v1/node/ws?token=nt_live_" + "0" * 48) == 401


async def test_a_rotated_node_token_is_dead_for_new_sockets_and_its_open_socket_stays(world):
    node = await world.node()
    fresh = await world.enrol("host-1")
    assert fresh["id"] == node.id
    assert await refused(world, "/v1/node/ws", Authorization=f"Bearer {node.token}") == 401
    assert (await node.register())["ok"]


async def test_the_token_may_come_in_the_query_or_the_header_and_an_empty_query_hides_nothing(world):
    data = await world.enrol("host-1")
    for query, headers in (
        (f"?token={data['token']}", {}),
        (f"?token=%20{data['token']}%20", {}),
        ("", {"Authorization": f"bearer {data['token']}"}),
        ("?token=", {"Authorization": f"Bearer {data['token']}"}),
    ):
        url = f"{world.engine.base_url}/v1/node/ws{query}"
        async with world.session.ws_connect(url, headers=headers) as socket:
            assert not socket.closed


async def test_agent_tokens_are_refused_on_the_observer_stream(world):
    agent = await world.agent("ada")
    assert await refused(world, "/v1/ws", Authorization=f"Bearer {agent.token}") == 401
    assert await refused(world, "/v1/ws") == 401


async def test_upgrades_elsewhere_and_plain_reads_of_the_sockets_are_426(world):
    for path in ("/v1/node/terminal/ws", "/v1/agents", "/nothing"):
        assert await refused(world, path, Authorization=f"Bearer {world.key}") == 426
    for path in ("/v1/node/ws", "/v1/ws"):
        answer = await world.get(path)
        assert (answer.status, answer.body["ok"]) == (426, False)


@pytest.mark.parametrize(
    ("token", "path", "code"),
    [
        ("", "/v1/workspace", "unauthorized"),
        ("what_ever", "/v1/workspace", "unauthorized"),
        ("rk_live_" + "0" * 32, "/v1/workspace", "unauthorized"),
        ("at_live_" + "0" * 32, "/v1/agent", "agent_token_invalid"),
        ("AGENT", "/v1/workspace", "unauthorized"),
        ("KEY", "/v1/agent", "unauthorized"),
        ("NODE", "/v1/workspace", "node_token_forbidden"),
        ("NODE", "/v1/nodes", "node_token_forbidden"),
    ],
)
async def test_every_wrong_token_is_401_with_its_code(world, token, path, code):
    known = {"AGENT": (await world.agent("ada")).token, "KEY": world.key, "NODE": (await world.enrol("n"))["token"]}
    answer = await world.get(path, token=known.get(token, token))
    assert (answer.status, answer.code) == (401, code)


async def test_a_rotated_agent_token_is_dead(world):
    agent = await world.agent("ada")
    fresh = (await world.post("/v1/agents/ada/rotate-token", {})).data
    assert (await world.get("/v1/agent", token=agent.token)).code == "agent_token_invalid"
    assert (await world.get("/v1/agent", token=fresh["token"])).data["name"] == "ada"


async def test_tokens_are_stored_as_hashes_only(world, tmp_path):
    agent = await world.agent("ada")
    node = await world.node()
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("engine.db*"))
    assert b"ada" in stored
    for token in (agent.token, node.token, world.key):
        assert token.encode() not in stored
