"""Recorded events: sidecars, what they offer, and their supervision."""

from __future__ import annotations

from typing import ClassVar

from relaybroker.domain import sidecar as sidecar_machine
from relaybroker.domain.events.base import Event, Kind
from relaybroker.domain.inputs import Supervision
from relaybroker.domain.manifest import Manifest
from relaybroker.domain.reasons import Reason


class _Sidecar(Event, frozen=True, kw_only=True):
    machine: ClassVar[str] = "sidecar"


class SidecarConnected(_Sidecar, frozen=True, kw_only=True):
    """A local program connected to offer handlers. A previously connected one is gone."""

    topic: ClassVar[str] = "sidecar.connected.v1"
    kind: ClassVar[Kind] = "fact"
    connection: str


class SidecarServing(_Sidecar, frozen=True, kw_only=True):
    """From now on exactly these handlers are served."""

    topic: ClassVar[str] = "sidecar.serving.v1"
    kind: ClassVar[Kind] = "fact"
    trigger: ClassVar[str] = sidecar_machine.Trigger.SERVE
    names: tuple[str, ...]


class SidecarPaused(_Sidecar, frozen=True, kw_only=True):
    """It serves no handler now."""

    topic: ClassVar[str] = "sidecar.paused.v1"
    kind: ClassVar[Kind] = "fact"
    trigger: ClassVar[str] = sidecar_machine.Trigger.PAUSE


class SidecarGone(_Sidecar, frozen=True, kw_only=True):
    """The connection is over; its invocations are returned to the engine."""

    topic: ClassVar[str] = "sidecar.gone.v1"
    kind: ClassVar[Kind] = "fact"
    trigger: ClassVar[str] = sidecar_machine.Trigger.LEAVE
    reason: Reason
    detail: str
    grace_until: float = 0.0
    """Until then its own `spawn:` actions wait for it to come back."""


class SidecarReportIgnored(_Sidecar, frozen=True, kw_only=True):
    """A report came from a sidecar connection that is not the current one."""

    topic: ClassVar[str] = "sidecar.report_ignored.v1"
    kind: ClassVar[Kind] = "fact"
    what: str


class ManifestChanged(_Sidecar, frozen=True, kw_only=True):
    """What the node offers has changed. None = the operator's manifest alone."""

    topic: ClassVar[str] = "sidecar.manifest_changed.v1"
    manifest: Manifest | None
    request_id: str = ""
    """Local request that waits for the engine's answer, or ""."""
    register_id: str = ""
    """The `node.register` that asks the engine, or ""."""


class ManifestSettled(_Sidecar, frozen=True, kw_only=True):
    """The engine accepted the manifest, or refused it (the operator's manifest applies again), or it is stored for the next connection."""

    topic: ClassVar[str] = "sidecar.manifest_settled.v1"
    kind: ClassVar[Kind] = "fact"
    code: str = ""
    """The engine's code of a refusal; "" = none."""
    detail: str = ""


class SupervisionChanged(_Sidecar, frozen=True, kw_only=True):
    """How the sidecar's program is kept running. None = it is not."""

    topic: ClassVar[str] = "sidecar.supervision_changed.v1"
    supervision: Supervision | None


class SidecarRestartPlanned(_Sidecar, frozen=True, kw_only=True):
    """No sidecar is connected: its program is started at `until`, unless one connects before."""

    topic: ClassVar[str] = "sidecar.restart_planned.v1"
    until: float
    failures: int


class SidecarStarting(_Sidecar, frozen=True, kw_only=True):
    """The supervised program is started."""

    topic: ClassVar[str] = "sidecar.starting.v1"
    restarts: int


class SidecarProcessEnded(_Sidecar, frozen=True, kw_only=True):
    """The supervised program has ended, or could not be started."""

    topic: ClassVar[str] = "sidecar.process_ended.v1"
    kind: ClassVar[Kind] = "fact"
    detail: str


class SupervisionEnded(_Sidecar, frozen=True, kw_only=True):
    """The program failed as often as its policy allows and is not restarted."""

    topic: ClassVar[str] = "sidecar.supervision_ended.v1"
    restarts: int
    failures: int
