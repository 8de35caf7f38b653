"""Recorded events: actions."""

from __future__ import annotations

from typing import Any, ClassVar

from domain import (
    action_invocation,
)
from domain.events.base import Event, Kind
from domain.reasons import Reason


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


class ActionRunning(_Action, frozen=True, kw_only=True):
    """The work begins, once."""

    topic: ClassVar[str] = "action.running.v1"
    trigger: ClassVar[str] = action_invocation.Trigger.RUN
    name: str
    until: float


class ActionDone(_Action, frozen=True, kw_only=True):
    """The work has its result: `output` or, when `error` is not empty, that error. `reason` is the cause of an error."""

    topic: ClassVar[str] = "action.done.v1"
    trigger: ClassVar[str] = action_invocation.Trigger.FINISH
    output: Any = None
    error: str = ""
    reason: Reason | None = None
    detail: str = ""


class ActionReported(_Action, frozen=True, kw_only=True):
    """The result was given to a live link."""

    topic: ClassVar[str] = "action.reported.v1"
    trigger: ClassVar[str] = action_invocation.Trigger.REPORT
    dial: int


class ActionRepeated(_Action, frozen=True, kw_only=True):
    """The engine asked again for an invocation that is known; a stored result is sent again."""

    topic: ClassVar[str] = "action.repeated.v1"
    kind: ClassVar[Kind] = "fact"
    state: str
