"""Before a program is started its tools are asked, with its agent's token."""

from __future__ import annotations

import http.server
import json
import threading

import pytest

from relaybroker.mcp.preflight import Preflight


class Endpoint(http.server.BaseHTTPRequestHandler):
    """Answers as an MCP endpoint does, or as one that is ill."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        is_known = self.headers["Authorization"] == "Bearer at_live_1"
        assert (self.path, asked["method"]) == ("/mcp", "tools/list")
        body = {"jsonrpc": "2.0", "id": asked["id"], "result": {"tools": self.server.tools}}
        raw = json.dumps(body).encode() if not self.server.ill else b"<html>"
        self.send_response(200 if is_known else 401)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_):
        pass


@pytest.fixture
def endpoint():
    server = http.server.HTTPServer(("127.0.0.1", 0), Endpoint)
    server.tools, server.ill = [{"name": "send_dm"}], False
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def asked(server, token="at_live_1"):
    return Preflight(f"http://127.0.0.1:{server.server_port}", token).failure()


def test_tools_that_answer_are_there(endpoint):
    assert asked(endpoint) == ""


def test_what_does_not_answer_says_why(endpoint):
    assert "answers tools/list with 401" in asked(endpoint, "former")
    endpoint.tools = []
    assert "answers tools/list with 200" in asked(endpoint)
    endpoint.ill = True
    assert "does not answer tools/list" in asked(endpoint)
    assert "does not answer tools/list: ConnectionRefusedError" in Preflight("http://127.0.0.1:1", "x").failure()
