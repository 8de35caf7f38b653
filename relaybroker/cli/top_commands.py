"""`top`: the live table; attaching leaves it and comes back."""

from __future__ import annotations

import sys

import click

from relaybroker.cli.client import BrokerClient
from relaybroker.cli.exits import Exit, fail
from relaybroker.cli.options import examples, state_option


@examples("relaybroker top")
@click.command("top")
@state_option
def top(state_dir: str | None) -> None:
    """Show the agents in a live table: state, waiting messages and why, link, dead letters.

    Keys attach, hold, flush, answer and release.
    """
    from relaybroker.cli import attach
    from relaybroker.cli.top import Top

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        fail(Exit.USAGE, "top needs a terminal; for programs: relaybroker status --json")
    client = BrokerClient.find(state_dir)
    while name := Top(client.answer).run():
        attach.run(client, name)
