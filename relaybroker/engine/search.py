"""Searching what was said, in an index that SQLite keeps in step with the messages (FTS5).

The words of a query must all be in a message; case and accents do not matter. Where this SQLite has no FTS5, the same words are
looked for anywhere in the text.

Source: spec/engine-contract.md section 2.9.
"""

from __future__ import annotations

import re
import sqlite3
from typing import Any, NamedTuple

from relaybroker.engine import ids
from relaybroker.engine.auth import Caller
from relaybroker.engine.errors import invalid
from relaybroker.engine.store import Tx

QUERY_MAX = 500
"""Characters of a query."""
WORDS_MAX = 32
"""Words of a query."""

_WORD = re.compile(r"[^\s\0]+")


class Query(NamedTuple):
    """What is looked for: words, and where it was said, by whom, and between which message ids."""

    words: list[str]
    channel: str | None
    sender: str | None
    low: int
    high: int


def words_of(text: str) -> list[str]:
    """The words of a query. Raises EngineError 400 `invalid_request` for none, or for too many."""
    words = _WORD.findall(text)
    if not words:
        raise invalid("q is required")
    if len(text) > QUERY_MAX or len(words) > WORDS_MAX:
        raise invalid(f"q may have {QUERY_MAX} characters and {WORDS_MAX} words")
    return words


def find(tx: Tx, caller: Caller, query: Query, limit: int) -> list[dict[str, Any]]:
    """Messages with all the words that the caller may read, newest first."""
    if _is_indexed(tx):
        matches = "m.id IN (SELECT rowid FROM messages_text WHERE messages_text MATCH ?)"
        values: list[Any] = [" ".join(_quoted(word) for word in query.words)]
    else:
        matches = " AND ".join(["m.text LIKE ? ESCAPE '\\'"] * len(query.words))
        values = [f"%{_literal(word)}%" for word in query.words]
    where = [matches, "m.workspace_id = ?", "m.id > ?", "m.id < ?"]
    values += [caller.workspace_id, query.low, query.high]
    if query.channel is not None:
        where.append("c.name = ? AND c.kind = 'channel'")
        values.append(query.channel)
    if query.sender is not None:
        where.append("m.agent_name = ?")
        values.append(query.sender)
    if caller.kind == "agent":
        where.append("(m.agent_id = ? OR m.channel_id IN (SELECT channel_id FROM members WHERE agent_id = ?))")
        values += [caller.id, caller.id]
    if not caller.may_read("dms:read"):
        where.append("c.kind != 'dm'")
    if not caller.may_read("threads:read"):
        where.append("m.thread_id IS NULL")
    rows = tx.all(
        f"SELECT m.*, c.name AS channel_name FROM messages m JOIN channels c ON c.id = m.channel_id WHERE {' AND '.join(where)}"
        " ORDER BY m.id DESC LIMIT ?",
        *values, limit,
    )  # fmt: skip
    return [_view(row) for row in rows]


def _is_indexed(tx: Tx) -> bool:
    return tx.one("SELECT 1 FROM sqlite_master WHERE type = 'trigger' AND name = 'messages_said'") is not None


def _quoted(word: str) -> str:
    """A string of the query language of FTS5, in which nothing else has a meaning."""
    return '"' + word.replace('"', '""') + '"'


def _literal(word: str) -> str:
    return re.sub(r"([\\%_])", r"\\\1", word)


def _view(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "id": str(row["id"]),
        "channel_id": row["channel_id"],
        "channel_name": row["channel_name"],
        "agent_id": row["agent_id"],
        "agent_name": row["agent_name"],
        "text": row["text"],
        "thread_id": None if row["thread_id"] is None else str(row["thread_id"]),
        "created_at": ids.iso(row["created_at"]),
        "relevance_score": 1.0,
    }
