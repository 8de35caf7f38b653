"""Providers: further programs on a node, each with a socket and actions of its own, beside the broker that hosts the node's agents.

A socket serves the provider that its first frame names. Without a name, and as `broker` or `default`, it is the one that hosts the agents:
everything else in this package is about that one. Any other provider is told nothing but what to do: actions that it offered, and spawns
that it offered, which it takes in place of the broker. It can hand a spawn on to the broker (`node.spawn`), and speak in channels.

Source: spec/engine-contract.md section 5.6.
"""

from __future__ import annotations

from typing import Any

from relaybroker.engine import actions, invocations, nodes
from relaybroker.engine.auth import Caller
from relaybroker.engine.context import Engine
from relaybroker.engine.errors import EngineError
from relaybroker.engine.hub import NodeConnection
from relaybroker.engine.store import Tx

_HOSTS = ("", "broker", "default")
_KINDS = ("action", "capacity")


def name_of(frame: dict[str, Any]) -> str:
    """The provider that a socket serves whose first frame this is; "" hosts the node's agents."""
    name = (frame.get("provider") or {}).get("name", "")
    return "" if name in _HOSTS else name


def register(tx: Tx, engine: Engine, connection: NodeConnection, frame: dict[str, Any]) -> dict[str, Any]:
    """`node.register` of a provider beside the broker: it offers exactly these capabilities from now on. What is replied.

    Raises:
        EngineError: `node_id_mismatch`, `forbidden` on the direct node of an agent.
    """
    node = nodes.by_id(tx, connection.node_id)
    if frame["node_id"] != node["id"]:
        raise EngineError(403, "node_id_mismatch", "node_id does not match the token")
    if node["role"] == "direct":
        raise EngineError(403, "forbidden", "A direct node serves its agent alone")
    provider, names = connection.provider, [item["name"] for item in frame["capabilities"]]
    actions.materialise(tx, engine, node["workspace_id"], node["id"], names, provider)
    for row in tx.all("SELECT name FROM actions WHERE handler_node_id = ? AND provider = ?", node["id"], provider):
        if row["name"] not in names:
            actions.withdraw(tx, node["id"], provider, row["name"])
    verdicts = acceptance(tx, node["id"], provider, frame)
    accepted = {item["name"] for item in verdicts["accepted_capabilities"] if item["accepted"]}
    connection.capabilities = tuple(item for item in nodes.manifest(frame) if item["name"] in accepted)
    return nodes.view(tx, engine, node) | verdicts


def acceptance(tx: Tx, node_id: str, provider: str, frame: dict[str, Any]) -> dict[str, Any]:
    """Which of its capabilities a provider has now; the name of an action belongs to whoever offered it first."""
    verdicts = []
    for item in frame["capabilities"]:
        built_in = actions.is_built_in(item["name"])
        verdict = {
            "name": item["name"],
            "kind": item["kind"] if item.get("kind") in _KINDS else "capacity" if built_in else "action",
            "accepted": built_in or actions.is_of(tx, node_id, provider, item["name"]),
        }
        verdicts.append(verdict if verdict["accepted"] else verdict | {"reason": "action_name_conflict"})
    return {"provider": frame["provider"], "accepted_capabilities": verdicts}


def leave(tx: Tx, engine: Engine, node_id: str, provider: str) -> None:
    """`node.deregister` of a provider: its actions are gone with it."""
    for row in tx.all("SELECT name FROM actions WHERE handler_node_id = ? AND provider = ?", node_id, provider):
        actions.withdraw(tx, node_id, provider, row["name"])
    gone(tx, engine, node_id, provider)


def gone(tx: Tx, engine: Engine, node_id: str, provider: str) -> None:
    """Its socket is closed: what it still owed waits for it."""
    invocations.await_provider(tx, engine, node_id, provider)


def spawn(tx: Tx, engine: Engine, node_id: str, body: dict[str, Any]) -> dict[str, Any]:
    """`node.spawn`: start an agent on this node, by its broker. Raises EngineError as a spawn that names its node does."""
    node = nodes.by_id(tx, node_id)
    caller = Caller("node", node["workspace_id"], node_id, node["name"])
    return actions.spawn(tx, engine, caller, body | {"target_node": node["name"]})


def speaker(tx: Tx, caller: Caller, name: str | None) -> Caller:
    """Who says what a node posts: an agent that is on it, or a name that no agent has, which is then the node's.

    The direct node of an agent, whose token the agent itself can have, speaks as that agent alone.

    Raises:
        EngineError: 403 `forbidden` for anybody else.
    """
    if caller.kind != "node":
        return caller
    wanted = name or caller.name
    agent = tx.one("SELECT * FROM agents WHERE workspace_id = ? AND name = ?", caller.workspace_id, wanted)
    if agent is None and nodes.by_id(tx, caller.id)["role"] != "direct":
        return Caller("node", caller.workspace_id, caller.id, wanted)
    if agent is None or agent["location_node_id"] != caller.id or agent["status"] == "offline":
        raise EngineError(403, "forbidden", f'Agent "{wanted}" is not on this node')
    return Caller("agent", caller.workspace_id, agent["id"], agent["name"])
