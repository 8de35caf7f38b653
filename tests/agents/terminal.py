"""A terminal with a program in it, and the screen that a person would see: the tests' own, not the broker's.

It answers the questions that every terminal answers (DA, DSR, CPR), keeps all output with its time, and knows what a
rule about composers may need: cursor, faint cells, whether the cursor is hidden, bracketed paste, alternate screen.
"""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyte

_STRING = re.compile(r"\x1b[\]PX^_].*?(?:\x07|\x1b\\)", re.DOTALL)
_OTHER = re.compile(r"\x1b\[[<=>][0-9;:]*[ -/]*[@-~]|\x1b\[[0-9;:?]*[ -/]+[@-~]|\x1b[ -/]+[0-~]|\x1b[=>NOn|}~]")
_MODE = re.compile(r"\x1b\[\?([0-9;]+)([hl])")
_QUERY = re.compile(r"\x1b\[([>?]?)([0-9;]*)([cn])")
_EVENT = re.compile(rf"(?:{_MODE.pattern})|(?:{_QUERY.pattern})")
_OPEN = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|[ -/]*|[\]PX^_][^\x07]*)\Z", re.DOTALL)
_ALTERNATE = frozenset({47, 1047, 1049})
PASTE, PASTE_END = "\x1b[200~", "\x1b[201~"


class _Screen(pyte.Screen):
    """pyte's screen; faint cells, which it does not know, are kept as blinking ones (no program blinks)."""

    def select_graphic_rendition(self, *attrs: int, private: bool = False) -> None:
        if private:
            return
        plain = [5 if code == 2 else code for code in _without_colours(attrs)]
        super().select_graphic_rendition(*attrs)
        if 5 in plain:
            self.cursor.attrs = self.cursor.attrs._replace(blink=True)
        if 22 in plain or 0 in plain or not attrs:
            last = max((at for at, code in enumerate(plain) if code in (0, 22)), default=-1)
            if 5 not in plain[last + 1 :]:
                self.cursor.attrs = self.cursor.attrs._replace(blink=False)


def _without_colours(attrs: Sequence[int]) -> list[int]:
    """The codes without the arguments of 38 and 48, in which a 2 or 5 means something else."""
    codes, at = [], 0
    while at < len(attrs):
        code = attrs[at]
        if code in (38, 48, 58) and at + 1 < len(attrs):
            at += 5 if attrs[at + 1] == 2 else 3
            continue
        codes.append(code)
        at += 1
    return codes


class Screen:
    """What is seen after all of `feed`'s bytes. Not for speed."""

    def __init__(self, rows: int, columns: int) -> None:
        self.rows, self.columns = rows, columns
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._carry = ""
        self._main = self._new()
        self._shown = self._main
        self._stream = pyte.Stream(self._main)
        self.modes: set[int] = {25}
        self.replies: list[bytes] = []

    def _new(self) -> Any:
        return _Screen(self.columns, self.rows)

    def feed(self, data: bytes) -> None:
        text = _STRING.sub("", self._carry + self._decoder.decode(data))
        self._carry = ""
        if (cut := _OPEN.search(text)) is not None and len(cut[0]) < 100_000:
            text, self._carry = text[: cut.start()], cut[0]
        at = 0
        for event in _EVENT.finditer(text):
            self._paint(text[at : event.start()])
            at = event.end()
            if event[2] is not None:
                self._switch({int(one) for one in event[1].split(";") if one}, on=event[2] == "h")
            else:
                self._answer(event[3], event[4], event[5])
        self._paint(text[at:])

    def _paint(self, text: str) -> None:
        self._stream.feed(_OTHER.sub("", text))

    def _switch(self, modes: set[int], *, on: bool) -> None:
        self.modes = self.modes | modes if on else self.modes - modes
        if modes & _ALTERNATE:
            self._shown = self._new() if on else self._main
            self._stream = pyte.Stream(self._shown)
        for mode in modes - _ALTERNATE - {3}:
            (self._shown.set_mode if on else self._shown.reset_mode)(mode, private=True)

    def _answer(self, private: str, parameters: str, final: str) -> None:
        answer = ""
        if final == "c" and parameters in ("", "0"):
            answer = {"": "\x1b[?62;22c", ">": "\x1b[>1;10;0c"}.get(private, "")
        elif final == "n" and parameters == "5" and not private:
            answer = "\x1b[0n"
        elif final == "n" and parameters == "6":
            row, column = self.cursor
            answer = f"\x1b[{private}{row};{column}R"
        if answer:
            self.replies.append(answer.encode())

    def resize(self, rows: int, columns: int) -> None:
        self.rows, self.columns = rows, columns
        for one in {id(one): one for one in (self._main, self._shown)}.values():
            one.resize(rows, columns)

    @property
    def lines(self) -> list[str]:
        """The rows, right-trimmed."""
        buffer = self._shown.buffer
        return ["".join(buffer[y][x].data for x in range(self.columns)).rstrip() for y in range(self.rows)]

    @property
    def text(self) -> str:
        """All rows; for a text that may be wrapped use `flat`."""
        return "\n".join(self.lines)

    @property
    def flat(self) -> str:
        """All rows without white space, frames and rules: a text that wraps is found in here without its spaces."""
        return re.sub(r"[\s─━│┃▔╭╮╰╯║╹▀┌┐└┘]+", "", self.text)

    @property
    def cursor(self) -> tuple[int, int]:
        """1-based row and column."""
        return self._shown.cursor.y + 1, min(self._shown.cursor.x, self.columns - 1) + 1

    @property
    def cursor_line(self) -> str:
        return self.lines[self.cursor[0] - 1]

    def attributes(self, row: int) -> list[str]:
        """For each cell of a 1-based row: `f` faint, `r` reverse, `b` bold, ` ` plain."""
        cells = self._shown.buffer[row - 1]
        return [
            "r" if one.reverse else "f" if one.blink else "b" if one.bold else " "
            for one in (cells[x] for x in range(self.columns))
        ]

    @property
    def bracketed_paste(self) -> bool:
        return 2004 in self.modes

    @property
    def alternate(self) -> bool:
        return bool(self.modes & _ALTERNATE)

    @property
    def cursor_hidden(self) -> bool:
        return 25 not in self.modes


class Terminal:
    """One program in a terminal of its own, driven as a person would. Close it."""

    def __init__(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        cwd: Path,
        *,
        rows: int = 24,
        columns: int = 80,
        answers: bool = True,
    ) -> None:
        self.home = env.get("HOME", "")
        self._answers = answers
        self.started = time.monotonic()
        self.output = bytearray()
        self.chunks: list[tuple[float, int]] = []
        """(seconds since the start, bytes so far) for each piece of output."""
        self.screen = Screen(rows, columns)
        self.lock = threading.RLock()
        self._painted = 0
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            try:
                os.chdir(cwd)
                fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
                os.execvpe(argv[0], list(argv), dict(env))
            finally:
                os._exit(127)
        self.exited = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                if not select.select([self._fd], [], [], 0.2)[0]:
                    if self.exited.is_set():
                        return
                    continue
                data = os.read(self._fd, 65536)
            except (OSError, ValueError):
                data = b""
            if not data:
                self.exited.set()
                return
            with self.lock:
                self.output += data
                self.chunks.append((time.monotonic() - self.started, len(self.output)))
                self._paint()
                replies, self.screen.replies = self.screen.replies, []
            for reply in replies if self._answers else ():
                with suppress(OSError):
                    os.write(self._fd, reply)

    def _paint(self) -> None:
        self.screen.feed(bytes(self.output[self._painted :]))
        self._painted = len(self.output)

    def keys(self, text: str) -> None:
        """What a person types, all at once."""
        data = text.encode()
        while data:
            data = data[os.write(self._fd, data[:1024]) :]

    def typed(self, text: str, pause_s: float = 0.03) -> None:
        """Key by key."""
        for key in text:
            self.keys(key)
            time.sleep(pause_s)

    def resize(self, rows: int, columns: int) -> None:
        with self.lock:
            self.screen.resize(rows, columns)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def until(self, holds: Callable[[Screen], Any], limit_s: float = 30.0, what: str = "") -> Any:
        """Wait for something on the screen; AssertionError with the screen when it does not come."""
        deadline = time.monotonic() + limit_s
        while True:
            with self.lock:
                if answer := holds(self.screen):
                    return answer
                text = self.screen.text
            assert time.monotonic() < deadline, f"not within {limit_s} s: {what or holds}\n{text}"
            assert not self.exited.is_set(), f"the program ended before: {what or holds}\n{text}"
            time.sleep(0.02)

    def until_shows(self, *texts: str, limit_s: float = 30.0) -> None:
        """Wait until all texts are on the screen, wherever they wrap."""
        wanted = [re.sub(r"\s+", "", one) for one in texts]
        self.until(lambda screen: all(one in screen.flat for one in wanted), limit_s, f"shows {texts}")

    def until_quiet(self, quiet_s: float = 0.7, limit_s: float = 15.0) -> None:
        """Wait until nothing was written for a while from now on; spinners never end, so this gives up silently."""
        begun = time.monotonic()
        while (now := time.monotonic()) < begun + limit_s:
            with self.lock:
                last = self.chunks[-1][0] if self.chunks else 0.0
            if now - max(begun, self.started + last) >= quiet_s:
                return
            time.sleep(0.05)

    def close(self) -> None:
        """End the program, its session, and the daemons that it left in its home."""
        for number in (signal.SIGHUP, signal.SIGKILL):
            for pid in self._left():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
                    os.kill(pid, number)
            deadline = time.monotonic() + (1.0 if number == signal.SIGHUP else 3.0)
            while self._left() and time.monotonic() < deadline:
                with suppress(ChildProcessError):
                    os.waitpid(self.pid, os.WNOHANG)
                time.sleep(0.02)
        self.exited.set()
        self._reader.join(2)
        with suppress(OSError):
            os.close(self._fd)
        with suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)

    def _left(self) -> list[int]:
        return [*session_members(self.pid), *(processes_with("HOME", self.home) if self.home else ())]


def processes_with(variable: str, value: str) -> list[int]:
    """Processes that were started with this variable, zombies left out."""
    wanted = f"{variable}={value}".encode()
    pids = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0") and _state(entry) not in "ZX":
                    pids.append(int(entry.name))
    return pids


def _state(entry: Path) -> str:
    return (entry / "stat").read_text().rpartition(")")[2].split()[0]


def session_members(leader: int) -> list[int]:
    """Processes of the session that `leader` leads, zombies left out."""
    pids = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == leader and fields[0] not in "ZX":
                    pids.append(int(entry.name))
    return pids
