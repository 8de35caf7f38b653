"""SidecarHandlers: one connection of a local program that offers action handlers (stream `sidecar:<connection>`).

Rules:

* Each connection has an identity. A newer one replaces the older, whose later reports change nothing.
* `serving` means that at least one handler name is registered; a new list replaces the old one.
* Whatever ran on a connection that is `gone` ends as `handler_unavailable`.

Source: spec/node-protocol.md section 7.
"""

from __future__ import annotations

from enum import StrEnum

from domain.kernel import Table


class State(StrEnum):
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
    "sidecar_handlers",
    states=State,
    terminal=(State.GONE,),
    triggers=Trigger,
    edges=(
        (Trigger.SERVE, (State.CONNECTED, State.SERVING), State.SERVING),
        (Trigger.PAUSE, (State.SERVING,), State.CONNECTED),
        (Trigger.LEAVE, (State.CONNECTED, State.SERVING), State.GONE),
    ),
    rules=__doc__,
)
