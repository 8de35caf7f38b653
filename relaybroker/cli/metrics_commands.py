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
    """Show the numbers for Prometheus, and print alert rules and dashboard."""


@examples("relaybroker metrics show")
@metrics.command("show")
@state_option
def show(state_dir: str | None) -> None:
    """The numbers, as Prometheus reads them at /metrics with the broker's key as bearer token."""
    for line in BrokerClient.find(state_dir).text("/metrics").splitlines():
        say(line)


@examples("relaybroker metrics alerts >/etc/prometheus/rules/relaybroker.yml")
@metrics.command("alerts")
def alerts() -> None:
    """The alert rules for Prometheus, as YAML."""
    for line in (resources.files("relaybroker.metrics") / "alerts.yml").read_text(encoding="utf-8").splitlines():
        say(line)


@examples("relaybroker metrics dashboard >relaybroker-dashboard.json")
@metrics.command("dashboard")
def dashboard() -> None:
    """The dashboard for Grafana, as JSON."""
    from relaybroker.metrics import dashboard as made

    say_json(made.dashboard())
