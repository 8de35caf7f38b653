"""Screens for the tests of what a terminal shows: written as rows, or painted by the real terminal."""

from __future__ import annotations

from dataclasses import replace

from relaybroker.adapters.sessions.terminal.screen import Terminal
from relaybroker.adapters.sessions.terminal.view import View

CURSOR = "▮"


def view(*rows, columns=80, height=24, hidden=False, alternate=False, paste=True, dim=False):
    """A screen with these rows from the top; the cursor is at the ▮ in them, else below the last row. `dim`: what stands behind it is."""
    lines = [line for row in rows for line in row.split("\n")]
    at = next((number for number, line in enumerate(lines) if CURSOR in line), len(lines))
    column = lines[at].index(CURSOR) if at < len(lines) else 0
    padded = [line.replace(CURSOR, "").ljust(columns)[:columns] for line in lines][:height]
    padded += [" " * columns] * (height - len(padded))
    return View(
        rows=tuple(padded),
        columns=columns,
        row=min(at, height - 1),
        column=min(column, columns - 1),
        cursor_hidden=hidden,
        alternate=alternate,
        bracketed_paste=paste,
        is_dim=lambda row, start: not padded[row][start:].strip() or (dim and row == at and start >= column),
    )


def painted(output, *, rows=24, columns=80, **changes):
    """The screen after this output."""
    terminal = Terminal(rows, columns)
    terminal.feed(output if isinstance(output, bytes) else output.encode())
    terminal.settle()
    return replace(terminal.view(), **changes)
