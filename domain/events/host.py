"""Recorded events: PTY host."""

from __future__ import annotations

from typing import ClassVar

from relaybroker.domain.events.base import Event, Kind
from relaybroker.domain.inputs import HostSession


class HostAttached(Event, frozen=True, kw_only=True):
    """The PTY host answered; these are its sessions."""

    topic: ClassVar[str] = "host.attached.v1"
    machine: ClassVar[str] = "host"
    kind: ClassVar[Kind] = "fact"
    host_id: str
    host_pid: int
    sessions: tuple[HostSession, ...]


class HostLost(Event, frozen=True, kw_only=True):
    """The connection to the PTY host ended; the broker attaches again (or starts a new host) at `until`."""

    topic: ClassVar[str] = "host.lost.v1"
    machine: ClassVar[str] = "host"
    kind: ClassVar[Kind] = "fact"
    detail: str
    until: float


class HostAttachDue(Event, frozen=True, kw_only=True):
    """It is time to look for the PTY host again."""

    topic: ClassVar[str] = "host.attach_due.v1"
    machine: ClassVar[str] = "host"
    kind: ClassVar[Kind] = "fact"


class HostReportIgnored(Event, frozen=True, kw_only=True):
    """A host report that changes nothing: it is repeated, or about a settled session."""

    topic: ClassVar[str] = "host.report_ignored.v1"
    machine: ClassVar[str] = "host"
    kind: ClassVar[Kind] = "fact"
    report: int
    session_id: str
    what: str
