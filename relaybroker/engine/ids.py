"""Ids, tokens and times as the contract spells them.

Source: spec/engine-contract.md sections 1.1 to 1.3.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
import time
import uuid
from datetime import UTC, datetime

_EPOCH_MS = 1_735_689_600_000  # 2025-01-01T00:00Z
_WORKER = 1


class Snowflakes:
    """Decimal ids that grow with time: milliseconds << 22, worker << 12, sequence. Thread-safe, never repeats, survives clock steps."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last_ms = 0
        self._sequence = 0

    def next(self) -> str:
        """A new id, larger than every earlier one of this process."""
        with self._lock:
            now = max(int(time.time() * 1000) - _EPOCH_MS, self._last_ms)
            self._sequence = self._sequence + 1 if now == self._last_ms else 0
            if self._sequence >= 4096:
                now, self._sequence = now + 1, 0
            self._last_ms = now
            return str(now << 22 | _WORKER << 12 | self._sequence)

    def start_after(self, newest: str | None) -> None:
        """Continue behind an id from a former run, also when the clock was set back."""
        if newest:
            with self._lock:
                self._last_ms = max(self._last_ms, (int(newest) >> 22) + 1)


def workspace_key() -> str:
    """A new workspace key."""
    return f"rk_live_{secrets.token_hex(16)}"


def agent_token() -> str:
    """A new agent token."""
    return f"at_live_{secrets.token_hex(16)}"


def node_token() -> str:
    """A new node token."""
    return f"nt_live_{secrets.token_hex(24)}"


def observer_token() -> str:
    """A new observer token."""
    return f"ot_live_{secrets.token_hex(16)}"


def webhook_token() -> str:
    """A new webhook token."""
    return f"wh_live_{secrets.token_hex(16)}"


def digest(token: str) -> str:
    """What is stored of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def iso(at: float) -> str:
    """ISO-8601 with milliseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def iso_or_none(at: float | None) -> str | None:
    """ISO-8601, or None for a time that has not come."""
    return None if at is None else iso(at)


def dm_hash(workspace_id: str, first: str, second: str) -> str:
    """The 24 hex digits that name the 1:1 conversation of two agents."""
    low, high = sorted((first, second), key=int)
    return hashlib.sha256(f"{workspace_id}:{low}:{high}".encode()).hexdigest()[:24]


def event_delivery_id(event: str, key: str, agent_id: str) -> str:
    """The delivery id of a seq-0 frame."""
    return re.sub(r"[^A-Za-z0-9]+", "_", f"evt_{event}_{key}_{agent_id}")


def stable_uuid(name: str) -> str:
    """The UUID of an observer event, the same for the same message."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, name))
