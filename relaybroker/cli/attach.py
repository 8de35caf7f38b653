"""`agent attach`: this terminal becomes the agent's, or with `--view` only shows it, until Ctrl-]."""

from __future__ import annotations

import asyncio
import base64
import codecs
import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any

import aiohttp
import msgspec

from relaybroker.cli.client import BrokerClient, segment
from relaybroker.cli.exits import Exit, fail

LEAVE = b"\x1d"
INPUT_QUEUE = 256
"""Chunks of typed input that may wait for the broker; then this terminal is not read until there is room."""


def run(client: BrokerClient, name: str, *, view: bool = False) -> None:
    """Attach until Ctrl-], the end of standard input, or the end of the agent. Losing the broker ends it with status 4.

    `view`: nothing is typed and the agent's terminal keeps its size.
    """
    if not sys.stdin.isatty():
        fail(Exit.USAGE, "attach needs a terminal; to type without one: relaybroker message send")
    # The number first: an end of the agent that the picture just misses is then among the events after it.
    seen = int(client.demand("GET", "/api/session")["last_seq"])
    client.demand("GET", f"/api/spawned/{segment(name)}/snapshot")
    attached = _Attached(client, name, view=view)
    with _raw():
        try:
            status, ended = asyncio.run(attached.serve(seen))
        finally:
            _write(attached.modes.off)
    sys.stdout.write(f"\r\n[{ended}]\r\n")
    sys.stdout.flush()
    if status is not Exit.DONE:
        fail(status, f"{ended}. See: relaybroker status")


class _Modes:
    """Private modes of the agent's terminal that this terminal takes over, and gives up again."""

    def __init__(self) -> None:
        self._on: list[int] = []

    def take(self, modes: list[int]) -> bytes:
        """What switches them on."""
        self._on = modes
        return "".join(f"\x1b[?{mode}h" for mode in modes).encode()

    @property
    def off(self) -> bytes:
        """What switches off those that were taken over."""
        return "".join(f"\x1b[?{mode}l" for mode in reversed(self._on)).encode()


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


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
    """One attachment: output in, keys out, size followed. The first of them that ends, ends all."""

    def __init__(self, client: BrokerClient, name: str, *, view: bool) -> None:
        self._client, self._name, self._view = client, name, view
        self.modes = _Modes()
        self._keys: asyncio.Queue[bytes] = asyncio.Queue(INPUT_QUEUE)
        self._resized = asyncio.Event()
        self._resized.set()

    async def serve(self, seen: int) -> tuple[Exit, str]:
        """Why it ended, after everything was put away."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[tuple[Exit, str]] = loop.create_future()

        def end(status: Exit, why: str) -> None:
            if not ended.done():
                ended.set_result((status, why))

        async def part(work: Coroutine[Any, Any, tuple[Exit, str]]) -> None:
            try:
                end(*await work)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                end(Exit.NO_BROKER, f"the broker stopped: {str(error) or type(error).__name__}")

        loop.add_signal_handler(signal.SIGWINCH, self._resized.set)
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, end, Exit.DONE, "detached")
        loop.add_reader(sys.stdin.fileno(), self._read)
        headers = {"X-API-Key": self._client.key}
        try:
            async with aiohttp.ClientSession(self._client.url, headers=headers) as session:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(part(work)) for work in (self._show(session, seen), self._type(session))]
                    outcome = await ended
                    for task in tasks:
                        task.cancel()
                return outcome
        finally:
            loop.remove_reader(sys.stdin.fileno())

    def _read(self) -> None:
        try:
            data = os.read(sys.stdin.fileno(), 4096)
        except OSError:  # the terminal is gone
            data = b""
        self._keys.put_nowait(data or LEAVE)
        if not data or self._keys.full():
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())

    async def _show(self, session: aiohttp.ClientSession, seen: int) -> tuple[Exit, str]:
        url = f"/ws?sinceSeq={seen}" + ("" if self._view else f"&view={segment(self._name)}")
        async with session.ws_connect(url, max_msg_size=0) as socket, self._following_size(socket):
            shown = await self._picture(session)
            async for message in socket:
                if message.type is not aiohttp.WSMsgType.TEXT:
                    break
                event: dict[str, Any] = msgspec.json.decode(message.data)
                if event.get("name") != self._name:
                    continue
                if event["kind"] == "worker_stream" and event["offset"] > shown:
                    _write(event["chunk"].encode())
                elif event["kind"] in ("agent_exited", "agent_restarting", "agent_released"):
                    return Exit.DONE, event["kind"].replace("_", " ")
        return Exit.NO_BROKER, "the broker closed the connection"

    async def _picture(self, session: aiohttp.ClientSession) -> int:
        """Show the screen as it is; how much of the output that is: what comes after it is not in it, and nothing is between."""
        async with session.get(f"/api/spawned/{segment(self._name)}/snapshot?format=ansi") as response:
            screen = await response.json()
        if response.status >= 400:
            return 0  # it has ended: the events say so
        _write(self.modes.take(screen.get("modes", [])) + base64.b64decode(screen["screen"]))
        return int(screen.get("offset", 0))

    async def _type(self, session: aiohttp.ClientSession) -> tuple[Exit, str]:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while True:
            data = await self._keys.get()
            while not self._keys.empty():
                data += self._keys.get_nowait()
            asyncio.get_running_loop().add_reader(sys.stdin.fileno(), self._read)
            keys, leave, _ = data.partition(LEAVE)
            if not self._view and (text := decoder.decode(keys)):
                async with session.post(f"/api/input/{segment(self._name)}", json={"data": text}) as response:
                    if response.status >= 400:
                        return Exit.REFUSED, f"input refused: {(await response.json())['message']}"
            if leave:
                return Exit.DONE, "detached"

    @contextlib.asynccontextmanager
    async def _following_size(self, socket: aiohttp.ClientWebSocketResponse) -> AsyncIterator[None]:
        """Say meanwhile how large this terminal is; when the socket ends the agent's has the size from before."""
        if self._view:
            yield
            return
        following = asyncio.create_task(self._follow_size(socket))
        try:
            yield
        finally:
            following.cancel()

    async def _follow_size(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        with contextlib.suppress(ConnectionError):  # whoever reads from the socket says that it is gone
            while True:
                await self._resized.wait()
                self._resized.clear()
                size = os.get_terminal_size(
                    sys.stdin.fileno()
                )  # never COLUMNS and LINES: they do not follow the window
                await socket.send_json({"kind": "size", "rows": size.lines, "cols": size.columns})
