"""Deliveries: one row per recipient, a gap-free sequence per agent, acknowledgement, expiry.

A row is in the same transaction as its message. `seq` comes from a stored high-water mark of the agent, so a number is never used
twice. The payload is stored as it is sent: what is pushed live and what is replayed are the same bytes (`push.py`). A row that is settled
needs it no more, and lets it go.

Source: spec/engine-contract.md section 7.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Iterable
from typing import Any

from relaybroker.engine import events, ids, push
from relaybroker.engine.context import Engine
from relaybroker.engine.errors import EngineError, invalid, not_found
from relaybroker.engine.hub import encode
from relaybroker.engine.store import Tx

_OPEN = "status IN ('queued', 'delivered')"


def fan_out(
    tx: Tx,
    engine: Engine,
    *,
    workspace_id: str,
    message_id: str,
    channel_id: str,
    sender_id: str,
    recipients: Iterable[tuple[str, str]],
    payload: str,
    mode: str,
    dm_row: bool = False,
) -> None:
    """Give each recipient (agent id, reason) its row and push it over its active binding after the commit. `payload`: encoded."""
    stored_mode = "next-tool-call" if mode == "steer" else "immediate"
    for agent_id, reason in recipients:
        waiting = tx.count(
            f"SELECT COUNT(*) FROM deliveries WHERE agent_id = ? AND {_OPEN} AND expires_at > ?", agent_id, tx.now
        )
        if waiting >= engine.limits.mailbox_depth:
            _tell_failed(tx, engine, sender_id, agent_id, message_id, None, "depth_cap", None)
            continue
        agent = tx.one(
            "UPDATE agents SET last_seq = last_seq + 1 WHERE id = ? RETURNING last_seq, name, location_node_id",
            agent_id,
        )
        if agent is None:
            continue
        delivery_id = f"del_{engine.ids.next()}" if dm_row else f"del_{message_id}_{agent_id}"
        tx.run(
            "INSERT INTO deliveries (id, workspace_id, message_id, channel_id, agent_id, sender_id, status, seq, mode, reason, payload,"
            " expires_at, route_node_id, created_at, updated_at) VALUES (?,?,?,?,?,?,'queued',?,?,?,?,?,?,?,?)",
            delivery_id, workspace_id, int(message_id), channel_id, agent_id, sender_id, agent["last_seq"], stored_mode, reason, payload,
            tx.now + engine.limits.delivery_ttl_s, agent["location_node_id"], tx.now, tx.now,
        )  # fmt: skip
        if agent["location_node_id"]:
            frame = push.deliver_frame(
                delivery_id=delivery_id,
                agent_id=agent_id,
                agent=agent["name"],
                msg_id=message_id,
                seq=agent["last_seq"],
                mode=mode,
                payload=payload,
            )
            row = push.Row(delivery_id, agent_id, agent["last_seq"], frame)
            tx.after(functools.partial(push.push, engine, agent["location_node_id"], row))


def mark_written(engine: Engine, delivery_ids: list[str]) -> None:
    """A socket took these frames."""

    def work(tx: Tx) -> None:
        tx.many(
            "UPDATE deliveries SET status = 'delivered', delivered_at = ?, updated_at = ?, dispatch_attempts = dispatch_attempts + 1"
            " WHERE id = ? AND status IN ('queued', 'delivered')",
            [(tx.now, tx.now, delivery_id) for delivery_id in delivery_ids],
        )

    engine.store.submit(work)


def acknowledge(tx: Tx, node_id: str, workspace_id: str, agent_name: str, up_to: int) -> None:
    """Cumulative, by name, only from the node where the agent is; what is acknowledged is read."""
    agent = tx.one(
        "SELECT id, ack_seq, last_seq FROM agents WHERE workspace_id = ? AND name = ? AND location_node_id = ?",
        workspace_id, agent_name, node_id,
    )  # fmt: skip
    if agent is None or up_to <= agent["ack_seq"]:
        return
    up_to = min(up_to, agent["last_seq"])
    rows = tx.all(
        "UPDATE deliveries SET status = 'acked', acked_at = ?, updated_at = ?, available_at = NULL, payload = ''"
        " WHERE agent_id = ? AND seq > ? AND seq <= ? AND status NOT IN ('acked', 'dead_lettered') RETURNING message_id, channel_id",
        tx.now, tx.now, agent["id"], agent["ack_seq"], up_to,
    )  # fmt: skip
    tx.run("UPDATE agents SET ack_seq = ? WHERE id = ?", up_to, agent["id"])
    for row in rows:
        mark_read(tx, agent["id"], row["message_id"], row["channel_id"])


def mark_read(tx: Tx, agent_id: str, message_id: int, channel_id: str) -> bool:
    """Write the receipt and move the read mark forward; False if the receipt was there."""
    added = tx.run("INSERT OR IGNORE INTO receipts VALUES (?,?,?)", message_id, agent_id, tx.now)
    tx.run(
        "UPDATE members SET last_read_id = ?, last_read_at = ? WHERE channel_id = ? AND agent_id = ? AND last_read_id < ?",
        message_id, tx.now, channel_id, agent_id, message_id,
    )  # fmt: skip
    return added == 1


def fan_out_event(
    tx: Tx,
    engine: Engine,
    *,
    agent_ids: Iterable[str],
    event: str,
    key: str,
    msg_id: str,
    data: dict[str, Any],
) -> None:
    """A seq-0 frame to each of these agents that has a socket: best effort, not stored."""
    payload = encode({"type": event, "data": data})
    for agent_id in agent_ids:
        agent = tx.one("SELECT name, location_node_id FROM agents WHERE id = ?", agent_id)
        if agent is None or not agent["location_node_id"]:
            continue
        frame = push.deliver_frame(
            delivery_id=ids.event_delivery_id(event, key, agent_id),
            agent_id=agent_id,
            agent=agent["name"],
            msg_id=msg_id,
            seq=0,
            mode="wait",
            payload=payload,
        )
        tx.after(functools.partial(_push_unnumbered, engine, agent["location_node_id"], frame))


def _push_unnumbered(engine: Engine, node_id: str, frame: str) -> None:
    connection = engine.hub.node(node_id)
    if connection is not None:
        connection.outbox.put(frame)


def expire(tx: Tx, engine: Engine, agent_id: str | None = None) -> int:
    """Dead-letter every overdue row (of one agent, or of all) and tell the senders."""
    where, values = ("AND agent_id = ?", (agent_id,)) if agent_id else ("", ())
    rows = tx.all(
        "UPDATE deliveries SET status = 'dead_lettered', dead_lettered_at = ?, updated_at = ?, error = 'ttl_expired',"
        f" available_at = NULL, payload = '' WHERE {_OPEN} AND expires_at <= ? {where}"
        " RETURNING id, message_id, agent_id, sender_id, seq",
        tx.now, tx.now, tx.now, *values,
    )  # fmt: skip
    for row in rows:
        _tell_failed(
            tx, engine, row["sender_id"], row["agent_id"], str(row["message_id"]), row["id"], "ttl_expired", row["seq"]
        )
    return len(rows)


def _tell_failed(
    tx: Tx,
    engine: Engine,
    sender_id: str,
    target_id: str,
    message_id: str,
    delivery_id: str | None,
    reason: str,
    seq: int | None,
    *,
    error: str | None = None,
    retryable: bool = False,
) -> None:
    sender = tx.one("SELECT workspace_id, location_node_id FROM agents WHERE id = ?", sender_id)
    target = tx.one("SELECT name FROM agents WHERE id = ?", target_id)
    if sender is None:
        return
    data: dict[str, Any] = {
        "delivery_id": delivery_id,
        "message_id": message_id,
        "target_agent_id": target_id,
        "target_agent_name": target["name"] if target else None,
        "reason": reason,
        "error": error or reason,
        "retryable": retryable,
    }
    if seq is not None:
        data["seq"] = seq
    frame = {
        "v": 1,
        "type": "context.update",
        "topic": "agent",
        "event": "delivery.failed",
        "channel_id": None,
        "agent_ids": [sender_id],
        "data": data,
    }
    if sender["location_node_id"]:
        tx.after(functools.partial(engine.hub.send, sender["location_node_id"], frame))
    events.publish(tx, engine, sender["workspace_id"], {"type": "delivery.failed"} | data)


def find(tx: Tx, agent_id: str, delivery_id: str) -> sqlite3.Row:
    """A delivery of this agent. Raises EngineError 404 `delivery_not_found`."""
    row = tx.one("SELECT * FROM deliveries WHERE id = ? AND agent_id = ?", delivery_id, agent_id)
    if row is None:
        raise not_found("delivery_not_found", "Delivery not found")
    return row


def fail(
    tx: Tx, engine: Engine, agent_id: str, delivery_id: str, error: str | None, *, retryable: bool | None
) -> dict[str, Any]:
    """The recipient could not take it: it is not sent again, and the sender is told. Failing twice is failing once.

    Raises:
        EngineError: 404 `delivery_not_found`, 409 `delivery_settled`.
    """
    row = find(tx, agent_id, delivery_id)
    if row["status"] == "failed":
        return view(row)
    _require_open(row)
    tx.run(
        "UPDATE deliveries SET status = 'failed', error = ?, retryable = ?, available_at = NULL, updated_at = ?, payload = ''"
        " WHERE id = ?",
        error, retryable, tx.now, delivery_id,
    )  # fmt: skip
    _tell_failed(
        tx, engine, row["sender_id"], agent_id, str(row["message_id"]), delivery_id, "failed", row["seq"],
        error=error, retryable=bool(retryable),
    )  # fmt: skip
    return view(find(tx, agent_id, delivery_id))


def defer(
    tx: Tx, engine: Engine, agent_id: str, delivery_id: str, available_at: float, reason: str | None
) -> dict[str, Any]:
    """Not now: it is sent again when its time has come, at the next look (`push_deferred`).

    Raises:
        EngineError: 404 `delivery_not_found`, 409 `delivery_settled`, 400 `invalid_request` for a time at which it has expired.
    """
    row = find(tx, agent_id, delivery_id)
    _require_open(row)
    if available_at >= row["expires_at"]:
        raise invalid(f"available_at is not before {ids.iso(row['expires_at'])}, when the delivery expires")
    tx.run(
        "UPDATE deliveries SET status = 'queued', available_at = ?, updated_at = ? WHERE id = ?",
        available_at, tx.now, delivery_id,
    )  # fmt: skip
    event = {
        "type": "delivery.deferred",
        "delivery_id": delivery_id,
        "message_id": str(row["message_id"]),
        "available_at": ids.iso(available_at),
        "reason": reason,
    }
    events.publish(tx, engine, row["workspace_id"], event)
    return view(find(tx, agent_id, delivery_id))


def _require_open(row: sqlite3.Row) -> None:
    if row["status"] not in ("queued", "delivered"):
        raise EngineError(409, "delivery_settled", f"The delivery is {row['status']}")


def push_deferred(tx: Tx, engine: Engine) -> None:
    """What was deferred until now is an open row like any other again, and is sent if its agent has a socket."""
    for row in tx.all(
        "UPDATE deliveries SET available_at = NULL WHERE available_at <= ? RETURNING id, agent_id, message_id, seq, mode, payload",
        tx.now,
    ):
        agent = tx.the("SELECT name, location_node_id, ack_seq FROM agents WHERE id = ?", row["agent_id"])
        if agent["location_node_id"] and row["seq"] > agent["ack_seq"]:
            frame = push.deliver_frame(
                delivery_id=row["id"],
                agent_id=row["agent_id"],
                agent=agent["name"],
                msg_id=str(row["message_id"]),
                seq=row["seq"],
                mode=push.wire_mode(row["mode"]),
                payload=row["payload"],
            )
            ready = push.Row(row["id"], row["agent_id"], row["seq"], frame)
            tx.after(functools.partial(push.push, engine, agent["location_node_id"], ready))


def rest_ack(tx: Tx, agent_id: str, delivery_id: str) -> dict[str, Any]:
    """Acknowledge one row; the cumulative cursor does not move. Raises EngineError 404 `delivery_not_found`."""
    find(tx, agent_id, delivery_id)
    tx.run(
        "UPDATE deliveries SET status = 'acked', acked_at = COALESCE(acked_at, ?), updated_at = ?, available_at = NULL, payload = ''"
        " WHERE id = ? AND status != 'dead_lettered'",
        tx.now, tx.now, delivery_id,
    )  # fmt: skip
    return view(tx.the("SELECT * FROM deliveries WHERE id = ?", delivery_id))


def listing(tx: Tx, engine: Engine, agent_id: str, status: str | None, limit: int) -> list[dict[str, Any]]:
    """The agent's rows with their messages, oldest first; overdue ones are expired before."""
    expire(tx, engine, agent_id)
    wanted = (status,) if status else ("queued", "delivered")
    marks = ",".join("?" * len(wanted))
    rows = tx.all(
        f"SELECT * FROM deliveries WHERE agent_id = ? AND status IN ({marks}) ORDER BY seq LIMIT ?",
        agent_id, *wanted, limit,
    )  # fmt: skip
    items = []
    for row in rows:
        message = tx.the("SELECT * FROM messages WHERE id = ?", row["message_id"])
        items.append(
            view(row)
            | {
                "message": {
                    "id": str(message["id"]),
                    "channel_id": message["channel_id"],
                    "agent_id": message["agent_id"],
                    "agent_name": message["agent_name"],
                    "text": message["text"],
                    "thread_id": None if message["thread_id"] is None else str(message["thread_id"]),
                    "created_at": ids.iso(message["created_at"]),
                }
            }
        )
    return items


def view(row: sqlite3.Row) -> dict[str, Any]:
    """A row as the API shows it."""
    return {
        "id": row["id"],
        "message_id": str(row["message_id"]),
        "channel_id": row["channel_id"],
        "agent_id": row["agent_id"],
        "status": row["status"],
        "seq": row["seq"],
        "location_type": "via_node",
        "location_node_id": row["route_node_id"],
        "route_node_id": row["route_node_id"],
        "route_node_kind": "ws",
        "route_node_role": None,
        "delivery_adapter": "ws.node.v1",
        "dispatch_attempts": row["dispatch_attempts"],
        "next_attempt_at": None,
        "last_dispatch_error": row["error"],
        "mode": row["mode"],
        "reason": row["reason"],
        "priority": "normal",
        "retryable": bool(row["retryable"]) if row["status"] == "failed" else row["status"] in ("queued", "delivered"),
        "error": row["error"],
        "available_at": ids.iso(row["created_at"] if row["available_at"] is None else row["available_at"]),
        "deadline": ids.iso(row["expires_at"]),
        "expires_at": ids.iso(row["expires_at"]),
        "delivered_at": ids.iso_or_none(row["delivered_at"]),
        "acked_at": ids.iso_or_none(row["acked_at"]),
        "dead_lettered_at": ids.iso_or_none(row["dead_lettered_at"]),
        "created_at": ids.iso(row["created_at"]),
        "updated_at": ids.iso(row["updated_at"]),
    }
