"""The operator uses the same tools, as the broker's own identity (conversation.md section 4)."""

from __future__ import annotations

import pytest


@pytest.fixture
async def operator(client):
    """Use a tool as the operator; the broker has its identity, and the engine shows two messages."""
    await client.until(lambda: client.broker.state.own.agent_id)
    name = client.broker.state.own.name
    client.broker.shows |= {
        "/v1/messages/77": {"id": "77", "agent_id": "700", "agent_name": "planner", "text": "Ship it"},
        "/v1/messages/77/replies": {
            "parent": {"id": "77", "agent_id": "700", "agent_name": "planner", "text": "Ship it"},
            "replies": [{"id": "78", "agent_id": "101", "agent_name": "w1", "text": "shipped"}],
        },
        "/v1/messages/78/readers": [{"agent_name": name, "agent_id": "1", "read_at": "2026-01-01T00:00:00.000Z"}],
    }

    async def use(tool, **arguments):
        return await client.ask("POST", f"/api/operator/tools/{tool}", arguments)

    return use


def deliver(client, agent, msg_id="77", text="Ship it"):
    client.broker._frame(
        client.broker.state.link.dial,
        {
            "type": "deliver", "delivery_id": f"del_{msg_id}_{agent.agent_id}", "agent_id": agent.agent_id, "agent": agent.name,
            "msg_id": msg_id, "seq": int(msg_id) - 76, "mode": "wait",
            "payload": {"type": "message.created", "data": {"id": msg_id, "text": text, "from_name": "planner", "channel_name": "lab"}},
        },
    )  # fmt: skip


async def test_the_operator_writes_as_the_brokers_own_identity(client, operator):
    status, receipt = await operator("send_dm", to="planner", text="hi")
    assert (status, receipt["status"], receipt["from"]) == (200, "published", client.broker.state.own.name)
    assert client.broker.called[-1].auth == "own"
    status, refused = await operator("send_dm", to="plannr", text="hi")
    assert (status, refused["nearest"]) == (404, ["planner"])


async def test_the_operator_acts_as_itself_and_the_log_says_so(client, operator):
    status, _ = await operator("mark_message_read", message_id="77")
    assert status == 200
    call = client.broker.called[-1]
    assert (call.path, call.auth) == ("/v1/messages/77/read", "own")
    _, answer = await client.ask("GET", "/api/log?topic=agent.act_asked.v1")
    (asked,) = answer["events"]
    assert asked["stream"].startswith("broker:")
    assert client.broker.state.acts == {}


async def test_a_thread_has_a_mark_per_recipient_and_the_engines_readers_where_nothing_is_known(client, operator):
    agent = await client.agent()
    await client.ask("PUT", "/api/spawned/w1/delivery-mode", {"mode": "manual_flush"})
    deliver(client, agent)
    await client.until(lambda: client.broker.state.deliveries)
    _, thread = await operator("read_thread", message_id="77")
    first, answer = thread["messages"]
    assert [(mark["agent"], mark["mark"], mark["reason"]) for mark in first["marks"]] == [
        ("w1", "waits", "manual_flush")
    ]
    assert first["marks"][0]["why"]
    assert (answer["marks"], answer["readers"]) == ([], [client.broker.state.own.name])
    await client.ask("POST", "/api/spawned/w1/flush", {})
    await client.until(lambda: not client.broker.state.deliveries)
    _, shown = await operator("show_message", message_id="77")
    assert [mark["mark"] for mark in shown["marks"]] == ["acknowledged"]


async def test_everything_that_went_through_the_broker_is_found_by_what_it_is(client, operator):
    agent = await client.agent()
    deliver(client, agent, "77")
    deliver(client, agent, "78", "ready?")
    await operator("send_dm", to="planner", text="Ships at noon")
    await client.until(lambda: len(client.broker.state.deliveries) == 0)

    async def texts(**wanted):
        _, answer = await operator("find_messages", **wanted)
        return [row["text"] for row in answer["messages"]]

    assert await texts() == ["Ship it", "ready?", "Ships at noon"]
    assert await texts(text="ship") == ["Ship it", "Ships at noon"]
    assert await texts(channel="#lab", limit=1) == ["ready?"]
    assert await texts(agent="W1", state="acked") == ["Ship it", "ready?"]
    assert await texts(thread="78") == ["ready?"]
    assert await texts(since=2e9) == []
    status, answer = await operator("find_messages", agent="w11")
    assert (status, answer["code"]) == (400, "invalid_field")
    assert "nearest: w1" in answer["message"]


async def test_an_agent_reads_along_what_it_can_see_and_only_its_own_marks(client, operator):
    agent, other = await client.agent(), await client.agent("w2")
    for one in (agent, other):
        deliver(client, one)
    await client.until(lambda: len(client.broker.state.deliveries) == 0)
    _, shown = await agent.tool("read_thread", message_id="77")
    assert [mark["agent"] for mark in shown["messages"][0]["marks"]] == ["w1"]
    _, shown = await agent.tool("find_messages", text="ship")
    assert [row["text"] for row in shown["messages"]] == ["Ship it", "shipped"]
    status, answer = await agent.tool("find_messages", state="acked")
    assert (status, answer["code"]) == (403, "agent_scope")


async def test_what_only_agents_or_commands_have_is_offered_to_nobody_else(client, operator):
    agent = await client.agent()
    assert (await operator("my_status"))[1]["code"] == "unknown_tool"
    _, listed = await client.ask("GET", "/api/operator/tools")
    assert "my_status" not in {tool["name"] for tool in listed["tools"]}
    _, answer = await agent.mcp("tools/call", {"name": "read_thread", "arguments": {"message_id": "77"}})
    assert answer["error"]["code"] == -32602


async def test_without_an_identity_at_the_engine_the_operator_is_told_so(client):
    client.broker.core.state.own.agent_id = ""
    status, answer = await client.ask("POST", "/api/operator/tools/check_inbox", {})
    assert (status, answer["code"]) == (503, "engine_unavailable")
