"""engine-contract.md section 2.9: channels and groups change, workspaces end, agents tell what they do, activity is seen."""

import sqlite3
from contextlib import closing

import pytest

from relaybroker.engine import agent_events, conversations
from relaybroker.engine.authority import ABSENT
from relaybroker.engine.models import PARTICIPANTS_MAX, PROMPT_MAX


@pytest.fixture
async def team(world):
    """ada owns #ops, bob is in it, eve is not."""
    world.ada, world.bob, world.eve = [await world.agent(name) for name in ("ada", "bob", "eve")]
    await world.post("/v1/channels", {"name": "ops", "topic": "t"}, token=world.ada.token)
    await world.post("/v1/channels/ops/join", token=world.bob.token)
    return world


# --- channels ---------------------------------------------------------------------------------------------------------------


async def test_members_change_what_a_channel_says_of_itself(team):
    changed = await team.call("PATCH", "/v1/channels/ops", {"metadata": {"a": 1}}, token=team.bob.token)
    assert (changed.data["topic"], changed.data["metadata"]) == ("t", {"a": 1})
    changed = await team.call("PATCH", "/v1/channels/ops", {"topic": None}, token=team.ada.token)
    assert (changed.data["topic"], changed.data["metadata"]) == (None, {"a": 1})
    assert (await team.call("PATCH", "/v1/channels/ops", {"topic": "x"}, token=team.eve.token)).code == "not_a_member"
    assert (await team.call("PATCH", "/v1/channels/none", {})).code == "channel_not_found"


async def test_an_archived_channel_keeps_what_was_said_and_takes_no_more(team):
    said = await team.say(team.ada, "kept", "ops")
    assert (await team.call("DELETE", "/v1/channels/ops", token=team.bob.token)).code == "forbidden"
    assert (await team.call("DELETE", "/v1/channels/ops", token=team.ada.token)).status == 204
    for method, path, body in (
        ("POST", "/v1/channels/ops/messages", {"text": "x"}),
        ("POST", f"/v1/messages/{said['id']}/replies", {"text": "x"}),
        ("PATCH", "/v1/channels/ops", {"topic": "x"}),
        ("PATCH", "/v1/channels/ops/topic", {"topic": "x"}),
        ("DELETE", "/v1/channels/ops", None),
    ):
        answer = await team.call(method, path, body, token=team.ada.token)
        assert (answer.status, answer.code) == (400, "channel_archived"), path
    assert [row["text"] for row in (await team.get("/v1/channels/ops/messages")).data] == ["kept"]
    assert [row["name"] for row in (await team.get("/v1/channels")).data] == ["general"]
    listed = (await team.get("/v1/channels?include_archived=true")).data
    assert {row["name"]: row["is_archived"] for row in listed} == {"general": False, "ops": True}


async def test_general_is_not_archived(team):
    answer = await team.call("DELETE", "/v1/channels/general")
    assert (answer.status, answer.code) == (400, "cannot_archive_general")


# --- conversations ----------------------------------------------------------------------------------------------------------


async def test_a_group_takes_more_participants_and_lets_them_go(team):
    group = (await team.post("/v1/dm/group", {"participants": ["bob"]}, token=team.ada.token)).data["id"]
    path = f"/v1/dm/{group}/participants"
    await team.post(f"/v1/dm/{group}/messages", {"text": "before"}, token=team.ada.token)
    added = await team.post(path, {"agent_name": "eve"}, token=team.bob.token)
    assert added.data == {"conversation_id": group, "agent": "eve", "already_member": False}
    assert (await team.post(path, {"agent_name": "eve"}, token=team.bob.token)).data["already_member"] is True
    assert [row["text"] for row in (await team.get(f"/v1/dm/{group}/messages", token=team.eve.token)).data] == [
        "before"
    ]
    assert (await team.call("DELETE", f"{path}/bob", token=team.eve.token)).code == "forbidden"
    assert (await team.call("DELETE", f"{path}/eve", token=team.eve.token)).status == 204
    for method, target, body in (
        ("POST", path, {"agent_name": "eve"}),
        ("DELETE", f"{path}/eve", None),
        ("GET", f"/v1/dm/{group}/messages", None),
    ):
        assert (await team.call(method, target, body, token=team.eve.token)).code == "forbidden"
    assert (await team.post(path, {"agent_name": "none"}, token=team.ada.token)).code == "agent_not_found"
    assert (await team.post(path, {"agent": "eve"}, token=team.ada.token)).code == "invalid_request"


async def test_two_stay_two(team):
    pair = (await team.dm(team.ada, team.bob))["conversation_id"]
    path = f"/v1/dm/{pair}/participants"
    assert (await team.post(path, {"agent_name": "eve"}, token=team.ada.token)).code == "invalid_request"
    assert (await team.call("DELETE", f"{path}/ada", token=team.ada.token)).code == "invalid_request"


async def test_a_group_that_is_full_takes_nobody(team, monkeypatch):
    assert conversations.PARTICIPANTS_MAX == PARTICIPANTS_MAX
    monkeypatch.setattr(conversations, "PARTICIPANTS_MAX", 2)
    group = (await team.post("/v1/dm/group", {"participants": ["bob"]}, token=team.ada.token)).data["id"]
    answer = await team.post(f"/v1/dm/{group}/participants", {"agent_name": "eve"}, token=team.ada.token)
    assert (answer.status, answer.code) == (409, "group_full")
    assert (await team.get(f"/v1/dm/{group}/messages", token=team.eve.token)).code == "forbidden"


async def test_the_operator_sees_every_conversation_and_what_was_said_in_it(team):
    pair = (await team.dm(team.ada, team.bob, "hi"))["conversation_id"]
    group = (await team.post("/v1/dm/group", {"participants": ["bob"], "name": "g"}, token=team.ada.token)).data["id"]
    first, second = (await team.get("/v1/dm/conversations/all")).data
    assert (first["id"], first["type"], first["last_message"], first["message_count"]) == (group, "group", None, 0)
    assert (second["id"], second["type"], second["message_count"]) == (pair, "1:1", 1)
    assert (second["last_message"]["text"], sorted(second["participants"])) == ("hi", ["ada", "bob"])
    page = await team.get("/v1/dm/conversations/all?limit=1")
    assert page.body["cursor"] == {"next": group, "has_more": True}
    assert [row["id"] for row in (await team.get(f"/v1/dm/conversations/all?before={group}")).data] == [pair]
    said = (await team.get(f"/v1/dm/conversations/{pair}/messages")).data
    assert [(row["agent_name"], row["text"]) for row in said] == [("ada", "hi")]
    assert (await team.get("/v1/dm/conversations/none/messages")).code == "conversation_not_found"


async def test_activity_is_everything_that_was_said_newest_first(team):
    await team.say(team.ada, "1", "ops")
    pair = (await team.dm(team.ada, team.bob, "2"))["conversation_id"]
    newest, oldest = (await team.get("/v1/activity")).data
    assert (newest["type"], newest["conversation_id"], newest["text"]) == ("dm", pair, "2")
    assert (oldest["type"], oldest["channel_name"], oldest["agent_name"]) == ("message", "ops", "ada")
    page = await team.get("/v1/activity?limit=1")
    assert page.body["cursor"] == {"next": newest["id"], "has_more": True}
    assert [row["text"] for row in (await team.get(f"/v1/activity?before={newest['id']}")).data] == ["1"]


# --- agents -----------------------------------------------------------------------------------------------------------------


async def test_what_an_agent_says_of_its_work_is_kept_for_the_operator(team):
    path = "/v1/agents/ada/events"
    made = await team.post(path, {"type": "tool.used", "payload": {"name": "x"}}, token=team.ada.token)
    assert made.status == 201
    assert (made.data["type"], made.data["payload"], made.data["sequence"], made.data["agent_id"]) == (
        "tool.used", {"name": "x"}, 1, team.ada.id,
    )  # fmt: skip
    await team.post(path, {"type": "status.blocked"})
    assert await team.status(team.ada) == "blocked"
    assert [row["type"] for row in (await team.get(path)).data] == ["status.blocked", "tool.used"]
    assert [row["sequence"] for row in (await team.get(f"{path}?type=tool.used")).data] == [1]
    assert (await team.post(path, {"type": "x"}, token=team.bob.token)).code == "forbidden"
    answer = await team.post(path, {"type": "x", "payload": {"x": "x" * agent_events.PAYLOAD_MAX}})
    assert (answer.status, answer.code) == (413, "body_too_large")


async def test_the_newest_events_of_an_agent_are_kept_and_go_with_it(team, monkeypatch):
    monkeypatch.setattr(agent_events, "KEPT", 3)
    for number in range(5):
        await team.post("/v1/agents/ada/events", {"type": f"n{number}"})
    assert [row["type"] for row in (await team.get("/v1/agents/ada/events")).data] == ["n4", "n3", "n2"]
    await team.call("DELETE", "/v1/agents/ada")
    again = await team.agent("ada")
    assert (await team.post("/v1/agents/ada/events", {"type": "n"}, token=again.token)).data["sequence"] == 1


# --- workspaces -------------------------------------------------------------------------------------------------------------


async def test_the_operator_renames_the_workspace_and_gives_it_a_prompt(world):
    assert (await world.get("/v1/workspace/system-prompt")).data == {"prompt": "", "is_default": True}
    changed = (await world.call("PATCH", "/v1/workspace", {"name": "crew", "system_prompt": "be kind"})).data
    assert (changed["name"], changed["system_prompt"]) == ("crew", "be kind")
    assert (await world.get("/v1/workspace")).data == changed
    assert (await world.get("/v1/workspaces/by-name/crew")).data["id"] == changed["id"]
    assert (await world.get("/v1/workspace/system-prompt")).data == {"prompt": "be kind", "is_default": False}
    put = await world.call("PUT", "/v1/workspace/system-prompt", {"prompt": "be brief"})
    assert put.data == {"prompt": "be brief", "is_default": False}
    assert (await world.call("PUT", "/v1/workspace/system-prompt", {"reset": True})).data["is_default"] is True
    too_long = {"prompt": "x" * (PROMPT_MAX + 1)}
    assert (await world.call("PUT", "/v1/workspace/system-prompt", too_long)).code == "invalid_request"
    mine = world.key
    await world.workspace("others")
    world.key = mine
    assert (await world.call("PATCH", "/v1/workspace", {"name": "others"})).code == "workspace_already_exists"


async def test_a_workspace_that_is_deleted_leaves_nothing_and_nobody_in_it(open_world, tmp_path):
    world = await open_world(db="gone.db")
    ada, bob = await world.agent("ada"), await world.agent("bob")
    node = await world.node("host-1", ["spawn:claude", "dig"])
    said = await world.say(ada, "apple", data={"a": 1})
    await world.dm(ada, bob)
    await world.post(f"/v1/messages/{said['id']}/reactions", {"emoji": "x"}, token=bob.token)
    await world.post(f"/v1/messages/{said['id']}/read", token=bob.token)
    await world.post("/v1/actions/dig/invoke", {}, token=ada.token)
    await world.post("/v1/agents/ada/events", {"type": "x"})
    await world.post("/v1/dm", {"to": "bob", "text": "x"}, token=ada.token, Idempotency_Key="k")
    await world.post("/v1/subscriptions", {"url": "https://10.0.0.1.invalid/", "events": ["message.created"]})
    await world.say(ada, attachments=[(await world.file(ada))["id"]])
    await world.post("/v1/webhooks", {"channel": "general"})
    await world.post("/v1/observer-tokens", {"name": "eye", "scopes": ["search:read"]})
    assert (await world.get("/v1/messages/1", token=ada.token)).status == 404
    watching = await world.session.ws_connect(f"{world.engine.base_url}/v1/ws?token={world.key}")
    before = await world.engine.store.run(_filled)
    assert before >= {
        "files",
        "file_parts",
        "attachments",
        "subscriptions",
        "posts",
        "refusals",
        "webhooks",
        "observer_tokens",
    }
    gone = world.key
    assert (await world.call("DELETE", "/v1/workspace")).status == 204
    assert await node.closed() == 1000
    assert (await watching.receive()).data == 1000
    for token in (gone, ada.token, node.token):
        assert (await world.get("/v1/agents/presence", token=token)).status == 401
    await world.workspace("team")
    assert (await world.get("/v1/search?q=apple")).data == []
    await world.engine.__aexit__(None, None, None)
    with closing(sqlite3.connect(tmp_path / "gone.db")) as database:
        tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        left = {name: database.execute(f"SELECT COUNT(*) FROM {name}").fetchone()[0] for name in tables}
    assert len(left) > 15
    kept = {name: number for name, number in left.items() if number and not name.startswith("messages_text")}
    assert kept == {"workspaces": 1, "channels": 1, "ticket_key": 1}


def _filled(tx):
    """The tables in which something is."""
    names = [row["name"] for row in tx.all("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {name for name in names if tx.count(f"SELECT COUNT(*) FROM {name}")}


async def test_the_stream_is_on_and_stays_on(world):
    on = {"enabled": True, "default_enabled": True, "override": None}
    assert (await world.get("/v1/workspace/stream")).data == on
    assert (await world.call("PUT", "/v1/workspace/stream", {"mode": "inherit"})).data == on
    off = await world.call("PUT", "/v1/workspace/stream", {"enabled": False})
    assert (off.status, off.code) == (501, "not_implemented")


@pytest.mark.parametrize("part", ABSENT)
async def test_what_the_engine_does_not_have_says_so_and_is_named(world, part):
    for path in (f"/v1/{part}", f"/v1/{part}/x/y"):
        answer = await world.post(path, {})
        assert (answer.status, answer.code) == (501, "not_implemented")
        assert ABSENT[part].what in answer.body["error"]["message"]
