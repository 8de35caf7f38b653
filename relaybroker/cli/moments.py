"""Moments on the command line."""

from __future__ import annotations

from datetime import UTC, datetime

from relaybroker.cli.exits import Exit, fail

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def moment(text: str, now: float) -> float | None:
    """Seconds since 1970; None for "". ISO 8601 (UTC where it names no zone), or how long ago (90s, 15m, 2h, 3d).

    Anything else ends the command.
    """
    if not text:
        return None
    if text[-1] in _UNITS and text[:-1].replace(".", "", 1).isdecimal():
        return now - float(text[:-1]) * _UNITS[text[-1]]
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        fail(Exit.USAGE, f"{text!r} is no time: write 2026-01-31T12:00:00, or 15m for a quarter of an hour ago")
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
