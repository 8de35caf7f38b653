"""Recorded events: node link."""

from __future__ import annotations

from typing import ClassVar

from relaybroker.domain import (
    link as link_machine,
)
from relaybroker.domain.events.base import Event, Kind
from relaybroker.domain.reasons import Reason


class _Link(Event, frozen=True, kw_only=True):
    machine: ClassVar[str] = "node"


class LinkBegun(_Link, frozen=True, kw_only=True):
    """A new incarnation of the link starts `offline`."""

    topic: ClassVar[str] = "link.begun.v1"
    trigger: ClassVar[str] = link_machine.Trigger.BEGIN
    incarnation: int
    probe: bool = False
    """It retries the refused token once and replaces none."""


class TokenAsked(_Link, frozen=True, kw_only=True):
    """A node token is being minted. With `probe`, the engine is first asked who has the name."""

    topic: ClassVar[str] = "link.token_asked.v1"
    trigger: ClassVar[str] = link_machine.Trigger.MINT
    call_id: str
    node_name: str
    probe: bool = False


class NodeNameSettled(_Link, frozen=True, kw_only=True):
    """The name that the node uses: its own, or a distinct form of it because another node has that name."""

    topic: ClassVar[str] = "link.node_name_settled.v1"
    node_name: str
    holder: str = ""
    """The node that has the name; "" = nobody else."""
    call_id: str = ""
    """The enrolment that follows, or ""."""
    request_id: str = ""
    """The `node.register` that follows, or ""."""


class NodeReregistering(_Link, frozen=True, kw_only=True):
    """`node.register` is sent again on the same socket: for a new manifest, or so that open rows are offered again."""

    topic: ClassVar[str] = "link.reregistering.v1"
    request_id: str
    until: float


class TokenGranted(_Link, frozen=True, kw_only=True):
    """The engine gave the node a token (fingerprint only)."""

    topic: ClassVar[str] = "link.token_granted.v1"
    kind: ClassVar[Kind] = "fact"
    node_id: str
    fingerprint: str


class EnrolAsked(Event, frozen=True, kw_only=True):
    """A person asks to enrol the node now. `begins`: the link was waiting or refused, and starts over with a fresh budget."""

    topic: ClassVar[str] = "node.enrol_asked.v1"
    machine: ClassVar[str] = "node"
    kind: ClassVar[Kind] = "fact"
    request_id: str
    begins: bool


class LinkDialled(_Link, frozen=True, kw_only=True):
    """A dial starts."""

    topic: ClassVar[str] = "link.dialled.v1"
    trigger: ClassVar[str] = link_machine.Trigger.CONNECT
    dial: int


class LinkOpened(_Link, frozen=True, kw_only=True):
    """The socket is open; `node.register` is sent with this request id."""

    topic: ClassVar[str] = "link.opened.v1"
    kind: ClassVar[Kind] = "fact"
    trigger: ClassVar[str] = link_machine.Trigger.OPEN
    dial: int
    request_id: str
    until: float


class LinkOnline(_Link, frozen=True, kw_only=True):
    """The engine accepted the registration on this socket."""

    topic: ClassVar[str] = "link.online.v1"
    kind: ClassVar[Kind] = "fact"
    trigger: ClassVar[str] = link_machine.Trigger.ACCEPT
    dial: int
    knows_cursor: bool = False
    """The reply has keys of engines from 6.0 on, which answer registrations with their delivery cursor."""
    not_accepted: tuple[str, ...] = ()
    """Capabilities that the engine did not take, with its reason where it gave one."""


class LinkBackedOff(_Link, frozen=True, kw_only=True):
    """The link is down and will be tried again at `until`."""

    topic: ClassVar[str] = "link.backed_off.v1"
    trigger: ClassVar[str] = link_machine.Trigger.BACK_OFF
    reason: Reason
    detail: str
    delay_s: float
    until: float
    token_dead: bool = False
    """The next attempt mints a new token first."""


class LinkRefused(_Link, frozen=True, kw_only=True):
    """The engine refused this node; probed again at `until` with the same credential."""

    topic: ClassVar[str] = "link.refused.v1"
    trigger: ClassVar[str] = link_machine.Trigger.REFUSE
    reason: Reason
    detail: str
    until: float


class LinkDraining(_Link, frozen=True, kw_only=True):
    """The last frames are on their way."""

    topic: ClassVar[str] = "link.draining.v1"
    trigger: ClassVar[str] = link_machine.Trigger.DRAIN


class LinkShut(_Link, frozen=True, kw_only=True):
    """The link is closed for good in this run."""

    topic: ClassVar[str] = "link.shut.v1"
    trigger: ClassVar[str] = link_machine.Trigger.CLOSE
    detail: str


class LinkReportIgnored(_Link, frozen=True, kw_only=True):
    """A report came from a socket that is not the current one."""

    topic: ClassVar[str] = "link.report_ignored.v1"
    kind: ClassVar[Kind] = "fact"
    dial: int
    detail: str


class FrameRejected(_Link, frozen=True, kw_only=True):
    """A frame was unusable."""

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
    request_id: str = ""


class InventoryPublished(_Link, frozen=True, kw_only=True):
    """The list of live agents is sent to the engine."""

    topic: ClassVar[str] = "link.inventory_published.v1"
    request_id: str
    names: tuple[str, ...]


class InventoryRejected(_Link, frozen=True, kw_only=True):
    """The engine rejected some agents of the inventory."""

    topic: ClassVar[str] = "link.inventory_rejected.v1"
    kind: ClassVar[Kind] = "fact"
    agents: tuple[str, ...]
    """As the engine named them, with its reason where it gave one."""


class DeliveryFailureHeard(_Link, frozen=True, kw_only=True):
    """The engine could not deliver a message sent from here (`context.update` with `delivery.failed`)."""

    topic: ClassVar[str] = "link.delivery_failure_heard.v1"
    kind: ClassVar[Kind] = "fact"
    message_id: str
    delivery_id: str
    target: str
    sender_ids: tuple[str, ...]
    failure: str
    """The engine's reason, as `depth_cap` or `ttl_expired`."""
