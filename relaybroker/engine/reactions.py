"""Reactions and read receipts; both reach everybody in the channel or conversation as unnumbered frames.

Source: spec/engine-contract.md sections 2.4, 7.5.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from relaybroker.engine import channels, deliveries, events, ids, messages
from relaybroker.engine.auth import Caller
from relaybroker.engine.context import Engine
from relaybroker.engine.errors import invalid, not_found
from relaybroker.engine.store import Tx


def details(tx: Tx, caller: Caller, row: sqlite3.Row) -> dict[str, Any]:
    """A message with its counts; an observer that may not read reactions sees none."""
    return messages.view(row) | {
        "reply_count": tx.count("SELECT COUNT(*) FROM messages WHERE thread_id = ?", row["id"]),
        "reactions": grouped(tx, row["id"]) if caller.may_read("reactions:read") else [],
        "read_by_count": tx.count("SELECT COUNT(*) FROM receipts WHERE message_id = ?", row["id"]),
    }


def _audience(tx: Tx, row: sqlite3.Row) -> list[str]:
    return [member["agent_id"] for member in channels.members(tx, row["channel_id"])]


def _channel_name(tx: Tx, row: sqlite3.Row) -> str:
    return str(tx.the("SELECT name FROM channels WHERE id = ?", row["channel_id"])["name"])


def react(tx: Tx, engine: Engine, caller: Caller, message_id: str, emoji: str) -> dict[str, Any]:
    """Add a reaction; adding it twice is adding it once."""
    row = messages.find(tx, caller.workspace_id, message_id)
    if not emoji.strip():
        raise invalid("emoji is required")
    reaction_id = engine.ids.next()
    added = tx.run(
        "INSERT OR IGNORE INTO reactions VALUES (?,?,?,?,?)", reaction_id, row["id"], caller.id, emoji, tx.now
    )
    stored = tx.the(
        "SELECT * FROM reactions WHERE message_id = ? AND agent_id = ? AND emoji = ?", row["id"], caller.id, emoji
    )
    answer = {
        "id": stored["id"],
        "message_id": message_id,
        "agent_name": caller.name,
        "emoji": emoji,
        "created_at": ids.iso(stored["created_at"]),
    }
    if added:
        data = answer | {"channel_name": _channel_name(tx, row), "action": "added"}
        _tell_reaction(tx, engine, caller, row, str(stored["id"]), data)
    return answer


def unreact(tx: Tx, engine: Engine, caller: Caller, message_id: str, emoji: str) -> None:
    """Remove a reaction, if it is there."""
    row = messages.find(tx, caller.workspace_id, message_id)
    if tx.run("DELETE FROM reactions WHERE message_id = ? AND agent_id = ? AND emoji = ?", row["id"], caller.id, emoji):
        data = {
            "message_id": message_id,
            "emoji": emoji,
            "agent_name": caller.name,
            "channel_name": _channel_name(tx, row),
            "action": "removed",
        }
        _tell_reaction(tx, engine, caller, row, f"removed:{message_id}:{caller.id}:{int(tx.now * 1000)}", data)


def _tell_reaction(tx: Tx, engine: Engine, caller: Caller, row: sqlite3.Row, key: str, data: dict[str, Any]) -> None:
    deliveries.fan_out_event(
        tx, engine, agent_ids=_audience(tx, row), event="message.reacted", key=key, msg_id=str(row["id"]), data=data
    )
    event = {"type": "message.reacted"} | {key: data[key] for key in ("message_id", "emoji", "agent_name", "action")}
    events.publish(tx, engine, caller.workspace_id, event, is_private=messages.in_conversation(tx, row))


def grouped(tx: Tx, message_id: int) -> list[dict[str, Any]]:
    """Reactions of a message, grouped."""
    by_emoji: dict[str, list[str]] = {}
    for row in tx.all(
        "SELECT r.emoji, a.name FROM reactions r JOIN agents a ON a.id = r.agent_id WHERE r.message_id = ? ORDER BY r.created_at",
        message_id,
    ):
        by_emoji.setdefault(row["emoji"], []).append(row["name"])
    return [{"emoji": emoji, "count": len(names), "agents": names} for emoji, names in by_emoji.items()]


def read(tx: Tx, engine: Engine, caller: Caller, message_id: str) -> dict[str, Any]:
    """Mark as read: receipt, delivery row and read mark; the cumulative cursor stays."""
    row = messages.find(tx, caller.workspace_id, message_id)
    if caller.id not in _audience(tx, row):
        raise not_found("message_not_found", "Message not found")
    added = deliveries.mark_read(tx, caller.id, row["id"], row["channel_id"])
    tx.run(
        "UPDATE deliveries SET status = 'acked', acked_at = ?, updated_at = ?, available_at = NULL, payload = ''"
        " WHERE message_id = ? AND agent_id = ? AND status IN ('queued', 'delivered', 'failed')",
        tx.now, tx.now, row["id"], caller.id,
    )  # fmt: skip
    stored = tx.the("SELECT read_at FROM receipts WHERE message_id = ? AND agent_id = ?", row["id"], caller.id)
    read_at = ids.iso(stored["read_at"])
    if added:
        data = {"message_id": message_id, "agent_id": caller.id, "read_at": read_at, "agent_name": caller.name}
        deliveries.fan_out_event(
            tx,
            engine,
            agent_ids=_audience(tx, row),
            event="message.read",
            key=f"{message_id}:{caller.id}:{read_at}",
            msg_id=message_id,
            data=data,
        )
        event = {"type": "message.read", "message_id": message_id, "agent_name": caller.name, "read_at": read_at}
        events.publish(tx, engine, caller.workspace_id, event, is_private=messages.in_conversation(tx, row))
    return {"message_id": message_id, "agent_id": caller.id, "read_at": read_at}


def readers(tx: Tx, message_id: int) -> list[dict[str, Any]]:
    """Who has read a message."""
    rows = tx.all(
        "SELECT r.agent_id, r.read_at, a.name FROM receipts r JOIN agents a ON a.id = r.agent_id WHERE r.message_id = ? ORDER BY r.read_at",
        message_id,
    )
    return [
        {"agent_name": row["name"], "agent_id": row["agent_id"], "read_at": ids.iso(row["read_at"])} for row in rows
    ]


def read_status(tx: Tx, channel_id: str) -> list[dict[str, Any]]:
    """How far each member of a channel has read."""
    rows = tx.all(
        "SELECT a.name, m.last_read_id, m.last_read_at FROM members m JOIN agents a ON a.id = m.agent_id WHERE m.channel_id = ?"
        " ORDER BY a.name",
        channel_id,
    )
    return [
        {
            "agent_name": row["name"],
            "last_read_id": str(row["last_read_id"]) if row["last_read_id"] else None,
            "last_read_at": None if row["last_read_at"] is None else ids.iso(row["last_read_at"]),
        }
        for row in rows
    ]
