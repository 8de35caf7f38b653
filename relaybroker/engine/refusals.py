"""What the engine refused, for its operator: one row and one line of the log for the same refusal of the same caller within `AGAIN_S`.

A row counts the repetitions; they are added every `SWEEP_S` and when the row is closed, so a flood of refused requests is no flood of
writes. Who comes without a valid token belongs to no workspace: that is a line of the log and no row.

Source: spec/engine-contract.md section 2.14.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from relaybroker.engine import ids

if TYPE_CHECKING:
    from relaybroker.engine.auth import Caller
    from relaybroker.engine.errors import EngineError
    from relaybroker.engine.store import Store, Tx

STATUSES = frozenset({401, 403, 404, 409, 413, 429})
"""What a caller may be refused with that its operator should see. A request that is malformed is its sender's business."""
KEPT = 1000
"""Rows of a workspace."""
AGAIN_S = 60.0
"""The same refusal of the same caller is one row for so long."""
OPEN_MAX = 1024
"""Rows whose repetitions are counted at once."""
MESSAGE_MAX = 300
"""Characters of what was answered."""
log = logging.getLogger(__name__)


class _What(NamedTuple):
    workspace_id: str
    kind: str
    name: str
    request: str
    status: int
    code: str


@dataclass
class _Row:
    since: float
    id: int | None = None
    more: int = 0


class Refusals:
    """The refusals of one engine. Only its event loop uses it, except `Tx` functions that it hands to the store."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open: dict[_What, _Row] = {}

    def note(self, store: Store, caller: Caller | None, request: str, error: EngineError) -> None:
        """Somebody was refused. `request` is a method with its route, or a kind of frame."""
        if caller is None:
            what = _What("", "nobody", "", request, error.status, error.code)
        else:
            what = _What(caller.workspace_id, caller.kind, caller.name, request, error.status, error.code)
        row = self._open.get(what)
        if row is not None:
            row.more += 1
            return
        while len(self._open) >= OPEN_MAX:
            oldest = next(iter(self._open))
            self._write(store, self._open.pop(oldest))
        row = self._open[what] = _Row(self._clock())
        log.warning("refused %s: %s: %d %s", f"{what.kind} {what.name}".strip(), *what[3:])
        if what.workspace_id:
            message = error.message[:MESSAGE_MAX]
            store.submit(lambda tx: _insert(tx, what, message), lambda row_id, _error: _opened(row, row_id))

    def sweep(self, store: Store) -> None:
        """Write what was counted; close what is over."""
        over = self._clock() - AGAIN_S
        for what, row in list(self._open.items()):
            self._write(store, row)
            if row.since <= over:
                del self._open[what]

    def _write(self, store: Store, row: _Row) -> None:
        if row.more and row.id is not None:
            row_id, more, row.more = row.id, row.more, 0
            store.submit(
                lambda tx: tx.run(
                    "UPDATE refusals SET times = times + ?, last_at = ? WHERE id = ?", more, tx.now, row_id
                )
            )


def _opened(row: _Row, row_id: Any) -> None:
    row.id = row_id


def _insert(tx: Tx, what: _What, message: str) -> int | None:
    workspace_id = what.workspace_id
    row = tx.one(
        "INSERT INTO refusals (workspace_id, kind, name, request, status, code, message, times, first_at, last_at)"
        " SELECT ?,?,?,?,?,?,?,1,?,? WHERE EXISTS (SELECT 1 FROM workspaces WHERE id = ?) RETURNING id",
        *what, message, tx.now, tx.now, workspace_id,
    )  # fmt: skip
    if row is None:
        return None  # the workspace was deleted meanwhile
    tx.run(
        "DELETE FROM refusals WHERE id IN (SELECT id FROM refusals WHERE workspace_id = ? ORDER BY id DESC LIMIT -1 OFFSET ?)",
        workspace_id, KEPT,
    )  # fmt: skip
    return int(row["id"])


def listing(tx: Tx, workspace_id: str, limit: int, before: int) -> list[dict[str, Any]]:
    """What was refused in a workspace, newest first."""
    rows = tx.all(
        "SELECT * FROM refusals WHERE workspace_id = ? AND id < ? ORDER BY id DESC LIMIT ?", workspace_id, before, limit
    )
    return [_view(row) for row in rows]


def _view(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "id": str(row["id"]),
        "caller": {"kind": row["kind"], "name": row["name"]},
        "request": row["request"],
        "status": row["status"],
        "code": row["code"],
        "message": row["message"],
        "times": row["times"],
        "first_at": ids.iso(row["first_at"]),
        "last_at": ids.iso(row["last_at"]),
    }
