"""The shape of what announces an event: what local clients are told of it, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from relaybroker.domain.announcements import Announcement
from relaybroker.domain.events import Event, Recorded
from relaybroker.domain.state import State

Announcements = Iterable[Announcement]
Announcing = Mapping[type[Event], Callable[[State, Any, Recorded], Announcements]]
"""Event -> what local clients are told of it, from the event and the state after it."""


def subject(recorded: Recorded) -> str:
    """What follows the machine's name in the name of a stream."""
    return recorded.stream.partition(":")[2]
