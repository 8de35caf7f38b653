"""Routes that clients call in everyday work: channels, threads, crashes, totals, preflight, interrupt (local-api.md section 1.3)."""

from __future__ import annotations

import pytest

from relaybroker.adapters.http.api.history_routes import preview
from relaybroker.domain import inputs
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
    found = (await client.ask("GET", "/api/threads"))[1]["threads"]
    assert [(row["threadId"], row["lastMessage"], row["unreadCount"]) for row in found] == [
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
    assert stats["oldestMessageDate"] == found[-1]["lastMessageAt"]


def test_a_preview_is_cut_between_characters():
    assert preview("short") == "short"
    assert preview("é" * 150) == "é" * 100 + "..."


async def test_crashes_are_counted_by_what_they_have_in_common(client):
    _, none = await client.ask("GET", "/api/crash-insights")
    assert (none["recent"], none["patterns"], none["health_score"]) == ([], [], 100)
    for name, code, signal in (("w1", 3, None), ("w2", None, 11), ("w3", 139, None), ("w4", 0, None)):
        await client.spawn(name)
        await end(client, name, code, signal)
    _, found = await client.ask("GET", "/api/crash-insights")
    assert [(one["agent_name"], one["exit_code"], one["signal"], one["category"]) for one in found["recent"]] == [
        ("w1", 3, None, "error"),
        ("w2", None, "11", "segfault"),
        ("w3", 139, None, "segfault"),
    ]
    assert found["patterns"][0] == {"category": "segfault", "count": 2, "agents": ["w2", "w3"]}
    assert (found["total_crashes"], found["health_score"]) == (3, 70)


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
