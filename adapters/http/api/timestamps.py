"""Moments as clients read them."""

from __future__ import annotations

from typing import Any

from relaybroker.domain.instants import rfc3339


def dated(agents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Agent items (route 6) with their `_at` fields, which the views give as epoch seconds, as text."""
    for item in agents:
        for key in ("last_activity_at", "spawnedAt"):
            item[key] = None if item[key] is None else rfc3339(item[key])
    return agents
