"""The arguments of every tool, as types: what an agent may give, and the schema that it is shown.

The first line of a type's docstring is the tool's description. Nothing beside what is named here is accepted.

Source: spec/conversation.md section 2.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from relaybroker.domain.continuity import MAX_SUMMARY
from relaybroker.domain.delivery import MAX_BODY_BYTES

MAX_SEARCHED = 20
"""Conversations that one search looks through."""
PAGE = 100
"""Messages that the engine shows at once, and that a search looks at in each conversation: the newest."""

_Name = Annotated[str, Meta(min_length=1, max_length=128)]
_Agent = Annotated[
    str, Meta(min_length=1, max_length=128, description="Name of an agent, as listed by list_agents (planner).")
]
_Place = Annotated[
    str, Meta(pattern=r"^#?[A-Za-z0-9][A-Za-z0-9._-]{0,127}$(?!\n)", description="Name of a channel (general).")
]
_Message = Annotated[
    str,
    Meta(
        pattern=r"^(?:[0-9]{1,20}|http_[0-9a-f]{32})$(?!\n)",
        description="Id of a message: the one in brackets in its header.",
    ),
]
_OfEngine = Annotated[str, Meta(pattern=r"^[0-9]{1,20}$(?!\n)", description="Id of a message at the engine.")]
_Text = Annotated[str, Meta(min_length=1, max_length=MAX_BODY_BYTES, description="Text, at most 16 KiB.")]
_Emoji = Annotated[str, Meta(min_length=1, max_length=64, description="The emoji itself, or its name (eyes).")]
_Limit = Annotated[int, Meta(ge=1, le=PAGE, description="Maximum number of results.")]
_Mode = Annotated[
    Literal["wait", "steer"],
    Meta(
        description="wait: the recipient gets it when it is free. steer: it is interrupted; use it use it only for what cannot wait."
    ),
]
_Attachments = Annotated[tuple[_Name, ...], Meta(max_length=32, description="Ids of files at the engine.")]


class Arguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Common shape."""


class SendDm(Arguments, frozen=True, kw_only=True):
    """Send a direct message to one agent. The result says whether it is published, or stored safely and published later."""

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
    """Answer a message in its thread. Use this to answer what was typed to you; the id is in brackets in its header."""

    message_id: _Message
    text: _Text


class GetMessageThread(Arguments, frozen=True, kw_only=True):
    """A message and every reply in its thread, oldest first."""

    message_id: _Message


class CheckInbox(Arguments, frozen=True, kw_only=True):
    """Take the messages waiting to be typed to you; they are returned here and no longer typed. Also lists what you have not read."""

    limit: _Limit = 20


class ListMessages(Arguments, frozen=True, kw_only=True):
    """The messages of a channel, or of a conversation listed by list_dms, newest first."""

    channel: _Place
    limit: _Limit = 50
    before: _OfEngine | None = None
    after: _OfEngine | None = None


class ListDms(Arguments, frozen=True, kw_only=True):
    """Your direct and group conversations, newest first. Read one with list_messages and its id."""


class MarkMessageRead(Arguments, frozen=True, kw_only=True):
    """Mark a message as read by you."""

    message_id: _Message


class GetMessageReaders(Arguments, frozen=True, kw_only=True):
    """Who has read a message, and when."""

    message_id: _Message


class SearchMessages(Arguments, frozen=True, kw_only=True):
    """Messages that contain a text, in one channel or in all your channels and conversations. Searches the newest 100 of each."""

    query: Annotated[str, Meta(min_length=1, max_length=256, description="Text to find, ignoring case.")]
    channel: _Place | None = None
    sender: Annotated[str, Meta(min_length=1, max_length=128, description="Only messages from this agent.")] | None = (
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
    """The agents of the workspace, and which of them are online."""

    status: Annotated[Literal["online", "offline", "all"], Meta(description="Only those.")] = "all"


class ListChannels(Arguments, frozen=True, kw_only=True):
    """The channels of the workspace."""


class CreateChannel(Arguments, frozen=True, kw_only=True):
    """Create a channel. You become its member and owner."""

    name: Annotated[
        str, Meta(pattern=r"^#?[a-z0-9][a-z0-9-]{0,127}$(?!\n)", description="Small letters, digits, hyphens.")
    ]
    topic: Annotated[str, Meta(max_length=500, description="Topic of the channel.")] = ""


class JoinChannel(Arguments, frozen=True, kw_only=True):
    """Join a channel; you receive its messages from now on."""

    channel: _Place


class LeaveChannel(Arguments, frozen=True, kw_only=True):
    """Leave a channel; you no longer receive its messages."""

    channel: _Place


class InviteToChannel(Arguments, frozen=True, kw_only=True):
    """Add an agent to a channel that you are a member of."""

    channel: _Place
    agent_name: _Agent


class SendGroupDm(Arguments, frozen=True, kw_only=True):
    """Send a message to several agents in one conversation with you. The same agents and name always mean the same conversation."""

    participants: Annotated[
        tuple[_Agent, ...], Meta(min_length=1, max_length=32, description="Names of the other participants.")
    ]
    text: _Text
    name: Annotated[str, Meta(max_length=128, description="Name of the conversation.")] = ""


class SetChannelTopic(Arguments, frozen=True, kw_only=True):
    """Set the topic of a channel."""

    channel: _Place
    topic: Annotated[str, Meta(max_length=500, description="Topic of the channel.")]


class InvokeAction(Arguments, frozen=True, kw_only=True):
    """Invoke an action of the workspace (see list_actions). The result comes to you as a message."""

    name: _Name
    input: Annotated[dict[str, Any], Meta(description="What the action is given.")] = {}


class Spawn(Arguments, frozen=True, kw_only=True):
    """Start another agent on this machine, running one of the programs that this node offers."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$", description="Name of the new agent.")]
    cli: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="The program (claude).")]
    task: Annotated[str, Meta(min_length=1, max_length=MAX_BODY_BYTES, description="Its task.")]
    channel: _Place | None = None
    model: Annotated[str, Meta(max_length=128, description="Model, if the program offers a choice.")] = ""


class RemoveAgent(Arguments, frozen=True, kw_only=True):
    """Stop an agent that runs on this machine."""

    name: _Agent
    reason: Annotated[str, Meta(max_length=500, description="Why.")] = ""


class SubmitResult(Arguments, frozen=True, kw_only=True):
    """Submit a result of your work to whoever started you. There can be only one final result."""

    data: Any
    final: Annotated[bool, Meta(description="Whether this is the final result.")] = True
    metadata: Any = None


class SaveContinuity(Arguments, frozen=True, kw_only=True):
    """Leave a summary of your work for whoever goes on with it, under your name or another. The newest one counts."""

    summary: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=MAX_SUMMARY,
            description="What is done, what is not, and what to know. At most 8 KiB.",
        ),
    ]


class LoadContinuity(Arguments, frozen=True, kw_only=True):
    """What was left under your name to go on with: the task, the summary, the last messages."""


class ListActions(Arguments, frozen=True, kw_only=True):
    """The actions offered by the workspace."""


class MyStatus(Arguments, frozen=True, kw_only=True):
    """Who you are, your channels, what is waiting for you and why, and which of your messages are not published yet."""


class WhyMessage(Arguments, frozen=True, kw_only=True):
    """What happened to a message that you sent or received, and why."""

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

    agent: Annotated[str, Meta(max_length=128, description="Only messages from or to this agent.")] = ""
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
    | SaveContinuity
    | LoadContinuity
    | MyStatus
    | WhyMessage
    | ShowMessage
    | ReadThread
    | FindMessages
)
