"""Worker: one program in one pseudo-terminal (stream `worker:<session_id>`).

Rules:

* The process belongs to the PTY host. Everything here is what the host reported, in the order in which it happened.
* Nothing is typed before `ready`, and nothing while `blocked` by a dialog or a login.
* `busy`: it works on something, or a person types in its terminal. Messages wait; where the program itself queues what it is typed, a
  `steer` message, or one that has waited long enough, does not.
* A broker that dies leaves the worker as it is. A host that dies takes its workers along: `lost`.
* `exited` carries the process's own code and signal; `lost` says that nobody could read them.
* A stop takes the worker out of dispatch first, lets what the PTY host has begun to type come to its end and the program read what was
  typed last, both for a moment only, and then ends its process group. A stop in the middle of a text would make a doubtful message of it,
  and one right behind a text an acknowledged message that nobody has read.
* What ended or was lost because of a stop has the stop as its reason.

Source: spec/node-protocol.md sections 6.1 to 6.4 and 6.9; design/architecture.md section 5.
"""

from __future__ import annotations

from enum import StrEnum

from relaybroker.domain.state_machine import Table

SURVIVAL_S = 0.25
"""A program that lives this long counts as started."""
START_S = 15.0
"""Within this time the host must say that the process exists."""
STARTUP_S = 25.0
"""A program that is not seen to be ready by then is announced to local clients all the same; nothing is typed for that."""
READY_AFTER_S = 0.2
"""Between the answer to a spawn and the word that its program is ready: whoever asked waits for that word from the answer on."""
RELEASE_GRACE_S = 2.0
LAST_WORDS_S = 1.0
"""How long a stop waits for what the PTY host has begun to type."""
READ_S = 0.15
"""How long a program has to read what was typed last, before it is told to end."""
DRAFT = "unsubmitted draft"
"""What the host says it is blocked by when a text of ours stands in the composer and Enter could not be written."""


class WorkerState(StrEnum):
    """States; the first one is initial."""

    LAUNCHING = "launching"
    BOOTING = "booting"
    READY = "ready"
    BUSY = "busy"
    BLOCKED = "blocked"
    STOPPING = "stopping"
    EXITED = "exited"
    LOST = "lost"


class Trigger(StrEnum):
    """What moves it."""

    START = "start"
    OPEN = "open"
    OCCUPY = "occupy"
    FREE = "free"
    BLOCK = "block"
    UNBLOCK = "unblock"
    STOP = "stop"
    EXIT = "exit"
    LOSE = "lose"


_ALIVE = (WorkerState.LAUNCHING, WorkerState.BOOTING, WorkerState.READY, WorkerState.BUSY, WorkerState.BLOCKED)

TABLE = Table(
    "worker",
    states=WorkerState,
    terminal=(WorkerState.EXITED, WorkerState.LOST),
    triggers=Trigger,
    edges=(
        (Trigger.START, (WorkerState.LAUNCHING,), WorkerState.BOOTING),
        (Trigger.OPEN, (WorkerState.BOOTING,), WorkerState.READY),
        (Trigger.OCCUPY, (WorkerState.READY,), WorkerState.BUSY),
        (Trigger.FREE, (WorkerState.BUSY,), WorkerState.READY),
        (Trigger.BLOCK, (WorkerState.BOOTING, WorkerState.READY, WorkerState.BUSY), WorkerState.BLOCKED),
        (Trigger.UNBLOCK, (WorkerState.BLOCKED,), WorkerState.BOOTING),
        (Trigger.STOP, _ALIVE, WorkerState.STOPPING),
        (Trigger.EXIT, (*_ALIVE, WorkerState.STOPPING), WorkerState.EXITED),
        (Trigger.LOSE, (*_ALIVE, WorkerState.STOPPING), WorkerState.LOST),
    ),
    rules=__doc__,
)
