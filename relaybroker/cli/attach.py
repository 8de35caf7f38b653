"""`agent attach`: this terminal becomes the agent's, or with `--view` only shows it, until Ctrl-]."""

from __future__ import annotations

import asyncio
import base64
import codecs
import contextlib
import os
import re
import signal
import sys
import termios
import tty
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import aiohttp
import msgspec

from relaybroker.cli.client import BrokerClient, segment
from relaybroker.cli.exits import Exit, fail

LEAVE = b"\x1d"
INPUT_QUEUE = 256
"""Chunks of typed input that may wait for the broker; then this terminal is not read until there is room."""
FULL, FULL_PAUSE_S = 429, 0.1
"""What a program that does not read its keys is answered with, and when they are offered to it again."""
_SET_MODE = re.compile(r"\x1b\[\?([0-9;]{1,64})([hl])")
_BEGUN = re.compile(r"\x1b(?:\[(?:\?[0-9;]{0,64})?)?\Z")
"""What may become such a sequence with the next piece of output."""
_ON_BY_DEFAULT = frozenset({7, 25})
"""Private modes that every terminal has on: wrapping, and the cursor that is shown."""


class Ended(NamedTuple):
    """How an attachment ended: the status of a command that is nothing else, why, and the event that said so."""

    status: Exit
    why: str
    event: Mapping[str, Any] = MappingProxyType({})


def run(client: BrokerClient, name: str, *, view: bool = False) -> None:
    """Attach until Ctrl-], the end of standard input, or the end of the agent. Losing the broker ends it with status 4.

    `view`: nothing is typed and the agent's terminal keeps its size.
    """
    if not sys.stdin.isatty():
        fail(Exit.USAGE, "attach needs a terminal; to type without one: relaybroker message send")
    # The number first: an end of the agent that the picture just misses is then among the events after it.
    seen = int(client.demand("GET", "/api/session")["last_seq"])
    client.demand("GET", f"/api/spawned/{segment(name)}/snapshot")
    attached = Attached(client, name, seen=seen, view=view, leave=LEAVE)
    with raw_terminal(attached.modes):
        ended = asyncio.run(attached.serve())
    sys.stdout.write(f"\r\n[{ended.why}]\r\n")
    sys.stdout.flush()
    if ended.status is not Exit.DONE:
        fail(ended.status, f"{ended.why}. See: relaybroker status")


class Modes:
    """Private modes that the agent's output sets in this terminal, and what sets them back."""

    def __init__(self) -> None:
        self._now: dict[int, bool] = {}
        self._begun = ""

    def take(self, modes: list[int]) -> bytes:
        """What switches on the modes of a picture, and off what is on without being among them."""
        former = self.back
        self._now = dict.fromkeys(modes, True)
        return former + "".join(f"\x1b[?{mode}h" for mode in modes).encode()

    def follow(self, output: str) -> None:
        """Note what a piece of output sets."""
        text = self._begun + output
        for numbers, how in _SET_MODE.findall(text):
            self._now |= {int(number): how == "h" for number in numbers.split(";") if number}
        begun = _BEGUN.search(text)
        self._begun = begun.group() if begun else ""

    @property
    def back(self) -> bytes:
        """What sets back every mode that is not as a terminal has it; the newest first."""
        changed = [mode for mode, is_on in self._now.items() if is_on != (mode in _ON_BY_DEFAULT)]
        return "".join(f"\x1b[?{mode}{'h' if mode in _ON_BY_DEFAULT else 'l'}" for mode in reversed(changed)).encode()


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


@contextlib.contextmanager
def raw_terminal(modes: Modes) -> Iterator[None]:
    """This terminal in raw mode; afterwards as it was, without what output has set in it."""
    before = termios.tcgetattr(sys.stdin.fileno())
    tty.setraw(sys.stdin.fileno())
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # the terminal is gone
            _write(modes.back + b"\x1b[0m")
        with contextlib.suppress(OSError, termios.error):
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, before)


class Attached:
    """One attachment: output in, keys out, size followed. The first of them that ends, ends all. It may be served again.

    Args:
        client: the broker.
        name: of the agent.
        seen: number of the newest event that is not news.
        view: nothing is typed, and the agent's terminal keeps its size.
        leave: the key that ends it; empty = none.
    """

    def __init__(self, client: BrokerClient, name: str, *, seen: int, view: bool = False, leave: bytes = b"") -> None:
        self.client = client
        self._name, self._seen, self._view, self._leave = name, seen, view, leave
        self.modes = Modes()
        self._unsent = ""
        """Typed while no broker was there."""
        self._keys: asyncio.Queue[bytes] = asyncio.Queue(INPUT_QUEUE)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._resized = asyncio.Event()

    async def serve(self) -> Ended:
        """Why it ended, after everything was put away."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Ended] = loop.create_future()

        def end(how: Ended) -> None:
            if not ended.done():
                ended.set_result(how)

        async def part(work: Coroutine[Any, Any, Ended]) -> None:
            try:
                end(await work)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                end(Ended(Exit.NO_BROKER, f"the broker stopped: {str(error) or type(error).__name__}"))

        self._resized.set()
        loop.add_signal_handler(signal.SIGWINCH, self._resized.set)
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, end, Ended(Exit.DONE, "detached", {"kind": "signal", "signal": number}))
        loop.add_reader(sys.stdin.fileno(), self._read)
        headers = {"X-API-Key": self.client.key}
        try:
            async with aiohttp.ClientSession(self.client.url, headers=headers) as session:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(part(work)) for work in (self._show(session), self._type(session))]
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
        self._keys.put_nowait(data)
        if not data or self._keys.full():
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())

    async def _show(self, session: aiohttp.ClientSession) -> Ended:
        url = f"/ws?sinceSeq={self._seen}" + ("" if self._view else f"&view={segment(self._name)}")
        async with session.ws_connect(url, max_msg_size=0) as socket, self._following_size(socket):
            shown = await self._picture(session)
            async for message in socket:
                if message.type is not aiohttp.WSMsgType.TEXT:
                    break
                event: dict[str, Any] = msgspec.json.decode(message.data)
                self._seen = max(self._seen, event.get("seq", 0))
                if event.get("name") != self._name:
                    continue
                if event["kind"] == "worker_stream" and event["offset"] > shown:
                    self.modes.follow(event["chunk"])
                    _write(event["chunk"].encode())
                elif event["kind"] in ("agent_exited", "agent_restarting", "agent_released"):
                    return Ended(Exit.DONE, event["kind"].replace("_", " "), event)
        return Ended(Exit.NO_BROKER, "the broker closed the connection")

    async def _picture(self, session: aiohttp.ClientSession) -> int:
        """Show the screen as it is; how much of the output that is: what comes after it is not in it, and nothing is between."""
        async with session.get(f"/api/spawned/{segment(self._name)}/snapshot?format=ansi") as response:
            screen = await response.json()
        if response.status >= 400:
            return 0  # it has ended: the events say so
        _write(self.modes.take(screen.get("modes", [])) + base64.b64decode(screen["screen"]))
        return int(screen.get("offset", 0))

    async def _type(self, session: aiohttp.ClientSession) -> Ended:
        if self._unsent and (refused := await self._send(session, self._unsent)):
            return refused
        while True:
            taken = [await self._keys.get()]
            while not self._keys.empty():
                taken.append(self._keys.get_nowait())
            is_over = b"" in taken
            if not is_over:
                asyncio.get_running_loop().add_reader(sys.stdin.fileno(), self._read)
            keys, leave, _ = b"".join(taken).partition(self._leave) if self._leave else (b"".join(taken), b"", b"")
            text = self._decoder.decode(keys)
            if text and not self._view and (refused := await self._send(session, text)):
                return refused
            if leave or is_over:
                return Ended(Exit.DONE, "detached")

    async def _send(self, session: aiohttp.ClientSession, text: str) -> Ended | None:
        """Type a text; how that ended the attachment, if it did. What no broker can have had is kept for the next one."""
        self._unsent = ""
        try:
            while True:
                async with session.post(f"/api/input/{segment(self._name)}", json={"data": text}) as response:
                    if response.status < 400:
                        return None
                    if response.status != FULL:
                        return Ended(Exit.REFUSED, f"input refused: {(await response.json())['message']}")
                await asyncio.sleep(FULL_PAUSE_S)
        except aiohttp.ClientConnectorError:
            self._unsent = text
            raise

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
