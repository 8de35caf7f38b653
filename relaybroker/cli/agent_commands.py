"""Commands about agents."""

from __future__ import annotations

import os
import shlex
from typing import Any

import click

from relaybroker.audit.times import length
from relaybroker.cli import completion
from relaybroker.cli.client import BrokerClient, segment
from relaybroker.cli.exits import Exit, fail
from relaybroker.cli.groups import Group
from relaybroker.cli.options import examples, json_option, state_option
from relaybroker.cli.output import say, say_json
from relaybroker.cli.tables import facts, table
from relaybroker.config.login import login_name
from relaybroker.config.nearest import did_you_mean


@click.group(cls=Group)
def agent() -> None:
    """Spawn, list, show, release and attach to agents."""


def _common(command: Any) -> Any:
    return state_option(json_option(command))


@examples(
    "relaybroker agent spawn w1 -- bash",
    "relaybroker agent spawn w2 --env ANTHROPIC_API_KEY --task 'Say hello in #general.' -- claude --model opus",
    "relaybroker agent spawn w2 --resume 5e0c0d2a-8f1e-4b57-9d53-0c1f6a7b8c9d -- claude",
)
@agent.command(context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--task", default="", help="Text to type once the program is ready.")
@click.option("--cwd", default="", help="Working directory (absolute).", shell_complete=completion.directories)
@click.option("--channel", "channels", multiple=True, help="Channel to join; repeatable.")
@click.option("--harness", default="", metavar="NAME", help="Which program this is, if the command does not show it.")
@click.option(
    "--door",
    "doors",
    multiple=True,
    metavar="NAME",
    help="How messages enter the program, if it can; several in order of preference. The terminal is behind them.",
)
@click.option(
    "--surface",
    multiple=True,
    type=click.Choice(("reaction", "receipt")),
    help="Tell the agent what others do with its messages; may be repeated.",
)
@click.option(
    "--env",
    "variables",
    multiple=True,
    metavar="NAME[=VALUE]",
    help="Set a variable for the agent; without VALUE, pass this shell's value. Repeatable.",
)
@click.option(
    "--restart", is_flag=True, help="Start the program again when it fails: after 2 s, 4 s, …, at most 5 times."
)
@click.option(
    "--bypass",
    is_flag=True,
    help="Have the program ask for no permission, if it has such a mode and the operator allows it.",
)
@click.option("--continue-from", "former", default="", metavar="NAME", help="Go on with what agent NAME left.")
@click.option("--resume", default="", metavar="SESSION", help="Go on with this session of the program's own.")
@_common
def spawn(
    name: str,
    command: tuple[str, ...],
    task: str,
    cwd: str,
    channels: tuple[str, ...],
    harness: str,
    doors: tuple[str, ...],
    surface: tuple[str, ...],
    variables: tuple[str, ...],
    restart: bool,
    bypass: bool,
    former: str,
    resume: str,
    state_dir: str | None,
    as_json: bool,
) -> None:
    """Start COMMAND as agent NAME in its own terminal. Put `--` before a COMMAND with options."""
    body: dict[str, Any] = {"name": name, "cli": shlex.join(command), "channels": list(channels)}
    given: dict[str, Any] = {
        "task": task,
        "cwd": cwd,
        "harness": harness,
        "surface": list(surface),
        "session_id": resume,
        "continue_from": former,
        "permission_mode": "bypass" if bypass else "",
    }
    given["doors"] = list(doors)
    given["env"] = _environment(variables)
    given["restart_policy"] = {"enabled": True} if restart else None
    body |= {key: value for key, value in given.items() if value}
    answer = BrokerClient.find(state_dir).demand("POST", "/api/spawn", body)
    if as_json:
        say_json(answer)
        return
    say(f"{name} is running (pid {answer['pid']}).")
    if answer["warning"]:
        say(f"warning: {answer['warning']}", err=True)


def _environment(variables: tuple[str, ...]) -> dict[str, str]:
    """The variables of `--env`. Ends the command for one without value that this shell does not have either."""
    environment = {}
    for given in variables:
        name, has_value, value = given.partition("=")
        if not has_value and name not in os.environ:
            fail(Exit.USAGE, f"--env {name}: this shell has no such variable. Set one: --env {name}=VALUE")
        environment[name] = value if has_value else os.environ[name]
    return environment


@examples("relaybroker agent ls", "relaybroker agent ls --json")
@agent.command("ls")
@_common
def listing(state_dir: str | None, as_json: bool) -> None:
    """List the agents of this broker."""
    rows = BrokerClient.find(state_dir).demand("GET", "/api/spawned")["agents"]
    if as_json:
        say_json(rows)
        return
    shown = [
        (row["name"], row["pid"] or "-", row["worker"] or row["registration"], row["typed"], waits(row)) for row in rows
    ]
    empty = "No agents are running. Start one: relaybroker agent spawn NAME -- COMMAND"
    table(("AGENT", "PID", "STATE", "TYPED", "WAITING"), shown, empty=empty)


def waits(row: dict[str, Any]) -> str:
    """What waits for an agent, since when and why; and whether a person holds it."""
    said = []
    if row["waiting"]:
        since = f" since {length(row['waiting_since_secs'])}" if row["waiting_since_secs"] is not None else ""
        said.append(f"{row['waiting']}{since} ({row['waiting_reason']})")
    if row["delivery_mode"] == "manual_flush":
        said.append(f"held by a person: relaybroker agent flush {row['name']}")
    return ", ".join(said)


@examples("relaybroker agent show w1")
@agent.command()
@click.argument("name", shell_complete=completion.agents)
@_common
def show(name: str, state_dir: str | None, as_json: bool) -> None:
    """Show one agent and its messages. NAME may be a unique prefix."""
    rows = BrokerClient.find(state_dir).demand("GET", "/api/spawned")["agents"]
    fits = [row for row in rows if row["name"] == name] or [row for row in rows if row["name"].startswith(name)]
    if len(fits) != 1:
        near = did_you_mean(name, [row["name"] for row in rows])
        fail(
            Exit.NOT_FOUND,
            f"no agent named {name!r}.{near} See: relaybroker agent ls. For its history: relaybroker why {name}",
        )
    if as_json:
        say_json(fits[0])
        return
    facts(list(fits[0].items()))


@examples("relaybroker agent release w1")
@agent.command()
@click.argument("name", shell_complete=completion.agents)
@click.option("--reason", default="", help="Reason to record in the log.")
@_common
def release(name: str, reason: str, state_dir: str | None, as_json: bool) -> None:
    """Stop an agent and everything it started."""
    body = {"reason": reason} if reason else {}
    answer = BrokerClient.find(state_dir).demand("DELETE", f"/api/spawned/{segment(name)}", body)
    if not answer.get("existed", True):
        fail(
            Exit.NOT_FOUND, f"no agent named {name}. See: relaybroker agent ls. For its history: relaybroker why {name}"
        )
    if as_json:
        say_json(answer)
        return
    said = f"{name} is released"
    later = "; the engine will be told when the link is back" if answer.get("release_pending") else ""
    if answer.get("pending"):
        fail(Exit.PENDING, f"{name} is being released; see: relaybroker agent ls")
    if answer.get("end_unconfirmed"):
        fail(
            Exit.PENDING,
            f"{name} is no agent any more, but the PTY host has not said that its program ended{later}; it is ended when the host"
            " answers, or by: relaybroker down",
        )
    say(said + later)


@examples("relaybroker agent mode w1 manual_flush --reason 'I drive'", "relaybroker agent mode w1 auto_inject")
@agent.command()
@click.argument("name", shell_complete=completion.agents)
@click.argument("mode", required=False, type=click.Choice(["auto_inject", "manual_flush"]))
@click.option("--reason", default="", help="Reason to record in the log.")
@_common
def mode(name: str, mode: str | None, reason: str, state_dir: str | None, as_json: bool) -> None:
    """Show or set whether messages for NAME are typed as they arrive or held until flushed."""
    client, path = BrokerClient.find(state_dir), f"/api/spawned/{segment(name)}/delivery-mode"
    if mode is None:
        answer = client.demand("GET", path)
    else:
        answer = client.demand("PUT", path, {"mode": mode} | ({"reason": reason} if reason else {}))
    if as_json:
        say_json(answer)
        return
    flushed = f" Released {answer['flushed']}." if answer.get("flushed") else ""
    say(f"{name}: {answer['mode']}; {answer['held']} held.{flushed}")


@examples("relaybroker agent pending w1")
@agent.command()
@click.argument("name", shell_complete=completion.agents)
@_common
def pending(name: str, state_dir: str | None, as_json: bool) -> None:
    """List the messages held for NAME, in order."""
    rows = BrokerClient.find(state_dir).demand("GET", f"/api/spawned/{segment(name)}/pending")["pending"]
    if as_json:
        say_json(rows)
        return
    shown = [(row["event_id"], row["from"], row["body"].splitlines()[0][:200] if row["body"] else "") for row in rows]
    table(("MESSAGE", "FROM", "TEXT"), shown, empty=f"Nothing is held for {name}.")


@examples("relaybroker agent flush w1")
@agent.command()
@click.argument("name", shell_complete=completion.agents)
@_common
def flush(name: str, state_dir: str | None, as_json: bool) -> None:
    """Release the messages held for NAME; new ones are held again."""
    answer = BrokerClient.find(state_dir).demand("POST", f"/api/spawned/{segment(name)}/flush", {})
    if as_json:
        say_json(answer)
        return
    say(f"Released {answer['flushed']}; {answer['remaining']} still held.")


@examples("relaybroker agent questions", "relaybroker agent questions --json")
@agent.command()
@_common
def questions(state_dir: str | None, as_json: bool) -> None:
    """List the questions of agents' programs, with their options."""
    asked = BrokerClient.find(state_dir).demand("GET", "/api/questions")["questions"]
    if as_json:
        say_json(asked)
        return
    shown = [(one["name"], one["question"], _in_one_row(one["options"])) for one in asked]
    table(("AGENT", "QUESTION", "OPTIONS"), shown, empty="No agent is asking a question.")


def _in_one_row(options: list[dict[str, Any]]) -> str:
    return " | ".join(f"{option['key']} {option['label']}" for option in options) or "needs text or keys: attach to it"


@examples("relaybroker agent answer w1", "relaybroker agent answer w1 2", "relaybroker agent answer w1 'Yes, I trust'")
@agent.command()
@click.argument("name", shell_complete=completion.agents)
@click.argument("option", required=False)
@_common
def answer(name: str, option: str | None, state_dir: str | None, as_json: bool) -> None:
    """Answer the question of NAME's program with OPTION: its number, letter, label, or the start of its label.

    Without OPTION, show the question.
    """
    client, path = BrokerClient.find(state_dir), f"/api/spawned/{segment(name)}"
    if option is None:
        question = client.demand("GET", f"{path}/question")
        say_json(question) if as_json else _show_question(question)
        return
    chosen = client.demand("POST", f"{path}/answer", {"option": option, "by": login_name()})
    if as_json:
        say_json(chosen)
        return
    say(f"{chosen['name']}: chose {chosen['option']!r}.")


def _show_question(question: dict[str, Any]) -> None:
    say(f"{question['name']} asks ({question['question']}):")
    for line in question["text"]:
        say(f"  {line}")
    for option in question["options"]:
        more = f"  ({option['more']})" if "more" in option else ""
        say(f"{'>' if option['marked'] else ' '} {option['key']:>3}  {option['label']}{more}")
    if question["options"]:
        say(f"Answer: relaybroker agent answer {question['name']} {question['options'][0]['key']}")
    else:
        say(f"It needs text or keys: relaybroker agent attach {question['name']}")


@examples("relaybroker agent attach w1")
@agent.command()
@click.argument("name", shell_complete=completion.agents)
@click.option("--view", is_flag=True, help="View only: type nothing and keep the size of the agent's terminal.")
@state_option
def attach(name: str, view: bool, state_dir: str | None) -> None:
    """Show an agent's terminal and type into it; Ctrl-] leaves."""
    from relaybroker.cli.attach import run

    run(BrokerClient.find(state_dir), name, view=view)
