"""What is kept for a spawn goes when it is needed no more: its variables once the program has them, its own files once it is gone.

Where a restart policy may start the program again, its variables stay as long as the agent.

Source: ADR-0036, ADR-0038.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from typing import TYPE_CHECKING, Any, NamedTuple

from relaybroker.domain import events

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from relaybroker.adapters.spawn_environments import SpawnEnvironments
    from relaybroker.domain.events import Recorded
    from relaybroker.domain.inputs import SpawnSpec
    from relaybroker.domain.state import State

_log = logging.getLogger(__name__)

_OVER = (events.RegistrationFailed, events.AgentRetired)


class _Kept(NamedTuple):
    env_ref: str
    session_id: str
    may_restart: bool


class RetiredSpawns:
    """Watches registrations and has forgotten what is needed no more.

    Args:
        environments: has the variables.
        own_files: directory of agents' own files; a directory per session.
        state: at the start.
    """

    def __init__(self, environments: SpawnEnvironments, own_files: Path, state: State) -> None:
        self._environments = environments
        self._own_files = own_files
        self._kept = {
            registration.stream: _kept(registration.spec, registration.session_id)
            for registration in state.registrations.values()
        }
        self._tasks: set[asyncio.Task[None]] = set()

    def observe(self, recorded: Iterable[Recorded]) -> None:
        """Take note of durable events."""
        for one in recorded:
            if isinstance(one.event, events.NameReserved):
                self._kept[one.stream] = _kept(one.event.spec, one.event.session_id)
            elif isinstance(one.event, events.AgentRestartPlanned) and (kept := self._kept.get(one.stream)) is not None:
                self._kept[one.stream] = kept._replace(session_id=one.event.session_id)
                self._carry_out(remove_own_files, self._own_files / kept.session_id)
            elif isinstance(one.event, events.AgentLive) and (kept := self._kept.get(one.stream)) is not None:
                if not kept.may_restart:
                    self._forget_variables(kept)
            elif isinstance(one.event, _OVER) and (kept := self._kept.pop(one.stream, None)) is not None:
                self._forget_variables(kept)
                self._carry_out(remove_own_files, self._own_files / kept.session_id)

    async def settle(self) -> None:
        """Return when everything that is to be forgotten is off the disk."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _forget_variables(self, kept: _Kept) -> None:
        if kept.env_ref:
            self._carry_out(self._environments.forget, kept.env_ref)

    def _carry_out(self, forget: Callable[[Any], None], what: Any) -> None:
        task = asyncio.create_task(_in_thread(forget, what))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _kept(spec: SpawnSpec, session_id: str) -> _Kept:
    return _Kept(spec.env_ref, session_id, spec.restart is not None and spec.restart.enabled)


def remove_own_files(directory: Path) -> None:
    """Remove the files of one agent's own; none is fine."""
    shutil.rmtree(directory, ignore_errors=True)


async def _in_thread(forget: Callable[[Any], None], what: Any) -> None:
    try:
        await asyncio.to_thread(forget, what)
    except OSError as error:
        _log.warning("leftover files of a spawn are still on disk: %s", error)
