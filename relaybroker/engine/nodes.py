"""Nodes: enrolment, bindings, liveness, and how they are shown.

Source: spec/engine-contract.md sections 2.3, 5.4, 5.5.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from relaybroker.engine import agents, ids
from relaybroker.engine.context import Engine
from relaybroker.engine.errors import EngineError, invalid, not_found
from relaybroker.engine.store import Tx

_ADAPTERS = {"ws": "ws.node.v1", "poll": "poll.v1"}


def find(tx: Tx, workspace_id: str, name: str) -> sqlite3.Row:
    """The node of this name. Raises EngineError 404 `node_not_found`."""
    row = tx.one("SELECT * FROM nodes WHERE workspace_id = ? AND name = ?", workspace_id, name.removeprefix("#"))
    if row is None:
        raise not_found("node_not_found", f'Node "{name}" not found')
    return row


def by_id(tx: Tx, node_id: str) -> sqlite3.Row:
    """The node with this id. Raises EngineError 404 `node_not_found`."""
    row = tx.one("SELECT * FROM nodes WHERE id = ?", node_id)
    if row is None:
        raise not_found("node_not_found", "Node not found")
    return row


def is_live(tx: Tx, engine: Engine, row: sqlite3.Row) -> bool:
    """Online, and heard within the time-out."""
    heard = row["last_heartbeat_at"]
    return row["status"] == "online" and heard is not None and tx.now - heard <= engine.limits.node_timeout_s


def capability_names(engine: Engine, row: sqlite3.Row) -> set[str]:
    """What the node said it can do, and the providers beside its broker that are connected."""
    return {item["name"] for item in _capabilities(engine, row)}


def _capabilities(engine: Engine, row: sqlite3.Row) -> list[dict[str, Any]]:
    by_name = {item["name"]: item for other in engine.hub.beside(row["id"]) for item in other.capabilities}
    return list((by_name | {item["name"]: item for item in json.loads(row["capabilities"])}).values())


def manifest(frame: dict[str, Any]) -> list[dict[str, Any]]:
    """What is kept of the capabilities in a frame."""
    return [{key: item[key] for key in ("name", "kind", "metadata") if key in item} for item in frame["capabilities"]]


def enrol(tx: Tx, engine: Engine, workspace_id: str, body: dict[str, Any]) -> dict[str, Any]:
    """Enrol or re-enrol, looked up by name; every call gives a new token and kills the old one. The public node with its token.

    Raises:
        EngineError: 409 `node_name_conflict` when another live node has the name; 400 `invalid_node_delivery`,
            `direct_node_capacity_exceeded`, `invalid_request`.
    """
    wanted = body.get("node_id")
    known = tx.one("SELECT * FROM nodes WHERE workspace_id = ? AND name = ?", workspace_id, body["name"])
    if known is not None and wanted not in (None, known["id"]) and is_live(tx, engine, known):
        raise EngineError(409, "node_name_conflict", f'Node name "{body["name"]}" is held by a live node')
    if known is None and wanted and tx.one("SELECT 1 FROM nodes WHERE id = ?", wanted):
        if not tx.run(
            "UPDATE nodes SET name = ? WHERE id = ? AND workspace_id = ?", body["name"], wanted, workspace_id
        ):
            raise invalid("node_id belongs to another workspace")
        known = by_id(tx, wanted)
    node_id = known["id"] if known else wanted or f"node_{engine.ids.next()}"
    token = ids.node_token()
    fields = _fields(body, known)
    names = ", ".join(fields)
    updates = ", ".join(f"{name} = excluded.{name}" for name in (*fields, "status", "token_hash"))
    marks = ",".join("?" * len(fields))
    tx.run(
        f"INSERT INTO nodes (id, workspace_id, name, status, token_hash, created_at, {names})"
        f" VALUES (?,?,?,'offline',?,?,{marks}) ON CONFLICT (id) DO UPDATE SET {updates}",
        node_id, workspace_id, body["name"], ids.digest(token), tx.now, *fields.values(),
    )  # fmt: skip
    return view(tx, engine, by_id(tx, node_id)) | {"token": token}


def _fields(body: dict[str, Any], known: sqlite3.Row | None) -> dict[str, Any]:
    """The columns that an enrolment sets: what it says, else what was known, else the contract's defaults."""
    kind = body.get("kind") or (known["kind"] if known else "ws")
    if kind not in _ADAPTERS:
        raise EngineError(400, "invalid_node_delivery", f"{kind} delivery is not available on this engine")
    max_agents = body.get("max_agents")
    usual = "broker" if kind == "ws" or (max_agents or 0) > 1 else "direct"
    role = body.get("role") or (known["role"] if known else usual)
    if role == "direct" and max_agents not in (None, 1):
        raise EngineError(400, "direct_node_capacity_exceeded", "A direct node has exactly one agent")
    if max_agents is None:
        max_agents = 1 if role == "direct" else (known["max_agents"] if known else 0)
    offered = body.get("capabilities")
    capabilities = json.dumps([{"name": name} for name in offered or []])
    delivery = body.get("delivery")
    return {
        "kind": kind,
        "role": role,
        "delivery_adapter": body.get("delivery_adapter") or _ADAPTERS[kind],
        "delivery": None if delivery is None else json.dumps(delivery),
        "capabilities": known["capabilities"] if known and offered is None else capabilities,
        "tags": known["tags"] if known and body.get("tags") is None else json.dumps(body.get("tags") or []),
        "version": body.get("version") or "unknown",
        "max_agents": max_agents,
    }


def direct_token(tx: Tx, engine: Engine, workspace_id: str, agent_id: str) -> dict[str, Any]:
    """A new token for an agent's implicit direct node. Raises EngineError 409 `agent_bound_to_node` when it lives elsewhere."""
    direct = agents.direct_node(agent_id)
    location = tx.the("SELECT location_node_id FROM agents WHERE id = ?", agent_id)["location_node_id"]
    if location is None:
        agents.bind(tx, engine, workspace_id, agent_id, direct)
    elif location != direct:
        raise EngineError(409, "agent_bound_to_node", "The agent is bound to another node")
    token = ids.node_token()
    tx.run("UPDATE nodes SET token_hash = ? WHERE id = ?", ids.digest(token), direct)
    return {"node_id": direct, "node_name": f"direct-{agent_id}", "token": token}


def bindings(tx: Tx, node: sqlite3.Row) -> list[dict[str, Any]]:
    """The active bindings of a node."""
    rows = tx.all("SELECT * FROM bindings WHERE node_id = ? AND status = 'active' ORDER BY created_at", node["id"])
    return [binding_view(tx, row, node) for row in rows]


def binding_view(tx: Tx, row: sqlite3.Row, node: sqlite3.Row) -> dict[str, Any]:
    """A binding as the API shows it."""
    agent = tx.one("SELECT name FROM agents WHERE id = ?", row["agent_id"])
    return {
        "id": row["id"],
        "agent_id": row["agent_id"],
        "agent_name": agent["name"] if agent else None,
        "node_id": node["id"],
        "node_name": node["name"],
        "node_kind": node["kind"],
        "node_role": node["role"],
        "status": row["status"],
        "session_ref": row["session_ref"],
        "priority": row["priority"],
        "created_at": ids.iso(row["created_at"]),
        "updated_at": ids.iso(row["updated_at"]),
    }


def view(tx: Tx, engine: Engine, row: sqlite3.Row) -> dict[str, Any]:
    """The public node."""
    is_beside = bool(engine.hub.beside(row["id"]))
    hosts = is_live(tx, engine, row)
    live = hosts or is_beside
    delivery = None if row["delivery"] is None else _redacted(json.loads(row["delivery"]))
    return {
        "id": row["id"],
        "name": row["name"],
        "kind": row["kind"],
        "role": row["role"],
        "delivery_adapter": row["delivery_adapter"],
        "delivery": delivery,
        "capabilities": _capabilities(engine, row),
        "tags": json.loads(row["tags"]),
        "version": row["version"],
        "status": "online" if live else "offline",
        "live": live,
        "handlers_live": (hosts and bool(row["handlers_live"])) or is_beside,
        "load": int(row["load"]) if row["load"] == int(row["load"]) else row["load"],
        "active_agents": row["active_agents"],
        "max_agents": row["max_agents"],
        "last_heartbeat_at": ids.iso_or_none(row["last_heartbeat_at"]),
        "created_at": ids.iso(row["created_at"]),
    }


def _redacted(value: Any) -> Any:
    if isinstance(value, dict):
        secret = ("secret", "token", "key", "password", "authorization")
        return {
            key: "[redacted]" if any(word in key.lower() for word in secret) else _redacted(item)
            for key, item in value.items()
        }
    return [_redacted(item) for item in value] if isinstance(value, list) else value
