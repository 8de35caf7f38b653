"""Recorded events: what people decide about an agent's delivery mode. Stream `hold:<lower-case agent name>`."""

from __future__ import annotations

from typing import ClassVar

from relaybroker.domain.events.base import Event, Kind


class _Hold(Event, frozen=True, kw_only=True):
    machine: ClassVar[str] = "hold"


class DeliveryModeAsked(_Hold, frozen=True, kw_only=True):
    """A person asks for this delivery mode. `revision`: only if the mode has not changed since that revision."""

    topic: ClassVar[str] = "hold.mode_asked.v1"
    kind: ClassVar[Kind] = "fact"
    request_id: str
    name: str
    mode: str
    reason: str = ""
    revision: int | None = None
    expected: str = ""


class DeliveryModeChanged(_Hold, frozen=True, kw_only=True):
    """From here on this agent's messages are held (`manual_flush`) or typed as they arrive (`auto_inject`)."""

    topic: ClassVar[str] = "hold.mode_changed.v1"
    name: str
    mode: str
    previous: str
    reason: str = ""


class FlushAsked(_Hold, frozen=True, kw_only=True):
    """A person asks to type the held messages now."""

    topic: ClassVar[str] = "hold.flush_asked.v1"
    kind: ClassVar[Kind] = "fact"
    request_id: str
    name: str


class PendingDrained(_Hold, frozen=True, kw_only=True):
    """This many held messages are released. `cause`: `explicit_flush` or `delivery_mode_transition`."""

    topic: ClassVar[str] = "hold.drained.v1"
    name: str
    count: int
    cause: str
