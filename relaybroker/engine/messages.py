"""Messages: channel posts, thread replies, direct and group messages, reactions and read receipts.

Source: spec/engine-contract.md sections 2.4, 2.5, 7.5, 10.
"""

from __future__ import annotations

import json
import re
import sqlite3
from typing import Any

from relaybroker.engine import agents, channels, deliveries, ids
from relaybroker.engine.auth import Caller
from relaybroker.engine.context import Engine
from relaybroker.engine.errors import EngineError, invalid, not_found
from relaybroker.engine.store import Tx

_MENTION = re.compile(r"@(\w+)")


def _insert(
    tx: Tx,
    engine: Engine,
    caller: Caller,
    channel_id: str,
    body: dict[str, Any],
    *,
    thread_id: str | None = None,
) -> sqlite3.Row:
    message_id = int(engine.ids.next())
    mentions = list(dict.fromkeys(_MENTION.findall(body["text"])))
    blocks = body.get("blocks")
    tx.run(
        "INSERT INTO messages (id, workspace_id, channel_id, agent_id, agent_name, text, blocks, metadata, thread_id, mode, mentions,"
        " created_at) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
        message_id, caller.workspace_id, channel_id, caller.id, caller.name, body["text"],
        None if blocks is None else json.dumps(blocks), json.dumps(body.get("data") or {}),
        None if thread_id is None else int(thread_id), body.get("mode") or "wait", json.dumps(mentions), tx.now,
    )  # fmt: skip
    row = tx.one("SELECT * FROM messages WHERE id = ?", message_id)
    assert row is not None
    return row


def view(row: sqlite3.Row) -> dict[str, Any]:
    """A channel message."""
    return {
        "id": str(row["id"]),
        "channel_id": row["channel_id"],
        "agent_id": row["agent_id"],
        "agent_name": row["agent_name"],
        "text": row["text"],
        "blocks": None if row["blocks"] is None else json.loads(row["blocks"]),
        "metadata": json.loads(row["metadata"]),
        "has_attachments": False,
        "thread_id": None if row["thread_id"] is None else str(row["thread_id"]),
        "created_at": ids.iso(row["created_at"]),
        "mentions": json.loads(row["mentions"]),
        "attachments": [],
        "injection_mode": row["mode"],
    }


def reply_view(tx: Tx, row: sqlite3.Row) -> dict[str, Any]:
    """A thread reply."""
    channel = tx.one("SELECT name FROM channels WHERE id = ?", row["channel_id"])
    full = view(row)
    picked = ("id", "channel_id", "agent_id", "agent_name", "thread_id", "text", "blocks", "metadata")
    return {key: full[key] for key in picked} | {
        "channel_name": channel["name"] if channel else None,
        "has_attachments": False,
        "created_at": full["created_at"],
    }


def find(tx: Tx, workspace_id: str, message_id: str) -> sqlite3.Row:
    """A message of this workspace. Raises EngineError 404 `message_not_found`."""
    row = (
        tx.one("SELECT * FROM messages WHERE id = ? AND workspace_id = ?", int(message_id), workspace_id)
        if message_id.isdigit() and len(message_id) < 20
        else None
    )
    if row is None:
        raise not_found("message_not_found", "Message not found")
    return row


def _brief(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "id": str(row["id"]),
        "agent_id": row["agent_id"],
        "agent_name": row["agent_name"],
        "text": row["text"],
        "injection_mode": row["mode"],
        "attachments": [],
    }


# --- posting ------------------------------------------------------------------------------------------------------------


def post(tx: Tx, engine: Engine, caller: Caller, channel_name: str, body: dict[str, Any]) -> dict[str, Any]:
    """A channel message to every member but its author."""
    channel = channels.find(tx, caller.workspace_id, channel_name)
    if channel["is_archived"]:
        raise EngineError(400, "channel_archived", "Channel is archived")
    row = _insert(tx, engine, caller, channel["id"], body)
    message = view(row)
    mentioned = set(message["mentions"])
    recipients = [
        (member["agent_id"], "mention" if member["agent_name"] in mentioned else "message")
        for member in channels.members(tx, channel["id"])
        if member["agent_id"] != caller.id and (not member["is_muted"] or member["agent_name"] in mentioned)
    ]
    payload = {
        "type": "message.created",
        "data": message | {"channel_name": channel["name"], "from_name": caller.name},
    }
    _deliver(tx, engine, caller, row, recipients, payload)
    _observe(
        tx, engine, caller.workspace_id, row,
        {"type": "message.created", "channel": channel["name"], "message": _brief(row)},
    )  # fmt: skip
    return message


def reply(tx: Tx, engine: Engine, caller: Caller, message_id: str, body: dict[str, Any]) -> dict[str, Any]:
    """A thread reply; a reply to a reply belongs to the root."""
    parent = find(tx, caller.workspace_id, message_id)
    root = str(parent["thread_id"] or parent["id"])
    row = _insert(tx, engine, caller, parent["channel_id"], body, thread_id=root)
    answer = reply_view(tx, row)
    recipients = [
        (member["agent_id"], "thread-reply")
        for member in channels.members(tx, parent["channel_id"])
        if member["agent_id"] != caller.id and not member["is_muted"]
    ]
    _deliver(tx, engine, caller, row, recipients, {"type": "thread.reply", "data": answer | {"from_name": caller.name}})
    event = {
        "type": "thread.reply",
        "channel": answer["channel_name"],
        "parent_id": root,
        "message": {key: _brief(row)[key] for key in ("id", "agent_id", "agent_name", "text")},
    }
    _observe(tx, engine, caller.workspace_id, row, event)
    return answer


def direct(tx: Tx, engine: Engine, caller: Caller, body: dict[str, Any]) -> dict[str, Any]:
    """A message to one agent; to oneself it is stored and not delivered."""
    name = caller.name if body["to"] == "@self" else body["to"].removeprefix("@")
    target = agents.find(tx, caller.workspace_id, name)
    conversation = _one_to_one(tx, caller, target["id"])
    row = _insert(tx, engine, caller, conversation["channel_id"], body)
    response = _dm_response(conversation["id"], row) | {"from_agent_id": caller.id, "to": target["name"]}
    recipients = [] if target["id"] == caller.id else [(target["id"], "dm")]
    _deliver(
        tx, engine, caller, row, recipients,
        {"type": "dm.received", "data": response | {"from_name": caller.name}}, dm_row=True,
    )  # fmt: skip
    event = {"type": "dm.received", "conversation_id": conversation["id"], "message": _brief(row)}
    _observe(tx, engine, caller.workspace_id, row, event)
    return response


def _dm_response(conversation_id: str, row: sqlite3.Row) -> dict[str, Any]:
    brief = _brief(row)
    return {
        "conversation_id": conversation_id,
        "message": brief,
        "created_at": ids.iso(row["created_at"]),
        "id": brief["id"],
        "text": brief["text"],
        "injection_mode": brief["injection_mode"],
        "attachments": [],
    }


def _one_to_one(tx: Tx, caller: Caller, other_id: str) -> sqlite3.Row:
    name = ids.dm_hash(caller.workspace_id, caller.id, other_id)
    conversation = tx.one("SELECT * FROM conversations WHERE id = ?", f"dm_{name}")
    if conversation is None:
        _open_conversation(tx, caller.workspace_id, f"dm_{name}", f"dmch_{name}", "1:1", None, {caller.id, other_id})
        conversation = tx.one("SELECT * FROM conversations WHERE id = ?", f"dm_{name}")
        assert conversation is not None
    return conversation


def _open_conversation(
    tx: Tx, workspace_id: str, conversation_id: str, channel_id: str, kind: str, name: str | None, agent_ids: set[str]
) -> None:
    tx.run(
        "INSERT INTO channels (id, workspace_id, name, kind, created_at) VALUES (?,?,?,'dm',?)",
        channel_id, workspace_id, channel_id, tx.now,
    )  # fmt: skip
    tx.run(
        "INSERT INTO conversations (id, workspace_id, channel_id, type, name, created_at) VALUES (?,?,?,?,?,?)",
        conversation_id, workspace_id, channel_id, kind, name, tx.now,
    )  # fmt: skip
    for agent_id in sorted(agent_ids):
        channels.add_member(tx, channel_id, agent_id, "member")


def open_group(tx: Tx, engine: Engine, caller: Caller, names: list[str], title: str | None) -> dict[str, Any]:
    """A group conversation of the caller and these agents."""
    found = {agents.find(tx, caller.workspace_id, name)["id"] for name in names} | {caller.id}
    conversation_id, channel_id = engine.ids.next(), f"dmch_{engine.ids.next()}"
    _open_conversation(tx, caller.workspace_id, conversation_id, channel_id, "group", title, found)
    return {
        "id": conversation_id,
        "channel_id": channel_id,
        "dm_type": "group",
        "name": title,
        "participants": [{"agent_id": agent_id} for agent_id in sorted(found, key=int)],
        "created_at": ids.iso(tx.now),
    }


def conversation_of(tx: Tx, caller: Caller, conversation_id: str) -> sqlite3.Row:
    """A conversation in which the caller takes part. Raises EngineError 404 or 403 `forbidden`."""
    row = tx.one("SELECT * FROM conversations WHERE id = ? AND workspace_id = ?", conversation_id, caller.workspace_id)
    if row is None:
        raise not_found("conversation_not_found", "Conversation not found")
    if not tx.one("SELECT 1 FROM members WHERE channel_id = ? AND agent_id = ?", row["channel_id"], caller.id):
        raise EngineError(403, "forbidden", "Not a participant of this conversation")
    return row


def post_to_conversation(
    tx: Tx, engine: Engine, caller: Caller, conversation_id: str, body: dict[str, Any]
) -> dict[str, Any]:
    """A message to everybody else in a conversation."""
    conversation = conversation_of(tx, caller, conversation_id)
    row = _insert(tx, engine, caller, conversation["channel_id"], body)
    response = _dm_response(conversation_id, row) | {"agent_id": caller.id}
    recipients = [
        (member["agent_id"], "dm")
        for member in channels.members(tx, conversation["channel_id"])
        if member["agent_id"] != caller.id
    ]
    kind = "dm.received" if conversation["type"] == "1:1" else "group_dm.received"
    _deliver(tx, engine, caller, row, recipients, {"type": kind, "data": response | {"from_name": caller.name}})
    _observe(
        tx, engine, caller.workspace_id, row,
        {"type": kind, "conversation_id": conversation_id, "message": _brief(row)},
    )  # fmt: skip
    return response


def _deliver(
    tx: Tx,
    engine: Engine,
    caller: Caller,
    row: sqlite3.Row,
    recipients: list[tuple[str, str]],
    payload: dict[str, Any],
    *,
    dm_row: bool = False,
) -> None:
    deliveries.fan_out(
        tx,
        engine,
        workspace_id=caller.workspace_id,
        message_id=str(row["id"]),
        channel_id=row["channel_id"],
        sender_id=caller.id,
        recipients=recipients,
        payload=payload,
        mode=row["mode"],
        dm_row=dm_row,
    )


def _observe(tx: Tx, engine: Engine, workspace_id: str, row: sqlite3.Row, event: dict[str, Any]) -> None:
    full = {"id": ids.stable_uuid(f"message:{row['id']}")} | event
    tx.after(lambda: engine.hub.publish(workspace_id, full))


# --- reading --------------------------------------------------------------------------------------------------------------


def page(tx: Tx, channel_id: str, limit: int, before: str | None, after: str | None) -> list[sqlite3.Row]:
    """Root messages of a channel, newest first, between two message ids."""
    low = int(after) if after and after.isdigit() else 0
    high = int(before) if before and before.isdigit() else 2**63 - 1
    return tx.all(
        "SELECT * FROM messages WHERE channel_id = ? AND thread_id IS NULL AND id > ? AND id < ? ORDER BY id DESC LIMIT ?",
        channel_id, low, high, limit,
    )  # fmt: skip


def details(tx: Tx, row: sqlite3.Row) -> dict[str, Any]:
    """A message with its counts."""
    replies = tx.one("SELECT COUNT(*) AS n FROM messages WHERE thread_id = ?", row["id"])
    readers = tx.one("SELECT COUNT(*) AS n FROM receipts WHERE message_id = ?", row["id"])
    assert replies is not None
    assert readers is not None
    return view(row) | {
        "reply_count": replies["n"],
        "reactions": reactions(tx, row["id"]),
        "read_by_count": readers["n"],
    }


def replies_of(tx: Tx, row: sqlite3.Row) -> dict[str, Any]:
    """A thread, oldest reply first."""
    rows = tx.all("SELECT * FROM messages WHERE thread_id = ? ORDER BY id", row["id"])
    return {"parent": view(row), "replies": [reply_view(tx, item) for item in rows]}


def conversations(tx: Tx, caller: Caller) -> list[dict[str, Any]]:
    """The caller's conversations, newest first."""
    rows = tx.all(
        "SELECT c.*, m.last_read_id, (SELECT MAX(id) FROM messages WHERE channel_id = c.channel_id) AS newest"
        " FROM conversations c JOIN members m ON m.channel_id = c.channel_id WHERE m.agent_id = ?"
        " ORDER BY COALESCE(newest, 0) DESC, c.created_at DESC",
        caller.id,
    )
    return [_conversation_view(tx, caller, row) for row in rows]


def _conversation_view(tx: Tx, caller: Caller, row: sqlite3.Row) -> dict[str, Any]:
    last = tx.one("SELECT * FROM messages WHERE id = ?", row["newest"])
    unread = tx.one(
        "SELECT COUNT(*) AS n FROM messages WHERE channel_id = ? AND id > ? AND agent_id != ?",
        row["channel_id"], row["last_read_id"], caller.id,
    )  # fmt: skip
    assert unread is not None
    return {
        "id": row["id"],
        "type": row["type"],
        "name": row["name"],
        "participants": [
            {"agent_id": member["agent_id"], "agent_name": member["agent_name"]}
            for member in channels.members(tx, row["channel_id"])
        ],
        "last_message": None
        if last is None
        else {
            "id": str(last["id"]),
            "text": last["text"],
            "agent_id": last["agent_id"],
            "created_at": ids.iso(last["created_at"]),
        },
        "unread_count": unread["n"],
        "created_at": ids.iso(row["created_at"]),
    }


def inbox(tx: Tx, caller: Caller) -> dict[str, Any]:
    """What the caller has not read."""
    unread = tx.all(
        "SELECT c.name, COUNT(*) AS n FROM members m JOIN channels c ON c.id = m.channel_id JOIN messages x ON x.channel_id = c.id"
        " WHERE m.agent_id = ? AND c.kind = 'channel' AND x.id > m.last_read_id AND x.agent_id != ? GROUP BY c.id ORDER BY c.name",
        caller.id, caller.id,
    )  # fmt: skip
    mentions = tx.all(
        "SELECT x.*, c.name AS channel_name FROM members m JOIN channels c ON c.id = m.channel_id JOIN messages x ON x.channel_id = c.id"
        " WHERE m.agent_id = ? AND c.kind = 'channel' AND x.id > m.last_read_id AND x.agent_id != ?"
        " AND EXISTS (SELECT 1 FROM json_each(x.mentions) WHERE value = ?) ORDER BY x.id DESC LIMIT 50",
        caller.id, caller.id, caller.name,
    )  # fmt: skip
    dms = [item for item in conversations(tx, caller) if item["unread_count"]]
    recent = tx.all(
        "SELECT r.*, a.name AS agent_name, c.name AS channel_name FROM reactions r JOIN messages x ON x.id = r.message_id"
        " JOIN agents a ON a.id = r.agent_id JOIN channels c ON c.id = x.channel_id"
        " WHERE x.agent_id = ? AND r.agent_id != ? ORDER BY r.created_at DESC LIMIT 20",
        caller.id, caller.id,
    )  # fmt: skip
    return {
        "unread_channels": [{"channel_name": row["name"], "unread_count": row["n"]} for row in unread],
        "mentions": [
            {
                "id": str(row["id"]),
                "channel_name": row["channel_name"],
                "agent_name": row["agent_name"],
                "text": row["text"],
                "created_at": ids.iso(row["created_at"]),
            }
            for row in mentions
        ],
        "unread_dms": [_unread_dm(item, caller) for item in dms],
        "recent_reactions": [
            {
                "message_id": str(row["message_id"]),
                "channel_name": row["channel_name"],
                "emoji": row["emoji"],
                "agent_name": row["agent_name"],
                "created_at": ids.iso(row["created_at"]),
            }
            for row in recent
        ],
    }


def _unread_dm(item: dict[str, Any], caller: Caller) -> dict[str, Any]:
    others = [row["agent_name"] for row in item["participants"] if row["agent_id"] != caller.id]
    last = item["last_message"]
    return {
        "conversation_id": item["id"],
        "from": others[0] if others else caller.name,
        "unread_count": item["unread_count"],
        "last_message": None if last is None else {key: last[key] for key in ("id", "text", "created_at")},
    }


# --- reactions and receipts ------------------------------------------------------------------------------------------------


def _audience(tx: Tx, row: sqlite3.Row) -> list[str]:
    return [member["agent_id"] for member in channels.members(tx, row["channel_id"])]


def _channel_name(tx: Tx, row: sqlite3.Row) -> str | None:
    channel = tx.one("SELECT name FROM channels WHERE id = ?", row["channel_id"])
    return channel["name"] if channel else None


def react(tx: Tx, engine: Engine, caller: Caller, message_id: str, emoji: str) -> dict[str, Any]:
    """Add a reaction; adding it twice is adding it once."""
    row = find(tx, caller.workspace_id, message_id)
    if not emoji.strip():
        raise invalid("emoji is required")
    reaction_id = engine.ids.next()
    added = tx.run(
        "INSERT OR IGNORE INTO reactions VALUES (?,?,?,?,?)", reaction_id, row["id"], caller.id, emoji, tx.now
    )
    stored = tx.one(
        "SELECT * FROM reactions WHERE message_id = ? AND agent_id = ? AND emoji = ?", row["id"], caller.id, emoji
    )
    assert stored is not None
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
    row = find(tx, caller.workspace_id, message_id)
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
    tx.after(lambda: engine.hub.publish(caller.workspace_id, event))


def reactions(tx: Tx, message_id: int) -> list[dict[str, Any]]:
    """Reactions of a message, grouped."""
    grouped: dict[str, list[str]] = {}
    for row in tx.all(
        "SELECT r.emoji, a.name FROM reactions r JOIN agents a ON a.id = r.agent_id WHERE r.message_id = ? ORDER BY r.created_at",
        message_id,
    ):
        grouped.setdefault(row["emoji"], []).append(row["name"])
    return [{"emoji": emoji, "count": len(names), "agents": names} for emoji, names in grouped.items()]


def read(tx: Tx, engine: Engine, caller: Caller, message_id: str) -> dict[str, Any]:
    """Mark as read: receipt, delivery row and read mark; the cumulative cursor stays."""
    row = find(tx, caller.workspace_id, message_id)
    if caller.id not in _audience(tx, row):
        raise not_found("message_not_found", "Message not found")
    added = deliveries.mark_read(tx, caller.id, row["id"], row["channel_id"])
    tx.run(
        "UPDATE deliveries SET status = 'acked', acked_at = ?, updated_at = ? WHERE message_id = ? AND agent_id = ?"
        " AND status IN ('queued', 'delivered', 'failed')",
        tx.now, tx.now, row["id"], caller.id,
    )  # fmt: skip
    stored = tx.one("SELECT read_at FROM receipts WHERE message_id = ? AND agent_id = ?", row["id"], caller.id)
    assert stored is not None
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
        tx.after(lambda: engine.hub.publish(caller.workspace_id, event))
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
