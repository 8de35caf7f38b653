"""The core: inputs in, decisions out. Synchronous and deterministic; the state is a fold of the events it decided.

`handle` and `on_time` take the moment as an argument and return the events to make durable and the effects to carry out after that.
Same inputs at the same times, same events: that is what makes replay, simulation and audit possible.

Source: design/architecture.md section 3; ADR-0003, ADR-0004.
"""

from __future__ import annotations

import msgspec

from relaybroker.domain import engine_status, events, frames, inputs, recorded_input
from relaybroker.domain.errors import FrameRejected
from relaybroker.domain.inputs import Input
from relaybroker.domain.reasons import Reason
from relaybroker.domain.rules import (
    action_results,
    actions,
    acts,
    agents,
    custody,
    dead_letters,
    deliveries,
    doubts,
    enrolling,
    expiry,
    fallback,
    fetches,
    holds,
    hosts,
    link,
    local_first,
    mailboxes,
    messages,
    notices,
    process,
    readiness,
    restarts,
    results,
    settling,
    sidecars,
    summaries,
    undelivered,
    workers,
)
from relaybroker.domain.rules.agents import HarnessOf
from relaybroker.domain.state import State
from relaybroker.domain.turn import Decision, Turn

_RULES = (
    link,
    hosts,
    agents,
    restarts,
    readiness,
    expiry,
    custody,
    deliveries,
    doubts,
    mailboxes,
    action_results,
    sidecars,
    messages,
    local_first,
    process,
)


class Broker:
    """One node's core.

    Args:
        harness_of: the harness profile of a command line or of a name; a pure function of both.
        state: the folded state to go on from; None = a log that is empty.
    """

    def __init__(self, harness_of: HarnessOf, state: State | None = None) -> None:
        self.state = state if state is not None else State()
        self._harness_of = harness_of
        self._due: float | None = None
        self._due_position = -1
        """Where in the log `_due` was found: what is due follows from the state, and the state from the log."""

    def handle(self, item: Input, now: float) -> Decision:
        """Decide about one input at this moment (epoch seconds). At least one event results, except of a repeated frame for a stranger."""
        turn = Turn(self.state, now, recorded_input.encode(item))
        self._dispatch(turn, item)
        _follow_link(turn)
        local_first.proceed(turn)
        notices.proceed(turn)
        process.proceed(turn)
        assert turn.events or turn.changes_nothing, f"{type(item).__name__} left no event"
        return turn.decision()

    def on_time(self, now: float) -> Decision:
        """Do whatever is due by now."""
        due = self.next_deadline()
        turn = Turn(self.state, now, recorded_input.encode(recorded_input.TimePassed(due=now if due is None else due)))
        link.due(turn)
        _follow_link(turn)
        hosts.due(turn)
        agents.due(turn)
        restarts.due(turn)
        readiness.due(turn)
        expiry.due(turn)
        custody.due(turn)
        deliveries.due(turn)
        doubts.due(turn)
        mailboxes.due(turn)
        actions.due(turn, self._harness_of)
        sidecars.due(turn)
        messages.due(turn)
        local_first.due(turn)
        local_first.proceed(turn)
        notices.proceed(turn)
        process.proceed(turn)
        return turn.decision()

    def next_deadline(self) -> float | None:
        """When `on_time` must be called next (epoch seconds); None = nothing waits for time."""
        state = self.state
        if self._due_position != state.position:
            is_over = state.settings is None or state.left
            deadlines = () if is_over else (when for rules in _RULES if (when := rules.deadline(state)) is not None)
            self._due, self._due_position = min(deadlines, default=None), state.position
        return self._due

    def _dispatch(self, turn: Turn, item: Input) -> None:
        match item:
            case inputs.FrameArrived():
                self._frame(turn, item)
            case (
                inputs.TextTyped()
                | inputs.TextVerified()
                | inputs.AnswerGiven()
                | inputs.TextNotTyped()
                | inputs.ProgramStarted()
                | inputs.ProgramNotStarted()
                | inputs.ProgramReady()
                | inputs.ProgramBlocked()
                | inputs.ProgramUnblocked()
                | inputs.ProgramOccupied()
                | inputs.ProgramFreed()
                | inputs.ProgramIdle()
                | inputs.ProgramExited()
                | inputs.DoorChosen()
            ):
                workers.reported(turn, item)
            case inputs.DeliveryLookedUp():
                doubts.looked_up(turn, item)
            case inputs.ProgramWithheld():
                workers.withheld(turn, item)
            case inputs.SendRequested():
                messages.send_requested(turn, item)
            case inputs.ActRequested():
                acts.requested(turn, item)
            case inputs.ResultRequested():
                results.requested(turn, item)
            case inputs.SummaryGiven():
                summaries.given(turn, item)
            case inputs.FetchRequested():
                fetches.requested(turn, item)
            case inputs.FetchEnded():
                fetches.ended(turn, item)
            case inputs.DeliveryModeRequested():
                holds.mode_requested(turn, item)
            case inputs.FlushRequested():
                holds.flush_requested(turn, item)
            case inputs.RedeliverRequested():
                dead_letters.redeliver_requested(turn, item)
            case inputs.PurgeRequested():
                dead_letters.purge_requested(turn, item)
            case inputs.TerminalTyped() | inputs.TerminalSized():
                workers.touched(turn, item)
            case inputs.QuestionAnswered():
                workers.question_answered(turn, item)
            case inputs.ModelSwitched():
                agents.model_switched(turn, item)
            case inputs.EnrolRequested():
                enrolling.requested(turn, item)
            case inputs.SpawnRequested():
                agents.spawn_requested(turn, item, self._harness_of)
            case inputs.ReleaseRequested():
                agents.release_requested(turn, item)
            case inputs.EngineAnswered() | inputs.EngineUnanswered():
                _answered(turn, item)
            case inputs.LinkOpened():
                link.opened(turn, item)
            case inputs.LinkDialFailed():
                link.dial_failed(turn, item)
            case inputs.LinkClosed():
                link.closed(turn, item)
            case inputs.FrameUnreadable():
                reason = Reason(item.reason)
                turn.record(events.FrameRejected(reason=reason, frame_type="", detail=f"{item.size} bytes"), turn.node)
            case (
                inputs.SidecarConnected()
                | inputs.SidecarClosed()
                | inputs.ManifestOffered()
                | inputs.HandlersOffered()
                | inputs.HandlerFinished()
                | inputs.NodeLeft()
            ):
                sidecars.said(turn, item)
            case inputs.SidecarProcessEnded():
                sidecars.process_ended(turn, item)
            case inputs.HostAttached():
                hosts.attached(turn, item)
            case inputs.HostLost():
                hosts.lost(turn, item)
            case inputs.ClockLeapt():
                turn.record(events.ClockLeapt(by_s=item.by_s), turn.broker)
            case inputs.ShutdownRequested():
                process.shutdown_requested(turn, item)
            case inputs.BrokerStarted():
                process.started(turn, item)

    def _frame(self, turn: Turn, item: inputs.FrameArrived) -> None:
        """Every inbound frame gets one recorded decision, whatever it looks like."""
        if item.dial != turn.state.link.dial or turn.state.link.state not in ("registering", "online", "draining"):
            kind = item.frame.get("type")
            turn.record(events.LinkReportIgnored(dial=item.dial, detail=f"frame {kind!r}"[:200]), turn.node)
            return
        try:
            kind = frames.frame_type(item.frame)
            match kind:
                case "deliver":
                    mailboxes.offered(turn, item.frame)
                case "action.invoke":
                    actions.invoked(turn, item.frame, self._harness_of)
                case "reply":
                    _reply(turn, item.frame)
                case "error":
                    _error(turn, item.frame)
                case "context.update" if (failure := frames.read_delivery_failure(item.frame)) is not None:
                    heard = events.DeliveryFailureHeard(**msgspec.structs.asdict(failure))
                    turn.record(heard, turn.node, failure.message_id)
                    undelivered.engine_failed(turn, heard)
                case "ping" | "context.update":
                    detail = frames.text_of(item.frame, "event")
                    turn.record(events.FrameNoted(frame_type=kind, detail=detail), turn.node)
                case _:
                    turn.record(
                        events.FrameRejected(reason=Reason.UNKNOWN_FRAME, frame_type=kind[:200], detail=""), turn.node
                    )
        except FrameRejected as error:
            turn.record(
                events.FrameRejected(
                    reason=Reason(error.reason), frame_type=error.frame_type or "", detail=error.detail[:500]
                ),
                turn.node,
            )


def _follow_link(turn: Turn) -> None:
    """Whatever waited on a socket that is no more goes on without it."""
    if turn.state.link.state not in ("online", "draining"):
        agents.link_lost(turn)
        sidecars.link_lost(turn)


def _answered(turn: Turn, item: inputs.EngineAnswered | inputs.EngineUnanswered) -> None:
    """Give an engine answer to whoever waits for it."""
    state = turn.state
    if item.call_id == state.link.mint_call:
        link.enrolment_answered(turn, item)
    elif item.call_id == state.own.call_id:
        messages.own_answered(turn, item)
    elif item.call_id in state.calls:
        agents.channel_answered(turn, state.calls[item.call_id], item)
    elif item.call_id in state.acts:
        acts.answered(turn, state.acts[item.call_id], item)
    elif item.call_id.startswith("register_"):
        _registration_answered(turn, item)
    else:
        event_id = item.call_id.removeprefix("publish_").rpartition("_")[0]
        message = state.messages.get(f"message:{event_id}")
        if message is not None and message.call_id == item.call_id:
            messages.answered(turn, message, item)
        else:
            _unmatched(turn, item)


def _registration_answered(turn: Turn, item: inputs.EngineAnswered | inputs.EngineUnanswered) -> None:
    registration = next(
        (registration for registration in turn.state.registrations.values() if registration.call_id == item.call_id),
        None,
    )
    if registration is not None:
        fallback.answered(turn, registration, item)
        return
    stream = turn.state.link.abandoned.get(item.call_id, "")
    _unmatched(turn, item)
    if stream and isinstance(item, inputs.EngineAnswered) and fallback.has_registered(item):
        agents.late_reply(turn, stream, item.call_id, item.data)


def _unmatched(turn: Turn, item: inputs.EngineAnswered | inputs.EngineUnanswered) -> None:
    status, detail = (
        (item.status, item.code) if isinstance(item, inputs.EngineAnswered) else (engine_status.UNANSWERED, item.detail)
    )
    turn.record(events.CallUnmatched(call_id=item.call_id, status=status, detail=detail), turn.broker)


def _reply(turn: Turn, frame: frames.Frame) -> None:
    """Match a reply with its request, by id only."""
    request_id = frames.text_of(frame, "id")
    data = frame.get("data")
    data = data if isinstance(data, dict) else {}
    pending = turn.state.link.pending.get(request_id)
    if pending is None:
        if request_id in turn.state.link.abandoned:
            agents.late_reply(turn, turn.state.link.abandoned[request_id], request_id, data)
        if not turn.events:
            turn.record(events.FrameNoted(frame_type="reply", detail=request_id), turn.node)
        return
    if pending.kind == "node.register" and turn.state.link.state == "registering":
        link.accepted(turn, data)
        agents.link_online(turn)
        settling.acknowledge_all(turn)
        action_results.link_online(turn)
        return
    turn.record(events.FrameNoted(frame_type="reply", detail=request_id), turn.node)
    if pending.kind == "node.register":
        sidecars.manifest_accepted(turn, request_id)
    elif pending.kind == "inventory.sync":
        link.synced(turn, data)
    elif pending.kind == "agent.register":
        registration = turn.state.registrations.get(pending.subject)
        if registration is not None:
            agents.accepted(turn, registration, data, request_id)


def _error(turn: Turn, frame: frames.Frame) -> None:
    """An error frame: of a request that waits, or of something that cannot be told."""
    request_id, code = frames.text_of(frame, "id"), frames.text_of(frame, "code")
    message = frames.text_of(frame, "message")[:500]
    pending = turn.state.link.pending.get(request_id)
    request = pending.kind if pending else _kind_of_unanswered(turn, request_id)
    turn.record(
        events.EngineErrorReceived(code=code, message=message, request_id=request_id, request=request), turn.node
    )
    if request == "node.register" and not sidecars.manifest_refused(turn, request_id, code, message):
        link.registration_refused(turn, code, message)
    elif request == "agent.register" and pending is not None:
        registration = turn.state.registrations.get(pending.subject)
        if registration is not None:
            agents.refused(turn, registration, code, message)
    elif code in link.DEAD_TOKEN_CODES and (
        request == "node.heartbeat" or (not request and turn.state.link.state == "registering")
    ):
        link.registration_refused(turn, code, message)


def _kind_of_unanswered(turn: Turn, request_id: str) -> str:
    """What an error answers that belongs to a frame without a reply."""
    if request_id and request_id == turn.state.link.heartbeat_id:
        return "node.heartbeat"
    return "agent.deregister" if request_id.startswith(("dereg_", "undo_")) else ""
