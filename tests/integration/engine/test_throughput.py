"""That a message costs an engine process the same however many it has carried; run with `-s` to see how many a second."""

import asyncio
import time

import psutil
import pytest

from tests.growth import DOUBLED

MESSAGES = 1500
SENDERS = 32


@pytest.mark.slow
async def test_posting_pushing_and_acknowledging_costs_the_same_however_much_went_before(engine, client):
    bob = await client.post("/v1/agents", {"name": "bob"})
    enrolled = await client.post("/v1/nodes", {"name": "host"})
    process = psutil.Process(engine.process.pid)

    def cpu_s():
        used = process.cpu_times()
        return used.user + used.system

    async with client.node(enrolled["token"]) as node:
        await node.register("host", enrolled["id"])
        names = [f"a{number}" for number in range(8)]
        for name in names:
            await node.ask(type="agent.register", name=name)
        left = iter(range(MESSAGES))

        async def post():
            for number in left:
                body = {"to": names[number % len(names)], "text": "hello there"}
                await client.post("/v1/dm", body, token=bob["token"])

        async def receive():
            arrived = 0
            half = None
            while arrived < MESSAGES:
                frame = await node.receive()
                if frame["type"] == "deliver":
                    arrived += 1
                    await node.send(type="delivery.ack", agent=frame["agent"], up_to_seq=frame["seq"])
                if arrived == MESSAGES // 2:
                    half = half or cpu_s()
            await node.settle()
            return half

        began, before = time.perf_counter(), cpu_s()
        half, *_ = await asyncio.gather(receive(), *(post() for _ in range(SENDERS)))
        rate = MESSAGES / (time.perf_counter() - began)
    print(f"\nembedded engine: {rate:.0f} direct messages/s posted, pushed and acknowledged, one client process")
    assert cpu_s() - before <= DOUBLED * (half - before)
