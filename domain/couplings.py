"""What happens to one machine because of another: one table, which the rules ask and the documentation prints.

A coupling says: when this happens, every one of that machine in one of these states is moved by this trigger, or kept for this reason.
Who is in another state is left alone. What becomes of a delivery depends on more, and has a table of its own (`WORKER_ENDED`).

Source: spec/architecture.md section 3.1; spec/node-protocol.md sections 4.7, 4.12, 5.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from relaybroker.domain import (
    action as action_machine,
)
from relaybroker.domain import (
    agent as agent_machine,
)
from relaybroker.domain import (
    link as link_machine,
)
from relaybroker.domain import (
    message as message_machine,
)
from relaybroker.domain import (
    sidecar as sidecar_machine,
)
from relaybroker.domain import (
    worker,
)
from relaybroker.domain.delivery import PLACES, Place, Trigger
from relaybroker.domain.state_machine import Table


class Coupling(NamedTuple):
    """One row: `but` says when one of them is not moved after all; "" = always."""

    when: str
    table: Table
    states: frozenset[str]
    trigger: str
    then: str
    but: str = ""

    def concerns(self, state: str) -> bool:
        """Whether one in this state is moved."""
        return state in self.states


def _row(when: str, table: Table, states: tuple[StrEnum, ...], trigger: StrEnum, then: str, but: str = "") -> Coupling:
    return Coupling(when, table, frozenset(map(str, states)), str(trigger), then, but)


_Agent = agent_machine.AgentState

WORKER_ENDS_REGISTRATION = _row(
    "its worker ends",
    agent_machine.TABLE,
    agent_machine.PRESENT,
    agent_machine.Trigger.DEREGISTER,
    "the engine is told that the agent is gone",
    "one whose program is started again stays",
)
WORKER_RESTARTS_AGENT = _row(
    "its worker fails, and its restart policy allows another start",
    agent_machine.TABLE,
    (_Agent.LIVE, _Agent.RESTARTING),
    agent_machine.Trigger.AWAIT_RESTART,
    "its program is started again after a pause",
)
HOST_LOSES_WORKER = _row(
    "a different PTY host comes back, or it comes back without the session",
    worker.TABLE,
    tuple(state for state in worker.WorkerState if state not in worker.TABLE.terminal),
    worker.Trigger.LOSE,
    "nobody knows what happened to the program",
    "a program that had not been started yet is started",
)
LINK_DROPS_REGISTRATION = _row(
    "the link goes down",
    agent_machine.TABLE,
    (_Agent.REGISTERING,),
    agent_machine.Trigger.FALL_BACK,
    "the registration continues over HTTP",
    "one requested by a sidecar, or overtaken by the broker's stop, fails",
)
BROKER_DROPS_REGISTRATION = _row(
    "the broker stops, or starts again",
    agent_machine.TABLE,
    (_Agent.RESERVED, _Agent.REGISTERING, _Agent.FALLING_BACK, _Agent.BINDING),
    agent_machine.Trigger.FAIL,
    "nobody is waiting for it",
    "one that is already bound is deregistered",
)
BROKER_CLOSES_LINK = _row(
    "the broker starts again",
    link_machine.TABLE,
    tuple(
        state
        for state in link_machine.LinkState
        if state not in (link_machine.LinkState.OFFLINE, link_machine.LinkState.CLOSED, link_machine.LinkState.REFUSED)
    ),
    link_machine.Trigger.CLOSE,
    "its socket ended with the former process",
)
BROKER_ENDS_INVOCATION = _row(
    "the broker starts again",
    action_machine.TABLE,
    (action_machine.ActionState.RUNNING,),
    action_machine.Trigger.FINISH,
    "it fails: an action is not run twice",
    "a spawn or release that continues by itself keeps its caller",
)
BROKER_REPEATS_MESSAGE = _row(
    "the broker starts again",
    message_machine.TABLE,
    (message_machine.MessageState.PUBLISHING,),
    message_machine.Trigger.WAIT,
    "the engine is asked again, with the same key",
)
BROKER_ENDS_SIDECAR = _row(
    "the broker starts again",
    sidecar_machine.TABLE,
    (sidecar_machine.SidecarState.CONNECTED, sidecar_machine.SidecarState.SERVING),
    sidecar_machine.Trigger.LEAVE,
    "its socket ended with the former process",
)
SIDECAR_ENDS_INVOCATION = _row(
    "the sidecar that runs it is gone",
    action_machine.TABLE,
    (action_machine.ActionState.RUNNING,),
    action_machine.Trigger.FINISH,
    "it is returned to the engine: `handler_unavailable`",
)

COUPLINGS = (
    WORKER_ENDS_REGISTRATION,
    WORKER_RESTARTS_AGENT,
    HOST_LOSES_WORKER,
    LINK_DROPS_REGISTRATION,
    SIDECAR_ENDS_INVOCATION,
    BROKER_CLOSES_LINK,
    BROKER_DROPS_REGISTRATION,
    BROKER_ENDS_INVOCATION,
    BROKER_REPEATS_MESSAGE,
    BROKER_ENDS_SIDECAR,
)
"""Every coupling but those of deliveries."""


class Settlement(StrEnum):
    """What becomes of a delivery whose worker ended."""

    RETURN = "return"
    """Dropped without counting for the cursor: the engine offers it again."""
    DEAD_LETTER = "dead_letter"
    IN_DOUBT = "in_doubt"
    """The program's own records tell, where it has a door that keeps some; else the in-doubt policy decides."""

    @property
    def triggers(self) -> tuple[str, ...]:
        """What may move the delivery then."""
        match self:
            case Settlement.RETURN:
                return (Trigger.DROP,)
            case Settlement.DEAD_LETTER:
                return (Trigger.DEAD_LETTER,)
            case Settlement.IN_DOUBT:
                return (Trigger.DOUBT, Trigger.DROP, Trigger.DEAD_LETTER)


_SETTLEMENTS = {
    Place.UNDECIDED: (Settlement.RETURN, Settlement.DEAD_LETTER),
    Place.WAITING: (Settlement.RETURN, Settlement.DEAD_LETTER),
    Place.TYPING: (Settlement.IN_DOUBT, Settlement.IN_DOUBT),
}
"""Where a delivery is -> its fate if the engine keeps it, and if not."""

WORKER_ENDED: Mapping[tuple[str, bool], Settlement] = MappingProxyType(
    {
        (str(state), is_kept): _SETTLEMENTS[place][0 if is_kept else 1]
        for state, place in PLACES.items()
        if place in _SETTLEMENTS
        for is_kept in (True, False)
    }
)
"""(delivery state, whether the engine certainly keeps it) -> fate. Other states need nothing: what is typed is typed."""


def policy_settlement(policy: str, *, returnable: bool) -> tuple[Settlement, bool]:
    """How the in-doubt policy settles a delivery: its fate, and whether it counts for the cursor.

    `ask` keeps it for a person; `at_most_once` ends it; `at_least_once` returns it to the engine, to be typed again with a mark
    (what the engine does not keep any more, or never did, is kept for a person).
    """
    if policy == "at_least_once" and returnable:
        return Settlement.RETURN, False
    if policy == "at_most_once":
        return Settlement.RETURN, True
    return Settlement.DEAD_LETTER, True
