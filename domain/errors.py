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


class InvalidRequest(RelayBrokerError):  # noqa: N818 - an HTTP term
    """A request cannot be accepted; `status` and `code` are those of local-api.md section 1.1."""

    def __init__(self, status: int, code: str, message: str, **extra: object) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.extra = extra


def error_body(error: InvalidRequest) -> dict[str, object]:
    """The one error envelope of the local API."""
    return {
        "success": False,
        "code": error.code,
        "message": error.message,
        "error": error.message,
        "retryable": error.status >= 500 or error.status == 429,
        "statusCode": error.status,
        **error.extra,
    }


class CorruptLog(RelayBrokerError):  # noqa: N818 - says what was found
    """The log cannot be folded; `position` is the first record that does not fit."""

    def __init__(self, position: int, detail: str) -> None:
        super().__init__(f"log position {position}: {detail}")
        self.position = position
        self.detail = detail
