"""What is told of something: what became of it, why, and the events that led there. `relaybroker why` and the local API answer with these.

Source: spec/architecture.md sections 1 and 8; user requirements U01 to U03.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Step(msgspec.Struct, frozen=True):
    """One event in a story. `at` is seconds since 1970; `who` is `engine`, `host`, `caller`, `operator`, `sidecar`, `clock` or `broker`."""

    position: int
    at: float
    since_first_s: float
    who: str
    stream: str
    event: str
    detail: dict[str, Any]


class Waiting(msgspec.Struct, frozen=True):
    """A message that is not settled: why, since when (seconds since 1970) and until when at the latest (0: no limit)."""

    msg_id: str
    seq: int | None
    state: str
    reason: str
    since: float
    until: float


class Story(msgspec.Struct, frozen=True):
    """What became of something, and why.

    `outcome` is `delivered`, `not delivered` or `pending`; `verdict` one sentence; `state` the machine's state; `reason` a member of the
    closed list, or ""; `otherwise` what to do about it, or ""; `next` the command that goes on from here; `waiting` the
    messages that wait for an agent, oldest first.
    """

    subject: str
    outcome: str
    state: str
    reason: str
    verdict: str
    steps: list[Step]
    otherwise: str
    next: str
    waiting: list[Waiting] = msgspec.field(default_factory=list)
    message_id: str = ""
    """Of a message from here: under which id the engine has it."""
