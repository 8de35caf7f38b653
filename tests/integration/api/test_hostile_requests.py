"""Whatever is sent to whichever route of the local API: an answer with a code of ours, never a 500, and the broker goes on.

Source: local-api.md section 1.1.
"""

from __future__ import annotations

import json

import pytest
from yarl import URL

from relaybroker.adapters.http.api.table import ROUTES
from tests.hostile import HEADERS, RAW, SEED, WORDS, bodies

PLAUSIBLE = {
    "POST /api/spawn": {"name": "w9", "cli": "cat", "args": [], "task": "", "channels": ["general"], "env": {}, "model": "",
        "team": "", "cwd": ""},
    "POST /api/send": {"to": "#general", "message": "m", "from": "", "mode": "wait", "priority": 1, "data": {},
        "attachments": [], "thread": ""},
    "POST /api/input/{name}": {"data": "x"},
    "POST /api/resize/{name}": {"rows": 24, "cols": 80},
    "DELETE /api/spawned/{name}": {"reason": "r"},
    "PUT /api/spawned/{name}/delivery-mode": {"mode": "manual_flush", "reason": "", "revision": 1},
    "POST /api/dead-letters/redeliver": {"id": "", "ids": [], "all": False, "agent": "", "force": False},
    "POST /api/dead-letters/purge": {"id": "", "ids": [], "all": False, "agent": ""},
    "POST /api/agent/tools/{tool}": {"to": "w1", "text": "x", "message_id": "1"},
    "POST /mcp": {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "send_dm", "arguments": {}}},
}  # fmt: skip
QUERIES = (
    "sinceSeq",
    "limit",
    "agent",
    "epoch",
    "after",
    "since",
    "until",
    "text",
    "topic",
    "stream",
    "newest",
    "name",
    "lines",
)
LEFT_OUT = {"GET /ws", "GET /api/fleet/ws", "POST /api/shutdown"}
"""Sockets have tests of their own; a stopped broker answers nothing."""
ASKED = [route.key for route in ROUTES if route.key not in LEFT_OUT]


@pytest.fixture
async def tokens(client, key):
    """The operator's key, and the token of an agent that lives here."""
    async with client.http.post(
        client.url + "/api/spawn", headers={"X-API-Key": key}, json={"name": "w1", "cli": "cat"}
    ) as answer:
        assert answer.status == 200, await answer.text()
        agent = (await answer.json())["agent_id"]
    client.broker.tokens = {"at_live_new": agent}
    return [{"X-API-Key": key}, {"Authorization": "Bearer at_live_new"}]


def _paths(path):
    if "{" not in path:
        yield path
        for name in QUERIES:
            yield from (f"{path}?{name}={word}" for word in WORDS)
        return
    before, _, after = path.partition("{")
    after = after.partition("}")[2]
    yield from (before + word + after for word in ("w1", *WORDS))


def _requests(key):
    method, _, path = key.partition(" ")
    usual = next(iter(_paths(path)))
    for target in _paths(path):
        yield method, target, None, {}
    if method == "GET":
        return
    for raw in RAW:
        yield method, usual, raw, {}
    for headers in HEADERS:
        yield method, usual, b"{}", headers
    for body in bodies(PLAUSIBLE.get(key, {"x": 1})):
        yield method, usual, json.dumps(body).encode(), {}


@pytest.mark.parametrize("route", ASKED)
async def test_no_request_to_any_route_is_an_internal_error(client, tokens, route):
    for method, path, body, headers in _requests(route):
        for token in tokens if body is None else tokens[:1] if "/agent" not in path and path != "/mcp" else tokens[1:]:
            given = {"Content-Type": "application/json"} | headers | token
            async with client.http.request(
                method, URL(client.url + path, encoded=True), data=body, headers=given
            ) as answer:
                text = await answer.read()
                assert answer.status < 500 or answer.status in (501, 503, 504), (
                    method,
                    path,
                    (body or b"")[:200],
                    text[:300],
                    SEED,
                )
                assert answer.status < 400 or b"internal_error" not in text
    async with client.http.get(client.url + "/api/status", headers=tokens[0]) as answer:
        assert answer.status == 200
