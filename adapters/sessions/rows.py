"""Files of JSON lines that a program appends to while we read: its transcript, its rollout, the notes of its hooks.

Only whole lines count. A line that is no JSON object, or longer than `MAX_ROW`, is passed over: it is not ours to judge.
"""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relaybroker.domain.decoding import NOT_READABLE, is_too_deep

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_JUNK = 200
"""Bytes that are shown of a line that is no row."""
MAX_ROW = 16 * 1024 * 1024
"""Bytes of a line that is read; programs put pictures into their lines."""
LONGEST_PAUSE_S = 0.5
"""Between two looks at a file to which nothing comes."""

Row = dict[str, Any]


class Rows:
    """The rows of one file, each looked at once. Every method reads the disk: call it in a thread, or where little is left to read."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._offset = 0
        self._line = 0

    def new(self, *wanted: str) -> Iterator[tuple[int, Row]]:
        """Line number (from 1) and content of every row since the last call that holds one of `wanted`, or of every row.

        A file that is not there has no rows.
        """
        texts = [text.encode() for text in wanted]
        try:
            file = self.path.open("rb")
        except (FileNotFoundError, NotADirectoryError):
            return
        with file:
            file.seek(self._offset)
            while raw := file.readline(MAX_ROW):
                whole = raw.endswith(b"\n")
                if not whole and (len(raw) < MAX_ROW or not _skip_line(file)):
                    return
                self._offset = file.tell()
                self._line += 1
                if whole and (not texts or any(text in raw for text in texts)) and (row := read_row(raw)) is not None:
                    yield self._line, row


def _skip_line(file: Any) -> bool:
    """Whether the rest of a line that is too long is there, and passed."""
    while rest := file.readline(MAX_ROW):
        if rest.endswith(b"\n"):
            return True
    return False


def read_row(written: bytes | str) -> Row | None:
    """The JSON object that a program has written; None for whatever else it is, also for one of more than `MAX_DEPTH` levels."""
    try:
        row = json.loads(written)
    except NOT_READABLE:
        return None
    return row if isinstance(row, dict) and not is_too_deep(row) else None


def inner(row: object, *keys: str) -> object:
    """`row[key][key]…`; None where something else is there."""
    for key in keys:
        row = row.get(key) if isinstance(row, dict) else None
    return row


def append(path: Path, row: Row) -> None:
    """Write one row of ours, at once and whole. Raises OSError.

    It begins a line of its own: what a full disk cut off before it does not spoil it.
    """
    line = b"\n" + json.dumps(row).encode() + b"\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.write(descriptor, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    finally:
        os.close(descriptor)


def pauses(first_s: float) -> Iterator[float]:
    """Seconds between looks at a file that somebody else writes: few at first, more the longer nothing comes."""
    pause = first_s
    while True:
        yield pause
        pause = min(pause * 1.2, LONGEST_PAUSE_S)
