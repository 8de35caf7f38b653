"""Commands about messages. In an agent's terminal they act as that agent, with its own token; elsewhere as the operator."""

from __future__ import annotations

from typing import Any

import click

from relaybroker.cli.client import AgentClient, BrokerClient
from relaybroker.cli.exits import Exit, fail
from relaybroker.cli.output import say, say_json


@click.group()
def message() -> None:
    """Send, answer and read messages: in an agent's terminal as that agent, elsewhere as the operator."""


@message.command("send")
@click.argument("to")
@click.argument("text")
@click.option("--from", "sender", default="", help="A local agent's name; else the broker itself sends.")
@click.option("--thread", default="", help="Message id to reply to.")
@click.option("--mode", type=click.Choice(["wait", "steer"]), default="wait", show_default=True)
@click.option(
    "--priority",
    type=click.IntRange(0, 4),
    help="0 is the most urgent: its place among those that wait for the engine.  [default: 3 for channels, else 2]",
)
@click.option("--state-dir", metavar="DIR")
@click.option("--json", "as_json", is_flag=True)
def send(
    to: str,
    text: str,
    sender: str,
    thread: str,
    mode: str,
    priority: int | None,
    state_dir: str | None,
    as_json: bool,
) -> None:
    """Send TEXT to an agent, @agent, #channel or conversation."""
    agent = AgentClient.here(state_dir)
    if agent is not None and priority is None and not sender:
        _say(_sent_as(agent, to, text, thread, mode), operator=False, as_json=as_json)
        return
    optional = {"from": sender or None, "thread": thread or None, "priority": priority}
    body = {"to": to, "message": text, "mode": mode, "strict": True} | {
        key: value for key, value in optional.items() if value is not None
    }
    answer = (agent or BrokerClient.find(state_dir)).demand("POST", "/api/send", body)
    _say(_receipt(answer), operator=agent is None, as_json=as_json)


def _sent_as(agent: AgentClient, to: str, text: str, thread: str, mode: str) -> Any:
    """Send as the agent of this terminal: to the thread, the channel or the agent that is named, or nowhere."""
    if thread:
        return agent.use("reply_to_thread", message_id=thread, text=text)
    if to.startswith("#"):
        return agent.use("post_message", channel=to, text=text, mode=mode)
    return agent.use("send_dm", to=to, text=text, mode=mode)


@message.command("reply")
@click.argument("message_id")
@click.argument("text")
@click.option("--state-dir", metavar="DIR")
@click.option("--json", "as_json", is_flag=True)
def reply(message_id: str, text: str, state_dir: str | None, as_json: bool) -> None:
    """Answer the message MESSAGE_ID in its thread. The id stands in the brackets of what was typed to an agent."""
    wanted = message_id.strip("[]")
    agent = AgentClient.here(state_dir)
    if agent is not None:
        _say(agent.use("reply_to_thread", message_id=wanted, text=text), operator=False, as_json=as_json)
        return
    body = {"to": f"thread:{wanted}", "message": text}
    _say(_receipt(BrokerClient.find(state_dir).demand("POST", "/api/send", body)), operator=True, as_json=as_json)


@message.command("inbox")
@click.option("--limit", type=click.IntRange(1, 100), default=20, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def inbox(limit: int, as_json: bool) -> None:
    """What the agent of this terminal has not read, and what waits to be typed to it and why."""
    found = _agent("inbox").use("check_inbox", limit=limit)
    if as_json:
        say_json(found)
        return
    for one in found["waiting"]:
        place = f" in {one['target']}" if str(one["target"]).startswith("#") else ""
        why = f": {one['why']}" if one["why"] else ""
        say(f"waits   {one['message_id']}  from {one['from']}{place}, {one['age_secs']:.0f} s{why}")
    for one in found["unread_dms"]:
        last = one["last_message"] or {"id": "", "text": ""}
        say(f"unread  {last['id']}  from {one['from']}: {_line(last['text'])}  ({one['unread_count']} unread)")
    for one in found["unread_channels"]:
        say(f"unread  #{one['channel_name']}  ({one['unread_count']} unread)")
    if not (found["waiting"] or found["unread_dms"] or found["unread_channels"]):
        say("nothing waits, everything is read")


@message.command("thread")
@click.argument("message_id")
@click.option("--json", "as_json", is_flag=True)
def thread(message_id: str, as_json: bool) -> None:
    """The message MESSAGE_ID and its answers, oldest first, as the agent of this terminal sees them."""
    found = _agent("thread").use("get_message_thread", message_id=message_id.strip("[]"))
    if as_json:
        say_json(found)
        return
    for one in (found["parent"], *found["replies"]):
        say(f"{one['created_at']}  {one['id']}  {one['agent_name']}: {_line(one['text'])}")


def _agent(command: str) -> AgentClient:
    found = AgentClient.here(None)
    if found is None:
        text = f"message {command} is for agents so far: RELAYBROKER_URL and RELAY_AGENT_TOKEN, which every agent has, are not set"
        fail(Exit.REFUSED, text)
    return found


def _line(text: str) -> str:
    """A text as one line of a list."""
    words = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    return words if len(words) <= 200 else f"{words[:199]}…"


def _receipt(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer of `/api/send` with what every receipt says."""
    return answer | {"status": "published" if answer["relaycast_published"] else "pending"}


def _say(receipt: dict[str, Any], *, operator: bool, as_json: bool) -> None:
    if as_json:
        say_json(receipt)
    elif receipt["status"] == "published":
        say(f"published as {receipt['message_id']}{_follow(receipt['message_id'], operator=operator)}")
    else:
        stored = receipt["event_id"]
        say(f"stored as {stored}, not published yet{_follow(stored, operator=operator)}")


def _follow(identifier: str, *, operator: bool) -> str:
    """Where its story is told: the operator has the log, an agent its tools."""
    return f"; follow it: relaybroker why {identifier}" if operator else ""
