"""Actions: who handles what, placement of spawns, dispatch, results, retries.

Source: spec/engine-contract.md sections 2.7, 5.2, 8.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from typing import Any

from relaybroker.engine import agents, deliveries, ids
from relaybroker.engine.auth import Caller
from relaybroker.engine.context import Engine
from relaybroker.engine.errors import EngineError, not_found
from relaybroker.engine.store import Tx

_OPEN = "status IN ('pending', 'dispatched')"
_UNAVAILABLE = ("handler_unavailable", "No live node can handle this action")
RETRY_FIRST_S = 5.0
RETRY_MAX_S = 60.0


def materialise(tx: Tx, engine: Engine, workspace_id: str, node_id: str, names: list[str]) -> None:
    """Capabilities other than spawns and releases become actions; the first owner keeps them."""
    for name in names:
        if name in ("spawn", "release") or name.startswith(("spawn:", "relay:")):
            continue
        tx.run(
            "INSERT INTO actions (id, workspace_id, name, description, handler_node_id, created_at) VALUES (?,?,?,?,?,?)"
            " ON CONFLICT (workspace_id, name) DO UPDATE SET handler_node_id = excluded.handler_node_id"
            " WHERE handler_agent_id IS NULL AND handler_node_id IS NULL",
            f"act_{engine.ids.next()}", workspace_id, name, f"Node handler {name}", node_id, tx.now,
        )  # fmt: skip


def register(tx: Tx, engine: Engine, caller: Caller, body: dict[str, Any]) -> dict[str, Any]:
    """A workspace action with an agent or a node as its handler."""
    agent_name, node_name = body.get("handler_agent"), body.get("handler_node")
    if bool(agent_name) == bool(node_name):
        raise EngineError(400, "invalid_action_handler", "Exactly one of handler_agent and handler_node is required")
    agent_id = node_id = None
    if agent_name:
        agent_id = agents.find(tx, caller.workspace_id, agent_name)["id"]
        if caller.kind == "agent" and agent_id != caller.id:
            raise EngineError(403, "forbidden", "An agent can only register itself as handler")
    else:
        node = _node(tx, caller.workspace_id, node_name or "")
        if body["name"] not in _capabilities(node):
            raise EngineError(409, "capability_mismatch", "The node does not have this capability")
        node_id = node["id"]
    tx.run(
        "INSERT INTO actions (id, workspace_id, name, description, handler_agent_id, handler_node_id, input_schema, output_schema,"
        " available_to, created_at) VALUES (?,?,?,?,?,?,?,?,?,?) ON CONFLICT (workspace_id, name) DO UPDATE SET"
        " description = excluded.description, handler_agent_id = excluded.handler_agent_id, handler_node_id = excluded.handler_node_id,"
        " input_schema = excluded.input_schema, output_schema = excluded.output_schema, available_to = excluded.available_to",
        f"act_{engine.ids.next()}", caller.workspace_id, body["name"], body["description"], agent_id, node_id,
        json.dumps(body.get("input_schema")), json.dumps(body.get("output_schema")), json.dumps(body.get("available_to") or []), tx.now,
    )  # fmt: skip
    return view(tx, find(tx, caller.workspace_id, body["name"]))


def _node(tx: Tx, workspace_id: str, name: str) -> sqlite3.Row:
    row = tx.one("SELECT * FROM nodes WHERE workspace_id = ? AND name = ?", workspace_id, name)
    if row is None:
        raise not_found("node_not_found", f'Node "{name}" not found')
    return row


def _capabilities(node: sqlite3.Row) -> set[str]:
    return {item["name"] for item in json.loads(node["capabilities"])}


def find(tx: Tx, workspace_id: str, name: str) -> sqlite3.Row:
    """A registered action. Raises EngineError 404 `action_not_found`."""
    row = tx.one("SELECT * FROM actions WHERE workspace_id = ? AND name = ?", workspace_id, name)
    if row is None:
        raise not_found("action_not_found", f'Action "{name}" not found')
    return row


def view(tx: Tx, row: sqlite3.Row) -> dict[str, Any]:
    """An action as it is listed."""
    agent = tx.one("SELECT name FROM agents WHERE id = ?", row["handler_agent_id"])
    node = tx.one("SELECT name FROM nodes WHERE id = ?", row["handler_node_id"])
    return {
        "id": row["id"],
        "name": row["name"],
        "description": row["description"],
        "handler_agent": agent["name"] if agent else None,
        "handler_node": node["name"] if node else None,
        "handler_node_id": row["handler_node_id"],
        "input_schema": json.loads(row["input_schema"] or "null"),
        "output_schema": json.loads(row["output_schema"] or "null"),
        "available_to": json.loads(row["available_to"]),
        "is_active": True,
        "created_at": ids.iso(row["created_at"]),
    }


# --- invoking ---------------------------------------------------------------------------------------------------------------


def invoke(tx: Tx, engine: Engine, caller: Caller, name: str, given: dict[str, Any] | None) -> dict[str, Any]:
    """Invoke an action by name: a registered one, or the built-in spawn and release."""
    body = given or {}
    row = tx.one("SELECT * FROM actions WHERE workspace_id = ? AND name = ?", caller.workspace_id, name)
    if row is None:
        if name == "spawn" or name.startswith("spawn:"):
            return spawn(tx, engine, caller, body | ({"cli": name.partition(":")[2]} if ":" in name else {}))
        if name == "release":
            return release(tx, engine, caller, body)
        raise not_found("action_not_found", f'Action "{name}" not found')
    allowed = json.loads(row["available_to"])
    if allowed and caller.name not in allowed:
        raise EngineError(403, "action_denied", f'Action "{name}" is not available to {caller.name}')
    if row["handler_agent_id"]:
        agent = tx.one("SELECT * FROM agents WHERE id = ?", row["handler_agent_id"])
        if agent is None or not agent["location_node_id"] or agent["status"] == "offline":
            raise EngineError(503, *_UNAVAILABLE)
        invocation = _create(
            tx, engine, caller, name=name, frame_action=name, kind="agent", body=body, agent_id=agent["id"],
            node_id=None, target=agent["location_node_id"],
        )  # fmt: skip
    else:
        invocation = _create(
            tx, engine, caller, name=name, frame_action=name, kind="node", body=body, agent_id=None,
            node_id=row["handler_node_id"], target=row["handler_node_id"],
        )  # fmt: skip
    return invocation


def denied(tx: Tx, engine: Engine, caller: Caller, name: str, error: str) -> None:
    """Tell the caller by a seq-0 frame that it may not."""
    deliveries.fan_out_event(
        tx,
        engine,
        agent_ids=[caller.id],
        event="action.denied",
        key=f"{name}:{caller.name}",
        msg_id=name,
        data={"action_name": name, "caller_name": caller.name, "error": error},
    )


def spawn(tx: Tx, engine: Engine, caller: Caller, body: dict[str, Any]) -> dict[str, Any]:
    """Place a spawn on a node that offers the harness."""
    wanted = str(body.get("capability") or body.get("cli") or "").removeprefix("spawn:")
    capability = f"spawn:{wanted}"
    target = body.get("target_node") or body.get("node") or body.get("target")
    if target == "self":
        node_id = _own_node(tx, caller)
    elif target:
        node = _node(tx, caller.workspace_id, str(target))
        if capability not in _capabilities(node):
            raise EngineError(409, "capability_mismatch", f"The node does not offer {capability}")
        if not _has_room(tx, node):
            raise EngineError(503, *_UNAVAILABLE)
        node_id = node["id"]
    else:
        found = _place(tx, engine, caller.workspace_id, capability, ())
        if found is None:
            raise EngineError(503, *_UNAVAILABLE)
        node_id = found["id"]
    return _create(
        tx, engine, caller, name="spawn", frame_action=capability, kind="spawn", body=body, agent_id=None, node_id=None,
        target=node_id,
    )  # fmt: skip


def _own_node(tx: Tx, caller: Caller) -> str:
    if caller.kind != "agent":
        raise EngineError(400, "placement_self_requires_agent", "Only an agent can place on its own node")
    row = tx.one("SELECT location_node_id FROM agents WHERE id = ?", caller.id)
    node_id = row["location_node_id"] if row else None
    if not node_id or node_id.startswith("node_direct_"):
        raise EngineError(409, "placement_self_unavailable", "The caller is not located on a node")
    return str(node_id)


def _has_room(tx: Tx, node: sqlite3.Row) -> bool:
    if not node["max_agents"]:
        return True
    reserved = tx.one(
        f"SELECT COUNT(*) AS n FROM invocations WHERE dispatched_node_id = ? AND kind = 'spawn' AND {_OPEN}", node["id"]
    )
    assert reserved is not None
    return bool(agents.used_slots(tx, node["id"]) + reserved["n"] < node["max_agents"])


def _place(tx: Tx, engine: Engine, workspace_id: str, capability: str, tried: Collection[str]) -> sqlite3.Row | None:
    """The least loaded live node with the capability and room: load, then agents, then name."""
    rows = tx.all(
        "SELECT * FROM nodes WHERE workspace_id = ? AND status = 'online' AND handlers_live = 1 AND last_heartbeat_at >= ?"
        " ORDER BY load, active_agents, name",
        workspace_id, tx.now - engine.limits.node_timeout_s,
    )  # fmt: skip
    return next(
        (row for row in rows if row["id"] not in tried and capability in _capabilities(row) and _has_room(tx, row)),
        None,
    )


def release(tx: Tx, engine: Engine, caller: Caller, body: dict[str, Any]) -> dict[str, Any]:
    """Ask the agent's node to release it; an agent without a live node is deleted at once where that is asked for."""
    name = body.get("name")
    if not isinstance(name, str) or not name:
        raise EngineError(400, "invalid_release_request", "name is required")
    agent = agents.find(tx, caller.workspace_id, name)
    location = agent["location_node_id"]
    on_node = bool(location) and not location.startswith("node_direct_")
    node = tx.one("SELECT * FROM nodes WHERE id = ?", location) if on_node else None
    live = (
        node is not None
        and node["status"] == "online"
        and (node["last_heartbeat_at"] or 0) >= tx.now - engine.limits.node_timeout_s
        and agent["status"] != "offline"
    )
    forwarded = {"name": name, "reason": body.get("reason"), "delete_agent": bool(body.get("delete_agent"))}
    if body.get("delete_agent") and not live:
        expected = body.get("expected_token_hash")
        if expected and expected != agent["token_hash"]:
            raise EngineError(409, "agent_identity_mismatch", "expected_token_hash does not match")
        return _released_at_once(tx, engine, caller, agent, forwarded)
    if not on_node:
        raise EngineError(409, "agent_not_node_bound", "The agent is not on a node")
    return _create(
        tx, engine, caller, name="release", frame_action="release", kind="release", body=forwarded, agent_id=None,
        node_id=None, target=location,
    )  # fmt: skip


def _released_at_once(
    tx: Tx, engine: Engine, caller: Caller, agent: sqlite3.Row, forwarded: dict[str, Any]
) -> dict[str, Any]:
    agents.delete(tx, agent)
    return {
        "invocation_id": f"inv_{engine.ids.next()}",
        "action_name": "release",
        "handler_agent_id": None,
        "handler_node_id": None,
        "dispatched_node_id": None,
        "input": forwarded,
        "status": "completed",
        "created_at": ids.iso(tx.now),
        "caller_id": caller.id,
    }


def _create(
    tx: Tx,
    engine: Engine,
    caller: Caller,
    *,
    name: str,
    frame_action: str,
    kind: str,
    body: dict[str, Any],
    agent_id: str | None,
    node_id: str | None,
    target: str,
) -> dict[str, Any]:
    invocation_id = f"inv_{engine.ids.next()}"
    tx.run(
        "INSERT INTO invocations (id, workspace_id, action_name, frame_action, kind, caller_id, caller_name, handler_agent_id,"
        " handler_node_id, dispatched_node_id, input, status, created_at) VALUES (?,?,?,?,?,?,?,?,?,?,?,'pending',?)",
        invocation_id, caller.workspace_id, name, frame_action, kind, caller.id, caller.name, agent_id, node_id, target,
        json.dumps(body), tx.now,
    )  # fmt: skip
    _dispatch(tx, engine, _row(tx, invocation_id), target)
    return brief(_row(tx, invocation_id))


def _row(tx: Tx, invocation_id: str) -> sqlite3.Row:
    row = tx.one("SELECT * FROM invocations WHERE id = ?", invocation_id)
    assert row is not None
    return row


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


def details(tx: Tx, workspace_id: str, name: str, invocation_id: str) -> dict[str, Any]:
    """An invocation with its result. Raises EngineError 404 `invocation_not_found`."""
    row = tx.one(
        "SELECT * FROM invocations WHERE id = ? AND workspace_id = ? AND action_name = ?",
        invocation_id,
        workspace_id,
        name,
    )
    if row is None:
        raise not_found("invocation_not_found", "Invocation not found")
    return {
        "invocation_id": row["id"],
        "action_name": row["action_name"],
        "caller_id": row["caller_id"],
        "caller_name": row["caller_name"],
        "input": json.loads(row["input"]),
        "output": json.loads(row["output"] or "null"),
        "status": row["status"],
        "error": row["error"],
        "duration_ms": row["duration_ms"],
        "dispatched_node_id": row["dispatched_node_id"],
        "dispatched_at": None if row["dispatched_at"] is None else ids.iso(row["dispatched_at"]),
        "created_at": ids.iso(row["created_at"]),
        "completed_at": None if row["completed_at"] is None else ids.iso(row["completed_at"]),
    }


# --- dispatch ---------------------------------------------------------------------------------------------------------------


def _dispatch(tx: Tx, engine: Engine, row: sqlite3.Row, node_id: str) -> None:
    """Send the invocation to a node that has a socket; else it stays pending for the next drain."""
    connected = engine.hub.is_connected(node_id)
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
    tx.after(lambda: _send(engine, node_id, frame))


def _send(engine: Engine, node_id: str, frame: dict[str, Any]) -> None:
    engine.hub.send(node_id, frame)


def drain(tx: Tx, engine: Engine, node_id: str) -> None:
    """Send the node its pending invocations, oldest first."""
    rows = tx.all(
        "SELECT * FROM invocations WHERE dispatched_node_id = ? AND status = 'pending' AND COALESCE(next_attempt_at, 0) <= ?"
        " ORDER BY created_at LIMIT 100",
        node_id, tx.now,
    )  # fmt: skip
    for row in rows:
        _dispatch(tx, engine, row, node_id)


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
    """The node will not answer these: they go elsewhere, or wait for it."""
    moved = [invocation_id for invocation_id in open_on(tx, node_id) if invocation_id not in keep]
    for invocation_id in moved:
        _retry(tx, engine, _row(tx, invocation_id))
    return moved


def _retry(tx: Tx, engine: Engine, row: sqlite3.Row) -> None:
    """Another try: spawns on another node, everything else where it belongs; with nobody to take it, later."""
    attempts = row["attempts"] + 1
    tx.run("UPDATE invocations SET attempts = ? WHERE id = ?", attempts, row["id"])
    if row["kind"] == "spawn":
        found = _place(tx, engine, row["workspace_id"], row["frame_action"], json.loads(row["tried"]))
        if found is not None:
            _dispatch(tx, engine, row, found["id"])
            return
    delay = min(RETRY_MAX_S, RETRY_FIRST_S * 2 ** (attempts - 1))
    tx.run(
        "UPDATE invocations SET status = 'pending', tried = '[]', next_attempt_at = ? WHERE id = ?",
        tx.now + delay,
        row["id"],
    )


def redispatch(tx: Tx, engine: Engine) -> None:
    """Dispatched for too long, or due again."""
    overdue = tx.now - engine.limits.redispatch_after_s
    for row in tx.all("SELECT * FROM invocations WHERE status = 'dispatched' AND dispatched_at < ?", overdue):
        if row["kind"] == "agent":
            _dispatch(tx, engine, row, row["dispatched_node_id"])
        elif row["kind"] != "release":
            _retry(tx, engine, row)
    for row in tx.all("SELECT * FROM invocations WHERE status = 'pending' AND next_attempt_at <= ?", tx.now):
        target = row["dispatched_node_id"]
        if row["kind"] == "spawn":
            found = _place(tx, engine, row["workspace_id"], row["frame_action"], ())
            target = found["id"] if found else target
        _dispatch(tx, engine, row, target)


# --- results ----------------------------------------------------------------------------------------------------------------


def result(tx: Tx, engine: Engine, node_id: str, frame: dict[str, Any]) -> None:
    """`action.result` from a node; ignored unless the invocation is open and dispatched there."""
    row = tx.one(f"SELECT * FROM invocations WHERE id = ? AND {_OPEN}", frame["invocation_id"])
    if row is None or row["dispatched_node_id"] != node_id:
        return
    if frame.get("error") == "handler_unavailable":
        tx.run("UPDATE nodes SET handlers_live = 0 WHERE id = ?", node_id)
        found = None
        if row["kind"] == "spawn":
            found = _place(tx, engine, row["workspace_id"], row["frame_action"], json.loads(row["tried"]))
        if found is not None:
            _dispatch(tx, engine, row, found["id"])
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
        agents.delete(tx, agent)
        return
    tx.run(
        "UPDATE bindings SET status = 'inactive', updated_at = ? WHERE agent_id = ? AND node_id = ?",
        tx.now,
        agent["id"],
        node_id,
    )
    metadata = json.loads(agent["metadata"]) | {
        "release": {"reason": body.get("reason"), "released_at": ids.iso(tx.now)}
    }
    tx.run(
        "UPDATE agents SET location_type = 'self_connected', location_node_id = NULL, metadata = ? WHERE id = ?",
        json.dumps(metadata), agent["id"],
    )  # fmt: skip
    agents.set_status(tx, engine, agent, "offline")


def complete_by_agent(
    tx: Tx, engine: Engine, caller: Caller, name: str, invocation_id: str, body: dict[str, Any]
) -> dict[str, Any]:
    """An agent handler reports its result over REST."""
    row = tx.one(
        "SELECT * FROM invocations WHERE id = ? AND workspace_id = ? AND action_name = ?",
        invocation_id,
        caller.workspace_id,
        name,
    )
    if row is None:
        raise not_found("invocation_not_found", "Invocation not found")
    if row["kind"] != "agent":
        raise EngineError(403, "node_owned_invocation", "A node handles this invocation")
    if caller.kind == "agent" and caller.id != row["handler_agent_id"]:
        raise EngineError(403, "forbidden", "Another agent handles this invocation")
    if row["status"] in ("pending", "dispatched"):
        tx.run("UPDATE invocations SET duration_ms = ? WHERE id = ?", body.get("duration_ms"), invocation_id)
        _finish(tx, engine, row, output=body.get("output"), error=body.get("error"))
    return details(tx, caller.workspace_id, name, invocation_id)


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
    workspace_id = row["workspace_id"]
    shown = data | {"output": output if isinstance(output, dict) else None}
    tx.after(lambda: engine.hub.publish(workspace_id, {"type": f"action.{status}"} | shown))
