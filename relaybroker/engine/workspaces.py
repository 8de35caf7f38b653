"""A workspace as a whole: how it is shown and changed, what happens in it, its end.

Source: spec/engine-contract.md sections 2.1, 2.9.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from relaybroker.engine import ids
from relaybroker.engine.auth import Caller
from relaybroker.engine.context import Engine
from relaybroker.engine.errors import EngineError
from relaybroker.engine.store import Tx

_PARTS = (
    "DELETE FROM reactions WHERE message_id IN (SELECT id FROM messages WHERE workspace_id = ?)",
    "DELETE FROM receipts WHERE message_id IN (SELECT id FROM messages WHERE workspace_id = ?)",
    "DELETE FROM members WHERE channel_id IN (SELECT id FROM channels WHERE workspace_id = ?)",
    "DELETE FROM messages WHERE workspace_id = ?",
    "DELETE FROM deliveries WHERE workspace_id = ?",
    "DELETE FROM conversations WHERE workspace_id = ?",
    "DELETE FROM channels WHERE workspace_id = ?",
    "DELETE FROM invocations WHERE workspace_id = ?",
    "DELETE FROM actions WHERE workspace_id = ?",
    "DELETE FROM bindings WHERE workspace_id = ?",
    "DELETE FROM nodes WHERE workspace_id = ?",
    "DELETE FROM agent_events WHERE workspace_id = ?",
    "DELETE FROM agents WHERE workspace_id = ?",
    "DELETE FROM observer_tokens WHERE workspace_id = ?",
    "DELETE FROM webhooks WHERE workspace_id = ?",
    "DELETE FROM file_parts WHERE file_id IN (SELECT id FROM files WHERE workspace_id = ?)",
    "DELETE FROM attachments WHERE file_id IN (SELECT id FROM files WHERE workspace_id = ?)",
    "DELETE FROM files WHERE workspace_id = ?",
    "DELETE FROM posts WHERE workspace_id = ?",
    "DELETE FROM subscriptions WHERE workspace_id = ?",
    "DELETE FROM refusals WHERE workspace_id = ?",
    "DELETE FROM idempotency WHERE workspace_id = ?",
    "DELETE FROM workspaces WHERE id = ?",
)


def find(tx: Tx, workspace_id: str) -> sqlite3.Row:
    """The workspace of an authenticated caller."""
    return tx.the("SELECT * FROM workspaces WHERE id = ?", workspace_id)


def view(row: sqlite3.Row) -> dict[str, Any]:
    """A workspace as its operator sees it."""
    return {
        "id": row["id"],
        "name": row["name"],
        "plan": "free",
        "system_prompt": row["system_prompt"],
        "created_at": ids.iso(row["created_at"]),
        "metadata": json.loads(row["metadata"]),
    }


def update(tx: Tx, workspace_id: str, sent: dict[str, Any]) -> sqlite3.Row:
    """The workspace with another name or prompt, as far as `sent` has them. Raises EngineError 409 `workspace_already_exists`."""
    row = find(tx, workspace_id)
    name = sent.get("name") or row["name"]
    if tx.one("SELECT 1 FROM workspaces WHERE name = ? AND id != ?", name, workspace_id):
        raise EngineError(409, "workspace_already_exists", "A workspace with this name already exists")
    prompt = sent.get("system_prompt", row["system_prompt"])
    tx.run("UPDATE workspaces SET name = ?, system_prompt = ? WHERE id = ?", name, prompt, workspace_id)
    return find(tx, workspace_id)


def prompt(row: sqlite3.Row) -> dict[str, Any]:
    """The system prompt; the default one is empty."""
    return {"prompt": row["system_prompt"] or "", "is_default": row["system_prompt"] is None}


def delete(tx: Tx, engine: Engine, workspace_id: str) -> None:
    """The workspace, everything in it and its tokens are gone; its sockets are closed."""
    for statement in _PARTS:
        tx.run(statement, workspace_id)
    tx.after(lambda: engine.hub.close_workspace(workspace_id))


def activity(tx: Tx, caller: Caller, limit: int, before: int) -> list[dict[str, Any]]:
    """What was said anywhere in the workspace, as far as an observer may read it, newest first."""
    rows = tx.all(
        "SELECT m.*, c.name AS channel_name, v.id AS conversation_id FROM messages m JOIN channels c ON c.id = m.channel_id"
        " LEFT JOIN conversations v ON v.channel_id = m.channel_id WHERE m.workspace_id = ? AND m.id < ? AND (c.kind != 'dm' OR ?)"
        " AND (m.thread_id IS NULL OR ?) ORDER BY m.id DESC LIMIT ?",
        caller.workspace_id, before, caller.may_read("dms:read"), caller.may_read("threads:read"), limit,
    )  # fmt: skip
    return [_said(row) for row in rows]


def _said(row: sqlite3.Row) -> dict[str, Any]:
    place = (
        {"type": "message", "channel_name": row["channel_name"]}
        if row["conversation_id"] is None
        else {"type": "dm", "conversation_id": row["conversation_id"]}
    )
    return place | {
        "id": str(row["id"]),
        "channel_id": row["channel_id"],
        "agent_name": row["agent_name"],
        "text": row["text"],
        "created_at": ids.iso(row["created_at"]),
    }
