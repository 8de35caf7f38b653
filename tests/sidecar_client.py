"""A client of the sidecar protocol (`/api/fleet/ws`).

Source: spec/node-protocol.md section 7.
"""

from __future__ import annotations

from typing import Any

import aiohttp

from tests.waiting import WAIT_S


class Sidecar:
    """A client of the sidecar protocol."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.serial = 0
        self.invoked: list[dict[str, Any]] = []

    async def ask(self, kind: str, /, **payload: Any) -> dict[str, Any]:
        """Send one request; its answer's payload. Invocations that come meanwhile are kept."""
        self.serial += 1
        request_id = f"fleet_{self.serial}"
        await self.socket.send_json({"v": 2, "type": kind, "request_id": request_id, "payload": payload})
        while True:
            frame = await self.socket.receive_json(timeout=WAIT_S)
            if frame["type"] == "invoke_handler":
                self.invoked.append(frame["payload"])
            else:
                assert frame["request_id"] == request_id, frame
                return {"type": frame["type"]} | frame["payload"]

    async def invocation(self) -> dict[str, Any]:
        """The next invocation."""
        if not self.invoked:
            frame = await self.socket.receive_json(timeout=WAIT_S)
            assert frame["type"] == "invoke_handler", frame
            self.invoked.append(frame["payload"])
        return self.invoked.pop(0)
