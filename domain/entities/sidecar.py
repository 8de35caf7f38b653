"""The sidecar that is connected, and the program behind it."""

from __future__ import annotations

import msgspec

from relaybroker.domain import (
    sidecar as sidecar_machine,
)
from relaybroker.domain.inputs import Supervision


class Sidecar(msgspec.Struct):
    """The sidecar that is connected."""

    stream: str
    connection: str
    since: float
    state: str = sidecar_machine.TABLE.initial
    handlers: tuple[str, ...] = ()
    manifest_request: str = ""
    """Local request that waits for the engine to take its manifest."""
    register_id: str = ""
    """The `node.register` whose answer that is."""

    def proven(self, now: float) -> bool:
        """Whether it has been connected long enough for its start to have succeeded."""
        return now - self.since >= sidecar_machine.STABLE_S


class Supervised(msgspec.Struct):
    """The program behind a sidecar, and how often it was started."""

    how: Supervision
    restarts: int = 0
    failures: int = 0
    until: float = 0.0
    """When it is started; 0 = not planned."""
