"""SidecarHandlers: one connection of a local program that offers action handlers (stream `sidecar:<connection>`).

Rules:

* Each connection has an identity. A newer connection replaces the older one, whose later reports change nothing.
* `serving` means that at least one handler name is registered; a new list replaces the old one.
* Whatever ran on a connection that is `gone` ends as `handler_unavailable`. Its `spawn:` actions wait 5 s for it to come back.

Source: spec/node-protocol.md section 7.
"""

from __future__ import annotations

from enum import StrEnum

from relaybroker.domain.state_machine import Table

HANDLER_S = 120.0
"""How long a handler may take."""
GRACE_S = 5.0
"""How long `spawn:` actions of a sidecar that dropped wait for it."""
STABLE_S = 10.0
"""A start that was followed by a connection of this length has succeeded."""
RESTART_MAX_S = 60.0
MAX_HANDLERS = 256


class SidecarState(StrEnum):
    """States; the first one is initial."""

    CONNECTED = "connected"
    SERVING = "serving"
    GONE = "gone"


class Trigger(StrEnum):
    """What moves it."""

    SERVE = "serve"
    PAUSE = "pause"
    LEAVE = "leave"


TABLE = Table(
    "sidecar",
    states=SidecarState,
    terminal=(SidecarState.GONE,),
    triggers=Trigger,
    edges=(
        (Trigger.SERVE, (SidecarState.CONNECTED, SidecarState.SERVING), SidecarState.SERVING),
        (Trigger.PAUSE, (SidecarState.CONNECTED, SidecarState.SERVING), SidecarState.CONNECTED),
        (Trigger.LEAVE, (SidecarState.CONNECTED, SidecarState.SERVING), SidecarState.GONE),
    ),
    rules=__doc__,
)
