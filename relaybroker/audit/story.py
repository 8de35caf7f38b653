"""`why`: the verdict on a message, invocation, agent or node, and the chain of events that led there.

Source: spec/architecture.md sections 1 and 8; user requirements U01, U02.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from relaybroker.adapters.eventstore.fields import attribute, listed, place
from relaybroker.adapters.eventstore.lookup import LOG, MESSAGE_ID, NAMES_MESSAGE
from relaybroker.adapters.eventstore.reader import LogReader
from relaybroker.audit import verdicts
from relaybroker.audit.finding import Subject, deliveries_of, failures_of, find, newest_registration, streams
from relaybroker.audit.verdicts import Receipt
from relaybroker.audit.waiting import waiting_for
from relaybroker.domain import events
from relaybroker.domain.delivery import LOCAL, NOTICE
from relaybroker.domain.events import Recorded
from relaybroker.domain.reasons import Reason
from relaybroker.domain.remedies import REMEDIES
from relaybroker.domain.story import Step, Story

OWN_STEPS = 200
"""Events of a story's own stream that are told: the newest (an agent or node may have any number)."""

SURROUNDING_STEPS = 30
"""Events of each other stream that are told with a story: the newest within its time."""

_UNTOLD = ("text", "body", "frame", "entropy", "settings", "spec", "harness", "argv", "input", "output", "data")
"""Fields that a story leaves out: what was said is not why it was or was not said."""

_ROUTINE = (events.HeartbeatDue.topic, events.InventoryPublished.topic, events.FrameNoted.topic)
"""Events of the link that come all the time and decide nothing."""

_WHO_BY_MACHINE = {"node": "engine", "mailbox": "engine", "action": "engine", "host": "host", "worker": "host"}
_WHO: dict[type[events.Event], str] = {
    events.DeliveryOffered: "engine",
    events.DeadLettersAsked: "caller",
    events.DeliveryFetched: "caller",
    events.MessageAccepted: "caller",
    events.MessagePublished: "engine",
    events.MessageRefused: "engine",
    events.RegistrationAccepted: "engine",
    events.ReleaseAsked: "caller",
    events.HeartbeatDue: "clock",
    events.BrokerStarted: "operator",
    events.BrokerStopping: "operator",
}


def tell(log: LogReader, wanted: str) -> list[Story]:
    """The stories of everything that this id means: one per delivery (with all of its attempts), invocation, message, agent or node.

    Raises:
        NotFoundError: the log does not know the id.
        AmbiguousError: a prefix that means several things.
    """
    return [_story(log, subject) for subject in find(log, wanted)[1]]


def _story(log: LogReader, subject: Subject) -> Story:
    kind = subject.stream.partition(":")[0]
    own = _own(log, subject)
    around = _around(log, kind, own)
    waiting = waiting_for(log, own[0].event.name) if isinstance(own[0].event, events.NameReserved) else []
    verdict = verdicts.of(kind, own, around, waiting, _receipts(log, own))
    chain = sorted({recorded.version: recorded for recorded in (*own, *around)}.items())
    first = own[0].at
    return Story(
        subject=subject.stream,
        outcome=verdict.outcome,
        state=verdict.state,
        reason=verdict.reason,
        verdict=verdict.sentence,
        steps=[_step(recorded, first) for _, recorded in chain],
        otherwise=REMEDIES[Reason(verdict.reason)] if verdict.reason else "",
        next=verdict.next,
        waiting=waiting,
        message_id=next((item.event.message_id for item in own if isinstance(item.event, events.MessagePublished)), ""),
    )


def _receipts(log: LogReader, own: list[Recorded]) -> list[Receipt]:
    """What became of a message that was published from here, for each agent here that was to get it."""
    if not isinstance(own[0].event, events.MessageAccepted):
        return []
    published = next((item.event for item in own if isinstance(item.event, events.MessagePublished)), None)
    known_as = published.message_id if published is not None and published.message_id else own[0].event.event_id
    receipts = [Receipt(*reached(log, subject)) for subject in deliveries_of(log, known_as)]
    return [
        one for one in receipts if one.verdict.reason != Reason.DUPLICATE
    ]  # that is the copy of another one of these


def reached(log: LogReader, subject: Subject) -> tuple[str, verdicts.Verdict]:
    """The agent of a delivery, and the verdict on it."""
    steps = _own(log, subject)
    offered = next(item.event for item in steps if isinstance(item.event, events.DeliveryOffered))
    return offered.name, verdicts.of("delivery", steps, [], [])


def _own(log: LogReader, subject: Subject) -> list[Recorded]:
    """The subject's own events: of its whole stream, or of a shared one those that concern it; the first and the newest."""
    if subject.positions:
        return log.read_at(subject.positions[:OWN_STEPS])
    positions = [
        row["position"]
        for stream in (subject.stream, *subject.later)
        for row in log.query(
            f"SELECT position FROM {LOG} WHERE originator_id = ? AND topic NOT IN ({listed(_ROUTINE)}) "
            "ORDER BY originator_version DESC LIMIT ?",
            (stream, OWN_STEPS),
        )
    ]
    newest = sorted(positions)[-OWN_STEPS:]
    is_whole = 0 < len(newest) < OWN_STEPS
    return log.read_at(newest if is_whole else [_birth(log, subject.stream), *newest])


def _birth(log: LogReader, stream: str) -> int:
    rows = log.query(
        f"SELECT position FROM {LOG} WHERE originator_id = ? ORDER BY originator_version LIMIT 1", (stream,)
    )
    return int(rows[0]["position"])


def _around(log: LogReader, kind: str, own: list[Recorded]) -> list[Recorded]:
    """Events of other streams that belong to the story.

    The engine's copies of the frame; and, while it was under way, what happened to the agent's program, the link, the broker and the host.
    """
    if kind not in ("delivery", "agent", "message", "action"):
        return []
    first, last = own[0].version, own[-1].version
    if not _is_settled(own):
        last = log.position
    surroundings = [
        *_copies(log, own),
        *_sending(log, own),
        *_wishes(log, own),
        *_losses(log, own),
        *_failures(log, own),
    ]
    for session in _sessions(log, own):
        stream = f"worker:{session}"
        state = log.read_stream(stream, upto=first, newest=1)  # in what state the program was
        surroundings += [*_door(log, stream, state[0].version), *state] if state else []
        surroundings += log.read_stream(stream, after=first, upto=last, newest=SURROUNDING_STEPS)
    for prefix, wanted in _UPHEAVALS.items():
        for subject in streams(log, prefix):
            within = log.read_stream(subject.stream, after=first, upto=last, newest=SURROUNDING_STEPS)
            surroundings += [recorded for recorded in within if isinstance(recorded.event, wanted)]
    return surroundings


def _door(log: LogReader, stream: str, before: int) -> list[Recorded]:
    """By which door messages entered the program at that time, if it was asked for one."""
    rows = log.query(
        f"SELECT position FROM {LOG} WHERE originator_id = ? AND topic = ? AND position < ? ORDER BY position DESC LIMIT 1",
        (stream, events.DoorChosen.topic, before),
    )
    return log.read_at(row["position"] for row in rows)


def _losses(log: LogReader, own: list[Recorded]) -> list[Recorded]:
    """The end of a message that was given back to the engine and was never offered again."""
    offered, last = own[0].event, own[-1]
    if not isinstance(last.event, events.DeliveryDropped) or last.event.settled:
        return []
    assert isinstance(offered, events.DeliveryOffered)
    rows = log.query(
        f"SELECT position FROM {LOG} WHERE originator_id = ? AND topic = ? AND position > ?",
        (f"mailbox:{offered.agent_id}", events.RangeLost.topic, last.version),
    )
    ranges = log.read_at([row["position"] for row in rows])
    return [
        recorded
        for recorded in ranges
        if isinstance(recorded.event, events.RangeLost)
        and recorded.event.first <= (offered.seq or 0) <= recorded.event.last
    ]


def _failures(log: LogReader, own: list[Recorded]) -> list[Recorded]:
    """What the engine said of a message from here that it could not deliver."""
    published = next((item.event for item in own if isinstance(item.event, events.MessagePublished)), None)
    return log.read_at(failures_of(log, published.message_id)) if published is not None and published.message_id else []


_UPHEAVALS: dict[str, Any] = {
    "broker:": events.BrokerStarted | events.BrokerStopping,
    "host": events.HostLost | events.HostAttached,
    "node:": events.LinkBackedOff | events.LinkOnline | events.LinkRefused,
}


def _is_settled(own: list[Recorded]) -> bool:
    return isinstance(
        own[-1].event,
        events.DeliveryAcked
        | events.DeliveryDropped
        | events.DeliveryDeadLettered
        | events.DeliveryVerified
        | events.ActionReported
        | events.MessagePublished
        | events.MessageRefused
        | events.AgentRetired
        | events.RegistrationFailed,
    )


def _copies(log: LogReader, own: list[Recorded]) -> list[Recorded]:
    """The engine's repetitions of the frames of this message for this agent."""
    offers = [recorded.event for recorded in own if isinstance(recorded.event, events.DeliveryOffered)]
    if not offers or offers[0].source != "engine":
        return []
    rows = log.query(
        f"SELECT position FROM {LOG} WHERE {NAMES_MESSAGE} AND {MESSAGE_ID} = ? AND originator_id = ? "
        "ORDER BY position DESC LIMIT ?",
        (offers[0].msg_id, f"mailbox:{offers[0].agent_id}", SURROUNDING_STEPS),
    )
    return log.read_at(row["position"] for row in rows)


def _sending(log: LogReader, own: list[Recorded]) -> list[Recorded]:
    """Of what was given here before the engine had it: how it went out, and the engine's copies."""
    offered = own[0].event
    if not isinstance(offered, events.DeliveryOffered) or offered.source != LOCAL:
        return []
    known = next((item.event.msg_id for item in own if isinstance(item.event, events.DeliveryRecognised)), "")
    sent = log.read_stream(f"message:{offered.msg_id}", newest=SURROUNDING_STEPS) if not known else []
    published = next((item.event for item in sent if isinstance(item.event, events.MessagePublished)), None)
    if published is not None:
        known = published.message_id
    rows = log.query(
        f"SELECT position FROM {LOG} WHERE {NAMES_MESSAGE} AND {MESSAGE_ID} = ? ORDER BY position DESC LIMIT ?",
        (known, SURROUNDING_STEPS),
    )
    return [*sent, *(log.read_at(row["position"] for row in rows) if known else [])]


def _wishes(log: LogReader, own: list[Recorded]) -> list[Recorded]:
    """What people asked that led to further attempts."""
    asked = [item for item in own if isinstance(item.event, events.DeliveryOffered) and item.event.letter_id]
    return log.read_at(int(item.causation.rpartition("@")[2]) for item in asked)


def _sessions(log: LogReader, own: list[Recorded]) -> Iterable[str]:
    """Programs that the story is about: where it was typed, or where it would have been."""
    typed = dict.fromkeys(item.event.session_id for item in own if isinstance(item.event, events.DeliveryInjecting))
    if typed:
        return typed
    match own[0].event:
        case events.NameReserved():
            begun = (events.NameReserved, events.AgentRestartPlanned)
            return [item.event.session_id for item in own if isinstance(item.event, begun)]
        case events.DeliveryOffered(name=name):
            return _session_at(log, name, own[-1].version)
        case _:
            return []


def _session_at(log: LogReader, name: str, position: int) -> list[str]:
    """The newest session, at a position, of the agent's registration that was the newest then."""
    registration = newest_registration(log, name, position)
    if registration is None:
        return []
    session = attribute("session_id", (events.NameReserved, events.AgentRestartPlanned))
    rows = log.query(
        f"SELECT {session} AS session FROM {LOG} WHERE originator_id = ? AND position <= ? AND {session} IS NOT NULL "
        "ORDER BY position DESC LIMIT 1",
        (registration.stream, position),
    )
    return [row["session"] for row in rows]


def _step(recorded: Recorded, first: float) -> Step:
    event = recorded.event
    detail = msgspec.to_builtins(event)
    for name in _UNTOLD:
        key, *_ = place(type(event), name) or ("",)
        detail.pop(key, None)
    by_machine = _WHO_BY_MACHINE.get(event.machine, "host" if event.machine == "delivery" else "broker")
    who = _WHO.get(type(event), by_machine if event.kind == "fact" else "broker")
    if isinstance(event, events.DeliveryOffered) and (event.letter_id or event.source in (LOCAL, NOTICE)):
        who = "caller" if event.letter_id else "broker"
    return Step(
        position=recorded.version,
        at=recorded.at,
        since_first_s=round(recorded.at - first, 6),
        who=who,
        stream=recorded.stream,
        event=event.topic,
        detail=detail,
    )
