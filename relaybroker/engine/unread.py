"""What an agent has not read.

Source: spec/engine-contract.md section 2.6.
"""

from __future__ import annotations

from typing import Any

from relaybroker.engine import conversations, ids
from relaybroker.engine.auth import Caller
from relaybroker.engine.store import Tx


def of(tx: Tx, caller: Caller) -> dict[str, Any]:
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
    dms = [item for item in conversations.listing(tx, caller) if item["unread_count"]]
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
