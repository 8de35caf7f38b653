"""Commands about the broker itself: demo, up, init, down, status, engine."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from relaybroker.adapters import private_files
from relaybroker.adapters.own_programs import own_program
from relaybroker.audit.times import ago, length
from relaybroker.cli import completion
from relaybroker.cli.agent_commands import waits
from relaybroker.cli.client import BrokerClient, state_directory
from relaybroker.cli.config_commands import config_option, config_path
from relaybroker.cli.exits import Exit, fail
from relaybroker.cli.node_commands import refusal
from relaybroker.cli.options import examples, json_option, state_option
from relaybroker.cli.output import say, say_json
from relaybroker.cli.progress import watching
from relaybroker.cli.tables import facts, table
from relaybroker.config import connection_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from relaybroker.adapters.service_notices import NoticeListener
    from relaybroker.cli.progress import Watch
    from relaybroker.config.connection_file import Connection
    from relaybroker.config.paths import Paths
    from relaybroker.config.settings import Settings
    from relaybroker.fleet.applying import Done

PORT = click.IntRange(0, 65535)
SILENT_S = 120.0
"""A start that has said nothing for so long is given up; one that goes on is waited for, however long its log is."""
LOOK_S = 0.2
FLEET = "fleet: "
"""What a starting broker says about its agents begins so."""
DOWN_S = 15.0
ASK_S = 3.0
"""What a broker gets to answer that it will end; one that hangs is killed when `DOWN_S` is over."""


def _run(workspace_key: str = "", **flags: Any) -> int:
    """Run a broker with these `Flags`; the exit status."""
    from relaybroker.adapters import first_process
    from relaybroker.cli.hidden_secrets import hide

    workspace_key = hide(workspace_key)  # may start this process anew: what was imported until here is imported twice
    if first_process.is_first():
        return first_process.serve(own_program("relaybroker", *sys.argv[1:]))
    gc.disable()  # nothing that is imported is garbage: looking for some is a twentieth of the start
    from pydantic import SecretStr

    from relaybroker.config.settings import Flags, SettingsError, take_settings

    try:
        given = Flags(workspace_key=SecretStr(workspace_key), **flags)
        settings = take_settings(given, os.environ, Path.cwd())
    except (SettingsError, OSError) as error:
        say(f"relaybroker: {error}", err=True)
        return 1
    if not (settings.engine_url or "").startswith("https:"):
        from relaybroker.serving.without_tls import import_aiohttp_without_tls

        import_aiohttp_without_tls()
    from relaybroker.api.local_api import make_local_api
    from relaybroker.node.bootstrap import run

    gc.freeze()
    gc.enable()
    return run(settings, make_local_api, _settle)


def _settle(settings: Settings, paths: Paths, connection: Connection, report: Callable[[str], None]) -> None:
    """Start the agents of the configuration file, and end those that it named before."""
    from relaybroker.fleet.applying import apply, memory_of

    if settings.agents is None:
        return
    client = BrokerClient(connection.url, connection.api_key)

    def say_done(one: Done) -> None:
        if one.problem:
            said = f"{FLEET}{one.step.name} does not match the file: {one.problem}"
            say(f"relaybroker: {said}", err=True)
            report(said)
        elif one.step.kind not in ("keep", "leave"):
            report(f"{FLEET}{one.step.name}: {one.step.kind}")

    apply(settings.agents, settings.cwd, memory_of(paths.state, paths.name), client.answer, os.environ, say_done)


@examples("relaybroker demo --keep")
@click.command()
@click.option("--keep", is_flag=True, help="Keep the state directory and print its path.")
@click.option("--while-down", default=60, show_default=True, help="Messages posted while the broker is dead.")
def demo(keep: bool, while_down: int) -> None:
    """Show the main job on the embedded engine: agents, messages, kill -9, nothing lost."""
    from relaybroker.demo import run

    sys.exit(run(keep=keep, while_down=while_down))


@examples(
    "relaybroker up --detach",
    "relaybroker up --name desk --api-port 7777",
    "RELAY_WORKSPACE_KEY=rk_live_... relaybroker up --detach",
)
@click.command()
@click.option("--name", default="", help="Name of the broker and its node.")
@click.option("--api-port", type=PORT, help="Port of the local API; 0: pick one and keep it across restarts.")
@click.option("--api-bind", default="", help="Address of the local API.  [default: 127.0.0.1]")
@state_option
@config_option
@click.option(
    "--harnesses",
    type=click.Path(path_type=Path),
    help="Directory with profiles of your own programs.  [default: ~/.config/relaybroker/harnesses]",
    shell_complete=completion.directories,
)
@click.option("--detach", is_flag=True, help="Run in the background; return once the broker is ready.")
@click.option(
    "--record", type=click.Path(path_type=Path), help="Record this run as a session in this new file, for `replay`."
)
@json_option
def up(
    name: str,
    api_port: int | None,
    api_bind: str,
    state_dir: str | None,
    config_file: str | None,
    harnesses: Path | None,
    detach: bool,
    record: Path | None,
    as_json: bool,
) -> None:
    """Run a broker and the agents in the configuration file, with an embedded engine unless RELAY_BASE_URL names another."""
    from relaybroker.config.finding import state_directory as place_of

    folder, project = place_of(state_dir, os.environ, Path.cwd())
    folder = folder.absolute()
    record = None if record is None else record.absolute()
    harnesses = None if harnesses is None else harnesses.absolute()
    config = config_path(config_file)
    config = None if config is None else config.absolute()
    os.chdir(project)  # one project is one node, from wherever in it the broker is started
    if detach:
        given = {
            "--name": name,
            "--api-bind": api_bind,
            "--api-port": api_port,
            "--config": config,
            "--harnesses": harnesses,
            "--record": record,
        }
        words = [str(word) for option, value in given.items() if value not in ("", None) for word in (option, value)]
        _detach(folder, words, as_json=as_json)
        return
    sys.exit(
        _run(
            command="up",
            instance_name=name,
            name=name,
            api_port=api_port,
            api_bind=api_bind,
            persist=True,
            state_dir=folder,
            config=config,
            record=record,
            harnesses=harnesses,
        )
    )


def start_in_background(folder: Path, *words: str, show: bool = True) -> list[str]:
    """Start a broker in this state directory that outlives the terminal, and wait until it answers; what it said of the fleet.

    `words`: the command, `up` or `init`, and its options. `show`: how far it is. Ends this command if the start fails.
    """
    from relaybroker.adapters.service_notices import NoticeListener, environment_for

    try:
        private_files.make_private_directory(folder)
    except OSError as error:
        fail(Exit.FAILED, f"{folder} cannot be the state directory: {error}")
    log = folder / "broker.out"
    command = own_program("relaybroker", *words, "--state-dir", str(folder))
    with NoticeListener() as listener:
        with private_files.open_log(log) as output:
            before = output.tell()  # a broker that runs already writes into the same file
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=environment_for(listener),
            )
        return _wait_until_ready(process, listener, log, before, show=show)


def _detach(folder: Path, words: list[str], *, as_json: bool) -> None:
    fleet = start_in_background(folder, "up", *words)
    connection = _connection(folder / "connection.json")
    if connection is None:
        fail(Exit.FAILED, f"the broker is ready, but {folder}/connection.json cannot be read. See: relaybroker status")
    _check_accepted(connection)
    following = "relaybroker status" if fleet else "relaybroker agent spawn NAME -- COMMAND"
    if as_json:
        say_json(msgspec.to_builtins(connection) | {"fleet": fleet})
    else:
        for line in fleet:
            say(line)
        say(f"The broker is ready at {connection.url} (pid {connection.pid}). Next: {following}")
    if any(" does not match the file" in line for line in fleet):
        raise SystemExit(int(Exit.REFUSED))


def _wait_until_ready(
    process: subprocess.Popen[bytes], listener: NoticeListener, log: Path, before: int, *, show: bool
) -> list[str]:
    """Wait for as long as the start goes on, showing how far it is; what it said of the fleet.

    Ends the command if the start fails or says nothing any more.
    """
    heard = time.monotonic()
    fleet: list[str] = []
    with watching("starting") if show else contextlib.nullcontext() as watch:
        while True:
            notice = listener.next(LOOK_S)
            if notice:
                heard = time.monotonic()
            if "READY" in notice:
                return fleet
            if notice.get("STATUS", "").startswith(FLEET):
                fleet.append(notice["STATUS"])
            if process.poll() is not None:
                tail = private_files.read_plain(log)[before:].decode("utf-8", "replace")[-2000:]
                fail(Exit.FAILED, f"the broker ended with status {process.returncode}:\n{tail}")
            if time.monotonic() - heard > SILENT_S:
                fail(Exit.FAILED, f"the broker has said nothing for {SILENT_S:g} s; its output is in {log}")
            if watch is not None:
                _show_start(watch, notice.get("STATUS", ""))


_OF = re.compile(r"^(?P<what>.*), (?P<done>\d+) of (?P<total>\d+)$")


def _show_start(watch: Watch, status: str) -> None:
    match = _OF.match(status)
    if match:
        watch.says(match["what"])
        watch.total(int(match["total"]))
        watch(int(match["done"]))
    elif status:
        watch.says(status)
        watch(0)


def _check_accepted(connection: Connection) -> None:
    """End the command if the engine refused the node: the broker runs, and can do nothing."""
    link = BrokerClient(connection.url, connection.api_key).demand("GET", "/api/session")["link"]
    if link["state"] == "refused":
        fail(
            Exit.REFUSED,
            f"{refusal(link)}\nThe broker (pid {connection.pid}) is running but not ready. Stop it: relaybroker down",
        )


def _connection(path: Path) -> Connection | None:
    with contextlib.suppress(OSError):
        return connection_file.read(path)
    return None


@click.command(hidden=True)
@click.option("--instance-name", default="")
@click.option("--name", "--broker-name", "name", default="")
@click.option("--workspace-key", default="")
@click.option("--channels", default="")
@click.option("--api-port", type=PORT)
@click.option("--api-bind", default="")
@click.option("--persist", is_flag=True)
@click.option("--state-dir", default=None)
@click.option("--harnesses", type=click.Path(path_type=Path))
def init(
    instance_name: str,
    name: str,
    workspace_key: str,
    channels: str,
    api_port: int | None,
    api_bind: str,
    persist: bool,
    state_dir: str | None,
    harnesses: Path | None,
) -> None:
    """The broker as existing clients start it (installed as agent-relay-broker)."""
    sys.exit(
        _run(
            workspace_key,
            command="init",
            instance_name=instance_name,
            name=name,
            channels=channels,
            api_port=api_port,
            api_bind=api_bind,
            persist=persist,
            state_dir=None if state_dir is None else Path(state_dir),
            harnesses=harnesses,
        )
    )


@examples("relaybroker down")
@click.command()
@state_option
def down(state_dir: str | None) -> None:
    """Stop a state directory's broker and everything it started: agents, PTY host, engine."""
    from relaybroker.node.leftovers import end_leftovers, is_locked, kill_hung

    folder = state_directory(state_dir)
    if not folder.is_dir():
        fail(Exit.NO_BROKER, f"there is no state directory {folder}")
    deadline = time.monotonic() + DOWN_S
    granted: set[int] = set()
    ended: list[str] = []
    while is_locked(folder):
        for path in folder.glob("connection*.json"):  # each broker of the directory has one of its own
            connection = _connection(path)
            if connection is None or connection.pid in granted:
                continue
            broker = BrokerClient(connection.url, connection.api_key)
            if broker.is_proven(ASK_S) and broker.tell("POST", "/api/shutdown", {}, timeout_s=ASK_S):
                granted.add(connection.pid)
        if time.monotonic() > deadline:
            if not (killed := kill_hung(folder)):
                fail(
                    Exit.FAILED,
                    f"a process still holds {folder} after {DOWN_S:g} s; for its pid see {folder}/broker-*.lock",
                )
            ended += killed
            deadline = time.monotonic() + DOWN_S  # a killed process holds its lock until the system has taken it down
        time.sleep(0.05)
    ended += end_leftovers(folder)
    say("The broker has stopped." + (f" Also stopped: {', '.join(ended)}" if ended else ""))


@examples("relaybroker status", "relaybroker status --json | jq .link.state")
@click.command()
@state_option
@json_option
def status(state_dir: str | None, as_json: bool) -> None:
    """Show the state of the broker, its link and its agents."""
    client = BrokerClient.find(state_dir)
    report = client.demand("GET", "/api/status")
    session = client.demand("GET", "/api/session")
    places = {"api": client.url, "engine": report["node"]["engine"], "state_dir": str(state_directory(state_dir))}
    if as_json:
        say_json(report | {"places": places})
        return
    link, totals, host = report["link"], report["totals"], report["host"]
    reason = f" ({link['reason']}: {link['detail']})" if link["reason"] else ""
    rows: list[tuple[str, object]] = [
        ("node", f"{report['node']['name']}  {report['node']['id']}"),
        ("up", f"{length(session['uptime_secs'])}, version {session['broker_version']}"),
        ("link", f"{link['state']}{reason}, last heard {ago(link['heard_secs_ago'])}"),
        ("engine", places["engine"]),
        ("api", places["api"]),
        ("state", places["state_dir"]),
        ("host", f"{'attached' if host['attached'] else 'not attached'}, pid {host['pid']}"),
    ]
    if locked_s := report.get("log_locked_secs"):
        held = f"another program has held its write lock for {length(locked_s)}; nothing is accepted until it releases the lock"
        rows.append(("log", held))
    if report["disk"]["state"] != "ok":
        free = f"{report['disk']['state'].replace('_', ' ')}, {report['disk']['free_bytes'] // 2**20} MiB free"
        rows.append(("disk", f"{free}; make room, or archive the log: relaybroker log archive"))
    counts = (
        f"offered {totals['offered']}, typed {totals['typed']}, acked {totals['acked']}, dropped {totals['dropped']}"
    )
    letters = f"{report['dead_letter_count']} now, {totals['dead_lettered']} in all"
    rows += [("totals", counts), ("dead letters", letters), ("agents", report["agent_count"])]
    facts(rows)
    if (remedy := _remedy(link, places["state_dir"])) and link["state"] != "online":
        say(remedy)
    say()
    shown = [(row["name"], row["worker"] or row["registration"], row["typed"], waits(row)) for row in report["agents"]]
    table(("AGENT", "STATE", "TYPED", "WAITING"), shown)


def _remedy(link: dict[str, Any], state: str) -> str:
    """What a person can do about a link that is not online; "" where it heals by itself."""
    if "workspace key" in str(link["detail"]):
        return (
            "The engine does not know this workspace: its database is a different one. If the old one is lost for good, stop the broker"
            f" (relaybroker down), remove {state}/workspace.json and start again: node and agents are enrolled again;"
            " or start in another directory with --state-dir."
        )
    return ""


@examples("relaybroker engine --db engine.sqlite --port 8787")
@click.command()
@click.option(
    "--db", "database", required=True, help="Database file; created if missing.", shell_complete=completion.files
)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=PORT, default=8787, show_default=True, help="0: let the system choose.")
def engine(database: str, host: str, port: int) -> None:
    """Run the embedded engine alone, for brokers on this machine."""
    command = own_program("relaybroker.engine", "--db", database, "--host", host, "--port", str(port))
    os.execv(command[0], command)  # noqa: S606 - this process becomes the engine
