"""Moments on the command line."""

from __future__ import annotations

from relaybroker.audit import times
from relaybroker.cli.exits import Exit, fail


def moment(text: str) -> float | None:
    """Seconds since 1970; None for "". What is no time ends the command."""
    try:
        return times.parsed(text) if text else None
    except ValueError:
        fail(Exit.USAGE, f"{text!r} is not a time: write 2026-01-31T12:00:00, or 15m for 15 minutes ago")
