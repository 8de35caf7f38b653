"""What is noted of messages that agents here were given before the engine had them.

Source: domain/rules/local_first.py; ADR-0090.
"""

from __future__ import annotations

from relaybroker.domain.entities import CopyToCome, Delivery, Message, Pair
from relaybroker.domain.events import DeliveryOffered
from relaybroker.domain.extraction import UNNAMED
from relaybroker.domain.message import LOCAL_ANSWER_S, target_type
from relaybroker.domain.state import State


def given(state: State, stream: str, at: float, message: Message) -> None:
    """Its recipient is given it by this delivery."""
    message.early = stream
    if message.answer_by:
        message.answer_by = min(message.answer_by, at + LOCAL_ANSWER_S)
    if message.tries:
        given_and_tried(state, message)


def given_and_tried(state: State, message: Message) -> None:
    """From now on the engine may have a copy of it, under an id that nobody here knows."""
    if (box := state.mailboxes.get(message.recipient_id)) is not None:
        box.undecided[message.event_id] = message.sender.lower()


def no_longer_undecided(state: State, message: Message) -> None:
    """The engine has said what became of it, or it is no longer given from here."""
    if (box := state.mailboxes.get(message.recipient_id)) is not None:
        box.undecided.pop(message.event_id, None)


def has_id(state: State, message_id: str, at: float, message: Message) -> None:
    """The engine has it, under this id: its copy is known by that, and answers to it can go out."""
    for answer in state.messages.values():
        if answer.thread_id == message.event_id:
            answer.thread_id = message_id
    if not message.recipient_id:
        _is_on_its_way(state, message_id, at, message)
        return
    pair = Pair(message.author_id, message.recipient_id)
    state.remember_pair(message_id, message.event_id, pair)
    box = state.mailboxes.get(message.recipient_id)
    if box is None:
        return
    if not message.early:
        box.publish(message.author_id, message_id, at)
    elif message_id not in box.seen:
        state.copies_to_come[message_id] = CopyToCome(message.event_id, message.early, pair, at, state.leapt_s)


def _is_on_its_way(state: State, message_id: str, at: float, message: Message) -> None:
    """It was sent before its recipient was here; by now it may be."""
    recipient = state.registration_of(message.to) if target_type(message.to) == "agent" else None
    box = state.mailboxes.get(recipient.agent_id) if recipient is not None else None
    if box is not None and message.author_id:
        box.publish(message.author_id, message_id, at)


def may_be_copy(state: State, offered: DeliveryOffered) -> None:
    """A frame came: what its sender is publishing at this moment may be in it, and is not given from here as well."""
    for message in state.messages.values():
        if (
            message.recipient_id == offered.agent_id
            and message.tries
            and not message.early
            and offered.sender.lower() in (message.sender.lower(), UNNAMED)
        ):
            message.may_be_here = True


def back_to_outbox(state: State, delivery: Delivery, at: float) -> None:
    """It was not typed: the engine's copy is a message like any other."""
    message = state.messages.get(f"message:{delivery.msg_id}")
    if message is not None and message.early == delivery.stream:
        message.early = ""
        no_longer_undecided(state, message)
    message_id = state.published_as.get(delivery.msg_id, "")
    if (coming := state.copies_to_come.get(message_id)) is not None and coming.stream == delivery.stream:
        del state.copies_to_come[message_id]
        state.mailboxes[delivery.agent_id].publish(coming.pair.author_id, message_id, at)


def no_copy_comes(state: State, delivery: Delivery) -> None:
    """Nobody waits for the engine's copy any more. If one comes all the same, by a clock that differs from ours, it is a duplicate."""
    message_id = state.published_as.get(delivery.msg_id, "")
    if (coming := state.copies_to_come.get(message_id)) is not None and coming.stream == delivery.stream:
        del state.copies_to_come[message_id]
        if (box := state.mailboxes.get(delivery.agent_id)) is not None:
            box.given_from_here(message_id)
