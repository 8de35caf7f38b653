"""Commands about the broker itself: demo, up, init, down, status, engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from relaybroker.adapters.own_programs import own_program
from relaybroker.cli.client import BrokerClient, state_directory
from relaybroker.cli.exits import Exit, fail
from relaybroker.cli.node_commands import refusal
from relaybroker.cli.output import say, say_json

if TYPE_CHECKING:
    from relaybroker.config.settings import Flags

READY_S = 30.0
DOWN_S = 15.0
ASK_S = 3.0
"""What a broker gets to answer that it will end; one that hangs is killed when `DOWN_S` is over."""


def _state_option(command: Any) -> Any:
    return click.option("--state-dir", metavar="DIR", help="Where the broker keeps its state.")(command)


def _run(flags: Flags) -> int:
    from relaybroker.api.local_api import make_local_api
    from relaybroker.node.bootstrap import run

    return run(flags, make_local_api)


@click.command()
@click.option("--keep", is_flag=True, help="Keep the state directory and print where it is.")
@click.option("--while-down", default=60, show_default=True, help="Messages posted while the broker is dead.")
def demo(keep: bool, while_down: int) -> None:
    """Show the main job on the embedded engine: agents, messages, kill -9, nothing lost."""
    from relaybroker.demo import run

    sys.exit(run(keep=keep, while_down=while_down))


@click.command()
@click.option("--name", default="", help="Name of the broker and of its node.")
@click.option("--api-port", default=0, help="Port of the local API; 0 = chosen, the same again after a restart.")
@click.option("--api-bind", default="127.0.0.1", show_default=True, help="Address of the local API.")
@_state_option
@click.option("--detach", is_flag=True, help="Run in the background; return when it is ready.")
@click.option(
    "--record", type=click.Path(path_type=Path), help="Write a session of this run into this new file, for `replay`."
)
@click.option("--json", "as_json", is_flag=True, help="With --detach: print the connection as JSON.")
def up(
    name: str, api_port: int, api_bind: str, state_dir: str | None, detach: bool, record: Path | None, as_json: bool
) -> None:
    """Run a broker, with its own engine unless RELAY_BASE_URL names another."""
    folder = state_directory(state_dir)
    if detach:
        _detach(folder, name, api_port, api_bind, record, as_json=as_json)
        return
    from relaybroker.config.settings import Flags

    sys.exit(
        _run(
            Flags(
                command="up",
                instance_name=name,
                name=name,
                api_port=api_port,
                api_bind=api_bind,
                persist=True,
                state_dir=folder,
                record=record,
            )
        )
    )


def _detach(folder: Path, name: str, api_port: int, api_bind: str, record: Path | None, *, as_json: bool) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = folder / "broker.out"
    command = own_program("relaybroker", "up", "--state-dir", str(folder), "--api-bind", api_bind)
    command += ["--api-port", str(api_port)] + (["--name", name] if name else [])
    command += ["--record", str(record.absolute())] if record is not None else []
    with os.fdopen(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600), "ab") as output:
        before = output.tell()  # a broker that runs already writes into the same file
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    deadline = time.monotonic() + READY_S
    connection = folder / "connection.json"
    while time.monotonic() < deadline:
        if process.poll() is not None:
            tail = log.read_bytes()[before:].decode("utf-8", "replace")[-2000:]
            fail(Exit.FAILED, f"the broker ended with status {process.returncode}:\n{tail}See: relaybroker status")
        found = _connection(connection)
        if found is not None and found["pid"] == process.pid:
            _check_accepted(found)
            say(json.dumps(found) if as_json else f"broker is ready at {found['url']} (pid {found['pid']})")
            return
        time.sleep(0.05)
    fail(Exit.FAILED, f"the broker was not ready within {READY_S:g} s; its output is in {log}")


def _check_accepted(found: dict[str, Any]) -> None:
    """End the command if the engine refused the node: the broker runs, and can do nothing."""
    link = BrokerClient(found["url"], found["api_key"]).demand("GET", "/api/session")["link"]
    if link["state"] == "refused":
        fail(
            Exit.REFUSED,
            f"{refusal(link)}\nThe broker runs (pid {found['pid']}) and is not ready; end it: relaybroker down",
        )


def _connection(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    kinds = {"url": str, "api_key": str, "pid": int}
    fits = isinstance(found, dict) and all(isinstance(found.get(key), kind) for key, kind in kinds.items())
    return found if fits else None


@click.command(hidden=True)
@click.option("--instance-name", default="")
@click.option("--name", "--broker-name", "name", default="")
@click.option("--workspace-key", default="")
@click.option("--channels", default="")
@click.option("--api-port", default=0)
@click.option("--api-bind", default="127.0.0.1")
@click.option("--persist", is_flag=True)
@click.option("--state-dir", default=None)
def init(
    instance_name: str,
    name: str,
    workspace_key: str,
    channels: str,
    api_port: int,
    api_bind: str,
    persist: bool,
    state_dir: str | None,
) -> None:
    """The broker as existing clients start it (installed as agent-relay-broker)."""
    from pydantic import SecretStr

    from relaybroker.config.settings import Flags

    sys.exit(
        _run(
            Flags(
                command="init",
                instance_name=instance_name,
                name=name,
                workspace_key=SecretStr(workspace_key),
                channels=channels,
                api_port=api_port,
                api_bind=api_bind,
                persist=persist,
                state_dir=None if state_dir is None else Path(state_dir),
            )
        )
    )


@click.command()
@_state_option
def down(state_dir: str | None) -> None:
    """End the broker of a state directory, and everything that it started: agents, PTY host, engine."""
    from relaybroker.node.leftovers import end_leftovers, is_locked, kill_hung

    folder = state_directory(state_dir)
    if not folder.is_dir():
        fail(Exit.NO_BROKER, f"there is no state directory {folder}")
    deadline = time.monotonic() + DOWN_S
    granted: set[int] = set()
    ended: list[str] = []
    while is_locked(folder):
        for path in folder.glob("connection*.json"):  # each broker of the directory has one of its own
            found = _connection(path)
            if found is None or found["pid"] in granted:
                continue
            if BrokerClient(found["url"], found["api_key"]).tell("POST", "/api/shutdown", {}, timeout_s=ASK_S):
                granted.add(found["pid"])
        if time.monotonic() > deadline:
            if not (killed := kill_hung(folder)):
                fail(
                    Exit.FAILED,
                    f"somebody still holds {folder} after {DOWN_S:g} s; its files say who: {folder}/broker-*.lock",
                )
            ended += killed
            deadline = time.monotonic() + DOWN_S  # a killed process holds its lock until the system has taken it down
        time.sleep(0.05)
    ended += end_leftovers(folder)
    say("the broker is down" + (f"; ended what was left: {', '.join(ended)}" if ended else ""))


@click.command()
@_state_option
@click.option("--json", "as_json", is_flag=True)
def status(state_dir: str | None, as_json: bool) -> None:
    """Show how the broker, its link and its agents are."""
    found = BrokerClient.find(state_dir).demand("GET", "/api/status")
    if as_json:
        say_json(found)
        return
    link, totals = found["link"], found["totals"]
    reason = f" ({link['reason']}: {link['detail']})" if link["reason"] else ""
    say(f"node    {found['node']['name']}  {found['node']['id']}")
    say(f"link    {link['state']}{reason}, last heard {_ago(link['heard_secs_ago'])}")
    host = found["host"]
    say(f"host    {'attached' if host['attached'] else 'not attached'}, pid {host['pid']}")
    if locked_s := found.get("log_locked_secs"):
        say(
            f"log     another program has held its write lock for {locked_s:.0f} s; nothing is accepted until it lets go"
        )
    say(
        f"totals  offered {totals['offered']}, typed {totals['typed']}, acked {totals['acked']}, dropped {totals['dropped']},"
        f" dead letters {found['dead_letter_count']} now, {totals['dead_lettered']} in all"
    )
    say(f"agents  {found['agent_count']}")
    for agent in found["agents"]:
        waits = f", {agent['waiting']} waiting ({agent['waiting_reason']})" if agent["waiting"] else ""
        if agent["delivery_mode"] == "manual_flush":
            waits += f", held by hand since {agent['holds'][0]['by_hand_since_secs']:.0f} s (relaybroker agent flush {agent['name']})"
        say(f"  {agent['name']:<20} {agent['worker'] or agent['registration']:<10} typed {agent['typed']}{waits}")


def _ago(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.1f} s ago"


@click.command()
@click.option("--db", "database", required=True, help="Database file; created when it is absent.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8787, show_default=True, help="0 = chosen by the system.")
def engine(database: str, host: str, port: int) -> None:
    """Run the embedded engine alone, for brokers on this machine."""
    command = own_program("relaybroker.engine", "--db", database, "--host", host, "--port", str(port))
    os.execv(command[0], command)  # noqa: S606 - this process becomes the engine
