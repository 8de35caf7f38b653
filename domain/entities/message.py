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
    strict: bool = False
    """It goes to its thread or nowhere."""
    turned_away: bool = False
    """The engine itself answered the last try, with an error that may pass."""
    unanswered: bool = False
    """Nobody answered the last try."""
    recipient_id: str = ""
    """The agent here that is its only recipient; "" = there is none, or that is not known."""
    recipient: str = ""
    """Its name, in small letters."""
    early: str = ""
    """Stream of the delivery by which its recipient was given it before the engine had it; "" = it was not."""
    may_be_here: bool = False
    """A frame came that may be the engine's copy of it: it is not given from here any more."""
    key: str = ""
    joined: list[str] = msgspec.field(default_factory=list)
    """Further local requests with the same key that wait for the same answer."""

    @property
    def waits(self) -> bool:
        """Accepted and due at `until`."""
        return self.state == message_machine.MessageState.ACCEPTED

    @property
    def line(self) -> str:
        """What is published one after the other: messages of one sender to one target; an answer to an agent here is one to that agent."""
        return f"{self.author_id} {self.recipient or self.to.lower()}"

    @property
    def waits_for_thread(self) -> bool:
        """It answers a message that the engine does not have yet."""
        return message_machine.is_local_id(self.thread_id)

    @property
    def may_be_overtaken(self) -> bool:
        """Whether a more urgent one of its line may go before it. What is typed in an order is published in it."""
        return not (self.tries or self.early or self.waits_for_thread)

    @property
    def holds_line(self) -> bool:
        """Whether later messages of its line wait for it."""
        failed = self.tries if self.waits else self.tries - 1
        return not (self.turned_away and failed >= message_machine.HOLDS_LINE_TRIES)


class Pair(msgspec.Struct, frozen=True):
    """Two agents here who talk: ids of who wrote a message, and of its only recipient."""

    author_id: str
    recipient_id: str

    def other(self, agent_id: str) -> str:
        """The other one of the two; "" for anybody else."""
        if agent_id == self.author_id:
            return self.recipient_id
        return self.author_id if agent_id == self.recipient_id else ""


class CopyToCome(msgspec.Struct, frozen=True):
    """A message that its recipient here was given before the engine had it; the engine has it now, and its copy is to come."""

    event_id: str
    stream: str
    """Of the delivery."""
    pair: Pair
    published_at: float
    leapt_before_s: float
    """By how much the clock had leapt before that."""


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
