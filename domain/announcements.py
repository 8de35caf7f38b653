"""What local clients are told of, as facts. How each looks on the wire is the local API's business.

Source: spec/local-api.md section 2.
"""

from __future__ import annotations

from typing import Any

import msgspec

from relaybroker.domain.questions import Question
from relaybroker.domain.reasons import Reason


class _Announcement(msgspec.Struct, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Common shape of announcements."""


# --- agents and their programs ------------------------------------------------------------------------------------------


class _Agent(_Announcement, frozen=True, kw_only=True):
    name: str
    cli: str
    model: str
    session: str
    pid: int
    has_terminal: bool = True


class AgentStarted(_Agent, frozen=True, kw_only=True):
    """An agent is live. `source`: who asked for it."""

    source: str


class AgentReady(_Agent, frozen=True, kw_only=True):
    """Its program takes input; `evidence` says how that is known."""

    evidence: str


class AgentBlocked(_Announcement, frozen=True, kw_only=True):
    """A dialog is on its screen, or its program asks as `question` says."""

    name: str
    pattern: str
    question: Question | None = None


class AgentAnswered(_Announcement, frozen=True, kw_only=True):
    """A person chose an option of what it asks."""

    name: str
    question: str
    option: str
    by: str = ""


class AgentIdle(_Announcement, frozen=True, kw_only=True):
    """Its program has done nothing for so long."""

    name: str
    idle_s: float
    since: float


class AgentReleased(_Announcement, frozen=True, kw_only=True):
    """It was ended because somebody wanted that."""

    name: str


class AgentExited(_Announcement, frozen=True, kw_only=True):
    """Its program ended."""

    name: str
    code: int | None
    signal: int | None
    reason: Reason
    uptime_s: float
    last_output: str


class AgentEnded(_Announcement, frozen=True, kw_only=True):
    """The same, as older clients know it."""

    name: str
    reason: Reason
    last_output: str


class AgentRestarting(_Announcement, frozen=True, kw_only=True):
    """Its program failed and is started again after a pause."""

    name: str
    code: int | None
    signal: int | None
    restart_count: int
    delay_s: float
    reason: Reason


class AgentRestarted(_Announcement, frozen=True, kw_only=True):
    """Its program runs again."""

    name: str
    restart_count: int
    pid: int


class AgentPermanentlyDead(_Announcement, frozen=True, kw_only=True):
    """Its program failed as often as its restart policy allows."""

    name: str
    reason: Reason


class AgentTokenRotated(_Announcement, frozen=True, kw_only=True):
    """Its token was replaced."""

    name: str
    cause: str


class ChannelJoined(_Announcement, frozen=True, kw_only=True):
    """It is a member of a channel."""

    name: str
    channel: str


class ChannelLeft(_Announcement, frozen=True, kw_only=True):
    """It is no member of a channel any more."""

    name: str
    channel: str


class ModeChanged(_Announcement, frozen=True, kw_only=True):
    """Its messages are held for a person, or typed again. `revision`: log position of the change."""

    name: str
    previous: str
    mode: str
    revision: int
    reason: str


class HoldDrained(_Announcement, frozen=True, kw_only=True):
    """Messages that were held for a person were let through."""

    name: str
    count: int
    cause: str


# --- messages to agents ---------------------------------------------------------------------------------------------------


class MessageSeen(_Announcement, frozen=True, kw_only=True):
    """A message is known here for the first time: it came for local agents, or was sent from here."""

    event_id: str
    """Its id for local clients: the one of the answer to its send, or the engine's."""
    msg_id: str
    sender: str
    target: str
    body: str
    thread_id: str
    workspace_id: str
    mode: str
    names: tuple[str, ...]


class AboutDelivery(_Announcement, frozen=True, kw_only=True):
    """Common shape of what is said of one message for one agent. `event_id`: its id for local clients; `msg_id`: the engine's."""

    name: str
    delivery_id: str
    event_id: str
    msg_id: str


class DeliveryQueued(AboutDelivery, frozen=True, kw_only=True):
    """A message begins to wait for its agent's terminal: what begins so has an end, whatever becomes of it."""

    sender: str
    target: str
    attempt: int
    by_hand: bool
    """It waits for a person to flush it."""


class DeliveryHeld(AboutDelivery, frozen=True, kw_only=True):
    """It waits, for a reason, until then at the latest."""

    seq: int | None
    reason: Reason
    until: float


class DeliveryTakenOver(AboutDelivery, frozen=True, kw_only=True):
    """It is in this broker's custody."""

    seq: int | None


class DeliveryInjected(AboutDelivery, frozen=True, kw_only=True):
    """It was typed."""

    evidence: str


class DeliveryRead(AboutDelivery, frozen=True, kw_only=True):
    """The program has it."""


class DeliveryConfirmed(AboutDelivery, frozen=True, kw_only=True):
    """The same, for who waits for it by sender."""

    sender: str


class DeliveryMarkedRead(AboutDelivery, frozen=True, kw_only=True):
    """The engine knows that it was read (`marked`), or there is nothing to tell it (`skipped_synthetic`, with why)."""

    status: str
    why: str = ""


class DeliveryRetried(AboutDelivery, frozen=True, kw_only=True):
    """The terminal did not take it; it is tried again."""

    attempts: int


class DeliveryVerified(AboutDelivery, frozen=True, kw_only=True):
    """The same, with how that is known, and why no better."""

    verification: str
    why: str = ""


class DeliveryReturned(AboutDelivery, frozen=True, kw_only=True):
    """The engine has it back and offers it again."""

    reason: Reason


class DeliveryFailed(AboutDelivery, frozen=True, kw_only=True):
    """It was not typed, as far as is known."""

    reason: Reason


class DeliveryAmbiguous(AboutDelivery, frozen=True, kw_only=True):
    """Whether it was typed is not known; this policy settled it."""

    seq: int | None
    policy: str


class SenderTold(_Announcement, frozen=True, kw_only=True):
    """What somebody sent did not arrive. `sender` "" = nobody of this node; `delivery_id` "" = the engine named none."""

    name: str
    delivery_id: str
    event_id: str
    msg_id: str
    sender: str
    attempts: int
    failure: str


class DeliveriesDropped(_Announcement, frozen=True, kw_only=True):
    """Messages for an agent will not be typed."""

    name: str
    reason: Reason
    event_ids: tuple[str, ...]


class Undeliverable(_Announcement, frozen=True, kw_only=True):
    """A frame cannot become a message for an agent."""

    name: str
    agent_id: str
    seq: int | None
    msg_id: str
    reason: Reason


class RangeMissing(_Announcement, frozen=True, kw_only=True):
    """Numbers of an agent's sequence have not come; the engine is asked for them again."""

    name: str
    first: int
    last: int


class RangeLost(_Announcement, frozen=True, kw_only=True):
    """Numbers of an agent's sequence never came; it goes on without them."""

    name: str
    first: int
    last: int


class DeadLetterAdded(AboutDelivery, frozen=True, kw_only=True):
    """It is kept as a dead letter."""

    letter_id: str
    reason: Reason


class DeadLetterRemoved(_Announcement, frozen=True, kw_only=True):
    """A dead letter is off the list."""

    letter_id: str
    msg_id: str
    reason: Reason


class AgentResult(_Announcement, frozen=True, kw_only=True):
    """An agent handed in what came of its work."""

    name: str
    result_id: str
    data: Any
    final: bool
    metadata: dict[str, Any]


# --- the engine -----------------------------------------------------------------------------------------------------------


class LinkMoved(_Announcement, frozen=True, kw_only=True):
    """The link to the engine is in another state. `reason` "" = none is needed."""

    state: str
    reason: str


class FrameRejected(_Announcement, frozen=True, kw_only=True):
    """A frame of the engine could not be used."""

    frame_type: str
    reason: Reason


class EngineErrorHeard(_Announcement, frozen=True, kw_only=True):
    """The engine said that something was wrong."""

    code: str
    message: str
    request_id: str


class MessagePublished(_Announcement, frozen=True, kw_only=True):
    """The engine has a message that was sent from here."""

    event_id: str
    message_id: str
    to: str


class PublishFailed(_Announcement, frozen=True, kw_only=True):
    """It did not take one."""

    event_id: str
    to: str
    detail: str


class ActionMoved(_Announcement, frozen=True, kw_only=True):
    """An invocation is in another state."""

    invocation_id: str
    state: str
    reason: Reason | None = None


Announcement = (
    AgentStarted
    | AgentReady
    | AgentBlocked
    | AgentAnswered
    | AgentIdle
    | AgentReleased
    | AgentExited
    | AgentEnded
    | AgentRestarting
    | AgentRestarted
    | AgentPermanentlyDead
    | AgentTokenRotated
    | ChannelJoined
    | ChannelLeft
    | ModeChanged
    | HoldDrained
    | MessageSeen
    | DeliveryQueued
    | DeliveryHeld
    | DeliveryTakenOver
    | DeliveryInjected
    | DeliveryRead
    | DeliveryConfirmed
    | DeliveryVerified
    | DeliveryMarkedRead
    | DeliveryRetried
    | DeliveryReturned
    | DeliveryFailed
    | DeliveryAmbiguous
    | SenderTold
    | DeliveriesDropped
    | Undeliverable
    | RangeMissing
    | RangeLost
    | DeadLetterAdded
    | DeadLetterRemoved
    | AgentResult
    | LinkMoved
    | FrameRejected
    | EngineErrorHeard
    | MessagePublished
    | PublishFailed
    | ActionMoved
)


class Announced(msgspec.Struct, frozen=True):
    """An announcement with its place in the durable sequence."""

    seq: int
    epoch: str
    at: float
    """Seconds since 1970."""
    what: Announcement
