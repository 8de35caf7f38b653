"""`open`: the web page of the broker, logged in by a link that is good once."""

from __future__ import annotations

import webbrowser

import click

from relaybroker.cli.client import BrokerClient
from relaybroker.cli.options import examples, json_option, state_option
from relaybroker.cli.output import say, say_json


@examples("relaybroker open", "relaybroker open --read-only --print")
@click.command("open")
@click.option("--read-only", is_flag=True, help="Open a page that can change nothing.")
@click.option("--print", "only_print", is_flag=True, help="Print the link instead of opening a browser.")
@state_option
@json_option
def open_page(read_only: bool, only_print: bool, state_dir: str | None, as_json: bool) -> None:
    """Open the broker's web page: fleet, what needs you, messages, log, terminals. The link works once and expires after a minute."""
    client = BrokerClient.find(state_dir)
    ticket = client.demand("POST", "/api/page/tickets", {"read_only": read_only})
    url = f"{client.url}{ticket['path']}"
    if as_json:
        say_json({"url": url, "expires_in_secs": ticket["expires_in_secs"]})
    elif only_print or not webbrowser.open(url):
        say(url)
    else:
        say(f"the page of {client.url} is open")
