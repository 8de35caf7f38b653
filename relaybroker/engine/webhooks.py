"""Webhooks: an address by which a program that is no agent speaks in one channel, and does nothing else.

What it says is said under the name that the operator gave the webhook; who it claims to be is data of the message.

Source: spec/engine-contract.md section 2.11.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from relaybroker.engine import channels, events, ids, messages
from relaybroker.engine.auth import Caller
from relaybroker.engine.context import Engine
from relaybroker.engine.errors import EngineError, invalid, not_found
from relaybroker.engine.store import Tx

WEBHOOKS_MAX = 64
"""Webhooks of one workspace."""
PATH = "/v1/hooks/"


def create(tx: Tx, engine: Engine, workspace_id: str, given: dict[str, Any], base: str) -> dict[str, Any]:
    """A new webhook of a channel and its token; `base` is where the engine was reached.

    Raises:
        EngineError: 404 `channel_not_found`, 400 `channel_archived`, 403 `webhook_limit`.
    """
    channel = channels.find(tx, workspace_id, given["channel"])
    channels.require_open(channel)
    if tx.count("SELECT COUNT(*) FROM webhooks WHERE workspace_id = ?", workspace_id) >= WEBHOOKS_MAX:
        raise EngineError(403, "webhook_limit", f"A workspace has at most {WEBHOOKS_MAX} webhooks")
    webhook_id, token = f"whk_{engine.ids.next()}", ids.webhook_token()
    tx.run(
        "INSERT INTO webhooks (id, workspace_id, name, channel_id, token_hash, created_at) VALUES (?,?,?,?,?,?)",
        webhook_id, workspace_id, given.get("name") or "webhook", channel["id"], ids.digest(token), tx.now,
    )  # fmt: skip
    made = view(tx, find(tx, workspace_id, webhook_id), base)
    return {"webhook_id": made.pop("id")} | made | {"token": token}


def find(tx: Tx, workspace_id: str, webhook_id: str) -> sqlite3.Row:
    """A webhook of this workspace. Raises EngineError 404 `webhook_not_found`."""
    row = tx.one("SELECT * FROM webhooks WHERE id = ? AND workspace_id = ?", webhook_id, workspace_id)
    if row is None:
        raise not_found("webhook_not_found", "Webhook not found")
    return row


def listing(tx: Tx, workspace_id: str, base: str) -> list[dict[str, Any]]:
    """The webhooks of a workspace, oldest first."""
    rows = tx.all("SELECT * FROM webhooks WHERE workspace_id = ? ORDER BY created_at, id", workspace_id)
    return [view(tx, row, base) for row in rows]


def view(tx: Tx, row: sqlite3.Row, base: str) -> dict[str, Any]:
    """A webhook without its token."""
    return {
        "id": row["id"],
        "name": row["name"],
        "channel": tx.the("SELECT name FROM channels WHERE id = ?", row["channel_id"])["name"],
        "url": f"{base}{PATH}{row['id']}",
        "created_at": ids.iso(row["created_at"]),
        "is_active": True,
    }


def receive(tx: Tx, engine: Engine, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Say something in the webhook's channel.

    Raises:
        EngineError: 400 `invalid_request` without a text, 400 `channel_archived`, 413 `body_too_large`, 429 `sender_quota`.
    """
    text = given.get("text") or given.get("message")
    if not text:
        raise invalid("text is required")
    row = find(tx, caller.workspace_id, caller.id)
    channel = tx.the("SELECT name FROM channels WHERE id = ?", row["channel_id"])["name"]
    claims = {key: given.get(key) for key in ("source", "author")}
    data = {"webhook": {"id": caller.id, **claims, "payload": given.get("payload")}}
    said = messages.post(tx, engine, caller, channel, {"text": text, "blocks": given.get("blocks"), "data": data})
    event = {
        "type": "webhook.received",
        "webhook_id": caller.id,
        "channel": channel,
        "message": {"id": said["id"], "text": text, **claims},
    }
    events.publish(tx, engine, caller.workspace_id, event)
    return {"message_id": said["id"], "channel": channel, "text": text, **claims, "created_at": said["created_at"]}
