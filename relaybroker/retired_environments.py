"""Variables of a spawn are forgotten as soon as its program has them, or never will.

Source: ADR-0036.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from domain import events

if TYPE_CHECKING:
    from collections.abc import Iterable

    from adapters.spawn_environments import SpawnEnvironments
    from domain.events import Recorded
    from domain.state import State

_log = logging.getLogger(__name__)

_OVER = (events.AgentLive, events.RegistrationFailed, events.AgentLeaving, events.AgentRetired)


class RetiredEnvironments:
    """Watches registrations and has the values forgotten that are needed no more.

    Args:
        environments: has the values.
        state: at the start; what it does not refer to is forgotten at once.
    """

    def __init__(self, environments: SpawnEnvironments, state: State) -> None:
        self._environments = environments
        self._references = {
            found.stream: found.spec.env_ref for found in state.registrations.values() if found.spec.env_ref
        }
        self._tasks: set[asyncio.Task[None]] = set()

    def observe(self, recorded: Iterable[Recorded]) -> None:
        """Take note of durable events."""
        for one in recorded:
            if isinstance(one.event, events.NameReserved) and one.event.spec.env_ref:
                self._references[one.stream] = one.event.spec.env_ref
            elif isinstance(one.event, _OVER) and (reference := self._references.pop(one.stream, "")):
                task = asyncio.create_task(self._forget(reference))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def settle(self) -> None:
        """Return when everything that is to be forgotten is off the disk."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _forget(self, reference: str) -> None:
        try:
            await asyncio.to_thread(self._environments.forget, reference)
        except OSError as error:
            _log.warning("the variables %s are still on disk: %s", reference, error)
