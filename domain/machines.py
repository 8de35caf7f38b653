"""Every state machine of the broker, by name: the one list that docs, CLI, tests and replay walk."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from relaybroker.domain import (
    action_invocation,
    agent_registration,
    delivery,
    node_connection,
    outbound_message,
    sidecar_handlers,
    worker,
)
from relaybroker.domain.kernel import Table

MACHINES: Mapping[str, Table] = MappingProxyType(
    {
        table.name: table
        for table in (
            node_connection.TABLE,
            agent_registration.TABLE,
            worker.TABLE,
            delivery.TABLE,
            action_invocation.TABLE,
            outbound_message.TABLE,
            sidecar_handlers.TABLE,
        )
    }
)

MACHINE_OF: Mapping[str, Table] = MappingProxyType(
    {
        "node": MACHINES["node_connection"],
        "agent": MACHINES["agent_registration"],
        "worker": MACHINES["worker"],
        "delivery": MACHINES["delivery"],
        "action": MACHINES["action_invocation"],
        "message": MACHINES["outbound_message"],
        "sidecar": MACHINES["sidecar_handlers"],
    }
)
"""The machine that an event moves, by `Event.machine`; events of `mailbox`, `host` and `broker` move none."""
