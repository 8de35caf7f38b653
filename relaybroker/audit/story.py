"""`why`: the verdict on a message, invocation or agent, and the chain of events that led there.

An id may be a message id, a delivery id, `agent@seq`, an invocation id, a local event id (`http_…`, `init_…`), an agent name, or a unique
prefix of an id.

Source: design/architecture.md section 1; issue "audit"; user requirements U01, U02.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from domain import events
from domain.events import Recorded
from domain.reasons import SENTENCES, Reason

_WHO = {
    "delivery.offered.v1": "engine",
    "mailbox.frame_buffered.v1": "engine",
    "mailbox.frame_ignored.v1": "engine",
    "action.received.v1": "engine",
    "action.repeated.v1": "engine",
    "delivery.injected.v1": "host",
    "delivery.verified.v1": "host",
    "delivery.handed_back.v1": "host",
    "message.accepted.v1": "caller",
    "message.published.v1": "engine",
    "message.refused.v1": "engine",
    "agent.registration_accepted.v1": "engine",
    "agent.release_asked.v1": "caller",
}

SHORTEST_PREFIX = 4
"""Characters of an id that are enough when they fit only one."""

DELIVERED, NOT_DELIVERED, PENDING = "delivered", "not delivered", "pending"


class Step(msgspec.Struct, frozen=True):
    """One event in a story."""

    position: int
    at: float
    since_first_s: float
    who: str
    stream: str
    event: str
    detail: dict[str, Any]


class Story(msgspec.Struct, frozen=True):
    """What became of something, and why.

    `outcome` is `delivered`, `not delivered` or `pending`; `verdict` one sentence; `state` the machine's state; `reason` a member of the
    closed list, or "".
    """

    subject: str
    outcome: str
    state: str
    reason: str
    verdict: str
    steps: list[Step]
    next: str


class NotFoundError(Exception):
    """Nothing in the log has this id."""


class AmbiguousError(Exception):
    """A prefix that fits several ids; `choices` are some of them."""

    def __init__(self, choices: list[str]) -> None:
        super().__init__(", ".join(choices))
        self.choices = choices


def tell(log: Iterable[tuple[int, Recorded]], wanted: str) -> list[Story]:
    """The stories of everything that this id means: one per delivery, invocation, message or agent.

    Raises:
        NotFoundError: the log does not know the id.
        AmbiguousError: a prefix that means several things.
    """
    records = [recorded for _, recorded in log]
    for known in (wanted, *_by_prefix(records, wanted)):
        if streams := _exact(records, known):
            return [_story(stream, known, records) for stream in streams]
    raise NotFoundError(wanted)


def _ids(recorded: Recorded) -> Iterable[str]:
    """By what a stream can be asked for."""
    event = recorded.event
    match event:
        case events.DeliveryOffered():
            yield from (event.msg_id, event.delivery_id)
            if event.seq is not None:
                yield f"{event.name}@{event.seq}"
        case events.ActionReceived():
            yield event.invocation_id
        case events.MessageAccepted():
            yield event.event_id
        case events.MessagePublished():
            yield event.message_id
        case events.NameReserved():
            yield event.name
        case events.FrameIgnored() | events.FrameBuffered():
            found = event.msg_id if isinstance(event, events.FrameIgnored) else str(event.frame.get("msg_id", ""))
            yield found


def _exact(records: list[Recorded], wanted: str) -> list[str]:
    found: dict[str, None] = {}
    if not wanted:
        return []
    for recorded in records:
        if any(known == wanted for known in _ids(recorded)):
            found[recorded.stream] = None
    deliveries = [stream for stream in found if not stream.startswith("mailbox:")]
    return deliveries or list(found)


def _by_prefix(records: list[Recorded], wanted: str) -> list[str]:
    if len(wanted) < SHORTEST_PREFIX:
        return []
    known = {text for recorded in records for text in _ids(recorded) if text.startswith(wanted)}
    if len(known) > 1:
        raise AmbiguousError(sorted(known)[:8])
    return list(known)


def _story(stream: str, known: str, records: list[Recorded]) -> Story:
    kind = stream.partition(":")[0]
    own = [recorded for recorded in records if recorded.stream == stream]
    if kind == "mailbox":  # one stream for all frames of an agent: only this frame's events are its story
        own = [recorded for recorded in own if known in _ids(recorded)]
    chain = own + _around(own, records)
    chain.sort(key=lambda recorded: recorded.version)
    first = chain[0].at
    steps = [_step(recorded, first) for recorded in chain]
    outcome, state, reason, verdict, following = _verdict(kind, own)
    return Story(stream, outcome, state, reason, verdict, steps, following)


def _around(own: list[Recorded], records: list[Recorded]) -> list[Recorded]:
    """Events of other streams that belong to the story: copies of the frame, crashes and restarts in between."""
    first, last = own[0].version, own[-1].version
    ids = {text for recorded in own for text in _ids(recorded)}
    mailboxes = {f"mailbox:{item.event.agent_id}" for item in own if isinstance(item.event, events.DeliveryOffered)}
    found = []
    for recorded in records:
        if recorded.stream == own[0].stream or recorded.version < first - 50:
            continue
        event = recorded.event
        upheaval = isinstance(event, events.BrokerStarted | events.HostLost | events.BrokerStopping)
        copy = isinstance(event, events.FrameIgnored) and recorded.stream in mailboxes and event.msg_id in ids
        if copy or (upheaval and first < recorded.version < last):
            found.append(recorded)
    return found


def _step(recorded: Recorded, first: float) -> Step:
    event = recorded.event
    detail = msgspec.to_builtins(event)
    for key in ("text", "body", "entropy", "settings", "spec"):
        detail.pop(key, None)
    return Step(
        position=recorded.version,
        at=recorded.at,
        since_first_s=round(recorded.at - first, 6),
        who=_WHO.get(event.topic, "broker" if event.kind == "decision" else "outside"),
        stream=recorded.stream,
        event=event.topic,
        detail=detail,
    )


def _verdict(kind: str, own: list[Recorded]) -> tuple[str, str, str, str, str]:
    match kind:
        case "delivery":
            return _delivery_verdict(own)
        case "action":
            return _action_verdict(own)
        case "message":
            return _message_verdict(own)
        case "agent":
            return _agent_verdict(own)
        case _:
            event = own[-1].event
            if isinstance(event, events.FrameBuffered):
                return PENDING, "buffered", str(Reason.GAP_WAIT), SENTENCES[Reason.GAP_WAIT], "relaybroker status"
            assert isinstance(event, events.FrameIgnored)
            return NOT_DELIVERED, "ignored", str(event.reason), SENTENCES[event.reason], "relaybroker log tail"


def _delivery_verdict(own: list[Recorded]) -> tuple[str, str, str, str, str]:
    offered = own[0].event
    assert isinstance(offered, events.DeliveryOffered)
    who = f"message {offered.msg_id} for {offered.name}"
    last = [recorded.event for recorded in own if recorded.event.trigger][-1:] or [offered]
    match last[0]:
        case events.DeliveryAcked(up_to=up_to):
            typed = _find(own, events.DeliveryInjected)
            how = f"typed (evidence: {typed.evidence})" if typed else "typed"
            told = f"acknowledged to the engine (up to {up_to})" if up_to else "nothing is owed to the engine"
            return DELIVERED, "acked", "", f"{who} was {how} and {told}.", f"relaybroker agent show {offered.name}"
        case events.DeliveryInjected():
            return (
                PENDING,
                "injected",
                "",
                f"{who} was typed; the acknowledgement waits for earlier ones or the link.",
                "relaybroker status",
            )
        case events.DeliveryDropped(reason=reason, settled=settled):
            kept = "" if settled else " The engine keeps it and offers it again."
            return (
                NOT_DELIVERED,
                "dropped",
                str(reason),
                f"{who} was not typed: {SENTENCES[reason]}{kept}",
                f"relaybroker agent show {offered.name}",
            )
        case events.DeliveryDeadLettered(reason=reason):
            return (
                NOT_DELIVERED,
                "dead_lettered",
                str(reason),
                f"{who} is a dead letter: {SENTENCES[reason]}",
                "relaybroker delivery ls --state dead_lettered",
            )
        case events.DeliveryHeld(reason=reason):
            return (
                PENDING,
                "held",
                str(reason),
                f"{who} waits: {SENTENCES[reason]}",
                f"relaybroker agent show {offered.name}",
            )
        case events.DeliveryInjecting():
            return PENDING, "injecting", "", f"{who} is with the terminal.", "relaybroker status"
        case _:
            return PENDING, "queued", "", f"{who} waits for its turn.", f"relaybroker agent show {offered.name}"


def _action_verdict(own: list[Recorded]) -> tuple[str, str, str, str, str]:
    done = _find(own, events.ActionDone)
    reported = _find(own, events.ActionReported)
    received = own[0].event
    assert isinstance(received, events.ActionReceived)
    who = f"action {received.action} ({received.invocation_id})"
    if done is None:
        return PENDING, "running", "", f"{who} runs.", "relaybroker status"
    state = "reported" if reported else "done"
    if done.error:
        cause = f" {SENTENCES[done.reason]}" if done.reason else ""
        return (
            NOT_DELIVERED,
            state,
            str(done.reason or ""),
            f"{who} failed with {done.error}.{cause} {done.detail}".strip(),
            "relaybroker log tail",
        )
    return (
        DELIVERED,
        state,
        "",
        f"{who} was done{' and reported' if reported else ', the report waits for the link'}.",
        "relaybroker agent ls",
    )


def _message_verdict(own: list[Recorded]) -> tuple[str, str, str, str, str]:
    accepted = own[0].event
    assert isinstance(accepted, events.MessageAccepted)
    who = f"message {accepted.event_id} to {accepted.to}"
    published, refused = _find(own, events.MessagePublished), _find(own, events.MessageRefused)
    if published:
        return (
            DELIVERED,
            "published",
            "",
            f"{who} was published as {published.message_id}.",
            f"relaybroker why {published.message_id}",
        )
    if refused:
        return (
            NOT_DELIVERED,
            "refused",
            str(refused.reason),
            f"{who} was refused: {SENTENCES[refused.reason]} {refused.code} {refused.detail}".strip(),
            "relaybroker message send",
        )
    waiting = _find(own, events.MessageWaiting)
    cause = f" Last try: {waiting.detail}" if waiting else ""
    return PENDING, "accepted", "", f"{who} waits to be published.{cause}", "relaybroker status"


def _agent_verdict(own: list[Recorded]) -> tuple[str, str, str, str, str]:
    reserved = own[0].event
    assert isinstance(reserved, events.NameReserved)
    who = f"agent {reserved.name} (generation {reserved.generation})"
    failed, leaving = _find(own, events.RegistrationFailed), _find(own, events.AgentLeaving)
    if failed:
        return (
            NOT_DELIVERED,
            "failed",
            str(failed.reason),
            f"{who} was not started: {SENTENCES[failed.reason]} {failed.detail}".strip(),
            "relaybroker agent spawn",
        )
    if leaving:
        return (
            NOT_DELIVERED,
            "gone",
            str(leaving.reason),
            f"{who} is gone: {SENTENCES[leaving.reason]} {leaving.detail}".strip(),
            "relaybroker agent spawn",
        )
    if _find(own, events.AgentLive):
        return DELIVERED, "live", "", f"{who} is live.", f"relaybroker agent show {reserved.name}"
    return PENDING, "starting", "", f"{who} is being started.", "relaybroker status"


def _find(own: list[Recorded], kind: type[Any]) -> Any:
    return next((recorded.event for recorded in reversed(own) if isinstance(recorded.event, kind)), None)
