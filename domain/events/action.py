"""Recorded events: actions."""

from __future__ import annotations

from typing import Any, ClassVar

from relaybroker.domain import (
    action as action_machine,
)
from relaybroker.domain.events.base import Event, Kind
from relaybroker.domain.reasons import Reason


class _Action(Event, frozen=True, kw_only=True):
    machine: ClassVar[str] = "action"


class ActionReceived(_Action, frozen=True, kw_only=True):
    """The engine asks for work."""

    topic: ClassVar[str] = "action.received.v1"
    kind: ClassVar[Kind] = "fact"
    invocation_id: str
    action: str
    input: Any
    agent_name: str = ""
    agent_id: str = ""


class ActionHeld(_Action, frozen=True, kw_only=True):
    """The sidecar that serves this action has just disconnected: the action waits for it until then, and then runs without it."""

    topic: ClassVar[str] = "action.held.v1"
    until: float


class ActionRunning(_Action, frozen=True, kw_only=True):
    """The work starts, once."""

    topic: ClassVar[str] = "action.running.v1"
    trigger: ClassVar[str] = action_machine.Trigger.RUN
    name: str
    until: float
    handler: str = ""
    """The sidecar connection that runs it; "" = the broker itself."""
    unread: tuple[str, ...] = ()
    """Fields of the input that remote callers may not set here."""


class ActionDone(_Action, frozen=True, kw_only=True):
    """The work has its result: `output` or, when `error` is not empty, that error. `reason` is the cause of an error."""

    topic: ClassVar[str] = "action.done.v1"
    trigger: ClassVar[str] = action_machine.Trigger.FINISH
    output: Any = None
    error: str = ""
    reason: Reason | None = None
    detail: str = ""


class ActionReported(_Action, frozen=True, kw_only=True):
    """The result was given to a live link."""

    topic: ClassVar[str] = "action.reported.v1"
    trigger: ClassVar[str] = action_machine.Trigger.REPORT
    dial: int


class ActionResent(_Action, frozen=True, kw_only=True):
    """The session ended so soon after the result was written that the engine may not have it: it is sent once more."""

    topic: ClassVar[str] = "action.resent.v1"
    dial: int


class ActionRepeated(_Action, frozen=True, kw_only=True):
    """The engine repeated a known invocation; a stored result is sent again."""

    topic: ClassVar[str] = "action.repeated.v1"
    kind: ClassVar[Kind] = "fact"
    state: str
