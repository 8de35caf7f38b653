"""Moments as clients read them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any


def rfc3339(epoch_s: float) -> str:
    """A moment in UTC with milliseconds: `2026-01-01T10:00:00.000Z`."""
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def dated(agents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Agent items (route 6) with their `_at` fields, which the views give as epoch seconds, as text."""
    for item in agents:
        for key in ("last_activity_at", "spawnedAt"):
            item[key] = None if item[key] is None else rfc3339(item[key])
    return agents
