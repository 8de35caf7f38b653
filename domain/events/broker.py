"""Recorded events: broker."""

from __future__ import annotations

from typing import Any, ClassVar

from relaybroker.domain.errors import Refusal
from relaybroker.domain.events.base import Earlier, Event, Kind
from relaybroker.domain.inputs import Settings


class BrokerStarted(Event, frozen=True, kw_only=True):
    """A broker process took over this log."""

    topic: ClassVar[str] = "broker.started.v1"
    machine: ClassVar[str] = "broker"
    kind: ClassVar[Kind] = "fact"
    boot_id: str
    entropy: str
    settings: Settings
    has_node_token: bool
    has_own_token: bool = False
    own_agent_id: str = ""
    machine_boot: str = ""
    """Another one than before, without a clean stop in between: the machine crashed, and the log may have lost its end (ADR-0082)."""


class ClockLeapt(Event, frozen=True, kw_only=True):
    """The wall clock was set forward, or the machine slept: what is held here waits that much longer."""

    topic: ClassVar[str] = "broker.clock_leapt.v1"
    machine: ClassVar[str] = "broker"
    kind: ClassVar[Kind] = "fact"
    by_s: float


class BrokerStopping(Event, frozen=True, kw_only=True):
    """The broker was asked to stop."""

    topic: ClassVar[str] = "broker.stopping.v1"
    machine: ClassVar[str] = "broker"
    kind: ClassVar[Kind] = "fact"
    reason: str
    agents_too: bool
    until: float


class ShutdownRepeated(Event, frozen=True, kw_only=True):
    """The broker was asked to stop again."""

    topic: ClassVar[str] = "broker.shutdown_repeated.v1"
    machine: ClassVar[str] = "broker"
    kind: ClassVar[Kind] = "fact"
    reason: str


class BrokerLeft(Event, frozen=True, kw_only=True):
    """Everything is done; the process ends."""

    topic: ClassVar[str] = "broker.left.v1"
    machine: ClassVar[str] = "broker"
    reason: str


_REFUSALS_V1 = {
    400: "invalid",
    401: "unknown_caller",
    403: "forbidden",
    404: "absent",
    408: "slow",
    409: "conflict",
    413: "too_large",
    429: "full",
    501: "not_built",
    502: "engine",
    503: "unavailable",
    504: "no_answer",
}


def _request_refused_v1(body: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in body.items() if name != "status"}
    return kept | {"refusal": _REFUSALS_V1.get(body["status"], "failed")}


class RequestRefused(Event, frozen=True, kw_only=True):
    """A local request was refused before anything happened."""

    topic: ClassVar[str] = "broker.request_refused.v2"
    earlier: ClassVar[tuple[Earlier, ...]] = (Earlier("broker.request_refused.v1", _request_refused_v1),)
    machine: ClassVar[str] = "broker"
    request_id: str
    request: str
    refusal: Refusal
    code: str
    detail: str


class ReleaseIgnored(Event, frozen=True, kw_only=True):
    """A release named an agent that is not here; it is answered as done."""

    topic: ClassVar[str] = "broker.release_ignored.v1"
    machine: ClassVar[str] = "broker"
    request_id: str
    name: str
    reason: str = ""


class OwnIdentityRequested(Event, frozen=True, kw_only=True):
    """The broker asks the engine for its own agent identity."""

    topic: ClassVar[str] = "broker.own_identity_requested.v1"
    machine: ClassVar[str] = "broker"
    call_id: str
    name: str


class OwnIdentityGranted(Event, frozen=True, kw_only=True):
    """The engine gave the broker its own agent identity."""

    topic: ClassVar[str] = "broker.own_identity_granted.v1"
    machine: ClassVar[str] = "broker"
    kind: ClassVar[Kind] = "fact"
    agent_id: str
    name: str


class OwnIdentityRefused(Event, frozen=True, kw_only=True):
    """The engine did not give the broker an identity of its own; the broker asks again at `until`, or never (`until` 0)."""

    topic: ClassVar[str] = "broker.own_identity_refused.v1"
    machine: ClassVar[str] = "broker"
    kind: ClassVar[Kind] = "fact"
    status: int
    code: str
    detail: str
    until: float


class CallUnmatched(Event, frozen=True, kw_only=True):
    """The engine answered a call that is not open, or no longer open."""

    topic: ClassVar[str] = "broker.call_unmatched.v1"
    machine: ClassVar[str] = "broker"
    kind: ClassVar[Kind] = "fact"
    call_id: str
    status: int
    detail: str = ""
