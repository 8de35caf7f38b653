"""Commands about messages. In an agent's terminal they act as that agent, with its own token; elsewhere as the operator.

Source: spec/conversation.md section 4.
"""

from __future__ import annotations

from typing import Any

import click

from relaybroker.cli import completion
from relaybroker.cli.client import AgentClient, BrokerClient, whoever
from relaybroker.cli.conversation_text import inbox_lines, message_lines, said_line, thread_lines
from relaybroker.cli.exits import Exit
from relaybroker.cli.groups import Group
from relaybroker.cli.moments import moment
from relaybroker.cli.names import must_be
from relaybroker.cli.options import examples, json_option, state_option
from relaybroker.cli.output import say, say_json
from relaybroker.cli.stages import STAGES, TIMEOUT_S, Watch

_TIMEOUT = click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0),
    default=TIMEOUT_S,
    show_default=True,
    help="Seconds to wait.",
)


@click.group(cls=Group)
def message() -> None:
    """Send, answer and read messages: as the agent in an agent's terminal, elsewhere as the operator."""


# --- writing --------------------------------------------------------------------------------------------------------------


@examples(
    "relaybroker message send w1 'hello'",
    "relaybroker message send '#general' 'hello all'",
    "relaybroker message send w1 'are you there?' --wait reply --timeout 60",
)
@message.command("send")
@click.argument("to", shell_complete=completion.everybody)
@click.argument("text")
@click.option(
    "--from",
    "sender",
    default="",
    shell_complete=completion.agents,
    help="Send as this local agent. Default: the operator.",
)
@click.option("--thread", default="", shell_complete=completion.messages, help="Id of the message to reply to.")
@click.option("--mode", type=click.Choice(["wait", "steer"]), default="wait", show_default=True)
@click.option(
    "--priority",
    type=click.IntRange(0, 4),
    help="Priority while waiting for the engine; 0 is the most urgent.  [default: 3 for channels, else 2]",
)
@click.option("--wait", "until", type=click.Choice(STAGES), help="Wait until the message reaches this stage.")
@_TIMEOUT
@state_option
@json_option
def send(
    to: str,
    text: str,
    sender: str,
    thread: str,
    mode: str,
    priority: int | None,
    until: str | None,
    timeout_s: float,
    state_dir: str | None,
    as_json: bool,
) -> None:
    """Send TEXT to an agent, @agent, #channel or conversation."""
    client = whoever(state_dir)
    if sender or priority is not None or _is_conversation(to):
        receipt = _posted(client, to, text, sender=sender, thread=thread, mode=mode, priority=priority)
    elif thread:
        receipt = client.use("reply_to_thread", message_id=thread.strip("[]"), text=text)
    elif to.startswith("#"):
        receipt = client.use("post_message", channel=to, text=text, mode=mode)
    else:
        receipt = client.use("send_dm", to=to, text=text, mode=mode)
    _end(client, receipt, until, timeout_s, as_json=as_json)


@examples("relaybroker message reply 252234275435319297 done")
@message.command("reply")
@click.argument("message_id", shell_complete=completion.messages)
@click.argument("text")
@click.option("--wait", "until", type=click.Choice(STAGES), help="Wait until the message reaches this stage.")
@_TIMEOUT
@state_option
@json_option
def reply(
    message_id: str, text: str, until: str | None, timeout_s: float, state_dir: str | None, as_json: bool
) -> None:
    """Answer message MESSAGE_ID in its thread. The id is in brackets in the text typed to the agent."""
    client = whoever(state_dir)
    receipt = client.use("reply_to_thread", message_id=message_id.strip("[]"), text=text)
    _end(client, receipt, until, timeout_s, as_json=as_json)


def _is_conversation(to: str) -> bool:
    return to.startswith(("dm_", "conv_")) or to.isdigit()


def _posted(client: BrokerClient, to: str, text: str, **given: Any) -> dict[str, Any]:
    """Sent with what the tools have no word for: as a local agent, with a priority, into a conversation by its id."""
    optional = {"from": given["sender"] or None, "thread": given["thread"] or None, "priority": given["priority"]}
    body = {"to": to, "message": text, "mode": given["mode"], "strict": True}
    body |= {key: value for key, value in optional.items() if value is not None}
    answer = client.demand("POST", "/api/send", body)
    return dict(answer) | {"status": "published" if answer["relaycast_published"] else "pending"}


def _end(client: BrokerClient, receipt: dict[str, Any], until: str | None, timeout_s: float, *, as_json: bool) -> None:
    """Say what became of it; the exit status is the truth: 0 only for what was reached."""
    is_published = receipt["status"] == "published"
    known = receipt["message_id"] if is_published else receipt["event_id"]
    if as_json:
        say_json(receipt, indent=None if until else 2)
    elif is_published:
        say(f"published as {known}{'' if isinstance(client, AgentClient) else f'; follow it: relaybroker why {known}'}")
    else:
        say(f"stored as {known}; it will be published when the engine is back. Do not send it again")
    if until:
        raise SystemExit(int(Watch(client, known, as_json=as_json).until(until, timeout_s)))
    if not is_published:
        raise SystemExit(int(Exit.PENDING))


@examples("relaybroker message wait 252234275435319297 --until read")
@message.command("wait")
@click.argument("message_id", shell_complete=completion.messages)
@click.option("--until", type=click.Choice(STAGES), default="acked", show_default=True)
@_TIMEOUT
@state_option
@json_option
def wait(message_id: str, until: str, timeout_s: float, state_dir: str | None, as_json: bool) -> None:
    """Wait until message MESSAGE_ID (or the id that sending printed for a stored message) reaches a stage.

    Exit status: 0 reached, 10 ended undelivered, 11 not reached in time.
    """
    client = whoever(state_dir)
    raise SystemExit(int(Watch(client, message_id.strip("[]"), as_json=as_json).until(until, timeout_s)))


# --- reading --------------------------------------------------------------------------------------------------------------


@examples("relaybroker message inbox", "relaybroker message inbox --read")
@message.command("inbox")
@click.option("--limit", type=click.IntRange(1, 100), default=20, show_default=True)
@click.option("--read", "mark", is_flag=True, help="Mark the listed messages as read.")
@state_option
@json_option
def inbox(limit: int, mark: bool, state_dir: str | None, as_json: bool) -> None:
    """List unread messages. In an agent's terminal, also take the messages waiting for that agent; they are no longer typed."""
    client = whoever(state_dir)
    answer = client.use("check_inbox", limit=limit)
    if as_json:
        say_json(answer)
    else:
        for line in inbox_lines(answer):
            say(line)
    if mark:
        shown = [one["last_message"]["id"] for one in answer["unread_dms"] if one["last_message"]]
        for message_id in (*shown, *(one["id"] for one in answer["mentions"])):
            client.use("mark_message_read", message_id=message_id)


@examples("relaybroker message thread 252234275435319297")
@message.command("thread")
@click.argument("message_id", shell_complete=completion.messages)
@state_option
@json_option
def thread(message_id: str, state_dir: str | None, as_json: bool) -> None:
    """Show message MESSAGE_ID and its replies, oldest first, with the fate of each per recipient."""
    answer = whoever(state_dir).use("read_thread", message_id=message_id.strip("[]"))
    if as_json:
        say_json(answer)
        return
    for line in thread_lines(answer["messages"]):
        say(line)


@examples("relaybroker message show 252234275435319297")
@message.command("show")
@click.argument("message_id", shell_complete=completion.messages)
@state_option
@json_option
def show(message_id: str, state_dir: str | None, as_json: bool) -> None:
    """Show message MESSAGE_ID, who has read it, and its fate per recipient."""
    answer = whoever(state_dir).use("show_message", message_id=message_id.strip("[]"))
    if as_json:
        say_json(answer)
        return
    for line in message_lines(answer):
        say(line)


def _choice(command: Any) -> Any:
    for option in reversed(
        (
            click.option(
                "--agent", default="", shell_complete=completion.everybody, help="Only messages from or to this agent."
            ),
            click.option("--channel", default=None, help="Only messages in this channel."),
            click.option(
                "--thread", default=None, shell_complete=completion.messages, help="Only this message and its replies."
            ),
            click.option("--state", default="", help="Only messages with a delivery in this state (operator only)."),
            click.option(
                "--since", default="", help="Only messages since this time: 2026-01-31T12:00:00 (local), or 15m."
            ),
            click.option("--until", default="", help="Only messages up to this time."),
            click.option(
                "-n", "limit", type=click.IntRange(1, 100), default=50, show_default=True, help="The newest N."
            ),
        )
    ):
        command = option(command)
    return state_option(json_option(command))


@examples("relaybroker message ls --agent w1 -n 10", "relaybroker message ls --since 1h --state dead_lettered")
@message.command("ls")
@_choice
def listing(state_dir: str | None, as_json: bool, **filters: Any) -> None:
    """List the newest messages that went through this broker; in an agent's terminal, those that the agent can see."""
    _list(state_dir, "", as_json=as_json, **filters)


@examples("relaybroker message search deploy --channel general")
@message.command("search")
@click.argument("text")
@_choice
def search(text: str, state_dir: str | None, as_json: bool, **filters: Any) -> None:
    """List the newest messages that contain TEXT, ignoring case. Exit status 3 if there are none."""
    if not _list(state_dir, text, as_json=as_json, **filters):
        raise SystemExit(int(Exit.NOT_FOUND))


def _list(state_dir: str | None, text: str, *, as_json: bool, **filters: Any) -> int:
    from relaybroker.domain.delivery import DeliveryState

    if filters["state"]:
        must_be("state of a delivery", filters["state"], DeliveryState, otherwise=Exit.USAGE)
        filters["state"] = filters["state"].lower()
    if filters["thread"]:
        filters["thread"] = filters["thread"].strip("[]")
    since, until = (moment(filters.pop(name)) for name in ("since", "until"))
    given = {name: value for name, value in filters.items() if value}
    messages = whoever(state_dir).use("find_messages", text=text, since=since, until=until, **given)["messages"]
    if as_json:
        say_json(messages)
    for one in () if as_json else messages:
        say(said_line(one))
    return len(messages)
