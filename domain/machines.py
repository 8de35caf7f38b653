"""Every state machine of the broker, by name: the one list that docs, CLI, tests and replay walk."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from relaybroker.domain import (
    action as action_machine,
)
from relaybroker.domain import (
    agent as agent_machine,
)
from relaybroker.domain import (
    delivery,
    worker,
)
from relaybroker.domain import (
    link as link_machine,
)
from relaybroker.domain import (
    message as message_machine,
)
from relaybroker.domain import (
    sidecar as sidecar_machine,
)
from relaybroker.domain.state_machine import Table

MACHINES: Mapping[str, Table] = MappingProxyType(
    {
        table.name: table
        for table in (
            link_machine.TABLE,
            agent_machine.TABLE,
            worker.TABLE,
            delivery.TABLE,
            action_machine.TABLE,
            message_machine.TABLE,
            sidecar_machine.TABLE,
        )
    }
)

MACHINE_OF: Mapping[str, Table] = MappingProxyType(
    {
        "node": MACHINES["link"],
        "agent": MACHINES["agent"],
        "worker": MACHINES["worker"],
        "delivery": MACHINES["delivery"],
        "action": MACHINES["action"],
        "message": MACHINES["message"],
        "sidecar": MACHINES["sidecar"],
    }
)
"""The machine that an event moves, by `Event.machine`; events of `mailbox`, `host` and `broker` move none."""
