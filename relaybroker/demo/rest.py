"""The demo's own view of engine and broker: their public REST APIs."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp


class Rest:
    """Talks to the engine as an agent called planner, and to the broker's local API.

    Args:
        state: the broker's state directory.
    """

    def __init__(self, state: Path) -> None:
        self._state = state
        self._planner = ""
        self._workspace = ""
        self._engine = ""

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30))
        session = await self._local("GET", "/api/session")
        self._workspace = session["workspace_key"]
        ready = await asyncio.to_thread((self._state / "engine" / "ready.json").read_text)
        self._engine = json.loads(ready)["url"]
        made = await self._ask("POST", "/v1/agents", self._workspace, {"name": "planner"})
        self._planner = made["token"]
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def _ask(self, method: str, path: str, token: str, body: dict[str, Any] | None = None) -> Any:
        headers = {"Authorization": f"Bearer {token}"}
        async with self._session.request(method, self._engine + path, json=body, headers=headers) as response:
            answer = await response.json()
        if not answer["ok"]:
            raise SystemExit(f"relaybroker: the engine refused {method} {path}: {answer['error']}")
        return answer["data"]

    async def _local(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        text = await asyncio.to_thread((self._state / "connection.json").read_text)
        connection = json.loads(text)
        headers = {"X-API-Key": connection["api_key"]}
        async with self._session.request(method, connection["url"] + path, json=body, headers=headers) as response:
            answer = await response.json()
        if response.status >= 300:
            raise SystemExit(f"relaybroker: the broker refused {method} {path}: {answer['message']}")
        return answer

    async def spawn(self, name: str, command: str, channel: str) -> tuple[int, str]:
        """Start an agent; its pid and agent id."""
        answer = await self._local("POST", "/api/spawn", {"name": name, "cli": command, "channels": [channel]})
        return int(answer["pid"]), str(answer["agent_id"])

    async def status(self) -> Any:
        """The broker's status."""
        return await self._local("GET", "/api/status")

    async def direct(self, to: str, text: str) -> str:
        """Post a direct message; its id."""
        return str((await self._ask("POST", "/v1/dm", self._planner, {"to": to, "text": text}))["id"])

    async def channel(self, name: str, text: str) -> str:
        """Post a channel message; its id."""
        return str((await self._ask("POST", f"/v1/channels/{name}/messages", self._planner, {"text": text}))["id"])

    async def reply(self, message: str, text: str) -> str:
        """Reply in a thread; the reply's id."""
        return str((await self._ask("POST", f"/v1/messages/{message}/replies", self._planner, {"text": text}))["id"])

    async def wait_for_answer(self, sender: str, limit_s: float) -> str:
        """The text of the newest direct message from an agent to planner."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            inbox = await self._ask("GET", "/v1/inbox", self._planner)
            for row in inbox["unread_dms"]:
                if row["from"] == sender and row["last_message"]:
                    return str(row["last_message"]["text"])
            await asyncio.sleep(0.05)
        raise SystemExit(f"relaybroker: {sender} did not answer")

    async def thread(self, root: str) -> list[tuple[str, str, str]]:
        """A message and every answer in its thread, as the engine has them: id, author, text."""
        thread = await self._ask("GET", f"/v1/messages/{root}/replies", self._workspace)
        return [(row["id"], row["agent_name"], row["text"]) for row in (thread["parent"], *thread["replies"])]

    async def unread(self, messages: dict[str, list[str]]) -> int:
        """How many of these deliveries the engine does not show as read (acknowledged) by their recipients."""
        limit = asyncio.Semaphore(16)

        async def one(message: str, names: list[str]) -> int:
            async with limit:
                rows = await self._ask("GET", f"/v1/messages/{message}/readers", self._workspace)
            return len(set(names) - {row["agent_name"] for row in rows})

        return sum(await asyncio.gather(*(one(message, names) for message, names in messages.items())))
