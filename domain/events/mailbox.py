"""Recorded events: mailbox."""

from __future__ import annotations

from typing import Any, ClassVar

from relaybroker.domain.events.base import Event, Kind
from relaybroker.domain.reasons import Reason


class _Mailbox(Event, frozen=True, kw_only=True):
    machine: ClassVar[str] = "mailbox"


class MailboxOpened(_Mailbox, frozen=True, kw_only=True):
    """An agent id gets its mailbox, or its mailbox a (new) name and generation."""

    topic: ClassVar[str] = "mailbox.opened.v1"
    name: str
    generation: int


class MailboxBased(_Mailbox, frozen=True, kw_only=True):
    """The sequence starts here. `source`: `journal`, `engine`, `first_frame` (seq 1) or `adopted`."""

    topic: ClassVar[str] = "mailbox.based.v1"
    base: int
    source: str


class FrameBuffered(_Mailbox, frozen=True, kw_only=True):
    """A frame waits for earlier ones (or for the base to be known)."""

    topic: ClassVar[str] = "mailbox.frame_buffered.v1"
    kind: ClassVar[Kind] = "fact"
    seq: int
    frame: dict[str, Any]
    until: float


class FrameIgnored(_Mailbox, frozen=True, kw_only=True):
    """A frame that is not accepted. `advances`: it fills its place in the sequence all the same."""

    topic: ClassVar[str] = "mailbox.frame_ignored.v1"
    kind: ClassVar[Kind] = "fact"
    reason: Reason
    seq: int
    msg_id: str
    delivery_id: str
    advances: bool = False


class StrangerMet(_Mailbox, frozen=True, kw_only=True):
    """Messages come for an agent that does not live here; on this connection the engine is told so once.

    `keeps`: they become dead letters and are acknowledged; else they are left to the engine.
    """

    topic: ClassVar[str] = "mailbox.stranger_met.v1"
    name: str
    reason: Reason
    dial: int
    keeps: bool


class ResyncAsked(_Mailbox, frozen=True, kw_only=True):
    """`node.register` is repeated so that the engine offers its open rows again."""

    topic: ClassVar[str] = "mailbox.resync_asked.v1"
    tries: int
    first: int
    until: float


class RangeLost(_Mailbox, frozen=True, kw_only=True):
    """These sequence numbers never arrived; the mailbox continues after them."""

    topic: ClassVar[str] = "mailbox.range_lost.v1"
    first: int
    last: int
    reason: Reason = Reason.LOST


class AckSent(_Mailbox, frozen=True, kw_only=True):
    """The floor moved without typing anything; the acknowledgement was given to the link."""

    topic: ClassVar[str] = "mailbox.ack_sent.v1"
    up_to: int
    dial: int
