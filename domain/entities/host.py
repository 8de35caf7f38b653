"""The PTY host."""

from __future__ import annotations

import msgspec


class Host(msgspec.Struct):
    """The PTY host, as far as it is known."""

    host_id: str = ""
    pid: int = 0
    attached: bool = False
    last_report: int = 0
    until: float = 0.0
    """When to attach again."""
