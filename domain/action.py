"""ActionInvocation: one piece of work that the engine asked this node for (stream `action:<invocation_id>`).

Rules:

* At most one execution per invocation id. A repeated request gets the same result, even after a restart.
* `running` has a deadline. Work that was running when the broker died is `done` with an error: it is not run twice.
* An action for a sidecar that has just disconnected waits in `received` for at most 5 s, then runs without it.
* `handler_unavailable` is reported and forgotten: the engine may then try elsewhere, and may come back here.
* `reported` means that the result was given to a live link. It stays in the ledger (10 000 entries, 24 h) to answer repeats.

Source: spec/node-protocol.md section 5.4.
"""

from __future__ import annotations

from enum import StrEnum

from relaybroker.domain.state_machine import Table

SPAWN_S = 25.0
RELEASE_S = 4.0
"""The grace of a release and two seconds more."""
RESEND_S = 2.0
"""A result written so shortly before its session ended goes out once more on the next one."""
LONGEST_S = 150.0
"""No invocation is open for longer: the longest handler, and its wait for a sidecar."""
MAX_OPEN = 1024
"""Invocations without a reported result; the next one is given back as `handler_unavailable`."""
LEDGER_LIMIT = 10_000
LEDGER_S = 24 * 3600.0


class ActionState(StrEnum):
    """States; the first one is initial."""

    RECEIVED = "received"
    RUNNING = "running"
    DONE = "done"
    REPORTED = "reported"


class Trigger(StrEnum):
    """What moves it."""

    RUN = "run"
    FINISH = "finish"
    REPORT = "report"


TABLE = Table(
    "action",
    states=ActionState,
    terminal=(ActionState.REPORTED,),
    triggers=Trigger,
    edges=(
        (Trigger.RUN, (ActionState.RECEIVED,), ActionState.RUNNING),
        (Trigger.FINISH, (ActionState.RECEIVED, ActionState.RUNNING), ActionState.DONE),
        (Trigger.REPORT, (ActionState.DONE,), ActionState.REPORTED),
    ),
    rules=__doc__,
)
