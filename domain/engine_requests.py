"""What the core asks the engine for beside the socket, by name. How each one is put is the business of the engine's client.

Source: spec/engine-contract.md section 2; spec/node-protocol.md sections 1.5 and 3.4.
"""

from __future__ import annotations

from typing import Any

import msgspec


class _Request(msgspec.Struct, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Common shape of requests."""


# --- the node -----------------------------------------------------------------------------------------------------------


class LookUpNode(_Request, frozen=True, kw_only=True):
    """Whose is this node name?"""

    name: str


class EnrolNode(_Request, frozen=True, kw_only=True):
    """A token for this node."""

    node_id: str
    name: str
    version: str


class RegisterSelf(_Request, frozen=True, kw_only=True):
    """An agent for the broker itself, under which it publishes what people send."""

    name: str


# --- agents -------------------------------------------------------------------------------------------------------------


class CreateAgent(_Request, frozen=True, kw_only=True):
    """A new agent of this name."""

    name: str


class LookUpAgent(_Request, frozen=True, kw_only=True):
    """Whose is this agent name, and is it there?"""

    name: str


class TakeOverAgent(_Request, frozen=True, kw_only=True):
    """A new token for an agent that is ours or nobody's; the id is the proof."""

    name: str
    agent_id: str
    actor: str
    node_id: str
    session_ref: str = ""


class RotateToken(_Request, frozen=True, kw_only=True):
    """A new token for an agent, of an engine that has no takeover."""

    name: str


class ListNodeAgents(_Request, frozen=True, kw_only=True):
    """The agents that are bound to this node."""

    node_name: str


class BindAgent(_Request, frozen=True, kw_only=True):
    """Deliver the messages of this agent to this node."""

    node_name: str
    name: str
    session_ref: str = ""


class UnbindAgent(_Request, frozen=True, kw_only=True):
    """Give such a binding back."""

    node_name: str
    name: str


# --- messages -----------------------------------------------------------------------------------------------------------


class _Message(_Request, frozen=True, kw_only=True):
    text: str
    key: str
    """The engine takes a message with a key once."""


class PostToChannel(_Message, frozen=True, kw_only=True):
    """A message to a channel."""

    channel: str
    mode: str
    data: dict[str, Any] = {}
    attachments: tuple[str, ...] = ()


class PostToConversation(_Message, frozen=True, kw_only=True):
    """A message to a conversation that exists."""

    conversation: str
    mode: str
    attachments: tuple[str, ...] = ()


class SendDirect(_Message, frozen=True, kw_only=True):
    """A message to an agent."""

    to: str
    mode: str
    attachments: tuple[str, ...] = ()


class ReplyInThread(_Message, frozen=True, kw_only=True):
    """A message in the thread of another one."""

    message_id: str
    data: dict[str, Any] = {}


# --- what an agent does in its own name -----------------------------------------------------------------------------------


class CreateChannel(_Request, frozen=True, kw_only=True):
    """A new channel, of which the caller is a member."""

    name: str
    topic: str = ""


class JoinChannel(_Request, frozen=True, kw_only=True):
    """Become a member."""

    channel: str


class SetTopic(_Request, frozen=True, kw_only=True):
    """Say what a channel is about; "" takes the topic away."""

    channel: str
    topic: str


class LeaveChannel(_Request, frozen=True, kw_only=True):
    """Be no member any more."""

    channel: str


class InviteToChannel(_Request, frozen=True, kw_only=True):
    """Make somebody else a member."""

    channel: str
    agent_name: str


class AddReaction(_Request, frozen=True, kw_only=True):
    """React to a message."""

    message_id: str
    emoji: str


class RemoveReaction(_Request, frozen=True, kw_only=True):
    """Take a reaction back."""

    message_id: str
    emoji: str


class OpenGroup(_Request, frozen=True, kw_only=True):
    """A conversation with these, and with nobody else."""

    participants: tuple[str, ...]
    name: str = ""


class InvokeAction(_Request, frozen=True, kw_only=True):
    """Have an action run, by whichever handler the engine picks."""

    action: str
    input: dict[str, Any] = {}


class MarkRead(_Request, frozen=True, kw_only=True):
    """Say that the caller has read a message."""

    message_id: str


EngineRequest = (
    LookUpNode
    | EnrolNode
    | RegisterSelf
    | CreateAgent
    | LookUpAgent
    | TakeOverAgent
    | RotateToken
    | ListNodeAgents
    | BindAgent
    | UnbindAgent
    | PostToChannel
    | PostToConversation
    | SendDirect
    | ReplyInThread
    | CreateChannel
    | JoinChannel
    | SetTopic
    | LeaveChannel
    | InviteToChannel
    | AddReaction
    | RemoveReaction
    | OpenGroup
    | InvokeAction
    | MarkRead
)
