"""The open sockets: who is connected as which node, and what is pushed to whom.

Each socket has one writer task and a bounded queue; a socket that does not keep up is closed, and its rows stay open for the next one.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from typing import Any

from aiohttp import WSCloseCode, web

OUTBOX_LIMIT = 16_384
"""Frames queued for one socket."""


class Outbox:
    """The one writer of a socket: frames leave in the order in which they were given."""

    def __init__(self, socket: web.WebSocketResponse, on_written: Callable[[list[str]], None]) -> None:
        self._socket = socket
        self._on_written = on_written
        self._frames: deque[tuple[str, str]] = deque()
        self._wake = asyncio.Event()
        self.overflowed = False
        self._task = asyncio.create_task(self._write())

    def put(self, text: str, delivery_id: str = "") -> bool:
        """Queue one frame; False (and the socket is closed) when there is no room."""
        if self.overflowed or self._task.done():
            return False
        if len(self._frames) >= OUTBOX_LIMIT:
            self.overflowed = True
            self._wake.set()
            return False
        self._frames.append((text, delivery_id))
        self._wake.set()
        return True

    async def _write(self) -> None:
        while not self._socket.closed:
            await self._wake.wait()
            self._wake.clear()
            written: list[str] = []
            while self._frames and not self.overflowed:
                text, delivery_id = self._frames.popleft()
                try:
                    await self._socket.send_str(text)
                except (ConnectionError, RuntimeError):
                    return  # the reader sees the end of the socket; unwritten rows stay queued
                if delivery_id:
                    written.append(delivery_id)
            if written:
                self._on_written(written)
            if self.overflowed:
                await self._socket.close(code=WSCloseCode.TRY_AGAIN_LATER, message=b"slow_consumer")
                return

    async def close(self) -> None:
        """Stop writing."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


class NodeConnection:
    """One socket of one node."""

    def __init__(self, node_id: str, workspace_id: str, socket: web.WebSocketResponse, outbox: Outbox) -> None:
        self.node_id = node_id
        self.workspace_id = workspace_id
        self.socket = socket
        self.outbox = outbox


class Hub:
    """Every open socket of this engine."""

    def __init__(self) -> None:
        self._nodes: dict[str, NodeConnection] = {}
        self._observers: dict[Outbox, str] = {}

    def connect(self, connection: NodeConnection) -> NodeConnection | None:
        """Make this the node's socket; the one it replaces is returned."""
        former = self._nodes.get(connection.node_id)
        self._nodes[connection.node_id] = connection
        return former

    def disconnect(self, connection: NodeConnection) -> bool:
        """Forget the socket; False if it was superseded before."""
        if self._nodes.get(connection.node_id) is not connection:
            return False
        del self._nodes[connection.node_id]
        return True

    def is_connected(self, node_id: str) -> bool:
        """Whether the node has a socket."""
        return node_id in self._nodes

    def node_sockets(self) -> list[NodeConnection]:
        """All node sockets."""
        return list(self._nodes.values())

    def send(self, node_id: str, frame: dict[str, Any]) -> bool:
        """Push one frame to a node; False if it has no socket."""
        return self.send_text(node_id, json.dumps(frame, separators=(",", ":"), ensure_ascii=False))

    def send_text(self, node_id: str, text: str, delivery_id: str = "") -> bool:
        """Push one encoded frame."""
        connection = self._nodes.get(node_id)
        return connection is not None and connection.outbox.put(text, delivery_id)

    def observe(self, outbox: Outbox, workspace_id: str) -> None:
        """Give this socket the events of a workspace."""
        self._observers[outbox] = workspace_id

    def forget_observer(self, outbox: Outbox) -> None:
        """No more events for this socket."""
        self._observers.pop(outbox, None)

    def publish(self, workspace_id: str, event: dict[str, Any]) -> None:
        """One observer event to everybody who watches the workspace."""
        watching = [outbox for outbox, watched in self._observers.items() if watched == workspace_id]
        if watching:
            text = json.dumps(event, separators=(",", ":"), ensure_ascii=False)
            for outbox in watching:
                outbox.put(text)
