"""The doors that this host has, by name, and their preparation before a program starts."""

from __future__ import annotations

import asyncio
import shutil
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from relaybroker.adapters.sessions.acp import AcpKind
from relaybroker.adapters.sessions.claude_inbox import ClaudeInboxKind
from relaybroker.adapters.sessions.codex_app_server import CodexAppServerKind
from relaybroker.adapters.sessions.door import Door, PassedOver
from relaybroker.adapters.sessions.kinds import Kind, Launch, Prepared
from relaybroker.adapters.sessions.stream_json import StreamJsonKind
from relaybroker.domain.doors import TERMINAL

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

KEPT_S = 86_400.0
"""What the doors of a session wrote is kept so long after the last of it; doubt lasts minutes."""
PREPARE_S = 10.0
"""Within this time all doors of a program are prepared, or passed over: the broker waits `START_S` for the program."""
KINDS: dict[str, Kind] = {
    "acp": AcpKind(),
    "claude_inbox": ClaudeInboxKind(),
    "codex_app_server": CodexAppServerKind(),
    "stream_json": StreamJsonKind(),
}
"""Every kind of door, by name. The terminal is none of them: it is behind all others."""


async def prepare(names: Sequence[str], launch: Launch) -> Prepared:
    """Prepare the doors of these names, up to the terminal, which is behind them in any case."""
    doors: list[Door] = []
    passed_over: dict[str, str] = {}
    deadline = asyncio.get_running_loop().time() + PREPARE_S
    for name in names[: names.index(TERMINAL)] if TERMINAL in names else names:
        outcome = await _prepare(name, launch, deadline)
        if isinstance(outcome, PassedOver):
            passed_over[name] = outcome.reason
        else:
            launch, door = outcome
            doors.append(door)
    return Prepared(launch, tuple(doors), passed_over)


async def _prepare(name: str, launch: Launch, deadline: float) -> tuple[Launch, Door] | PassedOver:
    kind = KINDS.get(name)
    if kind is None:
        return PassedOver(f"this host has no door {name}")
    try:
        async with asyncio.timeout_at(deadline):
            return await kind.prepare(launch)
    except TimeoutError:
        return PassedOver(f"it was not prepared within {PREPARE_S:g} s")
    except Exception as error:  # noqa: BLE001 - whatever a door fails with, its program is started without
        return PassedOver(f"it cannot be prepared: {error}"[:500])


def tidy(folder: Path, living: Collection[str]) -> None:
    """Remove what doors of sessions wrote that are over; `folder` has one of each, `living` are those that are not."""
    for one in folder.iterdir() if folder.is_dir() else ():
        with suppress(OSError):  # not ours, or gone meanwhile
            if one.name not in living and _written(one) < time.time() - KEPT_S:
                shutil.rmtree(one, ignore_errors=True)


def _written(folder: Path) -> float:
    """When something in it was written last."""
    return max(one.stat().st_mtime for one in (folder, *folder.iterdir()))
