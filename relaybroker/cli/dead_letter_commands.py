"""Commands about dead letters of a running broker; `relaybroker why` tells how one came to be, also when none runs."""

from __future__ import annotations

from typing import Any

import click

from relaybroker.audit.times import length
from relaybroker.cli import completion
from relaybroker.cli.client import BrokerClient, segment
from relaybroker.cli.exits import Exit, fail
from relaybroker.cli.groups import Group
from relaybroker.cli.names import must_be
from relaybroker.cli.options import examples, json_option, state_option
from relaybroker.cli.output import say, say_json
from relaybroker.cli.tables import facts, table


@click.group("dead-letters", cls=Group)
def dead_letters() -> None:
    """List, show, redeliver and purge messages that could not be typed."""


def _common(command: Any) -> Any:
    return state_option(json_option(command))


def _choice(command: Any) -> Any:
    command = click.option(
        "--agent", default="", help="With --all: only those for this agent.", shell_complete=completion.agents
    )(command)
    command = click.option("--all", "every", is_flag=True, help="All dead letters.")(command)
    return click.argument("identifiers", metavar="[ID]...", nargs=-1, shell_complete=completion.letters)(command)


@examples("relaybroker dead-letters ls", "relaybroker dead-letters ls --agent w1 --json")
@dead_letters.command("ls")
@click.option("--agent", default="", help="Only dead letters for this agent.", shell_complete=completion.agents)
@_common
def listing(agent: str, state_dir: str | None, as_json: bool) -> None:
    """List all dead letters, oldest first."""
    rows = _rows(BrokerClient.find(state_dir), agent)
    if as_json:
        say_json(rows)
        return
    shown = [
        (
            row["id"],
            row["name"],
            f"{row['reason']}{' (may have been typed)' if row['in_doubt'] else ''}",
            row["from"],
            length(row["age_ms"] / 1000),
        )
        for row in rows
    ]
    table(("DEAD LETTER", "AGENT", "REASON", "FROM", "AGE"), shown, empty="No dead letters.")


@examples("relaybroker dead-letters show 252234275435319297")
@dead_letters.command("show")
@click.argument("identifier", shell_complete=completion.letters)
@_common
def show(identifier: str, state_dir: str | None, as_json: bool) -> None:
    """Show one dead letter with its text. IDENTIFIER is its id, its message id, or a unique prefix of either."""
    client = BrokerClient.find(state_dir)
    (letter_id,) = _resolve(client, (identifier,))
    letter = client.demand("GET", f"/api/dead-letters/{segment(letter_id)}")["dead_letter"]
    if as_json:
        say_json(letter)
        return
    facts(list(letter.items()))


@examples(
    "relaybroker dead-letters redeliver --all --agent w1",
    "relaybroker dead-letters redeliver 252234275435319297 --force",
)
@dead_letters.command("redeliver")
@_choice
@click.option(
    "--force",
    is_flag=True,
    help="Include messages that may have been typed already; they are marked possible-duplicate.",
)
@_common
def redeliver(
    identifiers: tuple[str, ...], every: bool, agent: str, force: bool, state_dir: str | None, as_json: bool
) -> None:
    """Redeliver dead letters, each as a new attempt. Letters that cannot be typed now stay, with a reason."""
    client = BrokerClient.find(state_dir)
    body = _body(client, identifiers, every=every, agent=agent)
    answer = client.demand("POST", "/api/dead-letters/redeliver", body | ({"force": True} if force else {}))
    if as_json:
        say_json(answer)
    else:
        for row in answer["redelivered"]:
            say(f"{row['id']} goes to {row['name']} as attempt {row['attempt']}; relaybroker why {row['event_id']}")
        for row in answer["skipped"]:
            say(f"{row['id']} stays a dead letter: {row['message']} [{row['code']}]")
    if answer["skipped"]:
        raise SystemExit(int(Exit.REFUSED))


@examples("relaybroker dead-letters purge --all --agent w1")
@dead_letters.command("purge")
@_choice
@_common
def purge(identifiers: tuple[str, ...], every: bool, agent: str, state_dir: str | None, as_json: bool) -> None:
    """Remove dead letters from the list permanently. The log keeps them."""
    client = BrokerClient.find(state_dir)
    answer = client.demand("POST", "/api/dead-letters/purge", _body(client, identifiers, every=every, agent=agent))
    if as_json:
        say_json(answer)
    else:
        say(f"Purged {len(answer['purged'])}.")


def _rows(client: BrokerClient, agent: str = "") -> list[dict[str, Any]]:
    query = f"?agent={segment(agent)}" if agent else ""
    if agent:
        _check_agent(client, agent)
    rows: list[dict[str, Any]] = client.demand("GET", f"/api/dead-letters{query}")["dead_letters"]
    return rows


def _check_agent(client: BrokerClient, name: str) -> None:
    """End the command if nobody of this name runs here or has a dead letter."""
    letters = client.demand("GET", "/api/dead-letters")["dead_letters"]
    running = client.demand("GET", "/api/spawned")["agents"]
    must_be("agent", name, dict.fromkeys([row["name"] for row in (*running, *letters)]))


def _body(client: BrokerClient, identifiers: tuple[str, ...], *, every: bool, agent: str) -> dict[str, Any]:
    if bool(identifiers) == every:
        fail(Exit.USAGE, "name dead letters, or use --all. See: relaybroker dead-letters ls")
    if agent and not every:
        fail(Exit.USAGE, "--agent works only with --all, not with ids")
    if every and agent:
        _check_agent(client, agent)
    if every:
        return {"all": True} | ({"agent": agent} if agent else {})
    return {"ids": _resolve(client, identifiers)}


def _resolve(client: BrokerClient, identifiers: tuple[str, ...]) -> list[str]:
    """The letters that are meant by ids, message ids or unique prefixes. Ends the command if one means none or several."""
    rows = _rows(client)
    letter_ids = []
    for wanted in identifiers:
        names = [(row["id"], row["event_id"], row["message_id"]) for row in rows]
        fits = [name[0] for name in names if wanted in name] or [
            name[0] for name in names if any(known.startswith(wanted) for known in name)
        ]
        if len(fits) != 1:
            several = f" It may be any of {', '.join(fits[:8])}." if fits else ""
            fail(
                Exit.USAGE if fits else Exit.NOT_FOUND,
                f"no dead letter {wanted!r}.{several} See: relaybroker dead-letters ls",
            )
        letter_ids += fits
    return letter_ids
