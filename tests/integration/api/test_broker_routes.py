"""Routes about the broker and about messages (local-api.md routes 1 to 4, 17, 21, 22; checklist 20 and 21)."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from relaybroker.adapters.http.api import send_route
from relaybroker.domain import inputs

HEALTH_KEYS = {
    "status",
    "service",
    "version",
    "uptimeMs",
    "workspaceId",
    "defaultWorkspaceId",
    "memberships",
    "agentCount",
    "pendingDeliveryCount",
    "wsConnections",
    "memoryMb",
    "relaycastConnected",
}


def sent(client):
    return next(item for item in client.broker.offered if isinstance(item, inputs.SendRequested))


# --- health -----------------------------------------------------------------------------------------------------------


async def test_health_has_the_key_names_of_the_contract_and_real_numbers(client):
    await client.spawn("w1")
    async with client.socket():
        await client.until(lambda: len(client.api._events) == 1)
        status, body = await client.ask("GET", "/health")
    assert status == 200
    assert body.keys() >= HEALTH_KEYS
    assert (body["status"], body["service"], body["version"]) == ("ok", "agent-relay-listen", "1.2.3")
    assert (body["agentCount"], body["wsConnections"], body["relaycastConnected"]) == (1, 1, True)
    assert body["memoryMb"] > 10
    assert body["uptimeMs"] > 0
    assert (body["workspaceId"], body["defaultWorkspaceId"]) == ("ws_1", "ws_1")
    assert body["memberships"] == [{"workspace_id": "ws_1", "is_default": True}]


async def test_health_needs_no_key_and_then_shows_no_workspace(client):
    async with client.http.get(client.url + "/health") as response:
        assert response.status == 200
        body = await response.json()
    assert body.keys() >= HEALTH_KEYS
    assert (body["workspaceId"], body["defaultWorkspaceId"], body["memberships"]) == ("ws_unknown", None, [])
    assert "ws_1" not in str(body)


async def test_health_is_degraded_without_the_link(client):
    link = client.broker.state.link
    client.broker.tell(inputs.LinkClosed(dial=link.dial, code=1006, detail="eof"))
    await client.until(lambda: link.state != "online")
    _, body = await client.ask("GET", "/health")
    assert (body["status"], body["relaycastConnected"]) == ("degraded", False)


@pytest.mark.parametrize(("value", "status"), [(" Rate_Limit_Exceeded ", "degraded"), ("other", "ok")])
async def test_health_reads_the_start_up_error_of_the_environment_at_each_request(client, monkeypatch, value, status):
    monkeypatch.setenv("AGENT_RELAY_STARTUP_ERROR_CODE", value)
    _, body = await client.ask("GET", "/health")
    assert (body["status"], body["relaycastConnected"]) == (status, False)
    monkeypatch.delenv("AGENT_RELAY_STARTUP_ERROR_CODE")
    assert (await client.ask("GET", "/health"))[1]["relaycastConnected"] is True


# --- session and configuration ----------------------------------------------------------------------------------------


async def test_the_session_gives_the_workspace_key_and_where_the_event_log_stands(client, workspace_key):
    status, body = await client.ask("GET", "/api/session")
    state = client.broker.state
    assert status == 200
    assert (body["broker_version"], body["protocol_version"], body["mode"]) == ("1.2.3", 2, "ephemeral")
    assert (body["workspace_key"], body["relay_base_url"], body["default_workspace_id"]) == (
        workspace_key,
        None,
        "ws_1",
    )
    assert (body["epoch"], body["last_seq"]) == (state.epoch, state.notified)
    assert body["boot_id"].startswith("bo_")
    assert body["uptime_secs"] >= 0


async def test_a_broker_without_a_workspace_key_says_null(client):
    client.broker.workspace_key = ""
    assert (await client.ask("GET", "/api/session"))[1]["workspace_key"] is None
    assert (await client.ask("GET", "/api/config"))[1]["workspaceKey"] is None


async def test_the_lease_is_renewed(client):
    client.api._last_use -= 100
    assert await client.ask("POST", "/api/session/renew") == (
        200,
        {"renewed": True, "expires_in_secs": 120, "persist": False},
    )
    assert client.api.idle_s() < 50


async def test_the_configuration_names_the_memberships(client, workspace_key):
    assert await client.ask("GET", "/api/config") == (
        200,
        {
            "workspaceKey": workspace_key,
            "defaultWorkspaceId": "ws_1",
            "memberships": [{"workspace_id": "ws_1", "is_default": True}],
        },
    )


# --- send -------------------------------------------------------------------------------------------------------------


async def test_a_message_as_the_sdk_sends_it_is_published_and_named(client):
    await client.spawn("w1")
    status, body = await client.ask(
        "POST",
        "/api/send",
        {
            "to": " w1 ",
            "text": " status? ",
            "from": "human:  Ann",
            "threadId": "7",
            "workspaceId": "ws_1",
            "workspaceAlias": None,
            "priority": None,
            "data": {"a": 1},
            "mode": "wait",
        },
    )
    assert status == 200
    assert body["success"] is True
    assert body["event_id"].startswith("http_")
    assert (body["targets"], body["workspace_id"], body["message_id"]) == (["w1"], "ws_1", "msg_9")
    assert body["relaycast_published"] is True
    assert "workspace_alias" in body
    asked = sent(client)
    assert (asked.to, asked.text, asked.sender, asked.thread_id) == ("w1", "status?", "human:Ann", "7")
    assert (asked.mode, asked.data) == ("wait", {"a": 1})


@pytest.mark.parametrize("field", ["message", "text", "body", "content"])
async def test_the_text_has_four_names(client, field):
    assert (await client.ask("POST", "/api/send", {"to": "#general", field: "hi"}))[0] == 200
    assert sent(client).text == "hi"


async def test_the_first_name_of_the_text_that_is_present_wins(client):
    await client.ask("POST", "/api/send", {"to": "#general", "content": "c", "text": "t", "message": None})
    assert sent(client).text == "t"


@pytest.mark.parametrize(
    "body", [{}, {"to": "w1"}, {"text": "x"}, {"to": " ", "text": "x"}, {"to": "w1", "text": " \n"}]
)
async def test_a_message_without_receiver_or_text_is_a_400(client, body):
    answer = await client.refused("POST", "/api/send", body)
    assert answer["message"] == "Missing required fields: to, message"
    assert (answer["statusCode"], answer["to"]) == (400, body.get("to", ""))


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("mode", "later", "invalid_mode"),
        ("mode", 1, "invalid_field"),
        ("to", 5, "invalid_field"),
        ("to", "#a/../agents", "invalid_field"),
        ("to", "#a?b", "invalid_field"),
        ("to", "#", "invalid_field"),
        ("to", "dm_1/x", "invalid_field"),
        ("to", "²", "invalid_field"),
        ("from", ["a"], "invalid_field"),
        ("data", "text", "invalid_field"),
        ("thread_id", 7, "invalid_field"),
        ("workspaceId", "ws_2", "workspace_not_found"),
        ("workspace_alias", "main", "workspace_not_found"),
    ],
)
async def test_a_bad_field_of_a_message_is_a_400(client, field, value, code):
    answer = await client.refused("POST", "/api/send", {"to": "w1", "text": "x"} | {field: value})
    assert (answer["statusCode"], answer["code"]) == (400, code)
    assert "to" in answer
    if code == "invalid_mode":
        assert answer["message"] == "invalid mode 'later'. expected 'wait' or 'steer'"


@pytest.mark.parametrize("mode", [" STEER ", "steer"])
async def test_the_mode_is_read_whatever_its_spelling(client, mode):
    await client.ask("POST", "/api/send", {"to": "#general", "text": "x", "injectionMode": mode})
    assert sent(client).mode == "steer"


@pytest.mark.parametrize("priority", [-1, 5, "0", "urgent", 1.5, True])
async def test_a_priority_is_a_number_from_0_to_4(client, priority):
    answer = await client.refused("POST", "/api/send", {"to": "w1", "text": "x", "priority": priority})
    assert (answer["statusCode"], answer["code"], answer["field"]) == (400, "invalid_field", "priority")
    assert client.broker.offered == []


@pytest.mark.parametrize(("given", "priority"), [(0, 0), (4, 4), (None, msgspec.UNSET)])
async def test_a_priority_reaches_the_core(client, given, priority):
    """B15, F039: it works, or is refused; null is none."""
    await client.ask("POST", "/api/send", {"to": "#general", "text": "x", "priority": given})
    assert sent(client).priority == priority


@pytest.mark.parametrize("field", ["idempotency_key", "idempotencyKey"])
async def test_the_same_key_again_is_answered_from_memory_wherever_it_stands(client, field):
    """local-api 1.1: header or body; another body under the same key is a conflict."""
    first = await client.ask("POST", "/api/send", {"to": "#general", "text": "x", field: "k-1"})
    again = await client.ask("POST", "/api/send", {"to": "#general", "text": "x"}, Idempotency_Key="k-1")
    assert (again[0], again[1]) == (200, first[1] | {"replayed": True})
    answer = await client.refused("POST", "/api/send", {"to": "#general", "text": "y"}, Idempotency_Key="k-1")
    assert (answer["statusCode"], answer["code"], answer["to"]) == (409, "idempotency_conflict", "#general")


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ({"idempotency_key": ""}, {}),
        ({"idempotency_key": "k" * 129}, {}),
        ({"idempotency_key": 7}, {}),
        ({}, {"Idempotency_Key": " "}),
        ({"idempotency_key": "a"}, {"Idempotency_Key": "b"}),
    ],
)
async def test_a_key_that_is_none_is_refused(client, body, headers):
    answer = await client.refused("POST", "/api/send", {"to": "#general", "text": "x"} | body, **headers)
    assert (answer["statusCode"], answer["code"], answer["field"]) == (400, "invalid_field", "idempotency_key")
    assert client.broker.offered == []


async def test_an_unknown_receiver_is_a_404_because_the_engine_says_so(client):
    answer = await client.refused("POST", "/api/send", {"to": "ghost", "text": "x"})
    assert (answer["statusCode"], answer["code"], answer["to"]) == (404, "recipient_not_found", "ghost")
    assert answer["message"] == 'Agent "ghost" not found'


async def test_a_message_without_an_answer_in_time_is_a_504_with_its_receiver(client, monkeypatch):
    monkeypatch.setattr(send_route, "SEND_WAIT_S", 0.05)
    monkeypatch.setattr(client.broker, "_carry_out", lambda effect: None)
    answer = await client.refused("POST", "/api/send", {"to": "w1", "text": "x"})
    assert (answer["statusCode"], answer["code"], answer["retryable"]) == (504, "request_timeout", True)
    assert answer["to"] == "w1"


# --- status and metrics -----------------------------------------------------------------------------------------------


async def test_the_status_has_the_agents_as_they_are_listed_the_open_deliveries_and_the_identity(client):
    await client.spawn("w1")
    status, body = await client.ask("GET", "/api/status")
    _, listed = await client.ask("GET", "/api/spawned")
    assert status == 200
    assert body["agent_count"] == 1
    assert body["agents"][0].keys() == listed["agents"][0].keys()
    assert (body["pending_delivery_count"], body["pending_deliveries"]) == (0, [])
    assert body["auth"]["authenticated"] is True
    assert (body["auth"]["workspace_count"], body["auth"]["default_workspace_id"]) == (1, "ws_1")
    (workspace,) = body["auth"]["workspaces"]
    assert (workspace["self_agent_id"], workspace["default"]) == ("900", True)
    assert body["link"]["state"] == "online"


async def test_the_metrics_are_those_of_the_programs(client):
    await client.spawn("w2")
    await client.spawn("w1")
    status, body = await client.ask("GET", "/api/metrics")
    assert status == 200
    assert [agent["name"] for agent in body["agents"]] == ["w1", "w2"]
    assert body["agents"][0].keys() == {"name", "pid", "memory_bytes", "uptime_secs"}
    assert body["broker"]["total_agents_spawned"] == 2
    assert body["broker"]["active_agents"] == 2
    assert body["broker"].keys() == {
        "uptime_secs",
        "total_agents_spawned",
        "total_crashes",
        "total_restarts",
        "active_agents",
    }
    _, one = await client.ask("GET", "/api/metrics?agent=w2")
    assert [agent["name"] for agent in one["agents"]] == ["w2"]
    answer = await client.refused("GET", "/api/metrics?agent=nobody")
    assert (answer["statusCode"], answer["message"]) == (404, "unknown worker 'nobody'")


async def test_reading_routes_answer_at_once_while_spawns_hang(client):
    client.broker.engine_registers = False
    spawning = asyncio.create_task(client.refused("POST", "/api/spawn", {"name": "w1", "cli": "cat"}))
    await client.until(lambda: bool(client.broker.offered))
    for path in ("/health", "/api/status", "/api/session", "/api/spawned"):
        assert (await client.ask("GET", path))[0] == 200
    assert (await client.ask("POST", "/api/session/renew"))[0] == 200
    assert not spawning.done()
    await client.api.close()
    await spawning


@pytest.mark.parametrize(
    ("path", "waits"),
    [("/api/status", 2), ("/api/spawned", 2), ("/api/dead-letters", 2), ("/api/log", 2), ("/health", 0)],
)
async def test_what_is_shown_is_durable_before_it_is_answered(client, path, waits):
    """LOG-FIRST: what has been decided and is not on disk may be gone after a crash. `/health` waits for nothing."""
    before = client.broker.settles
    assert (await client.ask("GET", path))[0] == 200
    assert client.broker.settles - before == waits
