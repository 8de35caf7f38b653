"""Idempotency keys: the same request twice has one effect and one answer.

Requests with the same key at the same time are transactions in a row: the second sees the first one's answer, so there is never a
request "in progress" to refuse.

Source: spec/engine-contract.md section 1.4.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from typing import Any

from relaybroker.engine.auth import Caller
from relaybroker.engine.context import IDEMPOTENCY_S
from relaybroker.engine.errors import EngineError
from relaybroker.engine.store import Tx

_KEY = re.compile(r"[\x21-\x7e]{1,255}")


def checked(key: str | None) -> str | None:
    """The key, if there is one. Raises EngineError 400 `invalid_idempotency_key`."""
    if key is not None and not _KEY.fullmatch(key):
        raise EngineError(400, "invalid_idempotency_key", "Idempotency-Key must be 1 to 255 visible ASCII characters")
    return key


def once(
    tx: Tx, caller: Caller, scope: str, key: str | None, body: Any, work: Callable[[], tuple[int, Any]]
) -> tuple[int, Any, bool]:
    """Status, answer and whether it is a replay. Work and key are in one transaction: a key without its effect cannot exist.

    Raises:
        EngineError: 409 `idempotency_key_reused` when the key came with another payload.
    """
    if key is None:
        return *work(), False
    fingerprint = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    known = tx.one(
        "SELECT * FROM idempotency WHERE workspace_id = ? AND actor_id = ? AND scope = ? AND key = ? AND created_at >= ?",
        caller.workspace_id, caller.id, scope, key, tx.now - IDEMPOTENCY_S,
    )  # fmt: skip
    if known is not None:
        if known["fingerprint"] != fingerprint:
            raise EngineError(409, "idempotency_key_reused", "The key was used with another payload")
        return known["status"], json.loads(known["body"]), True
    status, answer = work()
    tx.run(
        "INSERT OR REPLACE INTO idempotency VALUES (?,?,?,?,?,?,?,?)",
        caller.workspace_id, caller.id, scope, key, fingerprint, status, json.dumps(answer), tx.now,
    )  # fmt: skip
    return status, answer, False
