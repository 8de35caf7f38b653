"""Messages between agents here while the engine cannot be reached: typed at once, published later, recognised when they come back.

Rules:

* It concerns what one agent here sends to another: a direct message, or an answer to a message that was between the two. A channel is the
  engine's: who is in it, and in which order its members read, only the engine can say.
* The engine cannot be reached while the link is not online, or while nobody answered the last try to publish the first message of the line.
* Nothing overtakes. A message is given to its recipient from here only if every one before it in its line was, and if no message of its
  sender that the engine has is still to come to the same agent. What is behind one that has to wait waits as well, for the engine.
* What the engine may have a copy of that came already (a frame of the same sender came while nobody had answered the try) is not given
  from here.
* The message stays in the outbox and is published with the same key as ever. Under the id that the engine gives it, its copy is recognised:
  the delivery takes its number, and nothing is typed. A copy that comes before that id is known cannot be told from another message of
  the same sender: each of these waits (`publish_pending`), and whatever is behind it, until the engine has answered.
* If the recipient's program ends before it has the message, the message goes back to the outbox. It is given to the next program if the
  engine still is not there; otherwise the engine's copy is a message like any other.
* If the engine refuses it in the end, or it expires in the outbox, nothing is taken back from the recipient. Its sender is told the truth,
  and what answers it and was not published yet is refused as well: there is no thread for it.

Source: spec/conversation.md section 6; spec/local-api.md section 6.1; ADR-0090.
"""

from __future__ import annotations

from relaybroker.domain import events, frames
from relaybroker.domain.delivery import ENGINE_KEEPS_S, LOCAL, DeliveryState
from relaybroker.domain.entities import CopyToCome, Delivery, Message, Registration
from relaybroker.domain.link import LinkState
from relaybroker.domain.mailbox import Mailbox
from relaybroker.domain.message import THREAD, MessageState, is_local_id, target_type
from relaybroker.domain.reasons import Reason
from relaybroker.domain.rules import deliveries, settling
from relaybroker.domain.state import State
from relaybroker.domain.turn import Turn
from relaybroker.domain.worker import WorkerState

MAX_TO_COME = 4096
"""Messages that agents were given from here, that the engine has, and whose copies are to come; with so many, no more are given."""
COPY_S = 2 * ENGINE_KEEPS_S
"""How long a copy may take since the message was published: the engine keeps it for half of that."""
_ENGINE_PRIORITIES = {0: 4, 1: 3}
"""What the engine's copy says of the priority of an answer, by the priority that it has here."""


def recipient_of(turn: Turn, author: Registration | None, to: str, thread_id: str) -> str:
    """Id of the agent here that is the only recipient of a message; "" = there is none, or that is not known."""
    if not turn.settings.local_first or author is None or not author.agent_id:
        return ""
    if thread_id:
        recipient_id = _other_in_thread(turn.state, author.agent_id, thread_id)
    else:
        recipient = turn.state.registration_of(to) if target_type(to) == "agent" else None
        recipient_id = recipient.agent_id if recipient is not None else ""
    return recipient_id if recipient_id != author.agent_id and turn.state.acting(recipient_id) is not None else ""


def _other_in_thread(state: State, author_id: str, thread_id: str) -> str:
    if (pair := state.pairs.get(thread_id)) is not None:
        return pair.other(author_id)
    asked = state.messages.get(f"message:{thread_id}")
    if asked is None or not asked.recipient_id or author_id not in (asked.author_id, asked.recipient_id):
        return ""
    return asked.recipient_id if author_id == asked.author_id else asked.author_id


# --- giving -----------------------------------------------------------------------------------------------------------------


def proceed(turn: Turn) -> None:
    """Give to agents here what is for them, while the engine cannot be reached."""
    state = turn.state
    if not state.messages or not turn.settings.local_first or state.stopping_until:
        return
    for line in list(state.lines.values()):
        first = state.messages[line[0]]
        if first.recipient_id and (state.link.state != LinkState.ONLINE or first.unanswered):
            _give_line(turn, [state.messages[stream] for stream in line])


def _give_line(turn: Turn, line: list[Message]) -> None:
    for message in line:
        if message.early:
            continue
        if not _may_be_given(turn, message):
            return
        _give(turn, message)


def _may_be_given(turn: Turn, message: Message) -> bool:
    state = turn.state
    registration, box = state.acting(message.recipient_id), state.mailboxes.get(message.recipient_id)
    program = state.worker_of_agent(message.recipient_id)
    if registration is None or box is None or program is None or program.ended or program.stop_reason:
        return False
    return (
        program.state != WorkerState.STOPPING
        and not message.attachments
        and not message.may_be_here
        and len(state.copies_to_come) < MAX_TO_COME
        and not _is_awaited(turn, box, message.author_id)
        and not deliveries.is_full(turn, registration)
    )


def _is_awaited(turn: Turn, box: Mailbox, author_id: str) -> bool:
    """Whether an earlier message of this sender is on its way to the agent; the engine forgets it after a while."""
    _, since = box.awaited.get(author_id, ("", -COPY_S))
    return turn.now < since + COPY_S


def _give(turn: Turn, message: Message) -> None:
    state = turn.state
    author, recipient = state.acting(message.author_id), state.registrations[state.agents[message.recipient_id]]
    delivery_id = f"del_{turn.fresh('local')}"
    stream = f"delivery:{delivery_id}"
    turn.record(
        events.DeliveryOffered(
            delivery_id=delivery_id,
            attempt=1,
            agent_id=recipient.agent_id,
            name=recipient.name,
            seq=None,
            msg_id=message.event_id,
            source=LOCAL,
            sender=author.name if author is not None else message.sender,
            target=recipient.name,
            body=message.text.strip(),
            thread_id=message.thread_id,
            priority=_ENGINE_PRIORITIES.get(message.priority) if message.thread_id else None,
            mode="wait" if message.thread_id else message.mode,
            workspace_id=turn.settings.workspace_id,
        ),
        stream,
        message.event_id,
    )
    deliveries.place(turn, state.deliveries[stream])


# --- the engine's word ------------------------------------------------------------------------------------------------------


def recognise(turn: Turn, box: Mailbox, offer: frames.Deliver) -> bool:
    """Whether a frame is the engine's copy of what its agent was given from here; then it takes its place, and nothing is typed."""
    coming = turn.state.copies_to_come.get(offer.msg_id)
    if coming is None or coming.pair.recipient_id != box.agent_id:
        return False
    delivery = turn.state.deliveries.get(coming.stream)
    if delivery is not None and not delivery.ended:
        _number(turn, delivery, offer.seq, offer.msg_id, offer.delivery_id)
        return True
    ignored = events.FrameIgnored(
        reason=Reason.DUPLICATE, seq=offer.seq, msg_id=offer.msg_id, delivery_id=offer.delivery_id, advances=True
    )
    turn.record(ignored, f"mailbox:{box.agent_id}", offer.msg_id)
    return True


def is_copy(state: State, box: Mailbox, msg_id: str) -> bool:
    """Whether this agent was given the message from here."""
    coming = state.copies_to_come.get(msg_id)
    return coming is not None and coming.pair.recipient_id == box.agent_id


def _number(turn: Turn, delivery: Delivery, seq: int, msg_id: str, delivery_id: str) -> None:
    turn.record(events.DeliveryRecognised(seq=seq, msg_id=msg_id, delivery_id=delivery_id), delivery.stream, msg_id)


def published(turn: Turn, message: Message, message_id: str) -> None:
    """The engine has the message, under this id. Call this after the event that says so."""
    if not message.early:
        return
    delivery = turn.state.deliveries.get(message.early)
    copy = _waiting_copy(turn.state, message.recipient_id, message_id)
    if copy is not None:
        if delivery is not None and not delivery.ended and copy.is_owed:
            _number(turn, delivery, copy.seq or 0, message_id, copy.delivery_id)
        settling.drop(turn, copy, Reason.DUPLICATE, settled=True)
        settling.acknowledge(turn, turn.state.mailboxes[message.recipient_id])
    _decided(turn, message)


def refused(turn: Turn, message: Message) -> None:
    """The engine will not have the message. Call this after the event that says so."""
    if message.early:
        _decided(turn, message)


def _decided(turn: Turn, message: Message) -> None:
    """What waited for the engine's word goes on; what was typed and cannot come back is at its end."""
    delivery = turn.state.deliveries.get(message.early)
    if delivery is not None:
        settling.conclude(turn, delivery)
    program = turn.state.worker_of_agent(message.recipient_id)
    if program is not None and not program.ended:
        deliveries.reconsider(turn, program)


def _waiting_copy(state: State, agent_id: str, message_id: str) -> Delivery | None:
    program = state.worker_of_agent(agent_id)
    waiting = (state.deliveries[stream] for stream in (program.waiting if program is not None else ()))
    return next((one for one in waiting if one.msg_id == message_id and one.source != LOCAL), None)


def unpublished_answers(state: State, message: Message) -> list[Message]:
    """What answers a message that has no id at the engine."""
    return [
        one
        for one in state.messages.values()
        if one.state == MessageState.ACCEPTED and one.thread_id == message.event_id
    ]


def thread_at_engine(state: State, thread_id: str) -> str | None:
    """The thread of an answer: its id at the engine, or the id here of what is not published yet; None = there is no such message."""
    if not is_local_id(thread_id):
        return thread_id
    if (message_id := state.published_as.get(thread_id)) is not None:
        return message_id
    return thread_id if f"message:{thread_id}" in state.messages else None


def place_of(to: str, thread_id: str) -> str:
    """Where an answer goes."""
    return f"{THREAD}{thread_id}" if target_type(to) == "thread" else to


# --- time ---------------------------------------------------------------------------------------------------------------------


def due(turn: Turn) -> None:
    """What was typed, and of which the engine no longer has a copy, is at its end."""
    for coming in list(turn.state.copies_to_come.values()):
        if _over_at(turn.state, coming) > turn.now:
            continue
        delivery = turn.state.deliveries.get(coming.stream)
        if delivery is not None and _is_typed(delivery):
            turn.record(events.DeliveryAcked(up_to=0, dial=0), delivery.stream, delivery.msg_id)


def deadline(state: State) -> float | None:
    """When the first of these is at its end."""
    for coming in state.copies_to_come.values():
        delivery = state.deliveries.get(coming.stream)
        if delivery is not None and _is_typed(delivery):
            return _over_at(state, coming)
    return None


def _is_typed(delivery: Delivery) -> bool:
    return delivery.state == DeliveryState.INJECTED


def _over_at(state: State, coming: CopyToCome) -> float:
    """Time that a clock has leapt over is no time that the copy has taken."""
    return coming.published_at + COPY_S + state.leapt_s - coming.leapt_before_s
