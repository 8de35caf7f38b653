"""Which node a spawn goes to.

Source: spec/engine-contract.md section 8.3.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from typing import Any

from relaybroker.engine import agents, nodes
from relaybroker.engine.auth import Caller
from relaybroker.engine.context import Engine
from relaybroker.engine.errors import EngineError, invalid
from relaybroker.engine.store import Tx


def unavailable() -> EngineError:
    """503 `handler_unavailable`: nobody can take this, and nothing was stored."""
    return EngineError(503, "handler_unavailable", "No live node can handle this action")


def capability_of(body: dict[str, Any]) -> str:
    """The capability that a spawn needs, `spawn:<harness>`. Raises EngineError 400 `invalid_request`."""
    wanted = body.get("capability") or body.get("cli")
    if not isinstance(wanted, str):
        raise invalid("cli is required")
    return f"spawn:{wanted.removeprefix('spawn:')}"


def target_of(body: dict[str, Any]) -> str | None:
    """The node that the caller asked for by name, or `self`; such a spawn never goes to another node."""
    target = body.get("target_node") or body.get("node") or body.get("target")
    return target if isinstance(target, str) else None


def choose(tx: Tx, engine: Engine, caller: Caller, body: dict[str, Any]) -> str:
    """The id of the node for a new spawn.

    Raises:
        EngineError: 503 `handler_unavailable`, 404 `node_not_found`, 409 `capability_mismatch`, or for `self` 400
            `placement_self_requires_agent` and 409 `placement_self_unavailable`.
    """
    capability, target = capability_of(body), target_of(body)
    if target:
        node = nodes.find(tx, caller.workspace_id, target) if target != "self" else _own_node(tx, caller)
        if capability not in nodes.capability_names(engine, node):
            raise EngineError(409, "capability_mismatch", f"The node does not offer {capability}")
        if not has_room(tx, node):
            raise unavailable()
        return str(node["id"])
    node_id = least_loaded(tx, engine, caller.workspace_id, capability)
    if node_id is None:
        raise unavailable()
    return node_id


def least_loaded(tx: Tx, engine: Engine, workspace_id: str, capability: str, tried: Collection[str] = ()) -> str | None:
    """The live node with the capability and room that has the least load, then the fewest agents, then the first name."""
    rows = tx.all(
        "SELECT * FROM nodes WHERE workspace_id = ? AND status = 'online' AND handlers_live = 1 AND last_heartbeat_at >= ?"
        " ORDER BY load, active_agents, name",
        workspace_id, tx.now - engine.limits.node_timeout_s,
    )  # fmt: skip
    for row in rows:
        if row["id"] not in tried and capability in nodes.capability_names(engine, row) and has_room(tx, row):
            return str(row["id"])
    return None


def has_room(tx: Tx, node: sqlite3.Row) -> bool:
    """Whether the node has a free slot; spawns under way hold theirs until they are completed."""
    if not node["max_agents"]:
        return True
    reserved = tx.count(
        "SELECT COUNT(*) FROM invocations WHERE dispatched_node_id = ? AND kind = 'spawn' AND status IN ('pending', 'dispatched')",
        node["id"],
    )
    return agents.used_slots(tx, node["id"]) + reserved < int(node["max_agents"])


def elsewhere(tx: Tx, engine: Engine, invocation: sqlite3.Row) -> str | None:
    """Another node for a spawn that its node did not carry out: one not tried yet; None for anything bound to one node."""
    if invocation["kind"] != "spawn" or target_of(json.loads(invocation["input"])):
        return None
    return least_loaded(
        tx, engine, invocation["workspace_id"], invocation["frame_action"], json.loads(invocation["tried"])
    )


def _own_node(tx: Tx, caller: Caller) -> sqlite3.Row:
    if caller.kind != "agent":
        raise EngineError(400, "placement_self_requires_agent", "Only an agent can place on its own node")
    node_id = tx.the("SELECT location_node_id FROM agents WHERE id = ?", caller.id)["location_node_id"]
    if node_id in (None, agents.direct_node(caller.id)):
        raise EngineError(409, "placement_self_unavailable", "The caller is not located on a node")
    return nodes.by_id(tx, node_id)
