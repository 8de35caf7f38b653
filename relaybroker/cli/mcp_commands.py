"""The command that programs start for their agents' tools."""

from __future__ import annotations

import sys

import click


@click.command("mcp")
def mcp() -> None:
    """Serve this terminal's agent its tools over stdio (Model Context Protocol).

    For programs that accept an MCP server only as a command. Where HTTP works, $RELAYBROKER_URL/mcp is the same without an extra
    process. Needs RELAYBROKER_URL and RELAY_AGENT_TOKEN, which every agent has.
    """
    from relaybroker.mcp.bridge import run

    sys.exit(run())
