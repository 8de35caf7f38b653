"""What a node says on its socket about itself and its agents: register, heartbeat, deregister, inventory; and its silence.

Source: spec/engine-contract.md sections 5, 6.2, 6.3.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from relaybroker.engine import actions, agents, deliveries, files, invocations, providers, subscriptions
from relaybroker.engine.context import IDEMPOTENCY_S, Engine
from relaybroker.engine.errors import EngineError
from relaybroker.engine.nodes import by_id, is_live, manifest, view
from relaybroker.engine.store import Tx


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
        capabilities = manifest(frame)
        tx.run(
            "UPDATE nodes SET name = ?, tags = ?, version = ?, status = 'online', handlers_live = ?, capabilities = ?, max_agents = ?,"
            " last_heartbeat_at = ? WHERE id = ?",
            frame["name"], json.dumps(frame["tags"]), frame["version"], int(bool(capabilities)), json.dumps(capabilities),
            frame["max_agents"], tx.now, node_id,
        )  # fmt: skip
        actions.materialise(tx, engine, node["workspace_id"], node_id, [item["name"] for item in capabilities])
    shown = view(tx, engine, by_id(tx, node_id))
    return shown | providers.acceptance(tx, node_id, "", frame) if "provider" in frame else shown


def heartbeat(tx: Tx, engine: Engine, node_id: str, frame: dict[str, Any]) -> None:
    """`node.heartbeat`: online, with this load and these roster fields; drains what waits for the node.

    Raises:
        EngineError: `node_id_mismatch`.
    """
    if frame.get("node_id") not in (None, node_id):
        raise EngineError(403, "node_id_mismatch", "node_id does not match the token")
    if by_id(tx, node_id)["role"] == "direct":
        tx.run(
            "UPDATE nodes SET status = 'online', active_agents = 1, last_heartbeat_at = ? WHERE id = ?", tx.now, node_id
        )
    else:
        capabilities = json.dumps(manifest(frame)) if "capabilities" in frame else None
        tx.run(
            "UPDATE nodes SET status = 'online', load = ?, active_agents = ?, handlers_live = ?, last_heartbeat_at = ?,"
            " version = COALESCE(?, version), max_agents = COALESCE(?, max_agents), capabilities = COALESCE(?, capabilities)"
            " WHERE id = ?",
            frame.get("load") or 0.0, frame["active_agents"], int(frame["handlers_live"]), tx.now, frame.get("version"),
            frame.get("max_agents"), capabilities, node_id,
        )  # fmt: skip
    invocations.drain(tx, engine, by_id(tx, node_id))


def go_offline(tx: Tx, engine: Engine, node_id: str) -> None:
    """Socket closed, silent or deregistered: its agents are offline where they are, what it still owed goes elsewhere."""
    tx.run(
        "UPDATE nodes SET status = 'offline', handlers_live = 0, load = 0, active_agents = 0 WHERE id = ?",
        node_id,
    )
    for agent in tx.all("SELECT * FROM agents WHERE location_node_id = ? AND status != 'offline'", node_id):
        agents.set_status(tx, engine, agent, "offline")
    invocations.reschedule_node(tx, engine, node_id)


def deregister_agent(tx: Tx, engine: Engine, node_id: str, frame: dict[str, Any]) -> dict[str, Any]:
    """`agent.deregister`: only an agent that is located here is changed."""
    agent = tx.one("SELECT * FROM agents WHERE id = ? AND location_node_id = ?", frame["agent_id"], node_id)
    if agent is not None:
        agents.unbind(tx, engine, agent, node_id)
    return {
        "agent_id": frame["agent_id"],
        "name": agent["name"] if agent else frame.get("name", ""),
        "deregistered": True,
    }


def sync_inventory(tx: Tx, engine: Engine, node_id: str, items: list[dict[str, Any]]) -> dict[str, Any]:
    """`inventory.sync`: authoritative list of who lives here. One conflict refuses the whole sync and changes nothing."""
    node = by_id(tx, node_id)
    known: list[tuple[dict[str, Any], sqlite3.Row]] = []
    for item in items:
        agent = tx.one("SELECT * FROM agents WHERE workspace_id = ? AND name = ?", node["workspace_id"], item["name"])
        if agent is not None:
            agents.require_own_agent(node, agent["id"])
            _check_location(tx, engine, node_id, agent)
            known.append((item, agent))
    for item, agent in known:
        agents.reserve_slot(tx, node, agent["id"])
        session_ref = item.get("session_ref")
        agents.bind(tx, engine, node["workspace_id"], agent["id"], node_id, session_ref=session_ref)
        tx.run("UPDATE agents SET session_ref = COALESCE(?, session_ref) WHERE id = ?", session_ref, agent["id"])
        agents.set_status(tx, engine, agent, "active")
    listed = {agent["id"] for _, agent in known}
    for agent in tx.all("SELECT * FROM agents WHERE location_node_id = ? AND status != 'offline'", node_id):
        if agent["id"] not in listed:
            agents.set_status(tx, engine, agent, "offline")
    completed = [
        item["invocation_id"]
        for item, agent in known
        if item.get("invocation_id")
        and invocations.complete(
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
    rescheduled = invocations.reschedule_node(tx, engine, node_id, keep=named)
    return {
        "rebound_agents": len(known),
        "open_invocations": invocations.open_on(tx, node_id),
        "completed_invocations": completed,
        "rescheduled_invocations": rescheduled,
    }


def _check_location(tx: Tx, engine: Engine, node_id: str, agent: sqlite3.Row) -> None:
    location = agent["location_node_id"]
    if location in (node_id, agents.direct_node(agent["id"])):
        return
    if location is None or (agent["status"] != "offline" and is_live(tx, engine, by_id(tx, location))):
        raise EngineError(409, "agent_location_conflict", f'Agent "{agent["name"]}" is not on this node')


def sweep(tx: Tx, engine: Engine) -> None:
    """What time brings: silent nodes go offline, rows expire, deferred ones are sent, invocations are tried again."""
    overdue = tx.now - engine.limits.node_timeout_s
    for row in tx.all("SELECT id FROM nodes WHERE status = 'online' AND COALESCE(last_heartbeat_at, 0) < ?", overdue):
        go_offline(tx, engine, row["id"])
    deliveries.expire(tx, engine)
    deliveries.push_deferred(tx, engine)
    invocations.redispatch(tx, engine)
    files.sweep(tx)
    subscriptions.sweep(tx)
    tx.run("DELETE FROM idempotency WHERE created_at < ?", tx.now - IDEMPOTENCY_S)
