"""Which program has a terminal's keyboard, asked before each injection: it decides how a message gets in, not the command of the spawn.

It is the process group in the foreground, whatever started it (`env`, `nice`, a shell, a wrapper script), and through programs that hold
a terminal of their own for another one (`script`, `su`, `unbuffer`) the one behind. Linux answers from /proc; elsewhere the program that
was spawned is taken. Source: real-agents.md; ADR-0041.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from relaybroker.adapters.sessions.host.process_table import family, group_on_terminal, read_file, status
from relaybroker.adapters.sessions.terminal import harnesses
from relaybroker.adapters.sessions.terminal.harnesses import DEFAULT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from relaybroker.adapters.sessions.terminal.harnesses import Profile

_MAX_COMMAND = 8192
_MAX_DEPTH = 4
_MASTER = "/dev/ptmx"
_MASTERS = (_MASTER, "/dev/pts/ptmx")
_SLAVE_MAJORS = 136
"""Major device number of the first 256 pseudo-terminals; further ones follow."""


class Foreground(NamedTuple):
    """The program that gets the keys."""

    profile: Profile
    pid: int
    """Its process; the group's leader where nothing more is known."""
    name: str
    """For people."""
    stopped: bool
    """It was suspended (SIGSTOP, ^Z): nothing that is typed would be read."""
    same_group: bool
    """It belongs to the process group of the program that was spawned."""
    group: int = 0
    """Foreground process group of the terminal."""


class _Process(NamedTuple):
    pid: int
    profile: Profile
    name: str
    stopped: bool


def look(group: int, spawned: int, chosen: Profile, *, named: bool) -> Foreground:
    """The program in the foreground.

    Args:
        group: foreground process group of the terminal.
        spawned: process (and group) of the program that was started.
        chosen: profile that the broker chose for it.
        named: the operator named that profile; it stands for the program that was spawned whatever its command looks like.
    """
    same = group == spawned
    reader = _reader(group, 0)
    if reader is None:
        return Foreground(chosen, group, chosen.name, stopped=False, same_group=same, group=group)
    if same and (named or reader.profile.name == DEFAULT) and chosen.treatment == "type":
        is_shell_behind = reader.profile.treatment != "type" and reader.pid != spawned
        if not is_shell_behind:
            return Foreground(chosen, reader.pid, reader.name, stopped=reader.stopped, same_group=True, group=group)
    return Foreground(reader.profile, reader.pid, reader.name, stopped=reader.stopped, same_group=same, group=group)


def _reader(group: int, depth: int) -> _Process | None:
    """Of a process group the one that takes the keys: an agent before an interpreter, the innermost first; through terminals it holds."""
    members = [process for pid in family(group) if (process := _process(pid)) is not None]
    if not members:
        return None
    for process in reversed(members):
        if process.profile.name != DEFAULT and process.profile.treatment == "type":
            return process
    for process in reversed(members):
        if process.profile.treatment != "type":
            return process
    if depth < _MAX_DEPTH and (behind := _behind(members, depth)) is not None:
        return behind
    return members[-1]._replace(stopped=all(member.stopped for member in members) or members[-1].stopped)


def _process(pid: int) -> _Process | None:
    here = status(pid)
    if here is None:
        return None
    argv = command_line(pid)
    profile = harnesses.of_program(argv, _executable(pid))
    name = argv[0].rsplit("/", 1)[-1] if argv and argv[0] else str(pid)
    return _Process(pid, profile, name[:80], here.state in ("T", "t"))


def command_line(pid: int) -> Sequence[str]:
    """Program and arguments of a process; empty when it cannot be known."""
    data = read_file(f"/proc/{pid}/cmdline", _MAX_COMMAND)
    return data.rstrip(b"\0").decode("utf-8", "replace").split("\0") if data else ()


def _executable(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)")  # noqa: PTH115  # a string is wanted
    except OSError:
        return ""


def _behind(members: Sequence[_Process], depth: int) -> _Process | None:
    """The program on the other side of a pseudo-terminal that one of these holds."""
    for process in members:
        for device in _terminals_held(process.pid):
            group = group_on_terminal(device)
            if group and (reader := _reader(group, depth + 1)) is not None:
                return reader._replace(stopped=reader.stopped or process.stopped)
    return None


def _terminals_held(pid: int) -> list[int]:
    """Device numbers of the pseudo-terminals whose master side a process has open."""
    held: list[int] = []
    try:
        descriptors = os.listdir(f"/proc/{pid}/fd")  # noqa: PTH208  # names are enough
    except OSError:
        return held
    for descriptor in descriptors[:256]:
        try:
            if os.readlink(f"/proc/{pid}/fd/{descriptor}") not in _MASTERS:  # noqa: PTH115  # a string is wanted
                continue
        except OSError:
            continue
        text = read_file(f"/proc/{pid}/fdinfo/{descriptor}", 4096).decode("ascii", "replace")
        number = next((line.split()[1] for line in text.splitlines() if line.startswith("tty-index:")), "")
        if number.isdigit():
            major, minor = divmod(int(number), 256)
            held.append(os.makedev(_SLAVE_MAJORS + major, minor))
    return held
