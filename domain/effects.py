"""Everything the core can ask for, as plain data. The runtime hands these to the adapters after the events behind them are safe.

How safe is said by one table, `GRADES` (ADR-0082).

Effects are a function of events and state: replay emits none, and after a restart `resume` asks again for whatever is still owed.

Source: design/architecture.md section 3; ADR-0004.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import msgspec

from relaybroker.domain.announcements import Announced
from relaybroker.domain.engine_requests import EngineRequest
from relaybroker.domain.replies import Answer


class _Effect(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Common shape of effects."""


# --- engine ------------------------------------------------------------------------------------------------------------


class DialEngine(_Effect, frozen=True, kw_only=True):
    """Open the node socket with the vault's node token. Answered by LinkOpened or LinkDialFailed with the same `dial`."""

    dial: int


class SendFrame(_Effect, frozen=True, kw_only=True):
    """Write one text frame on the socket of this dial; dropped if that socket is gone (the core learns of it by LinkClosed)."""

    dial: int
    frame: dict[str, Any]


class CloseLink(_Effect, frozen=True, kw_only=True):
    """Close the socket of this dial after what was sent before. Answered by LinkClosed."""

    dial: int
    detail: str


class EngineCall(_Effect, frozen=True, kw_only=True):
    """Ask the engine for something. Answered by exactly one EngineAnswered or EngineUnanswered."""

    call_id: str
    request: EngineRequest
    auth: str
    """Vault reference: `workspace`, `own` or `agent:<agent_id>`."""
    capture: str = ""
    """Where a `token` in the answer is kept: `node`, `own`, `agent:<agent_id>`, or "" for the agent that the answer names.
    `supplied:<fingerprint>` gives the token that a caller brought along to the agent that the answer names."""
    timeout_s: float = 20.0


# --- PTY host ----------------------------------------------------------------------------------------------------------


class AttachHost(_Effect, frozen=True, kw_only=True):
    """Connect to the living PTY host or start one. Answered by HostAttached or HostLost."""


class StartProgram(_Effect, frozen=True, kw_only=True):
    """Start a program in a PTY, or on pipes; starting a session id that the host has already changes nothing."""

    session_id: str
    name: str
    argv: tuple[str, ...]
    cwd: str
    env: dict[str, str]
    """Added to the environment that the broker builds; holds no secret."""
    env_ref: str
    """Of further variables that the broker keeps, and whose values are in no effect; "" = none."""
    profile: str
    agent_id: str
    """Whose token goes into RELAY_AGENT_TOKEN; "" = none."""
    rows: int
    cols: int
    idle_threshold_s: float
    doors: tuple[str, ...] = ()
    """By which deliveries are to enter it, in order of preference; the terminal is behind them."""
    resumes: str = ""
    """Where the program before wrote down its conversation, which goes on if the program can; "" = none."""


class TypeText(_Effect, frozen=True, kw_only=True):
    """Type text and Enter, once per delivery id."""

    session_id: str
    delivery_id: str
    attempt: int
    text: str
    marker: str
    steer: bool
    expires_at: float = 0.0
    """Not to be typed after this moment; 0 = any time."""
    while_busy: bool = False
    """Also while the program works."""
    task: bool = False
    """The first task of an agent, typed also into a shell."""


class LookUp(_Effect, frozen=True, kw_only=True):
    """Ask what a program's own records say of a delivery that is in doubt. Answered by DeliveryLookedUp, or not at all."""

    session_id: str
    delivery_id: str
    attempt: int
    door: str
    place: str


class StopProgram(_Effect, frozen=True, kw_only=True):
    """End a program's process group: TERM, then KILL after the grace."""

    session_id: str
    grace_s: float
    reason: str


class ForgetProgram(_Effect, frozen=True, kw_only=True):
    """The session has ended and is settled; the host may drop it."""

    session_id: str


class ConfirmReports(_Effect, frozen=True, kw_only=True):
    """Every host report up to this number is durable."""

    host_id: str
    report: int


class EndHost(_Effect, frozen=True, kw_only=True):
    """End the PTY host with whatever it still runs."""

    grace_s: float


# --- sidecar -----------------------------------------------------------------------------------------------------------


class InvokeHandler(_Effect, frozen=True, kw_only=True):
    """Give an invocation to the sidecar. Its answer comes as HandlerFinished."""

    connection: str
    invocation_id: str
    name: str
    input: Any


class CloseSidecar(_Effect, frozen=True, kw_only=True):
    """Close a sidecar's socket after what was sent before."""

    connection: str
    detail: str


class StartSidecar(_Effect, frozen=True, kw_only=True):
    """Start the supervised sidecar program; one that still runs from an earlier start is ended first."""

    argv: tuple[str, ...]
    cwd: str


# --- local API and process ---------------------------------------------------------------------------------------------


class Reply(_Effect, frozen=True, kw_only=True):
    """Answer a local API request."""

    request_id: str
    answer: Answer


class Announce(_Effect, frozen=True, kw_only=True):
    """Tell local clients."""

    announced: Announced


class ExitBroker(_Effect, frozen=True, kw_only=True):
    """All is said: flush, close and end the process with this status."""

    status: int
    reason: str


Effect = (
    DialEngine
    | SendFrame
    | CloseLink
    | EngineCall
    | AttachHost
    | StartProgram
    | TypeText
    | LookUp
    | StopProgram
    | ForgetProgram
    | ConfirmReports
    | EndHost
    | InvokeHandler
    | CloseSidecar
    | StartSidecar
    | Reply
    | Announce
    | ExitBroker
)


class Grade(Enum):
    """How safe the events behind an effect must be before it is carried out."""

    WRITTEN = "written"
    """They survive the end of every process: enough for what dies with the machine, too."""
    DURABLE = "durable"
    """They survive the machine: for what leaves it, or promises something to somebody."""


GRADES: dict[type[Effect], Grade] = {
    # The PTY host and its programs die with the machine, and the host knows what it has typed as long as it lives.
    AttachHost: Grade.WRITTEN,
    StartProgram: Grade.WRITTEN,
    TypeText: Grade.WRITTEN,
    LookUp: Grade.WRITTEN,
    StopProgram: Grade.WRITTEN,
    ForgetProgram: Grade.WRITTEN,
    ConfirmReports: Grade.WRITTEN,
    EndHost: Grade.WRITTEN,
    # The engine relies on what it hears.
    DialEngine: Grade.DURABLE,
    SendFrame: Grade.DURABLE,
    CloseLink: Grade.DURABLE,
    EngineCall: Grade.DURABLE,
    # Handlers act on the world, and the engine asks again for what the log has lost.
    InvokeHandler: Grade.DURABLE,
    CloseSidecar: Grade.DURABLE,
    StartSidecar: Grade.DURABLE,
    # Answers promise. Events stand in one order with them, and their numbers are never given twice.
    Reply: Grade.DURABLE,
    Announce: Grade.DURABLE,
    ExitBroker: Grade.DURABLE,
}
