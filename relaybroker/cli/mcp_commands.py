"""The command that programs start for their agents' tools."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

import click

from relaybroker.cli.exits import Exit, fail
from relaybroker.cli.options import examples, state_option
from relaybroker.cli.output import say_json


@click.command("mcp")
def mcp() -> None:
    """Serve this terminal's agent its tools over stdio (Model Context Protocol).

    For programs that accept an MCP server only as a command. Where HTTP works, $RELAYBROKER_URL/mcp is the same without an extra
    process. Needs RELAYBROKER_URL and RELAY_AGENT_TOKEN, which every agent has.
    """
    from relaybroker.mcp.bridge import run

    sys.exit(run())


@examples(
    "relaybroker mcp-args --cli claude --agent-name w1", "relaybroker mcp-args --cli cursor-agent --agent-name w1"
)
@click.command("mcp-args")
@click.option("--cli", "command", required=True, help="The program, or its whole command line.")
@click.option("--agent-name", "name", required=True, help="The agent that it would be.")
@click.option("--existing-args", default="[]", help="Its arguments, as a JSON list.")
@state_option
def mcp_args(command: str, name: str, existing_args: str, state_dir: str | None) -> None:
    """Print as JSON what a program is started with so that it has its agent's tools, without starting it.

    `args` are the arguments behind the program, `env` the variables beside them. No file is written (`sideEffectFiles`), and nothing holds
    a token (`agentToken`): arguments and files name RELAY_AGENT_TOKEN, which an agent has in its environment. `byHand`: what a person
    writes once into the file of a program that takes servers from there only. `reason`: why the program gets no tools.
    """
    from relaybroker.adapters.sessions.terminal import harnesses
    from relaybroker.cli.client import BrokerClient
    from relaybroker.config.chosen import choose
    from relaybroker.config.finding import config_file
    from relaybroker.config.settings import SettingsError, own_harnesses
    from relaybroker.mcp.injection import tools_of, with_tools, with_variables

    here = Path.cwd()
    try:
        choice = choose({}, os.environ, config_file(None, os.environ, here))
        harnesses.use(harnesses.read(own_harnesses(choice, os.environ, here)))
    except SettingsError as error:
        fail(Exit.FAILED, str(error))
    argv = (*_words(command, "--cli"), *_list(existing_args))
    profile = harnesses.profile_for(argv)
    url = BrokerClient.find(state_dir).url
    given = with_tools(profile, argv, url=url, approved=False)
    variables = {"RELAYBROKER_URL": url, "RELAY_AGENT_NAME": name}
    reason = ""
    if not tools_of(profile, argv):
        reason = profile.no_mcp or "its command line has no place for options, or names a server agent-relay already"
    by_hand = None if profile.by_hand is None else {"file": profile.by_hand.file, "entry": profile.by_hand.entry}
    injection = {
        "args": list(given[1:]),
        "env": with_variables(profile, argv, variables),
        "sideEffectFiles": [],
        "agentToken": None,
        "byHand": by_hand,
        "reason": reason,
    }
    say_json(injection)


def _words(text: str, option: str) -> list[str]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        fail(Exit.USAGE, f"{option}: {error}")
    return words or fail(Exit.USAGE, f"{option} names no program")


def _list(text: str) -> list[str]:
    try:
        words = json.loads(text)
    except ValueError:
        words = None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        fail(Exit.USAGE, "--existing-args is a JSON list of texts")
    return words
