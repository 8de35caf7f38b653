"""How much one engine process carries; run with `-s` to see the figure."""

import asyncio
import time

import pytest

MESSAGES = 2000
SENDERS = 32
AT_LEAST = 200.0
"""Far below what a quiet machine does (about 3500/s with two client processes): only a collapse should fail."""


@pytest.mark.slow
async def test_direct_messages_are_posted_pushed_and_acknowledged_at_a_useful_rate(engine, client):
    bob = await client.post("/v1/agents", {"name": "bob"})
    enrolled = await client.post("/v1/nodes", {"name": "host"})
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
            while arrived < MESSAGES:
                frame = await node.receive()
                if frame["type"] == "deliver":
                    arrived += 1
                    await node.send(type="delivery.ack", agent=frame["agent"], up_to_seq=frame["seq"])
            await node.settle()

        began = time.perf_counter()
        await asyncio.gather(receive(), *(post() for _ in range(SENDERS)))
        rate = MESSAGES / (time.perf_counter() - began)
    print(f"\nembedded engine: {rate:.0f} direct messages/s posted, pushed and acknowledged, one client process")
    assert rate > AT_LEAST
