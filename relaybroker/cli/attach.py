"""`agent attach`: this terminal becomes the agent's, until Ctrl-]."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from typing import Any

import aiohttp
import msgspec

from relaybroker.cli.client import BrokerClient, segment
from relaybroker.cli.exits import Exit, fail

LEAVE = b"\x1d"
INPUT_QUEUE = 256
"""Chunks of typed input that may wait for the broker."""


def run(client: BrokerClient, name: str) -> None:
    """Attach until Ctrl-], the end of standard input, or the end of the agent."""
    screen = client.demand("GET", f"/api/spawned/{segment(name)}/snapshot?format=ansi")
    if not sys.stdin.isatty():
        fail(Exit.USAGE, "attach needs a terminal")
    with _raw():
        sys.stdout.buffer.write(base64.b64decode(screen["screen"]))
        sys.stdout.buffer.flush()
        ended = asyncio.run(_Attached(client, name).serve())
    sys.stdout.write(f"\r\n[{ended}]\r\n")


@contextlib.contextmanager
def _raw() -> Iterator[None]:
    """This terminal in raw mode, as it was afterwards."""
    before = termios.tcgetattr(sys.stdin.fileno())
    tty.setraw(sys.stdin.fileno())
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, before)


class _Attached:
    """One attachment: output in, keys out, size followed."""

    def __init__(self, client: BrokerClient, name: str) -> None:
        self._client, self._name = client, name
        self._keys: asyncio.Queue[bytes] = asyncio.Queue(INPUT_QUEUE)
        self._ended: asyncio.Future[str] | None = None

    async def serve(self) -> str:
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        loop.add_reader(sys.stdin.fileno(), self._read)
        headers = {"X-API-Key": self._client.key}
        async with aiohttp.ClientSession(self._client.url, headers=headers) as session:
            seen = await self._last_seq(session)
            tasks = [
                asyncio.create_task(self._show(session, seen)),
                asyncio.create_task(self._type(session)),
            ]
            self._follow_size(loop, session)
            try:
                return await self._ended
            finally:
                loop.remove_reader(sys.stdin.fileno())
                loop.remove_signal_handler(signal.SIGWINCH)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    def _read(self) -> None:
        data = os.read(sys.stdin.fileno(), 4096)
        if not data or LEAVE in data:
            self._end("detached")
            return
        with contextlib.suppress(asyncio.QueueFull):
            self._keys.put_nowait(data)

    def _end(self, why: str) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(why)

    @staticmethod
    async def _last_seq(session: aiohttp.ClientSession) -> int:
        async with session.get("/api/session") as response:
            return int((await response.json())["last_seq"])

    async def _show(self, session: aiohttp.ClientSession, seen: int) -> None:
        async with session.ws_connect(f"/ws?sinceSeq={seen}") as socket:
            async for message in socket:
                event: dict[str, Any] = msgspec.json.decode(message.data)
                if event.get("name") != self._name:
                    continue
                if event["kind"] == "worker_stream":
                    sys.stdout.buffer.write(event["chunk"].encode())
                    sys.stdout.buffer.flush()
                elif event["kind"] in ("agent_exited", "agent_released"):
                    self._end(event["kind"].replace("_", " "))
        self._end("the broker closed the connection")

    async def _type(self, session: aiohttp.ClientSession) -> None:
        while True:
            data = await self._keys.get()
            while not self._keys.empty():
                data += self._keys.get_nowait()
            body = {"data": data.decode("utf-8", "replace")}
            async with session.post(f"/api/input/{segment(self._name)}", json=body) as response:
                if response.status >= 400:
                    self._end(f"input refused: {(await response.json())['message']}")
                    return

    def _follow_size(self, loop: asyncio.AbstractEventLoop, session: aiohttp.ClientSession) -> None:
        async def tell() -> None:
            size = shutil.get_terminal_size()
            body = {"rows": size.lines, "cols": size.columns}
            async with session.post(f"/api/resize/{segment(self._name)}", json=body):
                pass

        tasks: set[asyncio.Task[None]] = set()

        def resized() -> None:
            task = loop.create_task(tell())
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        loop.add_signal_handler(signal.SIGWINCH, resized)
        resized()
