"""The loop with a small core of its own: it records each input as an event and asks for one effect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from relaybroker.adapters.eventstore.journal import Journal
from relaybroker.adapters.eventstore.recorders import side_file
from relaybroker.adapters.eventstore.snapshots import SnapshotFile
from relaybroker.domain import effects, events
from relaybroker.domain.announcements import AgentBlocked, Announced
from relaybroker.domain.events import REGISTRY, Recorded
from relaybroker.domain.inputs import ClockLeapt, EngineUnanswered, Input
from relaybroker.domain.state import State
from relaybroker.domain.turn import Decision
from relaybroker.node.runtime import Ending, Runtime
from tests.waiting import WAIT_S


class EchoCore:
    """Records every `EngineUnanswered` as an event and notifies about it; can have timers and faults."""

    def __init__(self) -> None:
        self.state = State()
        self.handled: list[tuple[str, float]] = []
        self.timed: list[float] = []
        self.deadline: float | None = None
        self.fault_on = ""

    def handle(self, item: Input, now: float) -> Decision:
        if isinstance(item, ClockLeapt):
            self.handled.append((f"leap of {item.by_s:g} s", now))
            return Decision([], [])
        assert isinstance(item, EngineUnanswered)
        if item.call_id == self.fault_on:
            raise RuntimeError("a bug in the core")
        self.handled.append((item.call_id, now))
        event = self._record(events.CallUnmatched(call_id=item.call_id, status=0), now)
        wanted: list[effects.Effect] = [
            self._announce(item.call_id, now),
            effects.ForgetProgram(session_id=item.call_id),
        ]
        if item.call_id == "exit":
            wanted.append(effects.ExitBroker(status=0, reason="asked"))
        return Decision([event], wanted)

    def on_time(self, now: float) -> Decision:
        self.timed.append(now)
        self.deadline = None
        event = self._record(events.CallUnmatched(call_id="timer", status=0), now)
        return Decision([event], [self._announce("timer", now)])

    def next_deadline(self) -> float | None:
        return self.deadline

    def _announce(self, name: str, now: float) -> effects.Announce:
        what = AgentBlocked(name=name, pattern="")
        return effects.Announce(announced=Announced(self.state.position, "ep_1", now, what))

    def _record(self, event: events.Event, now: float) -> Recorded:
        self.state.position += 1
        stream = "broker:test"
        return Recorded(
            stream=stream,
            version=self.state.position,
            at=now,
            causation=f"{stream}@{self.state.position}",
            correlation="",
            event=event,
        )


class Carrier:
    """Notes every effect, with the position that was durable at that moment."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.carried: list[tuple[str, int, int]] = []
        self.within: list[str] = []
        """What needs no disk."""
        self.changed = asyncio.Event()
        self.fault_on = ""

    def carry_out_written(self, wanted: Sequence[effects.Effect]) -> None:
        self.within += [effect.session_id for effect in wanted if isinstance(effect, effects.ForgetProgram)]
        self.changed.set()

    def carry_out(self, events: Sequence[Recorded], wanted: Sequence[effects.Effect]) -> None:
        for effect in wanted:
            if isinstance(effect, effects.Announce):
                announced = effect.announced
                name = announced.what.name
                if name == self.fault_on:
                    raise RuntimeError("a bug in an adapter")
                self.carried.append((name, announced.seq, self.bench.journal.position))
            elif isinstance(effect, effects.ExitBroker):
                self.bench.runtime.end(effect.status, effect.reason)
        self.changed.set()


class Bench:
    """A running loop."""

    def __init__(self, directory: Path, **options: Any) -> None:
        self.directory = directory
        self.core = EchoCore()
        self.journal = Journal.open(
            str(directory / "journal.sqlite"),
            registry=REGISTRY,
            on_failure=self._failed,
        )
        self.snapshots = SnapshotFile(side_file(directory / "journal.sqlite", ".snapshot"), payload_version=1)
        self.runtime = Runtime(self.core, self.journal, snapshots=self.snapshots, **options)
        self.carrier = Carrier(self)
        self.running: asyncio.Task[Ending] | None = None

    def _failed(self, error: BaseException) -> None:
        self.runtime.fail(error)

    def start(self) -> None:
        self.running = asyncio.create_task(self.runtime.run(self.carrier))

    async def carried(self, count: int) -> list[tuple[str, int, int]]:
        async with asyncio.timeout(WAIT_S):
            while len(self.carrier.carried) < count:
                self.carrier.changed.clear()
                await self.carrier.changed.wait()
        return self.carrier.carried

    async def ending(self) -> Ending:
        assert self.running is not None
        async with asyncio.timeout(WAIT_S):
            return await self.running


def an_input(call_id: str) -> EngineUnanswered:
    return EngineUnanswered(call_id=call_id, detail="")


@pytest.fixture
def make_input() -> Callable[[str], Input]:
    return an_input


@pytest.fixture
async def make_bench(tmp_path: Path) -> AsyncIterator[Callable[..., Bench]]:
    benches: list[Bench] = []

    def make(**options: Any) -> Bench:
        bench = Bench(tmp_path, **options)
        benches.append(bench)
        return bench

    yield make
    for bench in benches:
        bench.runtime.end(0, "test over")
        if bench.running is not None:
            await bench.running
        await asyncio.to_thread(bench.journal.close)
