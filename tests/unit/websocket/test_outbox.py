from __future__ import annotations

import asyncio

import pytest

from relaybroker.adapters.websocket.outbox import MANY, Outbox, OutboxFullError


async def test_frames_come_out_in_order_and_end_after_the_last() -> None:
    outbox = Outbox()
    outbox.put(b"a")
    outbox.put(b"b")
    outbox.end()
    outbox.put(b"too late")
    assert [frame async for frame in outbox.frames()] == [b"a", b"b"]


async def test_a_reader_waits_for_what_comes() -> None:
    outbox = Outbox()
    taken: list[bytes] = []

    async def read() -> None:
        async for frame in outbox.frames():
            taken.append(frame)  # noqa: PERF401 - what was taken so far is looked at while it waits

    reading = asyncio.create_task(read())
    for frame in (b"a", b"b"):
        outbox.put(frame)
        await asyncio.sleep(0)
    outbox.end()
    await reading
    assert taken == [b"a", b"b"]


async def test_the_number_and_the_bytes_are_bounded_and_room_comes_back() -> None:
    outbox = Outbox(frame_limit=2, byte_limit=10)
    outbox.put(b"12345")
    with pytest.raises(OutboxFullError):
        outbox.put(b"123456")
    outbox.put(b"12345")
    with pytest.raises(OutboxFullError):
        outbox.put(b"")
    frames = outbox.frames()
    assert await anext(frames) == b"12345"
    outbox.put(b"54321")
    await frames.aclose()  # type: ignore[attr-defined]


async def test_whoever_causes_frames_waits_while_many_wait_for_the_same_peer() -> None:
    """NO-STALL, BOUNDED: a flood that is answered frame by frame fills no queue."""
    outbox = Outbox()
    for number in range(MANY):
        outbox.put(b"%d" % number)
    waiting = asyncio.create_task(outbox.until_few())
    await asyncio.sleep(0)
    assert not waiting.done()
    frames = outbox.frames()
    assert await anext(frames) == b"0"
    await waiting
    await outbox.until_few()


async def test_nobody_waits_for_a_peer_that_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be writing itself, and read only then."""
    monkeypatch.setattr("relaybroker.adapters.websocket.outbox.PATIENCE_S", 0.0)
    outbox = Outbox()
    for number in range(MANY):
        outbox.put(b"%d" % number)
    await outbox.until_few()
    monkeypatch.setattr("relaybroker.adapters.websocket.outbox.PATIENCE_S", 1e6)
    await outbox.until_few()
    outbox.end()
    await outbox.until_few()
