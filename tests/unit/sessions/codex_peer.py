"""What a door sees of a Codex: an app-server at a Unix socket, and the rollouts of its threads."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web


class CodexPeer:
    """An app-server with threads. What it is asked is kept in `asked`; the test says what of it the rollout shows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "codex.sock"
        self.agent = "relaybroker/0.171.0 (somewhere)"
        self.threads: dict[str, dict[str, Any]] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.refusals: dict[str, dict[str, Any]] = {}
        """Method -> the error with which it is answered."""
        self.silent: set[str] = set()
        """Methods that are not answered."""
        self.open: dict[int, dict[str, Any]] = {}
        """What a person is asked, by the id of the request; told to whoever subscribes."""
        self.answered: list[tuple[int, Any]] = []
        self.subscribers: list[web.WebSocketResponse] = []
        self.turned = asyncio.Event()
        self._clients: list[web.WebSocketResponse] = []
        self._runner: web.AppRunner | None = None

    def thread(self, name: str, **other: Any) -> dict[str, Any]:
        """A new thread that its terminal shows."""
        path = str(self.folder / f"rollout-{name}.jsonl")
        self.threads[name] = {
            "id": name, "path": path, "ephemeral": False, "parentThreadId": None, "historyMode": "paginated",
            "status": {"type": "idle"},
        } | other  # fmt: skip
        return self.threads[name]

    def rollout(self, name: str = "t1") -> Path:
        return Path(self.threads[name]["path"])

    async def listen(self) -> None:
        app = web.Application()
        app.router.add_get("/", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self.socket)).start()

    async def die(self) -> None:
        if self._runner is not None:
            for client in self._clients:
                await client.close()
            await self._runner.cleanup()
            self._runner = None

    async def ask(self, identifier: int, method: str, thread: str = "t1", **values: Any) -> None:
        """A thread asks a person something; its subscribers are told at once, everybody else that it waits."""
        self.open[identifier] = {
            "method": method,
            "params": {"threadId": thread, "itemId": f"call_{identifier}"} | values,
        }
        await self.becomes("active", "waitingOnApproval", thread=thread)
        for client in self.subscribers:
            await client.send_json({"id": identifier} | self.open[identifier])

    async def becomes(self, state: str, *flags: str, thread: str = "t1") -> None:
        status = {"type": state} | ({"activeFlags": list(flags)} if state == "active" else {})
        self.threads[thread]["status"] = status
        await self.tell("thread/status/changed", threadId=thread, status=status)

    async def resolve(self, identifier: int, thread: str = "t1") -> None:
        """Somebody answered: the question is gone for everybody."""
        del self.open[identifier]
        for client in self.subscribers:
            await client.send_json({
                "method": "serverRequest/resolved", "params": {"threadId": thread, "requestId": identifier},
            })  # fmt: skip
        if not self.open:
            await self.becomes("active", thread=thread)

    async def tell(self, method: str, **values: Any) -> None:
        for client in self._clients:
            await client.send_json({"method": method, "params": values})

    async def _serve(self, request: web.Request) -> web.WebSocketResponse:
        client = web.WebSocketResponse()
        await client.prepare(request)
        self._clients.append(client)
        async for frame in client:
            if frame.type == WSMsgType.TEXT:
                await self._answer(client, json.loads(frame.data))
        return client

    async def _answer(self, client: web.WebSocketResponse, row: dict[str, Any]) -> None:
        if "method" not in row:
            self.answered.append((row["id"], row["result"]))
            await self.resolve(row["id"])
            return
        method, values = row["method"], row.get("params", {})
        self.asked.append((method, values))
        if method == "turn/start":
            self.turned.set()
        if "id" not in row or method in self.silent:
            return
        if method in self.refusals:
            await client.send_json({"id": row["id"], "error": self.refusals[method]})
        else:
            await client.send_json({"id": row["id"], "result": self._result(method, values)})
            await self._subscribe(method, client)

    async def _subscribe(self, method: str, client: web.WebSocketResponse) -> None:
        if method == "thread/resume":
            self.subscribers.append(client)
            for identifier, asked in self.open.items():
                await client.send_json({"id": identifier} | asked)
        elif method == "thread/unsubscribe":
            self.subscribers.remove(client)

    def _result(self, method: str, values: dict[str, Any]) -> dict[str, Any]:
        match method:
            case "initialize":
                return {"userAgent": self.agent}
            case "thread/loaded/list":
                return {"data": list(self.threads)}
            case "thread/read":
                return {"thread": self.threads[values["threadId"]]}
        return {"turn": {"id": "turn_1"}}

    def shows(self, *rows: dict[str, Any], thread: str = "t1") -> None:
        """Write rows into a thread's rollout."""
        with self.rollout(thread).open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)


def took(identifier: str, item: str = "item_17", kind: str = "UserMessage") -> dict[str, Any]:
    """A row that took a message."""
    return {
        "type": "event_msg",
        "payload": {"type": "item_completed", "item": {"type": kind, "id": item, "client_id": identifier}},
    }
