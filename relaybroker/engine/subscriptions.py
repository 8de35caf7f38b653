"""Subscriptions: events of a workspace that are posted to an address of the operator's choice, until they have arrived.

What is posted is stored in the transaction of its event, so it arrives at least once, whatever is killed in between. The posts of one
subscription leave one after the other, in the order of their events. One that fails is tried again, `ATTEMPTS` times, after growing
pauses; so long the others of this subscription wait behind it. After that, and when the queue is full or a post is too old, it is dead:
counted, shown with its reason, and not tried again.

Each post is signed by the rules of Standard Webhooks (standardwebhooks.com): `webhook-id`, `webhook-timestamp`, `webhook-signature`.

Source: spec/engine-contract.md section 2.13.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
import secrets
import sqlite3
from typing import Any, NamedTuple

from relaybroker.engine import addresses, ids
from relaybroker.engine.context import Engine
from relaybroker.engine.errors import EngineError, not_found
from relaybroker.engine.hub import encode
from relaybroker.engine.store import Tx

SUBSCRIPTIONS_MAX = 32
"""Subscriptions of a workspace."""
QUEUE_MAX = 1000
"""Posts of a subscription that may wait."""
QUEUE_SIZE = 16 * 1024 * 1024
"""Characters of these together."""
DEAD_KEPT = 100
"""Dead posts of a subscription that are kept to be looked at."""
ATTEMPTS = 12
"""How often a post is tried."""
PAUSE_MAX_S = 1800.0
"""The longest pause after a failure; the first is one second, and each is twice the one before."""
AGE_MAX_S = 24 * 3600.0
"""A post that could not leave for so long is dead."""
ERROR_MAX = 200
"""Characters of the reason of a failure."""

_MENTION = re.compile(r"@([A-Za-z0-9_.-]+)")


class Post(NamedTuple):
    """One thing to be posted, and where."""

    id: int
    subscription_id: str
    event: str
    url: str
    headers: dict[str, str]
    body: str
    secret: str
    created_at: float


def create(tx: Tx, engine: Engine, workspace_id: str, given: dict[str, Any]) -> dict[str, Any]:
    """A new subscription. Without a secret of the caller's it gets one, which is shown this once.

    Raises:
        EngineError: 400 `unsafe_url`, 403 `subscription_limit`.
    """
    addresses.require_allowed_url(given["url"], engine.networks)
    if tx.count("SELECT COUNT(*) FROM subscriptions WHERE workspace_id = ?", workspace_id) >= SUBSCRIPTIONS_MAX:
        raise EngineError(403, "subscription_limit", f"A workspace has at most {SUBSCRIPTIONS_MAX} subscriptions")
    subscription_id, wanted = f"sub_{engine.ids.next()}", given.get("filter") or {}
    secret = given.get("secret") or f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
    channel, mentions = wanted.get("channel"), wanted.get("mentions")
    tx.run(
        "INSERT INTO subscriptions (id, workspace_id, events, channel, mentions, url, headers, secret, created_at)"
        " VALUES (?,?,?,?,?,?,?,?,?)",
        subscription_id, workspace_id, json.dumps(list(dict.fromkeys(given["events"]))),
        channel and channel.removeprefix("#"), mentions and mentions.removeprefix("@"), given["url"],
        json.dumps(given.get("headers") or {}), secret, tx.now,
    )  # fmt: skip
    made = view(tx, find(tx, workspace_id, subscription_id))
    return made if given.get("secret") else made | {"secret": secret}


def find(tx: Tx, workspace_id: str, subscription_id: str) -> sqlite3.Row:
    """A subscription of this workspace. Raises EngineError 404 `subscription_not_found`."""
    row = tx.one("SELECT * FROM subscriptions WHERE id = ? AND workspace_id = ?", subscription_id, workspace_id)
    if row is None:
        raise not_found("subscription_not_found", "Subscription not found")
    return row


def listing(tx: Tx, workspace_id: str) -> list[dict[str, Any]]:
    """The subscriptions of a workspace, oldest first."""
    rows = tx.all("SELECT * FROM subscriptions WHERE workspace_id = ? ORDER BY created_at, id", workspace_id)
    return [view(tx, row) for row in rows]


def view(tx: Tx, row: sqlite3.Row) -> dict[str, Any]:
    """A subscription, without its secret and the values of its headers, and how its posts fare."""
    wanted = {key: row[key] for key in ("channel", "mentions") if row[key]}
    headers = json.loads(row["headers"])
    return {
        "id": row["id"],
        "events": json.loads(row["events"]),
        "filter": wanted or None,
        "url": row["url"],
        "headers": dict.fromkeys(headers, "[redacted]") or None,
        "is_active": True,
        "created_at": ids.iso(row["created_at"]),
        "waiting": tx.count("SELECT COUNT(*) FROM posts WHERE subscription_id = ? AND status = 'waiting'", row["id"]),
        "delivered": row["delivered"],
        "dead": row["dead"],
        "failures_in_a_row": row["failures"],
        "last_error": row["last_error"],
        "last_delivered_at": ids.iso_or_none(row["last_delivered_at"]),
        "next_attempt_at": ids.iso(row["next_at"]) if row["failures"] else None,
    }


def delete(tx: Tx, row: sqlite3.Row) -> None:
    """The subscription and what waits for it are gone."""
    tx.run("DELETE FROM posts WHERE subscription_id = ?", row["id"])
    tx.run("DELETE FROM subscriptions WHERE id = ?", row["id"])


def posts_of(tx: Tx, row: sqlite3.Row, status: str | None, limit: int, before: int) -> list[dict[str, Any]]:
    """What waits and what is dead of a subscription, newest first."""
    rows = tx.all(
        "SELECT * FROM posts WHERE subscription_id = ? AND (? IS NULL OR status = ?) AND id < ? ORDER BY id DESC LIMIT ?",
        row["id"], status, status, before, limit,
    )  # fmt: skip
    return [
        {
            "id": str(item["id"]),
            "event": item["event"],
            "status": item["status"],
            "attempts": item["attempts"],
            "error": item["error"],
            "payload": json.loads(item["body"]),
            "created_at": ids.iso(item["created_at"]),
        }
        for item in rows
    ]


# --- the queue --------------------------------------------------------------------------------------------------------------


def enqueue(tx: Tx, workspace_id: str, event: dict[str, Any]) -> bool:
    """Store a post for each subscription that asked for this event; whether there is one."""
    wanting = [
        row
        for row in tx.all("SELECT * FROM subscriptions WHERE workspace_id = ?", workspace_id)
        if event["type"] in json.loads(row["events"]) and _passes(row, event)
    ]
    for row in wanting:
        body = {
            "type": event["type"],
            "timestamp": ids.iso(tx.now),
            "workspace_id": workspace_id,
            "subscription_id": row["id"],
            "data": {key: value for key, value in event.items() if key != "type"},
        }
        _store(tx, row, event["type"], encode(body))
    return bool(wanting)


def _passes(row: sqlite3.Row, event: dict[str, Any]) -> bool:
    if row["channel"]:
        place = event.get("channel")
        if row["channel"] != (place.get("name") if isinstance(place, dict) else place):
            return False
    if not row["mentions"]:
        return True
    text = (event.get("message") or {}).get("text") or ""
    return row["mentions"] in {word.rstrip(".-") for word in _MENTION.findall(text)}


def _store(tx: Tx, row: sqlite3.Row, kind: str, body: str) -> None:
    has = tx.the(
        "SELECT COUNT(*) AS posts, COALESCE(SUM(length(body)), 0) AS size FROM posts"
        " WHERE subscription_id = ? AND status = 'waiting'",
        row["id"],
    )
    is_full = has["posts"] >= QUEUE_MAX or (has["posts"] and has["size"] + len(body) > QUEUE_SIZE)
    tx.run(
        "INSERT INTO posts (subscription_id, workspace_id, event, body, status, created_at) VALUES (?,?,?,?,'waiting',?)",
        row["id"], row["workspace_id"], kind, body, tx.now,
    )  # fmt: skip
    if is_full:
        _bury(tx, tx.the("SELECT * FROM posts WHERE id = last_insert_rowid()"), "queue_full")


def _bury(tx: Tx, post: sqlite3.Row, reason: str) -> None:
    """This post is not tried again. The oldest dead ones make room for it; all are counted."""
    tx.run("UPDATE posts SET status = 'dead', error = ? WHERE id = ?", reason, post["id"])
    tx.run("UPDATE subscriptions SET dead = dead + 1 WHERE id = ?", post["subscription_id"])
    tx.run(
        "DELETE FROM posts WHERE id IN (SELECT id FROM posts WHERE subscription_id = ? AND status = 'dead'"
        " ORDER BY id DESC LIMIT -1 OFFSET ?)",
        post["subscription_id"], DEAD_KEPT,
    )  # fmt: skip


def due(tx: Tx, limit: int, but: set[str]) -> tuple[list[Post], float | None]:
    """The first post of each subscription whose time has come, except of these; and in how many seconds the next one's has."""
    rows = tx.all(
        "SELECT s.*, p.id AS post_id, p.event, p.body, p.created_at AS posted_at FROM subscriptions s JOIN posts p ON p.id ="
        " (SELECT MIN(id) FROM posts WHERE subscription_id = s.id AND status = 'waiting') ORDER BY s.next_at"
    )
    free = [row for row in rows if row["id"] not in but]
    ready = [row for row in free if row["next_at"] <= tx.now][:limit]
    later = [row["next_at"] - tx.now for row in free if row["next_at"] > tx.now]
    return [_post(row) for row in ready], min(later, default=None)


def _post(row: sqlite3.Row) -> Post:
    headers = json.loads(row["headers"])
    return Post(
        row["post_id"], row["id"], row["event"], row["url"], headers, row["body"], row["secret"], row["posted_at"]
    )


def arrived(tx: Tx, post: Post) -> None:
    """It has been taken."""
    if tx.run("DELETE FROM posts WHERE id = ?", post.id):
        tx.run(
            "UPDATE subscriptions SET delivered = delivered + 1, failures = 0, next_at = 0, last_error = NULL, last_delivered_at = ?"
            " WHERE id = ?",
            tx.now, post.subscription_id,
        )  # fmt: skip


def failed(tx: Tx, post: Post, error: str) -> None:
    """It has not been taken: again after a pause, or dead."""
    row = tx.one("UPDATE posts SET attempts = attempts + 1, error = ? WHERE id = ? RETURNING *", error, post.id)
    if row is None:
        return
    failures = tx.the("SELECT failures FROM subscriptions WHERE id = ?", post.subscription_id)["failures"]
    tx.run(
        "UPDATE subscriptions SET failures = failures + 1, next_at = ?, last_error = ? WHERE id = ?",
        tx.now + min(PAUSE_MAX_S, 2.0 ** min(failures, 30)), error, post.subscription_id,
    )  # fmt: skip
    if row["attempts"] >= ATTEMPTS:
        _bury(tx, row, error)


def sweep(tx: Tx) -> None:
    """What could not leave in its time is dead."""
    for row in tx.all("SELECT * FROM posts WHERE status = 'waiting' AND created_at <= ?", tx.now - AGE_MAX_S):
        _bury(tx, row, "too_old")


# --- the signature ----------------------------------------------------------------------------------------------------------


def signed_headers(post: Post, at: int) -> dict[str, str]:
    """The headers by which the receiver recognises a post and knows that it has had it."""
    post_id = f"{post.subscription_id}_{post.id}"
    signed = hmac.new(_signing_key(post.secret), f"{post_id}.{at}.{post.body}".encode(), hashlib.sha256).digest()
    return {
        "webhook-id": post_id,
        "webhook-timestamp": str(at),
        "webhook-signature": f"v1,{base64.b64encode(signed).decode()}",
    }


def _signing_key(secret: str) -> bytes:
    """What `whsec_` says in base64; any other secret as it is."""
    if secret.startswith("whsec_"):
        try:
            return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except binascii.Error:
            pass
    return secret.encode()
