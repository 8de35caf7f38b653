"""Messages as the log knows them: what was said, by whom, to whom, and what became of it for each recipient here.

Everything that went through this broker is in its log: what the engine offered to agents here, and what people and agents here sent.

Source: spec/conversation.md section 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from relaybroker.adapters.eventstore.lookup import LOG
from relaybroker.audit.finding import deliveries_of
from relaybroker.audit.story import reached
from relaybroker.audit.verdicts import DELIVERED, NOT_DELIVERED
from relaybroker.domain import events
from relaybroker.domain.delivery import DeliveryState
from relaybroker.domain.extraction import Class, classify
from relaybroker.domain.reasons import SENTENCES, Reason

if TYPE_CHECKING:
    from relaybroker.adapters.eventstore.reader import LogReader
    from relaybroker.audit.verdicts import Verdict

PAGE = 500
"""Events that are looked at in one step."""
LOOKED_AT = 100_000
"""Events that one question looks at, at most: the newest."""
TYPED, ACKED, READ, WAITS, FAILED = "typed", "acknowledged", "read", "waits", "not delivered"


class Mark(msgspec.Struct, frozen=True):
    """What became of a message for one agent here: `mark` is one of this module's words, `why` a sentence, or ""."""

    agent: str
    mark: str
    reason: str = ""
    why: str = ""


class Said(msgspec.Struct, kw_only=True):
    """One message. `at` is seconds since 1970; `message_id` is "" until the engine has it."""

    message_id: str
    event_id: str
    at: float
    sender: str
    to: str
    thread_id: str
    text: str
    marks: list[Mark] = msgspec.field(default_factory=list)


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which messages; every field that is given must fit.

    `agent` is a sender or a recipient, `channel` a place without its `#`, `thread` the id of its first message, `text` what it holds in any
    case, `state` the state of one of its deliveries.
    """

    agent: str = ""
    channel: str = ""
    thread: str = ""
    text: str = ""
    state: str = ""
    since: float | None = None
    until: float | None = None
    limit: int = 50


def newest(log: LogReader, wanted: Wanted) -> list[Said]:
    """The newest messages that fit, oldest first."""
    fitting: list[Said] = []
    seen: set[str] = set()
    for said in _all(log):
        key = said.message_id or said.event_id
        if wanted.since is not None and said.at < wanted.since:
            break
        if key in seen or not _fits(said, wanted):
            continue
        states = _mark(log, said)
        if not _is_with(said, states, wanted):
            continue
        seen.add(key)
        fitting.append(said)
        if len(fitting) >= wanted.limit:
            break
    return fitting[::-1]


def marks(log: LogReader, message_ids: list[str]) -> dict[str, list[Mark]]:
    """What became of these messages, for each agent here that was to get one."""
    return {message_id: _marks(log, message_id)[0] for message_id in message_ids}


def _all(log: LogReader) -> Iterator[Said]:
    """Every message, newest event first; one that several agents got comes several times."""
    before = log.position + 1
    looked = 0
    topics = (events.DeliveryOffered.topic, events.MessageAccepted.topic)
    while looked < LOOKED_AT:
        query = f"SELECT position FROM {LOG} WHERE topic IN (?, ?) AND position < ? ORDER BY position DESC LIMIT ?"
        positions = [row["position"] for row in log.query(query, (*topics, before, PAGE))]
        if not positions:
            return
        for recorded in reversed(log.read_at(sorted(positions))):
            if (said := _said(log, recorded.event, recorded.at, recorded.stream)) is not None:
                yield said
        before, looked = positions[-1], looked + len(positions)


def _said(log: LogReader, event: Any, at: float, stream: str) -> Said | None:
    match event:
        case events.DeliveryOffered(source="engine", letter_id="") if classify(event.payload_type) is Class.INJECT:
            return Said(
                message_id=event.msg_id, event_id="", at=at, sender=event.sender, to=event.target,
                thread_id=event.thread_id, text=event.body,
            )  # fmt: skip
        case events.MessageAccepted():
            last = _newest_of(log, stream)
            message_id = last.message_id if isinstance(last, events.MessagePublished) else ""
            refused = [_refusal(event.to, last)] if isinstance(last, events.MessageRefused) else []
            return Said(
                message_id=message_id, event_id=event.event_id, at=at, sender=event.sender or "the operator",
                to=event.to, thread_id=event.thread_id, text=event.text, marks=refused,
            )  # fmt: skip
        case _:
            return None


def _newest_of(log: LogReader, stream: str) -> Any:
    """The last event that moved a message from here."""
    return next((item.event for item in reversed(log.read_stream(stream, newest=3)) if item.event.trigger), None)


def _refusal(to: str, refused: events.MessageRefused) -> Mark:
    return Mark(to, FAILED, refused.reason, SENTENCES[refused.reason])


def _fits(said: Said, wanted: Wanted) -> bool:
    return (
        (wanted.until is None or said.at <= wanted.until)
        and (not wanted.thread or wanted.thread in (said.thread_id, said.message_id, said.event_id))
        and (not wanted.channel or said.to.lower() == f"#{wanted.channel.lower()}")
        and wanted.text.casefold() in said.text.casefold()
    )


def _is_with(said: Said, states: set[str], wanted: Wanted) -> bool:
    who = {said.sender.lower(), said.to.lower(), *(one.agent.lower() for one in said.marks)}
    return (not wanted.agent or wanted.agent.lower() in who) and (not wanted.state or wanted.state in states)


def _mark(log: LogReader, said: Said) -> set[str]:
    """Add its marks; the states of its deliveries."""
    marks, states = _marks(log, said.message_id or said.event_id)
    said.marks = [*said.marks, *marks] if not said.message_id else marks
    return states


def _marks(log: LogReader, message_id: str) -> tuple[list[Mark], set[str]]:
    reports = [reached(log, subject) for subject in deliveries_of(log, message_id)]
    verdicts = [one for one in reports if one[1].reason != Reason.DUPLICATE]  # that is the copy of another one of these
    return [_as_mark(agent, verdict) for agent, verdict in verdicts], {verdict.state for _, verdict in verdicts}


def _as_mark(agent: str, verdict: Verdict) -> Mark:
    why = SENTENCES[Reason(verdict.reason)] if verdict.reason else ""
    if verdict.reason == Reason.READ_ELSEWHERE:
        return Mark(agent, READ, verdict.reason, why)
    if verdict.outcome == NOT_DELIVERED:
        return Mark(agent, FAILED, verdict.reason, why)
    if verdict.outcome == DELIVERED:
        return Mark(agent, ACKED)
    return Mark(agent, TYPED) if verdict.state == DeliveryState.INJECTED else Mark(agent, WAITS, verdict.reason, why)
