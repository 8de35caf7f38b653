"""Channels and who is in them.

Source: spec/engine-contract.md section 2.4.
"""

from __future__ import annotations

import json
import re
import sqlite3
from typing import Any

from relaybroker.engine import events, ids, quotas
from relaybroker.engine.context import Engine
from relaybroker.engine.errors import EngineError, not_found
from relaybroker.engine.store import Tx

GENERAL = "general"
"""The channel that every agent is in."""
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")


def find(tx: Tx, workspace_id: str, name: str) -> sqlite3.Row:
    """The channel of this name (a leading `#` is ignored). Raises EngineError 404 `channel_not_found`."""
    row = tx.one(
        "SELECT * FROM channels WHERE workspace_id = ? AND name = ? AND kind = 'channel'",
        workspace_id, name.removeprefix("#"),
    )  # fmt: skip
    if row is None:
        raise not_found("channel_not_found", f'Channel "{name}" not found')
    return row


def create(
    tx: Tx,
    engine: Engine,
    workspace_id: str,
    *,
    name: str,
    topic: str | None = None,
    metadata: dict[str, Any] | None = None,
    creator_id: str | None = None,
) -> sqlite3.Row:
    """A new channel; an agent that creates it is its owner. Raises EngineError 403 `channel_limit`, 409 `channel_already_exists`."""
    if not _NAME.fullmatch(name):
        raise EngineError(400, "invalid_channel_name", "Channel names are lower-case letters, digits and hyphens")
    if tx.one("SELECT 1 FROM channels WHERE workspace_id = ? AND name = ?", workspace_id, name):
        raise EngineError(409, "channel_already_exists", f'Channel "{name}" already exists')
    quotas.require_room_for_channel(tx, engine, workspace_id, creator_id)
    tx.run(
        "INSERT INTO channels (id, workspace_id, name, kind, topic, metadata, created_by, created_at) VALUES (?,?,?,'channel',?,?,?,?)",
        engine.ids.next(), workspace_id, name, topic, json.dumps(metadata or {}), creator_id, tx.now,
    )  # fmt: skip
    row = find(tx, workspace_id, name)
    if creator_id:
        add_member(tx, row["id"], creator_id, "owner")
    event = {"type": "channel.created", "channel": {"name": name, "topic": topic}}
    events.publish(tx, engine, workspace_id, event)
    return row


def update(tx: Tx, engine: Engine, channel: sqlite3.Row, sent: dict[str, Any]) -> sqlite3.Row:
    """The channel with another topic or other metadata, as far as `sent` has them. Raises EngineError 400 `channel_archived`."""
    require_open(channel)
    topic = sent.get("topic", channel["topic"])
    metadata = channel["metadata"] if sent.get("metadata") is None else json.dumps(sent["metadata"])
    tx.run("UPDATE channels SET topic = ?, metadata = ? WHERE id = ?", topic, metadata, channel["id"])
    event = {"type": "channel.updated", "channel": {"name": channel["name"], "topic": topic}}
    events.publish(tx, engine, channel["workspace_id"], event)
    return find(tx, channel["workspace_id"], channel["name"])


def archive(tx: Tx, engine: Engine, channel: sqlite3.Row) -> None:
    """Nothing more is said in the channel; what was said stays. Raises EngineError 400 `cannot_archive_general`, `channel_archived`."""
    if channel["name"] == GENERAL:
        raise EngineError(400, "cannot_archive_general", "#general cannot be archived")
    require_open(channel)
    tx.run("UPDATE channels SET is_archived = 1 WHERE id = ?", channel["id"])
    event = {"type": "channel.archived", "channel": {"name": channel["name"]}}
    events.publish(tx, engine, channel["workspace_id"], event)


def require_open(channel: sqlite3.Row) -> None:
    """Raises EngineError 400 `channel_archived`."""
    if channel["is_archived"]:
        raise EngineError(400, "channel_archived", "Channel is archived")


def join_general(tx: Tx, engine: Engine, workspace_id: str, agent_id: str) -> None:
    """Every agent is in #general."""
    row = tx.one("SELECT id FROM channels WHERE workspace_id = ? AND name = ?", workspace_id, GENERAL)
    channel_id = row["id"] if row else create(tx, engine, workspace_id, name=GENERAL, topic="General discussion")["id"]
    add_member(tx, channel_id, agent_id, "member")


def add_member(tx: Tx, channel_id: str, agent_id: str, role: str) -> bool:
    """Put an agent into a channel; False if it was there."""
    return (
        tx.run(
            "INSERT OR IGNORE INTO members (channel_id, agent_id, role, joined_at) VALUES (?,?,?,?)",
            channel_id, agent_id, role, tx.now,
        )
        == 1
    )  # fmt: skip


def is_member(tx: Tx, channel_id: str, agent_id: str) -> bool:
    """Whether an agent is in a channel or takes part in a conversation."""
    return tx.one("SELECT 1 FROM members WHERE channel_id = ? AND agent_id = ?", channel_id, agent_id) is not None


def join(tx: Tx, engine: Engine, channel: sqlite3.Row, agent_id: str, agent_name: str) -> bool:
    """An agent joins; False if it was a member already."""
    added = add_member(tx, channel["id"], agent_id, "member")
    if added:
        _tell(tx, engine, channel, "member.joined", agent_name)
    return added


def leave(tx: Tx, engine: Engine, channel: sqlite3.Row, agent_id: str, agent_name: str) -> None:
    """An agent leaves. Raises EngineError 403 `not_a_member`."""
    if not tx.run("DELETE FROM members WHERE channel_id = ? AND agent_id = ?", channel["id"], agent_id):
        raise EngineError(403, "not_a_member", "Not a member of this channel")
    _tell(tx, engine, channel, "member.left", agent_name)


def mute(tx: Tx, engine: Engine, channel: sqlite3.Row, agent_id: str, agent_name: str, *, muted: bool) -> None:
    """An agent mutes or unmutes. Raises EngineError 403 `not_a_member`."""
    if not tx.run(
        "UPDATE members SET is_muted = ? WHERE channel_id = ? AND agent_id = ?", int(muted), channel["id"], agent_id
    ):
        raise EngineError(403, "not_a_member", "Not a member of this channel")
    _tell(tx, engine, channel, "member.channel_muted" if muted else "member.channel_unmuted", agent_name)


def _tell(tx: Tx, engine: Engine, channel: sqlite3.Row, event: str, agent_name: str) -> None:
    said = {"type": event, "channel": channel["name"], "agent_name": agent_name}
    events.publish(tx, engine, channel["workspace_id"], said)


def members(tx: Tx, channel_id: str) -> list[dict[str, Any]]:
    """Who is in a channel."""
    return [
        {
            "agent_id": row["agent_id"],
            "agent_name": row["name"],
            "role": row["role"],
            "joined_at": ids.iso(row["joined_at"]),
            "is_muted": bool(row["is_muted"]),
        }
        for row in tx.all(
            "SELECT m.*, a.name FROM members m JOIN agents a ON a.id = m.agent_id WHERE m.channel_id = ? ORDER BY m.joined_at, a.id",
            channel_id,
        )
    ]


def view(tx: Tx, row: sqlite3.Row) -> dict[str, Any]:
    """A channel as it is listed."""
    return {
        "id": row["id"],
        "name": row["name"],
        "topic": row["topic"],
        "metadata": json.loads(row["metadata"]),
        "created_by": row["created_by"],
        "created_at": ids.iso(row["created_at"]),
        "member_count": tx.count("SELECT COUNT(*) FROM members WHERE channel_id = ?", row["id"]),
        "is_archived": bool(row["is_archived"]),
    }
