"""`wrap`: one program in the foreground of this terminal, as an agent to which messages are delivered.

The program runs in the PTY host, as every agent does, and this terminal is attached to it: it outlives a broker that is killed, and the
command starts another one and attaches again. It ends with the program, or ends the program when the terminal is closed.

Source: spec/local-api.md sections 4.1 (`wrap`), 4.5 and 9 (B5).
"""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import click

from relaybroker.cli.attach import Attached, Ended, raw_terminal
from relaybroker.cli.client import BrokerClient, segment
from relaybroker.cli.exits import CommandError, Exit, fail
from relaybroker.cli.options import examples, state_option
from relaybroker.config import connection_file
from relaybroker.domain.command_line import check_variables
from relaybroker.domain.errors import InvalidRequest

TRIES = 5
"""Attachments in a row that end without a word about the program; then the command gives up."""
PAUSE_S = 0.3
NAMES = 100
"""Names that are tried where the first one is taken: NAME, NAME-2, NAME-3, …"""
DOWN_S = 10.0
_YES = ("1", "true", "yes", "on")
_SIGNALLED = 128


@examples("relaybroker wrap claude", "RELAY_AGENT_NAME=planner relaybroker wrap -- codex --model gpt-5.5")
@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@state_option
def wrap(command: tuple[str, ...], state_dir: str | None) -> None:
    """Run COMMAND in this terminal, as an agent that gets messages. Exits with the status of COMMAND; 128+N for signal N.

    The agent is called RELAY_AGENT_NAME, or like COMMAND; RELAY_STRICT_AGENT_NAME=1: like that or not at all. It joins RELAY_CHANNELS,
    and is told nothing of its tools with RELAY_SKIP_PROMPT=1. Without a running broker one is started, which ends with the program.
    """
    from relaybroker.config.finding import state_directory

    if not sys.stdin.isatty():
        fail(Exit.USAGE, "wrap needs a terminal. To run an agent without one: relaybroker agent spawn NAME -- COMMAND")
    folder = state_directory(state_dir, os.environ, Path.cwd()).state.absolute()
    wrapped = _Wrapped(folder)
    sys.exit(wrapped.run(command, os.environ))


class _Wrapped:
    """The program and the broker behind it.

    Args:
        folder: the state directory.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._is_ours = False
        self._client = self._broker()
        self._name = ""
        """Of the agent that is ours; "" = there is none."""

    def _broker(self, *, show: bool = True) -> BrokerClient:
        """The broker of the directory; it is started if there is none. Ends the command if that fails."""
        from relaybroker.cli.broker_commands import start_in_background

        if (client := self._running()) is None:
            start_in_background(self._folder, "init", show=show)
            self._is_ours = True
            client = BrokerClient.find(str(self._folder))
        return client

    def _running(self) -> BrokerClient | None:
        try:
            recorded = connection_file.read(self._folder / "connection.json")
        except OSError:
            return None
        client = None if recorded is None else BrokerClient(recorded.url, recorded.api_key)
        return client if client is not None and client.is_proven(PAUSE_S) else None

    def run(self, command: tuple[str, ...], environ: Mapping[str, str]) -> int:
        """Run the command as an agent until it ends; the exit status."""
        seen = int(self._client.demand("GET", "/api/session")["last_seq"])
        self._spawn(command, environ)
        attached = Attached(self._client, self._name, seen=seen)
        try:
            with raw_terminal(attached.modes):
                ended = asyncio.run(self._attend(attached))
        finally:
            self._leave()
        if not ended.event:
            fail(ended.status, f"{ended.why}. Its program may run on; see: relaybroker agent ls")
        return status_of(ended.event)

    def _spawn(self, command: tuple[str, ...], environ: Mapping[str, str]) -> None:
        wanted = environ.get("RELAY_AGENT_NAME", "").strip() or PurePath(command[0]).name
        size = os.get_terminal_size(sys.stdin.fileno())
        channels = [one.strip() for one in environ.get("RELAY_CHANNELS", "").split(",") if one.strip()]
        body = {
            "cli": shlex.join(command),
            "cwd": str(Path.cwd()),
            "channels": channels,
            "env": passed_on(environ),
            "rows": size.lines,
            "cols": size.columns,
            "skip_relay_prompt": _is_on(environ, "RELAY_SKIP_PROMPT"),
        }
        for number in range(1, NAMES + 1):
            name = wanted if number == 1 else f"{wanted}-{number}"
            status, answer = self._client.ask("POST", "/api/spawn", body | {"name": name})
            if status < 300:
                self._name = name
                return
            if answer.get("code") != "agent_exists" or _is_on(environ, "RELAY_STRICT_AGENT_NAME"):
                break
        self._leave()
        kind = Exit.NOT_FOUND if answer.get("code") == "cli_not_found" else Exit.REFUSED
        fail(kind, f"{answer.get('message', '?')} [{answer.get('code', '?')}]", str(answer.get("code", "")))

    async def _attend(self, attached: Attached) -> Ended:
        """Stay attached until the program ends or this terminal does; a broker that is gone is replaced."""
        tries = 0
        while True:
            began = time.monotonic()
            ended = await attached.serve()
            if ended.event.get("kind") == "agent_restarting":
                continue
            if ended.event:
                return ended
            tries = 1 if time.monotonic() - began > TRIES * PAUSE_S else tries + 1
            if tries > TRIES:
                return ended
            await asyncio.sleep(PAUSE_S)
            try:
                self._client = attached.client = await asyncio.to_thread(self._broker, show=False)
            except CommandError as error:
                return Ended(Exit.NO_BROKER, f"{ended.why}, and no other one starts: {error.message}")

    def _leave(self) -> None:
        """End the program, if it has not ended, and the broker, if it is ours and nobody else's agents are with it."""
        if self._name:
            path = f"/api/spawned/{segment(self._name)}"
            self._client.tell("DELETE", path, {"reason": "its terminal was closed"}, timeout_s=DOWN_S)
        agents = self._client.glance("/api/spawned", timeout_s=DOWN_S).get("agents")
        if self._is_ours and agents == [] and self._client.tell("POST", "/api/shutdown", {}, timeout_s=DOWN_S):
            deadline = time.monotonic() + DOWN_S
            while self._running() is not None and time.monotonic() < deadline:
                time.sleep(0.05)


def passed_on(environ: Mapping[str, str]) -> dict[str, str]:
    """What the program gets of this terminal's environment: all of it but the names that the broker gives, or keeps for itself."""
    passed: dict[str, str] = {}
    for name, value in environ.items():
        try:
            check_variables((name,))
        except InvalidRequest:
            continue
        passed[name] = value
    return passed


def status_of(event: Mapping[str, Any]) -> int:
    """The exit status that says how the program ended."""
    if event["kind"] == "agent_released":
        return _SIGNALLED + signal.SIGTERM
    if event.get("signal") is not None:
        return _SIGNALLED + int(event["signal"])
    return Exit.FAILED if event.get("code") is None else int(event["code"])


def _is_on(environ: Mapping[str, str], name: str) -> bool:
    return environ.get(name, "").strip().lower() in _YES
