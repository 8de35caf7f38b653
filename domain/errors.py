"""Everything the core raises, in one tree.

    RelayBrokerError
    ├── IllegalTransition      our own caller fired a trigger that the state does not have (a bug; nothing changed)
    ├── PeerViolation          the engine, an agent or a client broke its contract (recorded, never fatal)
    │   └── FrameRejected      a frame that cannot be read far enough to act on it
    ├── InvalidRequest         bad input from a person or a program, with a stable code; nothing changed
    └── CorruptLog             the recorded history does not fold (start-up refuses, every byte is kept)

As in h11, local and remote errors are different types.
"""

from __future__ import annotations

from enum import StrEnum


class RelayBrokerError(Exception):
    """Root of every error of this project's core."""


class IllegalTransition(RelayBrokerError):  # noqa: N818 - the field's term (h11: LocalProtocolError); it names what happened
    """A trigger was fired in a state that has no such exit. Nothing changed."""

    def __init__(self, machine: str, state: str, trigger: str) -> None:
        super().__init__(f"{machine}: no transition {trigger} from state {state}")
        self.machine = machine
        self.state = state
        self.trigger = trigger


class PeerViolation(RelayBrokerError):  # noqa: N818 - names the peer's fault, not ours
    """A peer broke its contract."""


class FrameRejected(PeerViolation):
    """A frame cannot be used. `reason` is a short code, `frame_type` what could be read of its type."""

    def __init__(self, reason: str, detail: str, frame_type: str | None = None) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.frame_type = frame_type


class Refusal(StrEnum):
    """Whose fault a refusal is, and whether the same request may work later. Each has one HTTP status at the local API."""

    INVALID = "invalid"
    """The caller's error."""
    UNKNOWN_CALLER = "unknown_caller"
    FORBIDDEN = "forbidden"
    ABSENT = "absent"
    """What it is about does not exist."""
    SLOW = "slow"
    """The request did not arrive in time."""
    CONFLICT = "conflict"
    """The state of things forbids it."""
    TOO_LARGE = "too_large"
    MISMATCH = "mismatch"
    """It is not of the shape that was asked for."""
    FULL = "full"
    FAILED = "failed"
    """Ours."""
    NOT_BUILT = "not_built"
    ENGINE = "engine"
    """The engine refused it."""
    UNAVAILABLE = "unavailable"
    """Somebody who is needed is not there now."""
    NO_ANSWER = "no_answer"
    """It was not done in time, and may still happen."""


_PASSING = (Refusal.FULL, Refusal.FAILED, Refusal.ENGINE, Refusal.UNAVAILABLE, Refusal.NO_ANSWER)


def may_pass(kind: Refusal) -> bool:
    """Whether what is refused so may work later."""
    return kind in _PASSING


class InvalidRequest(RelayBrokerError):  # noqa: N818 - the clients' term
    """A request cannot be accepted; `code` is stable (local-api.md section 1.1), `extra` says what it is about."""

    def __init__(self, kind: Refusal, code: str, message: str, **extra: object) -> None:
        super().__init__(message)
        self.kind = kind
        self.code = code
        self.message = message
        self.extra = extra

    @property
    def is_retryable(self) -> bool:
        """Whether the same request may work later."""
        return may_pass(self.kind)


class CorruptLog(RelayBrokerError):  # noqa: N818 - says what was found
    """The log cannot be folded; `position` is the first record that does not fit."""

    def __init__(self, position: int, detail: str) -> None:
        super().__init__(f"log position {position}: {detail}")
        self.position = position
        self.detail = detail
