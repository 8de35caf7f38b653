"""What is asked of the PTY host at once: no more than it takes."""

from __future__ import annotations

import asyncio

from relaybroker.adapters.sessions.host import protocol
from relaybroker.domain import effects
from relaybroker.node.host_requests import LOOK_UPS, HostRequests
from tests.waiting import WAIT_S


class Host:
    """Refuses, as the real one does, what is more than it takes at once; answers when it is told to."""

    def __init__(self) -> None:
        self.at_once = self.most = 0
        self.go_on = asyncio.Event()

    async def look_up(self, request: protocol.LookUp) -> protocol.Answer:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await self.go_on.wait()
        self.at_once -= 1
        return protocol.Answer(request_id=request.request_id, data={"outcome": "absent"})


async def test_however_many_are_in_doubt_all_are_looked_up_a_few_at_a_time():
    """A host died with the agents of a whole machine: none is settled by policy because there were many."""
    host, heard = Host(), []

    async def deliver(item):
        heard.append(item.delivery_id)

    requests = HostRequests(host, deliver)
    wanted = [f"d{number}" for number in range(5 * LOOK_UPS)]
    for delivery_id in wanted:
        requests.look_up(
            effects.LookUp(session_id="ws_1", delivery_id=delivery_id, attempt=1, door="claude_inbox", place="/notes")
        )
    async with asyncio.timeout(WAIT_S):
        while host.at_once < LOOK_UPS:
            await asyncio.sleep(0)
        host.go_on.set()
        while len(heard) < len(wanted):
            await asyncio.sleep(0)
    assert sorted(heard) == sorted(wanted)
    assert host.most == LOOK_UPS
    await requests.shut()
