"""Invocations: one piece of work for a node or an agent, from its creation to its result.

An invocation is stored before anything is sent, and stays open (`pending` or `dispatched`) until a result arrives. A node may get the
same invocation_id more than once: after a time-out, a reconnect or a restart of the engine.

Source: spec/engine-contract.md sections 8.1, 8.4 to 8.6.
"""

from __future__ import annotations

import functools
import json
import sqlite3
from collections.abc import Collection
from typing import Any

from relaybroker.engine import agents, deliveries, events, ids, nodes, placement, quotas
from relaybroker.engine.auth import Caller
from relaybroker.engine.context import Engine
from relaybroker.engine.errors import EngineError, not_found
from relaybroker.engine.store import Tx

_OPEN = "status IN ('pending', 'dispatched')"
RETRY_FIRST_S = 5.0
RETRY_MAX_S = 60.0
WAITING_LIMIT = 100
"""Invocations that may wait for one node; more are refused with 503."""


def create(
    tx: Tx,
    engine: Engine,
    caller: Caller,
    *,
    name: str,
    frame_action: str,
    kind: str,
    body: dict[str, Any],
    target: str,
    agent_id: str | None = None,
    node_id: str | None = None,
) -> dict[str, Any]:
    """Store a new invocation and send it to its node; without a socket it waits there. What the caller is answered.

    `kind` says who handles it (`spawn`, `release`, `node` or `agent`), `target` is the id of the node that gets it, `agent_id` or
    `node_id` name the handler where it is fixed.

    Raises:
        EngineError: 503 `handler_unavailable` when too many wait for the node, 429 `sender_quota` when too many of the caller are open.
    """
    quotas.require_room_for_invocation(tx, engine, caller)
    waiting = tx.count("SELECT COUNT(*) FROM invocations WHERE dispatched_node_id = ? AND status = 'pending'", target)
    if waiting >= WAITING_LIMIT:
        raise placement.unavailable()
    invocation_id = f"inv_{engine.ids.next()}"
    tx.run(
        "INSERT INTO invocations (id, workspace_id, action_name, frame_action, kind, caller_id, caller_name, handler_agent_id,"
        " handler_node_id, dispatched_node_id, input, status, created_at) VALUES (?,?,?,?,?,?,?,?,?,?,?,'pending',?)",
        invocation_id, caller.workspace_id, name, frame_action, kind, caller.id, caller.name, agent_id, node_id, target,
        json.dumps(body), tx.now,
    )  # fmt: skip
    _dispatch(tx, engine, _row(tx, invocation_id), target)
    return brief(_row(tx, invocation_id))


def completed_at_once(tx: Tx, engine: Engine, caller: Caller, name: str, body: dict[str, Any]) -> dict[str, Any]:
    """An invocation that no node was needed for."""
    invocation_id = f"inv_{engine.ids.next()}"
    tx.run(
        "INSERT INTO invocations (id, workspace_id, action_name, frame_action, kind, caller_id, caller_name, input, status, output,"
        " created_at, completed_at) VALUES (?,?,?,?,?,?,?,?,'completed','null',?,?)",
        invocation_id, caller.workspace_id, name, name, name, caller.id, caller.name, json.dumps(body), tx.now, tx.now,
    )  # fmt: skip
    return brief(_row(tx, invocation_id))


def _row(tx: Tx, invocation_id: str) -> sqlite3.Row:
    return tx.the("SELECT * FROM invocations WHERE id = ?", invocation_id)


def find(tx: Tx, workspace_id: str, name: str, invocation_id: str) -> sqlite3.Row:
    """An invocation of this action. Raises EngineError 404 `invocation_not_found`."""
    row = tx.one(
        "SELECT * FROM invocations WHERE id = ? AND workspace_id = ? AND action_name = ?",
        invocation_id, workspace_id, name,
    )  # fmt: skip
    if row is None:
        raise not_found("invocation_not_found", "Invocation not found")
    return row


def starter_of(tx: Tx, agent: sqlite3.Row) -> str | None:
    """The id of the agent that asked for the spawn by which this agent is here; None if none did."""
    fleet = json.loads(agent["metadata"]).get("fleet")
    invocation_id = fleet.get("invocation_id") if isinstance(fleet, dict) else None
    if not isinstance(invocation_id, str):
        return None
    row = tx.one("SELECT caller_id FROM invocations WHERE id = ? AND kind = 'spawn'", invocation_id)
    return (row["caller_id"] or None) if row is not None else None


def brief(row: sqlite3.Row) -> dict[str, Any]:
    """An invocation as it is answered to its caller."""
    return {
        "invocation_id": row["id"],
        "action_name": row["action_name"],
        "handler_agent_id": row["handler_agent_id"],
        "handler_node_id": row["handler_node_id"],
        "dispatched_node_id": row["dispatched_node_id"],
        "input": json.loads(row["input"]),
        "status": row["status"],
        "created_at": ids.iso(row["created_at"]),
    }


def view(row: sqlite3.Row) -> dict[str, Any]:
    """An invocation with its result."""
    return {
        "invocation_id": row["id"],
        "action_name": row["action_name"],
        "caller_id": row["caller_id"] or None,
        "caller_name": row["caller_name"] or None,
        "input": json.loads(row["input"]),
        "output": json.loads(row["output"] or "null"),
        "status": row["status"],
        "error": row["error"],
        "duration_ms": row["duration_ms"],
        "dispatched_node_id": row["dispatched_node_id"],
        "dispatched_at": ids.iso_or_none(row["dispatched_at"]),
        "created_at": ids.iso(row["created_at"]),
        "completed_at": ids.iso_or_none(row["completed_at"]),
    }


# --- dispatch ---------------------------------------------------------------------------------------------------------------


def _dispatch(tx: Tx, engine: Engine, row: sqlite3.Row, node_id: str) -> None:
    """Send the invocation to a node that has a socket; else it waits for the node to be back."""
    provider = _provider(tx, engine, row, node_id)
    connected = engine.hub.is_connected(node_id, provider)
    tried = [*json.loads(row["tried"])]
    if node_id not in tried:
        tried.append(node_id)
    tx.run(
        "UPDATE invocations SET status = ?, dispatched_node_id = ?, dispatched_at = ?, tried = ?, next_attempt_at = NULL WHERE id = ?",
        "dispatched" if connected else "pending", node_id, tx.now if connected else None, json.dumps(tried), row["id"],
    )  # fmt: skip
    if not connected:
        return
    frame: dict[str, Any] = {
        "v": 1,
        "type": "action.invoke",
        "invocation_id": row["id"],
        "action": row["frame_action"],
        "input": json.loads(row["input"]),
    }
    if row["handler_agent_id"]:
        agent = tx.one("SELECT name FROM agents WHERE id = ?", row["handler_agent_id"])
        frame |= {"agent_id": row["handler_agent_id"], "agent_name": agent["name"] if agent else ""}
    tx.after(functools.partial(engine.hub.send, node_id, frame, provider))


def _provider(tx: Tx, engine: Engine, row: sqlite3.Row, node_id: str) -> str:
    """Which of the node's providers gets it; "" is its broker. A spawn that a provider hands on (`node.spawn`) is for the broker."""
    if row["kind"] == "node":
        action = tx.one(
            "SELECT provider FROM actions WHERE workspace_id = ? AND name = ?", row["workspace_id"], row["action_name"]
        )
        return "" if action is None else str(action["provider"])
    if row["kind"] == "spawn" and row["caller_id"] != node_id:
        for other in engine.hub.beside(node_id):
            if any(item["name"] == row["frame_action"] for item in other.capabilities):
                return other.provider
    return ""


def drain(tx: Tx, engine: Engine, node: sqlite3.Row) -> None:
    """Send the node what waits for it, oldest first. A spawn without a free slot is tried again in `RETRY_FIRST_S`."""
    rows = tx.all(
        "SELECT * FROM invocations WHERE dispatched_node_id = ? AND status = 'pending' AND COALESCE(next_attempt_at, 0) <= ?"
        " ORDER BY created_at, id",
        node["id"], tx.now,
    )  # fmt: skip
    for row in rows:
        _send_if_room(tx, engine, row, node)


def _send_if_room(tx: Tx, engine: Engine, row: sqlite3.Row, node: sqlite3.Row) -> None:
    if row["kind"] == "spawn" and node["max_agents"] and agents.used_slots(tx, node["id"]) >= node["max_agents"]:
        tx.run("UPDATE invocations SET next_attempt_at = ? WHERE id = ?", tx.now + RETRY_FIRST_S, row["id"])
    else:
        _dispatch(tx, engine, row, node["id"])


def open_on(tx: Tx, node_id: str) -> list[str]:
    """Invocations that the node still owes a result for."""
    return [
        row["id"]
        for row in tx.all(
            "SELECT id FROM invocations WHERE dispatched_node_id = ? AND status = 'dispatched' ORDER BY created_at",
            node_id,
        )
    ]


def reschedule_node(tx: Tx, engine: Engine, node_id: str, keep: Collection[str] = ()) -> list[str]:
    """The node will not answer what it was sent: it goes to another node, or waits for this one. The ids that were moved."""
    rows = [_row(tx, invocation_id) for invocation_id in open_on(tx, node_id) if invocation_id not in keep]
    moved = [row for row in rows if not _is_beside(engine, node_id, _provider(tx, engine, row, node_id))]
    for row in moved:
        other = placement.elsewhere(tx, engine, row)
        if other is not None:
            _dispatch(tx, engine, row, other)
        else:
            _wait(tx, row, until=tx.now)
    return [row["id"] for row in moved]


def _is_beside(engine: Engine, node_id: str, provider: str) -> bool:
    return provider != "" and engine.hub.is_connected(node_id, provider)


def await_provider(tx: Tx, engine: Engine, node_id: str, provider: str) -> None:
    """The provider has no socket: what it was sent waits for it."""
    for invocation_id in open_on(tx, node_id):
        row = _row(tx, invocation_id)
        if _provider(tx, engine, row, node_id) == provider:
            _wait(tx, row, until=tx.now)


def after_restart(tx: Tx) -> None:
    """Nobody knows what reached its node: everything open goes to its node again when it is back, and spawns elsewhere if it is not."""
    tx.run(
        f"UPDATE invocations SET status = 'pending', dispatched_at = ?, next_attempt_at = NULL WHERE {_OPEN}", tx.now
    )


def redispatch(tx: Tx, engine: Engine) -> None:
    """What was dispatched too long ago is sent again or elsewhere; what waits and is due is tried."""
    overdue = tx.now - engine.limits.redispatch_after_s
    for row in tx.all("SELECT * FROM invocations WHERE status = 'dispatched' AND dispatched_at < ?", overdue):
        if row["kind"] == "agent":
            agent = tx.one("SELECT location_node_id FROM agents WHERE id = ?", row["handler_agent_id"])
            _dispatch(tx, engine, row, (agent and agent["location_node_id"]) or row["dispatched_node_id"])
        elif row["kind"] != "release":
            _retry(tx, engine, row)
    due = tx.all(
        "SELECT * FROM invocations WHERE status = 'pending' AND (next_attempt_at <= ? OR (next_attempt_at IS NULL"
        " AND kind = 'spawn' AND COALESCE(dispatched_at, created_at) < ?))",
        tx.now, overdue,
    )  # fmt: skip
    for row in due:
        other = placement.elsewhere(tx, engine, row)
        if other is not None:
            _dispatch(tx, engine, row, other)
        elif engine.hub.is_connected(row["dispatched_node_id"]) or engine.hub.beside(row["dispatched_node_id"]):
            _send_if_room(tx, engine, row, nodes.by_id(tx, row["dispatched_node_id"]))


def _retry(tx: Tx, engine: Engine, row: sqlite3.Row) -> None:
    """No result in time: another node for a spawn; with nobody to take it, later, and then nodes that were tried count again."""
    other = placement.elsewhere(tx, engine, row)
    if other is not None:
        _dispatch(tx, engine, row, other)
        return
    _wait(tx, row, until=tx.now + min(RETRY_MAX_S, RETRY_FIRST_S * 2 ** row["attempts"]))


def _wait(tx: Tx, row: sqlite3.Row, *, until: float) -> None:
    tx.run(
        "UPDATE invocations SET status = 'pending', tried = '[]', attempts = attempts + 1, next_attempt_at = ? WHERE id = ?",
        until, row["id"],
    )  # fmt: skip


# --- results ----------------------------------------------------------------------------------------------------------------


def result(tx: Tx, engine: Engine, node_id: str, frame: dict[str, Any], provider: str = "") -> None:
    """`action.result` from a provider of a node; ignored unless the invocation is open and was sent there last."""
    row = tx.one(f"SELECT * FROM invocations WHERE id = ? AND {_OPEN}", frame["invocation_id"])
    if row is None or row["dispatched_node_id"] != node_id:
        return
    if frame.get("error") == "handler_unavailable" and not provider:
        tx.run("UPDATE nodes SET handlers_live = 0 WHERE id = ?", node_id)
        other = placement.elsewhere(tx, engine, row)
        if other is not None:
            _dispatch(tx, engine, row, other)
            return
    if "error" in frame:
        _finish(tx, engine, row, output=None, error=frame["error"])
    else:
        complete(tx, engine, node_id, row["id"], output=frame["output"])


def complete(tx: Tx, engine: Engine, node_id: str, invocation_id: str, *, output: Any) -> bool:
    """The node did it; False if there is nothing open to complete."""
    row = tx.one(f"SELECT * FROM invocations WHERE id = ? AND {_OPEN}", invocation_id)
    if row is None or row["dispatched_node_id"] != node_id:
        return False
    if row["kind"] == "release":
        _after_release(tx, engine, row, node_id)
    _finish(tx, engine, row, output=output, error=None)
    return True


def _after_release(tx: Tx, engine: Engine, row: sqlite3.Row, node_id: str) -> None:
    body = json.loads(row["input"])
    agent = tx.one("SELECT * FROM agents WHERE workspace_id = ? AND name = ?", row["workspace_id"], body["name"])
    if agent is None:
        return
    if body.get("delete_agent"):
        agents.delete(tx, engine, agent)
        return
    released = {"reason": body.get("reason"), "released_at": ids.iso(tx.now)}
    metadata = json.loads(agent["metadata"]) | {"release": released}
    tx.run("UPDATE agents SET metadata = ? WHERE id = ?", json.dumps(metadata), agent["id"])
    agents.detach(tx, agent["id"], node_id)
    agents.set_status(tx, engine, agent, "offline")


def complete_by_agent(
    tx: Tx, engine: Engine, caller: Caller, name: str, invocation_id: str, body: dict[str, Any]
) -> dict[str, Any]:
    """An agent handler reports its result over REST; a second report changes nothing.

    Raises:
        EngineError: 404 `invocation_not_found`, 403 `node_owned_invocation`, 403 `forbidden` for another agent.
    """
    row = find(tx, caller.workspace_id, name, invocation_id)
    if row["kind"] != "agent":
        raise EngineError(403, "node_owned_invocation", "A node handles this invocation")
    if caller.kind == "agent" and caller.id != row["handler_agent_id"]:
        raise EngineError(403, "forbidden", "Another agent handles this invocation")
    if row["status"] in ("pending", "dispatched"):
        tx.run("UPDATE invocations SET duration_ms = ? WHERE id = ?", body.get("duration_ms"), invocation_id)
        _finish(tx, engine, row, output=body.get("output"), error=body.get("error"))
    return view(_row(tx, invocation_id))


def _finish(tx: Tx, engine: Engine, row: sqlite3.Row, *, output: Any, error: str | None) -> None:
    status = "failed" if error is not None else "completed"
    tx.run(
        "UPDATE invocations SET status = ?, output = ?, error = ?, completed_at = ?, duration_ms = COALESCE(duration_ms, ?) WHERE id = ?",
        status, json.dumps(output), error, tx.now, int((tx.now - row["created_at"]) * 1000), row["id"],
    )  # fmt: skip
    data = {
        "invocation_id": row["id"],
        "action_name": row["action_name"],
        "status": status,
        "output": output,
        "error": error,
    }
    if row["caller_id"]:
        deliveries.fan_out_event(
            tx,
            engine,
            agent_ids=[row["caller_id"]],
            event=f"action.{status}",
            key=row["id"],
            msg_id=row["id"],
            data=data,
        )
    shown = data | {"output": output if isinstance(output, dict) else None}
    events.publish(tx, engine, row["workspace_id"], {"type": f"action.{status}"} | shown)
