"""The broker's side of the PTY host: finds the living host or starts one, sends requests, hands on what it reports.

Nothing here waits for the host except `attach` and `ask`, which have deadlines. Source: architecture.md 5, 6.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

import msgspec

from relaybroker.adapters import descriptors
from relaybroker.adapters.own_programs import own_program
from relaybroker.adapters.sessions.host.framing import FrameError, encode, response_decoder
from relaybroker.adapters.sessions.host.living_hosts import MODULE
from relaybroker.adapters.sessions.host.local_socket import SocketRefused, connect, prepare_directory
from relaybroker.adapters.sessions.host.own_scope import NEEDED, scope_command
from relaybroker.adapters.sessions.host.protocol import (
    OLDEST_VERSION,
    Answer,
    Asks,
    Hello,
    Request,
    Response,
    Violation,
    Welcome,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger(__name__)

MAX_UNSENT_BYTES = 16 * 1024 * 1024
_SPEAKS = re.compile(r"^this host speaks version (\d+),")
MAX_ASKS = 1024
"""Requests that wait for their answer; more fail at once with `queue_full`."""
ATTACH_S = 10.0
ATTEMPTS = 40
RETRY_S = 0.2
"""Between attempts to reach a host that is there and does not listen or accept yet."""
FINISH_S = 2.0
"""Longest wait for the host to take what was sent, when a connection is closed."""


class HostUnavailable(Exception):  # noqa: N818  # reads as what happened
    """No host could be reached or started; the text says why."""


class HostBackpressure(Exception):  # noqa: N818  # reads as what happened
    """The host does not take what is sent; more than 16 MiB wait."""


class HostClient:
    """One connection to the PTY host at `socket_path`.

    `on_response` gets Report, Output and Violation messages, in order.
    `on_lost(why)` is called once when the connection ends without `close`; `attach` may then be called again.
    """

    def __init__(
        self,
        socket_path: str,
        *,
        log_path: str,
        on_response: Callable[[Response], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self._socket_path = socket_path
        self._log_path = log_path
        self._on_response = on_response
        self._on_lost = on_lost
        self._link: _Link | None = None

    @property
    def version(self) -> int:
        """The version that is spoken with the host; 0 = none is attached."""
        return self._link.version if self._link is not None else 0

    async def attach(self, hello: Hello, *, start: bool = True) -> Welcome:
        """Connect to the living host, or to one started now. Every unconfirmed report follows through `on_response`.

        Raises HostUnavailable (also when no host lives and `start` is false) within about 10 s.
        """
        await self.close()
        try:
            async with asyncio.timeout(ATTACH_S):
                return await self._attach(hello, start=start)
        except TimeoutError:
            await self.close()
            raise HostUnavailable(f"the PTY host did not answer within {ATTACH_S:g} s; see {self._log_path}") from None

    async def _attach(self, hello: Hello, *, start: bool) -> Welcome:
        refused: OSError | None = None
        for attempt in range(ATTEMPTS):
            try:
                connection = connect(self._socket_path)
            except (FileNotFoundError, ConnectionRefusedError) as error:
                refused = error
                if not start:
                    break
                await self._start_host()
                if attempt:
                    await asyncio.sleep(RETRY_S)  # another process won the start and does not listen yet
                continue
            except BlockingIOError as error:
                refused = error
                await asyncio.sleep(RETRY_S)
                continue
            except (SocketRefused, OSError) as error:
                raise HostUnavailable(str(error)) from error
            loop = asyncio.get_running_loop()
            link = _Link(hello.version, self._on_response, self._link_lost)
            await loop.create_unix_connection(lambda made=link: made, sock=connection)  # type: ignore[misc]
            self._link = link
            link.send(hello)
            try:
                return await link.welcome
            except HostUnavailable as error:
                self._link = None
                if (older := _version_before(link.violation, hello.version)) is not None:
                    _log.warning("the PTY host was started by an earlier version: version %d is spoken with it", older)
                    hello = msgspec.structs.replace(hello, version=older)
                    continue
                if link.violation:
                    raise
                refused = ConnectionResetError(str(error))  # the host was just ending: try again
        raise HostUnavailable(f"no PTY host at {self._socket_path}: {refused}")

    async def _start_host(self) -> None:
        """Start a detached host; returns when it, or another one, listens. Raises HostUnavailable."""
        try:
            prepare_directory(self._socket_path)
        except (SocketRefused, OSError) as error:
            raise HostUnavailable(str(error)) from error
        outcome = await asyncio.to_thread(_start_detached, self._socket_path, self._log_path)
        if outcome:
            raise HostUnavailable(f"the PTY host did not start: {outcome}")

    def _link_lost(self, link: _Link, why: str) -> None:
        if link is self._link:
            self._link = None
            self._on_lost(why)

    def send(self, request: Request) -> None:
        """Queue a request; returns at once. Raises HostBackpressure over 16 MiB, HostUnavailable when not attached."""
        if self._link is None:
            raise HostUnavailable("not attached to a PTY host")
        self._link.send(request)

    async def ask(self, request: Asks, timeout_s: float = 5) -> Answer:
        """Send and wait for the answer: `worker_timeout` after `timeout_s`, `worker_disappeared` without host.

        Raises HostUnavailable or HostBackpressure as `send` does.
        """
        if self._link is None:
            raise HostUnavailable("not attached to a PTY host")
        return await self._link.ask(request, timeout_s)

    async def close(self) -> None:
        """End the connection; the host and its agents go on."""
        link, self._link = self._link, None
        if link is not None:
            await link.finish()


def _start_detached(socket_path: str, log_path: str) -> str:
    """Start a host, in a scope of its own where a service manager gives one. "" when one serves, else what it said."""
    scope = scope_command(socket_path, os.environ)
    said = _start(scope, socket_path, log_path)
    if said and scope:
        _log.warning("the PTY host stays in the service's control group, there is no scope for it: %s", said)
        said = _start([], socket_path, log_path)
    return said


def _start(scope: list[str], socket_path: str, log_path: str) -> str:
    """Start a host and wait until it listens. "" when one listens or serves already, else what it said."""
    ready_reader, ready_writer = os.pipe()
    try:
        started = subprocess.Popen(
            scope
            + own_program(
                MODULE,
                "--socket",
                socket_path,
                "--log",
                log_path,
                "--pid-file",
                f"{socket_path}.pid",
                "--ready-fd",
                str(ready_writer),
                "--open-files",
                str(descriptors.started_with()),
            ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=(ready_writer,),
            start_new_session=True,
            cwd="/",
            env=_host_environment(NEEDED if scope else ()),
        )
        os.close(ready_writer)
        ready_writer = -1
        listens = os.read(ready_reader, 1)
        assert started.stderr is not None
        said = b"" if listens else started.stderr.read(2000)
        started.stderr.close()
        started.wait()
    finally:
        os.close(ready_reader)
        if ready_writer >= 0:
            os.close(ready_writer)
    if listens or b"another host serves" in said:
        return ""
    return said.decode("utf-8", "replace").strip() or "it ended without a word"


def _host_environment(more: tuple[str, ...] = ()) -> dict[str, str]:
    """What the host needs, and nothing of the broker's secrets: agents get their environment from Start alone."""
    kept = {
        key: os.environ[key]
        for key in ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "VIRTUAL_ENV", *more)
        if key in os.environ
    }
    kept["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path and Path(path).is_dir())
    kept["PYTHONDONTWRITEBYTECODE"] = "1"
    return kept


class _Link(asyncio.Protocol):
    """One connection's frames."""

    def __init__(
        self, version: int, on_response: Callable[[Response], None], on_lost: Callable[[_Link, str], None]
    ) -> None:
        loop = asyncio.get_running_loop()
        self.version = version
        self._on_response = on_response
        self._on_lost = on_lost
        self._decoder = response_decoder()
        self._transport: asyncio.Transport | None = None
        self._asks: dict[str, asyncio.Future[Answer]] = {}
        self._why = "the PTY host closed the connection"
        self.violation = ""
        self.welcome: asyncio.Future[Welcome] = loop.create_future()
        self.closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A stream transport by contract; uvloop's is one without being a subclass.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            responses = self._decoder.feed(data)
        except FrameError as error:
            self._why = f"the PTY host broke the protocol: {error}"
            self.close()
            return
        for response in responses:
            self._take(response)

    def _take(self, response: Response) -> None:
        if isinstance(response, Answer):
            waiting = self._asks.pop(response.request_id, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(response)
        elif isinstance(response, Welcome):
            if response.version != self.version:
                self.violation = f"the PTY host speaks version {response.version}"
                self.close()
            elif not self.welcome.done():
                self.welcome.set_result(response)
        else:
            if isinstance(response, Violation):
                self._why = self.violation = response.detail
            self._on_response(response)

    def connection_lost(self, exc: Exception | None) -> None:
        why = self._why if exc is None else f"{self._why}: {exc}"
        self._transport = None
        self.closed.set()
        for request_id, waiting in self._asks.items():
            if not waiting.done():
                waiting.set_result(Answer(request_id=request_id, error="worker_disappeared"))
        self._asks.clear()
        if not self.welcome.done():
            self.welcome.set_exception(HostUnavailable(self.violation or why))
        else:
            self._on_lost(self, why)

    def send(self, request: Request) -> None:
        if self._transport is None:
            raise HostUnavailable(self._why)
        frame = encode(request)
        if self._transport.get_write_buffer_size() + len(frame) > MAX_UNSENT_BYTES:
            raise HostBackpressure("more than 16 MiB wait for the PTY host")
        self._transport.write(frame)

    async def ask(self, request: Asks, timeout_s: float) -> Answer:
        if len(self._asks) >= MAX_ASKS:
            return Answer(request_id=request.request_id, error="queue_full")
        waiting: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asks[request.request_id] = waiting
        try:
            self.send(request)
            async with asyncio.timeout(timeout_s):
                return await waiting
        except TimeoutError:
            return Answer(request_id=request.request_id, error="worker_timeout")
        finally:
            self._asks.pop(request.request_id, None)

    async def finish(self) -> None:
        """End the connection after everything sent was taken; what still comes is left for the next connection.

        The host closes first: a socket that is closed with something unread takes what its peer has not read with it.
        """
        self._on_response = _ignore
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()
            try:
                async with asyncio.timeout(FINISH_S):
                    await self.closed.wait()
            except TimeoutError:
                self.close()
        await self.closed.wait()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def _version_before(violation: str, asked: int) -> int | None:
    """The version that a host which refuses the one that was asked for speaks, if this program speaks it as well."""
    speaks = _SPEAKS.search(violation)
    return int(speaks[1]) if speaks and OLDEST_VERSION <= int(speaks[1]) < asked else None


def _ignore(_response: Response) -> None:
    """A connection that ends hands nothing on: the host keeps it until it is confirmed."""
