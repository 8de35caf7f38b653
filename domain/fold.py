"""How each event changes the state. Live decisions and recovery go through the same functions: fold(log) is the live state.

Nothing here decides anything, reads a clock or looks outside; an event that does not fit its machine's table raises.

Source: design/architecture.md section 3; invariant D14 (REPLAY).
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any

from domain import (
    action_invocation,
    agent_registration,
    delivery,
    events,
    node_connection,
    outbound_message,
    worker,
)
from domain.entropy import derive
from domain.errors import CorruptLog
from domain.events import Event, Recorded
from domain.machines import MACHINES
from domain.mailbox import Mailbox
from domain.notifications import project
from domain.reasons import Reason
from domain.state import (
    NOTIFICATIONS_KEPT,
    Action,
    Delivery,
    Link,
    Message,
    Notification,
    OwnIdentity,
    Pending,
    Registration,
    State,
    Worker,
)

ABANDONED_KEPT = 1024
_MACHINE_OF = MappingProxyType(
    {
        "node": MACHINES["node_connection"],
        "agent": MACHINES["agent_registration"],
        "worker": MACHINES["worker"],
        "delivery": MACHINES["delivery"],
        "action": MACHINES["action_invocation"],
        "message": MACHINES["outbound_message"],
    }
)


def entity_of(state: State, event: Event, stream: str) -> Any:
    """The entity whose machine the event moves; KeyError if there is none."""
    match event.machine:
        case "node":
            return state.link
        case "agent":
            return state.registrations[stream]
        case "worker":
            return state.workers[stream.partition(":")[2]]
        case "delivery":
            return state.deliveries[stream]
        case "action":
            return state.actions[stream]
        case _:
            return state.messages[stream]


def check(state: State, event: Event, stream: str) -> None:
    """Raise IllegalTransition, changing nothing, if the event's trigger is not legal now (command path)."""
    if event.trigger:
        _MACHINE_OF[event.machine].fire(entity_of(state, event, stream).state, event.trigger)


def apply(state: State, recorded: Recorded) -> None:
    """Fold one recorded event into the state.

    Raises:
        CorruptLog: the event is not the next one.
        IllegalTransition: its trigger is not legal in the state it meets.
    """
    if recorded.version != state.position + 1:
        raise CorruptLog(recorded.version, f"expected position {state.position + 1}")
    event, stream = recorded.event, recorded.stream
    entity = None
    if event.trigger:
        entity = entity_of(state, event, stream)
        entity.state = _MACHINE_OF[event.machine].follow(entity.state, event.trigger)
    change = _CHANGES.get(type(event))
    if change is not None:
        change(state, event, recorded, entity)
    state.position = recorded.version
    state.now = recorded.at
    for body in project(state, recorded):
        state.notified += 1
        state.notifications.append(Notification(state.notified, body | {"seq": state.notified}))
    if len(state.notifications) > 2 * NOTIFICATIONS_KEPT:
        del state.notifications[:-NOTIFICATIONS_KEPT]
    _forget(state, event, stream)


def _forget(state: State, event: Event, stream: str) -> None:
    """Drop what has ended and can no longer be referred to."""
    match event.machine:
        case "delivery":
            found = state.deliveries[stream]
            if found.ended and (found.verified or found.state != delivery.State.ACKED):
                del state.deliveries[stream]
        case "message":
            if state.messages[stream].state in outbound_message.TABLE.terminal:
                del state.messages[stream]
        case "agent":
            registration = state.registrations.get(stream)
            if registration is not None and registration.state in agent_registration.TABLE.terminal:
                _forget_registration(state, registration)
        case _:
            pass


def _forget_registration(state: State, found: Registration) -> None:
    del state.registrations[found.stream]
    if state.names.get(found.name.lower()) == found.stream:
        del state.names[found.name.lower()]
    if state.agents.get(found.agent_id) == found.stream:
        del state.agents[found.agent_id]
    _drop_worker(state, found.session_id)


def _drop_worker(state: State, session_id: str) -> None:
    gone = state.workers.get(session_id)
    if gone is not None and gone.ended:
        del state.workers[session_id]


# --- broker ---------------------------------------------------------------------------------------------------------


def _broker_started(state: State, event: events.BrokerStarted, at: Recorded, _: Any) -> None:
    state.boot_id = event.boot_id
    state.entropy = event.entropy
    state.epoch = state.epoch or f"ep_{derive(event.entropy, 0, 'epoch')[:12]}"
    state.settings = event.settings
    state.started_at = at.at
    state.stopping_until, state.stop_reason, state.agents_too, state.left = 0.0, "", True, False
    state.host.attached, state.host.until = False, 0.0
    state.own = OwnIdentity(
        agent_id=event.own_agent_id if event.has_own_token else "",
        name=state.own.name or event.settings.broker_name,
    )
    state.link.node_name = event.settings.node_name
    state.link.has_token = event.has_node_token
    state.calls.clear()


def _broker_stopping(state: State, event: events.BrokerStopping, _at: Recorded, _: Any) -> None:
    state.stopping_until = event.until
    state.stop_reason = event.reason
    state.agents_too = event.agents_too


def _broker_left(state: State, _event: Any, _at: Recorded, _: Any) -> None:
    state.left = True


def _own_requested(state: State, event: events.OwnIdentityRequested, _at: Recorded, _: Any) -> None:
    state.own = OwnIdentity(name=event.name, call_id=event.call_id)


def _own_granted(state: State, event: events.OwnIdentityGranted, _at: Recorded, _: Any) -> None:
    state.own = OwnIdentity(agent_id=event.agent_id, name=event.name)


def _own_refused(state: State, event: events.OwnIdentityRefused, _at: Recorded, _: Any) -> None:
    state.own.call_id, state.own.until, state.own.refused = "", event.until, event.code or event.detail


# --- link -----------------------------------------------------------------------------------------------------------


def _link_begun(state: State, event: events.LinkBegun, at: Recorded, _: Any) -> None:
    old = state.link
    state.link = Link(
        incarnation=event.incarnation,
        dial=old.dial,
        node_name=old.node_name,
        has_token=old.has_token,
        since=at.at,
        inventory_changed=True,
        abandoned=old.abandoned,
    )


def _link_step(state: State, event: Any, at: Recorded, link: Link) -> None:
    del state, event
    link.since = at.at
    link.until = 0.0
    link.reason, link.detail = None, ""


def _token_asked(state: State, event: events.TokenAsked, at: Recorded, link: Link) -> None:
    _link_step(state, event, at, link)
    link.mint_call, link.node_name = event.call_id, event.node_name
    link.mints += 1
    link.token_dead = False


def _token_granted(state: State, _event: events.TokenGranted, _at: Recorded, _: Any) -> None:
    state.link.has_token, state.link.mint_call = True, ""


def _link_dialled(state: State, event: events.LinkDialled, at: Recorded, link: Link) -> None:
    _link_step(state, event, at, link)
    link.dial = event.dial


def _link_opened(state: State, event: events.LinkOpened, at: Recorded, link: Link) -> None:
    _link_step(state, event, at, link)
    link.until = event.until
    link.pending[event.request_id] = Pending("node.register", "", event.until)


def _link_online(state: State, event: events.LinkOnline, at: Recorded, link: Link) -> None:
    _link_step(state, event, at, link)
    link.online_at = link.heard_at = at.at
    link.base_delay = node_connection.BACKOFF_FIRST_S
    link.mints = 0
    link.next_heartbeat = at.at + node_connection.HEARTBEAT_S
    link.next_inventory = at.at + node_connection.INVENTORY_S


def _link_down(state: State, event: Any, at: Recorded, link: Link) -> None:
    del state
    link.since = at.at
    link.reason, link.detail = event.reason, event.detail
    link.until = event.until
    link.mint_call = ""
    for request_id, pending in link.pending.items():
        if pending.subject:
            link.abandoned[request_id] = pending.subject
    link.pending.clear()
    while len(link.abandoned) > ABANDONED_KEPT:
        del link.abandoned[next(iter(link.abandoned))]


def _link_backed_off(state: State, event: events.LinkBackedOff, at: Recorded, link: Link) -> None:
    _link_down(state, event, at, link)
    link.token_dead = event.token_dead
    link.base_delay = min(node_connection.BACKOFF_MAX_S, link.base_delay * 2)


def _heartbeat(state: State, _event: Any, at: Recorded, _: Any) -> None:
    state.link.next_heartbeat = at.at + node_connection.HEARTBEAT_S


def _inventory(state: State, event: events.InventoryPublished, at: Recorded, _: Any) -> None:
    state.link.inventory_changed = False
    state.link.next_inventory = at.at + node_connection.INVENTORY_S
    state.link.pending[event.request_id] = Pending("inventory.sync", "", at.at + node_connection.REGISTER_REPLY_S)


def _frame_noted(state: State, event: events.FrameNoted, at: Recorded, _: Any) -> None:
    state.link.heard_at = at.at
    if event.frame_type == "reply":
        found = state.link.pending.pop(event.detail, None)
        if found is not None and found.kind == "inventory.sync":
            state.link.synced_at = at.at


def _engine_error(state: State, event: events.EngineErrorReceived, at: Recorded, _: Any) -> None:
    state.link.heard_at = at.at
    found = state.link.pending.pop(event.request_id, None)
    if found is not None and found.kind == "inventory.sync":
        state.link.inventory_changed = True


def _frame_rejected(state: State, _event: Any, _at: Recorded, _: Any) -> None:
    state.counters.frames_rejected += 1


# --- registrations ----------------------------------------------------------------------------------------------------


def _name_reserved(state: State, event: events.NameReserved, at: Recorded, _: Any) -> None:
    state.registrations[at.stream] = Registration(
        stream=at.stream,
        name=event.name,
        generation=event.generation,
        state=agent_registration.TABLE.initial,
        session_id=event.session_id,
        source=event.source,
        spec=event.spec,
        harness=event.harness,
        argv=event.argv,
        until=event.until,
        reserved_at=at.at,
        invocation_id=event.invocation_id,
        request_id=event.request_id,
    )
    state.names[event.name.lower()] = at.stream
    state.generations[event.name.lower()] = event.generation


def _registration_asked(state: State, event: events.RegistrationAsked, _at: Recorded, found: Registration) -> None:
    state.link.pending[event.request_id] = Pending("agent.register", found.stream, found.until)


def _registration_accepted(state: State, event: events.RegistrationAccepted, at: Recorded, found: Registration) -> None:
    found.agent_id = event.agent_id
    state.agents[event.agent_id] = found.stream
    state.link.heard_at = at.at
    state.link.inventory_changed = True
    _close_requests(state, found.stream)


def _registration_failed(state: State, _event: Any, _at: Recorded, found: Registration) -> None:
    for request_id in _close_requests(state, found.stream):
        state.link.abandoned[request_id] = found.stream


def _close_requests(state: State, stream: str) -> list[str]:
    closed = [request_id for request_id, pending in state.link.pending.items() if pending.subject == stream]
    for request_id in closed:
        del state.link.pending[request_id]
    return closed


def _agent_live(state: State, _event: Any, at: Recorded, found: Registration) -> None:
    found.live_at = at.at
    found.request_id, found.invocation_id = "", ""
    state.link.inventory_changed = True
    state.link.next_heartbeat = min(state.link.next_heartbeat, at.at)
    state.counters.spawned += 1
    state.workers[found.session_id].until = 0.0


def _agent_leaving(state: State, _event: Any, at: Recorded, found: Registration) -> None:
    found.request_id, found.invocation_id = "", ""
    found.release_requests, found.release_invocations = [], []
    state.link.inventory_changed = True
    state.link.next_heartbeat = min(state.link.next_heartbeat, at.at)


def _release_asked(state: State, event: events.ReleaseAsked, at: Recorded, _: Any) -> None:
    found = state.registrations[at.stream]
    if event.request_id:
        found.release_requests.append(event.request_id)
    if event.invocation_id:
        found.release_invocations.append(event.invocation_id)


def _late_registration(state: State, event: events.LateRegistrationRefused, _at: Recorded, _: Any) -> None:
    state.link.abandoned.pop(event.request_id, None)


def _channel_asked(state: State, event: events.ChannelAsked, at: Recorded, _: Any) -> None:
    state.calls[event.call_id] = f"{at.stream} {event.channel}"


def _channel_answered(state: State, event: events.ChannelAnswered, at: Recorded, _: Any) -> None:
    for call_id in [known for known, subject in state.calls.items() if subject == f"{at.stream} {event.channel}"]:
        del state.calls[call_id]


# --- host and workers -----------------------------------------------------------------------------------------------------


def _host_attached(state: State, event: events.HostAttached, _at: Recorded, _: Any) -> None:
    if event.host_id != state.host.host_id:
        state.host.last_report = 0
    state.host.host_id, state.host.pid = event.host_id, event.host_pid
    state.host.attached, state.host.until = True, 0.0


def _host_lost(state: State, event: events.HostLost, _at: Recorded, _: Any) -> None:
    state.host.attached, state.host.until = False, event.until


def _attach_due(state: State, _event: Any, _at: Recorded, _: Any) -> None:
    state.host.until = 0.0


def _reported(state: State, report: int) -> None:
    state.host.last_report = max(state.host.last_report, report)


def _report_ignored(state: State, event: events.HostReportIgnored, _at: Recorded, _: Any) -> None:
    _reported(state, event.report)


def _worker_launched(state: State, event: events.WorkerLaunched, at: Recorded, _: Any) -> None:
    session_id = at.stream.partition(":")[2]
    state.workers[session_id] = Worker(
        stream=at.stream,
        session_id=session_id,
        registration=state.agents[event.agent_id],
        name=event.name,
        agent_id=event.agent_id,
        state=worker.TABLE.initial,
        until=event.until,
        launched_at=at.at,
        active_at=at.at,
    )


def _worker_started(state: State, event: events.WorkerStarted, at: Recorded, found: Worker) -> None:
    _reported(state, event.report)
    found.pid, found.until, found.active_at = event.pid, event.until, at.at


def _worker_ready(state: State, event: events.WorkerReady, at: Recorded, found: Worker) -> None:
    _reported(state, event.report)
    found.evidence, found.ready_at, found.active_at = event.evidence, found.ready_at or at.at, at.at


def _worker_blocked(state: State, event: events.WorkerBlocked, at: Recorded, found: Worker) -> None:
    _reported(state, event.report)
    found.blocked_by, found.active_at = event.pattern, at.at


def _worker_unblocked(state: State, event: events.WorkerUnblocked, at: Recorded, found: Worker) -> None:
    _reported(state, event.report)
    found.blocked_by, found.active_at = "", at.at


def _worker_idle(state: State, event: events.WorkerIdle, at: Recorded, _: Any) -> None:
    _reported(state, event.report)
    state.workers[at.stream.partition(":")[2]].idle = True


def _worker_stopping(_state: State, event: events.WorkerStopping, _at: Recorded, found: Worker) -> None:
    found.stop_reason, found.until = event.reason, event.until


def _worker_exited(state: State, event: events.WorkerExited, _at: Recorded, found: Worker) -> None:
    _reported(state, event.report)
    found.exit_reason, found.code, found.signal = event.reason, event.code, event.signal
    found.last_output, found.uptime_s, found.until = event.last_output, event.uptime_s, 0.0
    if found.stop_reason is None and (event.code or event.signal):
        state.counters.crashed += 1
    _stop_verifying(state, found)


def _worker_lost(state: State, event: events.WorkerLost, at: Recorded, found: Worker) -> None:
    found.exit_reason, found.until, found.uptime_s = event.reason, 0.0, at.at - found.launched_at
    state.counters.crashed += 1
    _stop_verifying(state, found)


def _stop_verifying(state: State, gone: Worker) -> None:
    """No verification comes any more from this worker: what was acked is done."""
    for stream in [
        found.stream
        for found in state.deliveries.values()
        if found.session_id == gone.session_id and found.state in (delivery.State.INJECTED, delivery.State.ACKED)
    ]:
        state.deliveries[stream].verified = True
        if state.deliveries[stream].ended:
            del state.deliveries[stream]


# --- deliveries -------------------------------------------------------------------------------------------------------------


def _delivery_offered(state: State, event: events.DeliveryOffered, at: Recorded, _: Any) -> None:
    state.counters.offered += 1
    state.link.heard_at = at.at if event.source == "engine" else state.link.heard_at
    state.deliveries[at.stream] = Delivery(
        stream=at.stream,
        typing_id=at.event_id,
        delivery_id=event.delivery_id,
        attempt=event.attempt,
        agent_id=event.agent_id,
        name=event.name,
        seq=event.seq,
        msg_id=event.msg_id,
        source=event.source,
        sender=event.sender,
        target=event.target,
        body=event.body,
        thread_id=event.thread_id,
        priority=event.priority,
        mode=event.mode,
        workspace_id=event.workspace_id,
        state=delivery.TABLE.initial,
        offered_at=at.at,
        changed_at=at.at,
    )
    if event.seq is not None:
        key = fan_key(event.delivery_id, event.msg_id, event.payload_type)
        state.mailboxes[event.agent_id].admit(event.seq, event.msg_id, key, at.stream)


def fan_key(delivery_id: str, msg_id: str, payload_type: str) -> str:
    """By what a frame without sequence number is recognised when it comes again."""
    return delivery_id or f"{msg_id} {payload_type}"


def _delivery_held(state: State, event: events.DeliveryHeld, at: Recorded, found: Delivery) -> None:
    found.reason, found.until, found.changed_at = event.reason, event.until, at.at
    _wait(state, found)


def _delivery_queued(state: State, _event: Any, at: Recorded, found: Delivery) -> None:
    found.reason, found.until, found.changed_at = None, 0.0, at.at
    _wait(state, found)


def _wait(state: State, found: Delivery) -> None:
    target = state.worker_of_agent(found.agent_id)
    if target is not None and found.stream not in target.waiting:
        target.waiting.append(found.stream)


def _delivery_injecting(state: State, event: events.DeliveryInjecting, at: Recorded, found: Delivery) -> None:
    found.changed_at, found.session_id, found.tries = at.at, event.session_id, event.tries
    found.text, found.marker = event.text, event.marker
    target = state.workers[event.session_id]
    target.waiting.remove(found.stream)
    target.typing.append(found.stream)
    state.registrations[target.registration].hinted = True


def _delivery_injected(state: State, event: events.DeliveryInjected, at: Recorded, found: Delivery) -> None:
    _reported(state, event.report)
    found.changed_at, found.text, found.body = at.at, "", ""
    state.counters.typed += 1
    target = state.workers.get(found.session_id)
    if target is not None:
        target.typing.remove(found.stream)
        target.typed, target.last_typed_at, target.active_at, target.idle = target.typed + 1, at.at, at.at, False
    _settle(state, found)
    if found.seq:
        state.mailboxes[found.agent_id].typed[found.seq] = found.stream


def _delivery_handed_back(state: State, event: events.DeliveryHandedBack, at: Recorded, found: Delivery) -> None:
    _reported(state, event.report)
    found.reason, found.until, found.changed_at = event.reason, event.until, at.at
    target = state.workers[found.session_id]
    target.typing.remove(found.stream)
    ahead = sum(1 for other in target.waiting if state.deliveries[other].offered_at < found.offered_at)
    target.waiting.insert(ahead, found.stream)


def _delivery_verified(state: State, event: events.DeliveryVerified, at: Recorded, _: Any) -> None:
    _reported(state, event.report)
    state.deliveries[at.stream].verified = True


def _delivery_acked(state: State, event: events.DeliveryAcked, at: Recorded, found: Delivery) -> None:
    found.changed_at = at.at
    state.counters.acked += 1
    box = state.mailboxes.get(found.agent_id)
    if box is not None and found.seq:
        box.typed.pop(found.seq, None)
        box.sent_ack = max(box.sent_ack, event.up_to)


def _delivery_dropped(state: State, event: events.DeliveryDropped, at: Recorded, found: Delivery) -> None:
    _reported(state, event.report)
    state.counters.dropped += 1
    _ended(state, found, at, event.reason)
    if event.settled:
        _settle(state, found)
    elif found.seq:
        state.mailboxes[found.agent_id].give_back(found.seq, found.attempt, doubtful=event.reason is Reason.AMBIGUOUS)


def _delivery_dead_lettered(state: State, event: events.DeliveryDeadLettered, at: Recorded, found: Delivery) -> None:
    _reported(state, event.report)
    state.counters.dead_lettered += 1
    _ended(state, found, at, event.reason)
    _settle(state, found)


def _ended(state: State, found: Delivery, at: Recorded, reason: Any) -> None:
    found.reason, found.until, found.changed_at = reason, 0.0, at.at
    target = state.worker_of_agent(found.agent_id)
    if target is not None:
        for lane in (target.waiting, target.typing):
            if found.stream in lane:
                lane.remove(found.stream)


def _settle(state: State, found: Delivery) -> None:
    if found.seq:
        state.mailboxes[found.agent_id].settle(found.seq)


# --- mailboxes ---------------------------------------------------------------------------------------------------------------


def _box(state: State, at: Recorded) -> Mailbox:
    return state.mailboxes[at.stream.partition(":")[2]]


def _mailbox_opened(state: State, event: events.MailboxOpened, at: Recorded, _: Any) -> None:
    agent_id = at.stream.partition(":")[2]
    box = state.mailboxes.setdefault(agent_id, Mailbox(agent_id))
    box.name, box.generation, box.sent_ack = event.name, event.generation, -1


def _mailbox_based(state: State, event: events.MailboxBased, at: Recorded, _: Any) -> None:
    _box(state, at).start_at(event.base)


def _frame_buffered(state: State, event: events.FrameBuffered, at: Recorded, _: Any) -> None:
    state.link.heard_at = at.at
    _box(state, at).hold_back(event.seq, event.frame, at.at)


def _frame_ignored(state: State, event: events.FrameIgnored, at: Recorded, _: Any) -> None:
    state.link.heard_at = at.at
    if event.advances:
        _box(state, at).skip(event.seq, event.msg_id)
    if event.reason is Reason.HOLD_FULL:
        _box(state, at).starved = True


def _resync_asked(state: State, event: events.ResyncAsked, at: Recorded, _: Any) -> None:
    box = _box(state, at)
    box.resyncs, box.starved = event.tries, False
    state.link.next_resync = event.until


def _ack_sent(state: State, event: events.AckSent, at: Recorded, _: Any) -> None:
    box = _box(state, at)
    box.sent_ack = max(box.sent_ack, event.up_to)


def _range_lost(state: State, event: events.RangeLost, at: Recorded, _: Any) -> None:
    _box(state, at).lose(event.first, event.last)


# --- actions -------------------------------------------------------------------------------------------------------------------


def _action_received(state: State, event: events.ActionReceived, at: Recorded, _: Any) -> None:
    state.link.heard_at = at.at
    state.actions[at.stream] = Action(
        stream=at.stream,
        invocation_id=event.invocation_id,
        action=event.action,
        state=action_invocation.TABLE.initial,
        received_at=at.at,
        input=event.input,
        agent_name=event.agent_name,
    )
    oldest_kept = at.at - action_invocation.LEDGER_S
    while state.actions and (first := next(iter(state.actions.values()))).reported and first.reported_at < oldest_kept:
        del state.actions[first.stream]
    while len(state.actions) > action_invocation.LEDGER_LIMIT:
        oldest = next((key for key, known in state.actions.items() if known.reported), None)
        if oldest is None:
            break
        del state.actions[oldest]


def _action_running(_state: State, event: events.ActionRunning, _at: Recorded, found: Action) -> None:
    found.name, found.until, found.input = event.name, event.until, None


def _action_done(_state: State, event: events.ActionDone, _at: Recorded, found: Action) -> None:
    found.output, found.error, found.until, found.input = event.output, event.error, 0.0, None


def _action_reported(state: State, _event: Any, at: Recorded, found: Action) -> None:
    found.reported_at = at.at
    if found.error == "handler_unavailable":
        del state.actions[found.stream]


# --- outbound messages -----------------------------------------------------------------------------------------------------------


def _message_accepted(state: State, event: events.MessageAccepted, at: Recorded, _: Any) -> None:
    state.messages[at.stream] = Message(
        stream=at.stream,
        event_id=event.event_id,
        request_id=event.request_id,
        to=event.to,
        text=event.text,
        sender=event.sender,
        author_id=event.author_id,
        thread_id=event.thread_id,
        mode=event.mode,
        data=event.data,
        state=outbound_message.TABLE.initial,
        accepted_at=at.at,
        answer_by=event.answer_by,
        until=at.at,
    )


def _message_publishing(_state: State, event: events.MessagePublishing, _at: Recorded, found: Message) -> None:
    found.call_id, found.tries, found.until = event.call_id, event.tries, 0.0


def _message_waiting(_state: State, event: events.MessageWaiting, _at: Recorded, found: Message) -> None:
    found.call_id, found.until = "", event.until


def _message_ended(_state: State, _event: Any, _at: Recorded, found: Message) -> None:
    found.call_id, found.until, found.answer_by = "", 0.0, 0.0


def _message_answered(state: State, _event: Any, at: Recorded, _: Any) -> None:
    state.messages[at.stream].answer_by = 0.0


_CHANGES: MappingProxyType[type[Event], Callable[[State, Any, Recorded, Any], None]] = MappingProxyType(
    {
        events.BrokerStarted: _broker_started,
        events.BrokerStopping: _broker_stopping,
        events.BrokerLeft: _broker_left,
        events.OwnIdentityRequested: _own_requested,
        events.OwnIdentityGranted: _own_granted,
        events.OwnIdentityRefused: _own_refused,
        events.LinkBegun: _link_begun,
        events.TokenAsked: _token_asked,
        events.TokenGranted: _token_granted,
        events.LinkDialled: _link_dialled,
        events.LinkOpened: _link_opened,
        events.LinkOnline: _link_online,
        events.LinkBackedOff: _link_backed_off,
        events.LinkRefused: _link_down,
        events.LinkDraining: _link_step,
        events.LinkShut: _link_step,
        events.HeartbeatDue: _heartbeat,
        events.InventoryPublished: _inventory,
        events.FrameNoted: _frame_noted,
        events.EngineErrorReceived: _engine_error,
        events.FrameRejected: _frame_rejected,
        events.NameReserved: _name_reserved,
        events.RegistrationAsked: _registration_asked,
        events.RegistrationAccepted: _registration_accepted,
        events.RegistrationFailed: _registration_failed,
        events.AgentLive: _agent_live,
        events.AgentLeaving: _agent_leaving,
        events.ReleaseAsked: _release_asked,
        events.LateRegistrationRefused: _late_registration,
        events.ChannelAsked: _channel_asked,
        events.ChannelAnswered: _channel_answered,
        events.HostAttached: _host_attached,
        events.HostLost: _host_lost,
        events.HostAttachDue: _attach_due,
        events.HostReportIgnored: _report_ignored,
        events.WorkerLaunched: _worker_launched,
        events.WorkerStarted: _worker_started,
        events.WorkerReady: _worker_ready,
        events.WorkerBlocked: _worker_blocked,
        events.WorkerUnblocked: _worker_unblocked,
        events.WorkerIdle: _worker_idle,
        events.WorkerStopping: _worker_stopping,
        events.WorkerExited: _worker_exited,
        events.WorkerLost: _worker_lost,
        events.DeliveryOffered: _delivery_offered,
        events.DeliveryHeld: _delivery_held,
        events.DeliveryQueued: _delivery_queued,
        events.DeliveryInjecting: _delivery_injecting,
        events.DeliveryInjected: _delivery_injected,
        events.DeliveryHandedBack: _delivery_handed_back,
        events.DeliveryVerified: _delivery_verified,
        events.DeliveryAcked: _delivery_acked,
        events.DeliveryDropped: _delivery_dropped,
        events.DeliveryDeadLettered: _delivery_dead_lettered,
        events.MailboxOpened: _mailbox_opened,
        events.MailboxBased: _mailbox_based,
        events.FrameBuffered: _frame_buffered,
        events.FrameIgnored: _frame_ignored,
        events.ResyncAsked: _resync_asked,
        events.RangeLost: _range_lost,
        events.AckSent: _ack_sent,
        events.ActionReceived: _action_received,
        events.ActionRunning: _action_running,
        events.ActionDone: _action_done,
        events.ActionReported: _action_reported,
        events.MessageAccepted: _message_accepted,
        events.MessagePublishing: _message_publishing,
        events.MessageWaiting: _message_waiting,
        events.MessagePublished: _message_ended,
        events.MessageRefused: _message_ended,
        events.MessageAnswered: _message_answered,
    }
)
