"""AgentRegistration: one name, one generation, one life in the engine (stream `agent:<name>:<generation>`).

Rules:

* The name is reserved before anything remote happens. A reserved or live name refuses a second spawn at once.
* Success at the engine yields an agent id and a token. The token goes to the vault; only its fingerprint is recorded.
* A registration that was sent but not answered continues over HTTP: create, prove that the name is ours, bind. A refusal is final.
* A registration that could not be sent fails after 5 s; nothing waits for an outage to end.
* A successful registration can only end through `deregistering`: `agent.deregister` is sent, or waits for the link, before the name
  registers again.
* A program that fails is started again if its spawn asked for that: the agent is `restarting` until the new program has survived its
  first moments. Meanwhile it is registered as before, with its name, id and token, and its messages wait. A release ends that too.
* A failed registration leaves nothing behind: it is `failed` before the engine accepted, `deregistering` after.

Source: spec/node-protocol.md sections 3.1 to 3.5; spec/local-api.md section 5.7.
"""

from __future__ import annotations

from enum import StrEnum

from relaybroker.domain.state_machine import Table

MAX_EARLY = 256
"""Frames that are kept for an agent while it is being registered."""
REGISTER_S = 22.0
"""From request to outcome, both routes together; the local API answers a spawn within 25 s."""
REPLY_S = 8.0
"""How long `agent.register` may stay unanswered before the registration continues over HTTP."""
HTTP_TRIES = 3
HTTP_TRY_S = 3.0
HTTP_PAUSE_S = 2.0
RATE_PAUSE_S = 60.0
"""No registration over HTTP for this long after the engine answered 429."""
HOLD_REQUEST_S = 5.0
"""How long a registration waits for a link that is not online, before it fails."""
RESTART_MAX_S = 60.0
"""Longest pause before a program is started again."""
STABLE_S = 60.0
"""A program that has run this long since it was ready has not failed: the count of failures in a row begins anew."""
RESTART_JITTER = 0.2
"""Share by which that pause is shorter or longer, so that agents that fail together do not start together."""


class AgentState(StrEnum):
    """States; the first one is initial."""

    RESERVED = "reserved"
    REGISTERING = "registering"
    FALLING_BACK = "falling_back"
    BINDING = "binding"
    REGISTERED = "registered"
    LIVE = "live"
    RESTARTING = "restarting"
    DEREGISTERING = "deregistering"
    GONE = "gone"
    FAILED = "failed"


UNREGISTERED = (AgentState.RESERVED, AgentState.REGISTERING, AgentState.FALLING_BACK, AgentState.BINDING)
"""On the way to `registered`."""
ASKED = (AgentState.REGISTERING, AgentState.FALLING_BACK, AgentState.BINDING)
"""The engine was asked, and what it did is not known yet."""
PRESENT = (AgentState.REGISTERED, AgentState.LIVE, AgentState.RESTARTING)
"""Registered at the engine and not leaving."""


class Trigger(StrEnum):
    """What moves it."""

    REGISTER = "register"
    FALL_BACK = "fall_back"
    BIND = "bind"
    ACCEPT = "accept"
    GO_LIVE = "go_live"
    AWAIT_RESTART = "await_restart"
    DEREGISTER = "deregister"
    RETIRE = "retire"
    FAIL = "fail"


TABLE = Table(
    "agent",
    states=AgentState,
    terminal=(AgentState.GONE, AgentState.FAILED),
    triggers=Trigger,
    edges=(
        (Trigger.REGISTER, (AgentState.RESERVED,), AgentState.REGISTERING),
        (Trigger.FALL_BACK, (AgentState.REGISTERING,), AgentState.FALLING_BACK),
        (Trigger.BIND, (AgentState.RESERVED, AgentState.FALLING_BACK), AgentState.BINDING),
        (Trigger.ACCEPT, (AgentState.REGISTERING, AgentState.BINDING), AgentState.REGISTERED),
        (Trigger.GO_LIVE, (AgentState.REGISTERED, AgentState.RESTARTING), AgentState.LIVE),
        (Trigger.AWAIT_RESTART, (AgentState.LIVE, AgentState.RESTARTING), AgentState.RESTARTING),
        (Trigger.DEREGISTER, (AgentState.BINDING, *PRESENT), AgentState.DEREGISTERING),
        (Trigger.RETIRE, (AgentState.DEREGISTERING,), AgentState.GONE),
        (
            Trigger.FAIL,
            (AgentState.RESERVED, AgentState.REGISTERING, AgentState.FALLING_BACK, AgentState.BINDING),
            AgentState.FAILED,
        ),
    ),
    rules=__doc__,
)
