"""How stored deliveries reach a socket: at once while it keeps up, from the database when it is behind.

A new row goes straight from its commit to the socket. When the socket has no room, or after something that replays (register,
inventory), the agent is *behind*: its rows are then read from the database, `WINDOW` at a time and in order, whenever there is room,
and new rows wait their turn there. So memory stays bounded however many rows are open, and the rows of one agent leave in order.

Both ways go through the commit order of the store: a row is either in what was read, or its own push comes afterwards.

Source: spec/engine-contract.md sections 7.3, 7.4.
"""

from __future__ import annotations

from typing import NamedTuple

from relaybroker.engine.context import Engine
from relaybroker.engine.hub import NodeConnection, encode
from relaybroker.engine.store import Tx

WINDOW = 256
"""Rows read at a time for one socket."""


class Row(NamedTuple):
    """A numbered delivery, ready to be sent."""

    delivery_id: str
    agent_id: str
    seq: int
    frame: str


def deliver_frame(
    *, delivery_id: str, agent_id: str, agent: str, msg_id: str, seq: int, mode: str, payload: str
) -> str:
    """A `deliver` frame; `mode` is `steer` or `wait`, `payload` is encoded JSON and goes in as it is stored."""
    head = {
        "v": 1,
        "type": "deliver",
        "delivery_id": delivery_id,
        "agent_id": agent_id,
        "agent": agent,
        "msg_id": msg_id,
        "seq": seq,
        "mode": mode,
    }
    return f'{encode(head)[:-1]},"payload":{payload}}}'


def wire_mode(stored: str) -> str:
    """`steer` or `wait`."""
    return "steer" if stored == "next-tool-call" else "wait"


def push(engine: Engine, node_id: str, row: Row) -> None:
    """Send a row that was just committed, or whose time has come, unless the socket has older ones to get first."""
    connection = engine.hub.node(node_id)
    if connection is None:
        return
    if row.agent_id in connection.behind:
        connection.behind[row.agent_id] = min(row.seq, connection.behind[row.agent_id])
    elif connection.outbox.ready:
        connection.outbox.put(row.frame, row.delivery_id)
    else:
        connection.behind[row.agent_id] = row.seq


def replay(tx: Tx, engine: Engine, node_id: str) -> None:
    """Send every open row of every agent on the node again, by agent name, then number, after the commit."""
    agents = tx.all(
        "SELECT id, ack_seq FROM agents a WHERE location_node_id = ? AND EXISTS (SELECT 1 FROM deliveries d WHERE d.agent_id = a.id"
        " AND d.status IN ('queued', 'delivered') AND d.expires_at > ?) ORDER BY name",
        node_id, tx.now,
    )  # fmt: skip
    starts = {row["id"]: row["ack_seq"] + 1 for row in agents}

    def begin() -> None:
        connection = engine.hub.node(node_id)
        if connection is not None:
            connection.behind = starts
            read_on(engine, connection)

    if starts:
        tx.after(begin)


def read_on(engine: Engine, connection: NodeConnection) -> None:
    """Read the next rows for a socket that is behind, if it has room."""
    if connection.is_reading or not connection.behind or not connection.outbox.ready:
        return
    if engine.hub.node(connection.node_id) is not connection:
        return  # closed or superseded
    connection.is_reading = True
    starts = dict(connection.behind)
    engine.store.submit(lambda tx: _window(tx, engine, connection, starts))


def _window(tx: Tx, engine: Engine, connection: NodeConnection, starts: dict[str, int]) -> None:
    rows: list[Row] = []
    following: dict[str, int | None] = {}
    for agent_id, start in starts.items():
        room = WINDOW - len(rows)
        if not room:
            break
        agent_rows = _open_rows(tx, connection.node_id, agent_id, start, room)
        rows += agent_rows
        following[agent_id] = agent_rows[-1].seq + 1 if len(agent_rows) == room else None

    def hand_over() -> None:
        connection.is_reading = False
        for agent_id, start in following.items():
            if connection.behind.get(agent_id) != starts[agent_id]:
                continue  # replayed anew meanwhile
            if start is None:
                del connection.behind[agent_id]
            else:
                connection.behind[agent_id] = start
        for row in rows:
            connection.outbox.put(row.frame, row.delivery_id)
        read_on(engine, connection)

    tx.after(hand_over)


def _open_rows(tx: Tx, node_id: str, agent_id: str, start: int, limit: int) -> list[Row]:
    return [
        Row(
            row["id"],
            agent_id,
            row["seq"],
            deliver_frame(
                delivery_id=row["id"],
                agent_id=agent_id,
                agent=row["name"],
                msg_id=str(row["message_id"]),
                seq=row["seq"],
                mode=wire_mode(row["mode"]),
                payload=row["payload"],
            ),
        )
        for row in tx.all(
            "SELECT d.id, a.name, d.message_id, d.seq, d.mode, d.payload FROM deliveries d JOIN agents a ON a.id = d.agent_id"
            " WHERE d.agent_id = ? AND d.seq >= ? AND d.seq > a.ack_seq AND d.status IN ('queued', 'delivered') AND d.expires_at > ?"
            " AND d.available_at IS NULL AND a.location_node_id = ? ORDER BY d.seq LIMIT ?",
            agent_id, start, tx.now, node_id, limit,
        )
    ]  # fmt: skip
