"""The kinds of doors that this host has, and what a program must be started with to offer them.

A door that needs something of the program's start (an option, a variable, a server that is there first) sees to it in `prepare`. One that
cannot be had is no failure: it is passed over, with the reason, and the program starts without.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from relaybroker.adapters.sessions.door import Door, PassedOver
from relaybroker.domain.doors import TERMINAL

if TYPE_CHECKING:
    from collections.abc import Sequence

PREPARE_S = 10.0
"""Within this time a door is prepared, or it is passed over."""


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


class Kind(Protocol):
    """How doors of one kind are made."""

    async def prepare(self, launch: Launch) -> tuple[Launch, Door] | PassedOver:
        """What the program is started with to offer the door, and the door, not yet opened; the caller sets the bound and cancels."""
        ...

    def at(self, place: str) -> Door:
        """A door for `look_up` alone, from the `place` that `open` once told. Raises ValueError: that is no place of this kind."""
        ...


KINDS: dict[str, Kind] = {}
"""Every kind, by the name of its doors."""


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


async def prepare(names: Sequence[str], launch: Launch) -> Prepared:
    """Prepare the doors of these names, up to the terminal, which is behind them in any case."""
    doors: list[Door] = []
    passed_over: dict[str, str] = {}
    for name in names[: names.index(TERMINAL)] if TERMINAL in names else names:
        outcome = await _prepare(name, launch)
        if isinstance(outcome, PassedOver):
            passed_over[name] = outcome.reason
        else:
            launch, door = outcome
            doors.append(door)
    return Prepared(launch, tuple(doors), passed_over)


async def _prepare(name: str, launch: Launch) -> tuple[Launch, Door] | PassedOver:
    kind = KINDS.get(name)
    if kind is None:
        return PassedOver(f"this host has no door {name}")
    try:
        async with asyncio.timeout(PREPARE_S):
            return await kind.prepare(launch)
    except TimeoutError:
        return PassedOver(f"it was not prepared within {PREPARE_S:g} s")
    except OSError as error:
        return PassedOver(f"it cannot be prepared: {error}")
