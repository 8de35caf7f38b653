"""Recorded events: outbound messages."""

from __future__ import annotations

from typing import Any, ClassVar

from relaybroker.domain import (
    message as message_machine,
)
from relaybroker.domain.events.base import Earlier, Event, Kind
from relaybroker.domain.reasons import Reason
from relaybroker.domain.replies import SendAnswer


class _Message(Event, frozen=True, kw_only=True):
    machine: ClassVar[str] = "message"


class MessageAccepted(_Message, frozen=True, kw_only=True):
    """A local caller submitted a message; it will be published."""

    topic: ClassVar[str] = "message.accepted.v1"
    kind: ClassVar[Kind] = "fact"
    event_id: str
    request_id: str
    to: str
    text: str
    sender: str
    """As the caller gave it."""
    author_id: str
    """Agent id whose token publishes it; "" = the broker's own."""
    answer_by: float
    """The caller is answered by then, whatever the engine does."""
    thread_id: str = ""
    mode: str = "wait"
    data: dict[str, Any] | None = None
    attachments: tuple[str, ...] = ()
    """File ids at the engine."""
    key: str = ""
    """The caller's own key; "" = none."""
    fingerprint: str = ""
    """Of everything that the caller asked for with that key."""
    priority: int | None = None
    """0 (most urgent) to 4, as the caller gave it; None = the default of the target."""
    strict: bool = False
    """It goes to its thread or nowhere."""
    recipient_id: str = ""
    """The agent here that is its only recipient; "" = there is none, or that is not known."""


class MessagePublishing(_Message, frozen=True, kw_only=True):
    """The engine is asked to publish it."""

    topic: ClassVar[str] = "message.publishing.v1"
    trigger: ClassVar[str] = message_machine.Trigger.PUBLISH
    call_id: str
    tries: int


class MessageWaiting(_Message, frozen=True, kw_only=True):
    """Publishing failed for now; it is retried at `until`."""

    topic: ClassVar[str] = "message.waiting.v1"
    kind: ClassVar[Kind] = "fact"
    trigger: ClassVar[str] = message_machine.Trigger.WAIT
    status: int
    detail: str
    until: float


class MessageUnthreaded(_Message, frozen=True, kw_only=True):
    """The engine does not know the thread: the message is published as a plain one."""

    topic: ClassVar[str] = "message.unthreaded.v1"
    kind: ClassVar[Kind] = "fact"
    trigger: ClassVar[str] = message_machine.Trigger.WAIT
    thread_id: str
    detail: str


class MessagePublished(_Message, frozen=True, kw_only=True):
    """The engine has the message."""

    topic: ClassVar[str] = "message.published.v1"
    kind: ClassVar[Kind] = "fact"
    trigger: ClassVar[str] = message_machine.Trigger.CONFIRM
    message_id: str


class MessageRefused(_Message, frozen=True, kw_only=True):
    """It will not be published."""

    topic: ClassVar[str] = "message.refused.v1"
    kind: ClassVar[Kind] = "fact"
    trigger: ClassVar[str] = message_machine.Trigger.REFUSE
    reason: Reason
    status: int
    code: str
    detail: str


class MessageAnswered(_Message, frozen=True, kw_only=True):
    """The local caller was answered before the engine had the message; publishing continues."""

    topic: ClassVar[str] = "message.answered.v1"


class MessageJoined(_Message, frozen=True, kw_only=True):
    """The same key was repeated while the first caller is still waiting; this caller waits too."""

    topic: ClassVar[str] = "message.joined.v1"
    request_id: str


_REFUSALS_V1 = {404: "absent", 502: "engine"}
_ENVELOPE_V1 = frozenset({"success", "code", "message", "error", "retryable", "statusCode"})


def _reply_kept_v1(body: dict[str, Any]) -> dict[str, Any]:
    """It was kept as the JSON that the caller got."""
    said = body["body"]
    if body["status"] >= 300:
        refused = {
            "type": "Refused",
            "kind": _REFUSALS_V1.get(body["status"], "failed"),
            "code": said.get("code", ""),
            "message": said.get("message", ""),
            "about": {name: value for name, value in said.items() if name not in _ENVELOPE_V1},
        }
        return {"answer": refused}
    sent = {
        "type": "Sent",
        "event_id": said.get("event_id", ""),
        "published": said.get("relaycast_published", False),
        "message_id": said.get("message_id") or "",
        "target": (said.get("targets") or [""])[0],
        "target_lives": bool(said.get("recipient_live")),
        "workspace_id": said.get("workspace_id", ""),
        "sent_as": said.get("sent_as", ""),
        "threaded": said.get("thread_used", False),
        "mode": said.get("mode_used", ""),
    }
    return {"answer": sent}


class MessageReplyKept(_Message, frozen=True, kw_only=True):
    """The answer that callers with this message's key get from now on."""

    topic: ClassVar[str] = "message.reply_kept.v2"
    earlier: ClassVar[tuple[Earlier, ...]] = (Earlier("message.reply_kept.v1", _reply_kept_v1),)
    answer: SendAnswer


class SendRepeated(Event, frozen=True, kw_only=True):
    """A key was repeated: the caller got the stored answer, and nothing was sent."""

    topic: ClassVar[str] = "broker.send_repeated.v1"
    machine: ClassVar[str] = "broker"
    key: str
    request_id: str
