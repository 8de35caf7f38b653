"""The stdio bridge: small, patient with a broker that is away, and without an opinion of its own about messages."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from relaybroker.mcp import bridge
from tests.waiting import WAIT_S

MODERN = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}


class Endpoint(ThreadingHTTPServer):
    """A `/mcp` that answers as a test tells it to: a list of (status, body); the last one stays."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = [(200, {"jsonrpc": "2.0", "id": 1, "result": {}})]
        self.requests: list[tuple[dict[str, str], bytes]] = []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append(({name.lower(): value for name, value in self.headers.items()}, body))
        status, said = self.server.answers.pop(0) if len(self.server.answers) > 1 else self.server.answers[0]
        if status == 0:
            return  # the connection ends without an answer, as when a broker is killed
        raw = b"" if said is None else said if isinstance(said, bytes) else json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def endpoint(monkeypatch):
    monkeypatch.setattr(bridge, "PAUSE_FIRST_S", 0.001)
    made = Endpoint()
    yield made
    made.shutdown()
    made.server_close()


def carried(endpoint, *messages):
    sink = io.BytesIO()
    lines = b"".join(one if isinstance(one, bytes) else json.dumps(one).encode() + b"\n" for one in messages)
    bridge.serve(bridge.Broker(endpoint.url, "at_live_1"), io.BytesIO(lines), sink)
    return [json.loads(line) for line in sink.getvalue().splitlines()]


def request(method="ping", request_id=1, **params):
    return {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}


def test_a_line_goes_to_the_broker_as_it_is_and_its_answer_comes_back(endpoint):
    answers = carried(endpoint, request(x="é"))
    ((headers, body),) = endpoint.requests
    assert answers == [{"jsonrpc": "2.0", "id": 1, "result": {}}]
    assert json.loads(body) == request(x="é")
    assert headers["authorization"] == "Bearer at_live_1"
    assert "mcp-protocol-version" not in headers


def test_a_notification_gets_nothing(endpoint):
    endpoint.answers = [(202, None)]
    assert carried(endpoint, {"jsonrpc": "2.0", "method": "notifications/initialized"}) == []
    endpoint.answers = [(401, {"code": "unauthorized", "message": "no"})]
    assert carried(endpoint, {"jsonrpc": "2.0", "method": "notifications/initialized"}) == []


def test_what_follows_a_handshake_names_the_version_that_was_agreed(endpoint):
    endpoint.answers = [(200, {"jsonrpc": "2.0", "id": 1, "result": {"protocolVersion": "2025-06-18"}})]
    carried(endpoint, request("initialize"), request("tools/list", 2))
    assert endpoint.requests[1][0]["mcp-protocol-version"] == "2025-06-18"


@pytest.mark.parametrize(
    ("name", "header"), [("send_dm", "send_dm"), ("é", "=?base64?w6k=?="), (" x", "=?base64?IHg=?=")]
)
def test_a_request_of_the_stateless_era_says_in_its_headers_what_its_body_says(endpoint, name, header):
    carried(endpoint, request("tools/call", name=name, _meta=MODERN))
    headers = endpoint.requests[0][0]
    assert (headers["mcp-protocol-version"], headers["mcp-method"], headers["mcp-name"]) == (
        "2026-07-28",
        "tools/call",
        header,
    )


@pytest.mark.parametrize("away", [(503, b"Broker is starting, please retry"), (0, None)])
def test_a_broker_that_is_away_for_a_moment_is_asked_again_with_the_same_key(endpoint, away):
    """ANSWERS-ONCE."""
    endpoint.answers = [away, away, away, (200, {"jsonrpc": "2.0", "id": 1, "result": {"ok": 1}})]
    assert carried(endpoint, request())[0]["result"] == {"ok": 1}
    keys = {headers["idempotency-key"] for headers, _ in endpoint.requests}
    assert (len(endpoint.requests), len(keys)) == (4, 1)
    carried(endpoint, request())
    assert endpoint.requests[-1][0]["idempotency-key"] not in keys


def test_a_broker_that_stays_away_is_an_error_in_the_end(endpoint, monkeypatch):
    monkeypatch.setattr(bridge, "RETRY_S", 0.05)
    endpoint.answers = [(0, None)]
    (answer,) = carried(endpoint, request(request_id="a"))
    assert (answer["id"], answer["error"]["code"]) == ("a", bridge.UNAVAILABLE)
    endpoint.answers = [(503, {"code": "shutting_down", "message": "the broker is stopping"})]
    (answer,) = carried(endpoint, request())
    assert answer["error"]["message"] == "the broker is stopping [shutting_down]"


def test_an_agent_that_is_not_let_in_hears_why_at_once(endpoint):
    endpoint.answers = [(401, {"success": False, "code": "unauthorized", "message": "Missing or invalid API key"})]
    (answer,) = carried(endpoint, request())
    assert answer["error"] == {"code": bridge.REFUSED, "message": "Missing or invalid API key [unauthorized]"}
    assert len(endpoint.requests) == 1


def test_an_error_of_the_protocol_is_passed_on(endpoint):
    error = {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "no JSON"}}
    endpoint.answers = [(400, error)]
    assert carried(endpoint, b"{nonsense\n") == [error]
    assert endpoint.requests[0][1] == b"{nonsense\n"


def test_a_line_that_is_too_long_is_refused_and_the_next_one_is_heard(endpoint):
    answers = carried(endpoint, b"x" * (3 * bridge.MAX_LINE) + b"\n", b"\n", request())
    assert [answer.get("error", {}).get("code") for answer in answers] == [bridge.TOO_LONG, None]
    assert len(endpoint.requests) == 1


def test_slow_answers_do_not_hold_up_others(endpoint):
    """More lines than may wait at once; all are answered before the bridge ends."""
    assert len(carried(endpoint, *(request(request_id=n) for n in range(3 * bridge.AT_ONCE)))) == 3 * bridge.AT_ONCE


def started(endpoint=None, **extra):
    environment = {"PATH": os.environ["PATH"]} | extra
    if endpoint is not None:
        environment |= {"RELAYBROKER_URL": endpoint.url, "RELAY_AGENT_TOKEN": "at_live_1"}
    return subprocess.run(
        [sys.executable, "-m", "relaybroker", "mcp"],
        input=json.dumps(request()).encode() + b"\n",
        capture_output=True, env=environment, timeout=WAIT_S, check=False,
    )  # fmt: skip


def test_the_command_is_the_bridge(endpoint):
    done = started(endpoint)
    assert (done.returncode, json.loads(done.stdout)["result"]) == (0, {})


def test_outside_an_agents_terminal_the_command_says_what_is_missing():
    done = started()
    assert done.returncode == 4
    assert b"RELAYBROKER_URL" in done.stderr


def test_the_bridge_imports_nothing_but_the_standard_library():
    """Small and fast to start: none of our stack, no command tree."""
    script = (
        "import sys; sys.argv = ['relaybroker', 'mcp']; from relaybroker.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('click', 'aiohttp', 'msgspec', 'pydantic', 'asyncio')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=WAIT_S, check=True, env={}
    )
    assert done.stdout.strip() == "[]"
