"""Tokens for those who only watch: each reads what its scopes name, and changes nothing.

Minting a name again rotates the token of that name if its scopes are exactly the same; with other scopes it is refused, so that nobody's
token comes to reach more, or less, by a second minting.

Source: spec/engine-contract.md section 2.10.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from typing import Any

from relaybroker.engine import ids, models
from relaybroker.engine.context import Engine
from relaybroker.engine.errors import EngineError, invalid, not_found
from relaybroker.engine.store import Tx

TOKENS_MAX = 64
"""Observer tokens of one workspace."""


def mint(tx: Tx, engine: Engine, workspace_id: str, given: dict[str, Any]) -> dict[str, Any]:
    """A new token, or the one of exactly this name and scope with a new secret.

    Raises:
        EngineError: 409 `observer_token_exists` for a name with other scopes, 403 `observer_token_limit`, 501 `not_implemented` for
            filters, 400 `invalid_request`.
    """
    scopes, expires_at = _scopes(given["scopes"]), _expiry(tx, given.get("expires_at"))
    _require_no_filters(given)
    known = tx.one("SELECT * FROM observer_tokens WHERE workspace_id = ? AND name = ?", workspace_id, given["name"])
    if known is not None:
        if known["scopes"] != scopes:
            raise EngineError(409, "observer_token_exists", "A token of this name has other scopes")
        tx.run(
            "UPDATE observer_tokens SET description = ?, expires_at = ? WHERE id = ?",
            given.get("description"), expires_at, known["id"],
        )  # fmt: skip
        return rotate(tx, engine, known)
    if tx.count("SELECT COUNT(*) FROM observer_tokens WHERE workspace_id = ?", workspace_id) >= TOKENS_MAX:
        raise EngineError(403, "observer_token_limit", f"A workspace has at most {TOKENS_MAX} observer tokens")
    token, token_id = ids.observer_token(), f"obt_{engine.ids.next()}"
    tx.run(
        "INSERT INTO observer_tokens (id, workspace_id, name, description, scopes, token_hash, expires_at, created_at)"
        " VALUES (?,?,?,?,?,?,?,?)",
        token_id, workspace_id, given["name"], given.get("description"), scopes, ids.digest(token), expires_at, tx.now,
    )  # fmt: skip
    return view(find(tx, workspace_id, token_id)) | {"token": token}


def update(tx: Tx, engine: Engine, row: sqlite3.Row, sent: dict[str, Any]) -> dict[str, Any]:
    """The token with another name, scope or end; its open streams end, and begin anew with what it may see now."""
    _require_no_filters(sent)
    name = sent.get("name") or row["name"]
    if tx.one(
        "SELECT 1 FROM observer_tokens WHERE workspace_id = ? AND name = ? AND id != ?",
        row["workspace_id"], name, row["id"],
    ):  # fmt: skip
        raise EngineError(409, "observer_token_exists", "Another token has this name")
    scopes = _scopes(sent["scopes"]) if sent.get("scopes") else row["scopes"]
    expires_at = _expiry(tx, sent["expires_at"]) if "expires_at" in sent else row["expires_at"]
    tx.run(
        "UPDATE observer_tokens SET name = ?, description = ?, scopes = ?, expires_at = ?, updated_at = ? WHERE id = ?",
        name, sent.get("description", row["description"]), scopes, expires_at, tx.now, row["id"],
    )  # fmt: skip
    _end_streams(tx, engine, row["id"])
    return view(find(tx, row["workspace_id"], row["id"]))


def rotate(tx: Tx, engine: Engine, row: sqlite3.Row) -> dict[str, Any]:
    """The same token with a new secret; the old one is dead, and so are its streams."""
    token = ids.observer_token()
    tx.run(
        "UPDATE observer_tokens SET token_hash = ?, updated_at = ? WHERE id = ?", ids.digest(token), tx.now, row["id"]
    )
    _end_streams(tx, engine, row["id"])
    return view(find(tx, row["workspace_id"], row["id"])) | {"token": token}


def revoke(tx: Tx, engine: Engine, row: sqlite3.Row) -> None:
    """The token is gone, and so are its streams."""
    tx.run("DELETE FROM observer_tokens WHERE id = ?", row["id"])
    _end_streams(tx, engine, row["id"])


def _end_streams(tx: Tx, engine: Engine, token_id: str) -> None:
    tx.after(lambda: engine.hub.close_observers(token_id))


def find(tx: Tx, workspace_id: str, token_id: str) -> sqlite3.Row:
    """A token of this workspace. Raises EngineError 404 `observer_token_not_found`."""
    row = tx.one("SELECT * FROM observer_tokens WHERE id = ? AND workspace_id = ?", token_id, workspace_id)
    if row is None:
        raise not_found("observer_token_not_found", "Observer token not found")
    return row


def listing(tx: Tx, workspace_id: str) -> list[dict[str, Any]]:
    """The tokens of a workspace, oldest first."""
    rows = tx.all("SELECT * FROM observer_tokens WHERE workspace_id = ? ORDER BY created_at, id", workspace_id)
    return [view(row) for row in rows]


def view(row: sqlite3.Row) -> dict[str, Any]:
    """A token without its secret."""
    return {
        "id": row["id"],
        "name": row["name"],
        "description": row["description"],
        "scopes": json.loads(row["scopes"]),
        "filters": {},
        "status": "active",
        "expires_at": ids.iso_or_none(row["expires_at"]),
        "created_at": ids.iso(row["created_at"]),
        "updated_at": ids.iso_or_none(row["updated_at"]),
        "revoked_at": None,
        "last_used_at": ids.iso_or_none(row["last_used_at"]),
    }


def _scopes(given: Iterable[str]) -> str:
    return json.dumps(sorted(set(given)))


def _expiry(tx: Tx, text: str | None) -> float | None:
    at = None if text is None else models.moment(text)
    if at is not None and at <= tx.now:
        raise invalid("expires_at is in the past")
    return at


def _require_no_filters(given: dict[str, Any]) -> None:
    """A filter that is not kept would show more than was asked for."""
    if any(value is not None for value in (given.get("filters") or {}).values()):
        raise EngineError(501, "not_implemented", "This engine does not have filters of observer tokens")
