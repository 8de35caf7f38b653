"""Routes about held messages (local-api.md routes 10 to 12) and dead letters (ADR-0021)."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from relaybroker.domain.delivery import MAX_BODY_BYTES

MODE = "/api/spawned/w1/delivery-mode"


def deliver(client, name, seq, text, msg_id=""):
    """The engine pushes a message."""
    agent_id = client.broker.state.registration_of(name).agent_id
    msg_id = msg_id or f"{name}-{seq}"
    client.broker._frame(
        client.broker.state.link.dial,
        {
            "type": "deliver",
            "agent": name,
            "agent_id": agent_id,
            "delivery_id": f"del/{msg_id}",
            "msg_id": msg_id,
            "seq": seq,
            "mode": "steer",
            "payload": {
                "type": "message.created",
                "data": {"agent_name": "alice", "text": text, "channel_name": "general", "thread_id": "77"},
            },
        },
    )


async def pending(client, count):
    """What is held, as soon as it is so much."""

    def holds():
        return sum(item.reason == "manual_flush" for item in client.broker.state.deliveries.values()) == count

    await client.until(holds, f"{count} held")
    status, answer = await client.ask("GET", "/api/spawned/w1/pending")
    assert status == 200
    messages = answer["pending"]
    assert len(messages) == count
    return messages


async def letters(client, count, query=""):
    await client.until(lambda: len(client.broker.state.dead_letters) == count, f"{count} dead letters")
    return (await client.ask("GET", f"/api/dead-letters{query}"))[1]["dead_letters"]


BIG = "x" * (MAX_BODY_BYTES + 1)


async def test_the_mode_is_auto_inject_until_somebody_sets_it(client):
    await client.spawn("w1")
    assert await client.ask("GET", MODE) == (200, {"mode": "auto_inject", "held": 0, "revision": 0})
    status, answer = await client.ask("PUT", MODE, {"mode": " Manual_Flush ", "reason": "I drive"})
    assert (status, answer["mode"], answer["flushed"], answer["held"]) == (200, "manual_flush", 0, 0)
    assert (await client.ask("GET", MODE))[1]["mode"] == "manual_flush"
    (listed,) = (await client.ask("GET", "/api/spawned"))[1]["agents"]
    assert listed["delivery_mode"] == "manual_flush"


async def test_held_messages_are_listed_with_the_keys_that_clients_read(client):
    await client.spawn("w1")
    await client.ask("PUT", MODE, {"mode": "manual_flush"})
    deliver(client, "w1", 1, "status?")
    (held,) = await pending(client, 1)
    assert {key: held[key] for key in ("from", "body", "target", "mode", "thread_id", "workspace_id")} == {
        "from": "alice",
        "body": "status?",
        "target": "#general",
        "mode": "steer",
        "thread_id": "77",
        "workspace_id": "ws_1",
    }
    assert (held["event_id"], held["delivery_id"]) == ("w1-1", "del/w1-1")
    assert isinstance(held["queued_at_ms"], int)
    assert held["until_ms"] > held["held_since_ms"] >= held["queued_at_ms"]
    assert "priority" not in held, "absent optionals are omitted"
    open_ones = (await client.ask("GET", "/api/status"))[1]["pending_deliveries"]
    assert [(item["held"], item["last_error"]) for item in open_ones] == [(True, "manual_flush")]


async def test_a_flush_lets_through_what_is_held_and_keeps_the_mode(client):
    await client.spawn("w1")
    await client.ask("PUT", MODE, {"mode": "manual_flush"})
    deliver(client, "w1", 1, "one")
    deliver(client, "w1", 2, "two")
    await pending(client, 2)
    assert await client.ask("POST", "/api/spawned/w1/flush") == (200, {"flushed": 2, "failed": 0, "remaining": 0})
    await client.until(lambda: client.broker.state.counters.acked == 2, "both are acknowledged")
    assert (await client.ask("GET", MODE))[1]["mode"] == "manual_flush"
    assert await client.ask("POST", "/api/spawned/w1/flush", {}) == (200, {"flushed": 0, "failed": 0, "remaining": 0})


async def test_going_back_to_auto_inject_drains_before_the_answer_and_is_announced_in_order(client):
    """U12; the drive client counts `delivery_queued` and takes `agent_pending_drained` as zero."""
    await client.spawn("w1")
    await client.ask("PUT", MODE, {"mode": "manual_flush"})
    deliver(client, "w1", 1, "one")
    await pending(client, 1)
    _, answer = await client.ask("PUT", MODE, {"mode": "auto_inject"})
    assert (answer["mode"], answer["flushed"], answer["held"]) == ("auto_inject", 1, 0)
    await client.until(lambda: client.broker.state.counters.acked == 1, "acknowledged")
    events = (await client.ask("GET", "/api/events/replay?sinceSeq=0"))[1]["events"]
    kinds = [item["kind"] for item in events]
    wanted = (
        "agent_inbound_delivery_mode_changed", "relay_inbound", "delivery_queued",
        "agent_inbound_delivery_mode_changed", "agent_pending_drained", "delivery_injected",
    )  # fmt: skip
    assert [kind for kind in kinds if kind in wanted] == list(wanted)
    assert (
        next(item for item in events if item["kind"] == "delivery_queued")["reason"] == "inbound_delivery_manual_flush"
    )


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "delivery-mode", None),
        ("PUT", "delivery-mode", {"mode": "manual_flush"}),
        ("GET", "pending", None),
        ("POST", "flush", None),
    ],
)
async def test_an_agent_that_is_not_there_is_a_404_and_names_are_read_whatever_their_spelling(
    client, method, path, body
):
    await client.spawn("w1")
    answer = await client.refused(method, f"/api/spawned/ghost/{path}", body)
    assert (answer["statusCode"], answer["code"], answer["name"]) == (404, "agent_not_found", "ghost")
    status, _ = await client.ask(method, f"/api/spawned/W1/{path}", body)
    assert status == 200


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"mode": "sometimes"}, "invalid_mode"),
        ({}, "missing_field"),
        ({"mode": 1}, "invalid_field"),
        ({"mode": "manual_flush", "revision": "7"}, "invalid_field"),
    ],
)
async def test_a_bad_mode_is_refused_and_changes_nothing(client, body, code):
    await client.spawn("w1")
    answer = await client.refused("PUT", MODE, body)
    assert (answer["statusCode"], answer["code"]) == (400, code)
    assert (await client.ask("GET", MODE))[1]["mode"] == "auto_inject"


async def test_a_mode_that_somebody_else_set_meanwhile_is_not_undone(client):
    """F124."""
    await client.spawn("w1")
    revision = (await client.ask("PUT", MODE, {"mode": "manual_flush"}))[1]["revision"]
    answer = await client.refused("PUT", MODE, {"mode": "auto_inject", "revision": revision + 1})
    assert (answer["statusCode"], answer["code"], answer["mode"]) == (409, "revision_conflict", "manual_flush")
    assert (await client.ask("PUT", MODE, {"mode": "auto_inject", "revision": revision}))[0] == 200


async def test_dead_letters_are_listed_without_and_shown_with_their_words(client):
    await client.spawn("w1")
    await client.spawn("w2")
    deliver(client, "w1", 1, "y" + BIG)
    deliver(client, "w2", 1, BIG)
    rows = await letters(client, 2)
    assert [(row["id"], row["name"], row["reason"], row["in_doubt"], row["attempt"]) for row in rows] == [
        ("del/w1-1", "w1", "too_large", False, 1),
        ("del/w2-1", "w2", "too_large", False, 1),
    ]
    assert all("body" not in row for row in rows)
    assert [row["id"] for row in await letters(client, 2, "?agent=w2")] == ["del/w2-1"]
    status, shown = await client.ask("GET", f"/api/dead-letters/{quote('del/w1-1', safe='')}")
    assert (status, shown["dead_letter"]["body"][:2], shown["dead_letter"]["body_bytes"]) == (200, "yx", len(BIG) + 1)
    assert (await client.refused("GET", "/api/dead-letters/none"))["code"] == "not_found"
    assert (await client.ask("GET", "/health"))[1]["deadLetterCount"] == 2
    assert (await client.ask("GET", "/api/status"))[1]["dead_letter_count"] == 2


async def test_what_cannot_be_redelivered_stays_and_says_why(client):
    """F029, F030: one that is named is refused; among all it is skipped."""
    await client.spawn("w1")
    deliver(client, "w1", 1, BIG)
    await letters(client, 1)
    answer = await client.refused("POST", "/api/dead-letters/redeliver", {"id": "del/w1-1"})
    assert (answer["statusCode"], answer["code"], answer["id"]) == (409, "too_large", "del/w1-1")
    status, every = await client.ask("POST", "/api/dead-letters/redeliver", {"all": True, "force": True})
    assert (status, every["redelivered"], [row["code"] for row in every["skipped"]]) == (200, [], ["too_large"])
    await client.ask("DELETE", "/api/spawned/w1")
    assert len(await letters(client, 1)) == 1


async def test_a_letter_in_doubt_is_redelivered_by_force_only_and_is_then_gone(client):
    """F030."""
    await client.spawn("w1")
    client.broker.is_touched = True
    deliver(client, "w1", 1, "perhaps")
    (row,) = await letters(client, 1)
    assert (row["reason"], row["in_doubt"]) == ("ambiguous", True)
    client.broker.is_touched = False
    answer = await client.refused("POST", "/api/dead-letters/redeliver", {"id": row["id"]})
    assert (answer["statusCode"], answer["code"]) == (409, "ambiguous")
    status, answer = await client.ask("POST", "/api/dead-letters/redeliver", {"ids": [row["id"]], "force": True})
    assert (status, answer["skipped"]) == (200, [])
    assert answer["redelivered"] == [{"id": "del/w1-1", "attempt": 2, "name": "w1", "event_id": "w1-1"}]
    assert await letters(client, 0) == []
    await client.until(lambda: client.broker.state.counters.typed == 1, "typed")
    assert (await client.refused("POST", "/api/dead-letters/redeliver", {"id": row["id"]}))["statusCode"] == 404


async def test_purging_takes_one_or_all_off_the_list(client):
    await client.spawn("w1")
    for seq in (1, 2, 3):
        deliver(client, "w1", seq, BIG)
    await letters(client, 3)
    assert (await client.ask("POST", "/api/dead-letters/purge", {"id": "del/w1-2"}))[1]["purged"] == ["del/w1-2"]
    assert (await client.refused("POST", "/api/dead-letters/purge", {"id": "del/w1-2"}))["statusCode"] == 404
    _, answer = await client.ask("POST", "/api/dead-letters/purge", {"all": True, "agent": "w1"})
    assert answer["purged"] == ["del/w1-1", "del/w1-3"]
    assert await letters(client, 0) == []


@pytest.mark.parametrize("path", ["redeliver", "purge"])
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"id": "a", "all": True},
        {"agent": "w1"},
        {"id": "a", "agent": "w1"},
        {"ids": [""]},
        {"id": 1},
        {"all": "yes"},
    ],
)
async def test_a_request_must_say_exactly_which_letters_it_means(client, path, body):
    assert (await client.refused("POST", f"/api/dead-letters/{path}", body))["statusCode"] == 400


async def test_a_purge_takes_no_force(client):
    """B15: never accepted and ignored."""
    answer = await client.refused("POST", "/api/dead-letters/purge", {"all": True, "force": True})
    assert (answer["code"], answer["field"]) == ("invalid_field", "force")
