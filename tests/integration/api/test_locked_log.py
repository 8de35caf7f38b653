"""While another program holds the log's write lock: no request is taken, those under way hear of it, `/health` says so."""

from __future__ import annotations

import asyncio

import pytest

from relaybroker.adapters.http.api import broker_access
from relaybroker.node.disk import Room

CHANGES = (
    ("POST", "/api/spawn", {"name": "w9", "cli": "cat"}),
    ("DELETE", "/api/spawned/w1", {}),
    ("POST", "/api/send", {"to": "w1", "text": "hello"}),
    ("PUT", "/api/spawned/w1/delivery-mode", {"mode": "manual_flush"}),
    ("POST", "/api/spawned/w1/flush", {}),
)


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
async def test_what_would_change_something_is_refused_and_nothing_is_done(client, method, path, body):
    await client.spawn("w1")
    client.broker.locked_s = 2.0
    before = len(client.broker.offered)
    answer = await client.refused(method, path, body)
    assert (answer["statusCode"], answer["code"], answer["retryable"]) == (503, "log_locked", True)
    assert "nothing was done" in answer["message"]
    assert len(client.broker.offered) == before
    client.broker.locked_s = 0.0
    assert (await client.ask(method, path, body))[0] == 200


async def test_a_request_under_way_hears_that_it_may_still_happen(client, monkeypatch):
    monkeypatch.setattr(broker_access, "LOCK_LOOK_S", 0.01)
    await client.spawn("w1")
    client.broker.muted = True
    asked = asyncio.create_task(client.refused("POST", "/api/send", {"to": "w1", "text": "hello"}))
    await client.until(lambda: client.broker.offered[-1].__class__.__name__ == "SendRequested")
    client.broker.locked_s = broker_access.LOCKED_ANSWER_S
    answer = await asked
    assert (answer["statusCode"], answer["code"], answer["pending"]) == (503, "log_locked", True)


async def test_health_and_status_say_for_how_long(client):
    assert (await client.ask("GET", "/health"))[1]["logLockedSecs"] == 0
    client.broker.locked_s = 7.04
    status, body = await client.ask("GET", "/health")
    assert (status, body["status"], body["code"], body["logLockedSecs"]) == (200, "degraded", "log_locked", 7.0)
    assert (await client.ask("GET", "/api/status"))[1]["log_locked_secs"] == 7.0
    assert (await client.ask("GET", "/api/spawned"))[0] == 200


async def test_while_the_disk_is_full_nothing_new_is_taken_on_and_what_ends_something_is_done(client):
    await client.spawn("w1")
    client.broker.room = Room("full", 4096)
    for method, path, body in (CHANGES[0], CHANGES[2]):
        answer = await client.refused(method, path, body)
        assert (answer["statusCode"], answer["code"], answer["retryable"]) == (503, "disk_full", True)
    assert (await client.ask("GET", "/api/status"))[1]["disk"] == {"state": "full", "free_bytes": 4096}
    assert (await client.ask("GET", "/health"))[1]["code"] == "disk_full"
    assert (await client.ask(*CHANGES[4]))[0] == 200
    assert (await client.ask(*CHANGES[1]))[0] == 200
    client.broker.room = Room("nearly_full", 2**29)
    assert (await client.ask(*CHANGES[0]))[0] == 200
