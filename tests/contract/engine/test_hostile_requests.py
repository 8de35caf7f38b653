"""engine-contract.md section 1.1: whatever is sent to whichever route, the answer is a refusal with a code, never a 500."""

from __future__ import annotations

import json

import pytest
from yarl import URL

from relaybroker.engine.authority import AUTHORITY, OPEN
from tests.hostile import HEADERS, RAW, SEED, WORDS, bodies

PLAUSIBLE = {
    "POST /v1/workspaces": {"name": "n"},
    "POST /v1/webhooks": {"name": "n", "channel": "general"},
    "POST /v1/files/upload": {"filename": "f", "content_type": "text/plain", "size_bytes": 1, "size": 1},
    "PUT /v1/files/{id}/content": {"a": 1},
    "POST /v1/subscriptions": {"events": ["message.created"], "url": "https://example.com/", "headers": {"a": "b"}, "secret": "s",
        "filter": {"channel": "general", "mentions": "ada"}},
    "POST /v1/hooks/{id}": {"text": "t", "message": "t", "blocks": [], "source": "", "author": "", "payload": {}},
    "POST /v1/observer-tokens": {"name": "n", "scopes": ["search:read"], "description": "", "filters": {}, "expires_at": None},
    "PATCH /v1/observer-tokens/{id}": {"name": "n", "scopes": ["search:read"], "description": "", "filters": {}, "expires_at": None},
    "PATCH /v1/workspace": {"name": "n", "system_prompt": "p"},
    "PUT /v1/workspace/system-prompt": {"prompt": "p", "reset": False},
    "PUT /v1/workspace/stream": {"enabled": True, "mode": "inherit"},
    "POST /v1/agents/{name}/events": {"type": "t", "payload": {}},
    "PATCH /v1/channels/{name}": {"topic": "", "metadata": {}},
    "POST /v1/dm/{conversation}/participants": {"agent_name": "bob"},
    "POST /v1/agents": {"name": "zed", "type": "agent", "persona": "", "metadata": {}, "skills": [], "capabilities": {},
        "auto_join_general": True},
    "PATCH /v1/agents/{name}": {"status": "idle", "persona": "", "metadata": {}, "skills": [], "capabilities": {}},
    "POST /v1/agents/spawn": {"name": "zed", "cli": "claude", "task": "t", "channel": "", "model": "", "metadata": {}},
    "POST /v1/agents/release": {"name": "zed", "reason": "", "delete_agent": False, "expected_token_hash": ""},
    "POST /v1/nodes": {"node_id": "n1", "name": "n1", "kind": "ws", "role": "broker", "capabilities": ["x"], "max_agents": 1,
        "tags": [], "delivery": {}},
    "POST /v1/nodes/{name}/agents": {"agent_name": "ada", "session_ref": "", "priority": 1},
    "POST /v1/channels": {"name": "c", "topic": "", "metadata": {}},
    "POST /v1/channels/{name}/invite": {"agent_name": "bob"},
    "POST /v1/channels/{name}/messages": {"text": "t", "blocks": [], "attachments": [], "data": {}, "content_type": "", "mode": "wait"},
    "POST /v1/messages/{id}/replies": {"text": "t", "data": {}},
    "POST /v1/messages/{id}/reactions": {"emoji": "x"},
    "POST /v1/deliveries/{id}/fail": {"error": "", "retryable": True},
    "POST /v1/deliveries/{id}/defer": {"available_at": "2031-01-01T00:00:00Z", "reason": ""},
    "POST /v1/dm": {"to": "bob", "text": "t", "attachments": [], "mode": "wait"},
    "POST /v1/dm/group": {"participants": ["bob"], "name": "g"},
    "POST /v1/dm/{conversation}/messages": {"text": "t", "data": {}},
    "POST /v1/actions": {"name": "a", "description": "d", "handler_agent": "ada", "input_schema": {}, "output_schema": {},
        "available_to": []},
    "POST /v1/actions/{name}/invoke": {"input": {"name": "zed", "cli": "claude", "target_node": "n", "node": "n", "capability": "c"}},
    "POST /v1/actions/{name}/invocations/{id}/complete": {"output": 1, "error": "", "duration_ms": 1},
}  # fmt: skip
QUERIES = (
    "limit",
    "before",
    "after",
    "status",
    "capability",
    "name",
    "include_archived",
    "q",
    "channel",
    "from",
    "type",
    "ticket",
    "uploaded_by",
)


def _paths(path, said):
    if "{" not in path:
        yield path
        for name in QUERIES:
            yield from (f"{path}?{name}={word}" for word in WORDS)
        return
    usual = {
        "{name}": "general",
        "{id}": said,
        "{conversation}": "dm_1",
        "{emoji}": "x",
        "{verb}": "mute",
        "{agent}": "ada",
    }
    for mark in usual:
        if mark in path and mark != "{verb}":
            for word in WORDS:
                yield _filled(path.replace(mark, word, 1), usual)
    for name in QUERIES:
        yield from (f"{_filled(path, usual)}?{name}={word}" for word in WORDS)


def _filled(path, usual):
    for mark, value in usual.items():
        path = path.replace(mark, value)
    return path


@pytest.mark.parametrize("route", [*AUTHORITY, *OPEN])
async def test_no_request_to_any_route_is_an_internal_error(world, route):
    ada, _bob = await world.agent("ada"), await world.agent("bob")
    said = (await world.say(ada))["id"]
    method, _, path = route.partition(" ")
    rule = AUTHORITY.get(route)
    token = ada.token if rule is not None and rule.agent is not None and not rule.workspace else world.key
    if "/files/" in path:
        said = (await world.announce(ada))["id"]
    if rule is not None and rule.webhook:
        hook = (await world.post("/v1/webhooks", {"channel": "general"})).data
        said, token = hook["webhook_id"], hook["token"]
    requests = [(target, None, {}) for target in _paths(path, said)]
    usual = _filled(
        path,
        {
            "{name}": "general",
            "{id}": said,
            "{conversation}": "dm_1",
            "{emoji}": "x",
            "{verb}": "mute",
            "{agent}": "ada",
        },
    )
    if path.endswith("/content"):
        ada_s = await world.announce(ada) if method == "PUT" else await world.file(ada)
        usual = URL(ada_s["upload_url" if method == "PUT" else "download_url"]).raw_path_qs
        requests += [(usual, None, {})]
    if method != "GET":
        requests += [(usual, raw, {}) for raw in RAW] + [(usual, b"{}", headers) for headers in HEADERS]
        requests += [(usual, json.dumps(body).encode(), {}) for body in bodies(PLAUSIBLE.get(route, {"x": 1}))]
    for target, body, headers in requests:
        given = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"} | headers
        async with world.session.request(
            method, URL(world.engine.base_url + target, encoded=True), data=body, headers=given
        ) as answer:
            text = await answer.read()
            assert answer.status < 500 or answer.status in (501, 503), (
                target[:100],
                (body or b"")[:200],
                text[:300],
                SEED,
            )
    assert (await world.get("/v1/workspace")).status == (401 if route == "DELETE /v1/workspace" else 200)
