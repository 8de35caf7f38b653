"""An engine that accepts everything and answers nothing: what does not need it goes on as before."""

from __future__ import annotations

import asyncio
import shlex
import statistics
import sys
import time
from pathlib import Path

import aiohttp
import pytest

from tests.scripted_engine import KEY, ScriptedEngine
from tests.waiting import WAIT_S

HOLE_S = 60.0
WAITING = 20
SLOW_READER = Path(__file__).parent / "agents" / "slow_reader.py"


@pytest.fixture
async def engine():
    async with ScriptedEngine() as made:
        yield made


@pytest.fixture
async def broker(make_deployment, engine, tmp_path):
    made = make_deployment(tmp_path, RELAYCAST_BASE_URL=engine.url, AGENT_RELAY_WORKSPACE_KEY=KEY)
    made.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=WAIT_S))
    try:
        await made.start()
        await engine.online()
        yield made
    finally:
        engine.thaw()
        await made.close()


async def measured(broker, seconds, work):
    """Round trips of the local API, in milliseconds, about twenty a second."""
    taken, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        for method, path, body in work:
            began = time.monotonic()
            status, answer = await broker.api(method, path, body)
            taken.append(1000 * (time.monotonic() - began))
            assert status == 200, (path, answer)
            await asyncio.sleep(0.05)
    return taken


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_black_hole_stalls_nothing_that_does_not_need_the_engine(broker, engine, capsys):
    """B14, F050, F051, NO-STALL: 60 s; the local API stays fast, queued messages are typed, the link is dialled again and recovers."""
    notes = broker.folder / "slow.notes"
    command = shlex.join([sys.executable, str(SLOW_READER), str(notes), "0.5"])
    status, answer = await broker.api("POST", "/api/spawn", {"name": "slow", "cli": command})
    assert status == 200, answer
    await broker.spawn("quick")
    for seq in range(1, WAITING + 1):
        await engine.deliver("slow", seq, f"text {seq}")
    await broker.until_api(lambda found: found["totals"]["offered"] >= WAITING, "all are here")

    engine.freeze()
    frozen = time.monotonic()
    work = (
        ("GET", "/health", None),
        ("GET", "/api/status", None),
        ("GET", "/api/spawned", None),
        ("POST", "/api/input/quick", {"data": "typed by a person\r"}),
        ("GET", "/api/spawned/quick/snapshot", None),
    )
    taken = await measured(broker, HOLE_S, work)
    p50, p99 = statistics.median(taken), statistics.quantiles(taken, n=100)[98]
    with capsys.disabled():
        print(f"\nblack hole of {HOLE_S:.0f} s: {len(taken)} local requests, p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    assert p99 < 50

    assert notes.read_text().count("Relay message") == WAITING, "what was queued was typed meanwhile"
    assert "typed by a person" in (broker.folder / "quick.notes").read_text()
    assert len(engine.dials) > 1, "dialled again within the idle limit"
    assert engine.dials[1] - frozen <= 48 + 12 + 1
    engine.thaw()
    await broker.until_api(lambda found: found["link"]["state"] == "online", "online again")
    acks = await engine.frame("delivery.ack", agent="slow", up_to_seq=WAITING)
    assert acks["up_to_seq"] == WAITING


async def test_a_broker_stops_in_time_though_the_engine_answers_nothing(broker, engine):
    """F131, with ten agents."""
    for number in range(10):
        await broker.spawn(f"w{number}")
    engine.freeze()
    began = time.monotonic()
    broker.broker.terminate()
    assert await asyncio.to_thread(broker.broker.wait, WAIT_S) == 0
    took = time.monotonic() - began
    assert took < 4.5, took
    assert not any(Path(f"/proc/{pid}").exists() for pid in broker.pids.values())
