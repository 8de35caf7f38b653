"""A person's keyboard over a WebSocket, and who gives a terminal its size (local-api.md sections 1.3 and 1.5; checklist 15)."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest

from relaybroker.adapters.http.api import input_stream, touches
from relaybroker.adapters.http.api.resizers import STALE_S, Resizers
from relaybroker.domain import inputs
from tests.waiting import WAIT_S

STREAM = "/api/input/w1/stream"


async def said(socket):
    async with asyncio.timeout(WAIT_S):
        message = await socket.receive()
    return json.loads(message.data) if message.type is aiohttp.WSMsgType.TEXT else message.type


@pytest.fixture
async def keyboard(client):
    await client.spawn("w1")
    async with client.connect(STREAM) as socket:
        assert await said(socket) == {"type": "pty_input_ready", "name": "w1"}
        yield socket


async def test_keys_are_typed_as_they_are_and_acknowledged_in_their_order(client, keyboard):
    frames = ["a", "\x1b[A", '{"type":"pty_input","data":"b"}', '{"not":"for us"}', " {x} ", "é", "{}"]
    for frame in frames:
        await keyboard.send_str(frame)
    await keyboard.send_bytes("ß".encode())
    acks = [await said(keyboard) for _ in range(len(frames) + 1)]
    typed = ["a", "\x1b[A", "b", '{"not":"for us"}', " {x} ", "é", "{}", "ß"]
    assert client.broker.typed_raw == [text.encode() for text in typed]
    assert acks == [{"type": "pty_input_ack", "name": "w1", "bytes_written": len(text.encode())} for text in typed]


@pytest.mark.parametrize("frame", ['{"type":"pty_input"}', '{"type":"pty_input","data":7}', b"\xff\xfe"])
async def test_a_frame_that_types_nothing_is_refused_and_the_stream_goes_on(client, keyboard, frame):
    await (keyboard.send_bytes(frame) if isinstance(frame, bytes) else keyboard.send_str(frame))
    refused = await said(keyboard)
    assert (refused["type"], refused["code"], refused["statusCode"]) == ("pty_input_error", "invalid_input", 400)
    await keyboard.send_str("x")
    assert (await said(keyboard))["type"] == "pty_input_ack"
    assert client.broker.typed_raw == [b"x"]


async def test_an_agent_that_is_not_there_has_no_keyboard(client):
    async with client.connect("/api/input/ghost/stream") as socket:
        refused = await said(socket)
        assert (refused["code"], refused["statusCode"], refused["retryable"]) == ("agent_not_found", 404, False)
        assert await said(socket) is aiohttp.WSMsgType.CLOSE


async def test_the_end_of_the_agent_ends_the_stream(client, keyboard):
    await client.ask("DELETE", "/api/spawned/w1")
    refused = await said(keyboard)
    assert (refused["code"], refused["statusCode"]) == ("worker_disappeared", 503)
    assert await said(keyboard) is aiohttp.WSMsgType.CLOSE


async def test_a_terminal_that_refuses_ends_the_stream(client, keyboard):
    client.broker.host_error = "worker_timeout"
    await keyboard.send_str("x")
    refused = await said(keyboard)
    assert (refused["code"], refused["statusCode"]) == ("worker_timeout", 504)
    assert await said(keyboard) is aiohttp.WSMsgType.CLOSE


async def test_keys_for_which_there_is_no_room_are_refused_alone_and_the_stream_goes_on(client, keyboard):
    """F125."""
    client.broker.host_error = "queue_full"
    await keyboard.send_str("lost")
    refused = await said(keyboard)
    assert (refused["type"], refused["code"], refused["statusCode"]) == ("pty_input_error", "queue_full", 429)
    client.broker.host_error = ""
    await keyboard.send_str("taken")
    assert await said(keyboard) == {"type": "pty_input_ack", "name": "w1", "bytes_written": 5}
    assert client.broker.typed_raw == [b"taken"]


async def test_without_the_key_or_an_upgrade_there_is_no_stream(client):
    with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
        await client.connect(STREAM, key="wrong")
    assert refusal.value.status == 401
    assert (await client.refused("GET", STREAM))["statusCode"] == 400


async def test_the_number_of_keyboards_is_bounded(client, keyboard, monkeypatch):
    monkeypatch.setattr(input_stream, "MAX_STREAMS", 1)
    with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
        await client.connect(STREAM)
    assert refusal.value.status == 429


# --- the size ---------------------------------------------------------------------------------------------------------------


async def test_of_two_that_attach_the_first_one_decides_the_size(client):
    """F123."""
    await client.spawn("w1")
    assert (await resize(client, 40, 100, "ann")) == {"name": "w1", "rows": 40, "cols": 100}
    other = await resize(client, 10, 20, "bob")
    assert (other["rows"], other["cols"], other["applied"], other["owner"]) == (40, 100, False, "ann")
    assert (await resize(client, 50, 90, "ann"))["rows"] == 50
    assert (await resize(client, 30, 80))["rows"] == 30, "whoever names nobody is a person at a command"
    assert (await resize(client, 11, 22, "bob"))["rows"] == 11


async def resize(client, rows, cols, owner=None):
    body = {"rows": rows, "cols": cols} | ({"session_id": owner} if owner else {})
    status, answer = await client.ask("POST", "/api/resize/w1", body)
    assert status == 200
    return answer


def test_an_owner_that_is_silent_for_long_has_left():
    """F123."""
    now = [0.0]
    resizers = Resizers(lambda: now[0])
    resizers.resized("ann", "s1")
    now[0] = STALE_S - 1
    assert resizers.other_than("bob", "s1") == "ann"
    now[0] = STALE_S
    assert resizers.other_than("bob", "s1") is None


# --- the mode ---------------------------------------------------------------------------------------------------------------

MODE = "/api/spawned/w1/delivery-mode"


async def test_a_mode_is_set_only_if_it_still_is_what_was_expected(client):
    await client.spawn("w1")
    _, now = await client.ask("GET", MODE)
    held = {"mode": "manual_flush", "expected_mode": "auto_inject", "expected_revision": now["revision"]}
    status, first = await client.ask("PUT", MODE, held)
    assert status == 200
    again = await client.refused("PUT", MODE, held)
    assert (again["statusCode"], again["code"]) == (409, "revision_conflict")
    assert (again["mode"], again["revision"]) == ("manual_flush", first["revision"])


async def test_a_revision_never_comes_again(client):
    """An observer that missed a hold and its end must not take the mode for unchanged."""
    await client.spawn("w1")
    seen = [(await client.ask("GET", MODE))[1]["revision"]]
    modes = 2 * ("manual_flush", "auto_inject")
    seen += [(await client.ask("PUT", MODE, {"mode": mode}))[1]["revision"] for mode in modes]
    assert len(set(seen)) == len(seen)
    stale = await client.refused("PUT", MODE, {"mode": "manual_flush", "expected_revision": seen[0]})
    assert (stale["code"], stale["revision"]) == ("revision_conflict", seen[-1])


async def test_an_expected_mode_that_is_none_is_refused(client):
    """F127."""
    await client.spawn("w1")
    answer = await client.refused("PUT", MODE, {"mode": "manual_flush", "expected_mode": "junk"})
    assert (answer["statusCode"], answer["code"], answer["field"]) == (400, "invalid_mode", "expected_mode")
    assert (await client.ask("GET", MODE))[1]["mode"] == "auto_inject"


# --- what stays in the log ------------------------------------------------------------------------------------------------------


async def test_what_people_type_and_size_leaves_facts_and_no_key(client, keyboard, monkeypatch):
    monkeypatch.setattr(touches, "WINDOW_S", 0.05)
    secret = "pass-word-of-a-person"
    for key in secret:
        await keyboard.send_str(key)
    for _ in secret:
        await said(keyboard)
    await client.ask("POST", "/api/input/w1", {"data": secret})
    await client.ask("POST", "/api/resize/w1", {"rows": 40, "cols": 100, "session_id": "ann"})
    session = client.broker.state.registration_of("w1").session_id

    def facts(kind):
        return [item for item in client.broker.offered if isinstance(item, kind) and item.session_id == session]

    await client.until(lambda: sum(item.size for item in facts(inputs.TerminalTyped)) == 2 * len(secret))
    assert sum(item.frames for item in facts(inputs.TerminalTyped)) == len(secret) + 1
    assert [(item.rows, item.cols, item.owner) for item in facts(inputs.TerminalSized)] == [(40, 100, "ann")]
    logged = "".join(str(one) for one in facts(inputs.TerminalTyped))
    assert secret not in logged
    status, answer = await client.ask("GET", "/api/log?topic=worker.terminal_typed.v1")
    assert status == 200, answer
