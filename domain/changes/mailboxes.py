"""How events of mailboxes change the state."""

from __future__ import annotations

import itertools
from typing import Any

from relaybroker.domain import (
    events,
)
from relaybroker.domain.changes.signature import Changes
from relaybroker.domain.events import Recorded
from relaybroker.domain.mailbox import Mailbox
from relaybroker.domain.reasons import Reason
from relaybroker.domain.state import MAILBOXES_KEPT, State


def _box(state: State, recorded: Recorded) -> Mailbox:
    return state.mailboxes[recorded.stream.partition(":")[2]]


def _mailbox_opened(state: State, event: events.MailboxOpened, recorded: Recorded, _: Any) -> None:
    agent_id = recorded.stream.partition(":")[2]
    box = state.mailboxes.pop(agent_id, Mailbox(agent_id))
    state.mailboxes[agent_id] = box
    box.name, box.generation, box.sent_ack = event.name, event.generation, -1
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
    if event.advances:
        _box(state, recorded).skip(event.seq, event.msg_id)
    if event.reason is Reason.DELIVERY_ID_REUSED:
        _box(state, recorded).refuse(event.seq)
    if event.reason is Reason.HOLD_FULL:
        _box(state, recorded).starved = True
    elif (box := state.mailboxes.get(recorded.stream.partition(":")[2])) is not None:
        box.passed(event.seq, recorded.at)


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
    events.ResyncAsked: _resync_asked,
    events.RangeLost: _range_lost,
    events.AckSent: _ack_sent,
}
