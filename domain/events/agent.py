"""Recorded events: agent registration."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from relaybroker.domain import (
    agent as agent_machine,
)
from relaybroker.domain.events.base import Event, Kind
from relaybroker.domain.inputs import SpawnSpec
from relaybroker.domain.permissions import BypassOptions
from relaybroker.domain.reasons import Reason
from relaybroker.domain.replies import ActAnswer, SpawnAnswer
from relaybroker.domain.sessions import SessionOptions


class Harness(msgspec.Struct, frozen=True, kw_only=True):
    """How a program wants to be run and talked to: the part of its harness profile that the core needs."""

    profile: str
    comment_prefix: str = ""
    """Put before every typed line, so that a shell or interpreter runs nothing of a message."""
    hint: str = "none"
    """`none`, `line` or `block`: whether the relay hint for language models is typed above a message."""
    model_flag: str = ""
    """Flag that selects a model; "" = the program has none."""
    tools: str = ""
    """What the program's model calls the agent's tools, `{tool}` for the name; "" = it has none, the command answers."""
    doors: tuple[str, ...] = ()
    """By which deliveries enter it, where its spawn does not say: the first that opens, the terminal behind them."""
    surface: tuple[str, ...] = ()
    """What the agent is told of its own messages, where its spawn does not say: `reaction`, `receipt`."""
    session: SessionOptions | None = None
    """How the program is told which of its sessions it has; None = it has none."""
    bypass: BypassOptions | None = None
    """How the program is told to ask for no permission; None = it cannot be."""


class _Agent(Event, frozen=True, kw_only=True):
    machine: ClassVar[str] = "agent"


class NameReserved(_Agent, frozen=True, kw_only=True):
    """A spawn begins: the name is reserved here; nothing remote has happened yet."""

    topic: ClassVar[str] = "agent.name_reserved.v1"
    name: str
    generation: int
    session_id: str
    source: str
    """`http_api` or `relaycast_ws`."""
    request_id: str
    """Local request that waits for the outcome, or ""."""
    invocation_id: str
    """Engine invocation that waits for the outcome, or ""."""
    spec: SpawnSpec
    harness: Harness
    argv: tuple[str, ...]
    until: float
    """The spawn must have an outcome by then."""
    key: str = ""
    """The caller's own; "" = none."""
    fingerprint: str = ""
    """Of everything that the caller asked for with that key."""


class RegistrationAsked(_Agent, frozen=True, kw_only=True):
    """`agent.register` is sent to the engine."""

    topic: ClassVar[str] = "agent.registration_asked.v1"
    trigger: ClassVar[str] = agent_machine.Trigger.REGISTER
    request_id: str
    until: float = 0.0
    """The engine answers by then, or the registration continues over HTTP."""


class ModelSwitched(_Agent, frozen=True, kw_only=True):
    """The agent's program was told to use another model."""

    topic: ClassVar[str] = "agent.model_switched.v1"
    kind: ClassVar[Kind] = "fact"
    request_id: str
    model: str


class EarlyFrameKept(_Agent, frozen=True, kw_only=True):
    """A message arrived for an agent whose registration the engine has not answered yet; it waits for that answer."""

    topic: ClassVar[str] = "agent.early_frame_kept.v1"
    kind: ClassVar[Kind] = "fact"
    seq: int
    msg_id: str
    frame: dict[str, Any]


class RegistrationAccepted(_Agent, frozen=True, kw_only=True):
    """The engine registered the agent; its token is in the vault."""

    topic: ClassVar[str] = "agent.registration_accepted.v1"
    kind: ClassVar[Kind] = "fact"
    trigger: ClassVar[str] = agent_machine.Trigger.ACCEPT
    agent_id: str
    fingerprint: str
    ack_seq: int | None = None


class RegistrationFellBack(_Agent, frozen=True, kw_only=True):
    """The registration continues over HTTP: the frame got no answer, or the engine only creates names."""

    topic: ClassVar[str] = "agent.registration_fell_back.v1"
    trigger: ClassVar[str] = agent_machine.Trigger.FALL_BACK
    reason: Reason
    detail: str
    step: str


class RegistrationCalled(_Agent, frozen=True, kw_only=True):
    """One call of the HTTP registration is sent: `create`, `look`, `take_over`, `locate`, `rotate` or `bind`."""

    topic: ClassVar[str] = "agent.registration_called.v1"
    step: str
    call_id: str
    tries: int


class RegistrationDelayed(_Agent, frozen=True, kw_only=True):
    """A call of the HTTP registration failed and is repeated at `until`."""

    topic: ClassVar[str] = "agent.registration_delayed.v1"
    kind: ClassVar[Kind] = "fact"
    status: int
    detail: str
    until: float


class AgentBinding(_Agent, frozen=True, kw_only=True):
    """The agent has an id and a token; it is bound to this node over HTTP."""

    topic: ClassVar[str] = "agent.binding.v1"
    trigger: ClassVar[str] = agent_machine.Trigger.BIND
    agent_id: str
    fingerprint: str


class RegistrationProven(_Agent, frozen=True, kw_only=True):
    """The engine's agent of this name may be taken over."""

    topic: ClassVar[str] = "agent.registration_proven.v1"
    agent_id: str
    evidence: str
    """The engine's state of it, which says that nobody runs it; `bound_here`; or `late_register`: this node's own registration of it."""


class RegistrationPaused(_Agent, frozen=True, kw_only=True):
    """The engine answered 429: no registration over HTTP before `until`."""

    topic: ClassVar[str] = "agent.registration_paused.v1"
    kind: ClassVar[Kind] = "fact"
    until: float


class AgentTokenRotated(_Agent, frozen=True, kw_only=True):
    """A live agent's token was replaced; the broker uses the new one, the program still has the old."""

    topic: ClassVar[str] = "agent.token_rotated.v1"
    kind: ClassVar[Kind] = "fact"
    cause: str
    """`late_register`: a registration that nobody waited for any more was answered after all."""
    request_id: str
    fingerprint: str


class RegistrationFailed(_Agent, frozen=True, kw_only=True):
    """The spawn ends before the engine accepted the agent."""

    topic: ClassVar[str] = "agent.registration_failed.v1"
    trigger: ClassVar[str] = agent_machine.Trigger.FAIL
    reason: Reason
    code: str
    detail: str


class AgentLive(_Agent, frozen=True, kw_only=True):
    """The program runs and the engine knows it: the spawn succeeded."""

    topic: ClassVar[str] = "agent.live.v1"
    trigger: ClassVar[str] = agent_machine.Trigger.GO_LIVE
    pid: int


class AgentRestartPlanned(_Agent, frozen=True, kw_only=True):
    """The program failed and is started again at `until`, in a session of its own. What waits for the agent waits for that.

    `restarts`: which start again of this agent it is; `failures`: how often in a row its program failed; `argv`: the command line, with
    the session of its own that it goes on with.
    """

    topic: ClassVar[str] = "agent.restart_planned.v1"
    trigger: ClassVar[str] = agent_machine.Trigger.AWAIT_RESTART
    session_id: str
    restarts: int
    failures: int
    until: float
    code: int | None
    signal: int | None
    reason: Reason
    detail: str
    argv: tuple[str, ...] = ()
    """() = as before."""


class AgentRestarted(_Agent, frozen=True, kw_only=True):
    """The program that was started again survived its first moments."""

    topic: ClassVar[str] = "agent.restarted.v1"
    kind: ClassVar[Kind] = "fact"
    trigger: ClassVar[str] = agent_machine.Trigger.GO_LIVE
    pid: int
    restarts: int


class AgentGivenUp(_Agent, frozen=True, kw_only=True):
    """The program failed as often as its restart policy allows, in all (`restarts`) or in a row (`failures`): it stays ended."""

    topic: ClassVar[str] = "agent.given_up.v1"
    restarts: int
    failures: int
    reason: Reason


class AgentLeaving(_Agent, frozen=True, kw_only=True):
    """The agent ends; the engine must be told."""

    topic: ClassVar[str] = "agent.leaving.v1"
    trigger: ClassVar[str] = agent_machine.Trigger.DEREGISTER
    reason: Reason
    detail: str = ""


class AgentRetired(_Agent, frozen=True, kw_only=True):
    """`agent.deregister` was given to a live link: the registration is over."""

    topic: ClassVar[str] = "agent.retired.v1"
    trigger: ClassVar[str] = agent_machine.Trigger.RETIRE
    superseded: bool = False
    """It was not sent: the same agent id has been registered again meanwhile."""


class ReleaseAsked(_Agent, frozen=True, kw_only=True):
    """Someone wants the agent released. Several callers may wait for the same release."""

    topic: ClassVar[str] = "agent.release_asked.v1"
    kind: ClassVar[Kind] = "fact"
    request_id: str = ""
    invocation_id: str = ""
    reason: str = ""


class LateRegistrationRefused(_Agent, frozen=True, kw_only=True):
    """The engine accepted a registration that nobody is waiting for; it is undone."""

    topic: ClassVar[str] = "agent.late_registration_refused.v1"
    kind: ClassVar[Kind] = "fact"
    agent_id: str
    request_id: str


class LateRegistrationKept(_Agent, frozen=True, kw_only=True):
    """A late answer to a registration concerns an agent that lives here or is being registered: nothing is undone."""

    topic: ClassVar[str] = "agent.late_registration_kept.v1"
    kind: ClassVar[Kind] = "fact"
    agent_id: str
    request_id: str


class ChannelAsked(_Agent, frozen=True, kw_only=True):
    """The agent joins a channel under its own name."""

    topic: ClassVar[str] = "agent.channel_asked.v1"
    channel: str
    call_id: str


class ChannelAnswered(_Agent, frozen=True, kw_only=True):
    """The engine answered the join."""

    topic: ClassVar[str] = "agent.channel_answered.v1"
    kind: ClassVar[Kind] = "fact"
    channel: str
    status: int
    detail: str = ""
    until: float = 0.0
    """The engine is asked again then; 0 = the answer is final."""


class FetchAsked(_Agent, frozen=True, kw_only=True):
    """The agent, identified by its own token, fetches its waiting messages."""

    topic: ClassVar[str] = "agent.fetch_asked.v1"
    kind: ClassVar[Kind] = "fact"
    request_id: str
    fetch_id: str
    limit: int


class FetchDone(_Agent, frozen=True, kw_only=True):
    """The answer to a fetch was sent completely, or broke off."""

    topic: ClassVar[str] = "agent.fetch_done.v1"
    kind: ClassVar[Kind] = "fact"
    fetch_id: str
    answered: bool


class ActAsked(_Agent, frozen=True, kw_only=True):
    """The agent, identified by its own token, asks the engine for something under its own name."""

    topic: ClassVar[str] = "agent.act_asked.v1"
    kind: ClassVar[Kind] = "fact"
    call_id: str
    act: str
    arguments: dict[str, Any]
    request_id: str
    key: str = ""
    """The agent's own key; "" = none."""


class ActAnswered(_Agent, frozen=True, kw_only=True):
    """The engine answered the request, or did not (`status` 0)."""

    topic: ClassVar[str] = "agent.act_answered.v1"
    kind: ClassVar[Kind] = "fact"
    call_id: str
    status: int
    code: str
    detail: str
    answer: ActAnswer | None = None
    """What whoever asks again with its key is answered; None = it has none."""
    joined: str = ""
    """Channel of which the agent is a member by this; "" = none."""
    left: str = ""
    """Channel of which it is none any more."""


class SpawnAnswered(_Agent, frozen=True, kw_only=True):
    """Callers waiting for the agent's channels after it went live are told how the spawn ended."""

    topic: ClassVar[str] = "agent.spawn_answered.v1"


class SpawnRepeated(Event, frozen=True, kw_only=True):
    """The key of a spawn was repeated: nothing is started; the caller gets the stored answer, or waits for the first one's."""

    topic: ClassVar[str] = "broker.spawn_repeated.v1"
    machine: ClassVar[str] = "broker"
    key: str
    request_id: str


class SpawnKeyAnswered(Event, frozen=True, kw_only=True):
    """The answer that callers with this key get from now on; a refusal that may pass frees the key."""

    topic: ClassVar[str] = "broker.spawn_key_answered.v1"
    machine: ClassVar[str] = "broker"
    key: str
    answer: SpawnAnswer


class ActRepeated(Event, frozen=True, kw_only=True):
    """A key was repeated: the caller got the stored answer, and nothing was done."""

    topic: ClassVar[str] = "broker.act_repeated.v1"
    machine: ClassVar[str] = "broker"
    key: str
    request_id: str


class SummarySaved(_Agent, frozen=True, kw_only=True):
    """The agent left a summary of its work for whoever goes on with it; the newest one counts."""

    topic: ClassVar[str] = "agent.summary_saved.v1"
    kind: ClassVar[Kind] = "fact"
    request_id: str
    summary: str


class ResultSubmitted(_Agent, frozen=True, kw_only=True):
    """The agent submitted a result of its work. `final`: it is the last one."""

    topic: ClassVar[str] = "agent.result_submitted.v1"
    kind: ClassVar[Kind] = "fact"
    request_id: str
    result_id: str
    data: Any
    final: bool
    metadata: Any = None
    fingerprint: str = ""
