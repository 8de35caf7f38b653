"""Commands about the node at its engine: enrol, delivery."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlencode

import click

from relaybroker.cli import completion
from relaybroker.cli.client import BrokerClient
from relaybroker.cli.exits import Exit, fail
from relaybroker.cli.groups import Group
from relaybroker.cli.options import examples, json_option, state_option
from relaybroker.cli.output import say, say_json
from relaybroker.cli.tables import table

SETTLES_S = 30.0
"""How long an enrolment is waited for."""
_STEP_S = 0.1
_UNDER_WAY = ("offline", "minting", "connecting", "registering")


@click.group(cls=Group)
def node() -> None:
    """Enrol this node with its engine; show what is delivered to it."""


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


@examples("relaybroker node delivery", "relaybroker node delivery w1")
@node.command()
@click.argument("agent", required=False, default="", shell_complete=completion.agents)
@click.option("-n", "--limit", type=click.IntRange(0, 1000), default=20, show_default=True, help="Newest deliveries.")
@state_option
@json_option
def delivery(agent: str, limit: int, state_dir: str | None, as_json: bool) -> None:
    """Show what the engine delivers to this node: how far each agent is, and what became of the newest deliveries."""
    query = urlencode({"agent": agent, "limit": limit})
    report = BrokerClient.find(state_dir).demand("GET", f"/api/node-delivery?{query}")
    if as_json:
        say_json(report)
        return
    say(f"link: {report['link']['state']}")
    rows = [
        (
            one["agent"],
            one["received"],
            one["settled"],
            "-" if one["acknowledged"] is None else one["acknowledged"],
            _numbers(one["open"]),
            _numbers(one["holes"]),
            one["waits_for"] or "",
        )
        for one in report["cursors"]
    ]
    table(("AGENT", "RECEIVED", "SETTLED", "ACKED", "OPEN", "HOLES", "WAITS FOR"), rows, empty="Nothing was delivered.")
    if report["deliveries"]:
        say()
        shown = [
            (one["agent"], "-" if one["seq"] is None else one["seq"], one["msg_id"], one["state"], one["reason"])
            for one in report["deliveries"]
        ]
        table(("AGENT", "SEQ", "MESSAGE", "STATE", "REASON"), shown, empty="")


def _numbers(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:5])) + (", …" if len(numbers) > 5 else "")


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
