from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from typing import Any

import pytest

from relaybroker.domain.inputs import Input
from relaybroker.node.clock import SteadyClock
from relaybroker.node.inbox import Inbox, Share
from tests.waiting import WAIT_S

MakeBench = Callable[..., Any]
MakeInput = Callable[[str], Input]


async def test_no_effect_leaves_before_its_event_is_durable(make_bench: MakeBench, make_input: MakeInput) -> None:
    """LOG-FIRST: at the moment of every effect the journal is at least at its event."""
    bench = make_bench()
    bench.start()
    for number in range(3000):
        await bench.runtime.inbox.put(make_input(f"i{number}"))
    carried = await bench.carried(3000)
    assert [name for name, _, _ in carried] == [f"i{number}" for number in range(3000)]
    assert all(seq <= durable for _, seq, durable in carried)


async def test_what_stays_within_the_machine_waits_for_no_fsync_and_nothing_else_leaves_before_it(
    make_bench: MakeBench, make_input: MakeInput
) -> None:
    """LOG-FIRST, ADR-0082."""
    bench = make_bench()
    synced, sync = threading.Event(), bench.journal._recorder.sync

    def held() -> None:
        assert synced.wait(WAIT_S)
        sync()

    bench.start()
    await bench.runtime.inbox.put(make_input("start"))
    await bench.carried(1)
    bench.carrier.within.clear()
    bench.carrier.carried.clear()
    bench.journal._recorder.sync = held
    for number in range(5):
        await bench.runtime.inbox.put(make_input(f"call{number}"))
    async with asyncio.timeout(WAIT_S):
        while len(bench.carrier.within) < 5:
            bench.carrier.changed.clear()
            await bench.carrier.changed.wait()
    assert bench.carrier.carried == []
    synced.set()
    assert [name for name, _, _ in await bench.carried(5)] == bench.carrier.within


async def test_nothing_leaves_before_the_start_is_on_disk(make_bench: MakeBench, make_input: MakeInput) -> None:
    """ADR-0082: what was typed behind a start that a crash of the machine takes back would not be in doubt after a clean end."""
    bench = make_bench()
    syncing, synced = threading.Event(), threading.Event()
    sync = bench.journal._recorder.sync

    def held() -> None:
        syncing.set()
        assert synced.wait(WAIT_S)
        sync()

    bench.journal._recorder.sync = held
    bench.start()
    await bench.runtime.inbox.put(make_input("start"))
    assert await asyncio.to_thread(syncing.wait, WAIT_S)
    await bench.runtime.inbox.put(make_input("call"))
    async with asyncio.timeout(WAIT_S):
        while bench.journal.written < 2:
            await asyncio.sleep(0)
    for _ in range(50):
        await asyncio.sleep(0)
    within = list(bench.carrier.within)
    synced.set()
    assert within == []
    assert [name for name, _, _ in await bench.carried(2)] == bench.carrier.within == ["start", "call"]


async def test_inputs_of_one_round_are_decided_at_one_moment(make_bench: MakeBench, make_input: MakeInput) -> None:
    bench = make_bench()
    for number in range(100):
        assert bench.runtime.inbox.offer(make_input(f"i{number}"))
    bench.start()
    await bench.carried(100)
    assert len({moment for _, moment in bench.core.handled}) == 1


async def test_a_round_that_takes_long_ends_and_the_rest_is_decided_in_the_next_ones(
    make_bench: MakeBench, make_input: MakeInput, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relaybroker.node.runtime.ROUND_S", -1.0)
    passed = iter(range(1, 10_000))
    bench = make_bench(clock=SteadyClock(0.0, wall=lambda: 1000.0 + next(passed), pace=lambda: 0.0))
    names = [f"i{number}" for number in range(5)]
    for name in names:
        assert bench.runtime.inbox.offer(make_input(name))
    bench.start()
    await bench.carried(5)
    assert [name for name, _ in bench.core.handled] == names
    assert len({moment for _, moment in bench.core.handled}) == 5


async def test_the_clock_never_goes_back(make_bench: MakeBench, make_input: MakeInput) -> None:
    times = iter([100.0, 90.0, 95.0, 120.0])
    bench = make_bench(clock=SteadyClock(0.0, wall=lambda: next(times, 120.0), pace=lambda: 0.0))
    bench.start()
    for name in ("a", "b", "c", "d"):
        await bench.runtime.inbox.put(make_input(name))
        await bench.carried(len(bench.core.handled) or 1)
    await bench.carried(4)
    moments = [moment for _, moment in bench.core.handled]
    assert moments == sorted(moments)
    assert moments[0] == 100.0


async def test_what_is_due_happens_without_any_input(make_bench: MakeBench) -> None:
    moment = 1000.0
    loop = asyncio.get_running_loop()
    began = loop.time()
    bench = make_bench(clock=SteadyClock(0.0, wall=lambda: moment + loop.time() - began, pace=loop.time))
    bench.core.deadline = moment + 0.2
    bench.start()
    assert (await bench.carried(1))[0][0] == "timer"
    assert bench.core.timed[0] >= moment + 0.2


async def test_a_leap_of_the_clock_is_told_to_the_core_before_anything_is_due(
    make_bench: MakeBench, make_input: MakeInput
) -> None:
    wall = 1000.0
    bench = make_bench(clock=SteadyClock(0.0, wall=lambda: wall, pace=lambda: 0.0))
    bench.start()
    await bench.runtime.inbox.put(make_input("a"))
    await bench.carried(1)
    wall += 1_000_000.0
    bench.core.deadline = 2000.0
    await bench.runtime.inbox.put(make_input("b"))
    await bench.carried(3)
    assert [name for name, _ in bench.core.handled] == ["a", "leap of 1e+06 s", "b"]
    assert [name for name, _, _ in bench.carrier.carried] == ["a", "timer", "b"]


async def test_a_deadline_that_nothing_is_done_about_does_not_spin(make_bench: MakeBench) -> None:
    bench = make_bench()
    calls = 0

    def on_time(_now: float) -> Any:
        nonlocal calls
        calls += 1
        from relaybroker.domain.turn import Decision

        return Decision([], [])

    bench.core.on_time = on_time
    bench.core.deadline = 1.0
    bench.start()
    await asyncio.sleep(0.3)
    assert calls <= 40


async def test_the_core_can_end_the_run(make_bench: MakeBench, make_input: MakeInput) -> None:
    bench = make_bench()
    bench.start()
    await bench.runtime.inbox.put(make_input("exit"))
    assert await bench.ending() == (0, "asked")


# --- fail-stop --------------------------------------------------------------------------------------------------------


async def test_a_failed_commit_stops_every_output_and_ends_with_status_one(
    make_bench: MakeBench, make_input: MakeInput, caplog: pytest.LogCaptureFixture
) -> None:
    """LOG-FIRST: the disk says no; nothing of what follows leaves."""
    bench = make_bench()
    bench.start()
    await bench.runtime.inbox.put(make_input("before"))
    await bench.carried(1)

    def fail(*_: Any, **__: Any) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    bench.journal._recorder.insert_events = fail
    for number in range(10):
        await bench.runtime.inbox.put(make_input(f"after{number}"))
    ending = await bench.ending()
    assert ending.status == 1
    assert "disk I/O error" in ending.reason
    assert [name for name, _, _ in bench.carrier.carried] == ["before"]
    assert "its agents live on" in caplog.text


async def test_a_fault_in_the_core_ends_the_run_and_records_nothing_of_it(
    make_bench: MakeBench, make_input: MakeInput, caplog: pytest.LogCaptureFixture
) -> None:
    bench = make_bench()
    bench.core.fault_on = "poison"
    bench.start()
    await bench.runtime.inbox.put(make_input("poison"))
    ending = await bench.ending()
    assert (ending.status, ending.reason) == (1, "RuntimeError: a bug in the core")
    assert bench.journal.position == 0


async def test_a_fault_in_an_adapter_ends_the_run(
    make_bench: MakeBench, make_input: MakeInput, caplog: pytest.LogCaptureFixture
) -> None:
    bench = make_bench()
    bench.carrier.fault_on = "b"
    bench.start()
    for name in ("a", "b", "c"):
        await bench.runtime.inbox.put(make_input(name))
    assert (await bench.ending()).status == 1
    assert [name for name, _, _ in bench.carrier.carried] == ["a"]


# --- bounds -----------------------------------------------------------------------------------------------------------


async def test_a_full_inbox_refuses_an_offer_and_makes_a_put_wait(make_input: MakeInput) -> None:
    inbox = Inbox(limit=3)
    assert all(inbox.offer(make_input(name)) for name in "abc")
    assert not inbox.offer(make_input("d"))
    waiting = asyncio.create_task(inbox.put(make_input("e")))
    await asyncio.sleep(0)
    assert not waiting.done()
    assert [item.call_id for item in await inbox.take(0)] == ["a", "b", "c"]  # type: ignore[union-attr]
    await waiting
    assert [item.call_id for item in await inbox.take(0)] == ["e"]  # type: ignore[union-attr]


async def test_a_source_with_a_share_waits_while_others_find_room(make_input: MakeInput) -> None:
    inbox, share = Inbox(), Share(2)
    flood = [asyncio.create_task(inbox.put(make_input(f"f{number}"), share)) for number in range(5)]
    await asyncio.sleep(0)
    assert len(inbox) == 2
    assert inbox.offer(make_input("a person"))
    flood.pop(2).cancel()  # one that waited gives its place up
    assert [item.call_id for item in await inbox.take(0)] == ["f0", "f1", "a person"]  # type: ignore[union-attr]
    await asyncio.gather(*flood)
    assert [item.call_id for item in await inbox.take(0)] == ["f3", "f4"]  # type: ignore[union-attr]


async def test_a_flood_of_inputs_does_not_starve_the_rest_of_the_process(
    make_bench: MakeBench, make_input: MakeInput
) -> None:
    bench = make_bench()
    bench.start()
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    for number in range(20_000):
        await bench.runtime.inbox.put(make_input(f"i{number}"))
    await bench.carried(20_000)
    ticking.cancel()
    assert ticks > 30


async def test_it_can_be_waited_until_all_that_is_decided_is_durable(
    make_bench: MakeBench, make_input: MakeInput
) -> None:
    bench = make_bench()
    bench.start()
    await bench.runtime.settled(WAIT_S)
    for number in range(50):
        await bench.runtime.inbox.put(make_input(f"i{number}"))
    await bench.runtime.reached(lambda state: state.position >= 50, WAIT_S)
    await bench.runtime.settled(WAIT_S)
    assert bench.journal.position >= 50


async def test_a_disk_that_takes_no_more_is_not_waited_for_without_end(
    make_bench: MakeBench, make_input: MakeInput
) -> None:
    bench = make_bench()
    bench.core.state.position += 1  # something is decided and never comes to the journal
    await bench.runtime.settled(0.01)


# --- snapshots --------------------------------------------------------------------------------------------------------


async def test_a_snapshot_is_taken_now_and_then_and_at_the_end(make_bench: MakeBench, make_input: MakeInput) -> None:
    bench = make_bench(snapshot_every=100)
    bench.start()
    for number in range(250):
        await bench.runtime.inbox.put(make_input(f"i{number}"))
    await bench.carried(250)
    async with asyncio.timeout(WAIT_S):
        while (snapshot := bench.snapshots.load(bench.journal)) is None:
            await asyncio.sleep(0.01)
    assert 100 <= snapshot.position <= 250
    await bench.runtime.inbox.put(make_input("exit"))
    await bench.ending()
    await bench.runtime.save_snapshot()
    last = bench.snapshots.load(bench.journal)
    assert last is not None
    assert last.position == 251


async def test_a_condition_on_the_state_can_be_waited_for(make_bench: MakeBench, make_input: MakeInput) -> None:
    bench = make_bench()
    bench.start()
    waiting = asyncio.create_task(bench.runtime.reached(lambda state: state.position >= 3, 5))
    for name in "abc":
        await bench.runtime.inbox.put(make_input(name))
    assert await waiting
    assert not await bench.runtime.reached(lambda state: state.position >= 4, 0.05)
