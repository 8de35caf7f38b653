from __future__ import annotations

import asyncio
import json
import re
import socket as sockets
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import WSMsgType, web

from relaybroker.adapters.vault import Vault, fingerprint
from relaybroker.adapters.websocket.link import MAX_FRAME_BYTES, socket_url
from relaybroker.domain.inputs import FrameArrived, FrameUnreadable, LinkClosed, LinkDialFailed, LinkOpened
from tests.waiting import WAIT_S

MakeBench = Callable[..., Any]


def test_the_socket_address_follows_the_base_url() -> None:
    assert socket_url("https://cast.agentrelay.com") == "wss://cast.agentrelay.com/v1/node/ws"
    assert socket_url("http://127.0.0.1:8787/") == "ws://127.0.0.1:8787/v1/node/ws"


# --- dialling ---------------------------------------------------------------------------------------------------------


async def test_a_dial_opens_the_socket_with_the_node_token_in_the_header(engine: Any, make_bench: MakeBench) -> None:
    bench = make_bench(engine.url)
    bench.link.dial(1)
    [opened] = await bench.wait(LinkOpened)
    assert opened.dial == 1
    assert engine.authorizations == ["Bearer nt_live_secret"]


@pytest.mark.parametrize("status", [401, 403, 426, 503])
async def test_a_refused_upgrade_is_reported_with_its_status(engine: Any, make_bench: MakeBench, status: int) -> None:
    """F048, F044: only a 401 says that the token is dead; the link tells the core which status it was."""
    engine.refuse = status
    bench = make_bench(engine.url)
    bench.link.dial(3)
    [failed] = await bench.wait(LinkDialFailed)
    assert (failed.dial, failed.status) == (3, status)
    assert "nt_live_secret" not in failed.detail


@pytest.mark.parametrize("place", ["http://127.0.0.1:{port}/other", "/v1/node/elsewhere", "https://example.invalid/"])
async def test_a_redirect_is_a_failed_dial_and_is_not_followed(engine: Any, make_bench: MakeBench, place: str) -> None:
    """The token is for this engine; whoever is named there gets no connection."""
    asked: list[str] = []

    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readline()).decode())
        writer.close()

    async with await asyncio.start_server(other, "127.0.0.1", 0) as elsewhere:
        engine.sends_to = place.format(port=elsewhere.sockets[0].getsockname()[1])
        bench = make_bench(engine.url)
        bench.link.dial(4)
        [failed] = await bench.wait(LinkDialFailed)
        assert (failed.status, failed.detail) == (307, "redirected")
    assert asked == []
    assert len(engine.authorizations) == 1


async def test_a_port_that_nobody_listens_on_is_a_failed_dial(make_bench: MakeBench) -> None:
    with sockets.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        bench = make_bench(f"http://127.0.0.1:{taken.getsockname()[1]}")
        bench.link.dial(1)
        [failed] = await bench.wait(LinkDialFailed)
    assert failed.status is None
    assert failed.detail


async def test_a_server_that_never_answers_the_upgrade_is_given_up(make_bench: MakeBench) -> None:
    with sockets.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        bench = make_bench(f"http://127.0.0.1:{silent.getsockname()[1]}", dial=0.2)
        bench.link.dial(1)
        [failed] = await bench.wait(LinkDialFailed)
    assert failed.detail == "dial_timeout"


async def test_a_certificate_that_cannot_be_trusted_is_an_outage_and_not_a_bad_address(make_bench: MakeBench) -> None:
    """1.8: TLS failures are tried again; a certificate is renewed and a clock set right without anybody's restart."""
    secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    secure.load_cert_chain(Path(__file__).parent / "self_signed.pem")
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=secure)
    bench = make_bench(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    bench.link.dial(1)
    [failed] = await bench.wait(LinkDialFailed)
    server.close()
    await server.wait_closed()
    assert failed.status is None
    assert failed.detail != "bad_address"
    assert "certificate" in failed.detail.lower()


async def test_a_bad_address_is_a_failed_dial(make_bench: MakeBench) -> None:
    bench = make_bench("http://[nonsense")
    bench.link.dial(1)
    [failed] = await bench.wait(LinkDialFailed)
    assert failed.detail == "bad_address"


async def test_a_dial_can_be_closed_before_it_opens(make_bench: MakeBench) -> None:
    with sockets.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        bench = make_bench(f"http://127.0.0.1:{silent.getsockname()[1]}")
        bench.link.dial(1)
        bench.link.close(1, "shutdown")
        [failed] = await bench.wait(LinkDialFailed)
    assert failed.detail == "shutdown"


# --- frames -----------------------------------------------------------------------------------------------------------


async def test_frames_are_written_in_order_and_before_a_close(engine: Any, make_bench: MakeBench) -> None:
    bench = make_bench(engine.url)
    bench.link.dial(1)
    await bench.wait(LinkOpened)
    for number in range(500):
        bench.link.send(1, {"v": 1, "id": f"f{number}", "text": "ü" * 50})
    bench.link.close(1, "shutdown")
    bench.link.send(1, {"id": "too late"})
    [closed] = await bench.wait(LinkClosed)
    assert closed.detail == "shutdown"
    assert [json.loads(text)["id"] for text in engine.received] == [f"f{number}" for number in range(500)]
    assert (await engine.closed.get())[0] == 1000


async def test_a_frame_for_another_dial_is_dropped(engine: Any, make_bench: MakeBench) -> None:
    bench = make_bench(engine.url)
    bench.link.dial(2)
    await bench.wait(LinkOpened)
    bench.link.send(1, {"id": "old"})
    bench.link.close(1, "old")
    bench.link.send(2, {"id": "new"})
    bench.link.close(2, "done")
    await bench.wait(LinkClosed)
    assert [json.loads(text)["id"] for text in engine.received] == ["new"]


async def test_every_text_frame_arrives_in_order(engine: Any, make_bench: MakeBench) -> None:
    async def serve(socket: web.WebSocketResponse) -> None:
        for number in range(300):
            await socket.send_json({"v": 1, "type": "deliver", "seq": number})
        await engine.collect(socket)

    engine.serve = serve
    bench = make_bench(engine.url)
    bench.link.dial(1)
    frames = await bench.wait(FrameArrived, 300)
    assert [arrived.frame["seq"] for arrived in frames] == list(range(300))


@pytest.mark.parametrize("text", ["{", "[1]", '"text"', "NaN", '{"a": 1} x', "[" * 100_000])
async def test_text_that_is_no_json_object_is_reported_and_the_socket_stays(
    engine: Any, make_bench: MakeBench, text: str
) -> None:
    async def serve(socket: web.WebSocketResponse) -> None:
        await socket.send_str(text)
        await socket.send_json({"type": "ping"})
        await engine.collect(socket)

    engine.serve = serve
    bench = make_bench(engine.url)
    bench.link.dial(1)
    await bench.wait(FrameArrived)
    [unreadable] = await bench.wait(FrameUnreadable)
    assert (unreadable.reason, unreadable.size) == ("bad_json", len(text))


async def test_a_binary_frame_is_reported_and_the_socket_stays(engine: Any, make_bench: MakeBench) -> None:
    async def serve(socket: web.WebSocketResponse) -> None:
        await socket.send_bytes(b"\x00\x01\x02")
        await socket.send_json({"type": "ping"})
        await engine.collect(socket)

    engine.serve = serve
    bench = make_bench(engine.url)
    bench.link.dial(1)
    await bench.wait(FrameArrived)
    [unreadable] = await bench.wait(FrameUnreadable)
    assert (unreadable.reason, unreadable.size) == ("binary_frame", 3)


async def test_a_frame_of_ten_megabytes_arrives(engine: Any, make_bench: MakeBench) -> None:
    async def serve(socket: web.WebSocketResponse) -> None:
        await socket.send_json({"type": "action.invoke", "payload": "x" * 10_000_000})
        await engine.collect(socket)

    engine.serve = serve
    bench = make_bench(engine.url)
    bench.link.dial(1)
    [arrived] = await bench.wait(FrameArrived)
    assert len(arrived.frame["payload"]) == 10_000_000


async def test_a_frame_that_is_too_big_closes_the_socket_with_a_reason(engine: Any, make_bench: MakeBench) -> None:
    async def serve(socket: web.WebSocketResponse) -> None:
        await socket.send_str('"' + "x" * MAX_FRAME_BYTES + '"')
        await engine.collect(socket)

    engine.serve = serve
    bench = make_bench(engine.url)
    bench.link.dial(1)
    [closed] = await bench.wait(LinkClosed)
    assert (closed.code, closed.detail) == (1009, "frame_too_big")
    bench.link.dial(2)
    await bench.wait(LinkOpened, 2)


# --- tokens -----------------------------------------------------------------------------------------------------------


async def test_a_token_in_a_reply_goes_to_the_vault_and_only_its_fingerprint_goes_on(
    engine: Any, make_bench: MakeBench, vault: Vault
) -> None:
    """I7."""

    async def serve(socket: web.WebSocketResponse) -> None:
        data = {"agent_id": "248", "token": " at_live_secret ", "name": "w1", "delivery_ack_seq": 4}
        await socket.send_json({"v": 1, "type": "reply", "id": "r1", "ok": True, "data": data})
        await engine.collect(socket)

    engine.serve = serve
    bench = make_bench(engine.url)
    bench.link.dial(1)
    [arrived] = await bench.wait(FrameArrived)
    assert vault.token("agent:248") == "at_live_secret"
    assert arrived.frame["data"]["token"] == fingerprint("at_live_secret")
    assert arrived.frame["data"]["delivery_ack_seq"] == 4
    assert "at_live_secret" not in repr(arrived)


@pytest.mark.parametrize("agent_id", [None, 5, "../x", ""])
async def test_a_token_without_a_usable_agent_is_not_kept_and_not_passed_on(
    engine: Any, make_bench: MakeBench, vault: Vault, agent_id: object
) -> None:
    async def serve(socket: web.WebSocketResponse) -> None:
        await socket.send_json({"type": "reply", "data": {"agent_id": agent_id, "token": "at_live_secret"}})
        await engine.collect(socket)

    engine.serve = serve
    bench = make_bench(engine.url)
    bench.link.dial(1)
    [arrived] = await bench.wait(FrameArrived)
    assert "at_live_secret" not in repr(arrived)
    assert repr(vault) == "Vault(['node', 'workspace'])"


async def test_a_token_that_cannot_be_kept_closes_the_link_instead_of_being_lost(
    engine: Any, make_bench: MakeBench, vault: Vault, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "run").write_text("a file where the directory should be")

    async def serve(socket: web.WebSocketResponse) -> None:
        await socket.send_json({"type": "reply", "data": {"agent_id": "1", "token": "at_live_secret"}})
        await engine.collect(socket)

    engine.serve = serve
    bench = make_bench(engine.url)
    bench.link.dial(1)
    [closed] = await bench.wait(LinkClosed)
    assert closed.detail == "vault_failed"
    assert "at_live_secret" not in caplog.text


# --- the end of a socket ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "reason"), [(1000, "superseded"), (4000, "superseded"), (1001, "restart")])
async def test_a_close_by_the_engine_is_reported_with_code_and_reason(
    engine: Any, make_bench: MakeBench, code: int, reason: str
) -> None:
    async def serve(socket: web.WebSocketResponse) -> None:
        await socket.close(code=code, message=reason.encode())

    engine.serve = serve
    bench = make_bench(engine.url)
    bench.link.dial(1)
    [closed] = await bench.wait(LinkClosed)
    assert (closed.dial, closed.code, closed.detail) == (1, code, reason)


async def test_a_connection_that_breaks_is_reported_as_its_end(engine: Any, make_bench: MakeBench) -> None:
    async def serve(socket: web.WebSocketResponse) -> None:
        assert socket._req is not None
        transport = socket._req.transport
        assert transport is not None
        transport.abort()

    engine.serve = serve
    bench = make_bench(engine.url)
    bench.link.dial(1)
    [closed] = await bench.wait(LinkClosed)
    assert closed.code is None or closed.code == 1006
    assert closed.detail == "eof"


async def test_a_half_open_connection_is_noticed(engine: Any, make_bench: MakeBench) -> None:
    """N6: nothing at all comes, not even a pong."""
    over = asyncio.Event()

    async def serve(_socket: web.WebSocketResponse) -> None:
        await over.wait()  # reads nothing, so it answers no ping

    engine.serve = serve
    bench = make_bench(engine.url, ping=0.05, idle=0.3, flush=0.2)
    bench.link.dial(1)
    [closed] = await bench.wait(LinkClosed)
    over.set()
    assert closed.detail == "idle"


async def test_pongs_keep_a_quiet_connection_open(engine: Any, make_bench: MakeBench) -> None:
    over = asyncio.Event()
    pings = 0

    async def serve(socket: web.WebSocketResponse) -> None:
        nonlocal pings
        socket._autoping = False
        async for message in socket:
            if message.type == WSMsgType.PING:
                pings += 1
                await socket.pong(message.data)
                if pings == 8:
                    over.set()

    engine.serve = serve
    bench = make_bench(engine.url, ping=0.1, idle=0.4)
    bench.link.dial(1)
    await bench.wait(LinkOpened)
    async with asyncio.timeout(WAIT_S):
        await over.wait()
    assert not [item for item in bench.inputs if isinstance(item, LinkClosed)]


async def test_a_new_dial_replaces_a_socket_that_is_still_open(engine: Any, make_bench: MakeBench) -> None:
    bench = make_bench(engine.url)
    bench.link.dial(1)
    await bench.wait(LinkOpened)
    bench.link.dial(2)
    [closed] = await bench.wait(LinkClosed)
    assert (closed.dial, closed.detail) == (1, "replaced")
    opened = await bench.wait(LinkOpened, 2)
    assert [one.dial for one in opened] == [1, 2]


async def test_every_dial_ends_in_exactly_one_input(engine: Any, make_bench: MakeBench) -> None:
    bench = make_bench(engine.url)
    for number in range(1, 21):
        bench.link.dial(number)
        if number % 2:
            await asyncio.sleep(0)
    bench.link.close(20, "done")
    async with asyncio.timeout(WAIT_S):
        while sum(isinstance(item, LinkClosed | LinkDialFailed) for item in bench.inputs) < 20:
            await asyncio.sleep(0.01)
    ended = [item.dial for item in bench.inputs if isinstance(item, LinkClosed | LinkDialFailed)]
    opened = [item.dial for item in bench.inputs if isinstance(item, LinkOpened)]
    closed = [item.dial for item in bench.inputs if isinstance(item, LinkClosed)]
    assert sorted(ended) == list(range(1, 21))
    assert sorted(opened) == sorted(closed)


# --- bounds -----------------------------------------------------------------------------------------------------------


async def test_a_peer_that_does_not_read_is_disconnected_at_the_bound(engine: Any, make_bench: MakeBench) -> None:
    """F052: at 32 MiB, with the count of what was waiting; the next dial works, the ping of the old socket holds up nothing."""
    over = asyncio.Event()

    async def serve(_socket: web.WebSocketResponse) -> None:
        await over.wait()

    engine.serve = serve
    bench = make_bench(engine.url, flush=0.2)
    bench.link.dial(1)
    await bench.wait(LinkOpened)
    frame = {"text": "x" * 100_000}
    for _ in range(1000):
        bench.link.send(1, frame)
    [closed] = await bench.wait(LinkClosed)
    match = re.fullmatch(r"outbound_overflow: (\d+) frames of (\d+) bytes are waiting", closed.detail)
    assert match is not None, closed.detail
    frames, waiting = map(int, match.groups())
    assert 32 * 1024 * 1024 - 100_100 < waiting <= 32 * 1024 * 1024
    assert frames == waiting // len(json.dumps(frame, separators=(",", ":")))
    bench.link.dial(2)
    await bench.wait(LinkOpened, 2)
    over.set()


async def test_a_close_does_not_wait_for_ever_for_a_peer_that_does_not_read(engine: Any, make_bench: MakeBench) -> None:
    over = asyncio.Event()

    async def serve(_socket: web.WebSocketResponse) -> None:
        await over.wait()

    engine.serve = serve
    bench = make_bench(engine.url, flush=0.3)
    bench.link.dial(1)
    await bench.wait(LinkOpened)
    for _ in range(200):
        bench.link.send(1, {"text": "x" * 100_000})
    bench.link.close(1, "shutdown")
    async with asyncio.timeout(WAIT_S):
        [closed] = await bench.wait(LinkClosed)
    over.set()
    assert closed.detail == "shutdown"


async def test_a_core_without_room_slows_the_engine_down_and_loses_nothing(engine: Any, make_bench: MakeBench) -> None:
    """N8: backpressure through the socket, no drop, and writing goes on meanwhile."""
    total = 400
    sent = 0

    async def serve(socket: web.WebSocketResponse) -> None:
        async def write() -> None:
            nonlocal sent
            for number in range(total):
                await socket.send_json({"type": "deliver", "seq": number, "text": "x" * 50_000})
                sent = number + 1

        writing = asyncio.create_task(write())
        await engine.collect(socket)
        writing.cancel()

    engine.serve = serve
    bench = make_bench(engine.url)
    bench.link.dial(1)
    await bench.wait(LinkOpened)
    bench.room.clear()
    bench.link.send(1, {"id": "ack"})
    async with asyncio.timeout(WAIT_S):
        while not engine.received:
            await asyncio.sleep(0.01)
    stalled_at = -1
    async with asyncio.timeout(WAIT_S):
        while sent != stalled_at:
            stalled_at = sent
            await asyncio.sleep(0.3)
    assert stalled_at < total
    bench.room.set()
    frames = await bench.wait(FrameArrived, total)
    assert [arrived.frame["seq"] for arrived in frames] == list(range(total))


async def test_shutting_down_delivers_nothing_more_and_leaves_no_task(engine: Any, make_bench: MakeBench) -> None:
    bench = make_bench(engine.url)
    bench.link.dial(1)
    await bench.wait(LinkOpened)
    await bench.link.shut()
    count = len(bench.inputs)
    assert (await engine.closed.get())[0] == 1000
    assert len(bench.inputs) == count
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("link")]
