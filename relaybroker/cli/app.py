"""The command tree. Commands live beside this file by subject; this file only names them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from relaybroker import __version__
from relaybroker.cli.exits import HELP
from relaybroker.cli.groups import Tree

_COMMANDS = {
    "demo": ("relaybroker.cli.broker_commands", "demo", "Show the main job: agents, messages, kill -9, nothing lost."),
    "up": ("relaybroker.cli.broker_commands", "up", "Run a broker (and, without a configured engine, an engine)."),
    "down": ("relaybroker.cli.broker_commands", "down", "End the broker, its agents, its PTY host and its engine."),
    "apply": ("relaybroker.cli.config_commands", "apply", "Make the fleet of the configuration file so."),
    "config": ("relaybroker.cli.config_commands", "config", "Show every setting, its value and where it is from."),
    "status": ("relaybroker.cli.broker_commands", "status", "Show how the broker, its link and its agents are."),
    "engine": ("relaybroker.cli.broker_commands", "engine", "Run the embedded engine alone."),
    "agent": ("relaybroker.cli.agent_commands", "agent", "Spawn, list, show, release and attach to agents."),
    "dump-pty": ("relaybroker.cli.dump_pty", "dump_pty", "Print an agent's screen as it is now."),
    "node": ("relaybroker.cli.node_commands", "node", "Enrol this node at its engine."),
    "message": ("relaybroker.cli.message_commands", "message", "Send, answer and read messages."),
    "mcp": ("relaybroker.cli.mcp_commands", "mcp", "Give the agent of this terminal its tools over stdio."),
    "mcp-args": ("relaybroker.cli.mcp_commands", "mcp_args", "Print what a program is started with to have its tools."),
    "delivery": ("relaybroker.cli.audit_commands", "delivery", "List and show deliveries, from the log."),
    "dead-letters": (
        "relaybroker.cli.dead_letter_commands",
        "dead_letters",
        "List, show, redeliver and purge messages that could not be typed.",
    ),
    "why": ("relaybroker.cli.audit_commands", "why", "Say what became of a message and why."),
    "log": ("relaybroker.cli.audit_commands", "log", "Follow, search, count, export, verify and archive the log."),
    "open": ("relaybroker.cli.open_commands", "open_page", "Open the web page of the broker."),
    "top": ("relaybroker.cli.top_commands", "top", "Watch the agents as a live table, and do what they need."),
    "service": ("relaybroker.cli.service_commands", "service", "Run the broker of a project as a service."),
    "doctor": ("relaybroker.cli.doctor_commands", "doctor", "Check everything that can be checked here."),
    "traces": (
        "relaybroker.cli.trace_commands",
        "traces",
        "Send each message as a trace to an OpenTelemetry collector.",
    ),
    "metrics": (
        "relaybroker.cli.metrics_commands",
        "metrics",
        "Show the numbers for Prometheus; alert rules, dashboard.",
    ),
    "replay": ("relaybroker.cli.replay_commands", "replay", "Decide a recorded session again and compare."),
    "machine": ("relaybroker.cli.audit_commands", "machine", "Show the state machines."),
    "completion": ("relaybroker.cli.completion_command", "completion", "Print what completes commands in a shell."),
    "init": ("relaybroker.cli.broker_commands", "init", ""),
}
_HIDDEN = frozenset({"init"})


@click.command(
    cls=Tree,
    commands=_COMMANDS,
    hidden=_HIDDEN,
    epilog=HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="relaybroker")
def cli() -> None:
    """Node broker for AI agents: durable delivery into terminals, explainable and crash-proof."""


def main(args: list[str] | None = None) -> Any:
    """Run the command; never returns."""
    cli.main(args=args, prog_name=Path(sys.argv[0]).name.replace("__main__.py", "relaybroker"))
