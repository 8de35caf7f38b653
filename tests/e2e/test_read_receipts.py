"""A message is read at the engine when the agent's terminal has it, and not before."""

from __future__ import annotations

import asyncio

from tests.waiting import WAIT_S


async def _readers(deployment, message):
    rows = await deployment.ask_engine("GET", f"/v1/messages/{message}/readers", deployment.workspace)
    return [row["agent_name"] for row in rows]


async def _until_read(deployment, message):
    async with asyncio.timeout(WAIT_S):
        while not (readers := await _readers(deployment, message)):
            await asyncio.sleep(0.02)
    return readers


async def test_the_acknowledgement_is_the_read_receipt(deployment):
    """ADR-0032: what a person holds is unread; once it was typed it is read, once, by the agent."""
    await deployment.spawn("ann")
    first = await deployment.post("ann", "typed at once")
    assert await _until_read(deployment, first) == ["ann"]
    mode = "/api/spawned/ann/delivery-mode"
    assert (await deployment.api("PUT", mode, {"mode": "manual_flush"}))[0] == 200
    held = await deployment.post("ann", "held")
    await deployment.until_api(lambda status: status["pending_delivery_count"] == 1, "it is held")
    assert await _readers(deployment, held) == []
    assert (await deployment.api("PUT", mode, {"mode": "auto_inject"}))[1]["flushed"] == 1
    assert await _until_read(deployment, held) == ["ann"]
    assert deployment.received("ann") == [first, held]
