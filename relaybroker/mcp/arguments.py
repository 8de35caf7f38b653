"""The arguments of every tool, as types: what an agent may give, and the schema that it is shown.

The first line of a type's docstring is the tool's description. Nothing beside what is named here is accepted.

Source: spec/conversation.md section 2.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from relaybroker.domain.delivery import MAX_BODY_BYTES

MAX_SEARCHED = 20
"""Conversations that one search looks through."""
PAGE = 100
"""Messages that the engine shows at once, and that a search looks at in each conversation: the newest."""

_Name = Annotated[str, Meta(min_length=1, max_length=128)]
_Agent = Annotated[
    str, Meta(min_length=1, max_length=128, description="Name of an agent, as list_agents shows it (planner).")
]
_Place = Annotated[
    str, Meta(pattern=r"^#?[A-Za-z0-9][A-Za-z0-9._-]{0,127}$(?!\n)", description="Name of a channel (general).")
]
_Message = Annotated[
    str, Meta(pattern=r"^[0-9]{1,20}$(?!\n)", description="Id of a message: the digits in the brackets of its header.")
]
_Text = Annotated[str, Meta(min_length=1, max_length=MAX_BODY_BYTES, description="What to say, at most 16 KiB.")]
_Emoji = Annotated[str, Meta(min_length=1, max_length=64, description="The emoji itself, or its name (eyes).")]
_Limit = Annotated[int, Meta(ge=1, le=PAGE, description="At most so many.")]
_Mode = Annotated[
    Literal["wait", "steer"],
    Meta(
        description="wait: the recipient gets it when it is free. steer: it is interrupted; only for what cannot wait."
    ),
]
_Attachments = Annotated[tuple[_Name, ...], Meta(max_length=32, description="Ids of files at the engine.")]


class Arguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Common shape."""


class SendDm(Arguments, frozen=True, kw_only=True):
    """Send a direct message to one agent. Answers whether it is published, or safely stored and published later."""

    to: _Agent
    text: _Text
    mode: _Mode = "wait"
    attachments: _Attachments = ()


class PostMessage(Arguments, frozen=True, kw_only=True):
    """Post a message to a channel: every member gets it."""

    channel: _Place
    text: _Text
    mode: _Mode = "wait"
    attachments: _Attachments = ()


class ReplyToThread(Arguments, frozen=True, kw_only=True):
    """Answer a message in its thread. Use this to answer what was typed to you: the id is in the brackets of its header."""

    message_id: _Message
    text: _Text


class GetMessageThread(Arguments, frozen=True, kw_only=True):
    """A message and every answer in its thread, oldest first."""

    message_id: _Message


class CheckInbox(Arguments, frozen=True, kw_only=True):
    """Take the messages that wait to be typed to you: you get them here, and they are not typed any more. And what you have not read."""

    limit: _Limit = 20


class ListMessages(Arguments, frozen=True, kw_only=True):
    """The messages of a channel, or of a conversation that list_dms shows, newest first."""

    channel: _Place
    limit: _Limit = 50
    before: _Message | None = None
    after: _Message | None = None


class ListDms(Arguments, frozen=True, kw_only=True):
    """Your direct and group conversations, newest first. Read one with list_messages and its id."""


class MarkMessageRead(Arguments, frozen=True, kw_only=True):
    """Mark a message as read by you."""

    message_id: _Message


class GetMessageReaders(Arguments, frozen=True, kw_only=True):
    """Who has read a message, and when."""

    message_id: _Message


class SearchMessages(Arguments, frozen=True, kw_only=True):
    """Messages that hold a text, in a channel or in all of your channels and conversations: the newest 100 of each are looked at."""

    query: Annotated[str, Meta(min_length=1, max_length=256, description="The text, in any case.")]
    channel: _Place | None = None
    sender: Annotated[str, Meta(min_length=1, max_length=128, description="Only what this agent wrote.")] | None = (
        msgspec.field(default=None, name="from")
    )
    limit: _Limit = 20


class AddReaction(Arguments, frozen=True, kw_only=True):
    """Add a reaction to a message."""

    message_id: _Message
    emoji: _Emoji


class RemoveReaction(Arguments, frozen=True, kw_only=True):
    """Take your reaction off a message."""

    message_id: _Message
    emoji: _Emoji


class ListAgents(Arguments, frozen=True, kw_only=True):
    """The agents of the workspace, and who of them is online."""

    status: Annotated[Literal["online", "offline", "all"], Meta(description="Only those.")] = "all"


class ListChannels(Arguments, frozen=True, kw_only=True):
    """The channels of the workspace."""


class CreateChannel(Arguments, frozen=True, kw_only=True):
    """Make a channel. You are in it, and own it."""

    name: Annotated[
        str, Meta(pattern=r"^#?[a-z0-9][a-z0-9-]{0,127}$(?!\n)", description="Small letters, digits, hyphens.")
    ]
    topic: Annotated[str, Meta(max_length=500, description="What it is for.")] = ""


class JoinChannel(Arguments, frozen=True, kw_only=True):
    """Join a channel: its messages come to you from now on."""

    channel: _Place


class LeaveChannel(Arguments, frozen=True, kw_only=True):
    """Leave a channel: its messages come to you no more."""

    channel: _Place


class InviteToChannel(Arguments, frozen=True, kw_only=True):
    """Bring an agent into a channel that you are in."""

    channel: _Place
    agent_name: _Agent


class SendGroupDm(Arguments, frozen=True, kw_only=True):
    """Send a message to several agents at once, in one conversation with you. The same agents and name again are the same one."""

    participants: Annotated[tuple[_Agent, ...], Meta(min_length=1, max_length=32, description="Names of the others.")]
    text: _Text
    name: Annotated[str, Meta(max_length=128, description="What the conversation is called.")] = ""


class SetChannelTopic(Arguments, frozen=True, kw_only=True):
    """Say what a channel is for."""

    channel: _Place
    topic: Annotated[str, Meta(max_length=500, description="What it is for.")]


class InvokeAction(Arguments, frozen=True, kw_only=True):
    """Have an action of the workspace done (list_actions). Its outcome comes to you as a message."""

    name: _Name
    input: Annotated[dict[str, Any], Meta(description="What the action is given.")] = {}


class Spawn(Arguments, frozen=True, kw_only=True):
    """Start another agent on this machine: one of the programs that this node offers."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$", description="What it is called.")]
    cli: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="The program (claude).")]
    task: Annotated[str, Meta(min_length=1, max_length=MAX_BODY_BYTES, description="What it is to do.")]
    channel: _Place | None = None
    model: Annotated[str, Meta(max_length=128, description="The model, where the program has a choice.")] = ""


class RemoveAgent(Arguments, frozen=True, kw_only=True):
    """End an agent that runs on this machine."""

    name: _Agent
    reason: Annotated[str, Meta(max_length=500, description="Why.")] = ""


class SubmitResult(Arguments, frozen=True, kw_only=True):
    """Hand in a result of your work to whoever started you. There is one final result."""

    data: Any
    final: Annotated[bool, Meta(description="Whether it is the last one.")] = True
    metadata: Any = None


class ListActions(Arguments, frozen=True, kw_only=True):
    """The actions that the workspace offers."""


class MyStatus(Arguments, frozen=True, kw_only=True):
    """Who you are here, in which channels, what waits for you and why, and what of yours is not published yet."""


class WhyMessage(Arguments, frozen=True, kw_only=True):
    """What became of a message that you sent or received, and why."""

    message_id: Annotated[
        str,
        Meta(pattern=r"^[A-Za-z0-9_]{1,128}$(?!\n)", description="Its id, or the event_id that sending it answered."),
    ]


class ShowMessage(Arguments, frozen=True, kw_only=True):
    """One message, who has read it, and what became of it for each recipient here."""

    message_id: _Message


class ReadThread(Arguments, frozen=True, kw_only=True):
    """A message and its answers, oldest first, each with what became of it for its recipients here."""

    message_id: _Message


class FindMessages(Arguments, frozen=True, kw_only=True):
    """The newest messages that fit, oldest first. The operator's are all that went through this broker."""

    agent: Annotated[str, Meta(max_length=128, description="Only from or to this agent.")] = ""
    channel: _Place | None = None
    thread: _Message | None = None
    text: Annotated[str, Meta(max_length=256, description="Only what holds this text, in any case.")] = ""
    state: Annotated[str, Meta(max_length=32, description="Only with a delivery in this state.")] = ""
    since: Annotated[float, Meta(ge=0, description="Only from then on (seconds since 1970).")] | None = None
    until: Annotated[float, Meta(ge=0, description="Only up to then (seconds since 1970).")] | None = None
    limit: _Limit = 50


AnyArguments = (
    SendDm
    | PostMessage
    | ReplyToThread
    | GetMessageThread
    | CheckInbox
    | ListMessages
    | ListDms
    | MarkMessageRead
    | GetMessageReaders
    | SearchMessages
    | AddReaction
    | RemoveReaction
    | ListAgents
    | ListChannels
    | CreateChannel
    | JoinChannel
    | LeaveChannel
    | InviteToChannel
    | SendGroupDm
    | SetChannelTopic
    | ListActions
    | InvokeAction
    | Spawn
    | RemoveAgent
    | SubmitResult
    | MyStatus
    | WhyMessage
    | ShowMessage
    | ReadThread
    | FindMessages
)
