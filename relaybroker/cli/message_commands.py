"""Commands about messages."""

from __future__ import annotations

import click

from relaybroker.cli.client import BrokerClient
from relaybroker.cli.output import say, say_json


@click.group()
def message() -> None:
    """Send messages."""


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
    optional = {"from": sender or None, "thread": thread or None, "priority": priority}
    body = {"to": to, "message": text, "mode": mode} | {
        key: value for key, value in optional.items() if value is not None
    }
    answer = BrokerClient.find(state_dir).demand("POST", "/api/send", body)
    if as_json:
        say_json(answer)
    elif answer["relaycast_published"]:
        say(f"published as {answer['message_id']}; follow it: relaybroker why {answer['message_id']}")
    else:
        say(f"stored as {answer['event_id']}, not published yet; follow it: relaybroker why {answer['event_id']}")
