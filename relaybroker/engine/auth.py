"""Who is asking: workspace key, agent, node or observer token. Only hashes are stored.

Source: spec/engine-contract.md section 1.3.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from relaybroker.engine import agents
from relaybroker.engine.context import Engine
from relaybroker.engine.errors import EngineError
from relaybroker.engine.ids import digest
from relaybroker.engine.store import Tx

SEEN_EVERY_S = 30.0


@dataclass(frozen=True)
class Caller:
    """An authenticated caller. `kind`: `workspace`, `agent`, `node`, `observer` or `webhook`; `id` is what it is of.

    `scopes` say what an observer may read, `until` when its token ends (epoch seconds; None = never).
    """

    kind: str
    workspace_id: str
    id: str = ""
    name: str = ""
    scopes: frozenset[str] = frozenset()
    until: float | None = None

    def may_read(self, scope: str) -> bool:
        """Whether it is no observer, or one that may read this."""
        return self.kind != "observer" or scope in self.scopes


def bearer(header: str | None) -> str:
    """The token of an Authorization header; "" if there is none."""
    scheme, _, token = (header or "").strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def authenticate(tx: Tx, engine: Engine, token: str, allowed: str) -> Caller:
    """The caller behind a token. `allowed` holds the letters W, A, N, O, H of the kinds that the route takes.

    Raises:
        EngineError: 401 with the contract's codes.
    """
    if not (token and token.isascii()):
        raise EngineError(401, "unauthorized", "Missing or invalid Authorization header")
    prefix = token[:8]
    if prefix == "nt_live_" and "N" not in allowed:
        raise EngineError(401, "node_token_forbidden", "Node tokens are not allowed here")
    if prefix == "rk_live_":
        if "W" not in allowed:
            raise EngineError(401, "unauthorized", "Agent token required (at_live_...)")
        return _workspace(tx, token)
    if prefix == "at_live_":
        if "A" not in allowed:
            raise EngineError(401, "unauthorized", "Workspace key required (rk_live_...)")
        return _agent(tx, engine, token)
    if prefix == "ot_live_":
        if "O" not in allowed:
            raise EngineError(401, "observer_token_forbidden", "Observer tokens are not allowed here")
        return _observer(tx, token)
    if prefix == "wh_live_" and "H" in allowed:
        return _webhook(tx, token)
    if prefix == "nt_live_":
        return node_of(tx, token)
    raise EngineError(401, "unauthorized", "Unknown token type")


def _workspace(tx: Tx, token: str) -> Caller:
    row = tx.one("SELECT id FROM workspaces WHERE key_hash = ?", digest(token))
    if row is None:
        raise EngineError(401, "unauthorized", "Invalid workspace key")
    return Caller("workspace", row["id"])


def _agent(tx: Tx, engine: Engine, token: str) -> Caller:
    row = tx.one("SELECT * FROM agents WHERE token_hash = ?", digest(token))
    if row is None:
        raise EngineError(401, "agent_token_invalid", "Invalid agent token")
    if row["last_seen"] is None or tx.now - row["last_seen"] >= SEEN_EVERY_S or row["status"] == "offline":
        tx.run("UPDATE agents SET last_seen = ? WHERE id = ?", tx.now, row["id"])
        agents.set_status(tx, engine, row, "active")
    return Caller("agent", row["workspace_id"], row["id"], row["name"])


def _observer(tx: Tx, token: str) -> Caller:
    row = tx.one("SELECT * FROM observer_tokens WHERE token_hash = ?", digest(token))
    if row is None or (row["expires_at"] is not None and row["expires_at"] <= tx.now):
        raise EngineError(401, "observer_token_invalid", "Invalid observer token")
    if row["last_used_at"] is None or tx.now - row["last_used_at"] >= SEEN_EVERY_S:
        tx.run("UPDATE observer_tokens SET last_used_at = ? WHERE id = ?", tx.now, row["id"])
    scopes = frozenset(json.loads(row["scopes"]))
    return Caller("observer", row["workspace_id"], row["id"], row["name"], scopes, row["expires_at"])


def _webhook(tx: Tx, token: str) -> Caller:
    row = tx.one("SELECT id, workspace_id, name FROM webhooks WHERE token_hash = ?", digest(token))
    if row is None:
        raise EngineError(401, "unauthorized", "Invalid webhook token")
    return Caller("webhook", row["workspace_id"], row["id"], row["name"])


def node_of(tx: Tx, token: str) -> Caller:
    """The node behind a node token. Raises EngineError 401 `node_token_invalid`."""
    known = token.isascii()
    row = tx.one("SELECT id, workspace_id, name FROM nodes WHERE token_hash = ?", digest(token)) if known else None
    if row is None:
        raise EngineError(401, "node_token_invalid", "Invalid node token")
    return Caller("node", row["workspace_id"], row["id"], row["name"])


def require_scope(caller: Caller, scope: str) -> None:
    """Raises EngineError 403 `insufficient_scope` for an observer that may not read this; "" is what every observer may."""
    if scope and not caller.may_read(scope):
        raise EngineError(403, "insufficient_scope", f"The token does not have the scope {scope}")
