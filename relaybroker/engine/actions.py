"""Actions: who handles what, and what an invocation by name becomes.

Source: spec/engine-contract.md sections 2.7, 5.2, 8.2 to 8.4.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from typing import Any

from relaybroker.engine import agents, deliveries, ids, invocations, nodes, placement
from relaybroker.engine.auth import Caller
from relaybroker.engine.context import Engine
from relaybroker.engine.errors import EngineError, invalid, not_found
from relaybroker.engine.names import is_agent_name
from relaybroker.engine.store import Tx


def materialise(
    tx: Tx, engine: Engine, workspace_id: str, node_id: str, names: Iterable[str], provider: str = ""
) -> None:
    """Capabilities of a provider of a node, other than spawns and releases, become actions; the first owner keeps them."""
    for name in names:
        if is_built_in(name):
            continue
        tx.run(
            "INSERT INTO actions (id, workspace_id, name, description, handler_node_id, provider, created_at) VALUES (?,?,?,?,?,?,?)"
            " ON CONFLICT (workspace_id, name) DO UPDATE SET handler_node_id = excluded.handler_node_id, provider = excluded.provider"
            " WHERE handler_agent_id IS NULL AND handler_node_id IS NULL",
            f"act_{engine.ids.next()}", workspace_id, name, f"Node handler {name}", node_id, provider, tx.now,
        )  # fmt: skip


def is_of(tx: Tx, node_id: str, provider: str, name: str) -> bool:
    """Whether this provider of this node handles the action."""
    return (
        tx.one("SELECT 1 FROM actions WHERE handler_node_id = ? AND provider = ? AND name = ?", node_id, provider, name)
        is not None
    )


def withdraw(tx: Tx, node_id: str, provider: str, name: str) -> None:
    """The provider handles the action no longer, and nobody else does."""
    tx.run("DELETE FROM actions WHERE handler_node_id = ? AND provider = ? AND name = ?", node_id, provider, name)


def is_built_in(name: str) -> bool:
    """Spawns and releases are the engine's; `relay:` names are what newer peers can do, not what they offer."""
    return name in ("spawn", "release") or name.startswith(("spawn:", "relay:"))


def register(tx: Tx, engine: Engine, caller: Caller, body: dict[str, Any]) -> dict[str, Any]:
    """A workspace action with an agent or a node as its handler. An agent can only offer itself, and takes no name from another one.

    Raises:
        EngineError: 400 `invalid_action_handler`, 403 `forbidden`, 404 for a handler that is not there, 409 `capability_mismatch`.
    """
    if caller.kind == "agent":
        _require_own_name(tx, caller, body["name"])
    agent_name, node_name = body.get("handler_agent"), body.get("handler_node")
    if bool(agent_name) == bool(node_name):
        raise EngineError(400, "invalid_action_handler", "Exactly one of handler_agent and handler_node is required")
    agent_id = node_id = None
    if agent_name:
        agent_id = agents.find(tx, caller.workspace_id, agent_name)["id"]
        if caller.kind == "agent" and agent_id != caller.id:
            raise EngineError(403, "forbidden", "An agent can only register itself as handler")
    else:
        if caller.kind == "agent":
            raise EngineError(403, "forbidden", "An agent can only register itself as handler")
        node = nodes.find(tx, caller.workspace_id, node_name or "")
        if body["name"] not in nodes.capability_names(engine, node):
            raise EngineError(409, "capability_mismatch", "The node does not have this capability")
        node_id = node["id"]
    tx.run(
        "INSERT INTO actions (id, workspace_id, name, description, handler_agent_id, handler_node_id, input_schema, output_schema,"
        " available_to, created_at) VALUES (?,?,?,?,?,?,?,?,?,?) ON CONFLICT (workspace_id, name) DO UPDATE SET"
        " description = excluded.description, handler_agent_id = excluded.handler_agent_id, handler_node_id = excluded.handler_node_id,"
        " provider = CASE WHEN handler_node_id IS excluded.handler_node_id THEN provider ELSE excluded.provider END,"
        " input_schema = excluded.input_schema, output_schema = excluded.output_schema, available_to = excluded.available_to",
        f"act_{engine.ids.next()}", caller.workspace_id, body["name"], body["description"], agent_id, node_id,
        json.dumps(body.get("input_schema")), json.dumps(body.get("output_schema")), json.dumps(body.get("available_to") or []), tx.now,
    )  # fmt: skip
    return view(tx, find(tx, caller.workspace_id, body["name"]))


def _require_own_name(tx: Tx, caller: Caller, name: str) -> None:
    if is_built_in(name):
        raise EngineError(403, "forbidden", "This name is the engine's own")
    known = tx.one("SELECT * FROM actions WHERE workspace_id = ? AND name = ?", caller.workspace_id, name)
    if known is not None and known["handler_agent_id"] != caller.id:
        raise EngineError(403, "forbidden", "Another one handles this action")


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


def invoke(tx: Tx, engine: Engine, caller: Caller, name: str, given: dict[str, Any] | None) -> dict[str, Any]:
    """Invoke an action by name: a registered one, or the built-in spawn and release.

    Raises:
        EngineError: 404 `action_not_found`, 403 `action_denied`, 503 `handler_unavailable`, those of placement and release.
    """
    body = given or {}
    row = tx.one("SELECT * FROM actions WHERE workspace_id = ? AND name = ?", caller.workspace_id, name)
    if row is None:
        if name == "spawn":
            return spawn(tx, engine, caller, body)
        if name == "release":
            return release(tx, engine, caller, body)
        raise not_found("action_not_found", f'Action "{name}" not found')
    allowed = json.loads(row["available_to"])
    if allowed and caller.name not in allowed:
        raise EngineError(403, "action_denied", f'Action "{name}" is not available to {caller.name}')
    if not row["handler_agent_id"]:
        return invocations.create(
            tx, engine, caller, name=name, frame_action=name, kind="node", body=body, node_id=row["handler_node_id"],
            target=row["handler_node_id"],
        )  # fmt: skip
    location = tx.the("SELECT location_node_id FROM agents WHERE id = ?", row["handler_agent_id"])["location_node_id"]
    if not location:
        raise placement.unavailable()
    return invocations.create(
        tx, engine, caller, name=name, frame_action=name, kind="agent", body=body, agent_id=row["handler_agent_id"],
        target=location,
    )  # fmt: skip


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
    """Start an agent on a node that offers the harness (`placement.choose`).

    Raises:
        EngineError: 400 `invalid_request` for a name that is none, 403 `forbidden` when an agent asks for the name of one that it did
            not start: whoever starts a name has its mailbox. Those of placement.
    """
    name = body.get("name")
    if name is not None and not (isinstance(name, str) and is_agent_name(name)):
        raise invalid("name is not the name of an agent")
    _require_started_by(tx, caller, name or "")
    body = {key: value for key, value in body.items() if value is not None}  # sidecars refuse a null
    target = placement.choose(tx, engine, caller, body)
    capability = placement.capability_of(body)
    return invocations.create(
        tx, engine, caller, name="spawn", frame_action=capability, kind="spawn", body=body, target=target
    )


def release(tx: Tx, engine: Engine, caller: Caller, body: dict[str, Any]) -> dict[str, Any]:
    """Ask the agent's node to release it. With `delete_agent` an agent on no live broker node is deleted at once (contract 12.4).

    Raises:
        EngineError: 400 `invalid_release_request`, 403 `forbidden` when an agent asks for one that it did not start, 404
            `agent_not_found`, 409 `agent_not_node_bound`, 409 `agent_identity_mismatch` when `expected_token_hash` is of another token.
    """
    name, expected = body.get("name"), body.get("expected_token_hash")
    if not isinstance(name, str) or not name:
        raise EngineError(400, "invalid_release_request", "name is required")
    agent = agents.find(tx, caller.workspace_id, name)
    if agent["id"] != caller.id:
        _require_started_by(tx, caller, name)
    if expected and expected != agent["token_hash"]:
        raise EngineError(409, "agent_identity_mismatch", "expected_token_hash does not match")
    forwarded = {"name": name, "reason": body.get("reason"), "delete_agent": bool(body.get("delete_agent"))}
    location = agent["location_node_id"]
    on_node = location not in (None, agents.direct_node(agent["id"]))
    runs = on_node and agent["status"] != "offline" and nodes.is_live(tx, engine, nodes.by_id(tx, location))
    if forwarded["delete_agent"] and not runs:
        agents.delete(tx, engine, agent)
        return invocations.completed_at_once(tx, engine, caller, "release", forwarded)
    if not on_node:
        raise EngineError(409, "agent_not_node_bound", "The agent is not on a node")
    return invocations.create(
        tx, engine, caller, name="release", frame_action="release", kind="release", body=forwarded, target=location
    )


def _require_started_by(tx: Tx, caller: Caller, name: str) -> None:
    """An agent has power over a name that is free, or whose agent it started."""
    if caller.kind != "agent":
        return
    known = tx.one("SELECT metadata FROM agents WHERE workspace_id = ? AND name = ?", caller.workspace_id, name)
    if known is not None and invocations.starter_of(tx, known) != caller.id:
        raise EngineError(403, "forbidden", f'Agent "{name}" was not started by {caller.name}')
