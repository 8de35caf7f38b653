"""The command tree. Commands live beside this file by subject; this file only names them."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import click

from relaybroker import __version__
from relaybroker.cli.exits import HELP

_COMMANDS = {
    "demo": ("relaybroker.cli.broker_commands", "demo", "Show the main job: agents, messages, kill -9, nothing lost."),
    "up": ("relaybroker.cli.broker_commands", "up", "Run a broker (and, without a configured engine, an engine)."),
    "down": ("relaybroker.cli.broker_commands", "down", "End the broker, its agents, its PTY host and its engine."),
    "status": ("relaybroker.cli.broker_commands", "status", "Show how the broker, its link and its agents are."),
    "engine": ("relaybroker.cli.broker_commands", "engine", "Run the embedded engine alone."),
    "agent": ("relaybroker.cli.agent_commands", "agent", "Spawn, list, show, release and attach to agents."),
    "node": ("relaybroker.cli.node_commands", "node", "Enrol this node at its engine."),
    "message": ("relaybroker.cli.message_commands", "message", "Send, answer and read messages."),
    "mcp": ("relaybroker.cli.mcp_commands", "mcp", "Give the agent of this terminal its tools over stdio."),
    "delivery": ("relaybroker.cli.audit_commands", "delivery", "List and show deliveries, from the log."),
    "dead-letters": (
        "relaybroker.cli.dead_letter_commands",
        "dead_letters",
        "List, show, redeliver and purge messages that could not be typed.",
    ),
    "why": ("relaybroker.cli.audit_commands", "why", "Say what became of a message and why."),
    "log": ("relaybroker.cli.audit_commands", "log", "Follow, search, count, export, verify and archive the log."),
    "replay": ("relaybroker.cli.replay_commands", "replay", "Decide a recorded session again and compare."),
    "machine": ("relaybroker.cli.audit_commands", "machine", "Show the state machines."),
    "init": ("relaybroker.cli.broker_commands", "init", ""),
}
_HIDDEN = frozenset({"init"})


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command that is shown."""
        del ctx
        return [name for name in _COMMANDS if name not in _HIDDEN]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module, attribute, _ = _COMMANDS[cmd_name]
        found: click.Command = getattr(importlib.import_module(module), attribute)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in _COMMANDS.items() if name not in _HIDDEN])


@click.command(cls=LazyGroup, epilog=HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="relaybroker")
def cli() -> None:
    """Node broker for AI agents: durable delivery into terminals, explainable and crash-proof."""


def main(args: list[str] | None = None) -> Any:
    """Run the command; never returns."""
    sys.exit(cli.main(args=args, prog_name=Path(sys.argv[0]).name.replace("__main__.py", "relaybroker")))
