"""The Grafana dashboard, made from a table of its panels: what is shown, of which query, in which unit."""

from __future__ import annotations

from typing import Any, NamedTuple

_WIDTH, _HEIGHT, _PER_ROW = 8, 7, 3


class Panel(NamedTuple):
    """One picture. `queries`: expression and legend."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    kind: str = "timeseries"


def _quantiles(metric: str) -> tuple[tuple[str, str], ...]:
    expression = 'histogram_quantile({q}, sum by (le) (rate({m}_bucket{{instance=~"$instance"}}[$__rate_interval])))'
    return tuple((expression.format(q=q, m=metric), f"p{int(100 * q)}") for q in (0.5, 0.99))


PANELS = (
    Panel("Link", "", (('relay_link_state{instance=~"$instance"} == 1', "{{state}}"),), "stat"),
    Panel("Agents", "", (('relay_broker_active_agents{instance=~"$instance"}', "{{instance}}"),), "stat"),
    Panel("Dead letters", "", (('relay_dead_letters{instance=~"$instance"}', "{{instance}}"),), "stat"),
    Panel(
        "Deliveries per second",
        "ops",
        (('rate(relay_deliveries_total{instance=~"$instance"}[$__rate_interval])', "{{outcome}}"),),
    ),
    Panel("Offer to typed", "s", _quantiles("relay_delivery_offer_to_typed_seconds")),
    Panel("Typed to acknowledged", "s", _quantiles("relay_delivery_typed_to_ack_seconds")),
    Panel("Open deliveries", "", (('relay_deliveries_open{instance=~"$instance"}', "{{state}}"),)),
    Panel("Waiting, by agent", "", (('relay_agent_waiting{instance=~"$instance"}', "{{agent}}"),)),
    Panel(
        "Oldest waiting message",
        "s",
        (('relay_delivery_oldest_waiting_seconds{instance=~"$instance"}', "{{instance}}"),),
    ),
    Panel(
        "Why messages wait or fail, per second",
        "ops",
        (('rate(relay_delivery_reasons_total{instance=~"$instance"}[$__rate_interval])', "{{event}} {{reason}}"),),
    ),
    Panel(
        "Queues, how full",
        "percentunit",
        (('relay_queue_depth{instance=~"$instance"} / relay_queue_limit', "{{queue}}"),),
    ),
    Panel("Commit", "s", _quantiles("relay_journal_commit_seconds")),
    Panel("Log on disk", "bytes", (('relay_journal_bytes{instance=~"$instance"}', "{{part}}"),)),
    Panel(
        "Ends of the link, per hour",
        "",
        (('increase(relay_link_ends_total{instance=~"$instance"}[1h])', "{{reason}}"),),
    ),
    Panel("Memory of agents", "bytes", (('relay_agent_memory_bytes{instance=~"$instance"}', "{{agent}}"),)),
)


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it; it asks for the data source."""
    variables = [
        {"name": "source", "type": "datasource", "query": "prometheus", "label": "Prometheus"},
        {
            "name": "instance",
            "type": "query",
            "datasource": {"type": "prometheus", "uid": "${source}"},
            "query": "label_values(relay_broker_uptime_seconds, instance)",
            "refresh": 2,
            "multi": True,
            "includeAll": True,
            "label": "Broker",
        },
    ]
    return {
        "uid": "relaybroker",
        "title": "relaybroker",
        "tags": ["relaybroker"],
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": variables},
        "panels": [_panel(number, panel) for number, panel in enumerate(PANELS)],
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(number, _PER_ROW)
    source = {"type": "prometheus", "uid": "${source}"}
    return {
        "id": number + 1,
        "type": panel.kind,
        "title": panel.title,
        "datasource": source,
        "gridPos": {"x": column * _WIDTH, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit or "short", "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + place), "datasource": source, "expr": query, "legendFormat": legend}
            for place, (query, legend) in enumerate(panel.queries)
        ],
    }
