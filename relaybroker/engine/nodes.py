"""Nodes: enrolment, registration, liveness, inventory, and how they are shown.

Source: spec/engine-contract.md sections 2.3, 5, 6.3.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from relaybroker.engine import actions, agents, deliveries, ids
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


def enrol(tx: Tx, engine: Engine, workspace_id: str, body: dict[str, Any]) -> dict[str, Any]:
    """Enrol or re-enrol; every call gives a new token and kills the old one."""
    kind = body.get("kind") or "ws"
    if kind == "http_push":
        raise EngineError(400, "invalid_node_delivery", "http_push delivery is not available on this engine")
    known = tx.one("SELECT * FROM nodes WHERE workspace_id = ? AND name = ?", workspace_id, body["name"])
    wanted = body.get("node_id")
    if known is not None and wanted and wanted != known["id"] and is_live(tx, engine, known):
        raise EngineError(409, "node_name_conflict", f'Node name "{body["name"]}" is held by a live node')
    if known is None and wanted and tx.one("SELECT 1 FROM nodes WHERE id = ?", wanted):
        _rename(tx, workspace_id, wanted, body["name"])
        known = by_id(tx, wanted)
    role = body.get("role") or (known["role"] if known else ("broker" if kind == "ws" else "direct"))
    max_agents = body.get("max_agents")
    if role == "direct" and max_agents not in (None, 1):
        raise EngineError(400, "direct_node_capacity_exceeded", "A direct node has exactly one agent")
    if max_agents is None:
        max_agents = 1 if role == "direct" else (known["max_agents"] if known else 0)
    node_id = known["id"] if known else wanted or f"node_{engine.ids.next()}"
    token = ids.node_token()
    capabilities = [{"name": name} for name in body.get("capabilities") or []]
    if known is not None and body.get("capabilities") is None:
        capabilities = json.loads(known["capabilities"])
    tx.run(
        "INSERT INTO nodes (id, workspace_id, name, kind, role, delivery_adapter, delivery, capabilities, tags, version, status,"
        " max_agents, created_at, token_hash) VALUES (?,?,?,?,?,?,?,?,?,?,'offline',?,?,?) ON CONFLICT (id) DO UPDATE SET"
        " kind = excluded.kind, role = excluded.role, delivery_adapter = excluded.delivery_adapter, delivery = excluded.delivery,"
        " capabilities = excluded.capabilities, tags = excluded.tags, version = excluded.version, status = 'offline',"
        " max_agents = excluded.max_agents, token_hash = excluded.token_hash",
        node_id, workspace_id, body["name"], kind, role, body.get("delivery_adapter") or _ADAPTERS[kind],
        None if body.get("delivery") is None else json.dumps(body["delivery"]), json.dumps(capabilities),
        json.dumps(body.get("tags") or []), body.get("version") or "unknown", max_agents, tx.now, ids.digest(token),
    )  # fmt: skip
    return view(tx, engine, by_id(tx, node_id)) | {"token": token}


def _rename(tx: Tx, workspace_id: str, node_id: str, name: str) -> None:
    if not tx.run("UPDATE nodes SET name = ? WHERE id = ? AND workspace_id = ?", name, node_id, workspace_id):
        raise invalid("node_id belongs to another workspace")


def direct_token(tx: Tx, workspace_id: str, agent_id: str) -> dict[str, Any]:
    """A new token for an agent's implicit direct node; 409 when the agent lives elsewhere."""
    direct = f"node_direct_{agent_id}"
    agent = tx.one("SELECT location_node_id FROM agents WHERE id = ? AND workspace_id = ?", agent_id, workspace_id)
    if agent is None:
        raise not_found("agent_not_found", "Agent not found")
    if agent["location_node_id"] not in (None, direct):
        raise EngineError(409, "agent_bound_to_node", "The agent is bound to another node")
    token = ids.node_token()
    tx.run("UPDATE nodes SET token_hash = ? WHERE id = ?", ids.digest(token), direct)
    return {"node_id": direct, "node_name": f"direct-{agent_id}", "token": token}


# --- the socket's frames --------------------------------------------------------------------------------------------------


def register(tx: Tx, engine: Engine, node_id: str, frame: dict[str, Any]) -> dict[str, Any]:
    """`node.register`: the node is online with this manifest. The caller replies, then drains and replays."""
    if frame["node_id"] != node_id:
        raise EngineError(403, "node_id_mismatch", "node_id does not match the token")
    node = by_id(tx, node_id)
    holder = tx.one(
        "SELECT id FROM nodes WHERE workspace_id = ? AND name = ? AND id != ?",
        node["workspace_id"],
        frame["name"],
        node_id,
    )
    if holder is not None:
        raise EngineError(409, "node_name_conflict", f'Node name "{frame["name"]}" is taken')
    if node["role"] == "direct":
        tx.run(
            "UPDATE nodes SET name = ?, tags = ?, version = ?, status = 'online', handlers_live = 0, capabilities = '[]', max_agents = 1,"
            " active_agents = 1, last_heartbeat_at = ? WHERE id = ?",
            frame["name"], json.dumps(frame["tags"]), frame["version"], tx.now, node_id,
        )  # fmt: skip
    else:
        capabilities = [
            {key: item[key] for key in ("name", "kind", "metadata") if key in item} for item in frame["capabilities"]
        ]
        tx.run(
            "UPDATE nodes SET name = ?, tags = ?, version = ?, status = 'online', handlers_live = ?, capabilities = ?, max_agents = ?,"
            " last_heartbeat_at = ? WHERE id = ?",
            frame["name"], json.dumps(frame["tags"]), frame["version"], int(bool(capabilities)), json.dumps(capabilities),
            frame["max_agents"], tx.now, node_id,
        )  # fmt: skip
        actions.materialise(tx, engine, node["workspace_id"], node_id, [item["name"] for item in capabilities])
    return view(tx, engine, by_id(tx, node_id))


def heartbeat(tx: Tx, engine: Engine, node_id: str, frame: dict[str, Any]) -> None:
    """`node.heartbeat`: online, with this load; drains queued invocations."""
    if frame.get("node_id") not in (None, node_id):
        raise EngineError(403, "node_id_mismatch", "node_id does not match the token")
    direct = by_id(tx, node_id)["role"] == "direct"
    tx.run(
        "UPDATE nodes SET status = 'online', load = ?, active_agents = ?, handlers_live = ?, last_heartbeat_at = ?,"
        " version = COALESCE(?, version), max_agents = COALESCE(?, max_agents) WHERE id = ?",
        frame.get("load") or 0.0, 1 if direct else frame["active_agents"], 0 if direct else int(frame["handlers_live"]), tx.now,
        frame.get("version"), None if direct else frame.get("max_agents"), node_id,
    )  # fmt: skip
    actions.drain(tx, engine, node_id)


def go_offline(tx: Tx, engine: Engine, node_id: str) -> None:
    """Socket closed, timed out or deregistered: its agents are offline, its open invocations go elsewhere."""
    if not tx.run(
        "UPDATE nodes SET status = 'offline', handlers_live = 0, load = 0, active_agents = 0 WHERE id = ? AND status = 'online'",
        node_id,
    ):
        return
    for agent in tx.all("SELECT * FROM agents WHERE location_node_id = ? AND status != 'offline'", node_id):
        agents.set_status(tx, engine, agent, "offline")
    actions.reschedule_node(tx, engine, node_id)


def deregister_agent(tx: Tx, engine: Engine, node_id: str, frame: dict[str, Any]) -> dict[str, Any]:
    """`agent.deregister`: only an agent that is located here is changed."""
    agent = tx.one("SELECT * FROM agents WHERE id = ? AND location_node_id = ?", frame["agent_id"], node_id)
    if agent is not None:
        agents.unbind(tx, engine, agent, node_id)
    return {
        "agent_id": frame["agent_id"],
        "name": agent["name"] if agent else frame.get("name"),
        "deregistered": True,
    }


def sync_inventory(tx: Tx, engine: Engine, node_id: str, items: list[dict[str, Any]]) -> dict[str, Any]:
    """`inventory.sync`: authoritative list of who lives here. One conflict refuses the whole sync and changes nothing."""
    node = by_id(tx, node_id)
    known: list[tuple[dict[str, Any], sqlite3.Row]] = []
    for item in items:
        agent = tx.one("SELECT * FROM agents WHERE workspace_id = ? AND name = ?", node["workspace_id"], item["name"])
        if agent is not None:
            _check_location(tx, engine, node_id, agent)
            known.append((item, agent))
    for item, agent in known:
        agents.reserve_slot(tx, node, agent["id"])
        agents.bind(tx, engine, node["workspace_id"], agent["id"], node_id, session_ref=item.get("session_ref"))
        agents.set_status(tx, engine, agent, "active")
    listed = {agent["id"] for _, agent in known}
    for agent in tx.all("SELECT * FROM agents WHERE location_node_id = ? AND status != 'offline'", node_id):
        if agent["id"] not in listed:
            agents.set_status(tx, engine, agent, "offline")
    completed = [
        item["invocation_id"]
        for item, agent in known
        if item.get("invocation_id")
        and actions.complete(
            tx,
            engine,
            node_id,
            item["invocation_id"],
            output={
                "agent_id": agent["id"],
                "name": agent["name"],
                "invocation_id": item["invocation_id"],
                "session_ref": item.get("session_ref"),
            },
        )
    ]
    named = {item["invocation_id"] for item in items if item.get("invocation_id")}
    rescheduled = actions.reschedule_node(tx, engine, node_id, keep=named)
    return {
        "rebound_agents": len(known),
        "open_invocations": actions.open_on(tx, node_id),
        "completed_invocations": completed,
        "rescheduled_invocations": rescheduled,
    }


def _check_location(tx: Tx, engine: Engine, node_id: str, agent: sqlite3.Row) -> None:
    location = agent["location_node_id"]
    if location in (None, node_id, f"node_direct_{agent['id']}") or agent["status"] == "offline":
        return
    holder = tx.one("SELECT * FROM nodes WHERE id = ?", location)
    if holder is not None and is_live(tx, engine, holder):
        raise EngineError(409, "agent_location_conflict", f'Agent "{agent["name"]}" is active on another node')


def sweep(tx: Tx, engine: Engine) -> None:
    """What time brings: silent nodes go offline, rows expire, invocations are tried again."""
    overdue = tx.now - engine.limits.node_timeout_s
    for row in tx.all("SELECT id FROM nodes WHERE status = 'online' AND COALESCE(last_heartbeat_at, 0) < ?", overdue):
        go_offline(tx, engine, row["id"])
    deliveries.expire(tx, engine)
    actions.redispatch(tx, engine)
    tx.run("DELETE FROM idempotency WHERE created_at < ?", tx.now - engine.limits.idempotency_s)


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
    live = is_live(tx, engine, row)
    delivery = None if row["delivery"] is None else _redacted(json.loads(row["delivery"]))
    return {
        "id": row["id"],
        "name": row["name"],
        "kind": row["kind"],
        "role": row["role"],
        "delivery_adapter": row["delivery_adapter"],
        "delivery": delivery,
        "capabilities": json.loads(row["capabilities"]),
        "tags": json.loads(row["tags"]),
        "version": row["version"],
        "status": "online" if live else "offline",
        "live": live,
        "handlers_live": live and bool(row["handlers_live"]),
        "load": row["load"],
        "active_agents": row["active_agents"],
        "max_agents": row["max_agents"],
        "last_heartbeat_at": None if row["last_heartbeat_at"] is None else ids.iso(row["last_heartbeat_at"]),
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
