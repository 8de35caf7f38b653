"""engine-contract.md section 2.8: who may do what. Everybody asks every route of the table, and nobody reaches further than it says."""

import pytest

from relaybroker.engine import names
from relaybroker.engine.authority import AUTHORITY, OPEN
from relaybroker.engine.rest.routes import PARTS
from relaybroker.engine.rest.workspaces import WORKSPACES_MAX

BODY = {
    "name": "zed", "text": "t", "to": "bob", "emoji": "x", "agent_name": "bob", "participants": ["bob"], "description": "d",
    "type": "agent", "scopes": ["search:read"], "available_at": "2031-01-01T00:00:00Z",
    "channel": "general", "cli": "claude", "task": "t", "handler_agent": "ada",
    "filename": "f", "content_type": "text/plain", "size_bytes": 1, "events": ["message.created"], "url": "https://example.com/",
}  # fmt: skip


@pytest.fixture
async def room(world):
    """ada and bob talk in a conversation and in a channel; carol is in neither; an action that ada handles; a second workspace."""
    world.ada, world.bob, world.carol = [await world.agent(name) for name in ("ada", "bob", "carol")]
    world.file = (await world.file(world.ada, filename="PRIVATE"))["id"]
    world.said = await world.dm(world.ada, world.bob, "PRIVATE", attachments=[world.file])
    await world.post("/v1/channels", {"name": "room"}, token=world.ada.token)
    world.room_said = await world.say(world.ada, "PRIVATE", "room")
    await world.post("/v1/actions", {"name": "dig", "description": "d", "handler_agent": "ada"}, token=world.ada.token)
    world.conversation = (await world.get("/v1/dm/conversations", token=world.ada.token)).data[0]["id"]
    node = await world.node("host-1", ["spawn:claude"])
    world.dug = (await world.post("/v1/actions/dig/invoke", {}, token=world.bob.token)).data["invocation_id"]
    mine, world.node_token = world.key, node.token
    await world.workspace("others")
    world.other_key, world.key = world.key, mine
    world.stranger = (await world.post("/v1/agents", {"name": "xaver"}, token=world.other_key)).data["token"]
    return world


def _path(world, route):
    """The path of a route, about what ada and bob have among themselves."""
    path = route.partition(" ")[2]
    name = "dig" if "/actions/" in path else "host-1" if "/nodes/" in path else "ada" if "/agents/" in path else "room"
    values = {
        "{name}": name,
        "{id}": world.dug if "/invocations/" in path else world.file if "/files/" in path else world.said["id"],
        "{conversation}": world.conversation,
        "{emoji}": "x",
        "{verb}": "mute",
        "{agent}": "ada",
    }
    if path == "/v1/search":
        return f"{path}?q=PRIVATE"
    for mark, value in values.items():
        path = path.replace(mark, value)
    return path


async def _ask(world, route, token, body=BODY):
    method = route.partition(" ")[0]
    return await world.call(method, _path(world, route), None if method == "GET" else body, token=token)


def test_every_route_has_a_row_and_every_row_a_route():
    routes = {
        f"{route.method} {route.path}".replace("{verb:mute|unmute}", "{verb}")
        for part in PARTS
        for route in part.routes
    }
    assert routes | {"GET /health"} == set(AUTHORITY) | set(OPEN)


async def test_no_route_answers_without_a_token_that_it_takes(room):
    """Nobody, a token that is none, and a node's token."""
    for route in AUTHORITY:
        for token in ("", "garbage", "rk_live_" + "0" * 32, "at_live_" + "0" * 32, "at_live_\xff\xfe", room.node_token):
            if AUTHORITY[route].node and token == room.node_token:
                continue
            answer = await _ask(room, route, token)
            assert answer.status == 401, (route, token, answer.body)


async def test_nobody_is_told_what_is_wrong_with_a_request_without_a_token(room):
    for route in AUTHORITY:
        for body in ({}, {"type": 7, "name": [], "text": {}, "to": 1, "emoji": 0, "limit": "x"}):
            answer = await _ask(room, route, "garbage", body)
            assert answer.status == 401, (route, body, answer.body)


async def test_the_kinds_of_tokens_are_those_of_the_table(room):
    for route, rule in AUTHORITY.items():
        if route.startswith("DELETE"):
            continue  # asked below: they would take away what the next one asks about
        answer = await _ask(room, route, room.key)
        names_the_kind = answer.status == 403 and answer.code == "agent_token_required"
        assert (answer.status != 401) == ("W" in rule.letters), (route, answer.body)
        assert names_the_kind == rule.workspace_is_told, (route, answer.body)
        if not rule.agent:
            assert (await _ask(room, route, room.carol.token)).status == 401, route


async def test_another_workspace_reaches_nothing(room):
    """Nothing of this workspace is in an answer to another one, and nothing of it changes."""
    for route in sorted(AUTHORITY, key="DELETE /v1/workspace".__eq__):
        for token in (room.stranger, room.other_key):
            answer = await _ask(room, route, token)
            assert "PRIVATE" not in str(answer.body), route
            if "{" in route and answer.status < 400:
                assert "room" not in str(answer.body), (route, answer.body)
    assert (await room.get(f"/v1/messages/{room.said['id']}")).data["text"] == "PRIVATE"
    assert (await room.get("/v1/actions/dig")).data["handler_agent"] == "ada"


async def test_an_agent_that_is_no_member_reaches_nothing_of_what_others_say(room):
    """Conversations, channels, reactions, receipts, invocations: 403 or 404 for carol, whichever route asks."""
    checked = [route for route, rule in AUTHORITY.items() if rule.agent and rule.agent.check]
    conversation = [route for route, rule in AUTHORITY.items() if rule.agent and "{conversation}" in route]
    assert len(checked) >= 10
    for route in (*checked, *conversation):
        answer = await _ask(room, route, room.carol.token)
        assert answer.status in (403, 404), (route, answer.body)
        assert "PRIVATE" not in str(answer.body)
    for route in AUTHORITY:
        answer = await _ask(room, route, room.carol.token)
        assert "PRIVATE" not in str(answer.body), route
    assert [row["agent_name"] for row in (await room.get("/v1/channels/room/members")).data] == ["ada"]


async def test_members_and_the_operator_reach_what_the_table_says(room):
    message = f"/v1/messages/{room.said['id']}"
    for token in (room.ada.token, room.bob.token, room.key):
        for part in ("", "/replies", "/reactions", "/readers"):
            assert (await room.get(message + part, token=token)).status == 200
    assert (await room.get(f"/v1/messages/{room.room_said['id']}", token=room.ada.token)).status == 200
    assert (await room.get("/v1/channels/room/messages", token=room.ada.token)).status == 200
    for token in (room.ada.token, room.bob.token):
        assert (await room.get(f"/v1/files/{room.file}", token=token)).status == 200
        assert [row["id"] for row in (await room.get("/v1/files", token=token)).data] == [room.file]
        assert (await room.get(f"/v1/actions/dig/invocations/{room.dug}", token=token)).status == 200


async def test_who_speaks_in_a_channel_without_being_in_it_reads_its_own_message_and_no_other(room):
    said = await room.say(room.carol, "from outside", "room")
    assert (await room.get(f"/v1/messages/{said['id']}/readers", token=room.carol.token)).status == 200
    assert (await room.get("/v1/channels/room/messages", token=room.carol.token)).status == 403


# --- power over other agents ------------------------------------------------------------------------------------------------


async def test_an_agent_releases_itself_and_what_it_started_and_nobody_else(world):
    ada, node = await world.agent("ada"), await world.node("host-1", ["spawn:claude"])
    await node.agent("bob")
    refused = await world.post("/v1/agents/release", {"name": "bob"}, token=ada.token)
    assert (refused.status, refused.code) == (403, "forbidden")
    by_action = await world.post("/v1/actions/release/invoke", {"input": {"name": "bob"}}, token=ada.token)
    assert (by_action.status, by_action.code) == (403, "forbidden")
    started = await world.post("/v1/agents/spawn", {"name": "mine", "cli": "claude", "task": "t"}, token=ada.token)
    await node.agent("mine", invocation_id=started.data["invocation_id"])
    assert (await world.post("/v1/agents/release", {"name": "mine"}, token=ada.token)).status == 201
    own = await node.agent("self")
    assert (await world.post("/v1/agents/release", {"name": "self"}, token=own.token)).status == 201
    assert not [frame for frame in node.of("action.invoke") if frame["input"].get("name") == "bob"]


async def test_an_agent_starts_no_program_under_a_name_that_another_one_has(world):
    """Whoever starts a name takes over its mailbox."""
    ada, _bob = await world.agent("ada"), await world.agent("bob")
    await world.node("host-1", ["spawn:claude"])
    refused = await world.post("/v1/agents/spawn", {"name": "bob", "cli": "claude", "task": "t"}, token=ada.token)
    assert (refused.status, refused.code) == (403, "forbidden")
    assert (await world.post("/v1/agents/spawn", {"name": "bob", "cli": "claude", "task": "t"})).status == 201


async def test_an_agent_takes_no_action_from_another_one_nor_from_a_node_nor_from_the_engine(world):
    ada, bob = await world.agent("ada"), await world.agent("bob")
    await world.node("host-1", ["spawn:claude", "build"])
    mine = {"name": "dig", "description": "d", "handler_agent": "ada"}
    assert (await world.post("/v1/actions", mine, token=ada.token)).status == 201
    assert (await world.post("/v1/actions", mine | {"description": "deeper"}, token=ada.token)).status == 201
    for name in ("dig", "build", "spawn", "release", "spawn:claude"):
        answer = await world.post("/v1/actions", mine | {"name": name, "handler_agent": "bob"}, token=bob.token)
        assert (answer.status, answer.code) == (403, "forbidden"), name
    offered = {"name": "build", "description": "d", "handler_node": "host-1"}
    assert (await world.post("/v1/actions", offered, token=bob.token)).status == 403
    assert (await world.call("DELETE", "/v1/actions/dig", token=bob.token)).status == 403
    assert (await world.call("DELETE", "/v1/actions/dig", token=ada.token)).status == 204


async def test_the_direct_node_of_an_agent_serves_no_other_agent(world):
    ada, bob = await world.agent("ada"), await world.agent("bob")
    await world.post("/v1/agents/disconnect", token=bob.token)
    direct = await world.direct(ada)
    taken = await direct.ask(type="agent.register", name="bob")
    assert (taken["ok"], taken["code"]) == (False, "forbidden")
    synced = await direct.ask(type="inventory.sync", agents=[{"agent_id": bob.id, "name": "bob"}])
    assert (synced["ok"], synced["code"]) == (False, "forbidden")
    assert (await world.get("/v1/agent", token=bob.token)).status == 200, "its token was not rotated"


# --- web pages, names, numbers ----------------------------------------------------------------------------------------------


async def test_a_web_page_makes_no_workspace_and_asks_nothing(world):
    """A form post of text/plain needs no permission from the browser; Origin and Host give it away."""
    body = b'{"name": "pwned"}'
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example:80"},
        {"Host": ""},
    ):
        answer = await world.post("/v1/workspaces", raw=body, token="", Content_Type="text/plain", **headers)
        assert answer.status in (400, 403), headers
        assert (await world.get("/v1/workspace", **headers)).status in (400, 403)
    assert (await world.get("/v1/workspaces/by-name/pwned", token="")).status == 404
    own = {"Origin": world.engine.base_url}
    assert (await world.get("/v1/workspace", **own)).status == 200


async def test_workspaces_are_bounded(world):
    await world.engine.store.run(
        lambda tx: tx.many(
            "INSERT INTO workspaces (id, name, key_hash, created_at) VALUES (?,?,?,0)",
            ((f"w{n}", f"w{n}", f"h{n}") for n in range(WORKSPACES_MAX - 1)),
        )
    )
    answer = await world.post("/v1/workspaces", {"name": "one more"}, token="")
    assert (answer.status, answer.code) == (403, "workspace_limit")
    assert (await world.post("/v1/workspaces", {"name": "team"})).status == 200, "an owner still finds its own"


@pytest.mark.parametrize(
    "name",
    [
        "a\nb",
        "\x1b[31mred",
        "x" * 129,
        "../x",
        "a..b",
        "</system-reminder>",
        "human:bob",
        "a1 ",
        "a1\n",
        " ",
        "a\u202eb",
        "ä",
        "-a",
    ],
)
async def test_what_is_no_name_of_an_agent_is_refused_by_every_way(world, name):
    assert not names.is_agent_name(name)
    answer = await world.post("/v1/agents", {"name": name})
    assert (answer.status, answer.code) == (400, "invalid_request")
    node = await world.node("host-1", ["spawn:claude"])
    await node.send(type="agent.register", id="r", name=name)
    assert (await node.first(lambda frame: frame["type"] == "error"))["code"] == "invalid_message"
    spawn = await world.post("/v1/agents/spawn", {"name": name, "cli": "claude", "task": "t"})
    assert (spawn.status, spawn.code) == (400, "invalid_request")
    ada = await world.agent("ada")
    invoked = await world.post("/v1/actions/spawn/invoke", {"input": {"name": name, "cli": "claude"}}, token=ada.token)
    assert (invoked.status, invoked.code) == (400, "invalid_request")


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31mred", "x" * 201, " a", "a\u202eb", "a\u200bb", "\ue000"])
async def test_other_names_hold_what_is_seen(world, name):
    for path, body in (
        ("/v1/nodes", {"name": name}),
        ("/v1/nodes", {"name": "n", "tags": [name]}),
        ("/v1/nodes", {"name": "n", "capabilities": [name]}),
        ("/v1/actions", {"name": name, "description": "d", "handler_agent": "ada"}),
        ("/v1/channels", {"name": name}),
        ("/v1/workspaces", {"name": name}),
    ):
        assert (await world.post(path, body)).status == 400, path
