"""How events of mailboxes change the state."""

from __future__ import annotations

import itertools
from typing import Any

from relaybroker.domain import (
    events,
)
from relaybroker.domain.changes.signature import Changes
from relaybroker.domain.entities import Stranger
from relaybroker.domain.events import Recorded
from relaybroker.domain.mailbox import Mailbox
from relaybroker.domain.reasons import Reason
from relaybroker.domain.state import MAILBOXES_KEPT, STRANGER_FRAMES_KEPT, STRANGERS_KEPT, State


def _box(state: State, recorded: Recorded) -> Mailbox:
    return state.mailboxes[recorded.stream.partition(":")[2]]


def _mailbox_opened(state: State, event: events.MailboxOpened, recorded: Recorded, _: Any) -> None:
    agent_id = recorded.stream.partition(":")[2]
    box = state.mailboxes.pop(agent_id, Mailbox(agent_id))
    state.mailboxes[agent_id] = box
    box.name, box.generation, box.sent_ack, box.left_by = event.name, event.generation, -1, ""
    if event.generation:
        state.strangers.pop(agent_id, None)
    box.wait_anew(recorded.at)
    _forget_former(state)


def _forget_former(state: State) -> None:
    """Forget the places of former agents, least recently opened first; a returning one is told its place by the engine."""
    excess = len(state.mailboxes) - len(state.agents) - MAILBOXES_KEPT
    if excess > 0:
        former = (key for key, box in state.mailboxes.items() if key not in state.agents and not box.open)
        for agent_id in list(itertools.islice(former, excess)):
            del state.mailboxes[agent_id]


def _mailbox_based(state: State, event: events.MailboxBased, recorded: Recorded, _: Any) -> None:
    _box(state, recorded).start_at(event.base, adopted=event.source == "adopted")


def _frame_buffered(state: State, event: events.FrameBuffered, recorded: Recorded, _: Any) -> None:
    state.link.heard_at = recorded.at
    _box(state, recorded).hold_back(event.seq, event.frame, recorded.at)
    _box(state, recorded).passed(event.seq, recorded.at)


def _frame_ignored(state: State, event: events.FrameIgnored, recorded: Recorded, _: Any) -> None:
    state.link.heard_at = recorded.at
    if event.reason in (Reason.UNKNOWN, Reason.RETIRED):
        key = f"{event.seq} {event.msg_id} {event.delivery_id}"
        note_stranger(state, recorded.stream.partition(":")[2], key)
    if event.advances:
        _box(state, recorded).skip(event.seq, event.msg_id)
        state.copies_to_come.pop(event.msg_id, None)
    if event.reason is Reason.DELIVERY_ID_REUSED:
        _box(state, recorded).refuse(event.seq)
    box = state.mailboxes.get(recorded.stream.partition(":")[2])
    if box is None:
        return
    if event.reason is Reason.STALE:
        box.came(event.seq)
    if event.reason is Reason.HOLD_FULL:
        box.starved = True
    else:
        box.passed(event.seq, recorded.at)


def _stranger_met(state: State, event: events.StrangerMet, recorded: Recorded, _: Any) -> None:
    agent_id = recorded.stream.partition(":")[2]
    former = state.strangers.pop(agent_id, None)
    state.strangers[agent_id] = Stranger(
        event.name,
        event.reason,
        former.since if former is not None else recorded.at,
        event.dial,
        event.keeps,
        former.messages if former is not None else 0,
    )
    while len(state.strangers) > STRANGERS_KEPT:
        del state.strangers[next(iter(state.strangers))]


def note_stranger(state: State, agent_id: str, frame_key: str) -> None:
    """A frame for an agent that is not here was dealt with."""
    stranger = state.strangers.get(agent_id)
    if stranger is not None and frame_key not in stranger.frames:
        stranger.messages += 1
        stranger.frames[frame_key] = None
        if len(stranger.frames) > STRANGER_FRAMES_KEPT:
            del stranger.frames[next(iter(stranger.frames))]


def _resync_asked(state: State, event: events.ResyncAsked, recorded: Recorded, _: Any) -> None:
    box = _box(state, recorded)
    box.resyncs, box.starved = event.tries, False
    state.link.next_resync = event.until


def _ack_sent(state: State, event: events.AckSent, recorded: Recorded, _: Any) -> None:
    box = _box(state, recorded)
    box.sent_ack = max(box.sent_ack, event.up_to)


def _range_lost(state: State, event: events.RangeLost, recorded: Recorded, _: Any) -> None:
    _box(state, recorded).lose(event.first, event.last)


CHANGES: Changes = {
    events.MailboxOpened: _mailbox_opened,
    events.MailboxBased: _mailbox_based,
    events.FrameBuffered: _frame_buffered,
    events.FrameIgnored: _frame_ignored,
    events.StrangerMet: _stranger_met,
    events.ResyncAsked: _resync_asked,
    events.RangeLost: _range_lost,
    events.AckSent: _ack_sent,
}
