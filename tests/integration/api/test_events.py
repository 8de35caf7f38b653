"""The event log: `/ws` and `/api/events/replay` (local-api.md section 1.4; checklist 11)."""

from __future__ import annotations

import asyncio
import json
import socket as sockets
import time

import aiohttp
import pytest

from relaybroker.adapters.http.api import event_stream
from relaybroker.adapters.http.api.event_stream import QUEUE_BYTES, QUEUE_FRAMES, EventStream
from relaybroker.adapters.sessions.host.protocol import Output
from relaybroker.domain.announcements import AgentBlocked, Announced
from relaybroker.domain.effects import Announce
from relaybroker.domain.state import ANNOUNCEMENTS_KEPT
from tests.waiting import WAIT_S


class Source:
    """Makes durable events in the core's own state and hands them out as the runtime does."""

    def __init__(self, client):
        self.client = client
        self.state = client.broker.state

    @property
    def last(self):
        return self.state.notified

    def store(self, count, *, padding="", announce=True):
        """Make this many events; `announce=False`: as if they were not given out yet."""
        for _ in range(count):
            self.state.notified += 1
            what = AgentBlocked(name="w1", pattern=padding)
            announced = Announced(self.state.notified, self.state.epoch, time.time(), what)
            self.state.announcements.append(announced)
            del self.state.announcements[:-ANNOUNCEMENTS_KEPT]
            if announce:
                self.client.api.announce(Announce(announced=announced))


@pytest.fixture
def source(client):
    return Source(client)


async def take(socket, until_seq):
    """Every frame up to the one with this number."""
    frames = []
    async with asyncio.timeout(WAIT_S):
        while True:
            frame = await socket.receive_json()
            frames.append(frame)
            if frame["kind"] != "replay_gap" and frame.get("seq") == until_seq:
                return frames


def numbers(frames):
    return [frame["seq"] for frame in frames if "seq" in frame and frame["kind"] != "replay_gap"]


async def test_a_client_gets_what_is_stored_and_then_what_happens(client, source):
    before = source.last
    async with client.socket() as socket:
        assert numbers(await take(socket, before)) == list(range(1, before + 1))
        await client.spawn("w1")
        frames = await take(socket, source.last)
    assert numbers(frames) == list(range(before + 1, source.last + 1))
    assert {"agent_spawned", "worker_ready"} <= {frame["kind"] for frame in frames}


async def test_events_are_flat_text_frames_with_number_epoch_and_time_and_without_type_or_payload(client, source):
    await client.spawn("w1")
    async with client.socket() as socket:
        async with asyncio.timeout(WAIT_S):
            message = await socket.receive()
        assert message.type is aiohttp.WSMsgType.TEXT
        frames = [json.loads(message.data), *await take(socket, source.last)]
    for frame in frames:
        assert isinstance(frame["kind"], str)
        assert isinstance(frame["timestamp"], int)
        assert frame["epoch"] == source.state.epoch
        assert not {"type", "payload"} & frame.keys()


async def test_nothing_is_missing_that_happened_before_the_router_opened(client, source):
    """What this run decided before the first client could come is read from the store, without a hole."""
    assert source.last > 0
    async with client.socket() as socket:
        first = await take(socket, source.last)
        source.store(3)
        later = await take(socket, source.last)
    assert numbers(first + later) == list(range(1, source.last + 1))


async def test_what_is_stored_but_not_yet_handed_out_is_not_sent(client, source):
    """Only the runtime says that an event is on disk."""
    source.store(1)
    published = source.last
    source.store(2, announce=False)
    async with client.socket() as socket:
        assert numbers(await take(socket, published))[-1] == published
        _, body = await client.ask("GET", "/api/events/replay")
        assert body["currentSeq"] == body["events"][-1]["seq"] == published
        for item in source.state.announcements[-2:]:
            client.api.announce(Announce(announced=item))
        assert numbers(await take(socket, published + 2)) == [published + 1, published + 2]


@pytest.mark.parametrize("name", ["sinceSeq", "since_seq"])
async def test_a_cursor_leaves_out_what_the_client_has(client, source, name):
    source.store(20)
    async with client.socket(f"?{name}={source.last - 3}") as socket:
        assert numbers(await take(socket, source.last)) == [source.last - 2, source.last - 1, source.last]


async def test_the_camel_case_cursor_wins(client, source):
    source.store(5)
    _, body = await client.ask("GET", f"/api/events/replay?since_seq=0&sinceSeq={source.last - 1}")
    assert numbers(body["events"]) == [source.last]


@pytest.mark.parametrize("since", ["-1", "x", "1.5", "", "²", "1" * 5000])
async def test_a_cursor_that_is_no_number_is_a_400(client, since):
    answer = await client.refused("GET", f"/api/events/replay?sinceSeq={since}")
    assert (answer["statusCode"], answer["code"], answer["field"]) == (400, "invalid_field", "sinceSeq")
    with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
        await client.socket(f"?sinceSeq={since}")
    assert refusal.value.status == 400


async def test_events_that_are_not_kept_any_more_are_an_explicit_gap_with_their_count(client, source):
    source.store(ANNOUNCEMENTS_KEPT + 500)
    oldest = source.state.announcements[0].seq
    async with client.socket("?sinceSeq=5") as socket:
        gap, *events = await take(socket, source.last)
    assert (gap["kind"], gap["reason"]) == ("replay_gap", "retention")
    assert (gap["requestedSinceSeq"], gap["oldestAvailable"], gap["seq"]) == (5, oldest, oldest - 1)
    assert (gap["droppedCount"], gap["currentSeq"]) == (oldest - 6, source.last)
    assert numbers(events) == list(range(oldest, source.last + 1))
    _, body = await client.ask("GET", "/api/events/replay?sinceSeq=5&limit=10")
    assert (body["gap"], body["oldestAvailable"]) == (True, oldest)
    assert numbers(body["events"]) == list(range(oldest, oldest + 10))


async def test_a_client_that_has_everything_up_to_the_oldest_misses_nothing(client, source):
    source.store(ANNOUNCEMENTS_KEPT + 500)
    oldest = source.state.announcements[0].seq
    async with client.socket(f"?sinceSeq={oldest - 1}") as socket:
        assert (await take(socket, source.last))[0]["seq"] == oldest
    _, body = await client.ask("GET", f"/api/events/replay?sinceSeq={oldest - 1}")
    assert (body["gap"], body["oldestAvailable"]) == (False, oldest - 1)


async def test_replay_gives_at_most_1000_events_at_once(client, source):
    source.store(1500)
    _, body = await client.ask("GET", "/api/events/replay?sinceSeq=10")
    assert numbers(body["events"]) == list(range(11, 1011))
    assert body["epoch"] == source.state.epoch


@pytest.mark.parametrize("since", [2**64 - 1, 10**15])
async def test_a_cursor_from_the_future_is_safe_and_starts_from_the_oldest(client, source, since):
    """F118: `sinceSeq` of 2^64-1."""
    source.store(5)
    async with client.socket(f"?sinceSeq={since}") as socket:
        gap, *events = await take(socket, source.last)
        source.store(1)
        events += await take(socket, source.last)
    assert (gap["kind"], gap["reason"], gap["seq"]) == ("replay_gap", "cursor_ahead", 0)
    assert gap["requestedSinceSeq"] == since
    assert numbers(events) == list(range(1, source.last + 1))


async def test_a_cursor_of_another_epoch_starts_from_the_oldest(client, source):
    source.store(5)
    async with client.socket("?sinceSeq=3&epoch=ep_other") as socket:
        gap, *events = await take(socket, source.last)
    assert gap["reason"] == "epoch_changed"
    assert numbers(events) == list(range(1, source.last + 1))
    async with client.socket(f"?sinceSeq={source.last - 1}&epoch={source.state.epoch}") as socket:
        assert numbers(await take(socket, source.last)) == [source.last]


async def slow_socket(client, query=""):
    """A WebSocket whose receive buffer is small and that nobody reads yet; its raw reader and writer."""
    raw = sockets.socket()
    raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
    raw.setblocking(False)
    host, port = client.url.removeprefix("http://").split(":")
    await asyncio.get_running_loop().sock_connect(raw, (host, int(port)))
    reader, writer = await asyncio.open_connection(sock=raw, limit=4096)
    key = client.headers["X-API-Key"]
    writer.write(
        f"GET /ws{query} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {key}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"101" in head.split(b"\r\n")[0]
    return reader, writer


async def read_frames(reader, until_seq):
    """Text frames up to the one with this number, from the raw socket."""
    frames = []
    async with asyncio.timeout(WAIT_S):
        while True:
            first, length = await reader.readexactly(2)
            if length == 126:
                length = int.from_bytes(await reader.readexactly(2))
            elif length == 127:
                length = int.from_bytes(await reader.readexactly(8))
            data = await reader.readexactly(length)
            if first & 0xF == 1:
                frames.append(json.loads(data))
                if frames[-1]["kind"] != "replay_gap" and frames[-1].get("seq") == until_seq:
                    return frames


def assert_complete(frames, since, last):
    """Every durable event between, once and in order, or a gap that counts what is missing just there."""
    at = since
    for frame in frames:
        if frame["kind"] == "replay_gap":
            assert frame["droppedCount"] == frame["seq"] - at
            at = frame["seq"]
        elif "seq" in frame:
            assert frame["seq"] == at + 1
            at = frame["seq"]
    assert at == last


async def test_a_slow_client_of_10_000_chunks_has_every_durable_event_and_one_gap_that_says_so(client, source):
    """F118: nothing durable was dropped, so the gap counts 0; ephemeral output is what it lost."""
    await client.spawn("w1")
    session = client.broker.state.registration_of("w1").session_id
    since = source.last
    reader, writer = await slow_socket(client, f"?sinceSeq={since}")
    await client.until(lambda: len(client.api._events) == 1)
    for number in range(10_000):
        client.api.output(Output(session_id=session, offset=number * 500, data=b"x" * 500))
        if number % 50 == 0:
            source.store(1)
            await asyncio.sleep(0)
    source.store(1)
    frames = await read_frames(reader, source.last)
    writer.close()
    assert_complete(frames, since, source.last)
    gaps = [frame for frame in frames if frame["kind"] == "replay_gap"]
    assert gaps
    assert {(gap["reason"], gap["droppedCount"]) for gap in gaps} == {("slow_consumer", 0)}
    assert sum(frame["kind"] == "worker_stream" for frame in frames) < 10_000


async def test_a_slow_client_that_falls_behind_retention_is_told_how_many_events_it_lost(client, source):
    """F118."""
    since = source.last
    reader, writer = await slow_socket(client, f"?sinceSeq={since}")
    await client.until(lambda: len(client.api._events) == 1)
    for _ in range(3 * ANNOUNCEMENTS_KEPT // 64):
        source.store(64, padding="x" * 2000)
        await asyncio.sleep(0)
    frames = await read_frames(reader, source.last)
    writer.close()
    assert_complete(frames, since, source.last)
    lost = sum(frame["droppedCount"] for frame in frames if frame["kind"] == "replay_gap")
    assert lost > 0
    assert lost + len(numbers(frames)) == source.last - since


async def test_a_slow_client_costs_a_bounded_amount_of_memory(client, source):
    """F118: at most 1024 frames or 4 MiB wait for one client."""
    _reader, writer = await slow_socket(client, f"?sinceSeq={source.last}")
    await client.until(lambda: len(client.api._events._clients) == 1)
    (waiting,) = client.api._events._clients.values()
    await client.until(lambda: not waiting._behind)
    for _ in range(200):
        source.store(40, padding="y" * 3000)
        assert len(waiting._queue) <= QUEUE_FRAMES
        assert waiting._bytes <= QUEUE_BYTES
        await asyncio.sleep(0)
    writer.close()


async def test_a_slow_client_holds_up_nobody_else(client, source):
    _reader, writer = await slow_socket(client)
    async with client.socket(f"?sinceSeq={source.last}") as socket:
        frames = []
        for _ in range(20):
            source.store(100, padding="z" * 1000)
            frames += await take(socket, source.last)
    writer.close()
    assert not [frame for frame in frames if frame["kind"] == "replay_gap"]


async def test_a_client_that_closes_and_opens_quickly_has_one_subscription_and_no_event_twice(client, source):
    """F120."""
    seen = []
    since = 0
    for _ in range(10):
        async with client.socket(f"?sinceSeq={since}") as socket:
            source.store(3)
            frames = await take(socket, source.last)
            seen += numbers(frames)
            since = source.last
    assert seen == list(range(1, source.last + 1))
    await client.until(lambda: len(client.api._events) == 0, "old sockets are gone")
    assert client.broker.watching[-1] is False


async def test_terminal_output_goes_to_who_watches_without_a_number_and_never_splits_a_character(client, source):
    await client.spawn("w1")
    session = client.broker.state.registration_of("w1").session_id
    client.api.output(Output(session_id=session, offset=0, data=b"nobody watches"))
    async with client.socket(f"?sinceSeq={source.last}") as socket:
        source.store(1)
        await take(socket, source.last)
        assert client.broker.watching[-1] is True
        for number, part in enumerate(("ü".encode()[:1], "ü".encode()[1:] + b"!", b"\xff")):
            client.api.output(Output(session_id=session, offset=number, data=part))
        client.api.output(Output(session_id="unknown", offset=0, data=b"?"))
        async with asyncio.timeout(WAIT_S):
            frames = [await socket.receive_json() for _ in range(2)]
    assert [frame["chunk"] for frame in frames] == ["ü!", "�"]
    for frame in frames:
        assert (frame["kind"], frame["name"], frame["stream"]) == ("worker_stream", "w1", "stdout")
        assert not {"seq", "type", "payload"} & frame.keys()


async def test_the_first_thing_on_a_socket_is_a_ping_and_a_ping_of_the_client_is_answered(client, source):
    async with client.socket(f"?sinceSeq={source.last}", autoping=False) as socket, asyncio.timeout(WAIT_S):
        assert (await socket.receive()).type is aiohttp.WSMsgType.PING
        await socket.send_str('{"type":"whatever"}')
        await socket.ping(b"are you there")
        message = await socket.receive()
        assert (message.type, message.data) == (aiohttp.WSMsgType.PONG, b"are you there")


async def test_a_silent_client_is_cut_off_and_one_that_answers_pings_is_not(client):
    events = EventStream(lambda: client.broker.state, ping_s=0.05, silence_s=0.4)
    client.api._events = client.api._event_routes._events = events
    async with client.socket() as alive, client.socket(autoping=False) as silent:
        reading = asyncio.create_task(alive.receive())
        async with asyncio.timeout(WAIT_S):
            while (message := await silent.receive()).type in (aiohttp.WSMsgType.PING, aiohttp.WSMsgType.TEXT):
                pass
            assert message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR, aiohttp.WSMsgType.CLOSE)
        await client.until(lambda: len(client.api._events) == 1)
        state = client.broker.state
        still_here = Announced(state.notified, state.epoch, time.time(), AgentBlocked(name="w1", pattern=""))
        client.api.announce(Announce(announced=still_here))
        async with asyncio.timeout(WAIT_S):
            assert (await reading).type is aiohttp.WSMsgType.TEXT


async def test_a_client_that_floods_its_socket_is_cut_off_and_the_others_are_served(
    client, source, monkeypatch, caplog
):
    monkeypatch.setattr(event_stream, "SAID_MAX", 20)
    async with client.socket() as quiet, client.socket() as flooding:
        for _ in range(20):
            await flooding.send_str('{"kind":"whatever"}')
        source.store(1)
        await take(flooding, source.last)
        await flooding.send_str("one more")
        async with asyncio.timeout(WAIT_S):
            message = await flooding.receive()
        assert (message.type, message.data, message.extra) == (aiohttp.WSMsgType.CLOSE, 1008, "frame_flood")
        source.store(1)
        await take(quiet, source.last)
    assert "more than 20 frames" in caplog.text


async def test_a_plain_get_of_the_socket_is_a_400(client):
    answer = await client.refused("GET", "/ws")
    assert (answer["statusCode"], answer["code"]) == (400, "invalid_request")


async def test_more_than_256_sockets_are_refused(client):
    opened = await asyncio.gather(*(client.socket() for _ in range(256)))
    try:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
            await client.socket()
        assert refusal.value.status == 429
        _, health = await client.ask("GET", "/health")
        assert health["wsConnections"] == 256
    finally:
        await asyncio.gather(*(socket.close() for socket in opened))


async def test_an_open_socket_renews_the_lease(client):
    async with client.socket():
        client.api._last_use -= 100
        assert client.api.idle_s() == 0.0
    await client.until(lambda: len(client.api._events) == 0)
    assert client.api.idle_s() < 50
