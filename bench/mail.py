"""Mail for the scripted engine: numbered messages for agents, what of them is acknowledged and since when.

A message that is not acknowledged is offered again after a registration or an inventory. The engine does nothing of its own between a
frame and its acknowledgement, so that what is measured is the broker.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from typing import TYPE_CHECKING

from tests.scripted_engine import Frame, ScriptedEngine

if TYPE_CHECKING:
    from aiohttp import web


class MailEngine(ScriptedEngine):
    """`async with MailEngine() as engine:`; `post` writes a message, `send_at` sends it."""

    def __init__(self) -> None:
        super().__init__()
        self.acked: dict[str, int] = defaultdict(int)
        """Agent name -> highest acknowledged number."""
        self.ack_times: dict[tuple[str, int], int] = {}
        """(agent name, number) -> monotonic nanosecond at which it was covered by an acknowledgement."""
        self.registered_at = 0
        """Monotonic nanosecond of the last `node.register`; 0 = none since `forget_registration`."""
        self._mail: dict[str, list[str]] = defaultdict(list)

    def forget_registration(self) -> None:
        """The next broker is a new one."""
        self.registered_at = 0

    def post(self, name: str, mark: int, text: str) -> tuple[int, str]:
        """Write a message for an agent; its number and the frame to send."""
        mail = self._mail[name]
        mail.append(json.dumps(self.delivery(name, len(mail) + 1, text, msg_id=f"M{mark}")))
        return len(mail), mail[-1]

    async def send_at(self, frame: str) -> int:
        """Send a frame; the monotonic nanosecond just before."""
        now = time.monotonic_ns()
        await self.send_text(frame)
        return now

    async def _take(self, socket: web.WebSocketResponse, connection: int, frame: Frame) -> None:
        now = time.monotonic_ns()
        match frame["type"]:
            case "delivery.ack":
                self._settle(frame["agent"], frame["up_to_seq"], now)
            case "node.register":
                self.registered_at = now
                await super()._take(socket, connection, frame)
            case "agent.register":
                await super()._take(socket, connection, frame)
                await self._offer_again(frame["name"])
            case "inventory.sync":
                await super()._take(socket, connection, frame)
                for row in frame["agents"]:
                    await self._offer_again(row["name"])
            case _:
                await super()._take(socket, connection, frame)

    def _settle(self, name: str, upto: int, now: int) -> None:
        for seq in range(self.acked[name] + 1, upto + 1):
            self.ack_times[name, seq] = now
        self.acked[name] = max(upto, self.acked[name])

    async def _offer_again(self, name: str) -> None:
        for frame in self._mail[name][self.acked[name] :]:
            await self.send_text(frame)
