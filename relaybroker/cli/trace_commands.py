"""`traces`: each message a trace for an OpenTelemetry collector, made from the log."""

from __future__ import annotations

import time

import click

from relaybroker.cli.client import state_directory
from relaybroker.cli.exits import Exit, fail
from relaybroker.cli.options import examples, json_option, name_option, state_option
from relaybroker.cli.output import say, say_json

FOLLOW_S = 5.0
"""Between two looks at the log, and before a collector that did not answer is asked again."""


@examples("relaybroker traces --endpoint http://127.0.0.1:4318/v1/traces", "relaybroker traces --follow")
@click.command("traces")
@click.option(
    "--endpoint", default="", help="OTLP over HTTP endpoint of the collector. Default: OTEL_EXPORTER_OTLP_ENDPOINT."
)
@click.option("-f", "--follow", is_flag=True, help="Keep following.")
@state_option
@name_option
@json_option
def traces(endpoint: str, follow: bool, state_dir: str | None, name: str, as_json: bool) -> None:
    """Send deliveries that ended since the last run to an OpenTelemetry collector: each message a trace, each wait a span.

    Needs the extra: pip install 'relaybroker[otel]'. The position in the log is kept in a file next to it. Run it while the broker
    runs, or afterwards.
    """
    from relaybroker.audit.log import NoLog, journals_of, reading

    try:
        from relaybroker.traces import exporting
    except ImportError as error:
        fail(Exit.FAILED, f"{error.name} is not installed. Install the extra: pip install 'relaybroker[otel]'")
    state = state_directory(state_dir)
    try:
        broker = next(iter(journals_of(state, name)))
    except NoLog as error:
        fail(Exit.NOT_FOUND, f"{error}. Name the state directory with --state-dir")
    many = 0
    with reading(state, broker) as log:
        export = exporting.TraceExport(log, exporting.place_of(state, broker), exporting.to_collector(endpoint), broker)
        while True:
            try:
                many += exporting.everything(export, lambda sent: say(f"sent up to #{sent.position}", err=True))
            except exporting.NotTakenError as error:
                if not follow:
                    fail(Exit.FAILED, f"{error}; sent up to #{export.reached()}. Is it there? --endpoint names it")
            if not follow:
                break
            time.sleep(FOLLOW_S)
        position = export.reached()
    if as_json:
        say_json({"deliveries": many, "position": position})
    else:
        say(f"{many} deliveries sent; everything up to #{position} is with the collector")
