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
    "up": ("relaybroker.cli.broker_commands", "up", "Run a broker, and an engine if none is configured."),
    "down": ("relaybroker.cli.broker_commands", "down", "Stop the broker, its agents, its PTY host and its engine."),
    "apply": (
        "relaybroker.cli.config_commands",
        "apply",
        "Start, change and stop agents to match the configuration file.",
    ),
    "config": ("relaybroker.cli.config_commands", "config", "Show every setting, its value and its source."),
    "status": ("relaybroker.cli.broker_commands", "status", "Show the state of the broker, its link and its agents."),
    "engine": ("relaybroker.cli.broker_commands", "engine", "Run the embedded engine alone."),
    "agent": ("relaybroker.cli.agent_commands", "agent", "Spawn, list, show, release and attach to agents."),
    "wrap": ("relaybroker.cli.wrap", "wrap", "Run one program in this terminal as an agent."),
    "dump-pty": ("relaybroker.cli.dump_pty", "dump_pty", "Print an agent's current screen."),
    "node": ("relaybroker.cli.node_commands", "node", "Enrol this node with its engine; show what is delivered to it."),
    "message": ("relaybroker.cli.message_commands", "message", "Send, answer and read messages."),
    "mcp": ("relaybroker.cli.mcp_commands", "mcp", "Serve this terminal's agent its tools over stdio."),
    "mcp-args": ("relaybroker.cli.mcp_commands", "mcp_args", "Print the arguments that give a program its tools."),
    "delivery": ("relaybroker.cli.audit_commands", "delivery", "List and show deliveries, from the log."),
    "dead-letters": (
        "relaybroker.cli.dead_letter_commands",
        "dead_letters",
        "List, show, redeliver and purge messages that could not be typed.",
    ),
    "why": ("relaybroker.cli.audit_commands", "why", "Say what happened to a message, and why."),
    "log": ("relaybroker.cli.audit_commands", "log", "Follow, search, count, export, verify and archive the log."),
    "open": ("relaybroker.cli.open_commands", "open_page", "Open the broker's web page."),
    "top": ("relaybroker.cli.top_commands", "top", "Watch and manage the agents in a live table."),
    "service": ("relaybroker.cli.service_commands", "service", "Run a project's broker as a service."),
    "doctor": ("relaybroker.cli.doctor_commands", "doctor", "Check the whole installation."),
    "traces": (
        "relaybroker.cli.trace_commands",
        "traces",
        "Send each message as a trace to an OpenTelemetry collector.",
    ),
    "metrics": (
        "relaybroker.cli.metrics_commands",
        "metrics",
        "Print the Prometheus metrics, alert rules and dashboard.",
    ),
    "replay": ("relaybroker.cli.replay_commands", "replay", "Replay a recorded session and compare the decisions."),
    "machine": ("relaybroker.cli.audit_commands", "machine", "Show the state machines."),
    "completion": ("relaybroker.cli.completion_command", "completion", "Print a shell completion script."),
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
