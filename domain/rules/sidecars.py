"""Decisions about sidecars: one at a time, what it offers, what it is given, and starting its program again.

Source: spec/node-protocol.md sections 5.1, 5.4 and 7; invariants X5, X6.
"""

from __future__ import annotations

from relaybroker.domain import couplings, events, inputs, replies
from relaybroker.domain.action import ActionState
from relaybroker.domain.effects import CloseSidecar, InvokeHandler, Reply, StartSidecar
from relaybroker.domain.entities import Action, Sidecar
from relaybroker.domain.errors import Refusal
from relaybroker.domain.reasons import Reason
from relaybroker.domain.rules import action_results, link
from relaybroker.domain.sidecar import GRACE_S, HANDLER_S, MAX_HANDLERS, RESTART_MAX_S
from relaybroker.domain.state import State as BrokerState
from relaybroker.domain.turn import Turn

SidecarInput = (
    inputs.SidecarConnected
    | inputs.SidecarClosed
    | inputs.ManifestOffered
    | inputs.HandlersOffered
    | inputs.HandlerFinished
    | inputs.NodeLeft
)


def said(turn: Turn, item: SidecarInput) -> None:
    """Something came from a sidecar connection; only the current one counts."""
    if isinstance(item, inputs.SidecarConnected):
        _connected(turn, item)
        return
    current = turn.state.sidecar
    if current is None or current.connection != item.connection:
        turn.record(events.SidecarReportIgnored(what=type(item).__name__), f"sidecar:{item.connection}")
        if not isinstance(item, inputs.SidecarClosed):
            _answer_error(turn, item.request_id, Refusal.CONFLICT, "connect_failed", "a newer sidecar has taken over")
        return
    match item:
        case inputs.SidecarClosed():
            _gone(turn, current, Reason.SIDECAR_LOST, item.detail, grace_s=GRACE_S)
            _plan_restart(turn)
        case inputs.ManifestOffered():
            _manifest_offered(turn, current, item)
        case inputs.HandlersOffered():
            _handlers_offered(turn, current, item)
        case inputs.HandlerFinished():
            _finished(turn, current, item)
        case inputs.NodeLeft():
            _left(turn, current, item)


# --- connections --------------------------------------------------------------------------------------------------------


def _connected(turn: Turn, item: inputs.SidecarConnected) -> None:
    if (former := turn.state.sidecar) is not None:
        connection = former.connection
        _gone(turn, former, Reason.SIDECAR_REPLACED, "", grace_s=GRACE_S)
        turn.effect(CloseSidecar(connection=connection, detail="replaced"))
    turn.record(events.SidecarConnected(connection=item.connection), f"sidecar:{item.connection}")


def _gone(turn: Turn, current: Sidecar, reason: Reason, detail: str, *, grace_s: float = 0.0) -> None:
    """The connection is over: what ran on it is given back, so that the engine can try elsewhere."""
    connection, waiting = current.connection, current.manifest_request
    grace_until = turn.now + grace_s if grace_s else 0.0
    turn.record(
        events.SidecarGone(reason=reason, detail=detail[:500], grace_until=grace_until), current.stream, connection
    )
    if waiting:
        _answer(turn, waiting, replies.ManifestTaken())
    for known in turn.state.open_actions():
        if couplings.SIDECAR_ENDS_INVOCATION.concerns(known.state) and known.handler == connection:
            action_results.finish(
                turn, known, error="handler_unavailable", reason=Reason.HANDLER_UNAVAILABLE, detail=str(reason)
            )


def _left(turn: Turn, current: Sidecar, item: inputs.NodeLeft) -> None:
    """It takes its offer back; the node goes on with what the operator configured, and its agents stay reachable."""
    stream, connection = current.stream, current.connection
    _gone(turn, current, Reason.SIDECAR_LEFT, "")
    turn.record(events.SupervisionChanged(supervision=None), stream, connection)
    turn.record(events.ManifestChanged(manifest=None), stream, connection)
    if link.is_online(turn):
        link.reregister(turn)
    _answer(turn, item.request_id, replies.OfferWithdrawn())
    turn.effect(CloseSidecar(connection=connection, detail="deregistered"))


def broker_started(turn: Turn) -> None:
    """The socket ended with the former process; its program comes back by itself and registers again."""
    current = turn.state.sidecar
    if current is not None and couplings.BROKER_ENDS_SIDECAR.concerns(current.state):
        stream = current.stream
        _gone(turn, current, Reason.BROKER_RESTARTED, "", grace_s=GRACE_S)
    else:
        stream = "sidecar:none"
    if turn.state.supervised is not None:
        turn.record(events.SupervisionChanged(supervision=None), stream)
    if turn.state.sidecar_manifest is not None:
        turn.record(events.ManifestChanged(manifest=None), stream)


# --- what it offers -----------------------------------------------------------------------------------------------------


def _manifest_offered(turn: Turn, current: Sidecar, item: inputs.ManifestOffered) -> None:
    online = link.is_online(turn)
    if current.manifest_request:
        _answer(turn, current.manifest_request, replies.ManifestTaken())
    if item.supervision is not None:
        turn.record(events.SupervisionChanged(supervision=item.supervision), current.stream, current.connection)
    register_id = link.fresh_register_id(turn) if online else ""
    turn.record(
        events.ManifestChanged(
            manifest=item.manifest, request_id=item.request_id if online else "", register_id=register_id
        ),
        current.stream,
        current.connection,
    )
    if online:
        link.reregister(turn, register_id)
    else:
        _answer(turn, item.request_id, replies.ManifestTaken())


def manifest_accepted(turn: Turn, register_id: str) -> None:
    """The engine answered a `node.register` well."""
    current = turn.state.sidecar
    if current is not None and current.register_id == register_id:
        waiting = current.manifest_request
        turn.record(events.ManifestSettled(), current.stream, current.connection)
        _answer(turn, waiting, replies.ManifestTaken())


def manifest_refused(turn: Turn, register_id: str, code: str, message: str) -> bool:
    """The engine refused a `node.register`; False if it was not one that a sidecar asked for.

    The node goes on with what the operator configured, and says so: heartbeats hold what was registered last (N5).
    """
    current = turn.state.sidecar
    if current is None or current.register_id != register_id:
        return False
    waiting = current.manifest_request
    turn.record(events.ManifestSettled(code=code, detail=message[:500]), current.stream, current.connection)
    _answer_error(turn, waiting, Refusal.CONFLICT, "frame_failed", f"{code}: {message}")
    link.reregister(turn)
    return True


def link_lost(turn: Turn) -> None:
    """The manifest that waited for an answer is stored; the next connection registers it."""
    current = turn.state.sidecar
    if current is not None and current.manifest_request:
        waiting = current.manifest_request
        turn.record(events.ManifestSettled(), current.stream, current.connection)
        _answer(turn, waiting, replies.ManifestTaken())


def _handlers_offered(turn: Turn, current: Sidecar, item: inputs.HandlersOffered) -> None:
    if len(item.names) > MAX_HANDLERS:
        turn.record(events.SidecarReportIgnored(what=f"{len(item.names)} handlers"), current.stream)
        _answer_error(turn, item.request_id, Refusal.INVALID, "frame_failed", f"at most {MAX_HANDLERS} handlers")
        return
    event = events.SidecarServing(names=item.names) if item.names else events.SidecarPaused()
    turn.record(event, current.stream, current.connection)
    _answer(turn, item.request_id, replies.HandlersTaken(live=bool(item.names)))
    for known in turn.state.open_actions():
        if known.state == ActionState.RECEIVED and known.action in item.names:
            invoke(turn, known, current)


# --- what it is given ---------------------------------------------------------------------------------------------------


def serving(state: BrokerState, action: str) -> Sidecar | None:
    """The sidecar that has registered exactly this name."""
    current = state.sidecar
    return current if current is not None and action in current.handlers else None


def invoke(turn: Turn, known: Action, current: Sidecar) -> None:
    """Give the invocation to the sidecar, once."""
    wanted, limit = known.input, action_results.limit_of(known, HANDLER_S)
    turn.record(
        events.ActionRunning(name="", until=turn.now + limit, handler=current.connection),
        known.stream,
        known.invocation_id,
    )
    turn.effect(
        InvokeHandler(connection=current.connection, invocation_id=known.invocation_id, name=known.action, input=wanted)
    )


def _finished(turn: Turn, current: Sidecar, item: inputs.HandlerFinished) -> None:
    known = turn.state.actions.get(f"action:{item.invocation_id}")
    if known is None or known.state != ActionState.RUNNING or known.handler != current.connection:
        turn.record(events.SidecarReportIgnored(what=f"result of {item.invocation_id}"[:200]), current.stream)
        message = f"invocation {item.invocation_id} is not open on this connection"
        _answer_error(turn, item.request_id, Refusal.ABSENT, "unknown_invocation", message)
        return
    reason = Reason.HANDLER_FAILED if item.error else None
    action_results.finish(turn, known, output=item.output, error=item.error, reason=reason)
    _answer(turn, item.request_id, replies.ResultTaken())


# --- its program --------------------------------------------------------------------------------------------------------


def process_ended(turn: Turn, item: inputs.SidecarProcessEnded) -> None:
    """The program that was started for it has ended."""
    turn.record(events.SidecarProcessEnded(detail=item.detail[:500]), _stream(turn))
    if turn.state.sidecar is None:
        _plan_restart(turn)


def _plan_restart(turn: Turn) -> None:
    supervised = turn.state.supervised
    if supervised is None or not supervised.how.policy.enabled or supervised.until or turn.state.stopping_until:
        return
    policy, failures = supervised.how.policy, supervised.failures + 1
    if supervised.restarts >= policy.max_restarts or failures > policy.max_consecutive_failures:
        turn.record(events.SupervisionEnded(restarts=supervised.restarts, failures=supervised.failures), _stream(turn))
        return
    delay = min(RESTART_MAX_S, policy.cooldown_s * 2 ** (failures - 1))
    turn.record(events.SidecarRestartPlanned(until=turn.now + delay, failures=failures), _stream(turn))


def _stream(turn: Turn) -> str:
    return turn.state.sidecar.stream if turn.state.sidecar is not None else "sidecar:none"


def due(turn: Turn) -> None:
    """Start the program whose pause is over."""
    supervised = turn.state.supervised
    if supervised is not None and supervised.until and supervised.until <= turn.now:
        turn.record(events.SidecarStarting(restarts=supervised.restarts + 1), _stream(turn))
        turn.effect(StartSidecar(argv=supervised.how.argv, cwd=supervised.how.cwd))


def deadline(state: BrokerState) -> float | None:
    """When the program is to be started."""
    return state.supervised.until or None if state.supervised is not None else None


# --- answers ------------------------------------------------------------------------------------------------------------


def _answer(turn: Turn, request_id: str, answer: replies.Answer) -> None:
    turn.effect(Reply(request_id=request_id, answer=answer))


def _answer_error(turn: Turn, request_id: str, kind: Refusal, code: str, message: str) -> None:
    _answer(turn, request_id, replies.Refused(kind=kind, code=code, message=message))
