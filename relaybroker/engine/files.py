"""Files: announced, sent, finished, and then attached to messages and read.

A file is given its content once, in parts, and never changes afterwards. Its content is in rows of its own: no message grows by it.

Who may read a file: the agent whose it is, the operator, and everybody who may read a message that it is attached to. Only who may read
a file attaches it. Its content is sent and fetched without a token, by the ticket in the URL that the engine gave for it: for this file,
this purpose and a limited time.

Source: spec/engine-contract.md section 2.12.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sqlite3
from typing import Any, NamedTuple

from relaybroker.engine import events, ids
from relaybroker.engine.auth import Caller
from relaybroker.engine.context import Engine
from relaybroker.engine.errors import EngineError, not_found
from relaybroker.engine.json_text import whole
from relaybroker.engine.store import Tx

FILES_MAX = 1024
"""Files of a workspace."""
FILES_SIZE = 256 * 1024 * 1024
"""Bytes of these together."""
AGENT_FILES_SIZE = 64 * 1024 * 1024
"""Bytes of the files of one agent."""
PART = 256 * 1024
"""Bytes of a part: what is held in memory of a file on its way."""
UPLOAD_S = 3600.0
"""How long a file may take from its announcement until it is finished."""
TICKET_S = 900.0
"""How long a URL leads to a content."""
SEND, FETCH = "send", "fetch"


class Upload(NamedTuple):
    """One sending of a content. A later one for the same file takes its place: `number` tells them apart."""

    file_id: str
    number: int
    size: int


def announce(tx: Tx, engine: Engine, caller: Caller, given: dict[str, Any], base: str) -> dict[str, Any]:
    """Room for a file of this name, type and size, and the URL by which its content is to be sent.

    Raises:
        EngineError: 403 `file_limit`.
    """
    size = given["size_bytes"]
    has = tx.the(
        "SELECT COUNT(*) AS files, COALESCE(SUM(size), 0) AS size, COALESCE(SUM(size) FILTER (WHERE agent_id = ?), 0) AS own"
        " FROM files WHERE workspace_id = ?",
        caller.id, caller.workspace_id,
    )  # fmt: skip
    if has["files"] >= FILES_MAX or has["size"] + size > FILES_SIZE:
        raise EngineError(403, "file_limit", f"A workspace has {FILES_MAX} files of {FILES_SIZE} bytes at most")
    if has["own"] + size > AGENT_FILES_SIZE:
        raise EngineError(403, "file_limit", f"The files of an agent have {AGENT_FILES_SIZE} bytes at most")
    file_id, until = f"file_{engine.ids.next()}", tx.now + UPLOAD_S
    tx.run(
        "INSERT INTO files (id, workspace_id, agent_id, agent_name, filename, content_type, size, status, expires_at, created_at)"
        " VALUES (?,?,?,?,?,?,?,'pending',?,?)",
        file_id, caller.workspace_id, caller.id, caller.name, given["filename"], given["content_type"], size, until, tx.now,
    )  # fmt: skip
    url = _url(tx, base, file_id, SEND, until)
    return {"id": file_id, "file_id": file_id, "upload_url": url, "expires_at": ids.iso(until)}


def finish(tx: Tx, engine: Engine, row: sqlite3.Row, base: str) -> dict[str, Any]:
    """The file is whole and can be attached. Finishing twice is finishing once. Raises EngineError 409 `file_not_uploaded`."""
    if row["status"] == "pending":
        raise EngineError(409, "file_not_uploaded", "The content has not been sent to upload_url")
    if row["status"] != "complete":
        tx.run("UPDATE files SET status = 'complete' WHERE id = ?", row["id"])
        said = {"file_id": row["id"], "filename": row["filename"], "uploaded_by": row["agent_name"]}
        events.publish(tx, engine, row["workspace_id"], {"type": "file.uploaded", "file": said})
    return view(tx, find(tx, row["workspace_id"], row["id"]), base)


def find(tx: Tx, workspace_id: str, file_id: str) -> sqlite3.Row:
    """A file of this workspace. Raises EngineError 404 `file_not_found`."""
    row = tx.one("SELECT * FROM files WHERE id = ? AND workspace_id = ?", file_id, workspace_id)
    if row is None:
        raise not_found("file_not_found", "File not found")
    return row


def readable(tx: Tx, caller: Caller, file_id: str) -> sqlite3.Row:
    """A file that the caller may read. Raises EngineError 404 `file_not_found`, also for one that it may not."""
    row = find(tx, caller.workspace_id, file_id)
    if not tx.one(f"SELECT 1 FROM files f WHERE f.id = ? AND {_READABLE}", file_id, *_reader(caller)):
        raise not_found("file_not_found", "File not found")
    return row


def owned(tx: Tx, caller: Caller, file_id: str) -> sqlite3.Row:
    """A file of this agent, or any one for the operator. Raises EngineError 404 `file_not_found`, 403 `forbidden`."""
    row = readable(tx, caller, file_id)
    if caller.kind == "agent" and row["agent_id"] != caller.id:
        raise EngineError(403, "forbidden", "Another agent has uploaded this file")
    return row


_READABLE = """(
  ? = 'workspace' OR f.agent_id = ? OR EXISTS (
    SELECT 1 FROM attachments t JOIN messages m ON m.id = t.message_id JOIN channels c ON c.id = m.channel_id WHERE t.file_id = f.id AND (
      m.agent_id = ? OR EXISTS (SELECT 1 FROM members e WHERE e.channel_id = m.channel_id AND e.agent_id = ?)
      OR (? = 'observer' AND (c.kind != 'dm' OR ?) AND (m.thread_id IS NULL OR ?)))))"""
"""Takes the values of `_reader`."""


def _reader(caller: Caller) -> tuple[Any, ...]:
    agent_id = caller.id if caller.kind == "agent" else ""
    sees = caller.may_read("dms:read"), caller.may_read("threads:read")
    return caller.kind, agent_id, agent_id, agent_id, caller.kind, *sees


def listing(tx: Tx, caller: Caller, uploaded_by: str, limit: int, base: str) -> list[dict[str, Any]]:
    """The files that the caller may read, newest first; of one agent (name or id), if `uploaded_by` says so."""
    rows = tx.all(
        "SELECT * FROM files f WHERE f.workspace_id = ? AND (? = '' OR f.agent_name = ? OR f.agent_id = ?)"
        f" AND {_READABLE} ORDER BY f.created_at DESC, f.id DESC LIMIT ?",
        caller.workspace_id, uploaded_by, uploaded_by, uploaded_by, *_reader(caller), limit,
    )  # fmt: skip
    return [view(tx, row, base) for row in rows]


def delete(tx: Tx, row: sqlite3.Row) -> None:
    """The file and its content are gone. Messages that it is attached to still name it."""
    for statement in (
        "DELETE FROM file_parts WHERE file_id = ?",
        "DELETE FROM attachments WHERE file_id = ?",
        "DELETE FROM files WHERE id = ?",
    ):
        tx.run(statement, row["id"])


def sweep(tx: Tx) -> None:
    """What was not finished in its time is gone."""
    for row in tx.all("SELECT id FROM files WHERE status != 'complete' AND expires_at <= ?", tx.now):
        delete(tx, row)


def view(tx: Tx, row: sqlite3.Row, base: str) -> dict[str, Any]:
    """A file as npm and PyPI clients read it: they call some things by different names."""
    is_there = row["status"] == "complete"
    url = _url(tx, base, row["id"], FETCH, tx.now + TICKET_S) if is_there else None
    return {
        "id": row["id"],
        "file_id": row["id"],
        "filename": row["filename"],
        "content_type": row["content_type"],
        "size_bytes": row["size"],
        "size": row["size"],
        "status": "complete" if is_there else "pending",
        "download_url": url,
        "url": url or "",
        "uploaded_by": row["agent_name"],
        "created_at": ids.iso(row["created_at"]),
    }


# --- attaching --------------------------------------------------------------------------------------------------------------


def attachable(tx: Tx, caller: Caller, file_ids: list[str]) -> list[dict[str, Any]]:
    """What a message says about the files that it carries, each once.

    Raises:
        EngineError: 404 `file_not_found` for one that the caller may not read, 409 `file_not_complete`.
    """
    rows = [readable(tx, caller, file_id) for file_id in dict.fromkeys(file_ids)]
    if any(row["status"] != "complete" for row in rows):
        raise EngineError(409, "file_not_complete", "A file is attached once its upload is complete")
    return [
        {
            "file_id": row["id"],
            "filename": row["filename"],
            "content_type": row["content_type"],
            "size_bytes": row["size"],
        }
        for row in rows
    ]


def attach(tx: Tx, message_id: int, attachments: list[dict[str, Any]]) -> None:
    """These files belong to this message: who may read it may read them."""
    tx.many(
        "INSERT INTO attachments (file_id, message_id) VALUES (?,?)",
        [(item["file_id"], message_id) for item in attachments],
    )


# --- content ----------------------------------------------------------------------------------------------------------------


def begin(tx: Tx, file_id: str, ticket: str) -> Upload:
    """A content is coming; what was there of an earlier one is gone. Raises EngineError 401 `invalid_ticket`, 409 `file_uploaded`."""
    row = _admitted(tx, file_id, SEND, ticket)
    if row["status"] != "pending":
        raise EngineError(409, "file_uploaded", "The file has its content")
    tx.run("DELETE FROM file_parts WHERE file_id = ?", file_id)
    tx.run("UPDATE files SET upload = upload + 1, received = 0 WHERE id = ?", file_id)
    return Upload(file_id, row["upload"] + 1, row["size"])


def add(tx: Tx, upload: Upload, number: int, content: bytes) -> None:
    """The next part. Raises EngineError 409 `upload_superseded`, 413 `file_too_large`."""
    row = _current(tx, upload)
    if row["received"] + len(content) > upload.size:
        raise EngineError(413, "file_too_large", f"The file was announced with {upload.size} bytes")
    tx.run(
        "INSERT INTO file_parts (file_id, number, content) VALUES (?,?,?)",
        upload.file_id, number, content,
    )  # fmt: skip
    tx.run("UPDATE files SET received = received + ? WHERE id = ?", len(content), upload.file_id)


def end(tx: Tx, upload: Upload) -> None:
    """That was all of it. Raises EngineError 409 `upload_superseded`, 400 `size_mismatch`."""
    received = _current(tx, upload)["received"]
    if received != upload.size:
        raise EngineError(400, "size_mismatch", f"{received} bytes came of {upload.size}")
    tx.run("UPDATE files SET status = 'uploaded' WHERE id = ?", upload.file_id)


def _current(tx: Tx, upload: Upload) -> sqlite3.Row:
    row = tx.one(
        "SELECT * FROM files WHERE id = ? AND upload = ? AND status = 'pending'", upload.file_id, upload.number
    )
    if row is None:
        raise EngineError(409, "upload_superseded", "The file is gone, or is being sent anew")
    return row


def to_fetch(tx: Tx, file_id: str, ticket: str) -> sqlite3.Row:
    """A file whose content may be fetched. Raises EngineError 401 `invalid_ticket`, 404 `file_not_found`."""
    return _admitted(tx, file_id, FETCH, ticket)


def part(tx: Tx, file_id: str, number: int) -> bytes:
    """A part of the content; empty behind the last one."""
    row = tx.one("SELECT content FROM file_parts WHERE file_id = ? AND number = ?", file_id, number)
    return b"" if row is None else bytes(row["content"])


# --- tickets ----------------------------------------------------------------------------------------------------------------


def _admitted(tx: Tx, file_id: str, purpose: str, ticket: str) -> sqlite3.Row:
    until, _, _ = ticket.partition(".")
    try:
        is_valid = whole(until) > tx.now and hmac.compare_digest(ticket, _ticket(tx, file_id, purpose, int(until)))
    except (ValueError, TypeError):
        is_valid = False
    if not is_valid:
        raise EngineError(401, "invalid_ticket", "The ticket of this URL is over, or of another file")
    row = tx.one("SELECT * FROM files WHERE id = ?", file_id)
    if row is None:
        raise not_found("file_not_found", "File not found")
    return row


def _url(tx: Tx, base: str, file_id: str, purpose: str, until: float) -> str:
    return f"{base}/v1/files/{file_id}/content?ticket={_ticket(tx, file_id, purpose, int(until))}"


def _ticket(tx: Tx, file_id: str, purpose: str, until: int) -> str:
    signed = hmac.new(_key(tx), f"{purpose}:{file_id}:{until}".encode(), hashlib.sha256).hexdigest()
    return f"{until}.{signed}"


def _key(tx: Tx) -> bytes:
    row = tx.one("SELECT value FROM ticket_key")
    if row is None:
        tx.run("INSERT INTO ticket_key (id, value) VALUES (1, ?)", secrets.token_bytes(32))
        return _key(tx)
    return bytes(row["value"])
