"""engine-contract.md sections 1.1 and 2: the envelope, workspaces, agents, channels, messages, conversations."""

import io
import re

import pytest

# --- the envelope ----------------------------------------------------------------------------------------------------------


async def test_health_needs_no_token(world):
    assert (await world.get("/health", token="")).status == 200


async def test_unknown_routes_and_methods_are_404_not_found(world):
    for method, path in (("GET", "/v1/nothing"), ("PUT", "/v1/agents"), ("POST", "/v1/triggersx"), ("GET", "/")):
        answer = await world.call(method, path)
        assert (answer.status, answer.body["ok"], answer.code) == (404, False, "not_found")


@pytest.mark.parametrize("raw", [b"{", b"\xff", b'{"name": NaN}', b'{"name": "\\ud800"}', b"[" * 100_000])
async def test_a_body_that_is_no_json_is_invalid_json(world, raw):
    answer = await world.post("/v1/agents", raw=raw, Content_Type="application/json")
    assert (answer.status, answer.code) == (400, "invalid_json")


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/v1/agents", {}, "name is required"),
        ("/v1/agents", {"name": ""}, "name is required"),
        ("/v1/dm", {"to": "ada"}, "text is required"),
        ("/v1/channels/general/messages", {"text": ""}, "text is required"),
        ("/v1/nodes", {"name": "n", "max_agents": -1}, "max_agents"),
        ("/v1/agents", [], "body"),
    ],
)
async def test_a_body_of_the_wrong_shape_is_invalid_request_and_says_what_is_wrong(world, path, body, message):
    ada = await world.agent("ada")
    token = ada.token if path in ("/v1/dm", "/v1/channels/general/messages") else None
    answer = await world.post(path, body, token=token)
    assert (answer.status, answer.code) == (400, "invalid_request")
    assert message in answer.body["error"]["message"]


async def test_unknown_keys_in_a_body_are_ignored(world):
    assert (await world.post("/v1/agents", {"name": "ada", "from_the_future": 1})).status == 201


async def test_a_post_without_a_body_is_accepted_where_nothing_is_required(world):
    ada = await world.agent("ada")
    said = await world.say(await world.agent("bob"))
    for path in (
        "channels/general/join",
        "channels/general/mute",
        "channels/general/unmute",
        f"messages/{said['id']}/read",
    ):
        assert (await world.post(f"/v1/{path}", token=ada.token)).status == 200
    assert (await world.post("/v1/channels/general/leave", token=ada.token)).status == 204


async def test_a_body_that_is_too_large_is_refused(world):
    answer = await world.post("/v1/agents", raw=io.BytesIO(b'{"name": "' + b"x" * (3 * 1024 * 1024)))
    assert (answer.status, answer.code) == (413, "body_too_large")


# --- workspaces -------------------------------------------------------------------------------------------------------------


async def test_a_workspace_has_a_key_and_the_channel_general(open_world):
    world = await open_world(workspace=None)
    data = (await world.post("/v1/workspaces", {"name": "team", "provenance": {"source": "x"}}, token="")).data
    assert re.fullmatch(r"rk_live_[0-9a-f]{32}", data["api_key"])
    world.key = data["api_key"]
    assert [row["name"] for row in (await world.get("/v1/channels")).data] == ["general"]
    again = await world.post("/v1/workspaces", {"name": "team"})
    assert (again.status, again.data["workspace_id"], again.data["api_key"]) == (200, data["workspace_id"], world.key)
    assert (await world.post("/v1/workspaces", {"name": "team"}, token="")).status == 409
    assert (await world.get("/v1/workspaces/by-name/team", token="")).data["id"] == data["workspace_id"]
    assert (await world.get("/v1/workspaces/by-name/none", token="")).code == "workspace_not_found"
    shown = (await world.get("/v1/workspace")).data
    assert (shown["id"], shown["name"], shown["plan"]) == (data["workspace_id"], "team", "free")


async def test_workspaces_do_not_see_each_other(world):
    ada = await world.agent("ada")
    node = await world.node()
    sent = await world.say(ada)
    await world.workspace("other")
    assert (await world.get("/v1/agents")).data == []
    assert (await world.get("/v1/nodes")).data == []
    eve = await world.agent("eve")
    assert (await world.post("/v1/dm", {"to": "ada", "text": "hi"}, token=eve.token)).code == "agent_not_found"
    assert (await world.get(f"/v1/messages/{sent['id']}")).code == "message_not_found"
    answer = await world.post("/v1/nodes", {"name": "mine", "node_id": node.id})
    assert answer.code == "invalid_request"


# --- agents -----------------------------------------------------------------------------------------------------------------


async def test_a_new_agent_is_online_and_its_name_is_taken_for_good(world):
    answer = await world.post("/v1/agents", {"name": "ada", "type": "human", "capabilities": {"x": 1}})
    data = answer.data
    assert re.fullmatch(r"at_live_[0-9a-f]{32}", data.pop("token"))
    assert set(data) == {"id", "workspace_id", "name", "handle", "status", "capabilities", "created_at"}
    assert (data["handle"], data["status"], data["capabilities"]) == ("@ada", "online", {"x": 1})
    await world.call("PATCH", "/v1/agents/ada", {"status": "offline"})
    answer = await world.post("/v1/agents", {"name": "ada"})
    assert (answer.status, answer.code) == (409, "agent_already_exists")


async def test_an_agent_may_stay_out_of_general_and_lists_exactly_its_channels(world):
    ada = await world.agent("ada", auto_join_general=False)
    await world.post("/v1/channels", {"name": "ops"}, token=ada.token)
    assert [item["name"] for item in (await world.get("/v1/agents/ada")).data["channels"]] == ["ops"]
    assert (await world.get("/v1/agent", token=ada.token)).data["channels"][0]["role"] == "owner"


async def test_a_patch_merges_metadata_and_keeps_what_the_fleet_says(world):
    node = await world.node()
    await node.agent("ada")
    body = {"metadata": {"objective": "x"}, "persona": "p", "skills": ["s"], "status": "idle"}
    data = (await world.call("PATCH", "/v1/agents/ada", body)).data
    assert (data["metadata"]["objective"], data["metadata"]["fleet"]["node_id"]) == ("x", node.id)
    assert (data["persona"], data["status"]) == ("p", "idle")
    assert (await world.call("PATCH", "/v1/agents/ada", {"persona": None})).data["persona"] is None
    assert (await world.call("PATCH", "/v1/agents/none", {})).code == "agent_not_found"
    assert (await world.call("PATCH", "/v1/agents/ada", {"status": "asleep"})).code == "invalid_request"


async def test_agents_are_listed_by_status_and_presence(world):
    ada, bob = await world.agent("ada"), await world.agent("bob")
    assert (await world.post("/v1/agents/heartbeat", {}, token=ada.token)).body == {"ok": True}
    assert (await world.post("/v1/agents/disconnect", {}, token=bob.token)).body == {"ok": True}
    assert [row["name"] for row in (await world.get("/v1/agents?status=offline")).data] == ["bob"]
    assert len((await world.get("/v1/agents?status=all")).data) == 2
    presence = (await world.get("/v1/agents/presence", token=ada.token)).data
    assert presence == [
        {"agent_id": ada.id, "agent_name": "ada", "status": "online"},
        {"agent_id": bob.id, "agent_name": "bob", "status": "offline"},
    ]
    await world.get("/v1/agent", token=bob.token)
    assert await world.status(bob) == "active"


async def test_the_agent_shows_what_waits_for_it_and_what_it_may_do(world):
    ada, bob = await world.agent("ada"), await world.agent("bob")
    await world.dm(bob, ada)
    await world.post("/v1/actions", {"name": "sum", "description": "d", "handler_agent": "ada"})
    shown = (await world.get("/v1/agent", token=ada.token)).data
    assert [(row["status"], row["reason"], row["mode"]) for row in shown["pending_deliveries"]] == [
        ("queued", "dm", "immediate")
    ]
    assert (shown["actions_provided"], shown["actions_available_to"]) == (["sum"], ["sum"])


# --- channels and messages -------------------------------------------------------------------------------------------------


async def test_channels_have_names_members_and_owners(world):
    ada, bob = await world.agent("ada"), await world.agent("bob")
    made = (await world.post("/v1/channels", {"name": "ops", "topic": "t"}, token=ada.token)).data
    assert (made["member_count"], made["created_by"], made["topic"]) == (1, ada.id, "t")
    assert (await world.post("/v1/channels", {"name": "ops"})).code == "channel_already_exists"
    assert (await world.post("/v1/channels", {"name": "Not OK"})).code == "invalid_channel_name"
    join = await world.post("/v1/channels/ops/join", token=bob.token)
    assert join.data == {"channel": "ops", "agent_id": bob.id, "already_member": False}
    assert (await world.post("/v1/channels/ops/join", token=bob.token)).data["already_member"] is True
    assert [(row["agent_name"], row["role"]) for row in (await world.get("/v1/channels/ops/members")).data] == [
        ("ada", "owner"), ("bob", "member"),
    ]  # fmt: skip
    assert len((await world.get("/v1/channels/ops")).data["members"]) == 2
    await world.post("/v1/channels/ops/leave", token=bob.token)
    for verb in ("leave", "mute", "unmute"):
        answer = await world.post(f"/v1/channels/ops/{verb}", token=bob.token)
        assert (answer.status, answer.code) == (403, "not_a_member")
    assert (await world.post("/v1/channels/ops/invite", {"agent_name": "ada"}, token=bob.token)).code == "not_a_member"
    assert (await world.post("/v1/channels/ops/invite", {"agent_name": "bob"})).code == "agent_token_required"
    invited = await world.post("/v1/channels/ops/invite", {"agent_name": "bob"}, token=ada.token)
    assert invited.data == {"channel": "ops", "agent": "bob"}
    assert (await world.get("/v1/channels/none")).code == "channel_not_found"


async def test_messages_are_paged_newest_first_without_replies(world):
    ada = await world.agent("ada")
    said = [await world.say(ada, str(number)) for number in range(5)]
    await world.post(f"/v1/messages/{said[0]['id']}/replies", {"text": "r"}, token=ada.token)
    page = await world.get("/v1/channels/general/messages?limit=2")
    assert [row["text"] for row in page.data] == ["4", "3"]
    assert page.body["cursor"] == {"next": said[3]["id"], "has_more": True}
    page = await world.get(f"/v1/channels/general/messages?before={said[3]['id']}")
    assert [row["text"] for row in page.data] == ["2", "1", "0"]
    page = await world.get(f"/v1/channels/general/messages?after={said[3]['id']}")
    assert [row["text"] for row in page.data] == ["4"]
    assert (await world.post("/v1/channels/none/messages", {"text": "x"}, token=ada.token)).code == "channel_not_found"
    answer = await world.post("/v1/channels/general/messages", {"text": "x"})
    assert (answer.status, answer.code) == (403, "agent_token_required")


async def test_a_reply_to_a_reply_belongs_to_the_root(world):
    ada = await world.agent("ada")
    root = await world.say(ada)
    first = (await world.post(f"/v1/messages/{root['id']}/replies", {"text": "1"}, token=ada.token)).data
    second = (await world.post(f"/v1/messages/{first['id']}/replies", {"text": "2"}, token=ada.token)).data
    assert second["thread_id"] == root["id"]
    thread = (await world.get(f"/v1/messages/{first['id']}/replies")).data
    thread = (await world.get(f"/v1/messages/{root['id']}/replies")).data
    assert (thread["parent"]["id"], [row["text"] for row in thread["replies"]]) == (root["id"], ["1", "2"])
    for wrong in ("0", "none", "9" * 30):
        assert (await world.get(f"/v1/messages/{wrong}")).code == "message_not_found"


async def test_ids_are_snowflakes_that_grow(world):
    ada = await world.agent("ada")
    ids = [int((await world.say(ada))["id"]) for _ in range(20)]
    assert ids == sorted(set(ids))
    assert all(len(str(item)) in (18, 19) for item in ids)


# --- conversations ---------------------------------------------------------------------------------------------------------


async def test_a_direct_conversation_has_one_name_from_both_sides(world):
    ada, bob, eve = [await world.agent(name) for name in ("ada", "bob", "eve")]
    first, second = await world.dm(ada, bob, "1"), await world.dm(bob, ada, "2")
    assert first["conversation_id"] == second["conversation_id"]
    assert re.fullmatch(r"dm_[0-9a-f]{24}", first["conversation_id"])
    assert (first["to"], first["from_agent_id"], first["message"]["id"]) == ("bob", ada.id, first["id"])
    path = f"/v1/dm/{first['conversation_id']}/messages"
    assert [row["text"] for row in (await world.get(path, token=ada.token)).data] == ["2", "1"]
    third = (await world.post(path, {"text": "3"}, token=ada.token)).data
    assert third["agent_id"] == ada.id
    rows = (await world.get("/v1/deliveries", token=bob.token)).data
    assert all(re.fullmatch(r"del_\d+", row["id"]) for row in rows)
    answer = await world.get(path, token=eve.token)
    assert (answer.status, answer.code) == (403, "forbidden")
    (conversation,) = (await world.get("/v1/dm/conversations", token=bob.token)).data
    assert (conversation["type"], conversation["unread_count"], conversation["last_message"]["text"]) == ("1:1", 2, "3")
    assert sorted(row["agent_name"] for row in conversation["participants"]) == ["ada", "bob"]


async def test_a_group_has_its_participants_and_refuses_others(world):
    ada, bob, eve = [await world.agent(name) for name in ("ada", "bob", "eve")]
    made = (await world.post("/v1/dm/group", {"participants": ["bob"], "name": "team"}, token=ada.token)).data
    assert (made["dm_type"], made["name"]) == ("group", "team")
    assert {row["agent_id"] for row in made["participants"]} == {ada.id, bob.id}
    path = f"/v1/dm/{made['id']}/messages"
    assert (await world.post(path, {"text": "x"}, token=eve.token)).code == "forbidden"
    assert (await world.post("/v1/dm/404/messages", {"text": "x"}, token=eve.token)).status == 404
    assert (await world.post("/v1/dm/group", {"participants": []}, token=ada.token)).code == "invalid_request"
    assert (await world.post("/v1/dm/group", {"participants": ["none"]}, token=ada.token)).code == "agent_not_found"
    assert [row["name"] for row in (await world.get("/v1/channels")).data] == ["general"]
