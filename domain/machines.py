"""Every state machine of the broker, by name: the one list that docs, CLI, tests and replay walk."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from domain import (
    action_invocation,
    agent_registration,
    delivery,
    node_connection,
    outbound_message,
    sidecar_handlers,
    worker,
)
from domain.kernel import Table

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
