"""Who may ask, from where, and what every refusal looks like (local-api.md sections 1.1 and 11.4; checklist 6 to 8)."""

from __future__ import annotations

import asyncio
import io
import json
from urllib.parse import urlsplit

import pytest

from relaybroker.adapters.http import proof
from tests.waiting import WAIT_S


async def test_whoever_has_the_key_proves_it_for_its_own_port_and_for_a_challenge_only(client, key):
    """A client learns before it tells the key that this is the broker of the key; no answer is good for another port."""
    port, challenged = urlsplit(client.url).port, proof.challenge()
    async with client.http.get(client.url + "/health", headers={proof.HEADER: challenged}) as response:
        given = (await response.json())["proof"]
    assert proof.is_proof(given, key, challenged, port)
    assert not proof.is_proof(given, key, challenged, port + 1)
    assert not proof.is_proof(given, key, proof.challenge(), port)
    assert not proof.is_proof(given, "another key", challenged, port)
    assert not any(proof.is_proof(odd, key, challenged, port) for odd in (None, "", "\xe4", 1, given[:-1]))
    for odd in ("", "x", challenged.upper(), challenged + "0", "0" * 5000):
        async with client.http.get(client.url + "/health", headers={proof.HEADER: odd}) as response:
            assert "proof" not in await response.json(), "what is signed is a challenge and nothing else"


async def status_of(client, headers, path="/api/session"):
    async with client.http.get(client.url + path, headers=headers) as response:
        return response.status, await response.json()


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_key_is_taken_as_a_header_or_as_a_bearer_token_of_any_spelling(client, key, scheme):
    assert (await status_of(client, {"X-API-Key": key}))[0] == 200
    assert (await status_of(client, {"Authorization": f"{scheme} {key}"}))[0] == 200
    assert (await status_of(client, {"X-API-Key": key, "Authorization": f"{scheme} {key}"}))[0] == 200
    assert (await status_of(client, {"X-API-Key": " ", "Authorization": f"{scheme} {key}"}))[0] == 200


async def test_a_wrong_x_api_key_is_not_saved_by_a_right_bearer_token(client, key):
    assert (await status_of(client, {"X-API-Key": "wrong", "Authorization": f"Bearer {key}"}))[0] == 401


@pytest.mark.parametrize(
    "headers",
    [{}, {"X-API-Key": "wrong"}, {"X-API-Key": "ключ"}, {"Authorization": "Bearer "}, {"Authorization": "Basic x"}],
)
async def test_without_the_key_there_is_the_legacy_401(client, headers):
    status, body = await status_of(client, headers)
    nested = {"code": "unauthorized", "message": "Missing or invalid API key", "retryable": False, "statusCode": 401}
    assert status == 401
    assert body == {"success": False, "error": nested} | nested


async def test_a_key_in_the_query_or_a_cookie_is_no_key(client, key):
    assert (await status_of(client, {}, f"/api/session?api_key={key}&key={key}"))[0] == 401
    assert (await status_of(client, {"Cookie": f"X-API-Key={key}"}))[0] == 401


async def test_a_key_of_odd_bytes_is_refused_and_not_a_fault(client):
    port = int(client.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /api/session HTTP/1.1\r\nHost: localhost\r\nX-API-Key: \xff\xfe\r\nConnection: close\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), WAIT_S)
    writer.close()
    assert answer.split(b"\r\n")[0] == b"HTTP/1.1 401 Unauthorized"


async def test_the_key_is_asked_for_before_the_body_is_read_and_before_a_path_is_known(client):
    async with client.http.post(client.url + "/api/spawn", data=b"{not json") as response:
        assert response.status == 401
    assert (await status_of(client, {}, "/nowhere"))[0] == 401
    async with client.http.get(client.url + "/ws", headers={"Upgrade": "websocket"}) as response:
        assert response.status == 401


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "", "localhost.evil", "[::1", "a@127.0.0.1", "x:y"]
)
async def test_a_foreign_host_is_refused_before_anything_else(client, envelope, host):
    for path in ("/health", "/api/session", "/ws"):
        status, body = await status_of(client, {"Host": host}, path)
        envelope(status, body)
        assert (status, body["code"]) == (403, "forbidden_host")


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:99", "127.0.0.1:1", "[::1]:80", "192.168.1.5", "Broker.Example:1"]
)
async def test_ip_literals_localhost_and_allowed_names_are_hosts(client, host):
    assert (await status_of(client, {"Host": host}, "/health"))[0] == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "", "http://localhost"])
async def test_a_foreign_origin_is_refused_on_every_route(client, key, origin):
    for path in ("/health", "/api/session", "/ws"):
        status, body = await status_of(client, {"Origin": origin, "X-API-Key": key}, path)
        assert (status, body["code"]) == (403, "forbidden_origin")


async def test_its_own_origin_and_an_allowed_one_may_ask(client):
    for origin in (client.url, "https://desk.example"):
        assert (await status_of(client, {"Origin": origin}, "/health"))[0] == 200


async def test_no_answer_carries_cors_headers(client):
    async with client.http.get(client.url + "/health", headers={"Origin": client.url}) as response:
        assert not [name for name in response.headers if name.lower().startswith("access-control")]


async def test_a_result_is_posted_with_its_own_token_and_not_with_the_key(client):
    async with client.http.post(
        client.url + "/api/agent-result", headers={"Authorization": "Bearer arr_1"}
    ) as response:
        assert response.status == 401
        assert (await response.json())["code"] == "invalid_result_token"


async def test_an_unknown_path_is_a_404_in_the_envelope(client):
    for path in ("/nowhere", "/api/spawned/w1/mode", "/api"):
        answer = await client.refused("GET", path)
        assert (answer["statusCode"], answer["code"]) == (404, "not_found")


async def test_a_wrong_method_is_a_405_that_names_the_right_ones(client):
    async with client.http.get(client.url + "/api/send", headers=client.headers) as response:
        assert response.status == 405
        assert response.headers["Allow"] == "POST"
        assert (await response.json())["code"] == "method_not_allowed"


@pytest.mark.parametrize("body", [b"{not json", b"\xff\xfe", b'"\\ud800"', b"{} {}", b"{'a': 1}"])
async def test_a_body_that_is_no_json_is_a_400(client, envelope, body):
    async with client.http.post(client.url + "/api/spawn", data=body, headers=client.headers) as response:
        answer = await response.json()
        envelope(response.status, answer)
        assert (response.status, answer["code"]) == (400, "invalid_json")


async def test_a_body_that_is_no_object_is_a_400(client):
    for body in ([], "text", 3, True):
        assert (await client.refused("POST", "/api/send", body))["code"] == "invalid_request"


async def test_a_body_over_2_mib_is_a_413(client, envelope):
    body = io.BytesIO(json.dumps({"to": "w1", "text": "x" * (2 * 1024 * 1024)}).encode())
    async with client.http.post(client.url + "/api/send", data=body, headers=client.headers) as response:
        answer = await response.json()
        envelope(response.status, answer)
        assert (response.status, answer["code"]) == (413, "body_too_large")


async def test_a_body_with_a_broken_encoding_is_a_400(client):
    headers = client.headers | {"Content-Encoding": "deflate", "Content-Type": "application/json"}
    async with client.http.post(client.url + "/api/send", data=b"no deflate", headers=headers) as response:
        assert response.status == 400


async def test_an_empty_body_with_a_json_content_type_is_fine_everywhere(client):
    headers = client.headers | {"Content-Type": "application/json"}
    for method, path in (
        ("GET", "/api/spawned"),
        ("POST", "/api/session/renew"),
        ("DELETE", "/api/spawned/w1"),
        ("GET", "/api/status"),
    ):
        async with client.http.request(method, client.url + path, headers=headers) as response:
            assert response.status == 200


async def test_any_request_with_the_key_renews_the_lease_and_one_without_does_not(client):
    api = client.api
    api._last_use -= 100
    await status_of(client, {}, "/health")
    await status_of(client, {"X-API-Key": "wrong"})
    assert api.idle_s() >= 100
    await client.ask("GET", "/api/threads")
    assert api.idle_s() < 50


async def test_no_answer_shows_the_key_and_only_two_routes_show_the_workspace_key(client, key, workspace_key):
    await client.spawn("w1")
    for path in (
        "/health",
        "/api/session",
        "/api/config",
        "/api/spawned",
        "/api/status",
        "/api/metrics",
        "/api/events/replay",
        "/api/spawned/w1/snapshot",
        "/nowhere",
    ):
        _, body = await client.ask("GET", path)
        text = json.dumps(body)
        assert key not in text
        assert (workspace_key in text) == (path in ("/api/session", "/api/config"))
