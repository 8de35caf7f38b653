"""engine-contract.md section 2.10: tokens for those who only watch."""

import asyncio
import json

import pytest

from relaybroker.engine import observer_tokens
from relaybroker.engine.authority import AUTHORITY
from relaybroker.engine.models import Scope
from tests.contract.engine.test_authority import BODY
from tests.waiting import WAIT_S

SCOPES = Scope.__args__


async def mint(world, *scopes, name="eye", **more):
    return await world.post("/v1/observer-tokens", {"name": name, "scopes": list(scopes)} | more)


@pytest.fixture
async def room(world):
    """ada and bob talk in general, in a thread and in private."""
    world.ada, world.bob = await world.agent("ada"), await world.agent("bob")
    world.file = (await world.file(world.ada))["id"]
    world.said = await world.say(world.ada, "apple", attachments=[world.file])
    world.reply = (
        await world.post(f"/v1/messages/{world.said['id']}/replies", {"text": "apple reply"}, token=world.bob.token)
    ).data
    world.direct = await world.dm(world.ada, world.bob, "apple in private")
    return world


def _path(world, route):
    path = route.partition(" ")[2]
    values = {
        "{name}": "general" if "/channels/" in path else "ada" if "/agents/" in path else f"direct-{world.ada.id}",
        "{id}": world.file if "/files/" in path else world.said["id"],
        "{conversation}": world.direct["conversation_id"],
    }
    for mark, value in values.items():
        path = path.replace(mark, value)
    return f"{path}?q=apple" if path == "/v1/search" else path


async def test_an_observer_reads_what_its_scopes_name_and_nothing_else(room):
    """Every scope asks every route that observers have."""
    everything = (await mint(room, *SCOPES, name="all")).data["token"]
    tokens = {scope: (await mint(room, scope, name=scope)).data["token"] for scope in SCOPES}
    seen = {route: rule.observer.scope for route, rule in AUTHORITY.items() if rule.observer}
    assert len(seen) > 15
    for route, needed in seen.items():
        assert route.startswith("GET ")
        assert (await room.get(_path(room, route), token=everything)).status == 200, route
        for scope, token in tokens.items():
            answer = await room.get(_path(room, route), token=token)
            allowed = needed in ("", scope)
            assert (answer.status, allowed or answer.code) == ((200, True) if allowed else (403, "insufficient_scope"))


async def test_an_observer_reaches_no_other_route_and_changes_nothing(room):
    token = (await mint(room, *SCOPES)).data["token"]
    for route, rule in AUTHORITY.items():
        if rule.observer is None:
            method, _, path = route.replace("{", "").replace("}", "").replace("/verb", "/mute").partition(" ")
            answer = await room.call(method, path, None if method == "GET" else BODY, token=token)
            assert (answer.status, answer.code) == (401, "observer_token_forbidden"), route


async def test_conversations_and_threads_need_their_own_scopes_whichever_route_asks(room):
    token = (await mint(room, "messages:read", "search:read", "activity:read")).data["token"]
    for path in ("/v1/search?q=apple", "/v1/activity"):
        assert [row["text"] for row in (await room.get(path, token=token)).data] == ["apple"]
    for hidden in (room.reply, room.direct):
        assert (await room.get(f"/v1/messages/{hidden['id']}", token=token)).code == "message_not_found"
    await room.post(f"/v1/messages/{room.said['id']}/reactions", {"emoji": "x"}, token=room.ada.token)
    path = f"/v1/messages/{room.said['id']}"
    assert len((await room.get(path)).data["reactions"]) == 1
    assert (await room.get(path, token=token)).data["reactions"] == []
    more = (await mint(room, "search:read", "dms:read", "threads:read", name="more")).data["token"]
    assert len((await room.get("/v1/search?q=apple", token=more)).data) == 3


async def test_another_workspace_is_not_observed(room):
    token = (await mint(room, *SCOPES)).data["token"]
    await room.workspace("others")
    await room.say(await room.agent("eve"), "apple elsewhere")
    assert "elsewhere" not in str((await room.get("/v1/search?q=apple", token=token)).body)
    assert (await room.get("/v1/observer-tokens")).data == []


async def test_minting_again_rotates_only_the_token_of_exactly_that_scope(world):
    """failure-scenarios.md F070."""
    first = (await mint(world, "search:read", "stream:read")).data
    again = (await mint(world, "stream:read", "search:read", "search:read")).data
    assert again["id"] == first["id"]
    assert again["token"] != first["token"]
    assert (await world.get("/v1/search?q=x", token=first["token"])).code == "observer_token_invalid"
    assert (await world.get("/v1/search?q=x", token=again["token"])).status == 200
    for scopes in (["search:read"], ["search:read", "stream:read", "dms:read"]):
        answer = await mint(world, *scopes)
        assert (answer.status, answer.code) == (409, "observer_token_exists")
    assert (await world.get("/v1/search?q=x", token=again["token"])).status == 200
    assert len((await world.get("/v1/observer-tokens")).data) == 1


async def test_a_token_is_shown_once_changed_rotated_and_revoked(world):
    made = (await mint(world, "search:read", description="d", expires_at="2999-01-01T00:00:00.000Z")).data
    path = f"/v1/observer-tokens/{made['id']}"
    shown = (await world.get(path)).data
    assert made.pop("token").startswith("ot_live_")
    assert shown == made
    assert (shown["status"], shown["expires_at"], shown["filters"]) == ("active", "2999-01-01T00:00:00.000Z", {})
    changed = (await world.call("PATCH", path, {"scopes": ["activity:read"], "expires_at": None})).data
    assert (changed["scopes"], changed["expires_at"], changed["description"]) == (["activity:read"], None, "d")
    token = (await world.post(f"{path}/rotate", {})).data["token"]
    assert (await world.get("/v1/activity", token=token)).status == 200
    assert (await world.get(path)).data["last_used_at"] is not None
    await mint(world, "search:read", name="other")
    assert (await world.call("PATCH", path, {"name": "other"})).code == "observer_token_exists"
    assert (await world.call("DELETE", path)).status == 204
    assert (await world.get("/v1/activity", token=token)).code == "observer_token_invalid"
    assert (await world.get(path)).code == "observer_token_not_found"


async def test_what_would_show_more_than_was_asked_for_is_refused(world, monkeypatch):
    for wrong in (
        {"scopes": []},
        {"scopes": ["messages:write"]},
        {"expires_at": "2001-01-01T00:00:00Z"},
        {"expires_at": "2999-01-01T00:00:00"},
        {"expires_at": "soon"},
    ):
        answer = await mint(world, "search:read", **wrong)
        assert (answer.status, answer.code) == (400, "invalid_request"), wrong
    answer = await mint(world, "search:read", filters={"channel_names": ["ops"]})
    assert (answer.status, answer.code) == (501, "not_implemented")
    monkeypatch.setattr(observer_tokens, "TOKENS_MAX", 1)
    await mint(world, "search:read", name="first")
    answer = await mint(world, "search:read", name="second")
    assert (answer.status, answer.code) == (403, "observer_token_limit")


# --- the stream -------------------------------------------------------------------------------------------------------------


async def watch(world, token):
    socket = await world.session.ws_connect(f"{world.engine.base_url}/v1/ws?token={token}")
    await socket.send_str('{"type":"ping"}')
    assert (await socket.receive_json()) == {"type": "pong"}
    return socket


async def test_a_stream_shows_what_the_scopes_name(room):
    socket = await watch(room, (await mint(room, "stream:read", "threads:read", "reactions:read")).data["token"])
    await room.say(room.ada, "a message")
    await room.dm(room.ada, room.bob, "private")
    for parent in (room.direct, room.said):
        await room.post(f"/v1/messages/{parent['id']}/replies", {"text": "reply"}, token=room.ada.token)
        await room.post(f"/v1/messages/{parent['id']}/reactions", {"emoji": "x"}, token=room.ada.token)
    await room.post("/v1/channels", {"name": "ops"})
    async with asyncio.timeout(WAIT_S):
        events = [json.loads((await socket.receive()).data) for _ in range(2)]
    assert [(event["type"], event.get("parent_id", event.get("message_id"))) for event in events] == [
        ("thread.reply", room.said["id"]), ("message.reacted", room.said["id"]),
    ]  # fmt: skip


async def test_a_stream_needs_its_scope_and_ends_with_its_token(world):
    made = (await mint(world, "search:read")).data
    async with world.session.get(
        f"{world.engine.base_url}/v1/ws?token={made['token']}",
        headers={"Upgrade": "websocket", "Connection": "upgrade"},
    ) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (403, "insufficient_scope")
    path = f"/v1/observer-tokens/{made['id']}"
    for method, target, body in (
        ("PATCH", path, {"scopes": ["stream:read"]}),
        ("POST", f"{path}/rotate", {}),
        ("DELETE", path, None),
    ):
        await world.call("PATCH", path, {"scopes": ["stream:read"]})
        socket = await watch(world, (await world.post(f"{path}/rotate", {})).data["token"])
        await world.call(method, target, body)
        async with asyncio.timeout(WAIT_S):
            assert (await socket.receive()).data == 1000


async def test_a_stream_ends_when_its_token_does(world, monkeypatch):
    made = (await mint(world, "stream:read", expires_at="2999-01-01T00:00:00Z")).data
    monkeypatch.setattr("relaybroker.engine.observer.time.time", lambda: 40_000_000_000.0)
    socket = await world.session.ws_connect(f"{world.engine.base_url}/v1/ws?token={made['token']}")
    async with asyncio.timeout(WAIT_S):
        assert (await socket.receive()).data == 1000
