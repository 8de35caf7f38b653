"""Moments and lengths of time as people read them: local time with its date, `2h 05m`; for programs ISO 8601 in UTC."""

from __future__ import annotations

import time
from datetime import UTC, datetime

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LARGEST = (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1))


def iso(epoch_s: float) -> str:
    """A moment in UTC with milliseconds: `2026-01-01T10:00:00.000Z`."""
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment(epoch_s: float) -> str:
    """A moment where this terminal is, with its date and to the millisecond: `2026-01-01 11:00:00.000`."""
    return datetime.fromtimestamp(epoch_s).astimezone().isoformat(" ", "milliseconds")[:23]


def length(seconds: float) -> str:
    """A length of time, from a minute on in its two largest units: `40 ms`, `3.2 s`, `2m 05s`, `5h 20m`, `3d 04h`."""
    if seconds < 0.9995:
        return f"{1000 * max(0.0, seconds):.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    large, of_large, small, of_small = next(units for units in _LARGEST if whole >= units[1])
    return f"{whole // of_large}{large} {whole % of_large // of_small:02d}{small}"


def ago(seconds: float | None) -> str:
    """When something was, by its age."""
    return "never" if seconds is None else f"{length(seconds)} ago"


def parsed(text: str) -> float:
    """A time that a person wrote: ISO 8601 (local where it names no zone), or how long ago (90s, 15m, 2h, 3d).

    Raises:
        ValueError: it is neither.
    """
    if text[-1:] in _UNITS and text[:-1].replace(".", "", 1).isdecimal():
        return time.time() - float(text[:-1]) * _UNITS[text[-1]]
    return datetime.fromisoformat(text).timestamp()
