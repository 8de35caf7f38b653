"""Direct and group conversations: opening, posting, listing.

Source: spec/engine-contract.md sections 1.2, 2.5, 7.5.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from relaybroker.engine import agents, channels, ids, messages, quotas
from relaybroker.engine.auth import Caller
from relaybroker.engine.context import Engine
from relaybroker.engine.errors import EngineError, invalid, not_found
from relaybroker.engine.models import PARTICIPANTS_MAX
from relaybroker.engine.store import Tx


def direct(tx: Tx, engine: Engine, caller: Caller, body: dict[str, Any]) -> dict[str, Any]:
    """A message to one agent; to oneself it is stored and not delivered."""
    name = caller.name if body["to"] == "@self" else body["to"].removeprefix("@")
    target = agents.find(tx, caller.workspace_id, name)
    conversation = _one_to_one(tx, caller, target["id"])
    row = messages.insert(tx, engine, caller, conversation["channel_id"], body)
    response = _response(conversation["id"], row, {"from_agent_id": caller.id, "to": target["name"]})
    recipients = [] if target["id"] == caller.id else [(target["id"], "dm")]
    messages.deliver(
        tx, engine, caller, row, recipients,
        {"type": "dm.received", "data": response | {"from_name": caller.name}}, dm_row=True,
    )  # fmt: skip
    event = {"type": "dm.received", "conversation_id": conversation["id"], "message": messages.brief(row)}
    messages.observe(tx, engine, caller.workspace_id, row, event)
    return response


def _response(conversation_id: str, row: sqlite3.Row, parties: dict[str, str]) -> dict[str, Any]:
    message = messages.brief(row)
    return {
        "conversation_id": conversation_id,
        "message": message,
        "created_at": ids.iso(row["created_at"]),
        "id": message["id"],
        **parties,
        "text": message["text"],
        "injection_mode": message["injection_mode"],
        "attachments": message["attachments"],
    }


def _one_to_one(tx: Tx, caller: Caller, other_id: str) -> sqlite3.Row:
    name = ids.dm_hash(caller.workspace_id, caller.id, other_id)
    conversation = tx.one("SELECT * FROM conversations WHERE id = ?", f"dm_{name}")
    if conversation is None:
        _open_conversation(tx, caller.workspace_id, f"dm_{name}", f"dmch_{name}", "1:1", None, {caller.id, other_id})
        conversation = tx.the("SELECT * FROM conversations WHERE id = ?", f"dm_{name}")
    return conversation


def _open_conversation(
    tx: Tx,
    workspace_id: str,
    conversation_id: str,
    channel_id: str,
    kind: str,
    name: str | None,
    agent_ids: set[str],
    creator_id: str | None = None,
) -> None:
    tx.run(
        "INSERT INTO channels (id, workspace_id, name, kind, created_by, created_at) VALUES (?,?,?,'dm',?,?)",
        channel_id, workspace_id, channel_id, creator_id, tx.now,
    )  # fmt: skip
    tx.run(
        "INSERT INTO conversations (id, workspace_id, channel_id, type, name, created_at) VALUES (?,?,?,?,?,?)",
        conversation_id, workspace_id, channel_id, kind, name, tx.now,
    )  # fmt: skip
    for agent_id in sorted(agent_ids):
        channels.add_member(tx, channel_id, agent_id, "member")


def open_group(tx: Tx, engine: Engine, caller: Caller, names: list[str], title: str | None) -> dict[str, Any]:
    """A group conversation of the caller and these agents. Raises EngineError 403 `channel_limit`."""
    quotas.require_room_for_channel(tx, engine, caller.workspace_id, caller.id)
    participants = {agents.find(tx, caller.workspace_id, name)["id"] for name in names} | {caller.id}
    conversation_id, channel_id = engine.ids.next(), f"dmch_{engine.ids.next()}"
    _open_conversation(tx, caller.workspace_id, conversation_id, channel_id, "group", title, participants, caller.id)
    return {
        "id": conversation_id,
        "channel_id": channel_id,
        "dm_type": "group",
        "name": title,
        "participants": [{"agent_id": agent_id} for agent_id in sorted(participants, key=int)],
        "created_at": ids.iso(tx.now),
    }


def find(tx: Tx, workspace_id: str, conversation_id: str) -> sqlite3.Row:
    """A conversation of this workspace. Raises EngineError 404 `conversation_not_found`."""
    row = tx.one("SELECT * FROM conversations WHERE id = ? AND workspace_id = ?", conversation_id, workspace_id)
    if row is None:
        raise not_found("conversation_not_found", "Conversation not found")
    return row


def conversation_of(tx: Tx, caller: Caller, conversation_id: str) -> sqlite3.Row:
    """A conversation in which the caller takes part. Raises EngineError 404 or 403 `forbidden`."""
    row = find(tx, caller.workspace_id, conversation_id)
    if not channels.is_member(tx, row["channel_id"], caller.id):
        raise EngineError(403, "forbidden", "Not a participant of this conversation")
    return row


def add_participant(tx: Tx, caller: Caller, conversation_id: str, name: str) -> dict[str, Any]:
    """Another agent takes part in a group of the caller; it can read what was said before.

    Raises:
        EngineError: 404, 403 `forbidden`, 400 `invalid_request` where two talk with each other, 409 `group_full`.
    """
    row = _group_of(tx, caller, conversation_id)
    agent = agents.find(tx, caller.workspace_id, name)
    added = channels.add_member(tx, row["channel_id"], agent["id"], "member")
    if added and tx.count("SELECT COUNT(*) FROM members WHERE channel_id = ?", row["channel_id"]) > PARTICIPANTS_MAX:
        raise EngineError(409, "group_full", f"A group has at most {PARTICIPANTS_MAX} participants")
    return {"conversation_id": conversation_id, "agent": agent["name"], "already_member": not added}


def leave(tx: Tx, caller: Caller, conversation_id: str, name: str) -> None:
    """The caller takes part no longer. Raises EngineError 404, 403 `forbidden` for another agent, 400 `invalid_request`."""
    row = _group_of(tx, caller, conversation_id)
    if name != caller.name:
        raise EngineError(403, "forbidden", "An agent takes only itself out of a group")
    tx.run("DELETE FROM members WHERE channel_id = ? AND agent_id = ?", row["channel_id"], caller.id)


def _group_of(tx: Tx, caller: Caller, conversation_id: str) -> sqlite3.Row:
    row = conversation_of(tx, caller, conversation_id)
    if row["type"] != "group":
        raise invalid("This conversation is between two agents")
    return row


def post_to_conversation(
    tx: Tx, engine: Engine, caller: Caller, conversation_id: str, body: dict[str, Any]
) -> dict[str, Any]:
    """A message to everybody else in a conversation."""
    conversation = conversation_of(tx, caller, conversation_id)
    row = messages.insert(tx, engine, caller, conversation["channel_id"], body)
    response = _response(conversation_id, row, {"agent_id": caller.id})
    recipients = [
        (member["agent_id"], "dm")
        for member in channels.members(tx, conversation["channel_id"])
        if member["agent_id"] != caller.id
    ]
    is_pair = conversation["type"] == "1:1"
    kind = "dm.received" if is_pair else "group_dm.received"
    payload = {"type": kind, "data": response | {"from_name": caller.name}}
    messages.deliver(tx, engine, caller, row, recipients, payload, dm_row=is_pair)
    messages.observe(
        tx, engine, caller.workspace_id, row,
        {"type": kind, "conversation_id": conversation_id, "message": messages.brief(row)},
    )  # fmt: skip
    return response


def listing(tx: Tx, caller: Caller) -> list[dict[str, Any]]:
    """The caller's conversations, newest first."""
    rows = tx.all(
        "SELECT c.*, m.last_read_id, (SELECT MAX(id) FROM messages WHERE channel_id = c.channel_id) AS newest"
        " FROM conversations c JOIN members m ON m.channel_id = c.channel_id WHERE m.agent_id = ?"
        " ORDER BY COALESCE(newest, 0) DESC, c.created_at DESC",
        caller.id,
    )
    return [_view(tx, caller, row) for row in rows]


def of_workspace(tx: Tx, workspace_id: str, limit: int, before: str) -> list[dict[str, Any]]:
    """Every conversation of a workspace, newest first, behind the one with the id `before`. Raises EngineError 404."""
    if before:
        find(tx, workspace_id, before)
    rows = tx.all(
        "SELECT c.*, (SELECT MAX(id) FROM messages WHERE channel_id = c.channel_id) AS newest,"
        " (SELECT COUNT(*) FROM messages WHERE channel_id = c.channel_id) AS said"
        " FROM conversations c WHERE c.workspace_id = ? AND (? = '' OR c.rowid < (SELECT rowid FROM conversations WHERE id = ?))"
        " ORDER BY c.rowid DESC LIMIT ?",
        workspace_id, before, before, limit,
    )  # fmt: skip
    return [_operators_view(tx, row) for row in rows]


def _operators_view(tx: Tx, row: sqlite3.Row) -> dict[str, Any]:
    last = tx.one("SELECT * FROM messages WHERE id = ?", row["newest"])
    return {
        "id": row["id"],
        "channel_id": row["channel_id"],
        "type": row["type"],
        "name": row["name"],
        "participants": [member["agent_name"] for member in channels.members(tx, row["channel_id"])],
        "last_message": None
        if last is None
        else {
            "text": last["text"],
            "agent_id": last["agent_id"],
            "agent_name": last["agent_name"],
            "created_at": ids.iso(last["created_at"]),
        },
        "message_count": row["said"],
        "created_at": ids.iso(row["created_at"]),
    }


def _view(tx: Tx, caller: Caller, row: sqlite3.Row) -> dict[str, Any]:
    last = tx.one("SELECT * FROM messages WHERE id = ?", row["newest"])
    unread = tx.count(
        "SELECT COUNT(*) FROM messages WHERE channel_id = ? AND id > ? AND agent_id != ?",
        row["channel_id"], row["last_read_id"], caller.id,
    )  # fmt: skip
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
        "unread_count": unread,
        "created_at": ids.iso(row["created_at"]),
    }
