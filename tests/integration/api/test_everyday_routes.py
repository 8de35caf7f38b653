"""Routes that clients call in everyday work: channels, threads, crashes, totals, preflight, interrupt (local-api.md section 1.3)."""

from __future__ import annotations

import pytest

from relaybroker.adapters.http.api import model_route
from relaybroker.adapters.http.api.history_routes import preview
from relaybroker.domain import inputs
from relaybroker.domain.delivery import MAX_BODY_BYTES, MAX_FLUSHABLE
from relaybroker.domain.events import Harness
from tests.integration.api.test_holds_and_dead_letters import deliver


async def kinds(client, *wanted):
    _, body = await client.ask("GET", "/api/events/replay?sinceSeq=0")
    return [event for event in body["events"] if event["kind"] in wanted]


async def test_the_agent_itself_joins_and_leaves_channels(client):
    await client.spawn("w1", channels=["dev"])
    status, joined = await client.ask("POST", "/api/spawned/w1/subscribe", {"channels": ["#lab", "Lab", "dev"]})
    assert (status, joined) == (200, {"name": "w1", "channels": ["dev", "lab"]})
    assert {call.auth for call in client.broker.called if call.path.endswith("/lab/join")} == {"agent:101"}
    _, left = await client.ask("POST", "/api/spawned/w1/unsubscribe", {"channels": ["dev"]})
    assert left["channels"] == ["lab"]
    assert (await client.ask("GET", "/api/spawned"))[1]["agents"][0]["channels"] == ["lab"]
    moves = await kinds(client, "channel_subscribed", "channel_unsubscribed")
    assert [(move["kind"], move["channels"]) for move in moves] == [
        ("channel_subscribed", ["dev"]),
        ("channel_subscribed", ["lab"]),
        ("channel_unsubscribed", ["dev"]),
    ]


async def test_a_channel_that_is_not_there_is_made_for_the_agent(client):
    await client.spawn("w1")
    status, joined = await client.ask("POST", "/api/spawned/w1/subscribe", {"channels": ["nowhere"]})
    assert (status, joined["channels"]) == (200, ["general", "nowhere"])
    assert client.broker.called[-1].body["name"] == "nowhere"


async def test_an_engine_that_is_away_changes_no_membership(client, monkeypatch):
    await client.spawn("w1")
    monkeypatch.setattr(
        client.broker,
        "_engine",
        lambda call_id, _call: inputs.EngineUnanswered(call_id=call_id, detail="connection refused"),
    )
    refused = await client.refused("POST", "/api/spawned/w1/subscribe", {"channels": ["lab"]})
    assert (refused["statusCode"], refused["code"]) == (503, "engine_unavailable")
    assert (await client.ask("GET", "/api/spawned"))[1]["agents"][0]["channels"] == ["general"]
    assert await kinds(client, "channel_unsubscribed") == []


@pytest.mark.parametrize("path", ["subscribe", "unsubscribe"])
async def test_nobody_has_no_channels(client, path):
    answer = await client.refused("POST", f"/api/spawned/ghost/{path}", {"channels": ["lab"]})
    assert (answer["statusCode"], answer["code"], answer["name"]) == (404, "agent_not_found", "ghost")
    await client.spawn("w1")
    empty = await client.refused("POST", f"/api/spawned/w1/{path}", {"channels": [" # "]})
    assert (empty["code"], empty["field"]) == ("missing_field", "channels")


async def test_threads_are_what_was_said_the_newest_first(client):
    assert (await client.ask("GET", "/api/threads"))[1] == {"threads": []}
    await client.spawn("w1")
    deliver(client, "w1", 1, "in the channel")
    await client.ask("POST", "/api/send", {"to": "w1", "text": "for you alone", "from": "human:ann"})
    threads = (await client.ask("GET", "/api/threads"))[1]["threads"]
    assert [(row["threadId"], row["lastMessage"], row["unreadCount"]) for row in threads] == [
        ("direct:human:ann:w1", "for you alone", 0),
        ("77", "in the channel", 0),
    ]
    _, stats = await client.ask("GET", "/api/history/stats")
    assert (stats["messageCount"], stats["sessionCount"], stats["activeSessions"], stats["uniqueAgents"]) == (
        2,
        1,
        1,
        1,
    )
    assert stats["oldestMessageDate"] == threads[-1]["lastMessageAt"]


def test_a_preview_is_cut_between_characters():
    assert preview("short") == "short"
    assert preview("é" * 150) == "é" * 100 + "..."


async def test_crashes_are_counted_by_what_they_have_in_common(client):
    _, none = await client.ask("GET", "/api/crash-insights")
    assert (none["recent"], none["patterns"], none["health_score"]) == ([], [], 100)
    for name, code, signal in (("w1", 3, None), ("w2", None, 11), ("w3", 139, None), ("w4", 0, None)):
        await client.spawn(name)
        await end(client, name, code, signal)
    _, answer = await client.ask("GET", "/api/crash-insights")
    assert [(one["agent_name"], one["exit_code"], one["signal"], one["category"]) for one in answer["recent"]] == [
        ("w1", 3, None, "error"),
        ("w2", None, "11", "segfault"),
        ("w3", 139, None, "segfault"),
    ]
    assert answer["patterns"][0] == {"category": "segfault", "count": 2, "agents": ["w2", "w3"]}
    assert (answer["total_crashes"], answer["health_score"]) == (3, 70)


async def end(client, name, code, signal):
    session = client.broker.state.registration_of(name).session_id
    ended = {"code": code, "signal": signal, "last_output": "", "uptime_s": 9.0, "requested": False}
    client.broker._report(inputs.ProgramExited, session, **ended)
    await client.until(lambda: client.broker.state.registration_of(name) is None, "it is gone")


async def test_a_preflight_says_what_this_machine_does_not_have(client):
    agents = [{"name": "a", "cli": "cat -u"}, {"name": "b", "cli": "no-such-program-here"}]
    assert await client.ask("POST", "/api/preflight", {"agents": agents}) == (
        200,
        {"queued": 1, "missing": ["no-such-program-here"]},
    )
    refused = await client.refused("POST", "/api/preflight", {"agents": [{"name": "../x", "cli": "cat"}]})
    assert refused["code"] == "invalid_name"


async def test_an_interrupt_presses_the_programs_own_key(client):
    await client.spawn("w1")
    assert await client.ask("POST", "/api/agents/by-name/w1/interrupt", {}) == (
        200,
        {"success": True, "name": "w1", "sent": "ctrl_c"},
    )
    assert client.broker.typed_raw == [b"\x03"]
    assert (await client.refused("POST", "/api/agents/by-name/ghost/interrupt", {}))["statusCode"] == 404


# --- another model ------------------------------------------------------------------------------------------------------------

MODEL = "/api/spawned/w1/model"


async def test_a_running_program_is_told_its_new_model_by_its_own_command(client, monkeypatch):
    monkeypatch.setattr(model_route, "ENTER_S", 0.0)
    client.broker.core._harness_of = lambda _argv, _name: Harness(profile="claude", model_flag="--model")
    await client.spawn("w1")
    assert await client.ask("POST", MODEL, {"model": "opus[1m]"}) == (
        200,
        {"success": True, "name": "w1", "model": "opus[1m]"},
    )
    assert client.broker.typed_raw == [b"/model opus[1m]", b"\r"]
    assert (await client.ask("GET", "/api/spawned"))[1]["agents"][0]["model"] == "opus[1m]"


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        (MODEL, {"model": "opus"}, 409, "model_switch_unsupported"),
        (MODEL, {"model": " "}, 400, "missing_field"),
        (MODEL, {"model": "a; rm -rf /"}, 400, "invalid_model"),
        ("/api/spawned/ghost/model", {"model": "opus"}, 404, "agent_not_found"),
    ],
)
async def test_a_switch_that_would_do_nothing_is_no_success(client, path, body, status, code):
    await client.spawn("w1")
    answer = await client.refused("POST", path, body)
    assert (answer["statusCode"], answer["code"]) == (status, code)
    assert client.broker.typed_raw == []


async def test_a_program_that_is_never_free_is_not_typed_into(client):
    client.broker.core._harness_of = lambda _argv, _name: Harness(profile="claude", model_flag="--model")
    await client.spawn("w1")
    session = client.broker.state.registration_of("w1").session_id
    client.broker._report(inputs.ProgramBlocked, session, pattern="login")
    await client.until(lambda: client.broker.state.workers[session].blocked_by == "login")
    answer = await client.refused("POST", MODEL, {"model": "opus", "timeout_ms": 60})
    assert (answer["statusCode"], answer["code"]) == (504, "request_timeout")
    assert client.broker.typed_raw == []


# --- what cannot be carried out ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "field", ["metadata", "resume", "workspace_id", "workspaceId", "parent", "extra_args", "extraArgs", "persona"]
)
async def test_a_field_of_a_spawn_that_would_change_nothing_is_refused_by_its_name(client, field):
    body = {"name": "w1", "cli": "cat"}
    answer = await client.refused("POST", "/api/spawn", body | {field: "x"})
    assert (answer["statusCode"], answer["code"], answer["field"]) == (400, "invalid_field", field)
    assert (await client.ask("POST", "/api/spawn", body | {field: None}))[0] == 200, "null is absent"


async def test_a_policy_that_is_switched_off_asks_for_nothing(client):
    status, _ = await client.ask(
        "POST", "/api/spawn", {"name": "w1", "cli": "cat", "restart_policy": {"enabled": False}}
    )
    assert status == 200
    assert client.broker.offered[-1].spec.restart is None


async def test_whom_an_agent_shadows_is_kept_and_shown(client):
    await client.spawn("w1", shadow_of="lead", shadow_mode="review")
    (agent,) = (await client.ask("GET", "/api/spawned"))[1]["agents"]
    assert (agent["shadow_of"], agent["shadow_mode"]) == ("lead", "review")


async def test_texts_and_tasks_over_the_limit_are_refused_at_the_request(client):
    await client.spawn("w1")
    big = "x" * (MAX_BODY_BYTES + 1)
    sent = await client.refused("POST", "/api/send", {"to": "w1", "text": big})
    spawned = await client.refused("POST", "/api/spawn", {"name": "w2", "cli": "cat", "task": big})
    assert [(one["statusCode"], one["code"], one["field"]) for one in (sent, spawned)] == [
        (413, "body_too_large", "message"),
        (413, "body_too_large", "task"),
    ]


async def test_a_message_for_an_agent_that_has_no_place_for_it_is_refused(client):
    """262 sends into 256 places: six of them are told so."""
    await client.spawn("w1")
    await client.ask("PUT", "/api/spawned/w1/delivery-mode", {"mode": "manual_flush"})
    for seq in range(1, MAX_FLUSHABLE + 1):
        deliver(client, "w1", seq, "waits")
    session = client.broker.state.registration_of("w1").session_id
    await client.until(lambda: len(client.broker.state.workers[session].waiting) == MAX_FLUSHABLE)
    answer = await client.refused("POST", "/api/send", {"to": "@w1", "text": "one more"})
    assert (answer["statusCode"], answer["code"]) == (429, "queue_full")
    assert answer["rejected"] == [{"name": "w1", "code": "queue_full"}]
    assert (await client.ask("POST", "/api/send", {"to": "#general", "text": "all"}))[0] == 200
