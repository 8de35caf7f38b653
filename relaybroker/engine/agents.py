"""Agents: creation, take-over by a node, where they live, their status, and how they are shown.

Source: spec/engine-contract.md sections 2.2, 5.5, 6.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from relaybroker.engine import channels, events, ids
from relaybroker.engine.context import Engine
from relaybroker.engine.errors import EngineError, not_found
from relaybroker.engine.store import Tx


def direct_node(agent_id: str) -> str:
    """The id of an agent's implicit direct node."""
    return f"node_direct_{agent_id}"


def find(tx: Tx, workspace_id: str, name: str) -> sqlite3.Row:
    """The agent of this name. Raises EngineError 404 `agent_not_found`."""
    row = tx.one("SELECT * FROM agents WHERE workspace_id = ? AND name = ?", workspace_id, name)
    if row is None:
        raise not_found("agent_not_found", f'Agent "{name}" not found')
    return row


def create(
    tx: Tx,
    engine: Engine,
    workspace_id: str,
    *,
    name: str,
    kind: str = "agent",
    persona: str | None = None,
    metadata: dict[str, Any] | None = None,
    skills: list[Any] | None = None,
    capabilities: dict[str, Any] | None = None,
    join_general: bool = True,
) -> tuple[sqlite3.Row, str]:
    """A new agent on its own implicit direct node, and its token."""
    agent_id, token = engine.ids.next(), ids.agent_token()
    direct = direct_node(agent_id)
    tx.run(
        "INSERT INTO agents (id, workspace_id, name, type, persona, metadata, skills, capabilities, status, token_hash, created_at,"
        " last_seen, location_type, location_node_id) VALUES (?,?,?,?,?,?,?,?,'active',?,?,?,'via_node',?)",
        agent_id, workspace_id, name, kind, persona, json.dumps(metadata or {}), json.dumps(skills or []),
        None if capabilities is None else json.dumps(capabilities), ids.digest(token), tx.now, tx.now, direct,
    )  # fmt: skip
    tx.run(
        "INSERT INTO nodes (id, workspace_id, name, kind, role, delivery_adapter, tags, version, status, max_agents, active_agents,"
        " created_at) VALUES (?,?,?,'ws','direct','ws.node.v1','[\"implicit\",\"direct\"]','unknown','offline',1,1,?)",
        direct, workspace_id, f"direct-{agent_id}", tx.now,
    )  # fmt: skip
    bind(tx, engine, workspace_id, agent_id, direct)
    if join_general:
        channels.join_general(tx, engine, workspace_id, agent_id)
    return find(tx, workspace_id, name), token


def rotate(tx: Tx, agent_id: str) -> str:
    """A new token; the old one is dead."""
    token = ids.agent_token()
    tx.run("UPDATE agents SET token_hash = ? WHERE id = ?", ids.digest(token), agent_id)
    return token


def bind(
    tx: Tx,
    engine: Engine,
    workspace_id: str,
    agent_id: str,
    node_id: str,
    *,
    session_ref: str | None = None,
    priority: int = 0,
) -> sqlite3.Row:
    """Make this node the agent's one active binding and its location; its other slots are freed. No session_ref keeps the old one."""
    left = tx.all(
        "UPDATE bindings SET status = 'inactive', updated_at = ? WHERE agent_id = ? AND node_id != ? AND status = 'active'"
        " RETURNING node_id",
        tx.now, agent_id, node_id,
    )  # fmt: skip
    tx.run(
        "INSERT INTO bindings (id, workspace_id, agent_id, node_id, status, session_ref, priority, created_at, updated_at)"
        " VALUES (?,?,?,?,'active',?,?,?,?) ON CONFLICT (agent_id, node_id) DO UPDATE SET status = 'active',"
        " session_ref = COALESCE(excluded.session_ref, session_ref), priority = excluded.priority, updated_at = excluded.updated_at",
        f"anb_{engine.ids.next()}", workspace_id, agent_id, node_id, session_ref, priority, tx.now, tx.now,
    )  # fmt: skip
    tx.run("UPDATE agents SET location_type = 'via_node', location_node_id = ? WHERE id = ?", node_id, agent_id)
    for former in (row["node_id"] for row in left):
        count_agents(tx, former)
    count_agents(tx, node_id)
    return tx.the("SELECT * FROM bindings WHERE agent_id = ? AND node_id = ?", agent_id, node_id)


def unbind(tx: Tx, engine: Engine, agent: sqlite3.Row, node_id: str) -> None:
    """The agent leaves the node: offline, back to its direct node."""
    detach(tx, agent["id"], node_id)
    bind(tx, engine, agent["workspace_id"], agent["id"], direct_node(agent["id"]))
    set_status(tx, engine, agent, "offline")


def detach(tx: Tx, agent_id: str, node_id: str) -> None:
    """Released: the binding is inactive, the slot free, the agent on no node."""
    tx.run(
        "UPDATE bindings SET status = 'inactive', updated_at = ? WHERE agent_id = ? AND node_id = ?",
        tx.now, agent_id, node_id,
    )  # fmt: skip
    tx.run("UPDATE agents SET location_type = 'self_connected', location_node_id = NULL WHERE id = ?", agent_id)
    count_agents(tx, node_id)


def count_agents(tx: Tx, node_id: str) -> None:
    """What the roster says about a broker node that is online follows its bindings, until its next heartbeat says more."""
    tx.run(
        "UPDATE nodes SET active_agents = ? WHERE id = ? AND role = 'broker' AND status = 'online'",
        used_slots(tx, node_id), node_id,
    )  # fmt: skip


def require_own_agent(node: sqlite3.Row, agent_id: str) -> None:
    """The implicit direct node of an agent serves that agent alone. Raises EngineError 403 `forbidden` for any other one."""
    if node["id"].startswith(direct_node("")) and node["id"] != direct_node(agent_id):
        raise EngineError(403, "forbidden", "The direct node of an agent serves no other agent")


def used_slots(tx: Tx, node_id: str) -> int:
    """How many agents are actively bound to a node."""
    return tx.count("SELECT COUNT(*) FROM bindings WHERE node_id = ? AND status = 'active'", node_id)


def reserve_slot(tx: Tx, node: sqlite3.Row, agent_id: str) -> None:
    """Raise EngineError 409 `node_capacity_exceeded` if the agent needs a slot that the node does not have."""
    if not node["max_agents"]:
        return
    bound = tx.one(
        "SELECT 1 FROM bindings WHERE node_id = ? AND agent_id = ? AND status = 'active'", node["id"], agent_id
    )
    if bound is None and used_slots(tx, node["id"]) >= node["max_agents"]:
        raise EngineError(409, "node_capacity_exceeded", "Node is at capacity")


def register_on_node(tx: Tx, engine: Engine, node: sqlite3.Row, frame: dict[str, Any]) -> dict[str, Any]:
    """`agent.register`: create, or take over with a new token (contract 6.1); what is replied.

    Raises:
        EngineError: `agent_location_conflict`, `node_capacity_exceeded`, `forbidden`.
    """
    workspace_id, name = node["workspace_id"], frame["name"]
    agent = tx.one("SELECT * FROM agents WHERE workspace_id = ? AND name = ?", workspace_id, name)
    join_general = frame.get("auto_join_general") is not False
    require_own_agent(node, "" if agent is None else agent["id"])
    if agent is None:
        reserve_slot(tx, node, "")
        agent, token = create(tx, engine, workspace_id, name=name, join_general=join_general)
        announce(tx, engine, agent, "active")
    else:
        if agent["status"] == "active" and agent["location_node_id"] not in (
            None,
            node["id"],
            direct_node(agent["id"]),
        ):
            raise EngineError(409, "agent_location_conflict", f'Agent "{name}" is active on another node')
        reserve_slot(tx, node, agent["id"])
        token = rotate(tx, agent["id"])
        if join_general:
            channels.join_general(tx, engine, workspace_id, agent["id"])
        set_status(tx, engine, agent, "active")
    binding = bind(tx, engine, workspace_id, agent["id"], node["id"])
    session_ref = frame.get("session_ref")
    tx.run("UPDATE bindings SET session_ref = ? WHERE id = ?", session_ref, binding["id"])
    metadata = json.loads(agent["metadata"])
    fleet = metadata.get("fleet")
    metadata["fleet"] = (fleet if isinstance(fleet, dict) else {}) | {
        "node_id": node["id"],
        "invocation_id": frame.get("invocation_id"),
        "registered_at": ids.iso(tx.now),
    }
    tx.run(
        "UPDATE agents SET metadata = ?, origin_node_id = COALESCE(origin_node_id, ?), session_ref = ?, resumable = ? WHERE id = ?",
        json.dumps(metadata), node["id"], session_ref, int(bool(frame.get("resumable"))), agent["id"],
    )  # fmt: skip
    return {"agent_id": agent["id"], "token": token, "name": name}


def set_status(tx: Tx, engine: Engine, agent: sqlite3.Row, status: str) -> None:
    """Store a status; a change is told to observers and to every node with agents. `online` is stored as `active`."""
    stored = "active" if status == "online" else status
    if tx.run(
        "UPDATE agents SET status = ?, last_seen = ? WHERE id = ? AND status != ?", stored, tx.now, agent["id"], stored
    ):
        announce(tx, engine, agent, stored)


def announce(tx: Tx, engine: Engine, agent: sqlite3.Row, status: str) -> None:
    """Tell observers and every connected node with agents, after the commit, that the agent has this status now."""
    nodes = tx.all(
        "SELECT DISTINCT node_id FROM bindings WHERE workspace_id = ? AND status = 'active'", agent["workspace_id"]
    )
    connected = [row["node_id"] for row in nodes if engine.hub.is_connected(row["node_id"])]
    event = f"agent.status.{status}"
    frame = {
        "v": 1,
        "type": "context.update",
        "topic": "presence",
        "event": event,
        "channel_id": None,
        "agent_ids": [agent["id"]],
        "data": {"agent_name": agent["name"], "status": status},
    }

    def tell() -> None:
        for node_id in connected:
            engine.hub.send(node_id, frame)

    tx.after(tell)
    said = {"type": event, "agent": {"name": agent["name"]}, "status": status}
    events.publish(tx, engine, agent["workspace_id"], said)


def delete(tx: Tx, engine: Engine, agent: sqlite3.Row) -> None:
    """The agent, its actions, its open deliveries and its direct node are gone; its messages stay."""
    direct = direct_node(agent["id"])
    tx.run("DELETE FROM bindings WHERE agent_id = ?", agent["id"])
    tx.run("DELETE FROM members WHERE agent_id = ?", agent["id"])
    tx.run("DELETE FROM deliveries WHERE agent_id = ?", agent["id"])
    tx.run("DELETE FROM actions WHERE handler_agent_id = ?", agent["id"])
    tx.run("DELETE FROM agent_events WHERE agent_id = ?", agent["id"])
    tx.run("DELETE FROM nodes WHERE id = ?", direct)
    tx.run("DELETE FROM agents WHERE id = ?", agent["id"])
    if agent["location_node_id"]:
        count_agents(tx, agent["location_node_id"])
    tx.after(lambda: engine.hub.disconnect_by_force(direct))


def view(row: sqlite3.Row) -> dict[str, Any]:
    """An agent as it is listed."""
    return {
        "id": row["id"],
        "workspace_id": row["workspace_id"],
        "name": row["name"],
        "handle": f"@{row['name']}",
        "type": row["type"],
        "status": row["status"],
        "persona": row["persona"],
        "capabilities": None if row["capabilities"] is None else json.loads(row["capabilities"]),
        "skills": json.loads(row["skills"]),
        "created_at": ids.iso(row["created_at"]),
        "last_seen": None if row["last_seen"] is None else ids.iso(row["last_seen"]),
        "metadata": json.loads(row["metadata"]),
    }


def details(tx: Tx, row: sqlite3.Row) -> dict[str, Any]:
    """An agent with its channels, actions and open deliveries."""
    joined = tx.all(
        "SELECT c.id, c.name, m.role, m.joined_at FROM members m JOIN channels c ON c.id = m.channel_id"
        " WHERE m.agent_id = ? AND c.kind = 'channel' AND c.is_archived = 0 ORDER BY c.name",
        row["id"],
    )
    provided = tx.all("SELECT name FROM actions WHERE handler_agent_id = ? ORDER BY name", row["id"])
    available = tx.all(
        "SELECT name, available_to FROM actions WHERE workspace_id = ? ORDER BY name", row["workspace_id"]
    )
    pending = tx.all(
        "SELECT id, message_id, mode, reason, status, created_at FROM deliveries"
        " WHERE agent_id = ? AND status IN ('queued', 'delivered') ORDER BY seq LIMIT 50",
        row["id"],
    )
    return view(row) | {
        "channels": [
            {"id": item["id"], "name": item["name"], "role": item["role"], "joined_at": ids.iso(item["joined_at"])}
            for item in joined
        ],
        "actions_provided": [item["name"] for item in provided],
        "actions_available_to": [
            item["name"]
            for item in available
            if not json.loads(item["available_to"]) or row["name"] in json.loads(item["available_to"])
        ],
        "pending_deliveries": [
            dict(item) | {"message_id": str(item["message_id"]), "created_at": ids.iso(item["created_at"])}
            for item in pending
        ],
    }
