"""Sending the spans of what has ended to an OpenTelemetry collector, from the place in the log that was reached before.

The place is written after the collector has taken a batch. A crash between the two sends that batch once more, with the same ids: nothing
is lost, and nothing becomes two things.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from relaybroker import __version__
from relaybroker.adapters.eventstore.fields import listed
from relaybroker.adapters.eventstore.lookup import LOG
from relaybroker.adapters.eventstore.reader import LogReader
from relaybroker.adapters.private_files import read_private, write_private
from relaybroker.traces.spans import ENDS, Span, spans_of

BATCH = 200
"""Deliveries that are sent at once."""

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


class Reached(msgspec.Struct, frozen=True):
    """Up to which position what has ended was sent."""

    position: int


class Sent(NamedTuple):
    """What one round did."""

    deliveries: int
    position: int


class NotTakenError(Exception):
    """The collector did not take a batch; nothing of it counts as sent."""


class TraceExport:
    """The export of one log to one collector.

    Args:
        log: the log.
        place: the file that says how far it is.
        exporter: to the collector.
        service: how this broker is called there.
    """

    def __init__(self, log: LogReader, place: Path, exporter: SpanExporter, service: str) -> None:
        self._log, self._place, self._exporter = log, place, exporter
        self._resource = Resource.create(
            {"service.name": "relaybroker", "service.instance.id": service, "service.version": __version__}
        )

    def reached(self) -> int:
        """Up to which position everything was sent."""
        try:
            return msgspec.json.decode(read_private(self._place), type=Reached).position
        except (FileNotFoundError, msgspec.MsgspecError, UnicodeDecodeError):
            return 0

    def round(self) -> Sent:
        """Send one batch of what has ended since.

        Raises:
            NotTakenError: the collector did not take it; the next round tries again.
        """
        after = self.reached()
        topics = listed(sorted(event.topic for event in ENDS))
        rows = self._log.query(
            f"SELECT position, originator_id AS stream FROM {LOG} WHERE topic IN ({topics}) AND position > :after"  # noqa: S608
            " ORDER BY position LIMIT :limit",
            {"after": after, "limit": BATCH},
        )
        if not rows:
            return Sent(0, after)
        spans = [span for row in rows for span in spans_of(self._log.read_stream(row["stream"]))]
        if self._exporter.export([self._made(span) for span in spans]) is not SpanExportResult.SUCCESS:
            raise NotTakenError("the collector did not accept the spans")
        last = int(rows[-1]["position"])
        write_private(self._place, msgspec.json.encode(Reached(last)))
        return Sent(len(rows), last)

    def _made(self, span: Span) -> ReadableSpan:
        def context(number: int) -> SpanContext:
            return SpanContext(span.trace, number, is_remote=False, trace_flags=_SAMPLED)

        return ReadableSpan(
            name=span.name,
            context=context(span.span),
            parent=context(span.parent) if span.parent else None,
            resource=self._resource,
            attributes=dict(span.attributes),
            kind=SpanKind.INTERNAL if span.parent else SpanKind.CONSUMER,
            status=Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.OK),
            start_time=span.start,
            end_time=span.end,
        )


def to_collector(endpoint: str) -> SpanExporter:
    """An exporter over OTLP/HTTP; "" = where the variables of OpenTelemetry say (OTEL_EXPORTER_OTLP_ENDPOINT)."""
    return OTLPSpanExporter(endpoint=endpoint or None)


def place_of(state: Path, broker: str) -> Path:
    """The file that says how far the traces of a broker are sent."""
    return state / f"traces-{broker}.json"


def everything(export: TraceExport, report: Callable[[Sent], None]) -> int:
    """Send all that has ended by now; how many deliveries."""
    many = 0
    while (sent := export.round()).deliveries:
        many += sent.deliveries
        report(sent)
    return many
