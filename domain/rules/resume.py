"""Going on from a log that ends anywhere: whatever a turn had begun and not finished is finished.

A journal keeps the events of a round whole or not at all, so that in ordinary life a log ends behind a complete turn. These rules do not
rely on it: from every prefix of a log nothing is stuck. They run once, when a broker starts, and find nothing after an ordinary end.

Source: invariant D14 ("for every prefix"); spec/node-protocol.md sections 4.3 and 4.7; scenario S20.
"""

from __future__ import annotations

from relaybroker.domain import events, worker
from relaybroker.domain.agent import PRESENT
from relaybroker.domain.delivery import DeliveryState
from relaybroker.domain.entities import Registration, Worker
from relaybroker.domain.reasons import Reason
from relaybroker.domain.rules import agent_outcome, agents, channels, deliveries, mailboxes, settling
from relaybroker.domain.turn import Turn
from relaybroker.domain.worker import WorkerState


def unfinished_turns(turn: Turn) -> None:
    """Finish what the log shows as begun."""
    _offered(turn)
    for registration in list(turn.state.registrations.values()):
        if registration.state in PRESENT:
            _agent(turn, registration)
    for agent_id in list(turn.state.agents):
        box = turn.state.mailboxes.get(agent_id)
        if box is not None and box.next_buffered is not None:
            mailboxes.drain_buffer(turn, box)


def _agent(turn: Turn, registration: Registration) -> None:
    program = turn.state.workers.get(registration.session_id)
    if program is None:
        agent_outcome.open_agent(turn, registration, ack_seq=None)
    elif program.ended:
        reason = program.stop_reason or program.exit_reason or Reason.WORKER_LOST
        agents.ended(turn, program, reason, "it had ended when the broker was restarted")
    elif registration.release_requests or registration.release_invocations:
        agents.stop(turn, program, Reason.AGENT_RELEASED, worker.RELEASE_GRACE_S)
        _program(turn, program)
    else:
        channels.join(turn, registration)
        _program(turn, program)


def _program(turn: Turn, program: Worker) -> None:
    if program.state == WorkerState.STOPPING:
        for stream in list(program.waiting):
            settling.give_up(turn, turn.state.deliveries[stream], program.stop_reason or Reason.AGENT_RELEASED)
        return
    if program.state == WorkerState.BOOTING and program.ready_at:
        turn.record(events.WorkerReady(report=0, evidence="unblocked"), program.stream, program.name)
    deliveries.reconsider(turn, program)


def _offered(turn: Turn) -> None:
    """Deliveries that were taken on, and nothing was decided about them: the engine offers its own again, a task is placed now.

    What was typed and has no number is at its end.
    """
    for delivery in list(turn.state.deliveries.values()):
        if delivery.state == DeliveryState.INJECTED and not delivery.is_owed:
            settling.conclude(turn, delivery)
        if delivery.state != DeliveryState.OFFERED:
            continue
        if delivery.seq is not None:
            settling.drop(turn, delivery, Reason.UNDECIDED, settled=False)
        elif turn.state.worker_of_agent(delivery.agent_id) is not None:
            deliveries.place(turn, delivery)
        else:
            settling.give_up(turn, delivery, Reason.UNDECIDED)
