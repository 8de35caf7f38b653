"""What the operating system says of the processes of a terminal: who belongs to it, and who waits for its keyboard.

Linux answers from /proc; elsewhere the questions are answered by "unknown" (None) or the process group alone.
Source: F109 (nobody of a session survives), 6.4 as corrected for plain programs (ready = it reads its terminal).
"""

from __future__ import annotations

import enum
import os
import platform
import struct
import sys
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")

# (machine, system call number) -> kind of wait. Only calls that can wait for a keyboard.
_WAITS: dict[str, dict[int, str]] = {
    "x86_64": {
        0: "read",
        7: "poll",
        19: "read",
        23: "select",
        232: "epoll",
        270: "select",
        271: "poll",
        281: "epoll",
        441: "epoll",
    },
    "aarch64": {63: "read", 65: "read", 72: "select", 73: "poll", 22: "epoll", 441: "epoll"},
}
_MAX_POLLED = 256
_POLLFD = struct.Struct("=ihh")
_POLLIN = 1


class Wait(enum.Enum):
    """Whether a program waits for its keyboard."""

    NO = "no"
    READ = "read"
    """In a read of the terminal: it can do nothing else."""
    POLL = "poll"
    """In a poll, select or epoll that watches the terminal among other things."""


class Status(NamedTuple):
    """What /proc says of one process."""

    state: str
    parent: int
    group: int
    session: int
    terminal: int
    """Device number of its controlling terminal; 0 = none."""
    foreground: int
    """Process group that has that terminal's keyboard."""


class Listed(NamedTuple):
    """A process of the table of all."""

    pid: int
    state: str
    parent: int
    session: int
    started: int
    """Clock ticks after boot: with the id it names a process for good."""


class SystemCall(NamedTuple):
    """The call in which a thread sleeps, with its first three arguments."""

    wait: str
    arguments: tuple[int, int, int]


def processes() -> dict[int, Listed]:
    """Every process by its id. Empty where there is no /proc."""
    try:
        entries = os.listdir(_PROC)  # noqa: PTH208  # names are enough
    except OSError:
        return {}
    listings = (listed(int(entry)) for entry in entries if entry.isdigit())
    return {process.pid: process for process in listings if process is not None}


def listed(pid: int) -> Listed | None:
    """One process of the table; None when it is gone or there is no /proc."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:  # noqa: PTH123  # this runs over every process
            line = file.read(1024)
    except OSError:
        return None
    fields = line[line.rindex(b")") + 2 :].split()
    return Listed(pid, chr(fields[0][0]), int(fields[1]), int(fields[3]), int(fields[19]))


def waits_for_terminal(group: int, terminal: int) -> Wait | None:
    """Whether a process of the foreground group sleeps until somebody types.

    `terminal` is the device number of the tty.
    None = cannot be known here (no /proc, other architecture, not permitted): the caller falls back to other evidence.
    """
    calls = _WAITS.get(platform.machine())
    if calls is None or not sys.platform.startswith("linux"):
        return None
    answer: Wait | None = None
    for pid in family(group):
        for task in _tasks(pid):
            try:
                descriptor = os.open(f"/proc/{pid}/task/{task}/syscall", os.O_RDONLY | os.O_CLOEXEC)
                try:
                    line = os.read(descriptor, 256).decode("ascii")
                finally:
                    os.close(descriptor)
            except ProcessLookupError:
                continue
            except OSError:
                return None
            call = _parse(line, calls)
            if call is None or not _is_on_terminal(pid, call, terminal):
                answer = answer or Wait.NO
            elif call.wait == "read":
                return Wait.READ
            else:
                answer = Wait.POLL
    return answer


def group_on_terminal(terminal: int) -> int:
    """The process group that has the keyboard of a terminal (a device number); 0 = nobody has it as controlling terminal."""
    try:
        entries = os.listdir(_PROC)  # noqa: PTH208  # as above
    except OSError:
        return 0
    for entry in entries:
        if entry.isdigit() and (here := status(int(entry))) is not None and here.terminal == terminal:
            return max(0, here.foreground)
    return 0


def family(group: int) -> list[int]:
    """The group's leader and its descendants in the same group, outermost first (a shim often waits for the real program)."""
    members: list[int] = []
    waiting = [group]
    while waiting and len(members) < 64:
        pid = waiting.pop(0)
        here = status(pid)
        if here is None or here.group != group or here.state in ("Z", "X"):
            continue
        members.append(pid)
        for task in _tasks(pid):
            waiting.extend(int(child) for child in read_file(f"/proc/{pid}/task/{task}/children", 4096).split())
    return members


def _tasks(pid: int) -> list[str]:
    try:
        return os.listdir(f"/proc/{pid}/task")[:64]  # noqa: PTH208  # names are enough
    except OSError:
        return []


def read_file(path: str, most: int) -> bytes:
    """The beginning of a file of /proc; empty when it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, most)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def status(pid: int) -> Status | None:
    """What is known of a process; None when it is gone or there is no /proc."""
    line = read_file(f"/proc/{pid}/stat", 1024).decode("ascii", "replace")
    if not line:
        return None
    state, *numbers = line[line.rindex(")") + 2 :].split(" ", 6)[:6]
    parent, group, session, terminal, foreground = map(int, numbers)
    return Status(state, parent, group, session, terminal, foreground)


def _parse(line: str, calls: dict[int, str]) -> SystemCall | None:
    fields = line.split()
    if len(fields) < 4 or not fields[0].isdigit() or (wait := calls.get(int(fields[0]))) is None:
        return None
    first, second, third = (int(field, 16) for field in fields[1:4])
    return SystemCall(wait, (first, second, third))


def _is_on_terminal(pid: int, call: SystemCall, terminal: int) -> bool:
    first, second, _third = call.arguments
    if call.wait == "read":
        watched = [first]
    elif call.wait == "epoll":
        watched = _epoll_members(pid, first)
    elif call.wait == "poll":
        watched = _polled(pid, first, second)
    else:
        watched = _selected(pid, first, second)
    return any(_is_terminal(pid, descriptor, terminal) for descriptor in watched)


def _is_terminal(pid: int, descriptor: int, terminal: int) -> bool:
    try:
        return os.stat(_PROC / f"{pid}/fd/{descriptor}").st_rdev == terminal  # noqa: PTH116  # follows the descriptor
    except OSError:
        return False


def _epoll_members(pid: int, descriptor: int) -> list[int]:
    try:
        lines = (_PROC / f"{pid}/fdinfo/{descriptor}").read_text("ascii").splitlines()
    except OSError:
        return []
    return [int(line.split()[1]) for line in lines if line.startswith("tfd:")]


def _polled(pid: int, address: int, count: int) -> list[int]:
    data = _memory(pid, address, min(count, _MAX_POLLED) * _POLLFD.size)
    whole = len(data) - len(data) % _POLLFD.size
    return [fd for fd, events, _ in _POLLFD.iter_unpack(data[:whole]) if fd >= 0 and events & _POLLIN]


def _selected(pid: int, count: int, address: int) -> list[int]:
    if not address:
        return []
    data = _memory(pid, address, (min(count, 1024) + 7) // 8)
    return [8 * index + bit for index, byte in enumerate(data) for bit in range(8) if byte & (1 << bit)]


def _memory(pid: int, address: int, length: int) -> bytes:
    if not length:
        return b""
    try:
        with (_PROC / f"{pid}/mem").open("rb", buffering=0) as memory:
            return os.pread(memory.fileno(), length, address)
    except OSError:
        return b""
