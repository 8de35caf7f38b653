"""Each message is a trace, made from the log: nothing is lost over a crash or a collector that is away, and nothing becomes two things."""

from __future__ import annotations

import asyncio
import http.server
import json
import threading

import pytest
from click.testing import CliRunner
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from relaybroker.adapters.eventstore.journal import Journal
from relaybroker.adapters.eventstore.reader import LogReader
from relaybroker.cli.app import cli
from relaybroker.domain.events import REGISTRY
from relaybroker.traces import exporting, names
from tests.world import World


@pytest.fixture
def collector():
    """A small collector that takes OTLP over HTTP; `away` makes it refuse."""
    taken = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                import gzip

                body = gzip.decompress(body)
            status = 400 if server.away else 200
            if not server.away:
                taken.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.away, server.taken = False, taken
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def _spans(collector):
    return [
        span
        for request in collector.taken
        for one in request.resource_spans
        for scope in one.scope_spans
        for span in scope.spans
    ]


def _attributes(span):
    return {one.key: one.value.string_value or one.value.int_value for one in span.attributes}


@pytest.fixture
def world(tmp_path):
    made = World()
    made.start()
    made.online()
    made.spawn("w1")
    for seq in range(1, 4):
        made.deliver("w1", seq, msg_id=f"M{seq}")
        made.advance(1)
    made.deliver("w1", 4, msg_id="M4", text="x" * 20_000)
    made.auto_type = False
    made.deliver("w1", 5, msg_id="M5")
    made.written = 0

    def write():
        async def run():
            journal = Journal.open(str(tmp_path / "journal-desk.sqlite"), registry=REGISTRY, on_failure=pytest.fail)
            await journal.append(made.log[made.written :])
            await asyncio.to_thread(journal.close)

        asyncio.run(run())
        made.written = len(made.log)

    made.write = write
    write()
    return made


def _send(collector, tmp_path):
    url = f"http://127.0.0.1:{collector.server_address[1]}/v1/traces"
    return CliRunner().invoke(cli, ["traces", "--endpoint", url, "--state-dir", str(tmp_path), "--json"])


def test_a_delivery_is_a_span_with_its_waits_and_a_failure_says_why(collector, world, tmp_path):
    done = _send(collector, tmp_path)
    assert json.loads(done.stdout)["deliveries"] == 4, "what still waits is told when it has ended"
    spans = _spans(collector)
    roots = {_attributes(span)[names.MESSAGE_ID]: span for span in spans if not span.parent_span_id}
    assert set(roots) == {"M1", "M2", "M3", "M4"}
    waits = [span.name for span in spans if span.parent_span_id == roots["M1"].span_id]
    assert waits == ["queued", "typing", "acknowledging"]
    assert all(span.trace_id == roots["M1"].trace_id for span in spans if span.parent_span_id == roots["M1"].span_id)
    assert _attributes(roots["M4"])[names.ERROR_TYPE] == "too_large"
    assert roots["M4"].status.code == 2
    assert "x" * 100 not in str(collector.taken), "what people wrote is not sent"


def test_a_text_that_is_handed_back_waits_a_second_time_with_the_reason(collector, world, tmp_path):
    world.not_typed(world.pending_text.pop(0), reason="pty_write_failed")
    world.advance(10)
    world.type_next()
    world.write()
    _send(collector, tmp_path)
    spans = _spans(collector)
    (root,) = (span for span in spans if _attributes(span).get(names.MESSAGE_ID) == "M5")
    waits = [span for span in spans if span.parent_span_id == root.span_id]
    assert [span.name for span in waits] == ["queued", "typing", "queued", "typing", "acknowledging"]
    assert _attributes(waits[2])[names.REASON] == "write_backoff"


def test_it_goes_on_where_it_was_and_nothing_is_sent_for_the_second_time(collector, world, tmp_path):
    _send(collector, tmp_path)
    first = len(_spans(collector))
    assert json.loads(_send(collector, tmp_path).stdout)["deliveries"] == 0
    world.type_next()
    world.write()
    assert json.loads(_send(collector, tmp_path).stdout)["deliveries"] == 1
    assert _attributes(_spans(collector)[first])[names.MESSAGE_ID] == "M5"


def test_a_collector_that_is_away_costs_nothing(collector, world, tmp_path):
    collector.away = True
    refused = _send(collector, tmp_path)
    assert refused.exit_code == 1
    collector.away = False
    assert json.loads(_send(collector, tmp_path).stdout)["deliveries"] == 4


def test_a_crash_before_the_place_is_written_sends_the_same_spans_again_and_no_others(collector, world, tmp_path):
    _send(collector, tmp_path)
    once = {(span.trace_id, span.span_id, span.name) for span in _spans(collector)}
    exporting.place_of(tmp_path, "desk").unlink()
    _send(collector, tmp_path)
    assert {(span.trace_id, span.span_id, span.name) for span in _spans(collector)} == once
    assert len(_spans(collector)) == 2 * len(once)


def test_the_place_is_that_of_the_last_end(collector, world, tmp_path):
    _send(collector, tmp_path)
    log = LogReader.open(tmp_path / "journal-desk.sqlite", registry=REGISTRY)
    url = f"http://127.0.0.1:{collector.server_address[1]}/v1/traces"
    export = exporting.TraceExport(log, exporting.place_of(tmp_path, "desk"), exporting.to_collector(url), "desk")
    assert export.reached() == max(
        one.version for one in world.log if one.event.topic.startswith(("delivery.acked", "delivery.dead"))
    )
    log.close()
