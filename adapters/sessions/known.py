"""The doors that this host has, by name, and their preparation before a program starts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from relaybroker.adapters.sessions.door import Door, PassedOver
from relaybroker.adapters.sessions.kinds import Kind, Launch, Prepared
from relaybroker.domain.doors import TERMINAL

if TYPE_CHECKING:
    from collections.abc import Sequence

PREPARE_S = 10.0
"""Within this time a door is prepared, or it is passed over."""
KINDS: dict[str, Kind] = {}
"""Every kind of door, by name. The terminal is none of them: it is behind all others."""


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
