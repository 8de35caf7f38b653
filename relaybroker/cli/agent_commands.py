"""Commands about agents."""

from __future__ import annotations

import json
import os
import shlex
from typing import Any

import click

from relaybroker.cli.client import BrokerClient, segment
from relaybroker.cli.completion import AGENTS
from relaybroker.cli.exits import Exit, fail
from relaybroker.cli.output import say, say_json


@click.group()
def agent() -> None:
    """Spawn, list, show, release and attach to agents."""


def _common(command: Any) -> Any:
    command = click.option("--json", "as_json", is_flag=True)(command)
    return click.option("--state-dir", metavar="DIR", help="Where the broker keeps its state.")(command)


@agent.command(context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--task", default="", help="Typed once the program is ready.")
@click.option("--cwd", default="", help="Working directory, absolute.")
@click.option("--channel", "channels", multiple=True, help="Channel to join; may be repeated.")
@click.option("--harness", default="", metavar="NAME", help="What the program is, where its command does not say it.")
@click.option(
    "--env",
    "variables",
    multiple=True,
    metavar="NAME[=VALUE]",
    help="For the environment of the agent; without VALUE the one of this shell. May be repeated.",
)
@_common
def spawn(
    name: str,
    command: tuple[str, ...],
    task: str,
    cwd: str,
    channels: tuple[str, ...],
    harness: str,
    variables: tuple[str, ...],
    state_dir: str | None,
    as_json: bool,
) -> None:
    """Start COMMAND as agent NAME, in a terminal of its own. Put `--` before a COMMAND that has options."""
    body: dict[str, Any] = {"name": name, "cli": shlex.join(command), "channels": list(channels)}
    given = (("task", task), ("cwd", cwd), ("harness", harness), ("env", _environment(variables)))
    body |= {key: value for key, value in given if value}
    answer = BrokerClient.find(state_dir).demand("POST", "/api/spawn", body)
    if as_json:
        say_json(answer)
        return
    say(f"{name} runs, pid {answer['pid']}")
    if answer["warning"]:
        say(f"warning: {answer['warning']}", err=True)


def _environment(variables: tuple[str, ...]) -> dict[str, str]:
    """The variables of `--env`. Ends the command for one without value that this shell does not have either."""
    found = {}
    for given in variables:
        name, has_value, value = given.partition("=")
        if not has_value and name not in os.environ:
            fail(Exit.USAGE, f"--env {name}: this shell has no such variable. Give it one: --env {name}=VALUE")
        found[name] = value if has_value else os.environ[name]
    return found


@agent.command("ls")
@_common
def listing(state_dir: str | None, as_json: bool) -> None:
    """Every agent of this broker."""
    rows = BrokerClient.find(state_dir).demand("GET", "/api/spawned")["agents"]
    if as_json:
        say_json(rows)
        return
    for row in rows:
        waits = f"{row['waiting']} waiting ({row['waiting_reason']})" if row["waiting"] else ""
        held = "manual_flush " if row["delivery_mode"] == "manual_flush" else ""
        say(
            f"{row['name']:<20} pid {row['pid'] or '-':<8} {row['worker'] or row['registration']:<10}"
            f" typed {row['typed']:<6} {held}{waits}"
        )


@agent.command()
@click.argument("name", shell_complete=AGENTS)
@_common
def show(name: str, state_dir: str | None, as_json: bool) -> None:
    """One agent, and where its messages stand. NAME may be a unique prefix."""
    rows = BrokerClient.find(state_dir).demand("GET", "/api/spawned")["agents"]
    fits = [row for row in rows if row["name"] == name] or [row for row in rows if row["name"].startswith(name)]
    if len(fits) != 1:
        fail(
            Exit.NOT_FOUND,
            f"no single agent is called {name!r}. See: relaybroker agent ls; its past: relaybroker why {name}",
        )
    if as_json:
        say_json(fits[0])
        return
    for key, value in fits[0].items():
        say(f"{key:<22} {value}")


@agent.command()
@click.argument("name", shell_complete=AGENTS)
@click.option("--reason", default="")
@_common
def release(name: str, reason: str, state_dir: str | None, as_json: bool) -> None:
    """End an agent and everything that it started."""
    body = {"reason": reason} if reason else {}
    answer = BrokerClient.find(state_dir).demand("DELETE", f"/api/spawned/{segment(name)}", body)
    if as_json:
        say_json(answer)
        return
    said = f"{name} is released" if answer.get("existed", True) else f"there was no agent {name}"
    later = "; the engine is told when the link is back" if answer.get("release_pending") else ""
    if answer.get("pending"):
        fail(Exit.PENDING, f"{name} is being released; see: relaybroker agent ls")
    if answer.get("end_unconfirmed"):
        fail(
            Exit.PENDING,
            f"{name} is no agent any more, but the PTY host has not said that its program ended{later}; it is ended when the host"
            " answers, or by: relaybroker down",
        )
    say(said + later)


@agent.command()
@click.argument("name", shell_complete=AGENTS)
@click.argument("mode", required=False, type=click.Choice(["auto_inject", "manual_flush"]))
@click.option("--reason", default="", help="Why; it stands in the log.")
@_common
def mode(name: str, mode: str | None, reason: str, state_dir: str | None, as_json: bool) -> None:
    """Show or set what happens to messages for NAME: typed as they come, or held until they are flushed."""
    client, path = BrokerClient.find(state_dir), f"/api/spawned/{segment(name)}/delivery-mode"
    if mode is None:
        answer = client.demand("GET", path)
    else:
        answer = client.demand("PUT", path, {"mode": mode} | ({"reason": reason} if reason else {}))
    if as_json:
        say_json(answer)
        return
    flushed = f", {answer['flushed']} let through" if answer.get("flushed") else ""
    say(f"{name} is in {answer['mode']}, {answer['held']} held{flushed}")


@agent.command()
@click.argument("name", shell_complete=AGENTS)
@_common
def pending(name: str, state_dir: str | None, as_json: bool) -> None:
    """Messages for NAME that are held until they are flushed, in order."""
    rows = BrokerClient.find(state_dir).demand("GET", f"/api/spawned/{segment(name)}/pending")["pending"]
    if as_json:
        say_json(rows)
        return
    for row in rows:
        say(f"{row['event_id']:<24} from {row['from']:<20} {row['body'].splitlines()[0][:100] if row['body'] else ''}")


@agent.command()
@click.argument("name", shell_complete=AGENTS)
@_common
def flush(name: str, state_dir: str | None, as_json: bool) -> None:
    """Let through what is held for NAME; what comes later is held again."""
    answer = BrokerClient.find(state_dir).demand("POST", f"/api/spawned/{segment(name)}/flush", {})
    say(json.dumps(answer, indent=2) if as_json else f"{answer['flushed']} let through, {answer['remaining']} held")


@agent.command()
@click.argument("name", shell_complete=AGENTS)
@click.option("--state-dir", metavar="DIR", help="Where the broker keeps its state.")
def attach(name: str, state_dir: str | None) -> None:
    """See an agent's terminal and type into it; Ctrl-] leaves."""
    from relaybroker.cli.attach import run

    run(BrokerClient.find(state_dir), name)
