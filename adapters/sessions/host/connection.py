"""One broker's connection to the host: whole frames in and out, bounded, and nothing from another user.

Output is coalesced and dropped for a slow reader, reports wait in the host's log, and a reader that takes nothing at all is cut
off. Source: architecture.md 5, 6.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING, Protocol

from relaybroker.adapters.sessions.host.framing import FrameError, encode, request_decoder
from relaybroker.adapters.sessions.host.local_socket import peer_uid
from relaybroker.adapters.sessions.host.protocol import (
    OLDEST_VERSION,
    PROTOCOL_VERSION,
    Hello,
    Output,
    Response,
    Violation,
)

if TYPE_CHECKING:
    from relaybroker.adapters.sessions.host.protocol import Request

REPORT_HIGH_WATER = 1024 * 1024
"""Reports wait in the log, not in the connection, while this much is unsent."""
OUTPUT_HIGH_WATER = 4 * 1024 * 1024
"""Output is dropped while this much is unsent."""
UNSENT_LIMIT = 32 * 1024 * 1024
"""A broker that leaves this much unread is disconnected."""
OUTPUT_FLUSH_S = 0.016
OUTPUT_FLUSH_BYTES = 4096

_logger = logging.getLogger(__name__)


class Served(Protocol):
    """What a connection needs of the host."""

    def attach(self, connection: Connection, hello: Hello) -> None: ...
    def detached(self, connection: Connection) -> None: ...
    def handle(self, request: Request) -> None: ...
    def push_reports(self) -> None: ...


class Connection(asyncio.Protocol):
    """One accepted connection: frames in, frames out. It is the broker's from its Hello on."""

    def __init__(self, host: Served) -> None:
        self._host = host
        self._decoder = request_decoder()
        self._transport: asyncio.Transport | None = None
        self._greeted = False
        self._pending: dict[str, tuple[int, bytearray]] = {}
        self._flush_due: asyncio.TimerHandle | None = None
        self._last_flush = 0.0
        self.subscribed = False
        self.next_report = 0
        self.version = OLDEST_VERSION
        """That its broker speaks."""

    @property
    def unsent(self) -> int:
        """Bytes written and not yet taken by the socket."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=REPORT_HIGH_WATER // 2, low=REPORT_HIGH_WATER // 8)
        uid = peer_uid(transport.get_extra_info("socket"))
        if uid != os.getuid():
            _logger.warning("a process of user %d was refused", uid)
            self.violation(f"this host serves user {os.getuid()} only")

    def data_received(self, data: bytes) -> None:
        try:
            requests = self._decoder.feed(data)
        except FrameError as error:
            self.violation(str(error))
            return
        for request in requests:
            if self._transport is None:
                return
            if self._greeted:
                self._host.handle(request)
            elif not isinstance(request, Hello):
                self.violation("the first message is not Hello")
            elif not OLDEST_VERSION <= request.version <= PROTOCOL_VERSION:
                self.violation(f"this host speaks version {PROTOCOL_VERSION}, not {request.version}")
            else:
                self._greeted, self.version = True, request.version
                self._host.attach(self, request)

    def resume_writing(self) -> None:
        self._host.push_reports()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._transport = None
        self._cancel_flush()
        self._host.detached(self)

    def send(self, message: Response) -> None:
        if self._transport is None:
            return
        if self.unsent > UNSENT_LIMIT:
            _logger.warning("the broker does not read; its connection is ended")
            self.close()
        else:
            self._transport.write(encode(message))

    def violation(self, detail: str) -> None:
        """Say why, and hang up."""
        self.send(Violation(detail=detail))
        self.close()

    def close(self) -> None:
        if self._transport is not None:
            if self.unsent > UNSENT_LIMIT:
                self._transport.abort()
            else:
                self._transport.close()
            self._transport = None
            self._cancel_flush()
            self._host.detached(self)

    # --- output ------------------------------------------------------------------------------------------------------

    def output(self, session_id: str, offset: int, data: bytes) -> None:
        """Send output at the leading edge, then at most every 16 ms or 4096 bytes."""
        pending = self._pending.get(session_id)
        if pending is None:
            self._pending[session_id] = (offset, bytearray(data))
        else:
            pending[1].extend(data)
        if len(self._pending[session_id][1]) >= OUTPUT_FLUSH_BYTES:
            self.flush_output()
        elif self._flush_due is None:
            loop = asyncio.get_running_loop()
            wait = self._last_flush + OUTPUT_FLUSH_S - loop.time()
            if wait <= 0:
                self.flush_output()
            else:
                self._flush_due = loop.call_later(wait, self.flush_output)

    def flush_output(self) -> None:
        self._cancel_flush()
        self._last_flush = asyncio.get_running_loop().time()
        pending, self._pending = self._pending, {}
        if self.unsent > OUTPUT_HIGH_WATER:
            return  # the reader is slow: the next frame's offset tells it how much it missed
        for session_id, (offset, data) in pending.items():
            self.send(Output(session_id=session_id, offset=offset, data=bytes(data)))

    def _cancel_flush(self) -> None:
        if self._flush_due is not None:
            self._flush_due.cancel()
            self._flush_due = None
