"""`dump-pty`: an agent's screen on standard output, for scripts that know the reference broker's command."""

from __future__ import annotations

import base64
import json
import os
import sys

import click

from relaybroker.cli import completion
from relaybroker.cli.client import BrokerClient, segment
from relaybroker.cli.exits import Exit, fail
from relaybroker.cli.options import examples, state_option


@examples("relaybroker dump-pty w1", "relaybroker dump-pty w1 --format ansi")
@click.command("dump-pty")
@click.argument("name", shell_complete=completion.agents)
@click.option("--format", "form", type=click.Choice(("plain", "ansi")), default="plain", show_default=True, help="How.")
@click.option(
    "--broker-url", default="", help="URL of the broker. Default: RELAY_BROKER_URL, else from its connection file."
)
@click.option(
    "--api-key", default="", help="API key of the broker. Default: RELAY_BROKER_API_KEY, else from its connection file."
)
@state_option
def dump_pty(name: str, form: str, broker_url: str, api_key: str, state_dir: str | None) -> None:
    """Print an agent's current screen."""
    url, key = (
        broker_url or os.environ.get("RELAY_BROKER_URL", ""),
        api_key or os.environ.get("RELAY_BROKER_API_KEY", ""),
    )
    if not url or not key:
        client = BrokerClient.find(state_dir)
        url, key = url or client.url, key or client.key
    status, answer = BrokerClient(url, key).ask("GET", f"/api/spawned/{segment(name)}/snapshot?format={form}")
    if status >= 300:
        fail(Exit.NOT_FOUND if status == 404 else Exit.FAILED, f"broker returned {status}: {json.dumps(answer)}")
    screen = str(answer["screen"])
    sys.stdout.buffer.write(base64.b64decode(screen) if form == "ansi" else screen.encode())
    sys.stdout.buffer.flush()
