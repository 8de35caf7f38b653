"""What an agent may do with its own token: every route of the local API, with every kind of token (conversation.md section 1, ADR-0048)."""

from __future__ import annotations

import re

import msgspec
import pytest

from relaybroker.adapters.http.api.table import AGENT_ROUTES, NOT_BUILT, ROUTES
from relaybroker.domain import inputs
from relaybroker.mcp.tools import TOOLS

PAGE = {route.key for route in ROUTES if route.path.startswith("/ui")}
"""What a browser shows; it has sessions of its own (tests/integration/cli/test_page.py)."""
EVERY_ROUTE = sorted([route.key for route in ROUTES] + [f"{method} {path}" for method, path in NOT_BUILT])


def path_of(route):
    return re.sub(r"\{\w+\}", "w1", route.partition(" ")[2])


def test_the_table_names_nothing_but_routes():
    assert set(AGENT_ROUTES) <= set(EVERY_ROUTE)


async def test_an_agents_token_opens_what_is_in_the_table_and_nothing_else(client, envelope):
    """OWN-SCOPE."""
    agent = await client.agent()
    for route in EVERY_ROUTE:
        before = len(client.broker.offered)
        status, answer = await agent.ask(route.partition(" ")[0], path_of(route), {})
        if route in AGENT_ROUTES:
            assert status not in (401, 403), (route, answer)
        else:
            assert (status, answer["code"]) == (403, "agent_scope"), route
            envelope(status, answer)
            assert len(client.broker.offered) == before


@pytest.mark.parametrize("token", ["at_live_foreign", "former", "gone", "", "at_live_101x"])
async def test_a_wrong_a_former_and_a_foreign_token_open_nothing(client, token):
    """OWN-SCOPE."""
    agent = await client.agent()
    if token == "former":
        client.broker.tokens = {"at_live_new": agent.agent_id}
    elif token == "gone":
        await client.ask("DELETE", "/api/spawned/w1", {})
        await client.until(lambda: client.broker.state.acting(agent.agent_id) is None)
    else:
        agent.token = token
    before = len(client.broker.offered)
    for route in EVERY_ROUTE:
        if route in PAGE:
            continue
        status, answer = await agent.ask(route.partition(" ")[0], path_of(route), {})
        if route == "GET /health":
            assert (status, answer["workspaceId"]) == (200, "ws_unknown")
        elif route == "POST /api/agent-result":
            assert status == 401
        else:
            assert (status, answer["code"]) == (401, "unauthorized"), route
    assert len(client.broker.offered) == before


@pytest.mark.parametrize("route", [route for route in AGENT_ROUTES if "/api/agent" in route or "/mcp" in route])
async def test_the_brokers_key_is_no_agents_token(client, route):
    status, answer = await client.ask(route.partition(" ")[0], path_of(route), {})
    assert (status, answer["code"]) == (403, "agent_token_required")


async def test_a_path_that_does_not_exist_is_outside_too(client):
    agent = await client.agent()
    assert (await agent.ask("GET", "/nowhere"))[1]["code"] == "agent_scope"
    assert (await agent.ask("POST", "/api/status"))[1]["code"] == "agent_scope"


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_there_is_no_stream_and_no_session_to_end(client, method):
    """Clients of the handshake era try both, and take 405 for what it is."""
    agent = await client.agent()
    status, answer = await agent.ask(method, "/mcp")
    assert (status, answer["code"]) == (405, "method_not_allowed")


async def test_an_agents_token_is_taken_in_both_headers(client):
    agent = await client.agent()
    assert (await agent.ask("GET", "/api/agent", X_API_Key=agent.token, Authorization=""))[0] == 200
    assert (await agent.ask("GET", "/api/agent", X_API_Key="wrong"))[0] == 401


async def test_agents_do_not_renew_the_owners_lease(client):
    agent = await client.agent()
    used = client.api._last_use
    await agent.ask("GET", "/api/agent")
    assert client.api._last_use == used


# --- who am I ---------------------------------------------------------------------------------------------------------------


async def test_an_agent_learns_who_it_is_and_what_waits_for_it_and_why(client):
    agent = await client.agent()
    await client.ask("PUT", "/api/spawned/w1/delivery-mode", {"mode": "manual_flush"})
    client.broker._frame(
        client.broker.state.link.dial,
        {
            "type": "deliver", "delivery_id": "del_77_101", "agent_id": agent.agent_id, "agent": "w1", "msg_id": "77",
            "seq": 1, "mode": "wait",
            "payload": {"type": "message.created", "data": {"id": "77", "text": "psst", "from_name": "planner", "channel_name": "general"}},
        },
    )  # fmt: skip
    await client.until(lambda: client.broker.state.deliveries)
    status, who = await agent.ask("GET", "/api/agent")
    assert status == 200
    assert (who["name"], who["agent_id"], who["delivery_mode"]) == ("w1", agent.agent_id, "manual_flush")
    assert who["node"]["id"].startswith("node_")
    (waits,) = who["waiting"]
    assert (waits["message_id"], waits["from"], waits["reason"]) == ("77", "planner", "manual_flush")
    assert waits["why"]
    assert "psst" not in str(who)


# --- sending ----------------------------------------------------------------------------------------------------------------


async def test_an_agent_sends_as_itself_and_as_nobody_else(client):
    agent = await client.agent()
    await client.agent("w2")
    status, answer = await agent.ask("POST", "/api/send", {"to": "#general", "text": "hi"})
    assert (status, answer["sent_as"]) == (200, "w1")
    assert client.broker.called[-1].auth == f"agent:{agent.agent_id}"
    assert (await agent.ask("POST", "/api/send", {"to": "#general", "text": "hi", "from": "w1"}))[0] == 200
    status, answer = await agent.ask("POST", "/api/send", {"to": "#general", "text": "hi", "from": "w2"})
    assert (status, answer["code"]) == (403, "agent_scope")


async def test_the_same_key_again_sends_nothing(client):
    agent = await client.agent()
    answers = [await agent.tool("send_dm", key="k1", to="planner", text="hi") for _ in range(2)]
    assert [status for status, _ in answers] == [200, 200]
    assert answers[1][1] == answers[0][1] | {"replayed": True}
    assert len([call for call in client.broker.called if call.call_id.startswith("publish_")]) == 1


async def test_what_the_engine_does_not_have_yet_is_pending_and_not_published(client):
    """ANSWERS-ONCE."""
    agent = await client.agent()
    client.broker.engine_silent = True
    status, receipt = await agent.tool("post_message", channel="general", text="hi")
    assert (status, receipt["status"], receipt["message_id"]) == (200, "pending", None)
    assert receipt["event_id"].startswith("http_")
    _, mine = await agent.tool("my_status")
    assert mine["unpublished"] == [receipt["event_id"]]


# --- the tools over plain HTTP --------------------------------------------------------------------------------------------------


GOOD = {
    "send_dm": {"to": "@planner", "text": "hi"},
    "post_message": {"channel": "#general", "text": "hi", "mode": "steer"},
    "reply_to_thread": {"message_id": "77", "text": "yes"},
    "get_message_thread": {"message_id": "77"},
    "check_inbox": {},
    "list_messages": {"channel": "general", "limit": 5, "before": "80"},
    "list_dms": {},
    "mark_message_read": {"message_id": "77"},
    "get_message_readers": {"message_id": "77"},
    "search_messages": {"query": "SHIP"},
    "add_reaction": {"message_id": "77", "emoji": "👀"},
    "remove_reaction": {"message_id": "77", "emoji": "👀"},
    "list_agents": {"status": "online"},
    "list_channels": {},
    "create_channel": {"name": "ops"},
    "join_channel": {"channel": "lab"},
    "leave_channel": {"channel": "lab"},
    "invite_to_channel": {"channel": "lab", "agent_name": "planner"},
    "list_actions": {},
    "send_group_dm": {"participants": ["planner", "w2"], "text": "hi"},
    "set_channel_topic": {"channel": "lab", "topic": "what it is for"},
    "invoke_action": {"name": "echo", "input": {"text": "hi"}},
    "submit_result": {"data": {"done": [1, 2]}},
    "save_continuity": {"summary": "half done"},
    "load_continuity": {},
    "my_status": {},
    "show_message": {"message_id": "77"},
    "read_thread": {"message_id": "77"},
    "find_messages": {"text": "ship"},
}


def test_every_tool_is_used_here():
    assert set(TOOLS) - set(GOOD) == {"why_message", "spawn", "remove_agent"}


@pytest.mark.parametrize("tool", GOOD)
async def test_every_tool_works_and_changes_what_it_says_it_changes(client, tool):
    agent = await client.agent()
    offered, looked = len(client.broker.offered), len(client.broker.looked)
    status, answer = await agent.tool(tool, **GOOD[tool])
    assert status == 200, answer
    asked = client.broker.offered[offered:]
    if TOOLS[tool].changes == "nothing":
        assert asked == []
    elif tool == "check_inbox":
        assert [type(item) for item in asked] == [inputs.FetchRequested]
        assert asked[0].agent_id == agent.agent_id
    elif tool == "send_group_dm":
        opened, sent = asked
        assert (opened.act, opened.arguments["participants"]) == ("open_group", ["planner", "w2"])
        assert (sent.to, sent.agent_id) == ("dm_group_9", agent.agent_id)
    else:
        (one,) = asked
        assert isinstance(
            one, inputs.SendRequested | inputs.ActRequested | inputs.ResultRequested | inputs.SummaryGiven
        )
        assert one.agent_id == agent.agent_id
        assert looked == len(client.broker.looked)
    assert {call.auth for call in client.broker.looked} <= {f"agent:{agent.agent_id}"}


async def test_a_search_looks_through_the_agents_places_and_says_how_far(client):
    agent = await client.agent()
    _, answer = await agent.tool("search_messages", query="ship")
    assert [(row["id"], row["in"]) for row in answer["messages"]] == [("78", "dm_1"), ("77", "#general")]
    assert answer["looked_at"] == {"conversations": 2, "of": 2, "newest_of_each": 100}
    _, answer = await agent.tool("search_messages", **{"query": "ship", "from": "planner"})
    assert [row["id"] for row in answer["messages"]] == ["77"]


@pytest.mark.parametrize(
    ("tool", "arguments", "code", "nearest"),
    [
        ("send_dm", {"to": "plannr", "text": "x"}, "recipient_not_found", ["planner"]),
        ("send_dm", {"to": "ghost", "text": "x"}, "recipient_not_found", []),
        ("join_channel", {"channel": "genral"}, "channel_not_found", ["general"]),
        ("post_message", {"channel": "nowhere", "text": "x"}, "recipient_not_found", []),
    ],
)
async def test_a_name_that_does_not_exist_is_refused_with_the_nearest_ones(
    client, envelope, tool, arguments, code, nearest
):
    agent = await client.agent()
    status, answer = await agent.tool(tool, **arguments)
    envelope(status, answer)
    assert (status, answer["code"], answer["nearest"]) == (404, code, nearest)
    assert all(name in answer["message"] for name in nearest)


async def test_a_refusal_stands_where_the_nearest_names_cannot_be_had(client):
    agent = await client.agent()
    client.broker.engine_away = True
    assert (await agent.tool("send_dm", to="ghost", text="x"))[1]["code"] == "recipient_not_found"
    status, answer = await agent.tool("list_channels")
    assert (status, answer["code"], answer["retryable"]) == (503, "engine_unavailable", True)


@pytest.mark.parametrize(
    ("tool", "arguments", "status", "code"),
    [
        ("fly", {}, 404, "unknown_tool"),
        ("send_dm", {"to": "planner"}, 400, "invalid_field"),
        ("send_dm", {"to": "#general", "text": "x"}, 400, "invalid_field"),
        ("send_dm", {"to": "thread:77", "text": "x"}, 400, "invalid_field"),
        ("send_dm", {"to": "planner", "text": " "}, 400, "missing_field"),
        ("send_dm", {"to": "planner", "text": "x" * 16385}, 400, "invalid_field"),
        ("send_dm", {"to": "planner", "text": "é" * 9000}, 413, "body_too_large"),
        ("send_dm", {"to": "planner", "text": "x", "from": "w2"}, 400, "invalid_field"),
        ("reply_to_thread", {"message_id": "999", "text": "x"}, 404, "message_not_found"),
        ("reply_to_thread", {"message_id": "77/../8", "text": "x"}, 400, "invalid_field"),
        ("list_messages", {"channel": "general", "limit": 101}, 400, "invalid_field"),
        ("why_message", {"message_id": "w1"}, 404, "unknown_id"),
    ],
)
async def test_what_cannot_be_done_is_refused_with_a_stable_code(client, envelope, tool, arguments, status, code):
    agent = await client.agent()
    answer_status, answer = await agent.tool(tool, **arguments)
    envelope(answer_status, answer)
    assert (answer_status, answer["code"]) == (status, code), answer


async def test_why_is_told_to_who_sent_or_received_it_and_to_nobody_else(client):
    sender, other = await client.agent(), await client.agent("w2")
    _, receipt = await sender.tool("send_dm", to="planner", text="hi")
    status, answer = await sender.tool("why_message", message_id=receipt["event_id"])
    assert status == 200, answer
    (story,) = answer["stories"]
    assert story["subject"] == f"message:{receipt['event_id']}"
    assert {step["event"].partition(".")[0] for step in story["steps"]} == {"message"}
    assert (await other.tool("why_message", message_id=receipt["event_id"]))[1]["code"] == "unknown_id"


# --- what the operator must allow -----------------------------------------------------------------------------------------


def allow(client, *may, capabilities=("spawn:cat",)):
    """As `RELAYBROKER_AGENT_MAY` and `RELAYBROKER_CAPABILITIES` do."""
    state = client.broker.core.state
    state.settings = msgspec.structs.replace(state.settings, agent_may=may, capabilities=capabilities)


async def listed(agent):
    _, answer = await agent.mcp("tools/list")
    return {tool["name"] for tool in answer["result"]["tools"]}


async def test_an_agent_starts_and_ends_others_only_where_the_operator_allows_it(client):
    """OWN-SCOPE: what is not allowed is not listed, and no tool at all."""
    agent = await client.agent()
    assert not await listed(agent) & {"spawn", "remove_agent"}
    wanted = {"name": "w2", "cli": "cat", "task": "help"}
    for tool, arguments in (("spawn", wanted), ("remove_agent", {"name": "w1"})):
        assert (await agent.tool(tool, **arguments))[1]["code"] == "unknown_tool"
        _, answer = await agent.mcp("tools/call", {"name": tool, "arguments": arguments})
        assert answer["error"]["code"] == -32602

    allow(client, "spawn")
    assert await listed(agent) & {"spawn", "remove_agent"} == {"spawn"}
    status, answer = await agent.tool("spawn", **wanted)
    assert (status, answer["name"]) == (200, "w2")
    _, spawned = await client.ask("GET", "/api/spawned")
    assert {row["name"]: row["parent"] for row in spawned["agents"]}["w2"] == "w1"
    status, answer = await agent.tool("spawn", **wanted | {"name": "w3", "cli": "bash"})
    assert (status, answer["code"]) == (403, "cli_not_allowed")
    assert "this node offers cat" in answer["message"]
    for odd in ({"args": ["-x"]}, {"env": {"A": "1"}}, {"cwd": "/"}, {"cli": "cat -e"}):
        assert (await agent.tool("spawn", **wanted | {"name": "w3"} | odd))[1]["code"] == "invalid_field"

    allow(client, "release")
    status, answer = await agent.tool("remove_agent", name="w2", reason="done")
    assert status == 200, answer
    _, log = await client.ask("GET", "/api/log?topic=agent.release_asked.v1")
    assert log["events"][-1]["body"]["reason"] == "w1 asked for it: done"


async def test_a_group_is_opened_once_for_the_same_agents(client):
    agent = await client.agent()
    client.broker.shows["/v1/dm/conversations"] = [
        {"id": "77", "type": "group", "name": None,
         "participants": [{"agent_name": "w1"}, {"agent_name": "planner"}, {"agent_name": "w2"}]},
    ]  # fmt: skip
    _, receipt = await agent.tool("send_group_dm", participants=["@w2", "planner", "w1"], text="hi")
    assert (receipt["to"], receipt["participants"]) == ("77", ["planner", "w2"])
    assert not any(call.path == "/v1/dm/group" for call in client.broker.called)
    status, answer = await agent.tool("send_group_dm", participants=["w1"], text="hi")
    assert (status, answer["code"]) == (400, "invalid_field")


async def test_what_an_agent_asks_again_with_the_same_key_is_done_once(client):
    agent = await client.agent()
    first = await agent.tool("invoke_action", key="k", name="echo", input={"n": 1})
    again = await agent.tool("invoke_action", key="k", name="echo", input={"n": 1})
    assert [status for status, _ in (first, again)] == [200, 200]
    assert len([call for call in client.broker.called if call.path.endswith("/invoke")]) == 1
    status, answer = await agent.tool("invoke_action", key="k", name="echo", input={"n": 2})
    assert (status, answer["code"]) == (409, "idempotency_conflict")
