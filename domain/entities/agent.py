"""Agents: a generation of a name, its channels, and what it asks the engine for."""

from __future__ import annotations

from typing import Any

import msgspec

from relaybroker.domain import (
    agent as agent_machine,
)
from relaybroker.domain.doors import is_without_terminal
from relaybroker.domain.events import Harness
from relaybroker.domain.inputs import SpawnSpec
from relaybroker.domain.replies import ActAnswer, SpawnAnswer


class Membership(msgspec.Struct):
    """An agent in one channel that it was spawned for."""

    channel: str
    joined: bool = False
    left: bool = False
    """It left, or had itself taken out."""
    call_id: str = ""
    """The call that is under way; "" = none."""
    tries: int = 0
    retry_at: float = 0.0
    """When the engine is asked again; 0 = it is being asked, or has answered."""
    refused: str = ""
    """Why the engine does not let it in; "" = it has not refused."""


class Registration(msgspec.Struct):
    """One generation of one agent name."""

    stream: str
    name: str
    generation: int
    state: str
    session_id: str
    source: str
    spec: SpawnSpec
    harness: Harness
    argv: tuple[str, ...]
    until: float
    """The registration must have an outcome by then."""
    reserved_at: float
    agent_id: str = ""
    invocation_id: str = ""
    request_id: str = ""
    key: str = ""
    """The caller's own; "" = none."""
    release_requests: list[str] = msgspec.field(default_factory=list)
    release_invocations: list[str] = msgspec.field(default_factory=list)
    live_at: float = 0.0
    begins_session: bool = False
    """Its first program began the session that `spec.session_ref` names, and found none."""
    first_session_id: str = ""
    """Of the first program, once another one has taken its place."""
    restarts: int = 0
    """How often its program was started again, the one that is planned included."""
    failures: int = 0
    """How often in a row its program failed."""
    final_result: str = ""
    """Of its last result: the id, and behind a blank what it was made of."""
    answered_at: float = 0.0
    """When everybody who asked for it had the answer; 0 = not yet."""
    task_typed: bool = False
    """Its program was typed the task of its spawn."""
    hinted: bool = False
    fingerprint: str = ""
    """Of the agent's newest token."""
    stale_token: bool = False
    """The token was rotated after the program got it."""
    step: str = ""
    """Which call of the HTTP route is next or under way; see domain/rules/fallback.py."""
    call_id: str = ""
    tries: int = 0
    retry_at: float = 0.0
    """When that call is made again; 0 = it is under way."""
    early: list[dict[str, Any]] = msgspec.field(default_factory=list)
    """Frames that came for it before the engine's answer, in order."""
    channels: dict[str, Membership] = msgspec.field(default_factory=dict)
    """Lower-cased channel -> membership, of those that were asked for."""

    @property
    def session(self) -> str:
        """What callers know the agent's session by: the same as long as the agent is."""
        return self.spec.session_ref or self.first_session_id or self.session_id

    @property
    def doors(self) -> tuple[str, ...]:
        """By which deliveries are to enter its program, in order of preference."""
        return self.harness.doors if self.spec.doors is None else self.spec.doors

    @property
    def has_terminal(self) -> bool:
        """Whether its program is started in a terminal, and not on pipes."""
        return not is_without_terminal(self.doors)

    @property
    def is_joining(self) -> bool:
        """Whether the engine has yet to say that the agent is in one of its channels, or that it is not let in."""
        return any(not (one.joined or one.left or one.refused) for one in self.channels.values())

    @property
    def waits_for_link(self) -> bool:
        """Reserved, and `agent.register` has not been sent."""
        return self.state == agent_machine.AgentState.RESERVED


class SpawnKey(msgspec.Struct):
    """What is remembered of the key of a spawn."""

    fingerprint: str
    stream: str
    """Of the registration."""
    at: float
    joined: list[str] = msgspec.field(default_factory=list)
    """Local requests that wait for the answer of the first one."""
    answer: SpawnAnswer | None = None
    """None = nobody was answered yet."""


MARK_READ = "mark_message_read"
"""The act by which an agent says that it has read a message."""


class Act(msgspec.Struct, frozen=True):
    """Something that an agent asks the engine for in its own name."""

    stream: str
    """Of its registration."""
    request_id: str
    act: str = ""
    channel: str = ""
    """That it joins or leaves; "" = none."""
    agent_id: str = ""
    reads: str = ""
    """The message that it marks as read."""
    key: str = ""


class Acted(msgspec.Struct):
    """What is remembered of an act with a key."""

    act: str
    arguments: dict[str, Any]
    answer: ActAnswer | None = None
    """None = the engine has not answered yet."""
