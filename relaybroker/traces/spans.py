"""The spans of a delivery that has ended: one for the whole of it, and one for each thing that it waited for.

Ids follow from the message and the stream. So the same delivery gives the same spans whenever it is told, and a span that is sent again
after a crash is the same span to whoever stores it, not another one.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from relaybroker.domain import delivery, events
from relaybroker.domain.events import REGISTRY, Event, Recorded
from relaybroker.traces import names

ENDS = (events.DeliveryAcked, events.DeliveryDropped, events.DeliveryDeadLettered)
_NAMES = {delivery.DeliveryState.INJECTING: "typing", delivery.DeliveryState.INJECTED: "acknowledging"}


def _waits_by_event() -> dict[type[Event], str]:
    """What a delivery waits for after each event that moves it to an open state: the state's name, or its entry in `_NAMES`."""
    waits = {}
    for event in REGISTRY.values():
        if event.machine == delivery.TABLE.name and event.trigger:
            state = delivery.DeliveryState(delivery.TABLE.target_of(event.trigger))
            if state not in delivery.TABLE.terminal:
                waits[event] = _NAMES.get(state, str(state))
    return waits


_WAITS = _waits_by_event()

Value = str | int | float | bool


class Span(NamedTuple):
    """A span, before any library knows of it. Times are nanoseconds since 1970; `parent` 0 = none; `error` "" = it went well."""

    trace: int
    span: int
    parent: int
    name: str
    start: int
    end: int
    attributes: dict[str, Value]
    error: str = ""


def spans_of(records: Sequence[Recorded]) -> list[Span]:
    """The spans of a delivery by the records of its stream; none where it has not ended."""
    offer = next((one for one in records if isinstance(one.event, events.DeliveryOffered)), None)
    end = next((one for one in records if isinstance(one.event, ENDS)), None)
    if offer is None or end is None:
        return []
    assert isinstance(offer.event, events.DeliveryOffered)
    trace = _number(offer.event.msg_id, 16)
    root = _number(offer.stream, 8)
    whole = Span(
        trace=trace,
        span=root,
        parent=0,
        name=f"deliver {offer.event.name}",
        start=_ns(offer.at),
        end=_ns(end.at),
        attributes=_attributes(offer.event, records, end),
        error=_error(end),
    )
    return [whole, *_waits(trace, root, records, end)]


def _waits(trace: int, root: int, records: Sequence[Recorded], end: Recorded) -> Iterator[Span]:
    moves = [one for one in records if one.version <= end.version and (type(one.event) in _WAITS or one is end)]
    for one, following in itertools.pairwise(moves):
        reason = getattr(one.event, "reason", None)
        attributes: dict[str, Value] = {names.POSITION: one.version}
        if reason is not None:
            attributes[names.REASON] = str(reason)
        yield Span(
            trace=trace,
            span=_number(f"{one.stream}@{one.version}", 8),
            parent=root,
            name=_WAITS[type(one.event)],
            start=_ns(one.at),
            end=_ns(following.at),
            attributes=attributes,
        )


def _attributes(offer: events.DeliveryOffered, records: Sequence[Recorded], end: Recorded) -> dict[str, Value]:
    typed = next((one.event for one in records if isinstance(one.event, events.DeliveryInjected)), None)
    attributes: dict[str, Value] = {
        names.SYSTEM: names.THIS_SYSTEM,
        names.OPERATION_NAME: "deliver",
        names.OPERATION_TYPE: names.PROCESS,
        names.MESSAGE_ID: offer.msg_id,
        names.DESTINATION: offer.name,
        names.BODY_SIZE: len(offer.body.encode("utf-8", "surrogatepass")),
        names.SENDER: offer.sender,
        names.TARGET: offer.target,
        names.DELIVERY_ID: offer.delivery_id,
        names.ATTEMPT: offer.attempt,
        names.POSITION: end.version,
        names.STATE: end.event.topic.split(".")[1],
    }
    if offer.thread_id:
        attributes[names.CONVERSATION_ID] = offer.thread_id
    if typed is not None:
        attributes[names.EVIDENCE] = typed.evidence
    if error := _error(end):
        attributes[names.ERROR_TYPE] = error
    return attributes


def _error(end: Recorded) -> str:
    return str(end.event.reason) if isinstance(end.event, events.DeliveryDropped | events.DeliveryDeadLettered) else ""


def _ns(at: float) -> int:
    return round(at * 1_000_000) * 1000


def _number(text: str, size: int) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=size).digest(), "big") or 1
