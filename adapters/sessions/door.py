"""What a door is: one way by which deliveries enter a program, and what the program itself says about each of them.

A session has its doors in the session host. It opens them in the profile's order and keeps the first that opens; the terminal
is behind the last. A delivery goes to one door. Before `hand_over` has let a byte out, another door may take it
(`NotHandedOver`); from then on only `evidence` or `look_up` says what became of it.
Source: architecture.md 5; ADR-0093.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from relaybroker.domain.doors import MAX_PLACE, MAX_POINTER
from relaybroker.domain.questions import Question

if TYPE_CHECKING:
    from relaybroker.adapters.sessions.host.piped_process import PipedProcess
    from relaybroker.adapters.sessions.transcript import Transcript

__all__ = [
    "MAX_PLACE",
    "MAX_POINTER",
    "Absent",
    "Accepted",
    "Door",
    "DoorState",
    "Evidence",
    "LookedUp",
    "NotHandedOver",
    "Opened",
    "PassedOver",
    "PipedDoor",
    "Question",
    "QuestionGone",
    "Unknowable",
    "message_id",
]

MESSAGE_IDS = uuid.UUID("6f2b8c1e-6d0b-5b7e-9a44-3c1f0a52d90e")
"""The namespace of the ids under which programs know our deliveries. It never changes: a look-up needs nothing that was stored."""

OPEN_S = 15.0
"""A program that is ready offers its door within this time, or the door is passed over."""

DoorState = Literal["idle", "busy", "blocked", "closed"]


def message_id(delivery_id: str) -> str:
    """The UUID that a program gets for a delivery, where it wants a UUID: always the same for the same delivery."""
    return str(uuid.uuid5(MESSAGE_IDS, delivery_id))


@dataclass(frozen=True)
class Opened:
    """The door takes deliveries."""

    place: str = ""
    """Where the program writes down what it was handed (a transcript, a thread id): what a look-up needs when this process is gone.

    At most `MAX_PLACE` characters. It is kept in the log: no secret.
    """


@dataclass(frozen=True)
class PassedOver:
    """The door does not open for this program; the next one is tried."""

    reason: str
    """One sentence for people: what was found, and what the door needs."""


@dataclass(frozen=True)
class Evidence:
    """The program itself shows that it took the delivery."""

    kind: str
    """`transcript`, `item`, …: one word."""
    pointer: str
    """Where to see it: file and line, or an item's id; at most `MAX_POINTER` characters."""


@dataclass(frozen=True)
class Accepted:
    """Look-up: the program took it."""

    evidence: Evidence


@dataclass(frozen=True)
class Absent:
    """Look-up: proved that the program did not take it, and will not take it any more."""


@dataclass(frozen=True)
class Unknowable:
    """Look-up: what the program wrote down does not tell."""

    reason: str
    """One sentence for people."""


LookedUp = Accepted | Absent | Unknowable


class NotHandedOver(Exception):  # noqa: N818  # a state: another door may take it
    """No byte of the message left us: another door may take it. `str()` is the reason, one sentence for people."""


class QuestionGone(Exception):  # noqa: N818  # a state: somebody else answered, or the program takes it back
    """This question is not asked (any more). Nothing was answered."""


class Door(Protocol):
    """One way into one program. Every call comes from the session host's event loop; none blocks it.

    A door starts no message by itself, keeps no queue, and answers no question of the program but as a person said.
    """

    name: str
    """`claude_inbox`, `codex_app_server`, `acp`, …"""
    folds: bool
    """A message with `steer` enters the turn that runs; without, everything waits until the program is idle."""
    on_change: Callable[[], None] = staticmethod(lambda: None)
    """Called, from the event loop, when `question` or `state` may have changed; whoever has the door sets it before `open`."""
    interrupts: bool = False
    """For a message with `steer` the turn that runs is ended (`interrupt`), and the message is the next one."""
    open_s: float = OPEN_S
    """Longest wait for `open`."""
    proves_at_end: bool = False
    """The program shows that it took a message only when its turn with it ends."""

    async def open(self) -> Opened | PassedOver:
        """Wait until the program offers the door, or say why it does not; the caller sets the bound and cancels."""
        ...

    @property
    def state(self) -> DoorState:
        """`idle`: takes a message now. `busy`: a turn runs. `blocked`: a person is asked something. `closed`: for good."""
        ...

    async def interrupt(self) -> None:
        """End the turn that runs, as far as the program lets it; `state` says when it has ended. Raises OSError: it was not told."""
        return

    async def hand_over(self, delivery_id: str, text: str, *, steer: bool) -> None:
        """Give the message to the program, at most once per call; returns when it has left us.

        Raises:
            NotHandedOver: no byte of it left us. After any other exception nobody knows.
        """
        ...

    async def evidence(self, delivery_id: str) -> Evidence:
        """Wait until the program shows that it took the delivery; the caller sets the bound and cancels. Never guesses."""
        ...

    @property
    def question(self) -> Question | None:
        """What a person is asked, the oldest one; None: nothing, or only the screen tells it. While there is one, `state` is `blocked`."""
        return None

    async def answer(self, question_id: str, option_id: str) -> None:  # noqa: ARG002  # a door without questions
        """Give a person's answer to the program; returns when it has left us. The question is gone then.

        Raises:
            QuestionGone: another one is asked by now, or none; nothing was answered. After any other exception nobody knows.
        """
        raise QuestionGone

    async def look_up(self, delivery_id: str) -> LookedUp:
        """What the program's own records say of the delivery.

        Works also on a door that was never opened, made from the `place` that `open` told: the program or its host may be gone.
        """
        ...

    async def close(self) -> None:
        """Give back sockets, files and helper processes; the program goes on. A second call does nothing."""
        ...


class PipedDoor(Door, Protocol):
    """The only way into a program without terminal: it speaks on the program's standard input and output.

    `state` is `closed` once the program can be spoken with no more; the program is ended then. `on_change` is called upon every change.
    """

    def connect(self, process: PipedProcess, transcript: Transcript) -> None:
        """The program was started: begin to read it. Called once, before `open`. What it does and says goes into the transcript."""
        ...

    async def say(self, text: str) -> None:
        """Give the program a prompt of a person at its transcript. Called while `state` is `idle`.

        Raises OSError: it was not taken.
        """
        ...
