"""`metrics`: the numbers of a running broker, and what goes with them into Prometheus and Grafana."""

from __future__ import annotations

from importlib import resources

import click

from relaybroker.cli.client import BrokerClient
from relaybroker.cli.groups import Group
from relaybroker.cli.options import examples, state_option
from relaybroker.cli.output import say, say_json


@click.group(cls=Group)
def metrics() -> None:
    """Print the Prometheus metrics, alert rules and dashboard."""


@examples("relaybroker metrics show")
@metrics.command("show")
@state_option
def show(state_dir: str | None) -> None:
    """Print the metrics as Prometheus reads them at /metrics with the broker's key as bearer token."""
    for line in BrokerClient.find(state_dir).text("/metrics").splitlines():
        say(line)


@examples("relaybroker metrics alerts >/etc/prometheus/rules/relaybroker.yml")
@metrics.command("alerts")
def alerts() -> None:
    """Print the Prometheus alert rules as YAML."""
    for line in (resources.files("relaybroker.metrics") / "alerts.yml").read_text(encoding="utf-8").splitlines():
        say(line)


@examples("relaybroker metrics dashboard >relaybroker-dashboard.json")
@metrics.command("dashboard")
def dashboard() -> None:
    """Print the Grafana dashboard as JSON."""
    from relaybroker.metrics import dashboard as made

    say_json(made.dashboard())
