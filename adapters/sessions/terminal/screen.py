"""What a person would see on the terminal of a program, kept from its output bytes, cut in any way, of any content.

Output is split at once (flags such as bracketed paste are always exact) and painted later, when somebody looks:
painting
is the costly part. The backlog is bounded by the reader, which stops at `BACKLOG_BYTES`; output that scrolled off
before anybody looked is not painted at all. The character grid is pyte's. Source: F095, F098; local-api.md route 9.
"""

from __future__ import annotations

import base64
import re
from collections import deque
from typing import TYPE_CHECKING, Any

from pyte import modes as pyte_modes

from relaybroker.adapters.sessions.terminal.grid import Grid, rendition
from relaybroker.adapters.sessions.terminal.sequences import Control, SequenceSplitter
from relaybroker.adapters.sessions.terminal.view import Rows, View, is_dimmed

if TYPE_CHECKING:
    from collections.abc import Callable

BACKLOG_BYTES = 128 * 1024
"""Unpainted output above which `is_backlogged` asks the reader to stop."""
MAX_REPLIES = 128
"""Answers to terminal queries that wait to be typed; more are dropped (node-protocol.md 6.3)."""

_BASIC = re.compile(r"[\x07-\x0d]|[^\x07-\x0d]+")
_BRACKETED_PASTE = 2004
SHARED_MODES = frozenset({1, 47, 1000, 1002, 1003, 1004, 1005, 1006, 1015, 1047, 1049, 2004, 2026})
"""Private modes in which a viewer's terminal must be for the program's keys, mouse and screen to mean the same there."""
_ALTERNATE_SCREENS = frozenset({47, 1047, 1049})
_IGNORED_PRIVATE_MODES = frozenset({3})
"""DECCOLM would change the width of the grid without the program having asked its terminal for it."""

# final character -> (method of pyte.Screen, most parameters that it takes)
_CSI: dict[str, tuple[str, int]] = {
    "@": ("insert_characters", 1),
    "A": ("cursor_up", 1),
    "B": ("cursor_down", 1),
    "C": ("cursor_forward", 1),
    "D": ("cursor_back", 1),
    "E": ("cursor_down1", 1),
    "F": ("cursor_up1", 1),
    "G": ("cursor_to_column", 1),
    "H": ("cursor_position", 2),
    "J": ("erase_in_display", 1),
    "K": ("erase_in_line", 1),
    "L": ("insert_lines", 1),
    "M": ("delete_lines", 1),
    "P": ("delete_characters", 1),
    "X": ("erase_characters", 1),
    "`": ("cursor_to_column", 1),
    "a": ("cursor_forward", 1),
    "d": ("cursor_to_line", 1),
    "e": ("cursor_down", 1),
    "f": ("cursor_position", 2),
    "g": ("clear_tab_stop", 1),
    "m": ("select_graphic_rendition", 32),
    "r": ("set_margins", 2),
    "s": ("save_cursor", 0),
    "u": ("restore_cursor", 0),
}
_HIGHEST_MEANING = {"J": 3, "K": 2}
"""Sequences whose parameter is a choice: a higher number means nothing."""
_ESCAPE = {
    "c": "reset",
    "D": "index",
    "E": "next_line",
    "M": "reverse_index",
    "H": "set_tab_stop",
    "7": "save_cursor",
    "8": "restore_cursor",
}
_BASIC_METHOD = {
    "\x07": "bell",
    "\x08": "backspace",
    "\x09": "tab",
    "\x0a": "linefeed",
    "\x0b": "linefeed",
    "\x0c": "linefeed",
    "\x0d": "carriage_return",
}


class Terminal:
    """The screen, modes and query replies of one PTY. Feed it output in order; `settle` before looking."""

    def __init__(self, rows: int, columns: int) -> None:
        self._splitter = SequenceSplitter()
        self._grid = Grid(columns, rows)
        self._main: Grid | None = None
        """The main screen while the alternate one is shown."""
        self._backlog: deque[str | Control] = deque()
        self._backlog_size = 0
        self.fed = 0
        """Size of all output so far, in the units of `settle`'s budget."""
        self.replies: deque[bytes] = deque()
        """Answers to terminal queries in the order of the questions; the session types them and takes them out."""
        self.bracketed_paste = False
        self.alternate_screen = False
        self.private_modes: set[int] = set()
        """Those of `SHARED_MODES` that the program has switched on."""
        self.query_waits = False
        """A query is in the backlog: settle soon, the program may be waiting for the answer."""
        self._seen: View | None = None
        """What is on the screen since something was last painted."""

    @property
    def rows(self) -> int:
        return int(self._grid.lines)

    @property
    def columns(self) -> int:
        return int(self._grid.columns)

    @property
    def is_painted(self) -> bool:
        """Everything that has come is on the screen."""
        return not self._backlog

    @property
    def unfinished(self) -> int:
        """Bytes at the end of the output that belong to a sequence or character that is not complete yet."""
        return self._splitter.unfinished

    @property
    def painted(self) -> int:
        """How much of `fed` is on the screen."""
        return self.fed - self._backlog_size

    @property
    def is_backlogged(self) -> bool:
        return self._backlog_size > BACKLOG_BYTES

    def feed(self, data: bytes) -> None:
        """Take output of the program. Cheap: modes are noted, painting is left to `settle`. Never raises."""
        for piece in self._splitter.feed(data):
            if isinstance(piece, Control):
                self._note(piece)
            self._backlog_size += _cost(piece)
            self.fed += _cost(piece)
            self._backlog.append(piece)

    def settle(self, budget: int | None = None) -> bool:
        """Paint the backlog, about `budget` characters of it (None = all). True when nothing is left to paint."""
        if self._backlog:
            self._seen = None
        if self._backlog_size > 4 * self.columns * self.rows:
            self._skip_scrolled_off()
        while self._backlog and (budget is None or budget > 0):
            piece = self._backlog.popleft()
            if isinstance(piece, Control):
                self._control(piece)
            else:
                if budget is not None and len(piece) > budget:
                    self._backlog.appendleft(piece[budget:])
                    piece = piece[:budget]
                self._text(piece)
            cost = _cost(piece)
            self._backlog_size -= cost
            if budget is not None:
                budget -= cost
        if not self._backlog:
            self._backlog_size = 0
            self.query_waits = False
        return not self._backlog

    def resize(self, rows: int, columns: int) -> None:
        """Change the size; what no longer fits is cut at the top and at the right."""
        self.settle()
        self._seen = None
        for grid in (self._grid, self._main):
            if grid is not None:
                grid.resize(rows, columns)
                grid.cursor.x = min(grid.cursor.x, columns - 1)
                grid.cursor.y = min(grid.cursor.y, rows - 1)

    # --- looking; all of these expect a settled terminal -----------------------------------------------------------

    def lines(self) -> list[str]:
        """The rows of the screen, right-trimmed."""
        grid = self._grid
        return [
            "".join(row[x].data for x in range(grid.columns)).rstrip() if row else ""
            for row in (grid.buffer.get(y) for y in range(grid.lines))
        ]

    def cursor(self) -> tuple[int, int]:
        """1-based row and column."""
        grid = self._grid
        return grid.cursor.y + 1, min(grid.cursor.x, grid.columns - 1) + 1

    def cursor_line(self) -> str:
        """The row with the cursor, right-trimmed."""
        return self.lines()[self._grid.cursor.y]

    def view(self) -> View:
        """Everything that rules look at; the same object as long as nothing is painted."""
        grid = self._grid
        if self._seen is None:
            self._seen = View(
                rows=Rows(grid.lines, self._row),
                columns=grid.columns,
                row=grid.cursor.y,
                column=min(grid.cursor.x, grid.columns - 1),
                cursor_hidden=grid.cursor.hidden,
                alternate=self.alternate_screen,
                bracketed_paste=self.bracketed_paste,
                is_dim=self._is_dim,
            )
        return self._seen

    def _row(self, row: int) -> str:
        columns: int = self._grid.columns
        cells = self._grid.buffer.get(row)
        if not cells:
            return " " * columns
        cell, blank = cells.get, self._grid.default_char
        return "".join([cell(x, blank).data for x in range(columns)]).ljust(columns)

    def _is_dim(self, row: int, column: int) -> bool:
        """Whether every character of a row from a column on is printed dim."""
        cells: dict[int, Any] = self._grid.buffer.get(row) or {}
        shown = (cell for x, cell in cells.items() if x >= column and cell.data.strip())
        return all(is_dimmed(cell.fg, faint=cell.faint) for cell in shown)

    @property
    def is_between_sequences(self) -> bool:
        """Whether output of somebody else may be put between the program's own."""
        return self._splitter.is_between

    def notice(self, text: str) -> bytes:
        """The bytes that show `text` below the row of the cursor, and that row again behind it: prompt and draft stay usable.

        The terminal must be settled. Colours of the program go on as they were (SGR state is saved with the cursor's).
        """
        cursor, columns = self._grid.cursor, self._grid.columns
        cells = self._grid.buffer[cursor.y]
        end = max((x + 1 for x in cells if x < columns and cells[x].data.strip()), default=0)
        again = "".join(self._rendered(cells[x]) for x in range(max(end, cursor.x))) + "\x1b[0m"
        if end > cursor.x:
            again += f"\x1b[{cursor.x + 1}G"
        shown = "\r\n".join(line for line in text.split("\n"))
        attributes = rendition(cursor.attrs)
        return f"\x1b[0m\r\n{shown}\x1b[K\r\n{again}\x1b[0{attributes}m".encode("utf-8", "replace")

    @staticmethod
    def _rendered(cell: Any) -> str:
        return f"\x1b[0{rendition(cell)}m{cell.data}"

    def plain(self) -> str:
        """One line per row, right-trimmed, LF after every row (local-api.md route 9)."""
        return "".join(f"{line}\n" for line in self.lines())

    def ansi(self) -> str:
        """Base64 of the bytes that repaint this screen on an empty terminal (local-api.md route 9)."""
        return base64.b64encode(self._repaint().encode("utf-8", "replace")).decode("ascii")

    def _repaint(self) -> str:
        grid = self._grid
        out = ["\x1b[0m\x1b[H\x1b[2J"]
        for y in range(grid.lines):
            row = grid.buffer.get(y)
            if not row:
                continue
            out.append(f"\x1b[{y + 1};1H")
            current = ""
            for x in range(min(max(row) + 1, grid.columns)):
                cell = row[x]
                wanted = rendition(cell)
                if wanted != current:
                    out.append(f"\x1b[0{wanted}m")
                    current = wanted
                out.append(cell.data)
            if current:
                out.append("\x1b[0m")
        row_number, column = self.cursor()
        out.append(f"\x1b[{row_number};{column}H")
        return "".join(out)

    # --- painting ----------------------------------------------------------------------------------------------------

    def _note(self, control: Control) -> None:
        if not control.csi:
            if control.final == "c":
                self.bracketed_paste = self.alternate_screen = False
                self.private_modes.clear()
            return
        if control.private == "?" and control.final in "hl":
            on = control.final == "h"
            shared = SHARED_MODES.intersection(control.parameters)
            self.private_modes = self.private_modes | shared if on else self.private_modes - shared
            if _BRACKETED_PASTE in control.parameters:
                self.bracketed_paste = on
            if not _ALTERNATE_SCREENS.isdisjoint(control.parameters):
                self.alternate_screen = on
        elif control.final in "nc":
            self.query_waits = True

    def _text(self, text: str) -> None:
        grid = self._grid
        for run in _BASIC.findall(text):
            method = _BASIC_METHOD.get(run)
            if method is None:
                grid.draw(run)
            else:
                getattr(grid, method)()

    def _control(self, control: Control) -> None:
        if not control.csi:
            if control.final == "c":
                self._main = None
            if (method := _ESCAPE.get(control.final)) is not None:
                getattr(self._grid, method)()
        elif control.final in "hl" and control.private in ("", "?"):
            self._mode(control)
        elif control.final in "nc":
            self._query(control)
        elif not control.private and not control.middle and (entry := _CSI.get(control.final)) is not None:
            method, most = entry
            parameters = control.parameters[:most]
            if parameters and parameters[0] > _HIGHEST_MEANING.get(control.final, 9999):
                return
            if control.final == "d" and self._grid.margins is None:
                self._grid.mode.discard(pyte_modes.DECOM)
            getattr(self._grid, method)(*parameters)

    def _mode(self, control: Control) -> None:
        on = control.final == "h"
        if control.private == "?" and not _ALTERNATE_SCREENS.isdisjoint(control.parameters):
            self._switch_screen(alternate=on)
        modes = [m for m in control.parameters if m not in _ALTERNATE_SCREENS and m not in _IGNORED_PRIVATE_MODES]
        if modes:
            change: Callable[..., None] = self._grid.set_mode if on else self._grid.reset_mode
            change(*modes, private=control.private == "?")

    def _switch_screen(self, *, alternate: bool) -> None:
        if alternate and self._main is None:
            self._main = self._grid
            self._grid = Grid(self._main.columns, self._main.lines)
            self._grid.mode = set(self._main.mode)
            self._grid.cursor.attrs = self._main.cursor.attrs
        elif not alternate and self._main is not None:
            self._grid, self._main = self._main, None

    def _query(self, control: Control) -> None:
        if len(self.replies) >= MAX_REPLIES:
            return
        first = control.parameters[0] if control.parameters else 0
        if control.final == "c" and first == 0:
            answer = {"": "\x1b[?62;22c", ">": "\x1b[>1;10;0c"}.get(control.private, "")
        elif control.final == "n" and first == 5 and not control.private:
            answer = "\x1b[0n"
        elif control.final == "n" and first == 6 and control.private in ("", "?"):
            row, column = self.cursor()
            answer = f"\x1b[{control.private}{row};{column}R"
        else:
            return
        if answer:
            self.replies.append(answer.encode("ascii"))

    def _skip_scrolled_off(self) -> None:
        """Leave out what will have scrolled off when the backlog is painted.

        Only a run of text, colours and line erasures counts (nothing in it moves the cursor up), without margins. The
        cut
        is after a CR LF with a full screen of line feeds before it and another one after it: so the cursor stands in
        the first column of the last row there, and everything painted until there scrolls off.
        """
        grid = self._grid
        if grid.margins is not None:
            return
        feeds: list[int] = []
        for piece in self._backlog:
            if isinstance(piece, str):
                feeds.append(piece.count("\n"))
            elif piece.csi and piece.final in "mK" and not piece.private and not piece.middle:
                feeds.append(0)
            else:
                break
        to_skip = sum(feeds) - grid.lines
        if to_skip < grid.lines:
            return
        index = 0
        while feeds[index] < to_skip:
            to_skip -= feeds[index]
            index += 1
        piece = self._backlog[index]
        assert isinstance(piece, str)
        end = _end_of_line(piece, to_skip)
        if not piece.endswith("\r\n", 0, end):
            return
        for _ in range(index):
            skipped = self._backlog.popleft()
            self._backlog_size -= _cost(skipped)
            if isinstance(skipped, Control) and skipped.final == "m":
                grid.select_graphic_rendition(*skipped.parameters[:32])
        self._backlog_size -= end
        self._backlog[0] = piece[end:]
        grid.buffer.clear()
        grid.cursor.y = grid.lines - 1
        grid.cursor.x = 0


def _cost(piece: str | Control) -> int:
    return len(piece) if isinstance(piece, str) else 4


def _end_of_line(text: str, count: int) -> int:
    """Index after the `count`-th LF of `text`."""
    position = 0
    for _ in range(count):
        position = text.index("\n", position) + 1
    return position
