"""A message for an agent, and a person's hold on such messages."""

from __future__ import annotations

import msgspec

from relaybroker.domain import (
    delivery,
)
from relaybroker.domain.reasons import Reason


class Sent(msgspec.Struct, frozen=True):
    """What local clients know of a message that was sent through this broker."""

    event_id: str
    sender: str


class Delivery(msgspec.Struct):
    """One message for one agent, one attempt."""

    stream: str
    typing_id: str
    """What the PTY host knows it by: unique in the log."""
    delivery_id: str
    attempt: int
    agent_id: str
    name: str
    seq: int | None
    msg_id: str
    source: str
    sender: str
    target: str
    body: str
    thread_id: str
    priority: int | None
    mode: str
    workspace_id: str
    state: str
    offered_at: float
    changed_at: float
    reason: Reason | None = None
    leapt_before_s: float = 0.0
    """By how much the clock had leapt before it came."""
    until: float = 0.0
    expires_at: float = 0.0
    tries: int = 0
    failures: int = 0
    """Tries that the terminal itself refused; being handed back because of another one does not count."""
    session_id: str = ""
    text: str = ""
    marker: str = ""
    while_busy: bool = False
    """It was given to the host to be typed also while the program works."""
    verified: bool = False
    doubtful: bool = False
    """An earlier attempt may have been typed."""
    flushed: bool = False
    """A person let it through a hold."""
    in_composer: bool = False
    """Part of it is in the composer: the host goes on with it when it is asked again, and types nothing else before."""
    aged_s: float = 0.0
    """How long the engine had kept it when it was offered, as far as that is known."""
    in_custody: bool = False
    """The log alone owns it: it counts for the cursor, and the engine need not have it any more."""
    fetch_id: str = ""
    """The fetch of its agent that takes it; "" = none."""
    asked_again: bool = False
    """The host was silent about this try and was asked once more."""
    door: str = ""
    """In doubt: the door by which it was handed over."""
    door_place: str = ""
    """In doubt: where the door's program writes down what it was handed."""
    placed: int = 0
    """Log position at which it was first queued or held; 0 = it never waited for a terminal."""
    sent: Sent | None = None
    """How it was sent, if through this broker."""

    @property
    def ended(self) -> bool:
        """In a terminal state."""
        return self.state in delivery.TABLE.terminal

    @property
    def may_be_seen(self) -> bool:
        """It waits, and its agent may have seen it: some of it is in the composer, or a fetch has it."""
        return self.in_composer or bool(self.fetch_id)

    @property
    def event_id(self) -> str:
        """The id by which local clients know the message."""
        return self.msg_id if self.sent is None else self.sent.event_id

    @property
    def said_by(self) -> str:
        """Who said it, in the words of whoever sent it."""
        return self.sender if self.sent is None else self.sent.sender

    @property
    def is_owed(self) -> bool:
        """The engine has it too, and waits for its acknowledgement."""
        return bool(self.seq) and not self.in_custody

    @property
    def custody_at(self) -> float:
        """When it is taken into custody, if it still waits then."""
        return self.offered_at + max(delivery.CUSTODY_S - self.aged_s, delivery.CUSTODY_SOONEST_S)

    def is_returnable(self, now: float) -> bool:
        """Whether the engine certainly has it and offers it again."""
        return self.is_owed and now < self.offered_at + delivery.CUSTODY_S - self.aged_s

    @property
    def letter_id(self) -> str:
        """What every attempt of this delivery has in common: the name that it has among the dead letters."""
        name = self.stream.removeprefix("delivery:")
        return name.removesuffix(f"#{self.attempt}") if self.attempt > 1 else name


class FlushHold(msgspec.Struct, frozen=True):
    """The messages of an agent's name are held until a person flushes them (`manual_flush`)."""

    name: str
    since: float
    revision: int
    """Log position of its beginning."""
    reason: str = ""
