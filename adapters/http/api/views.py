"""What the state looks like to callers of the local API. Pure functions of the state and the moment.

Source: spec/local-api.md section 1.3; user requirements U02, U03, U04 (failure-scenarios.md section 4).
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET

from relaybroker.adapters.http.api import answers
from relaybroker.adapters.http.api.event_frames import parent_label
from relaybroker.domain import agent as agent_machine
from relaybroker.domain.dead_letter import DeadLetter
from relaybroker.domain.doors import TERMINAL
from relaybroker.domain.entities import Delivery, Registration, Worker
from relaybroker.domain.instants import rfc3339
from relaybroker.domain.reasons import SENTENCES, Reason
from relaybroker.domain.rules import channels, holds
from relaybroker.domain.state import State

WAITING_SHOWN = 50
"""Messages that wait for an agent of which it is told at once; the count is of all."""
DEAF_S = 120.0
"""An agent for which messages wait and to which nothing was typed for this long is called deaf."""


def _age(now: float, at: float) -> float | None:
    return None if not at else round(max(0.0, now - at), 3)


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


def _text(reason: Reason | None) -> str | None:
    return None if reason is None else str(reason)


def link(state: State, now: float) -> answers.Link:
    """How the node stands with its engine, with the ages that prove it."""
    node_link = state.link
    error = node_link.last_error
    return answers.Link(
        state=node_link.state,
        reason=_text(node_link.reason),
        detail=node_link.detail,
        since_secs=_age(now, node_link.since),
        next_step_in_secs=round(node_link.until - now, 3) if node_link.until else None,
        dial=node_link.dial,
        registered_secs_ago=_age(now, node_link.online_at) if node_link.state == "online" else None,
        synced_secs_ago=_age(now, node_link.synced_at),
        heard_secs_ago=_age(now, node_link.heard_at),
        remints=node_link.remints,
        capabilities_not_accepted=list(node_link.not_accepted),
        last_error=None
        if error is None
        else answers.LastError(code=error.code, message=error.message, secs_ago=_age(now, error.at)),
    )


def sidecar(state: State, now: float) -> answers.SidecarView | None:
    """The connected sidecar and what it serves; None when there is none."""
    node_sidecar = state.sidecar
    if node_sidecar is None:
        return None
    return answers.SidecarView(
        handlers=list(node_sidecar.handlers),
        serving=node_sidecar.state == "serving",
        since_secs=_age(now, node_sidecar.since),
    )


def strangers(state: State) -> list[answers.StrangerView]:
    """For whom messages come although they are not here."""
    return [
        answers.StrangerView(
            agent_id=agent_id,
            name=stranger.name or None,
            reason=str(stranger.reason),
            why=SENTENCES[stranger.reason],
            since_ms=_ms(stranger.since),
            messages=stranger.messages,
            kept_as_dead_letters=stranger.keeps,
        )
        for agent_id, stranger in state.strangers.items()
    ]


def invocations(state: State, now: float) -> list[answers.InvocationView]:
    """Invocations that are not reported yet, oldest first."""
    return [
        answers.InvocationView(
            invocation_id=known.invocation_id,
            action=known.action,
            state=known.state,
            agent=known.name or known.agent_name or None,
            by="sidecar" if known.handler else "broker",
            age_secs=_age(now, known.received_at),
        )
        for known in state.open_actions()
    ]


def memberships(state: State) -> list[answers.Membership]:
    """The workspaces of this broker."""
    if state.settings is None:
        return []
    return [answers.Membership(workspace_id=state.settings.workspace_id, is_default=True)]


def pending(state: State) -> list[Delivery]:
    """Deliveries that are accepted and not in a terminal state, oldest first."""
    return sorted(
        (open_delivery for open_delivery in state.deliveries.values() if not open_delivery.ended),
        key=lambda open_delivery: open_delivery.offered_at,
    )


def is_proven(state: State) -> bool:
    """Whether this socket was seen to work: registered, an inventory answered on it, a frame heard (U04)."""
    node_link = state.link
    return node_link.state == "online" and 0.0 < node_link.online_at <= node_link.synced_at and node_link.heard_at > 0.0


def health(state: State, now: float, *, known: bool) -> answers.Health:
    """Liveness and basic numbers; workspace ids only for callers with the key."""
    workspace = state.settings.workspace_id if state.settings is not None and known else None
    return answers.Health(
        status="ok" if is_proven(state) and state.host.attached else "degraded",
        ready=state.link.state == "online" and state.host.attached,
        uptime_ms=_ms(max(0.0, now - state.started_at)) if state.started_at else 0,
        workspace_id=workspace or "ws_unknown",
        default_workspace_id=workspace,
        memberships=memberships(state) if known else [],
        agent_count=len(_shown(state)),
        pending_delivery_count=len(pending(state)),
        dead_letter_count=len(state.dead_letters),
        engine_connected=state.link.state == "online",
        link=link(state, now) if known else answers.Link(state=state.link.state),
        host_attached=state.host.attached,
    )


def agents(state: State, now: float) -> list[answers.AgentView]:
    """Every agent that is live or on its way, by name."""
    return [
        agent(state, registration, now)
        for registration in sorted(_shown(state), key=lambda registration: registration.name)
    ]


def _shown(state: State) -> list[Registration]:
    over = (agent_machine.AgentState.DEREGISTERING, *agent_machine.TABLE.terminal)
    return [registration for registration in state.registrations.values() if registration.state not in over]


def agent(state: State, registration: Registration, now: float) -> answers.AgentView:
    """One agent, with where its messages stand."""
    program = state.workers.get(registration.session_id)
    box = state.mailboxes.get(registration.agent_id)
    based = box if box is not None and box.base is not None else None
    waiting = [state.deliveries[stream] for stream in program.waiting] if program else []
    blocked = program is not None and program.state == "blocked"
    return answers.AgentView(
        name=registration.name,
        runtime="pty" if registration.has_terminal else "headless",
        cli=registration.spec.cli,
        model=registration.spec.model or None,
        session_id=registration.session,
        team=registration.spec.team or None,
        shadow_of=registration.spec.shadow_of or UNSET,
        shadow_mode=registration.spec.shadow_mode or UNSET,
        channels=channels.joined(registration, state.settings) if state.settings else [],
        channels_pending=channels.pending(registration, state.settings) if state.settings else [],
        parent=parent_label(registration.source),
        pid=program.pid or None if program else None,
        host_pid=state.host.pid or None,
        last_activity_ms=_ms(max(0.0, now - program.active_at)) if program else None,
        last_activity_at=rfc3339(program.active_at) if program else None,
        spawned_at=rfc3339(registration.live_at) if registration.live_at else None,
        current_state="blocked_on_send" if blocked else "idle" if program and program.idle else "working",
        agent_id=registration.agent_id or None,
        registration=registration.state,
        restart_count=registration.restarts,
        restarts_in_secs=round(max(0.0, program.starts_at - now), 3) if program and program.starts_at else None,
        worker=program.state if program and not program.starts_at else None,
        ready=program is not None and program.takes_text,
        readiness=program.evidence if program else "",
        door=(program.door or TERMINAL) if program else "",
        blocked_by=program.blocked_by if program else "",
        typed=program.typed if program else 0,
        last_typed_secs_ago=_age(now, program.last_typed_at) if program else None,
        in_terminal=len(program.typing) if program else 0,
        waiting=len(waiting),
        waiting_since_secs=_age(now, waiting[0].offered_at) if waiting else None,
        waiting_reason=_waiting_reason(state, program, waiting),
        deaf_since_secs=_deaf_since(program, waiting, now),
        delivery_mode=holds.mode_of(state, registration.name),
        held_count=sum(item.state == "held" for item in waiting),
        in_custody=sum(item.in_custody for item in waiting),
        holds=_holds(state, registration.name, waiting, now),
        cursor=based.recv if based is not None else None,
        ack_floor=based.floor if based is not None else None,
        acked=box.sent_ack if box is not None and box.sent_ack >= 0 else None,
        gap_buffered=len(box.buffer) if box is not None else 0,
    )


def _holds(state: State, name: str, waiting: list[Delivery], now: float) -> list[answers.Hold]:
    """What holds messages of an agent back, by reason; a person's hold also when it holds nothing."""
    by_reason: dict[str, list[Delivery]] = {}
    by_hand = state.flush_holds.get(name.lower())
    if by_hand is not None:
        by_reason[Reason.MANUAL_FLUSH] = []
    for item in waiting:
        if item.reason is not None and item.until:
            by_reason.setdefault(item.reason, []).append(item)
    return [
        answers.Hold(
            reason=str(reason),
            count=len(held),
            since_ms=_ms(min(item.changed_at for item in held)) if held else UNSET,
            until_ms=_ms(min(item.until for item in held)) if held else None,
            by_hand_since_secs=_age(now, by_hand.since)
            if by_hand is not None and reason == Reason.MANUAL_FLUSH
            else UNSET,
        )
        for reason, held in by_reason.items()
    ]


def mode(state: State, name: str) -> answers.Mode:
    """The delivery mode of an agent's name."""
    mode_set = holds.mode_set(state, name)
    return answers.Mode(mode=mode_set.mode, held=mode_set.held, revision=mode_set.revision)


def held_messages(state: State, name: str) -> list[answers.HeldMessage]:
    """What waits for a person to flush it, in order (local-api.md route 11)."""
    return [_held_message(item) for item in holds.held(state, holds.program_of(state, name))]


def _held_message(delivery: Delivery) -> answers.HeldMessage:
    return answers.HeldMessage(
        sender=delivery.said_by,
        body=delivery.body,
        target=delivery.target,
        mode=delivery.mode,
        queued_at_ms=_ms(delivery.offered_at),
        event_id=delivery.event_id,
        message_id=delivery.msg_id,
        delivery_id=delivery.delivery_id,
        held_since_ms=_ms(delivery.changed_at),
        until_ms=_ms(delivery.until),
        in_custody=delivery.in_custody,
        priority=UNSET if delivery.priority is None else delivery.priority,
        thread_id=delivery.thread_id or UNSET,
        workspace_id=delivery.workspace_id or UNSET,
    )


def _waiting_reason(state: State, program: Worker | None, waiting: list[Delivery]) -> str | None:
    """Why the first message that waits is not typed."""
    if not waiting:
        return None
    first = waiting[0]
    if first.reason is not None:
        return str(first.reason)
    if not state.host.attached:
        return "pty_host_lost"
    if program is not None and (program.typing or state.is_doubted(program.agent_id)):
        return "behind_earlier"
    return "queued"


def _deaf_since(program: Worker | None, waiting: list[Delivery], now: float) -> float | None:
    """Seconds since anything was typed although messages wait, once that is longer than `DEAF_S`; else None (U03)."""
    if program is None or not waiting:
        return None
    still_s = now - max(program.last_typed_at, min(queued.offered_at for queued in waiting))
    return round(still_s, 3) if still_s >= DEAF_S else None


def own(state: State, agent_id: str, now: float) -> answers.Own | None:
    """What an agent is told of itself, without what the messages say; None if it is no longer registered here."""
    registration = state.acting(agent_id)
    if registration is None or state.settings is None:
        return None
    waiting = waiting_for(state, agent_id)
    return answers.Own(
        name=registration.name,
        agent_id=agent_id,
        node=answers.Node(id=state.settings.node_id, name=state.node_name),
        workspace_id=state.settings.workspace_id,
        channels=channels.joined(registration, state.settings),
        channels_pending=channels.pending(registration, state.settings),
        delivery_mode=holds.mode_of(state, registration.name),
        engine_connected=state.link.state == "online",
        waiting_count=len(waiting),
        waiting=[_waits(item, now) for item in waiting[:WAITING_SHOWN]],
    )


def waiting_for(state: State, agent_id: str) -> list[Delivery]:
    """The messages that wait for an agent and are not with its terminal yet, in order."""
    program = state.worker_of_agent(agent_id)
    return [state.deliveries[stream] for stream in program.waiting] if program is not None else []


def _waits(delivery: Delivery, now: float) -> answers.WaitingMessage:
    return answers.WaitingMessage(
        message_id=delivery.msg_id,
        sender=delivery.sender,
        target=delivery.target,
        thread_id=delivery.thread_id or None,
        state=delivery.state,
        reason=_text(delivery.reason),
        why=None if delivery.reason is None else SENTENCES[delivery.reason],
        age_secs=_age(now, delivery.offered_at),
    )


def _node(state: State) -> answers.NodeView | None:
    settings = state.settings
    if settings is None:
        return None
    return answers.NodeView(
        id=settings.node_id, name=state.node_name, broker=settings.broker_name, engine=settings.base_url
    )


def status(state: State, now: float) -> answers.Status:
    """Agents, open deliveries, identity, link."""
    listed, open_deliveries = agents(state, now), pending(state)
    return answers.Status(
        agent_count=len(listed),
        agents=listed,
        pending_delivery_count=len(open_deliveries),
        pending_deliveries=[delivery(open_delivery, now) for open_delivery in open_deliveries],
        dead_letter_count=len(state.dead_letters),
        auth=_auth(state),
        link=link(state, now),
        node=_node(state),
        strangers=strangers(state),
        sidecar=sidecar(state, now),
        invocations=invocations(state, now),
        host=answers.HostView(id=state.host.host_id, pid=state.host.pid, attached=state.host.attached),
        outbound=answers.Outbound(waiting=len(state.messages)),
        log_position=state.position,
        totals=msgspec.convert(state.counters, answers.Totals, from_attributes=True),
    )


def _auth(state: State) -> answers.Auth:
    is_known, workspaces = bool(state.own.agent_id), []
    if state.settings is not None:
        workspaces.append(
            answers.WorkspaceView(
                workspace_id=state.settings.workspace_id,
                workspace_alias=None,
                self_name=state.own.name,
                self_agent_id=state.own.agent_id or None,
                authenticated=is_known,
                default=True,
            )
        )
    return answers.Auth(
        authenticated=is_known,
        workspace_count=len(workspaces),
        default_workspace_id=state.settings.workspace_id if state.settings else None,
        workspaces=workspaces,
    )


def delivery(delivery: Delivery, now: float) -> answers.DeliveryView:
    """One open delivery."""
    return answers.DeliveryView(
        delivery_id=delivery.delivery_id,
        worker_name=delivery.name,
        event_id=delivery.event_id,
        message_id=delivery.msg_id,
        sender=delivery.said_by,
        to=delivery.name,
        attempts=delivery.tries,
        queued_at_ms=_ms(delivery.offered_at),
        age_ms=_ms(max(0.0, now - delivery.offered_at)),
        last_error=_text(delivery.reason),
        state=delivery.state,
        seq=delivery.seq,
        held=delivery.state == "held",
        since_ms=_ms(delivery.changed_at),
        until_ms=_ms(delivery.until) if delivery.until else None,
        in_custody=delivery.in_custody,
    )


def dead_letters(state: State, now: float, agent: str = "") -> list[answers.DeadLetterView]:
    """The dead letters (of one agent), oldest first, without their words."""
    return [_letter(letter, now) for letter in state.dead_letters.values() if agent in ("", letter.name)]


def dead_letter(letter: DeadLetter, now: float) -> answers.DeadLetterView:
    """One dead letter with what it says."""
    return msgspec.structs.replace(
        _letter(letter, now), body=letter.body, body_bytes=letter.body_bytes, target=letter.target
    )


def _letter(letter: DeadLetter, now: float) -> answers.DeadLetterView:
    return answers.DeadLetterView(
        id=letter.letter_id,
        delivery_id=letter.delivery_id,
        event_id=letter.event_id or letter.msg_id,
        message_id=letter.msg_id,
        name=letter.name,
        agent_id=letter.agent_id,
        seq=letter.seq,
        sender=letter.said_by or letter.sender,
        reason=str(letter.reason),
        why=SENTENCES[letter.reason],
        detail=letter.detail,
        in_doubt=letter.in_doubt,
        attempt=letter.attempt,
        tries=letter.tries,
        queued_at_ms=_ms(letter.offered_at),
        dead_lettered_at_ms=_ms(letter.buried_at),
        age_ms=_ms(max(0.0, now - letter.buried_at)),
    )


def broker_metrics(state: State, now: float) -> answers.BrokerMetrics:
    """Totals over the life of the log."""
    return answers.BrokerMetrics(
        uptime_secs=int(max(0.0, now - state.started_at)),
        total_agents_spawned=state.counters.spawned,
        total_crashes=state.counters.crashed,
        total_restarts=state.counters.restarted,
        active_agents=sum(1 for program in state.workers.values() if not program.ended),
    )


def live_workers(state: State) -> list[Worker]:
    """The workers whose programs run."""
    return [program for program in state.workers.values() if program.pid and not program.ended]
