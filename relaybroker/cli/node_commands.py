"""Commands about the node's place at its engine: enrol."""

from __future__ import annotations

import time
from typing import Any

import click

from relaybroker.cli.client import BrokerClient
from relaybroker.cli.exits import Exit, fail
from relaybroker.cli.groups import Group
from relaybroker.cli.options import examples, json_option, state_option
from relaybroker.cli.output import say, say_json

SETTLES_S = 30.0
"""How long an enrolment is waited for."""
_STEP_S = 0.1
_UNDER_WAY = ("offline", "minting", "connecting", "registering")


@click.group(cls=Group)
def node() -> None:
    """Enrol this node with its engine."""


@examples("relaybroker node enrol")
@node.command()
@state_option
@json_option
def enrol(state_dir: str | None, as_json: bool) -> None:
    """Enrol and connect now, regardless of earlier attempts, and wait for the result."""
    client = BrokerClient.find(state_dir)
    begun = client.demand("POST", "/api/node/enrol", {})["begun"]
    link = _settled(client)
    if as_json:
        say_json({"begun": begun, "link": link})
    if link["state"] != "online":
        fail(Exit.REFUSED if link["state"] == "refused" else Exit.FAILED, refusal(link))
    if not as_json:
        say("The node is enrolled and online." if begun else "The node was already online.")


def _settled(client: BrokerClient) -> dict[str, Any]:
    """The link, once it is up, refused, or waits for its next attempt."""
    deadline = time.monotonic() + SETTLES_S
    while True:
        link: dict[str, Any] = client.demand("GET", "/api/session")["link"]
        if link["state"] not in _UNDER_WAY or time.monotonic() > deadline:
            return link
        time.sleep(_STEP_S)


def refusal(link: dict[str, Any]) -> str:
    """Why the node is not at its engine, and what to do."""
    why = ": ".join(part for part in (link["reason"], link["detail"]) if part) or link["state"]
    if link["state"] == "refused":
        return f"the engine refused this node, {why}\nAfter fixing the cause: relaybroker node enrol"
    return f"the node is {link['state']}, {why}\nThe broker keeps trying. See: relaybroker status"
