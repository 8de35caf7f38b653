"""To which thread a message belongs that local clients were told of.

Source: spec/local-api.md section 1.3, route 18.
"""

from __future__ import annotations

from relaybroker.domain.announcements import MessageSeen
from relaybroker.domain.entities import SeenMessage
from relaybroker.domain.message import target_type
from relaybroker.domain.state import SEEN_KEPT, SEEN_TEXT, State


def saw(state: State, message: MessageSeen, at: float) -> None:
    """Note the message in its thread."""
    thread, name = thread_of(message)
    state.seen_messages.append(SeenMessage(thread, name, message.body[:SEEN_TEXT], at))
    del state.seen_messages[:-SEEN_KEPT]
    state.counters.messages += 1
    state.first_message_at = state.first_message_at or at


def thread_of(message: MessageSeen) -> tuple[str, str]:
    """Id and name of the thread: an explicit one, the channel, the conversation, or the two who talk."""
    if message.thread_id:
        return message.thread_id, message.target
    if target_type(message.target) in ("channel", "conversation"):
        return message.target, message.target
    pair = sorted((message.sender.lower(), message.target.removeprefix("@").lower()))
    return f"direct:{pair[0]}:{pair[1]}", " and ".join(pair)
