"""Worker: one program in one pseudo-terminal (stream `worker:<session_id>`).

Rules:

* The process belongs to the PTY host. Everything here is what the host reported, in order.
* Nothing is typed before `ready`, nor while a dialog or login makes it `blocked`.
* `busy`: the program is working, or a person is typing in its terminal. Messages wait. If the program itself queues typed text, a
  `steer` message, or one that has waited long enough, does not wait.
* If the broker dies, the worker is unaffected. If the host dies, its workers die with it: `lost`.
* `exited` carries the process's own code and signal; `lost` means that nobody could read them.
* A stop first takes the worker out of dispatch. It then gives the PTY host a moment to finish the current text and the program a moment
  to read it, and ends the process group. Stopping in the middle of a text would leave a message in doubt; stopping right after a text
  would leave an acknowledged message unread.
* A worker that exits or is lost because of a stop has the stop's reason.
* A program that is started again is a worker of its own. It is `launching` from the end of the one before it; the host is asked when the
  pause is over.

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


class Sequel(StrEnum):
    """What follows the end of a program whose spawn has a restart policy."""

    NONE = ""
    """It was wanted, or has no policy."""
    RESTART = "restart"
    GIVEN_UP = "given_up"
    """The policy allows no more restarts."""


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
