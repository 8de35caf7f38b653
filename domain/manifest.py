"""What a node offers to its engine: the manifest behind `node.register` and every heartbeat.

Rules:

* It never holds a bare `spawn`: the engine takes only `spawn:<harness>` for placement, another name becomes an action of one node.
* What the operator configured is always offered; a sidecar's manifest is added to it and rules the name, limit, tags and version.

Source: spec/node-protocol.md section 2.6; F055, F057.
"""

from __future__ import annotations

from typing import Any

import msgspec

PLACEMENT = "spawn:"
DELIVERY_CURSOR = "relay:delivery-cursor-v1"
"""Asks newer engines for `delivery_ack_seq` in register replies; a 5.0 engine would make an action of it."""
MAX_CAPABILITIES = 256


class Capability(msgspec.Struct, frozen=True):
    """One thing that a node can do."""

    name: str
    kind: str = ""
    metadata: dict[str, Any] | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What is offered. `max_agents` 0 = no limit; "" = the node's own name or version."""

    name: str = ""
    capabilities: tuple[Capability, ...] = ()
    max_agents: int = 0
    tags: tuple[str, ...] = ()
    version: str = ""


def of_operator(capabilities: tuple[str, ...], max_agents: int) -> Manifest:
    """The manifest without any sidecar. `capabilities` are placements, as in `spawn:claude`."""
    return Manifest(capabilities=tuple(Capability(name, "spawn") for name in capabilities), max_agents=max_agents)


def with_sidecar(operator: Manifest, sidecar: Manifest) -> Manifest:
    """Both together, without a bare `spawn`."""
    offered = {
        capability.name: capability
        for capability in (*operator.capabilities, *sidecar.capabilities)
        if capability.name != "spawn"
    }
    return msgspec.structs.replace(sidecar, capabilities=tuple(offered.values()))


def load_of(active: int, limit: int) -> float:
    """The load of a node, 0 to 1; a node without a limit has none."""
    return min(1.0, active / limit) if limit else 0.0
