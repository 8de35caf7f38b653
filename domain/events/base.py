"""What every recorded event has: topic, machine, kind, trigger; and its place in the log.

Source: design/architecture.md section 3; ADR-0002, ADR-0003.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple

import msgspec

Kind = Literal["fact", "decision"]


class Earlier(NamedTuple):
    """A form in which an event was once written: its topic, and how a body of it becomes one of the next form."""

    topic: str
    upcast: Callable[[dict[str, Any]], dict[str, Any]]
    """Body of this form -> body of the next one. Pure, self-contained, and never changed once a log may hold the next form."""


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Common shape of events. Subclasses say their topic, their machine (stream prefix), kind and trigger, and what they once were."""

    topic: ClassVar[str]
    earlier: ClassVar[tuple[Earlier, ...]] = ()
    """Superseded forms, oldest first; each is upcast to the one behind it, the last one to this class."""
    machine: ClassVar[str]
    kind: ClassVar[Kind] = "decision"
    trigger: ClassVar[str] = ""


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """An event in its place: which stream, which position, when, and because of what."""

    stream: str
    version: int
    """Position in the broker's log, from 1."""
    at: float
    """Epoch seconds, as the core was told."""
    causation: str
    """Event id of the fact that led to this event; its own id for the fact itself."""
    correlation: str
    """What the event is about across streams: a message id, an invocation id, an agent name, or ""."""
    event: Event
    input_json: bytes = b""
    """On the first event of a turn: what the core was told (`relaybroker.domain.recorded_input`), as JSON; b"" on all others."""

    @property
    def event_id(self) -> str:
        """`<stream>@<version>`, unique in the log."""
        return f"{self.stream}@{self.version}"
