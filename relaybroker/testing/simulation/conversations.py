"""Who says what to whom at the simulated engine: channels and their members, direct messages, threads, people.

Source: spec/engine-contract.md sections 2.4, 2.5, 7.1 and 7.5.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

Frame = dict[str, Any]
GENERAL = "general"


@dataclass(frozen=True)
class Said:
    """One message: where it was said, by whom, and to whom."""

    msg_id: str
    sender_id: str
    place: str
    """Name of a channel, or id of a conversation."""
    is_channel: bool
    root: str
    """The first message of its thread; its own id where it begins none."""


@dataclass
class Conversations:
    """Places and what was said in them. Agents and people are ids here."""

    members: dict[str, dict[str, None]] = field(default_factory=lambda: {GENERAL: {}})
    """Channel -> ids of its members."""
    talks: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Conversation -> ids of its participants."""
    said: dict[str, Said] = field(default_factory=dict)

    def join(self, channel: str, agent_id: str) -> None:
        """A member of a channel, which is made if there is none."""
        self.members.setdefault(channel, {})[agent_id] = None

    def leave(self, channel: str, agent_id: str) -> None:
        """No member any more."""
        self.members.get(channel, {}).pop(agent_id, None)

    def talk(self, one: str, other: str) -> str:
        """The conversation of two."""
        pair = tuple(sorted((one, other)))
        name = f"dm_{hashlib.sha256(':'.join(pair).encode()).hexdigest()[:24]}"
        self.talks[name] = pair
        return name

    def note(self, said: Said) -> None:
        """A message was said."""
        self.said[said.msg_id] = said

    def audience(self, place: str, sender_id: str) -> list[str] | None:
        """Who gets what is said there; None if there is no such place."""
        known = self.members.get(place) if place in self.members else self.talks.get(place)
        return None if known is None else [one for one in known if one != sender_id]


def channel_message(said: Said, sender: str, text: str, **more: Any) -> Frame:
    """The payload of a message in a channel."""
    return {
        "type": "message.created",
        "data": {
            "id": said.msg_id,
            "agent_id": said.sender_id,
            "agent_name": sender,
            "from_name": sender,
            "text": text,
            "channel_name": said.place,
        }
        | more,
    }


def direct_message(said: Said, sender: str, to: str, text: str, **more: Any) -> Frame:
    """The payload of a direct message."""
    return {
        "type": "dm.received",
        "data": {
            "id": said.msg_id,
            "conversation_id": said.place,
            "from_agent_id": said.sender_id,
            "from_name": sender,
            "to": to,
            "text": text,
            "message": {"id": said.msg_id, "agent_id": said.sender_id, "agent_name": sender, "text": text},
        }
        | more,
    }


def thread_reply(said: Said, sender: str, text: str, **more: Any) -> Frame:
    """The payload of a reply in a thread."""
    place = {"channel_name": said.place} if said.is_channel else {"conversation_id": said.place}
    return {
        "type": "thread.reply",
        "data": {
            "id": said.msg_id,
            "agent_id": said.sender_id,
            "agent_name": sender,
            "from_name": sender,
            "thread_id": said.root,
            "text": text,
        }
        | place
        | more,
    }
