"""Agents' tokens end with the agents: what the log says about registrations decides what the vault forgets.

Source: spec/local-api.md sections 4.6 and 11.1; spec/node-protocol.md section 3.8.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from relaybroker.adapters.vault import agent_reference, is_agent_id
from relaybroker.domain import events

if TYPE_CHECKING:
    from collections.abc import Iterable

    from relaybroker.adapters.vault import Vault
    from relaybroker.domain.events import Recorded
    from relaybroker.domain.state import State

_log = logging.getLogger(__name__)


class RetiredTokens:
    """Watches registrations and has the vault forget the tokens of those that are over.

    Args:
        vault: has the tokens.
        state: the core's live state, to look at only.
    """

    def __init__(self, vault: Vault, state: State) -> None:
        self._vault = vault
        self._state = state
        self._holders = {
            registration.stream: registration.agent_id
            for registration in state.registrations.values()
            if registration.agent_id
        }
        self._owed: set[str] = set()
        """Agents that are over and still have messages to be published."""
        self._tasks: set[asyncio.Task[None]] = set()

    def observe(self, recorded: Iterable[Recorded]) -> None:
        """Take note of durable events, before anything is done because of them."""
        for one in recorded:
            match one.event:
                case events.AgentBinding(agent_id=agent_id) if not agent_id:
                    pass
                case events.RegistrationAccepted(agent_id=agent_id) | events.AgentBinding(agent_id=agent_id):
                    self._holders[one.stream] = agent_id
                case events.LateRegistrationKept(agent_id=agent_id):
                    self._holders.setdefault(one.stream, agent_id)
                case events.LateRegistrationRefused(agent_id=agent_id):
                    self._forget(agent_id)
                case events.AgentRetired() | events.RegistrationFailed():
                    self._forget(self._holders.pop(one.stream, ""))
                case events.MessagePublished() | events.MessageRefused() if self._owed:
                    for agent_id in list(self._owed):
                        self._forget(agent_id)
                case _:
                    pass

    async def settle(self) -> None:
        """Return when everything that is to be forgotten is off the disk."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _forget(self, agent_id: str) -> None:
        self._owed.discard(agent_id)
        if not is_agent_id(agent_id) or agent_id in self._holders.values():
            return
        if any(message.author_id == agent_id for message in self._state.messages.values()):
            self._owed.add(agent_id)  # what it sent goes out in its name
            return
        reference = agent_reference(agent_id)
        task = asyncio.create_task(self._remove(reference, self._vault.token(reference)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _remove(self, reference: str, token: str | None) -> None:
        try:
            await asyncio.to_thread(self._vault.forget, reference, token)
        except OSError as error:
            _log.warning("the token of %s is still on disk: %s", reference, error)
