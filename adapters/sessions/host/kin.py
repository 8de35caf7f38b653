"""Everything that an agent's program started, wherever it went: into another process group, a session of its own, or a daemon's.

The host is the *subreaper* of its agents (Linux): a process whose parent ended becomes the host's child instead of init's, so all
that agents started stays below the host. Whose a process without parent is, is known in this order:

1. it was seen below an agent before (we look every few seconds);
2. it is in the agent's session;
3. the mark in its environment, which the host gives every program: `RELAYBROKER_SESSION=<session id>`; it is nobody else's then;
4. only one agent was there that can have started it. While several come into question it is left alone, and it ends with the last
   of them: a program that cleared its environment and left its parents within seconds.

Zombies that become ours are reaped here. Where there is no /proc nothing is known, and the process group has to do.
Source: F109; ADR-0044; openai/codex#26984.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from relaybroker.adapters.sessions.host.process_table import Listed, listed, processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

MARK = "RELAYBROKER_SESSION"
"""The variable that says whose agent's process it is."""
LOOK_S = 5.0
"""How often the host looks who is below its agents."""
_FRESH_S = 0.02
"""A look at all processes serves everybody who asks within this time."""
_PR_SET_CHILD_SUBREAPER = 36


class Helper(NamedTuple):
    """A process, told from a later one with its number by when it started (clock ticks after boot)."""

    pid: int
    started: int


def become_subreaper() -> bool:
    """Let orphans among our descendants become our children; whether that is possible here."""
    if not sys.platform.startswith("linux"):
        return False
    return bool(ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


class Kin:
    """Who belongs to which agent. An agent is known by the process id of its program.

    Args:
        adopts: whether this process is a subreaper and starts nothing but agents, so that every other child is an orphan of one.
        on_change: called when `marks` or `helpers` are others than before.
    """

    def __init__(self, *, adopts: bool = False, on_change: Callable[[], None] | None = None) -> None:
        self._adopts = adopts
        self._on_change = on_change
        self._agents: dict[int, _Agent] = {}
        self._owner: dict[Helper, int] = {}
        """Seen below an agent."""
        self._suspects: dict[Helper, frozenset[int]] = {}
        """Of an orphan of whom nobody knows: the agents that were there when it was first seen and are older than it."""
        self._table: dict[int, Listed] = {}
        self._looked = float("-inf")

    def add(self, pid: int, mark: str) -> None:
        """An agent's program was started; `mark` is what its environment says."""
        here = listed(pid)
        self._agents[pid] = _Agent(mark, here.started if here is not None else 0)
        self._changed()

    def remove(self, pid: int) -> None:
        """Nothing of the agent lives."""
        self._agents.pop(pid, None)
        self._owner = {helper: owner for helper, owner in self._owner.items() if owner != pid}
        self._changed()

    def of(self, pid: int) -> list[int]:
        """Every live process of an agent, its program included while that lives."""
        owners = self._look()
        return [process for process, owner in owners.items() if owner == pid and self._table[process].state not in "ZX"]

    def look(self) -> None:
        """Learn who is below which agent, before somebody leaves."""
        if self._agents:
            before = self.helpers
            self._look()
            if self.helpers != before:
                self._changed()

    @property
    def marks(self) -> dict[int, str]:
        """Of every agent, by the process id of its program."""
        return {pid: known.mark for pid, known in self._agents.items()}

    @property
    def helpers(self) -> frozenset[Helper]:
        """What was seen below an agent and is in another session than its program's."""
        return frozenset(
            helper
            for helper, owner in self._owner.items()
            if (process := self._table.get(helper.pid)) is not None and process.session != owner
        )

    def rest(self) -> list[int]:
        """Live processes below this one, of whichever agent."""
        if not self._adopts:
            return []
        self._table = processes()
        return [pid for pid in _below(os.getpid(), _children(self._table)) if self._table[pid].state not in "ZX"]

    def reap(self) -> bool:
        """Take the exit status of every orphan that ended; those of agents' programs are left. True = look again soon."""
        while self._adopts:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return False
            if ended is None:
                return False
            if ended.si_pid in self._agents:
                return True  # it stands before the others until its own watch has seen it
            with suppress(ChildProcessError):
                os.waitpid(ended.si_pid, os.WNOHANG)
        return False

    # --- looking -------------------------------------------------------------------------------------------------------

    def _look(self) -> dict[int, int]:
        """Process id -> agent, of all processes at this moment."""
        now = time.monotonic()
        if now - self._looked > _FRESH_S:
            self._table, self._looked = processes(), now
        table = self._table
        children = _children(table)
        owners: dict[int, int] = {}
        ours = {agent for agent, known in self._agents.items() if _is_free(table.get(agent), known)}
        for agent in ours:
            self._claim(owners, agent, agent, children)
        for process in table.values():
            if process.session in ours:
                self._claim(owners, process.pid, process.session, children)
        if self._adopts:
            for orphan in children.get(os.getpid(), ()):
                if orphan not in owners and (owner := self._owner_of(table[orphan])) is not None:
                    self._claim(owners, orphan, owner, children)
        live = {Helper(pid, table[pid].started) for pid in table}
        self._suspects = {orphan: agents for orphan, agents in self._suspects.items() if orphan in live}
        self._owner = {helper: owner for helper, owner in self._owner.items() if helper in live}
        self._owner |= {Helper(pid, table[pid].started): agent for pid, agent in owners.items()}
        return owners

    def _claim(self, owners: dict[int, int], root: int, agent: int, children: Mapping[int, list[int]]) -> None:
        if root in self._table and root not in owners:
            owners[root] = agent
        for pid in _below(root, children):
            if pid not in self._agents:
                owners.setdefault(pid, agent)

    def _owner_of(self, orphan: Listed) -> int | None:
        helper = Helper(orphan.pid, orphan.started)
        if (seen := self._owner.get(helper)) in self._agents:
            return seen
        mark = mark_of(orphan.pid)
        if mark:  # of an agent that is gone, or whose server is there before it is itself
            return next((agent for agent, known in self._agents.items() if known.mark == mark), None)
        if helper not in self._suspects:
            self._suspects[helper] = frozenset(
                agent for agent, known in self._agents.items() if known.started <= orphan.started
            )
        left = self._suspects[helper] & self._agents.keys()
        return next(iter(left)) if len(left) == 1 else None

    def _changed(self) -> None:
        if self._on_change is not None:
            self._on_change()


class _Agent(NamedTuple):
    mark: str
    started: int


def _is_free(holder: Listed | None, agent: _Agent) -> bool:
    """Whether the number of an agent's program is its own still: once it is reaped, a stranger may get it."""
    return holder is None or holder.started == agent.started


def mark_of(pid: int) -> str:
    """What the environment says with which a process was started; "" when it says nothing or is not ours to read."""
    wanted = f"{MARK}=".encode()
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return ""
    variable = next((entry for entry in environment.split(b"\0") if entry.startswith(wanted)), b"")
    return variable.removeprefix(wanted).decode("utf-8", "replace")


def with_descendants(roots: Iterable[int], table: Mapping[int, Listed]) -> set[int]:
    """These processes and all below them."""
    children = _children(table)
    return {pid for root in roots for pid in (root, *_below(root, children))}


def kill_all(pids: Iterable[int]) -> None:
    """SIGKILL to those that are still there and are ours to signal."""
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _children(table: Mapping[int, Listed]) -> dict[int, list[int]]:
    children: dict[int, list[int]] = {}
    for process in table.values():
        children.setdefault(process.parent, []).append(process.pid)
    return children


def _below(root: int, children: Mapping[int, list[int]]) -> list[int]:
    descendants: list[int] = []
    waiting = list(children.get(root, ()))
    while waiting:
        pid = waiting.pop()
        descendants.append(pid)
        waiting.extend(children.get(pid, ()))
    return descendants
