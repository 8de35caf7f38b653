"""What a running broker answers about its log, beside its work: `GET /api/why/{id}` and `GET /api/log`.

The questions are the commands' own; they are asked in threads of their own, a few at a time, and never hold up a delivery.

Source: spec/architecture.md section 8.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from relaybroker.audit import messages as conversations
from relaybroker.audit.continuity import left_by
from relaybroker.audit.deliveries import newest
from relaybroker.audit.finding import AmbiguousError, NotFoundError
from relaybroker.audit.search import BadSearchError, Search, check_agent, exported, search
from relaybroker.audit.story import tell
from relaybroker.domain.errors import InvalidRequest, Refusal

if TYPE_CHECKING:
    from pathlib import Path

    from relaybroker.adapters.eventstore.reader import LogReader
    from relaybroker.domain.continuity import Continuity
    from relaybroker.domain.story import Story

AT_ONCE = 2
"""Questions that are looked up at once; the others wait."""


class Questions:
    """Answers from one log.

    Args:
        log: the journal's reader.
        state: the broker's state directory.
    """

    def __init__(self, log: LogReader, state: Path) -> None:
        self._log, self._state = log, state
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def why(self, identifier: str) -> list[Story]:
        """The stories of what this id means.

        Raises:
            InvalidRequest: `unknown_id`; `ambiguous_id` with some `choices`.
        """
        async with self._turn:
            try:
                return await asyncio.to_thread(tell, self._log, identifier)
            except NotFoundError as error:
                raise InvalidRequest(
                    Refusal.ABSENT, "unknown_id", f"the log has nothing about {identifier!r}"
                ) from error
            except AmbiguousError as error:
                text = f"{identifier!r} is ambiguous"
                raise InvalidRequest(Refusal.CONFLICT, "ambiguous_id", text, choices=error.choices) from error

    async def messages(self, **wanted: Any) -> list[dict[str, Any]]:
        """The newest messages that fit the fields of `relaybroker.audit.messages.Wanted`, oldest first.

        Raises:
            InvalidRequest: `invalid_field`: the agent is nobody whom the log knows.
        """
        question = conversations.Wanted(**wanted)
        async with self._turn:
            try:
                messages = await asyncio.to_thread(self._messages, question)
            except BadSearchError as error:
                raise InvalidRequest(Refusal.INVALID, "invalid_field", str(error), field="agent") from error
        return [msgspec.to_builtins(one) for one in messages]

    def _messages(self, wanted: conversations.Wanted) -> list[conversations.Said]:
        messages = conversations.newest(self._log, wanted)
        if not messages and wanted.agent:
            check_agent(self._log, wanted.agent)
        return messages

    async def marks(self, message_ids: list[str]) -> dict[str, list[dict[str, Any]]]:
        """What became of these messages for each agent here, as `relaybroker.audit.messages.Mark`."""
        async with self._turn:
            marks_by_id = await asyncio.to_thread(conversations.marks, self._log, message_ids)
        return {message_id: [msgspec.to_builtins(mark) for mark in marks] for message_id, marks in marks_by_id.items()}

    async def continuity(self, name: str) -> Continuity | None:
        """What the newest agent of this name left to whoever goes on with its work; None if nobody knows one."""
        async with self._turn:
            return await asyncio.to_thread(left_by, self._log, self._state, name)

    async def deliveries(self, **wanted: Any) -> list[dict[str, Any]]:
        """The newest deliveries that fit, newest first, as `relaybroker delivery ls` has them."""
        count = wanted.pop("limit")
        async with self._turn:
            rows = await asyncio.to_thread(newest, self._log, count, **wanted)
        return [msgspec.to_builtins(row) for row in reversed(rows)]

    async def search(self, **filters: Any) -> list[dict[str, Any]]:
        """Events that fit the filters of `Search`, in log order, as `relaybroker log grep --json` gives them.

        Raises:
            InvalidRequest: `invalid_field`: the machine, topic or reason does not exist.
        """
        async with self._turn:
            try:
                matches = await asyncio.to_thread(search, self._log, Search(**filters))
            except BadSearchError as error:
                raise InvalidRequest(Refusal.INVALID, "invalid_field", str(error)) from error
        return [exported(recorded) for recorded in matches]
