"""What a check finds: well, doubtful or broken; why; and the next command."""

from __future__ import annotations

from typing import Literal

import msgspec

Grade = Literal["ok", "doubtful", "broken"]


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at. `next`: what to do; "" where nothing is to be done."""

    subject: str
    grade: Grade
    says: str
    next: str = ""


def ok(subject: str, says: str) -> Finding:
    """It is as it must be."""
    return Finding(subject, "ok", says)


def doubtful(subject: str, says: str, what_next: str) -> Finding:
    """It works, and somebody should look at it."""
    return Finding(subject, "doubtful", says, what_next)


def broken(subject: str, says: str, what_next: str) -> Finding:
    """It does not work."""
    return Finding(subject, "broken", says, what_next)
