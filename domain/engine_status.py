"""What the engine's statuses mean to the rules: the one place that knows them as numbers.

Source: spec/engine-contract.md section 1.
"""

from __future__ import annotations

from relaybroker.domain.errors import InvalidRequest, Refusal

UNANSWERED = 0
"""Stands in events for a call that nobody answered."""
UNANSWERED_CHANNEL = 503
"""The same in `agent.channel_answered.v1`, of which logs are full."""

_PASSING = (408, 425, 429)
_NOT_BUILT = 501
"""The engine does not have what was asked for, and does not get it while somebody waits."""
_REFUSALS = {
    400: Refusal.INVALID,
    403: Refusal.FORBIDDEN,
    404: Refusal.ABSENT,
    409: Refusal.CONFLICT,
    413: Refusal.TOO_LARGE,
    429: Refusal.FULL,
}


def is_done(status: int) -> bool:
    """It was done."""
    return 200 <= status < 300


def is_absent(status: int) -> bool:
    """What it was about does not exist."""
    return status == 404


def is_taken(status: int) -> bool:
    """Something of that name exists already."""
    return status == 409


def rejects_the_credential(status: int) -> bool:
    """The token or key is not accepted."""
    return status == 401


def asks_for_a_pause(status: int) -> bool:
    """The engine is asked too often."""
    return status == 429


def is_ill(status: int) -> bool:
    """The engine itself failed."""
    return status >= 500


def may_pass(status: int) -> bool:
    """The same call may succeed later."""
    return (is_ill(status) and status != _NOT_BUILT) or status in _PASSING


def is_final(status: int) -> bool:
    """The engine said no, and would say so again."""
    return 400 <= status < 500 and not may_pass(status)


def refusal_of(status: int, code: str, detail: str) -> InvalidRequest:
    """The local refusal for what the engine said: its own code where the caller can do something about it."""
    if status == UNANSWERED:
        text = f"the engine does not answer: {detail}; try again"
        return InvalidRequest(Refusal.UNAVAILABLE, "engine_unavailable", text)
    if 400 <= status < 500 and not rejects_the_credential(status):
        kind = _REFUSALS.get(status, Refusal.INVALID)
        return InvalidRequest(kind, code or "engine_error", detail or f"the engine refused it with {status}")
    text = f"the engine refused it: {status} {code} {detail}".strip()
    return InvalidRequest(Refusal.ENGINE, "engine_error", text)
