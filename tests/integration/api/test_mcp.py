"""The Model Context Protocol at `POST /mcp`: both eras, and whatever a client may send (conversation.md section 2)."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import urlsplit

import pytest

from relaybroker.domain import inputs
from relaybroker.mcp.protocol import MAX_MESSAGE_BYTES
from relaybroker.mcp.tools import EVERYBODYS

META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


async def modern(agent, method, params=None, **headers):
    """A request of the stateless era."""
    named = {"MCP_Protocol_Version": "2026-07-28", "Mcp_Method": method}
    if method == "tools/call":
        named["Mcp_Name"] = params["name"]
    return await agent.mcp(method, {"_meta": META} | (params or {}), **(named | headers))


async def raw(agent, body, **headers):
    given = {"Authorization": f"Bearer {agent.token}"} | headers
    async with agent.client.http.post(f"{agent.client.url}/mcp", data=body, headers=given) as response:
        text = await response.text()
        return response.status, json.loads(text) if text else None


# --- the handshake era ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "spoken"), [("2025-06-18", "2025-06-18"), ("2025-11-25", "2025-11-25"), ("2024-11-05", "2025-11-25")]
)
async def test_a_client_shakes_hands_and_uses_a_tool(client, asked, spoken):
    agent = await client.agent()
    offer = {"protocolVersion": asked, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    status, answer = await agent.mcp("initialize", offer)
    assert (status, answer["id"], answer["result"]["protocolVersion"]) == (200, 1, spoken)
    assert answer["result"]["serverInfo"]["name"] == "agent-relay"
    assert answer["result"]["capabilities"] == {"tools": {}}
    assert await raw(agent, json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"})) == (202, None)
    status, answer = await agent.mcp("tools/list", MCP_Protocol_Version=spoken)
    assert [tool["name"] for tool in answer["result"]["tools"]] == list(EVERYBODYS)
    assert "resultType" not in answer["result"]
    _, answer = await agent.mcp("tools/call", {"name": "send_dm", "arguments": {"to": "planner", "text": "hi"}}, "x")
    result = answer["result"]
    assert (answer["id"], result["isError"], result["structuredContent"]["status"]) == ("x", False, "published")
    assert json.loads(result["content"][0]["text"]) == result["structuredContent"]
    assert "hi" not in result["content"][0]["text"].replace("this", "")
    assert await agent.mcp("ping") == (200, {"jsonrpc": "2.0", "id": 1, "result": {}})


async def test_a_version_that_is_not_spoken_is_refused_with_those_that_are(client):
    agent = await client.agent()
    status, answer = await agent.mcp("tools/list", MCP_Protocol_Version="2031-01-01")
    assert (status, answer["error"]["code"]) == (400, -32022)
    assert "2026-07-28" in answer["error"]["data"]["supported"]


@pytest.mark.parametrize("method", ["resources/list", "prompts/list", "logging/setLevel", "tools/dance", ""])
async def test_what_is_not_offered_is_no_method(client, method):
    agent = await client.agent()
    status, answer = await agent.mcp(method)
    assert (status, answer["error"]["code"]) == (200, -32601)


# --- the stateless era ------------------------------------------------------------------------------------------------------


async def test_a_client_without_a_handshake_discovers_and_uses_a_tool(client):
    agent = await client.agent()
    status, answer = await modern(agent, "server/discover")
    assert status == 200
    assert answer["result"]["resultType"] == "complete"
    assert "2026-07-28" in answer["result"]["supportedVersions"]
    assert {"ttlMs", "cacheScope"} <= answer["result"].keys()
    _, answer = await modern(agent, "tools/list")
    assert (len(answer["result"]["tools"]), answer["result"]["cacheScope"]) == (len(EVERYBODYS), "private")
    _, answer = await modern(agent, "tools/call", {"name": "list_channels"})
    assert answer["result"]["structuredContent"]["channels"][0]["name"] == "general"
    assert answer["result"]["resultType"] == "complete"
    assert answer["result"]["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "agent-relay"


@pytest.mark.parametrize(
    ("headers", "meta", "status", "code"),
    [
        ({"MCP_Protocol_Version": "2025-11-25"}, META, 400, -32020),
        ({"Mcp_Method": "tools/call"}, META, 400, -32020),
        ({"Mcp_Method": "=?base64?dG9vbHMvbGlzdA==?="}, META, 200, None),
        ({"Mcp_Method": "=?base64?%?="}, META, 400, -32020),
        (
            {"MCP_Protocol_Version": "2027-01-01"},
            META | {"io.modelcontextprotocol/protocolVersion": "2027-01-01"},
            400,
            -32022,
        ),
        ({}, {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}, 400, -32602),
        ({}, META | {"io.modelcontextprotocol/protocolVersion": 5}, 400, -32602),
        ({}, {}, 400, -32602),
    ],
)
async def test_a_request_says_the_same_in_its_body_and_its_headers(client, headers, meta, status, code):
    agent = await client.agent()
    answer_status, answer = await modern(agent, "tools/list", {"_meta": meta}, **headers)
    assert (answer_status, answer.get("error", {}).get("code")) == (status, code), answer


@pytest.mark.parametrize("method", ["initialize", "ping", "resources/list"])
async def test_the_methods_of_the_other_era_are_none_here(client, method):
    agent = await client.agent()
    status, answer = await modern(agent, method, {"protocolVersion": "2025-11-25"})
    assert (status, answer["error"]["code"]) == (404, -32601)


# --- tools ------------------------------------------------------------------------------------------------------------------


async def test_every_tool_says_truly_what_it_changes_and_takes_one_flat_object(client):
    agent = await client.agent()
    _, answer = await agent.mcp("tools/list")
    for tool in answer["result"]["tools"]:
        hints, schema = tool["annotations"], tool["inputSchema"]
        assert schema["type"] == "object"
        assert schema["additionalProperties"] is False
        assert "$ref" not in json.dumps(schema)
        assert hints["readOnlyHint"] == (EVERYBODYS[tool["name"]].changes == "nothing")
        assert not (hints["readOnlyHint"] and hints["destructiveHint"])
        assert tool["description"].endswith(".")
    hinted = {tool["name"]: tool["annotations"] for tool in answer["result"]["tools"]}
    assert not hinted["send_dm"]["idempotentHint"]
    assert hinted["add_reaction"]["idempotentHint"]
    assert hinted["remove_reaction"]["destructiveHint"]


async def test_an_unknown_recipient_is_the_tools_error_with_the_nearest_names(client):
    agent = await client.agent()
    call = {"name": "send_dm", "arguments": {"to": "plannr", "text": "hi"}}
    status, answer = await agent.mcp("tools/call", call)
    assert (status, answer["result"]["isError"]) == (200, True)
    assert "nearest: planner" in answer["result"]["content"][0]["text"]
    assert answer["result"]["structuredContent"]["error"]["code"] == "recipient_not_found"


async def test_a_wrong_argument_is_the_tools_error_and_an_unknown_tool_the_protocols(client):
    agent = await client.agent()
    _, answer = await agent.mcp("tools/call", {"name": "send_dm", "arguments": {"to": 5}})
    assert answer["result"]["isError"] is True
    assert "to" in answer["result"]["content"][0]["text"]
    _, answer = await agent.mcp("tools/call", {"name": "send_dn", "arguments": {}})
    assert (answer["error"]["code"], "send_dm" in answer["error"]["message"]) == (-32602, True)


async def test_a_result_ends_with_one_line_about_what_waits(client):
    agent = await client.agent()
    await held(client, agent, "77", "78")
    send = {"name": "send_dm", "arguments": {"to": "planner", "text": "hi"}}
    assert (await agent.mcp("tools/call", send))[1]["result"]["content"][1][
        "text"
    ] == "2 messages wait for you: check_inbox"
    assert len((await agent.mcp("tools/call", {"name": "my_status"}))[1]["result"]["content"]) == 1


async def test_the_same_key_beside_a_message_sends_once(client):
    agent = await client.agent()
    send = {"name": "send_dm", "arguments": {"to": "planner", "text": "hi"}}
    answers = [(await agent.mcp("tools/call", send, number, Idempotency_Key="k"))[1] for number in (1, 2)]
    assert answers[1]["id"] == 2
    assert answers[1]["result"]["structuredContent"]["replayed"] is True
    assert len([call for call in client.broker.called if call.call_id.startswith("publish_")]) == 1


async def test_a_fault_of_ours_is_an_internal_error_without_details(client, monkeypatch):
    agent = await client.agent()
    monkeypatch.setattr(client.broker, "ask_engine", None)
    status, answer = await agent.mcp("tools/call", {"name": "list_channels"})
    assert (status, answer["error"]["code"]) == (200, -32603)
    assert "NoneType" not in answer["error"]["message"]


# --- messages that are none ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", -32700),
        (b"{", -32700),
        (b"\xff\xfe", -32700),
        (b"[" * 100_000, -32700),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, -32700),
        (b'{"jsonrpc":"2.0","id":1e999,"method":"ping"}', -32700),
        (b"[]", -32600),
        (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', -32600),
        (b'"ping"', -32600),
        (b'{"id":1,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":1}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":7}', -32600),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":true,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":123456789012345678901234567890,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":"' + b"x" * 300 + b'","method":"ping"}', -32600),
        (b" " * (MAX_MESSAGE_BYTES + 1), -32600),
    ],
)
async def test_a_message_that_is_none_is_an_error_of_the_protocol(client, body, code):
    agent = await client.agent()
    status, answer = await raw(agent, body)
    assert (status, answer["error"]["code"]) == (400, code)
    assert answer["jsonrpc"] == "2.0"


@pytest.mark.parametrize(
    "message",
    [
        {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}},
        {"jsonrpc": "2.0", "method": "tools/call", "params": {"name": "send_dm"}},
        {"jsonrpc": "2.0", "id": 1, "result": {}},
        {"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": "x"}},
    ],
)
async def test_what_needs_no_answer_gets_none_and_does_nothing(client, message):
    agent = await client.agent()
    before = len(client.broker.offered)
    assert await raw(agent, json.dumps(message)) == (202, None)
    assert len(client.broker.offered) == before


async def test_params_that_are_no_object_are_invalid(client):
    agent = await client.agent()
    assert (await agent.mcp("tools/list", [1]))[1]["error"]["code"] == -32602
    assert (await agent.mcp("initialize", {"protocolVersion": 5}))[1]["error"]["code"] == -32602
    assert (await agent.mcp("tools/call", {"name": ["send_dm"]}))[1]["error"]["code"] == -32602
    assert (await agent.mcp("tools/list", {"cursor": "2"}))[1]["error"]["code"] == -32602


# --- fetching -------------------------------------------------------------------------------------------------------------


async def held(client, agent, *msg_ids):
    """Messages wait because a dialog is on the agent's screen."""
    client.broker._report(inputs.ProgramBlocked, client.broker.state.registration_of("w1").session_id, pattern="login")
    for number, msg_id in enumerate(msg_ids, 1):
        client.broker._frame(
            client.broker.state.link.dial,
            {
                "type": "deliver", "delivery_id": f"del_{msg_id}_{agent.agent_id}", "agent_id": agent.agent_id,
                "agent": "w1", "msg_id": msg_id, "seq": number, "mode": "wait",
                "payload": {"type": "message.created", "data": {"id": msg_id, "text": f"text {msg_id}", "from_name": "planner"}},
            },
        )  # fmt: skip
    await client.until(lambda: len(client.broker.state.deliveries) == len(msg_ids))


async def test_what_waits_is_given_to_the_agent_over_mcp_and_http_and_never_typed(client):
    """FETCHED-ONCE."""
    agent = await client.agent()
    await held(client, agent, "77", "78")
    _, answer = await agent.mcp("tools/call", {"name": "check_inbox", "arguments": {"limit": 1}})
    result = answer["result"]
    assert [row["text"] for row in result["structuredContent"]["messages"]] == ["text 77"]
    assert result["structuredContent"]["waiting_count"] == 1
    assert result["content"][-1]["text"] == "1 message waits for you: check_inbox"
    await client.until(lambda: len(client.broker.state.deliveries) == 1)
    _, answer = await agent.tool("check_inbox")
    assert [row["message_id"] for row in answer["messages"]] == ["78"]
    await client.until(lambda: not client.broker.state.deliveries)
    _, log = await client.ask("GET", "/api/log?topic=delivery.fetched.v1")
    assert len(log["events"]) == 2
    _, answer = await agent.tool("check_inbox")
    assert (answer["messages"], answer["waiting"]) == ([], [])


async def test_an_answer_that_cannot_be_written_leaves_the_message_where_it_was(client):
    """FETCHED-ONCE: the connection ends while the core decides; nothing was said, so nothing is doubtful."""
    agent = await client.agent()
    await held(client, agent, "77")
    client.broker.muted = True
    target = urlsplit(client.url)
    _, writer = await asyncio.open_connection(target.hostname, target.port)
    head = f"POST /api/agent/tools/check_inbox HTTP/1.1\r\nHost: {target.netloc}\r\nAuthorization: Bearer {agent.token}\r\n"
    writer.write(f"{head}Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}".encode())
    await client.until(lambda: any(isinstance(item, inputs.FetchRequested) for item in client.broker.offered))
    writer.transport.abort()
    client.broker.muted = False
    asked = next(item for item in client.broker.offered if isinstance(item, inputs.FetchRequested))
    await asyncio.sleep(0)
    client.broker.tell(asked)
    await client.until(lambda: any(isinstance(item, inputs.FetchEnded) for item in client.broker.offered))
    (waits,) = client.broker.state.deliveries.values()
    await client.until(lambda: waits.reason == "blocked_by_dialog")
    assert not waits.doubtful


async def test_an_engine_that_is_away_keeps_no_message_from_its_agent(client):
    agent = await client.agent()
    await held(client, agent, "77")
    client.broker.engine_away = True
    _, answer = await agent.tool("check_inbox")
    assert [row["message_id"] for row in answer["messages"]] == ["77"]
    assert "engine does not answer" in answer["unread_unknown"]


# --- while the engine is away ---------------------------------------------------------------------------------------------------


async def test_a_message_is_known_by_the_id_that_it_has_here_before_and_after_the_engine_has_it(client):
    """LOCAL-FIRST."""
    ann, bob = await client.agent("w1"), await client.agent("w2")
    broker = client.broker
    ids = {"/v1/dm": "77", "/v1/messages/77/replies": "78"}
    broker._engine = lambda call_id, call: inputs.EngineAnswered(
        call_id=call_id, status=201, data={"id": ids[call.path]}
    )
    broker.engine_silent = True
    sending = asyncio.create_task(ann.tool("send_dm", to="w2", text="ready?"))
    await client.until(lambda: any(call.path == "/v1/dm" for call in broker.called))
    broker.tell(inputs.EngineUnanswered(call_id=broker.called[-1].call_id, detail="connection refused"))
    _, receipt = await sending
    known_here = receipt["event_id"]
    assert (receipt["status"], receipt["message_id"]) == ("pending", None)
    for tool in ("get_message_thread", "mark_message_read", "get_message_readers"):
        status, refusal = await bob.tool(tool, message_id=known_here)
        assert (status, refusal["code"]) == (503, "publish_pending"), tool
    status, answer = await bob.tool("why_message", message_id=known_here)
    assert (status, [story["state"] for story in answer["stories"]]) == (200, ["injected"])
    _, receipt = await bob.tool("reply_to_thread", message_id=known_here, text="yes")
    assert receipt["status"] == "pending"
    broker.engine_silent = False
    for call_id in [message.call_id for message in broker.state.messages.values() if message.call_id]:
        broker.tell(inputs.EngineUnanswered(call_id=call_id, detail="connection refused"))
    await client.until(lambda: broker.state.published_as == {known_here: "77", receipt["event_id"]: "78"})
    assert (await bob.tool("get_message_thread", message_id=known_here))[1]["parent"]["id"] == "77"
    _, receipt = await bob.tool("reply_to_thread", message_id=known_here, text="once more")
    assert receipt["status"] == "published"
    status, refusal = await bob.tool("get_message_thread", message_id=f"http_{'0' * 32}")
    assert (status, refusal["code"]) == (404, "message_not_found")
