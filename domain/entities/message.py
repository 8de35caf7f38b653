"""A message on its way to the engine, and what its callers were answered."""

from __future__ import annotations

from typing import Any

import msgspec

from relaybroker.domain import (
    message as message_machine,
)
from relaybroker.domain.replies import SendAnswer


class Message(msgspec.Struct):
    """One message on its way to the engine."""

    stream: str
    event_id: str
    request_id: str
    to: str
    text: str
    sender: str
    author_id: str
    thread_id: str
    mode: str
    data: dict[str, Any] | None
    state: str
    accepted_at: float
    answer_by: float
    """0 = the caller has its answer."""
    until: float = 0.0
    tries: int = 0
    call_id: str = ""
    attachments: tuple[str, ...] = ()
    priority: int = message_machine.PRIORITY
    tried_at: float = 0.0
    """When the engine was last asked to publish it."""
    unthreaded: bool = False
    """The engine did not know its thread."""
    turned_away: bool = False
    """The engine itself answered the last try, with an error that may pass."""
    unanswered: bool = False
    """Nobody answered the last try."""
    key: str = ""
    joined: list[str] = msgspec.field(default_factory=list)
    """Further local requests with the same key that wait for the same answer."""

    @property
    def waits(self) -> bool:
        """Accepted and due at `until`."""
        return self.state == message_machine.MessageState.ACCEPTED

    @property
    def line(self) -> str:
        """What is published one after the other: messages of one sender to one target."""
        return f"{self.author_id} {self.to.lower()}"

    @property
    def holds_line(self) -> bool:
        """Whether later messages of its line wait for it."""
        failed = self.tries if self.waits else self.tries - 1
        return not (self.turned_away and failed >= message_machine.HOLDS_LINE_TRIES)


class Send(msgspec.Struct):
    """What is remembered of a caller's key."""

    fingerprint: str
    stream: str
    at: float
    answer: SendAnswer | None = None
    """None = nobody was answered yet."""


class SeenMessage(msgspec.Struct, frozen=True):
    """A message that local clients were told of; the beginning of what it says."""

    thread: str
    name: str
    text: str
    at: float
