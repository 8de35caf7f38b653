"""The shape of a change: (state, event, its record, the entity whose machine it moved) -> None."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from relaybroker.domain.events import Event, Recorded
from relaybroker.domain.state import State

Changes = Mapping[type[Event], Callable[[State, Any, Recorded, Any], None]]
