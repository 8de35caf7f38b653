"""Decisions about the broker process itself: start (and resume), stop.

Source: design/architecture.md section 4 (recovery); spec/local-api.md section 7.4; spec/node-protocol.md section 2.12.
"""

from __future__ import annotations

from relaybroker.domain import couplings, events, frames, inputs
from relaybroker.domain.effects import AttachHost, CloseLink, EndHost, ExitBroker
from relaybroker.domain.link import LinkState
from relaybroker.domain.reasons import Reason
from relaybroker.domain.rules import (
    action_results,
    acts,
    agents,
    dead_letter_removal,
    fetches,
    link,
    messages,
    resume,
    sidecars,
)
from relaybroker.domain.state import State
from relaybroker.domain.turn import Turn

STOP_S = 4.0
"""From the request to stop until nothing is waited for any more, not even the engine's answer to our close."""
STOP_GRACE_S = 1.5
DRAIN_S = 3.0
"""From the request to stop until the last frames go out, even if the host has not said that every program ended."""


def started(turn: Turn, start: inputs.BrokerStarted) -> None:
    """Take over the log: whatever was under way goes on, whatever cannot go on is settled."""
    first = turn.state.settings is None
    turn.record(
        events.BrokerStarted(
            boot_id=start.boot_id,
            entropy=start.entropy,
            settings=start.settings,
            has_node_token=start.has_node_token,
            has_own_token=start.has_own_token,
            own_agent_id=start.own_agent_id,
            machine_boot=start.machine_boot,
        ),
        f"broker:{start.settings.node_id}",
    )
    if not first and couplings.BROKER_CLOSES_LINK.concerns(turn.state.link.state):
        turn.record(events.LinkShut(detail="the broker was restarted"), turn.node)
    agents.broker_started(turn)
    resume.unfinished_turns(turn)
    action_results.broker_started(turn)
    messages.broker_started(turn)
    acts.broker_started(turn)
    fetches.broker_started(turn)
    sidecars.broker_started(turn)
    dead_letter_removal.keep_within_limit(turn)
    turn.effect(AttachHost())
    if not turn.state.own.agent_id:
        messages.ask_own_identity(turn, turn.state.own.name)
    link.begin(turn)


def shutdown_requested(turn: Turn, request: inputs.ShutdownRequested) -> None:
    """Refuse new work, end the agents (unless they are to live on), tell the engine, leave."""
    if turn.state.stopping_until:
        turn.record(events.ShutdownRepeated(reason=request.reason), turn.broker)
        return
    turn.record(
        events.BrokerStopping(reason=request.reason, agents_too=request.agents_too, until=turn.now + STOP_S),
        turn.broker,
    )
    messages.stopping(turn)
    if request.agents_too:
        for program in list(turn.state.workers.values()):
            agents.stop(turn, program, Reason.SHUTDOWN, STOP_GRACE_S)
        agents.fail_unregistered(turn, Reason.SHUTDOWN)
    proceed(turn)


def proceed(turn: Turn) -> None:
    """One step further towards the end, as soon as the step before is complete."""
    state = turn.state
    if not state.stopping_until:
        return
    overdue = turn.now >= state.stopping_until
    if (
        state.agents_too
        and turn.now < _drain_at(state)
        and any(not program.ended for program in state.workers.values())
    ):
        return
    match state.link.state:
        case LinkState.ONLINE:
            turn.record(events.LinkDraining(), turn.node)
            if state.agents_too:
                link.send(turn, frames.node_deregister(f"leave_{state.position}"))
            turn.effect(CloseLink(dial=state.link.dial, detail="shutdown"))
        case LinkState.DRAINING if not overdue:
            return
        case LinkState.CLOSED | LinkState.REFUSED:
            _leave(turn)
        case _:
            turn.effect(CloseLink(dial=state.link.dial, detail="shutdown"))
            turn.record(events.LinkShut(detail="shutdown"), turn.node)
            _leave(turn)


def _leave(turn: Turn) -> None:
    if turn.state.left:
        return
    turn.record(events.BrokerLeft(reason=turn.state.stop_reason), turn.broker)
    if turn.state.agents_too:
        turn.effect(EndHost(grace_s=0.5))
    turn.effect(ExitBroker(status=0, reason=turn.state.stop_reason))


def _drain_at(state: State) -> float:
    return state.stopping_until - (STOP_S - DRAIN_S)


def deadline(state: State) -> float | None:
    """When the stop must take its next step."""
    if state.left or not state.stopping_until:
        return None
    return state.stopping_until if state.link.state == LinkState.DRAINING else _drain_at(state)
