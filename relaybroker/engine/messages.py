"""Messages: channel posts, thread replies, and how they are stored, shown and read.

Source: spec/engine-contract.md sections 2.4, 7.5, 10.
"""

from __future__ import annotations

import json
import re
import sqlite3
from typing import Any

from relaybroker.engine import channels, deliveries, events, files, ids, quotas
from relaybroker.engine.auth import Caller
from relaybroker.engine.context import Engine
from relaybroker.engine.errors import EngineError, not_found
from relaybroker.engine.hub import encode
from relaybroker.engine.json_text import whole
from relaybroker.engine.store import Tx

MESSAGE_MAX = 512 * 1024
"""Characters of a message with its data, blocks, mentions and what it says of its files: each recipient gets them all."""
_MENTION = re.compile(r"@(\w+)")


def insert(
    tx: Tx,
    engine: Engine,
    caller: Caller,
    channel_id: str,
    body: dict[str, Any],
    *,
    thread_id: str | None = None,
) -> sqlite3.Row:
    """Store a message; its recipients get it from `deliver`.

    Raises:
        EngineError: 413 `body_too_large`; for attachments 404 `file_not_found`, 409 `file_not_complete`.
    """
    attachments = files.attachable(tx, caller, body.get("attachments") or [])
    message_id = int(engine.ids.next())
    mentions = json.dumps(list(dict.fromkeys(_MENTION.findall(body["text"]))))
    blocks = None if body.get("blocks") is None else json.dumps(body["blocks"])
    data, carried = json.dumps(body.get("data") or {}), json.dumps(attachments)
    if len(body["text"]) + len(mentions) + len(blocks or "") + len(data) + len(carried) > MESSAGE_MAX:
        raise EngineError(413, "body_too_large", f"A message has at most {MESSAGE_MAX // 1024} Ki characters in all")
    tx.run(
        "INSERT INTO messages (id, workspace_id, channel_id, agent_id, agent_name, text, blocks, metadata, thread_id, mode, mentions,"
        " attachments, created_at) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
        message_id, caller.workspace_id, channel_id, caller.id, caller.name, body["text"],
        blocks, data, None if thread_id is None else int(thread_id), body.get("mode") or "wait", mentions, carried, tx.now,
    )  # fmt: skip
    files.attach(tx, message_id, attachments)
    return tx.the("SELECT * FROM messages WHERE id = ?", message_id)


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
        "has_attachments": row["attachments"] != "[]",
        "thread_id": None if row["thread_id"] is None else str(row["thread_id"]),
        "created_at": ids.iso(row["created_at"]),
        "mentions": json.loads(row["mentions"]),
        "attachments": json.loads(row["attachments"]),
        "injection_mode": row["mode"],
    }


def reply_view(tx: Tx, row: sqlite3.Row) -> dict[str, Any]:
    """A thread reply; it names its attachments only if it has some."""
    full = view(row)
    channel = tx.the("SELECT name FROM channels WHERE id = ?", row["channel_id"])
    reply = {
        "id": full["id"],
        "channel_id": full["channel_id"],
        "channel_name": channel["name"],
        "agent_id": full["agent_id"],
        "agent_name": full["agent_name"],
        "thread_id": full["thread_id"],
        "text": full["text"],
        "blocks": full["blocks"],
        "metadata": full["metadata"],
        "has_attachments": full["has_attachments"],
        "created_at": full["created_at"],
    }
    return reply | {"attachments": full["attachments"]} if full["has_attachments"] else reply


def find(tx: Tx, workspace_id: str, message_id: str) -> sqlite3.Row:
    """A message of this workspace. Raises EngineError 404 `message_not_found`."""
    try:
        number = whole(message_id)
    except ValueError:
        number = -1
    row = tx.one("SELECT * FROM messages WHERE id = ? AND workspace_id = ?", number, workspace_id)
    if row is None:
        raise not_found("message_not_found", "Message not found")
    return row


def readable(tx: Tx, caller: Caller, message_id: str) -> sqlite3.Row:
    """A message that the caller may read: the operator, who is a member where it was said, who said it, and who may observe it.

    Raises:
        EngineError: 404 `message_not_found`, also for a message that others say among themselves.
    """
    row = find(tx, caller.workspace_id, message_id)
    if (
        caller.kind == "agent"
        and row["agent_id"] != caller.id
        and not channels.is_member(tx, row["channel_id"], caller.id)
    ):
        raise not_found("message_not_found", "Message not found")
    if (in_conversation(tx, row) and not caller.may_read("dms:read")) or (
        row["thread_id"] and not caller.may_read("threads:read")
    ):
        raise not_found("message_not_found", "Message not found")
    return row


def answerable(tx: Tx, caller: Caller, message_id: str) -> sqlite3.Row:
    """A message that the caller may answer: one that it may read, or one in a channel, where everybody may speak.

    Raises:
        EngineError: 404 `message_not_found`.
    """
    row = find(tx, caller.workspace_id, message_id)
    if not in_conversation(tx, row):
        return row
    return readable(tx, caller, message_id)


def brief(row: sqlite3.Row) -> dict[str, Any]:
    """A message inside another object."""
    return {
        "id": str(row["id"]),
        "agent_id": row["agent_id"],
        "agent_name": row["agent_name"],
        "text": row["text"],
        "injection_mode": row["mode"],
        "attachments": json.loads(row["attachments"]),
    }


def post(tx: Tx, engine: Engine, caller: Caller, channel_name: str, body: dict[str, Any]) -> dict[str, Any]:
    """A channel message to every member but its author."""
    channel = channels.find(tx, caller.workspace_id, channel_name)
    channels.require_open(channel)
    row = insert(tx, engine, caller, channel["id"], body)
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
    deliver(tx, engine, caller, row, recipients, payload)
    observe(
        tx, engine, caller.workspace_id, row,
        {"type": "message.created", "channel": channel["name"], "message": brief(row)},
    )  # fmt: skip
    return message


def reply(tx: Tx, engine: Engine, caller: Caller, message_id: str, body: dict[str, Any]) -> dict[str, Any]:
    """A thread reply; a reply to a reply belongs to the root."""
    parent = find(tx, caller.workspace_id, message_id)
    channels.require_open(tx.the("SELECT is_archived FROM channels WHERE id = ?", parent["channel_id"]))
    root = str(parent["thread_id"] or parent["id"])
    row = insert(tx, engine, caller, parent["channel_id"], body, thread_id=root)
    answer = reply_view(tx, row)
    recipients = [
        (member["agent_id"], "thread-reply")
        for member in channels.members(tx, parent["channel_id"])
        if member["agent_id"] != caller.id and not member["is_muted"]
    ]
    deliver(tx, engine, caller, row, recipients, {"type": "thread.reply", "data": answer | {"from_name": caller.name}})
    event = {
        "type": "thread.reply",
        "channel": answer["channel_name"],
        "parent_id": root,
        "message": {key: brief(row)[key] for key in ("id", "agent_id", "agent_name", "text")},
    }
    observe(tx, engine, caller.workspace_id, row, event)
    return answer


def deliver(
    tx: Tx,
    engine: Engine,
    caller: Caller,
    row: sqlite3.Row,
    recipients: list[tuple[str, str]],
    payload: dict[str, Any],
    *,
    dm_row: bool = False,
) -> None:
    """Give every recipient (agent id, reason) its delivery of a message. Raises EngineError 429 `sender_quota`."""
    text = encode(payload)
    quotas.require_room(tx, engine, caller, len(recipients), len(text))
    deliveries.fan_out(
        tx,
        engine,
        workspace_id=caller.workspace_id,
        message_id=str(row["id"]),
        channel_id=row["channel_id"],
        sender_id=caller.id,
        recipients=recipients,
        payload=text,
        mode=row["mode"],
        dm_row=dm_row,
    )


def observe(tx: Tx, engine: Engine, workspace_id: str, row: sqlite3.Row, event: dict[str, Any]) -> None:
    """Show the observers of the workspace an event about a message, with an id that is always the same for that message."""
    full = {"id": ids.stable_uuid(f"message:{row['id']}")} | event
    events.publish(tx, engine, workspace_id, full, is_private=in_conversation(tx, row))


def in_conversation(tx: Tx, row: sqlite3.Row) -> bool:
    """Whether a message was said in a conversation, not in a channel."""
    return bool(tx.the("SELECT kind FROM channels WHERE id = ?", row["channel_id"])["kind"] == "dm")


def page(tx: Tx, channel_id: str, limit: int, low: int, high: int) -> list[sqlite3.Row]:
    """Root messages of a channel, newest first, between two message ids."""
    return tx.all(
        "SELECT * FROM messages WHERE channel_id = ? AND thread_id IS NULL AND id > ? AND id < ? ORDER BY id DESC LIMIT ?",
        channel_id, low, high, limit,
    )  # fmt: skip


def replies_of(tx: Tx, row: sqlite3.Row) -> dict[str, Any]:
    """A thread, oldest reply first."""
    rows = tx.all("SELECT * FROM messages WHERE thread_id = ? ORDER BY id", row["id"])
    return {"parent": view(row), "replies": [reply_view(tx, item) for item in rows]}
