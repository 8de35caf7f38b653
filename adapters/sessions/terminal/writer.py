"""The only hand on the keyboard of one program: text of injections, keys of a person, answers to terminal queries.

While an injection holds the keyboard nothing else is typed; what comes meanwhile waits (keys) or waits boundedly and is
dropped when too many (query answers). A write that the terminal does not take goes on when it can, and fails when
nothing was taken for `NO_PROGRESS_S`. Source: node-protocol.md 6.2, 6.6; SAFE-KEYS; F076-F079, F086.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections import deque
from typing import TYPE_CHECKING

from relaybroker.adapters.sessions.host import tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHUNK_BYTES = 1024
MAX_KEYS_BYTES = 1024 * 1024
MAX_KEYS_ENTRIES = 1024
MAX_ANSWERS = 128
NO_PROGRESS_S = 10.0

_UTF8_CONTINUATION = 0x80


class WriteError(Exception):
    """The terminal did not take the bytes. `written` of them are in it."""

    def __init__(self, detail: str, written: int) -> None:
        super().__init__(detail)
        self.written = written


class KeyboardFull(Exception):  # noqa: N818  # a state, told to the person as `queue_full`
    """More keys wait than are kept."""


class TerminalWriter:
    """Writes to the non-blocking master side `fd` of one terminal, from the event loop's thread."""

    def __init__(self, fd: int, *, no_progress_s: float = NO_PROGRESS_S) -> None:
        self._fd = fd
        self._no_progress_s = no_progress_s
        self._held = False
        self._closed = False
        self._keys: deque[tuple[bytes, Callable[[str], None]]] = deque()
        self._keys_bytes = 0
        self._answers: deque[bytes] = deque()
        self._pump: asyncio.Task[None] | None = None
        self._waiting: asyncio.Future[None] | None = None

    # --- keys of a person and answers to queries ---------------------------------------------------------------------

    def keys(self, data: bytes, done: Callable[[str], None]) -> None:
        """Type `data` verbatim when the keyboard is free; `done("")` when it is in the terminal, else `done(code)`.

        Raises KeyboardFull when too much waits already.
        """
        if self._keys_bytes + len(data) > MAX_KEYS_BYTES or len(self._keys) >= MAX_KEYS_ENTRIES:
            raise KeyboardFull
        if self._closed:
            done("worker_disappeared")
            return
        self._keys.append((data, done))
        self._keys_bytes += len(data)
        self._start_pump()

    def answer(self, data: bytes) -> None:
        """Type an answer to a terminal query when the keyboard is free; dropped when 128 wait."""
        if len(self._answers) < MAX_ANSWERS and not self._closed:
            self._answers.append(data)
            self._start_pump()

    def _start_pump(self) -> None:
        if self._pump is None and not self._held:
            self._pump = tasks.start(self._type_waiting())

    async def _type_waiting(self) -> None:
        try:
            while (self._answers or self._keys) and not self._held:
                if self._answers:
                    await self._answer_one()
                else:
                    await self._keys_one()
        finally:
            self._pump = None

    async def _answer_one(self) -> None:
        data = self._answers.popleft()
        try:
            await self.write(data)
        except WriteError:
            self._answers.clear()  # a program that does not read does not wait for the answer either

    async def _keys_one(self) -> None:
        data, done = self._keys.popleft()
        try:
            await self.write(data)
        except WriteError:
            done("worker_disappeared" if self._closed else "pty_write_failed")
        else:
            done("")
        finally:
            self._keys_bytes -= len(data)

    # --- injections --------------------------------------------------------------------------------------------------

    async def hold(self) -> None:
        """Take the keyboard: returns when nothing else is being typed. Ends with `release`."""
        self._held = True
        if self._pump is not None:
            await asyncio.wait([self._pump])

    def release(self) -> None:
        """Give the keyboard back; what waited is typed now."""
        self._held = False
        if (self._keys or self._answers) and not self._closed:
            self._start_pump()

    async def write(self, data: bytes) -> int:
        """Write all of `data`; returns its length. Raises WriteError, also when the terminal is closed meanwhile."""
        written = 0
        for chunk in chunks(data):
            sent = 0
            while sent < len(chunk):
                try:
                    count = 0 if self._closed else os.write(self._fd, chunk[sent:])
                except BlockingIOError:
                    count = 0
                except OSError as error:
                    if error.errno == errno.EINTR:
                        continue
                    raise WriteError(f"write: {error.strerror}", written) from error
                if self._closed:
                    raise WriteError("the terminal was closed", written)
                sent += count
                written += count
                if sent < len(chunk):
                    await self._writable(written)
        return written

    async def _writable(self, written: int) -> None:
        loop = asyncio.get_running_loop()
        self._waiting = loop.create_future()
        loop.add_writer(self._fd, _resolve, self._waiting)
        try:
            async with asyncio.timeout(self._no_progress_s):
                await self._waiting
        except TimeoutError:
            raise WriteError(f"the program took nothing for {self._no_progress_s:g} s", written) from None
        finally:
            if not self._closed:
                loop.remove_writer(self._fd)
            self._waiting = None

    def close(self) -> None:
        """No byte is written from now on; what waits ends with `worker_disappeared`. Call before the fd is closed."""
        self._closed = True
        if self._waiting is not None:
            asyncio.get_running_loop().remove_writer(self._fd)
            _resolve(self._waiting)
        while self._keys:
            _data, done = self._keys.popleft()
            done("worker_disappeared")
        self._keys_bytes = 0
        self._answers.clear()


def chunks(data: bytes) -> Iterator[bytes]:
    """`data` in pieces of at most 1 KiB that end neither inside a UTF-8 character nor an escape sequence (F079)."""
    start = 0
    while start < len(data):
        end = min(start + CHUNK_BYTES, len(data))
        if end < len(data):
            escape = data.rfind(b"\x1b", max(start, end - 8), end)
            if escape > start:
                end = escape
            else:
                while end > start + 1 and data[end] & 0xC0 == _UTF8_CONTINUATION:
                    end -= 1
        yield data[start:end]
        start = end


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
