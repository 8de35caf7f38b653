"""What the local API answers before and after it opens, and at its end."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys

import aiohttp
import pytest

from relaybroker.domain import inputs
from tests.waiting import WAIT_S


async def test_until_it_opens_everything_but_health_is_a_plain_text_503(starting):
    for method, path in (("GET", "/api/session"), ("POST", "/api/spawn"), ("GET", "/ws"), ("GET", "/nowhere")):
        async with starting.http.request(method, starting.url + path, headers=starting.headers) as response:
            assert response.status == 503
            assert response.reason == "Service Unavailable"
            assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
            assert response.headers["Connection"] == "close"
            assert await response.text() == "Broker is starting, please retry"


async def test_who_asks_for_the_agents_of_a_broker_that_cannot_say_gets_an_error_and_no_empty_list(starting):
    """F060, TRUE-ANSWER: over HTTP and from the command, which then ends with a status of its own."""
    async with starting.http.get(f"{starting.url}/api/spawned", headers=starting.headers) as response:
        assert response.status == 503
        assert "[]" not in await response.text()
    asked = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "relaybroker", "agent", "ls", "--json"],
        env=os.environ | {"RELAY_BROKER_URL": starting.url, "RELAY_BROKER_API_KEY": starting.headers["X-API-Key"]},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    error = json.loads(asked.stdout)["error"]
    assert (asked.returncode, error["status"], error["code"]) == (4, 4, "starting")


async def test_an_engine_that_is_away_takes_no_agent_off_the_list(client):
    """F060: the agents of this node are known here; that the engine is away is said beside them."""
    await client.spawn("w1")
    client.broker.tell(inputs.LinkClosed(dial=client.broker.state.link.dial, code=1006, detail="eof"))
    status, listed = await client.ask("GET", "/api/spawned")
    assert (status, [row["name"] for row in listed["agents"]]) == (200, ["w1"])
    assert (await client.ask("GET", "/api/status"))[1]["link"]["state"] == "backing_off"


async def test_health_answers_during_start_up_with_the_same_shape(starting):
    status, body = await starting.ask("GET", "/health")
    assert status == 200
    assert body["status"] == "degraded"
    assert body["memberships"] == []
    assert body["relaycastConnected"] is False


async def test_opening_answers_everything(client):
    status, body = await client.ask("GET", "/api/session")
    assert status == 200
    assert body["protocol_version"] == 2


async def test_a_second_bind_works_after_a_first_one_failed(starting):
    taken = int(starting.url.rpartition(":")[2])
    with pytest.raises(OSError, match="address"):
        await starting.api.bind("127.0.0.1", taken)
    port = await starting.api.bind("127.0.0.1", 0)
    assert port not in (0, taken)
    async with starting.http.get(f"http://127.0.0.1:{port}/health") as response:
        assert response.status == 200


async def test_the_end_answers_waiting_requests_with_503_and_closes_sockets_with_1001(client):
    client.broker.engine_registers = False
    async with client.socket() as socket:
        waiting = asyncio.create_task(client.refused("POST", "/api/spawn", {"name": "w1", "cli": "cat"}))
        await client.until(lambda: bool(client.broker.offered), "the spawn was asked")
        closing = asyncio.create_task(client.api.close())
        answer = await asyncio.wait_for(waiting, WAIT_S)
        assert (answer["statusCode"], answer["code"]) == (503, "shutting_down")
        async for _message in socket:
            pass
        assert socket.close_code == 1001
        await asyncio.wait_for(closing, WAIT_S)
    with pytest.raises(aiohttp.ClientConnectionError):
        await client.ask("GET", "/health")


async def test_the_end_waits_for_no_client_that_reads_nothing(client):
    async with client.http.ws_connect(f"{client.url}/ws", headers=client.headers, autoclose=False):
        await client.until(lambda: len(client.api._events) == 1)
        await asyncio.wait_for(client.api.close(), WAIT_S)


async def test_shutdown_is_answered_before_it_is_asked_for(client):
    status, body = await client.ask("POST", "/api/shutdown")
    assert (status, body) == (200, {"status": "shutting_down"})
    await client.until(lambda: client.shutdowns == ["api_shutdown"])
