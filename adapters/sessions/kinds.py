"""What a program must be started with to offer a door, and how doors are made.

A door that needs something of the program's start (an option, a variable, a server that is there first) sees to it in `prepare`. One that
cannot be had is no failure: it is passed over, with the reason, and the program starts without.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from relaybroker.adapters.sessions.door import Door, PassedOver
from relaybroker.adapters.sessions.terminal import harnesses


@dataclass(frozen=True)
class Launch:
    """A program that is about to be started."""

    session_id: str
    argv: tuple[str, ...]
    env: dict[str, str]
    """All of it."""
    cwd: str
    profile: str
    """Name of its harness profile."""
    folder: Path = Path()
    """For files of this session's doors alone; not made yet."""
    umask: int = 0o077
    """For the files that the program and its helpers make."""
    tools: tuple[str, ...] = ()
    """The command of the MCP server that gives the agent its tools, for a door that tells the program of it; its variables are in `env`."""
    resumes: str = ""
    """`place` of the door of the program before, whose conversation goes on; "" = none."""

    def split(self, program: str) -> tuple[tuple[str, ...], tuple[str, ...]] | PassedOver:
        """The words up to the program's name, and those behind it, if this is how a program of this profile is started."""
        words = harnesses.words_of_program(harnesses.profile(self.profile), self.argv)
        if self.profile != program or words is None:
            return PassedOver(f"the command line does not start {program}")
        return words, self.argv[len(words) :]


class Kind(Protocol):
    """How doors of one kind are made."""

    async def prepare(self, launch: Launch) -> tuple[Launch, Door] | PassedOver:
        """What the program is started with to offer the door, and the door, not yet opened; the caller sets the bound and cancels."""
        ...

    def at(self, place: str) -> Door:
        """A door for `look_up` alone, from the `place` that `open` once told. Raises ValueError: that is no place of this kind."""
        ...


@dataclass(frozen=True)
class Prepared:
    """What a program is started with, and the doors that it may then offer, in order of preference."""

    launch: Launch
    doors: tuple[Door, ...] = ()
    passed_over: dict[str, str] = field(default_factory=dict)
    """Doors that were asked for and cannot be -> why, in order."""

    async def close(self) -> None:
        """The program was not started."""
        for door in self.doors:
            await door.close()
