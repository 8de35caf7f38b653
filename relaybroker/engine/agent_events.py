"""What agents say about their own work, for who watches them: the newest of each agent are kept.

Source: spec/engine-contract.md section 2.9.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from relaybroker.engine import agents, ids
from relaybroker.engine.context import Engine
from relaybroker.engine.errors import EngineError
from relaybroker.engine.store import Tx

KEPT = 200
"""Events of one agent; the oldest go."""
PAYLOAD_MAX = 16 * 1024
"""Characters of the payload of an event."""

_STATUSES = {f"status.{status}": status for status in ("active", "idle", "blocked", "waiting", "offline", "online")}


def record(tx: Tx, engine: Engine, agent: sqlite3.Row, kind: str, payload: dict[str, Any]) -> dict[str, Any]:
    """Keep an event; `status.idle` and its like change the agent's status too. Raises EngineError 413 `body_too_large`."""
    text = json.dumps(payload)
    if len(text) > PAYLOAD_MAX:
        raise EngineError(
            413, "body_too_large", f"The payload of an event has at most {PAYLOAD_MAX // 1024} Ki characters"
        )
    newest = tx.count("SELECT COALESCE(MAX(sequence), 0) FROM agent_events WHERE agent_id = ?", agent["id"])
    tx.run(
        "INSERT INTO agent_events (agent_id, sequence, id, workspace_id, type, payload, created_at) VALUES (?,?,?,?,?,?,?)",
        agent["id"], newest + 1, f"evt_{engine.ids.next()}", agent["workspace_id"], kind, text, tx.now,
    )  # fmt: skip
    tx.run("DELETE FROM agent_events WHERE agent_id = ? AND sequence <= ?", agent["id"], newest + 1 - KEPT)
    if kind in _STATUSES:
        agents.set_status(tx, engine, agent, _STATUSES[kind])
    return _view(tx.the("SELECT * FROM agent_events WHERE agent_id = ? AND sequence = ?", agent["id"], newest + 1))


def listing(tx: Tx, agent: sqlite3.Row, kind: str | None, limit: int) -> list[dict[str, Any]]:
    """The agent's events, of one type or of all, newest first."""
    rows = tx.all(
        "SELECT * FROM agent_events WHERE agent_id = ? AND (? IS NULL OR type = ?) ORDER BY sequence DESC LIMIT ?",
        agent["id"], kind, kind, limit,
    )  # fmt: skip
    return [_view(row) for row in rows]


def _view(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "agent_id": row["agent_id"],
        "type": row["type"],
        "payload": json.loads(row["payload"]),
        "sequence": row["sequence"],
        "created_at": ids.iso(row["created_at"]),
    }
