"""How each event changes the state. Live decisions and recovery go through the same functions: fold(log) is the live state.

Nothing here decides anything, reads a clock or looks outside; an event that does not fit its machine's table raises.

Source: design/architecture.md section 3; invariant D14 (REPLAY).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from relaybroker.domain import (
    agent as agent_machine,
)
from relaybroker.domain import (
    message as message_machine,
)
from relaybroker.domain import (
    worker,
)
from relaybroker.domain.announcements import Announced, MessageSeen
from relaybroker.domain.announcing import announcements_of
from relaybroker.domain.changes import (
    actions,
    agents,
    broker,
    dead_letters,
    deliveries,
    holds,
    hosts,
    link,
    mailboxes,
    messages,
    sidecars,
    workers,
)
from relaybroker.domain.changes.conversations import saw
from relaybroker.domain.delivery import DeliveryState
from relaybroker.domain.entities import Registration, Worker
from relaybroker.domain.errors import CorruptLog
from relaybroker.domain.events import Event, Recorded
from relaybroker.domain.machines import MACHINE_OF
from relaybroker.domain.state import ANNOUNCEMENTS_KEPT, State

_CHANGES = MappingProxyType(
    {
        event: change
        for subject in (
            broker,
            link,
            agents,
            hosts,
            workers,
            deliveries,
            dead_letters,
            holds,
            mailboxes,
            actions,
            messages,
            sidecars,
        )
        for event, change in subject.CHANGES.items()
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
        case "sidecar":
            if state.sidecar is None or state.sidecar.stream != stream:
                raise KeyError(stream)
            return state.sidecar
        case _:
            return state.messages[stream]


def check(state: State, event: Event, stream: str) -> None:
    """Raise IllegalTransition, changing nothing, if the event's trigger is not legal now (command path)."""
    if event.trigger:
        MACHINE_OF[event.machine].fire(entity_of(state, event, stream).state, event.trigger)


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
        entity.state = MACHINE_OF[event.machine].follow(entity.state, event.trigger)
    change = _CHANGES.get(type(event))
    if change is not None:
        change(state, event, recorded, entity)
    state.position = recorded.version
    state.now = recorded.at
    for what in announcements_of(state, recorded):
        state.notified += 1
        state.announcements.append(Announced(state.notified, state.epoch, recorded.at, what))
        if isinstance(what, MessageSeen):
            saw(state, what, recorded.at)
    if len(state.announcements) > 2 * ANNOUNCEMENTS_KEPT:
        del state.announcements[:-ANNOUNCEMENTS_KEPT]
    _forget(state, event, stream)


def _forget(state: State, event: Event, stream: str) -> None:
    """Drop what has ended and can no longer be referred to."""
    match event.machine:
        case "delivery":
            delivery = state.deliveries[stream]
            if delivery.ended and (delivery.verified or delivery.state != DeliveryState.ACKED):
                del state.deliveries[stream]
        case "message":
            if state.messages[stream].state in message_machine.TABLE.terminal:
                del state.messages[stream]
        case "worker" if event.trigger in (worker.Trigger.EXIT, worker.Trigger.LOSE):
            _forget_typed(state, state.workers[stream.partition(":")[2]])
        case "agent":
            registration = state.registrations.get(stream)
            if registration is not None and registration.state in agent_machine.TABLE.terminal:
                _forget_registration(state, registration)
        case _:
            pass


def _forget_typed(state: State, gone: Worker) -> None:
    """What was acknowledged and only waited for its echo is over."""
    for typed in gone.unseen:
        if state.deliveries[typed].ended:
            del state.deliveries[typed]
    gone.unseen.clear()


def _forget_registration(state: State, registration: Registration) -> None:
    del state.registrations[registration.stream]
    if state.names.get(registration.name.lower()) == registration.stream:
        _pass_on_name(state, registration.name.lower())
    if state.agents.get(registration.agent_id) == registration.stream:
        del state.agents[registration.agent_id]
    _drop_worker(state, registration.session_id)


def _pass_on_name(state: State, name: str) -> None:
    """An older registration of the name may still owe its deregistration: then it holds the name again."""
    former = next((old for old in reversed(state.registrations.values()) if old.name.lower() == name), None)
    if former is None:
        del state.names[name]
    else:
        state.names[name] = former.stream


def _drop_worker(state: State, session_id: str) -> None:
    gone = state.workers.get(session_id)
    if gone is not None and gone.ended:
        del state.workers[session_id]
