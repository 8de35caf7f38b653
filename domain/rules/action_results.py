"""The ledger of invocations: the one result of each, and giving it to the link, now or after a reconnect.

Source: spec/node-protocol.md section 5.4; invariants X1, X5.
"""

from __future__ import annotations

import itertools
from typing import Any

from relaybroker.domain import action as action_machine
from relaybroker.domain import couplings, events, frames
from relaybroker.domain.action import ActionState
from relaybroker.domain.entities import Action
from relaybroker.domain.reasons import Reason
from relaybroker.domain.rules import link
from relaybroker.domain.state import State as BrokerState
from relaybroker.domain.turn import Turn


def spawn_ended(turn: Turn, invocation_id: str, name: str, reason: Reason | None, detail: str) -> None:
    """The agent of a spawn invocation is live, or failed for this reason."""
    known = turn.state.actions.get(f"action:{invocation_id}")
    if known is None or known.state != ActionState.RUNNING or known.handler:
        return  # a sidecar that spawned for its invocation answers that itself
    if reason is None:
        finish(turn, known, output={"spawned": True, "name": name})
    else:
        finish(turn, known, error="spawn_failed", reason=reason, detail=detail)


def release_ended(turn: Turn, invocation_id: str, name: str) -> None:
    """The agent of a release invocation is gone."""
    known = turn.state.actions.get(f"action:{invocation_id}")
    if known is not None and known.state == ActionState.RUNNING:
        finish(turn, known, output={"released": True, "name": name})


def finish(
    turn: Turn,
    known: Action,
    *,
    output: Any = None,
    error: str = "",
    reason: Reason | None = None,
    detail: str = "",
) -> None:
    """The invocation has its result; it is reported as soon as the link takes it."""
    turn.record(
        events.ActionDone(output=output, error=error, reason=reason, detail=detail[:500]),
        known.stream,
        known.invocation_id,
    )
    if link.is_online(turn):
        report(turn, known)


def report(turn: Turn, known: Action) -> None:
    """Give the result to the link."""
    turn.record(events.ActionReported(dial=turn.state.link.dial), known.stream, known.invocation_id)
    send_result(turn, known)


def send_result(turn: Turn, known: Action) -> None:
    """Send the stored result (again); the same every time."""
    if link.is_online(turn):
        link.send(
            turn,
            frames.action_result(
                f"result_{turn.state.position}",
                invocation_id=known.invocation_id,
                output=known.output,
                error=known.error,
            ),
        )


def link_online(turn: Turn) -> None:
    """Results that are owed go out, and those that the last session may have swallowed go out once more."""
    down_at = turn.state.link.down_at
    doubtful = _reported_since(turn.state, down_at - action_machine.RESEND_S) if down_at else []
    for known in turn.state.open_actions():
        if known.state == ActionState.DONE:
            report(turn, known)
    for known in doubtful:
        turn.record(events.ActionResent(dial=turn.state.link.dial), known.stream, known.invocation_id)
        send_result(turn, known)


def _reported_since(state: BrokerState, since: float) -> list[Action]:
    """Newest first; results were reported about in the order in which their invocations came."""
    recent = itertools.takewhile(
        lambda known: not known.reported or known.reported_at >= since - action_machine.LONGEST_S,
        reversed(state.actions.values()),
    )
    down_at = state.link.down_at
    return [known for known in recent if known.reported and since <= known.reported_at <= down_at]


def broker_started(turn: Turn) -> None:
    """Work that ran when the broker died is not run twice; spawns and releases that go on by themselves keep their caller."""
    for known in turn.state.open_actions():
        if couplings.BROKER_ENDS_INVOCATION.concerns(known.state) and not _goes_on(turn, known):
            fail(turn, known, Reason.BROKER_RESTARTED)


def _goes_on(turn: Turn, known: Action) -> bool:
    holder = turn.state.registration_of(known.name)
    return holder is not None and (
        holder.invocation_id == known.invocation_id or known.invocation_id in holder.release_invocations
    )


def fail(turn: Turn, known: Action, reason: Reason) -> None:
    """It ends without a result of its own."""
    error = "action_timeout"
    if is_spawn(known.action) and not (known.handler and reason is Reason.BROKER_RESTARTED):
        error = "spawn_failed"
    elif known.action == "release":
        error = "release_failed"
    finish(turn, known, error=error, reason=reason)


def is_spawn(action: str) -> bool:
    """Whether the action asks for an agent."""
    return action == "spawn" or action.startswith("spawn:")


def limit_of(known: Action, other_s: float) -> float:
    """How long the action may run, in seconds."""
    return action_machine.SPAWN_S if is_spawn(known.action) else other_s


def deadline(state: BrokerState) -> float | None:
    """When an invocation runs out of time next."""
    return min((known.until for known in state.open_actions() if known.until), default=None)
