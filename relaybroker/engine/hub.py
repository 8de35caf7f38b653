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
    to go on from (`push.py`). `provider` is the name by which it serves its node: "" hosts the node's agents, any other one only
    carries out the actions of its `capabilities`, beside that one (`providers.py`).
    """

    def __init__(self, node_id: str, workspace_id: str, socket: web.WebSocketResponse) -> None:
        self.node_id = node_id
        self.workspace_id = workspace_id
        self.socket = socket
        self.outbox: Outbox
        self.behind: dict[str, int] = {}
        self.is_reading = False
        self.provider = ""
        self.capabilities: tuple[dict[str, Any], ...] = ()


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
    """Every open socket of this engine. `is_connected` and `beside` may be asked from any thread."""

    def __init__(self) -> None:
        self._open: dict[NodeConnection, None] = {}
        self._nodes: dict[str, NodeConnection] = {}
        self._beside: dict[str, dict[str, NodeConnection]] = {}
        self._observers: dict[Outbox, Watcher] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def opened(self, connection: NodeConnection) -> None:
        """A socket of a node is open; what it serves is not known before its first frame."""
        self._open[connection] = None

    def attach(self, connection: NodeConnection, provider: str) -> NodeConnection | None:
        """Make this the node's socket of this provider; the one it replaces is returned."""
        connection.provider = provider
        if provider:
            beside = self._beside.get(connection.node_id, {})
            self._beside[connection.node_id] = beside | {provider: connection}  # made anew: other threads read it
            return beside.get(provider)
        former = self._nodes.get(connection.node_id)
        self._nodes[connection.node_id] = connection
        return former

    def closed(self, connection: NodeConnection) -> bool:
        """Forget the socket; False if it was superseded, or never served anything."""
        del self._open[connection]
        node_id, provider = connection.node_id, connection.provider
        if self.node(node_id, provider) is not connection:
            return False
        if not provider:
            del self._nodes[node_id]
        else:
            self._beside[node_id] = {name: other for name, other in self._beside[node_id].items() if name != provider}
            if not self._beside[node_id]:
                del self._beside[node_id]
        return True

    def disconnect_by_force(self, node_id: str) -> None:
        """The node is gone: its sockets are closed with 1000 `force-disconnect`."""
        for connection in self._open:
            if connection.node_id == node_id:
                self.close_later(connection.socket, b"force-disconnect")

    def close_workspace(self, workspace_id: str) -> None:
        """The workspace is gone: its sockets are closed with 1000 `workspace-deleted`."""
        sockets = [item.socket for item in self._open if item.workspace_id == workspace_id]
        sockets += [item.socket for item in self._observers.values() if item.workspace_id == workspace_id]
        for socket in sockets:
            self.close_later(socket, b"workspace-deleted")

    def close_later(self, socket: web.WebSocketResponse, reason: bytes) -> None:
        """Close a socket with code 1000 without waiting for its peer."""
        task = asyncio.create_task(close(socket, WSCloseCode.OK, reason))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def node(self, node_id: str, provider: str = "") -> NodeConnection | None:
        """The node's socket of this provider; "" is the one that hosts its agents."""
        return self._beside.get(node_id, {}).get(provider) if provider else self._nodes.get(node_id)

    def beside(self, node_id: str) -> list[NodeConnection]:
        """The node's sockets of providers beside the one that hosts its agents."""
        return list(self._beside.get(node_id, {}).values())

    def is_connected(self, node_id: str, provider: str = "") -> bool:
        """Whether the node has a socket of this provider."""
        return self.node(node_id, provider) is not None

    def send(self, node_id: str, frame: dict[str, Any], provider: str = "") -> None:
        """Push one frame to a node, if it has a socket of this provider."""
        connection = self.node(node_id, provider)
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
        sockets = [item.socket for item in self._open] + [item.socket for item in self._observers.values()]
        closing = [close(socket, WSCloseCode.GOING_AWAY, b"engine stopping") for socket in sockets]
        await asyncio.gather(*closing, *self._closing)

    def cut_off_stalled(self) -> None:
        """End the sockets whose peers do not read."""
        for outbox in [*(item.outbox for item in self._open), *self._observers]:
            outbox.cut_off_if_stalled(STALLED_AFTER_S)


async def close(socket: web.WebSocketResponse, code: int, reason: bytes) -> None:
    """Close a socket; a peer that does not take part has `CLOSE_S`."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_S):
            await socket.close(code=code, message=reason)


def encode(value: Any) -> str:
    """Compact JSON, the one spelling of every frame, payload and event."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
