"""The size of an agent's terminal while people look at it, and the size that it has again when they left.

* A `/ws` client that looks at an agent (`?view=NAME`) says how large its own terminal is, as often as it likes.
* The newest viewer whose size can be worked in decides. 0x0, or a strip of a few cells (a hidden pane, `script`, CI), is no size.
* When a viewer leaves, however it ends, the next newest decides; after the last one the terminal has the size from before.
* `POST /api/resize` sets the size from before, and the present one.

Source: getpaseo/paseo#39, herdrdev/herdr PR 3165. Nothing of this outlives the broker.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from typing import NamedTuple, Protocol

import msgspec

from relaybroker.adapters.sessions.host.client import HostBackpressure, HostUnavailable
from relaybroker.adapters.sessions.host.protocol import MAX_DIMENSION, MIN_COLS, MIN_ROWS, Answer, Resize, Snapshot
from relaybroker.domain.decoding import NOT_READABLE

_log = logging.getLogger(__name__)


class Terminals(Protocol):
    """Who has the terminals."""

    async def ask_host(self, request: Resize | Snapshot) -> Answer:
        """Ask; raises HostUnavailable or HostBackpressure."""


class Size(NamedTuple):
    """Of a terminal."""

    rows: int
    cols: int

    @property
    def is_usable(self) -> bool:
        """Whether somebody can work in it."""
        return self.rows >= MIN_ROWS and self.cols >= MIN_COLS


class SizeMessage(msgspec.Struct, tag_field="kind", tag="size"):
    """What a viewer sends on its socket when its terminal has another size."""

    rows: int
    cols: int


class Viewers:
    """Everybody who looks at an agent's terminal.

    Args:
        terminals: where the sizes go.
    """

    def __init__(self, terminals: Terminals) -> None:
        self._terminals = terminals
        self._before: dict[str, Size] = {}
        """Session -> its size without viewers. Only of those that have one."""
        self._present: dict[str, Size] = {}
        self._sizes: dict[str, dict[object, Size]] = {}
        """Session -> viewer -> size, the newest last."""
        self._turn = asyncio.Lock()

    async def received(self, viewer: object, session_id: str, message: str) -> None:
        """What a viewer sent. Anything but a size is ignored, as on every `/ws`."""
        try:
            said = msgspec.json.decode(message, type=SizeMessage)
        except NOT_READABLE:
            return
        async with self._turn:
            sizes = self._sizes.setdefault(session_id, {})
            sizes.pop(viewer, None)
            if (size := Size(min(said.rows, MAX_DIMENSION), min(said.cols, MAX_DIMENSION))).is_usable:
                sizes[viewer] = size
            await self._apply(session_id)

    async def left(self, viewer: object, session_id: str) -> None:
        """A viewer is gone."""
        async with self._turn:
            self._sizes.setdefault(session_id, {}).pop(viewer, None)
            await self._apply(session_id)

    def resized(self, session_id: str, rows: int, cols: int) -> None:
        """The terminal was given a size for good."""
        if session_id in self._before:
            self._before[session_id] = self._present[session_id] = Size(rows, cols)

    async def _apply(self, session_id: str) -> None:
        """Give the terminal the size that it should have now. A host that is not there, or has it no more, is no failure."""
        sizes = self._sizes[session_id]
        try:
            if sizes and session_id not in self._before:
                screen = (await self._ask(Snapshot(request_id=uuid.uuid4().hex, session_id=session_id))).data
                self._before[session_id] = self._present[session_id] = Size(
                    int(str(screen["rows"])), int(str(screen["cols"]))
                )
            if session_id in self._before:
                wanted = next(reversed(sizes.values()), self._before[session_id])
                if wanted != self._present[session_id]:
                    await self._ask(Resize(request_id=uuid.uuid4().hex, session_id=session_id, **wanted._asdict()))
                    self._present[session_id] = wanted
        except (HostUnavailable, HostBackpressure, _Refused) as error:
            _log.info("the terminal of session %s keeps its size: %s", session_id, error)
        if not sizes:
            for known in (self._sizes, self._before, self._present):
                known.pop(session_id, None)

    async def _ask(self, request: Resize | Snapshot) -> Answer:
        answer = await self._terminals.ask_host(request)
        if answer.error:
            raise _Refused(answer.error)
        return answer


class _Refused(Exception):  # noqa: N818  # reads as what happened
    """The host did not do it."""
