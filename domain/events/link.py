"""Recorded events: node link."""

from __future__ import annotations

from typing import ClassVar

from domain import (
    node_connection,
)
from domain.events.base import Event, Kind
from domain.reasons import Reason


class _Link(Event, frozen=True, kw_only=True):
    machine: ClassVar[str] = "node"


class LinkBegun(_Link, frozen=True, kw_only=True):
    """A new incarnation of the link starts `offline`."""

    topic: ClassVar[str] = "link.begun.v1"
    incarnation: int


class TokenAsked(_Link, frozen=True, kw_only=True):
    """A node token is being minted."""

    topic: ClassVar[str] = "link.token_asked.v1"
    trigger: ClassVar[str] = node_connection.Trigger.MINT
    call_id: str
    node_name: str


class TokenGranted(_Link, frozen=True, kw_only=True):
    """The engine gave the node a token (fingerprint only)."""

    topic: ClassVar[str] = "link.token_granted.v1"
    kind: ClassVar[Kind] = "fact"
    node_id: str
    fingerprint: str


class LinkDialled(_Link, frozen=True, kw_only=True):
    """A dial starts."""

    topic: ClassVar[str] = "link.dialled.v1"
    trigger: ClassVar[str] = node_connection.Trigger.CONNECT
    dial: int


class LinkOpened(_Link, frozen=True, kw_only=True):
    """The socket is open; `node.register` goes out with this request id."""

    topic: ClassVar[str] = "link.opened.v1"
    kind: ClassVar[Kind] = "fact"
    trigger: ClassVar[str] = node_connection.Trigger.OPEN
    dial: int
    request_id: str
    until: float


class LinkOnline(_Link, frozen=True, kw_only=True):
    """The engine accepted the registration on this socket."""

    topic: ClassVar[str] = "link.online.v1"
    kind: ClassVar[Kind] = "fact"
    trigger: ClassVar[str] = node_connection.Trigger.ACCEPT
    dial: int


class LinkBackedOff(_Link, frozen=True, kw_only=True):
    """The link is down and will be tried again at `until`."""

    topic: ClassVar[str] = "link.backed_off.v1"
    trigger: ClassVar[str] = node_connection.Trigger.BACK_OFF
    reason: Reason
    detail: str
    delay_s: float
    until: float
    token_dead: bool = False
    """The next attempt mints a new token first."""


class LinkRefused(_Link, frozen=True, kw_only=True):
    """The engine refused this node; probed again at `until` with the same credential."""

    topic: ClassVar[str] = "link.refused.v1"
    trigger: ClassVar[str] = node_connection.Trigger.REFUSE
    reason: Reason
    detail: str
    until: float


class LinkDraining(_Link, frozen=True, kw_only=True):
    """The last frames are on their way."""

    topic: ClassVar[str] = "link.draining.v1"
    trigger: ClassVar[str] = node_connection.Trigger.DRAIN


class LinkShut(_Link, frozen=True, kw_only=True):
    """The link is closed for good in this run."""

    topic: ClassVar[str] = "link.shut.v1"
    trigger: ClassVar[str] = node_connection.Trigger.CLOSE
    detail: str


class LinkReportIgnored(_Link, frozen=True, kw_only=True):
    """Something came from a socket that is not the current one."""

    topic: ClassVar[str] = "link.report_ignored.v1"
    kind: ClassVar[Kind] = "fact"
    dial: int
    detail: str


class FrameRejected(_Link, frozen=True, kw_only=True):
    """A frame could not be used."""

    topic: ClassVar[str] = "link.frame_rejected.v1"
    kind: ClassVar[Kind] = "fact"
    reason: Reason
    frame_type: str
    detail: str


class FrameNoted(_Link, frozen=True, kw_only=True):
    """A frame that asks for nothing (ping, context.update, a reply to a sync)."""

    topic: ClassVar[str] = "link.frame_noted.v1"
    kind: ClassVar[Kind] = "fact"
    frame_type: str
    detail: str = ""


class EngineErrorReceived(_Link, frozen=True, kw_only=True):
    """The engine sent an `error` frame."""

    topic: ClassVar[str] = "link.error_received.v1"
    kind: ClassVar[Kind] = "fact"
    code: str
    message: str
    request_id: str = ""
    request: str = ""
    """Which request it answers; "" when it answers none that is open."""


class HeartbeatDue(_Link, frozen=True, kw_only=True):
    """The heartbeat interval has passed (or the load changed)."""

    topic: ClassVar[str] = "link.heartbeat_due.v1"
    kind: ClassVar[Kind] = "fact"


class InventoryPublished(_Link, frozen=True, kw_only=True):
    """The list of live agents goes to the engine."""

    topic: ClassVar[str] = "link.inventory_published.v1"
    request_id: str
    names: tuple[str, ...]
