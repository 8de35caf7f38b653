"""An invocation in the ledger."""

from __future__ import annotations

from typing import Any

import msgspec

from relaybroker.domain import (
    action as action_machine,
)


class Action(msgspec.Struct):
    """One invocation in the ledger."""

    stream: str
    invocation_id: str
    action: str
    state: str
    received_at: float
    name: str = ""
    until: float = 0.0
    output: Any = None
    error: str = ""
    reported_at: float = 0.0
    input: Any = None
    agent_name: str = ""
    agent_id: str = ""
    handler: str = ""
    """The sidecar connection that runs it; "" = the broker itself."""

    @property
    def reported(self) -> bool:
        """The result was given to a live link."""
        return self.state == action_machine.ActionState.REPORTED
