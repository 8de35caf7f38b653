"""When local clients are told that an agent's program is ready: once, and after they know of the agent.

A client that asked for an agent begins to wait for it when it has the answer. What it is told before that is lost on it, and a program
that is ready at once would never be ready for it. So the word follows the answer by a pause, `Settings.ready_after_s`; and a program
whose screen nobody recognises is announced after `STARTUP_S`, before its client gives up, with the reason `startup_timeout`. Only the
announcement has that limit: what is typed still waits for the proof.

Source: spec/local-api.md section 3.1.
"""

from __future__ import annotations

from relaybroker.domain import events
from relaybroker.domain.agent import AgentState
from relaybroker.domain.entities import Worker
from relaybroker.domain.state import State
from relaybroker.domain.turn import Turn
from relaybroker.domain.worker import STARTUP_S, WorkerState


def reconsider(turn: Turn, program: Worker) -> None:
    """Announce the program if it is time."""
    when = _due_at(turn.state, program)
    if when is not None and when <= turn.now:
        turn.record(events.WorkerAnnounced(), program.stream, program.name)


def due(turn: Turn) -> None:
    """Announce every program of which it is time."""
    for program in list(turn.state.workers.values()):
        reconsider(turn, program)


def deadline(state: State) -> float | None:
    """When the next program is announced."""
    return min(
        (when for program in state.workers.values() if (when := _due_at(state, program)) is not None), default=None
    )


def _due_at(state: State, program: Worker) -> float | None:
    if program.announced or program.ended or program.state == WorkerState.STOPPING:
        return None
    pause = state.settings.ready_after_s if state.settings is not None else 0.0
    registration = state.registrations.get(program.registration)
    if not pause or registration is None or not registration.answered_at:
        return None
    if registration.state == AgentState.RESTARTING:
        return None  # that it runs again is told first
    if program.ready_at:
        return max(program.ready_at, registration.answered_at + pause)
    return None if program.blocked_by else max(program.launched_at + STARTUP_S, registration.answered_at + pause)
