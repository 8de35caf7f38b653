"""The open sockets: who is connected as which node, and who watches a workspace."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any, NamedTuple

from aiohttp import WSCloseCode, web

from relaybroker.engine.socket_writer import Outbox

STALLED_AFTER_S = 20.0
"""How long a peer may leave one frame unread."""
CLOSE_S = 0.5
"""How long a peer may take to say goodbye."""


class NodeConnection:
    """One socket of one node.

    `behind` holds the agents whose open rows have to be read from the database before new ones are pushed, each with the number
    to go on from (`push.py`).
    """

    def __init__(self, node_id: str, workspace_id: str, socket: web.WebSocketResponse) -> None:
        self.node_id = node_id
        self.workspace_id = workspace_id
        self.socket = socket
        self.outbox: Outbox
        self.behind: dict[str, int] = {}
        self.is_reading = False


class Watcher(NamedTuple):
    """Who watches a workspace: with its key, or with a token for what `scopes` name (None = everything)."""

    workspace_id: str
    socket: web.WebSocketResponse
    token_id: str
    scopes: frozenset[str] | None


_SCOPES = {
    "message.created": "messages:read",
    "message.read": "messages:read",
    "message.reacted": "reactions:read",
    "thread.reply": "threads:read",
    "dm.received": "dms:read",
    "group_dm.received": "dms:read",
}
_FAMILIES = {
    "agent": "agents:read",
    "channel": "channels:read",
    "member": "channels:read",
    "delivery": "deliveries:read",
}
"""First word of an event's type -> the scope that shows it. What is in neither table is shown to the workspace key alone."""


class Hub:
    """Every open socket of this engine. `is_connected` may be asked from any thread."""

    def __init__(self) -> None:
        self._nodes: dict[str, NodeConnection] = {}
        self._observers: dict[Outbox, Watcher] = {}
        self._closing: set[asyncio.Task[None]] = set()

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

    def disconnect_by_force(self, node_id: str) -> None:
        """The node is gone: its socket is closed with 1000 `force-disconnect`."""
        connection = self._nodes.get(node_id)
        if connection is not None:
            self.close_later(connection.socket, b"force-disconnect")

    def close_workspace(self, workspace_id: str) -> None:
        """The workspace is gone: its sockets are closed with 1000 `workspace-deleted`."""
        sockets = [item.socket for item in self._nodes.values() if item.workspace_id == workspace_id]
        sockets += [item.socket for item in self._observers.values() if item.workspace_id == workspace_id]
        for socket in sockets:
            self.close_later(socket, b"workspace-deleted")

    def close_later(self, socket: web.WebSocketResponse, reason: bytes) -> None:
        """Close a socket with code 1000 without waiting for its peer."""
        task = asyncio.create_task(close(socket, WSCloseCode.OK, reason))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def node(self, node_id: str) -> NodeConnection | None:
        """The node's socket."""
        return self._nodes.get(node_id)

    def is_connected(self, node_id: str) -> bool:
        """Whether the node has a socket."""
        return node_id in self._nodes

    def send(self, node_id: str, frame: dict[str, Any]) -> None:
        """Push one frame to a node, if it has a socket."""
        connection = self._nodes.get(node_id)
        if connection is not None:
            connection.outbox.put(encode(frame))

    def close_observers(self, token_id: str) -> None:
        """The token is another one now: its streams are closed with 1000 `token-changed`."""
        for watcher in self._observers.values():
            if watcher.token_id == token_id:
                self.close_later(watcher.socket, b"token-changed")

    def observe(self, outbox: Outbox, watcher: Watcher) -> None:
        """Give this socket the events that it may see."""
        self._observers[outbox] = watcher

    def forget_observer(self, outbox: Outbox) -> None:
        """No more events for this socket."""
        self._observers.pop(outbox, None)

    def publish(self, workspace_id: str, event: dict[str, Any], *, is_private: bool = False) -> None:
        """One observer event to everybody who watches the workspace and may see it; what is private also needs `dms:read`."""
        kind = event["type"]
        scope = _SCOPES.get(kind) or _FAMILIES.get(kind.partition(".")[0])
        needed = {scope, "dms:read"} if is_private else {scope}
        watching = [
            outbox
            for outbox, watcher in self._observers.items()
            if watcher.workspace_id == workspace_id and (watcher.scopes is None or needed <= watcher.scopes)
        ]
        if watching:
            text = encode(event)
            for outbox in watching:
                outbox.put(text)

    async def close_all(self) -> None:
        """Close every open socket with 1001; peers that do not answer are left behind after `CLOSE_S`."""
        sockets = [item.socket for item in self._nodes.values()] + [item.socket for item in self._observers.values()]
        closing = [close(socket, WSCloseCode.GOING_AWAY, b"engine stopping") for socket in sockets]
        await asyncio.gather(*closing, *self._closing)

    def cut_off_stalled(self) -> None:
        """End the sockets whose peers do not read."""
        for outbox in [*(item.outbox for item in self._nodes.values()), *self._observers]:
            outbox.cut_off_if_stalled(STALLED_AFTER_S)


async def close(socket: web.WebSocketResponse, code: int, reason: bytes) -> None:
    """Close a socket; a peer that does not take part has `CLOSE_S`."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_S):
            await socket.close(code=code, message=reason)


def encode(value: Any) -> str:
    """Compact JSON, the one spelling of every frame, payload and event."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
