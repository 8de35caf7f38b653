"""Recorded events: workers."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from relaybroker.domain import (
    worker,
)
from relaybroker.domain.events.base import Event, Kind
from relaybroker.domain.questions import Question
from relaybroker.domain.reasons import Reason


class _Worker(Event, frozen=True, kw_only=True):
    machine: ClassVar[str] = "worker"
    kind: ClassVar[Kind] = "fact"


class WorkerLaunched(_Worker, frozen=True, kw_only=True):
    """The host is asked to start the program: of a spawn, or again."""

    topic: ClassVar[str] = "worker.launched.v1"
    kind: ClassVar[Kind] = "decision"
    name: str
    agent_id: str
    until: float


class WorkerStarted(_Worker, frozen=True, kw_only=True):
    """The process exists."""

    topic: ClassVar[str] = "worker.started.v1"
    trigger: ClassVar[str] = worker.Trigger.START
    report: int
    pid: int
    until: float
    """It counts as started when it still lives then."""


class WorkerReady(_Worker, frozen=True, kw_only=True):
    """The program accepts input."""

    topic: ClassVar[str] = "worker.ready.v1"
    trigger: ClassVar[str] = worker.Trigger.OPEN
    report: int
    evidence: str


class DoorChosen(Event, frozen=True, kw_only=True):
    """Through which door deliveries enter the program from here on; `""` = the terminal. At its start, and when a door fails."""

    topic: ClassVar[str] = "worker.door_chosen.v1"
    machine: ClassVar[str] = "worker"
    kind: ClassVar[Kind] = "fact"
    report: int
    door: str
    place: str = ""
    """Where the program writes down what it was handed: what a look-up needs when the host is gone."""
    passed_over: dict[str, str] = msgspec.field(default_factory=dict)
    """Doors that came before it -> why each was not taken."""


class WorkerAnnounced(_Worker, frozen=True, kw_only=True):
    """Local clients are told that the program is ready, or that its readiness could not be determined in time."""

    topic: ClassVar[str] = "worker.announced.v1"
    kind: ClassVar[Kind] = "decision"


class TerminalTyped(Event, frozen=True, kw_only=True):
    """A person typed in the terminal: number of pieces, number of bytes, and a digest. The keys are not kept."""

    topic: ClassVar[str] = "worker.terminal_typed.v1"
    machine: ClassVar[str] = "worker"
    kind: ClassVar[Kind] = "fact"
    frames: int
    size: int
    digest: str


class TerminalSized(Event, frozen=True, kw_only=True):
    """A person gave the terminal a size; `owner` "" = at a command."""

    topic: ClassVar[str] = "worker.terminal_sized.v1"
    machine: ClassVar[str] = "worker"
    kind: ClassVar[Kind] = "fact"
    rows: int
    cols: int
    owner: str = ""


class QuestionAnswered(Event, frozen=True, kw_only=True):
    """A person answered the program's question, with a command or through the local API. `question`: its name; `option`: the label."""

    topic: ClassVar[str] = "worker.question_answered.v1"
    machine: ClassVar[str] = "worker"
    kind: ClassVar[Kind] = "fact"
    request_id: str
    name: str
    question: str
    option: str
    by: str = ""
    """Who answered; "" in older logs."""
    question_id: str = ""
    """It was given to a door of the program; "" = chosen on its screen."""
    option_id: str = ""
    report: int = 0


class WorkerBlocked(_Worker, frozen=True, kw_only=True):
    """A dialog or login is on the screen, or a door of the program tells what is asked."""

    topic: ClassVar[str] = "worker.blocked.v1"
    trigger: ClassVar[str] = worker.Trigger.BLOCK
    report: int
    pattern: str
    question: Question | None = None
    """What the door tells; None = it is on the screen."""


class WorkerUnblocked(_Worker, frozen=True, kw_only=True):
    """The dialog is gone."""

    topic: ClassVar[str] = "worker.unblocked.v1"
    trigger: ClassVar[str] = worker.Trigger.UNBLOCK
    report: int


class WorkerOccupied(_Worker, frozen=True, kw_only=True):
    """The program is working (`agent_busy`), is suspended (`agent_suspended`), has unsent text (`composer_unclear`), or a person is typing.

    `detail`: how that was seen. `patience_s`: a message that has waited so long is typed all the same; 0 = only when it is free.
    """

    topic: ClassVar[str] = "worker.occupied.v1"
    trigger: ClassVar[str] = worker.Trigger.OCCUPY
    report: int
    reason: Reason
    detail: str
    patience_s: float


class WorkerFreed(_Worker, frozen=True, kw_only=True):
    """The program is free again."""

    topic: ClassVar[str] = "worker.freed.v1"
    trigger: ClassVar[str] = worker.Trigger.FREE
    report: int


class WorkerIdle(_Worker, frozen=True, kw_only=True):
    """Nothing was printed for a while, and nothing is pending."""

    topic: ClassVar[str] = "worker.idle.v1"
    report: int
    idle_s: float


class WorkerStopping(_Worker, frozen=True, kw_only=True):
    """The worker is out of dispatch and is being stopped: at once, or by `ends_at`, once the current text is finished."""

    topic: ClassVar[str] = "worker.stopping.v1"
    kind: ClassVar[Kind] = "decision"
    trigger: ClassVar[str] = worker.Trigger.STOP
    reason: Reason
    grace_s: float
    until: float
    ends_at: float = 0.0


class WorkerEndAsked(_Worker, frozen=True, kw_only=True):
    """Typing has finished, or took too long: the program is told to end."""

    topic: ClassVar[str] = "worker.end_asked.v1"
    kind: ClassVar[Kind] = "decision"


class WorkerExited(_Worker, frozen=True, kw_only=True):
    """The process ended, with its own status. `report` 0: the host could not start it at all. `sequel`: what its restart policy says."""

    topic: ClassVar[str] = "worker.exited.v1"
    trigger: ClassVar[str] = worker.Trigger.EXIT
    report: int
    code: int | None
    signal: int | None
    last_output: str
    uptime_s: float
    reason: Reason
    sequel: str = worker.Sequel.NONE


class WorkerLost(_Worker, frozen=True, kw_only=True):
    """The fate of the process is unknown: its host is gone. `sequel`: what its restart policy says."""

    topic: ClassVar[str] = "worker.lost.v1"
    trigger: ClassVar[str] = worker.Trigger.LOSE
    reason: Reason
    detail: str
    sequel: str = worker.Sequel.NONE
