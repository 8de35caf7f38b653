"""What a local request is answered with: facts and refusals. How they look to a client is the adapters' business.

Source: spec/local-api.md section 1.3; spec/node-protocol.md section 7.
"""

from __future__ import annotations

from typing import Any

import msgspec

from relaybroker.domain.errors import InvalidRequest, Refusal
from relaybroker.domain.reasons import Reason


class _Reply(msgspec.Struct, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Common shape of answers."""


class Refused(_Reply, frozen=True, kw_only=True):
    """It was not done. `code` is stable; `about` names what the refusal is about."""

    kind: Refusal
    code: str
    message: str
    about: dict[str, Any] = {}


def refused(error: InvalidRequest) -> Refused:
    """The answer that says what this error says."""
    return Refused(kind=error.kind, code=error.code, message=error.message, about=error.extra)


class Spawned(_Reply, frozen=True, kw_only=True):
    """The agent is live. `warning` says what is otherwise than the caller may think; "" = nothing."""

    name: str
    model: str
    session: str
    pid: int
    agent_id: str
    channels: tuple[str, ...]
    channels_pending: tuple[str, ...]
    warning: str
    has_terminal: bool = True
    repeated: bool = False
    """It is the answer that the same key had before."""


class Released(_Reply, frozen=True, kw_only=True):
    """The agent is gone, or was not there."""

    name: str
    existed: bool
    engine_unaware: bool = False
    """The engine hears of it when the link is back."""
    end_unconfirmed: bool = False
    """The end of its program was not seen."""


class ModeSet(_Reply, frozen=True, kw_only=True):
    """An agent has this delivery mode now; so many messages are held, and so many were let through because the hold was lifted."""

    mode: str
    held: int
    revision: int
    flushed: int


class Flushed(_Reply, frozen=True, kw_only=True):
    """So many held messages were let through, so many are held still."""

    flushed: int
    remaining: int


class NewAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter that is tried again."""

    letter_id: str
    attempt: int
    name: str
    event_id: str


class Redelivered(_Reply, frozen=True, kw_only=True):
    """What became of each letter: it is tried again, or stays where it is for a reason."""

    attempts: tuple[NewAttempt, ...]
    skipped: tuple[tuple[str, Reason], ...]


class Purged(_Reply, frozen=True, kw_only=True):
    """These letters are off the list."""

    letter_ids: tuple[str, ...]


class Sent(_Reply, frozen=True, kw_only=True):
    """A message was taken on; the engine has it (`published`), or gets it later."""

    event_id: str
    published: bool
    message_id: str = ""
    """The engine's; "" = it did not say, or has it not yet."""
    target: str = ""
    """The local agent that it is for; "" = none."""
    target_lives: bool = False
    held: bool = False
    """That agent's messages wait for a person."""
    workspace_id: str
    sent_as: str
    threaded: bool
    mode: str
    repeated: bool = False
    """It is the answer that the same key had before."""


class Done(_Reply, frozen=True, kw_only=True):
    """The engine did what an agent asked for, and said this."""

    data: Any
    repeated: bool = False
    """It is the answer that the same key had before."""


class FetchedMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message that waits for the agent that asks, and is given to it."""

    msg_id: str
    sender: str
    target: str
    thread_id: str
    text: str
    waited_s: float
    doubtful: bool
    """The agent may have had it before."""


class Fetched(_Reply, frozen=True, kw_only=True):
    """What waits for an agent; the core must hear whether it went out whole (`fetch_id`, "" = there is nothing)."""

    fetch_id: str
    messages: tuple[FetchedMessage, ...]


class ResultKept(_Reply, frozen=True, kw_only=True):
    """An agent's result is recorded."""

    name: str
    result_id: str
    final: bool
    repeated: bool = False
    """It is the final result once more."""


class Enrolling(_Reply, frozen=True, kw_only=True):
    """The link begins anew, or is up or under way already."""

    begun: bool


class ManifestTaken(_Reply, frozen=True):
    """A sidecar's manifest is the node's."""


class HandlersTaken(_Reply, frozen=True, kw_only=True):
    """A sidecar's handlers are known; whether it has any."""

    live: bool


class ResultTaken(_Reply, frozen=True):
    """The result of a sidecar's handler is recorded."""


class OfferWithdrawn(_Reply, frozen=True):
    """A sidecar offers nothing any more."""


SpawnAnswer = Spawned | Refused
SendAnswer = Sent | Refused
ActAnswer = Done | Refused
Answer = (
    Refused
    | Spawned
    | Released
    | ModeSet
    | Flushed
    | Redelivered
    | Purged
    | Sent
    | Done
    | Fetched
    | ResultKept
    | Enrolling
    | ManifestTaken
    | HandlersTaken
    | ResultTaken
    | OfferWithdrawn
)
