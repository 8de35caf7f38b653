"""A program in a terminal, or on pipes."""

from __future__ import annotations

import msgspec

from relaybroker.domain import (
    worker,
)
from relaybroker.domain.questions import Question
from relaybroker.domain.reasons import Reason


class Worker(msgspec.Struct):
    """One program in one session of the host."""

    stream: str
    session_id: str
    registration: str
    name: str
    agent_id: str
    state: str
    until: float
    """Deadline of launching, of the survival window, or of stopping; 0 = none."""
    launched_at: float
    starts_at: float = 0.0
    """It takes the place of one that failed, and is started then; 0 = the host was asked to start it."""
    pid: int = 0
    ready_at: float = 0.0
    announced: bool = False
    """Local clients were told that it is ready."""
    evidence: str = ""
    door: str = ""
    """By which deliveries enter it; "" = its terminal."""
    door_place: str = ""
    """Where it writes down what it was handed."""
    resumes: str = ""
    """`door_place` of the program that it takes the place of, whose conversation goes on if the program can; "" = none."""
    blocked_by: str = ""
    blocked_since: float = 0.0
    """When it began to ask what it asks; 0 = it asks nothing."""
    question: Question | None = None
    """What it asks, as its door tells; None: it asks nothing, or only its screen shows it."""
    occupied_by: Reason | None = None
    patience_s: float = 0.0
    """What has waited so long for a program that works is typed all the same; 0 = nothing is."""
    active_at: float = 0.0
    idle: bool = False
    typed: int = 0
    last_typed_at: float = 0.0
    stop_reason: Reason | None = None
    ends_at: float = 0.0
    """It is being stopped, and told to end by then at the latest; 0 = it was told, or is not stopped."""
    grace_s: float = 0.0
    exit_reason: Reason | None = None
    sequel: str = worker.Sequel.NONE
    code: int | None = None
    signal: int | None = None
    last_output: str = ""
    uptime_s: float = 0.0
    waiting: list[str] = msgspec.field(default_factory=list)
    """Delivery streams held or queued for this worker, in typing order."""
    typing: list[str] = msgspec.field(default_factory=list)
    """Delivery streams that are with the PTY host, in order."""
    unseen: list[str] = msgspec.field(default_factory=list)
    """It has ended: delivery streams of what it was typed and whose echo nobody has seen."""
    draining: bool = False
    """One of these was not typed: nothing more is given to the host before it has said what became of the others."""

    @property
    def ended(self) -> bool:
        """Exited or lost."""
        return self.state in worker.TABLE.terminal

    @property
    def end_due(self) -> float:
        """When it is told to end: the text in its terminal has come to its end, and it had time to read it; 0 = not waited for."""
        return self.ends_at if self.typing else min(self.ends_at, self.last_typed_at + worker.READ_S)

    @property
    def takes_text(self) -> bool:
        """Ready and not blocked or stopping."""
        return self.state in (worker.WorkerState.READY, worker.WorkerState.BUSY)


class Crash(msgspec.Struct, frozen=True):
    """A program that ended although nobody wanted it to. Neither code nor signal: nobody saw how."""

    name: str
    at: float
    code: int | None
    signal: int | None
    uptime_s: float
