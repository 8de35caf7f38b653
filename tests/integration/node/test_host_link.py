from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from relaybroker.adapters.sessions.host.protocol import DOORS_SINCE, Inject, LookUp, Output, Start, Stop
from relaybroker.domain.inputs import HostAttached, HostLost, Input, ProgramExited, ProgramStarted
from relaybroker.node import host_link
from relaybroker.node.host_link import HostLink
from tests.waiting import WAIT_S

MakeHost = Callable[..., Any]


class HostBench:
    """A host link with everything that it delivered."""

    def __init__(self, directory: Path, lease_s: float | None) -> None:
        self.inputs: list[Input] = []
        self.outputs: list[Output] = []
        self.room = asyncio.Event()
        self.room.set()
        self._arrived = asyncio.Condition()
        self.link = HostLink(
            directory / "host.sock",
            directory / "host.log",
            lease_s=lease_s,
            harnesses={},
            deliver=self._deliver,
            on_output=self.outputs.append,
        )

    async def _deliver(self, item: Input) -> None:
        await self.room.wait()
        async with self._arrived:
            self.inputs.append(item)
            self._arrived.notify_all()

    async def wait(self, kind: type[Any], count: int = 1) -> list[Any]:
        async with asyncio.timeout(WAIT_S), self._arrived:
            await self._arrived.wait_for(lambda: sum(isinstance(item, kind) for item in self.inputs) >= count)
        return [item for item in self.inputs if isinstance(item, kind)]

    @staticmethod
    def start(session_id: str, *argv: str) -> Start:
        return Start(
            session_id=session_id,
            name=session_id,
            argv=argv,
            env={"PATH": os.environ["PATH"], "TERM": "xterm-256color"},
            cwd="/",
            profile="default",
        )


@pytest.fixture
async def make_host(tmp_path: Path) -> AsyncIterator[Callable[..., HostBench]]:
    benches: list[HostBench] = []

    def make(lease_s: float | None = None) -> HostBench:
        bench = HostBench(tmp_path / "state", lease_s)
        benches.append(bench)
        return bench

    (tmp_path / "state").mkdir(mode=0o700)
    yield make
    for bench in benches:
        bench.room.set()
        await bench.link.shut()
    pid_file = tmp_path / "state" / "host.sock.pid"
    if pid_file.exists():
        host = psutil.Process(int(pid_file.read_text()))
        for child in host.children(recursive=True):
            child.kill()
        host.kill()


async def gone(pid: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while psutil.pid_exists(pid):
            await asyncio.sleep(0.02)


async def test_attaching_starts_a_host_and_says_so_first(make_host: MakeHost) -> None:
    bench = make_host()
    bench.link.attach()
    bench.link.attach()
    [attached] = await bench.wait(HostAttached)
    assert psutil.pid_exists(attached.host_pid)
    assert attached.sessions == ()
    bench.link.send(bench.start("s1", "sleep", "60"))
    [started] = await bench.wait(ProgramStarted)
    assert (started.host_id, started.session_id, started.report) == (attached.host_id, "s1", 1)
    assert psutil.pid_exists(started.pid)


async def test_unconfirmed_reports_come_again_after_the_attachment(make_host: MakeHost) -> None:
    first = make_host()
    first.link.attach()
    [attached] = await first.wait(HostAttached)
    for number in range(5):
        first.link.send(first.start(f"s{number}", "true"))
    await first.wait(ProgramExited, 5)
    await first.link.shut()
    second = make_host()
    second.link.attach()
    await second.wait(ProgramExited, 5)
    assert isinstance(second.inputs[0], HostAttached)
    assert second.inputs[0].host_id == attached.host_id
    reports = [item.report for item in second.inputs[1:]]
    assert reports == sorted(reports)
    assert reports[0] == 1
    second.link.confirm(attached.host_id, reports[-1])
    second.link.confirm("another host", 10**6)
    await second.link.shut()
    third = make_host()
    third.link.attach()
    await third.wait(HostAttached)
    assert [item for item in third.inputs if not isinstance(item, HostAttached)] == []


async def test_a_host_that_dies_is_lost_once_and_can_be_replaced(make_host: MakeHost) -> None:
    bench = make_host()
    bench.link.attach()
    [attached] = await bench.wait(HostAttached)
    psutil.Process(attached.host_pid).kill()
    await bench.wait(HostLost)
    bench.link.send(bench.start("s1", "true"))
    bench.link.attach()
    both = await bench.wait(HostAttached, 2)
    assert both[1].host_id != attached.host_id
    assert len([item for item in bench.inputs if isinstance(item, HostLost)]) == 1


async def test_a_broker_that_is_too_slow_for_its_host_loses_the_connection_and_no_report(
    make_host: MakeHost, monkeypatch: Any
) -> None:
    monkeypatch.setattr(host_link, "BACKLOG", 4)
    bench = make_host()
    bench.link.attach()
    [attached] = await bench.wait(HostAttached)
    bench.room.clear()
    for number in range(6):
        bench.link.send(bench.start(f"s{number}", "true"))
    async with asyncio.timeout(WAIT_S):
        while bench.link._host_id:
            await asyncio.sleep(0.01)
    bench.room.set()
    [lost] = await bench.wait(HostLost)
    assert "cannot keep up" in lost.detail
    monkeypatch.setattr(host_link, "BACKLOG", 8192)
    bench.link.attach()
    await bench.wait(HostAttached, 2)
    await bench.wait(ProgramExited, 6)
    after = bench.inputs[bench.inputs.index(lost) + 2 :]
    assert {item.session_id for item in after if isinstance(item, ProgramExited)} == {f"s{n}" for n in range(6)}
    assert attached.host_id == bench.link._host_id


async def test_what_is_sent_without_a_host_is_dropped_quietly(make_host: MakeHost) -> None:
    bench = make_host()
    bench.link.send(Stop(session_id="s", grace_s=0, reason="x"))
    bench.link.send(Inject(session_id="s", delivery_id="d", attempt=1, text="x"))
    assert bench.inputs == []


async def test_the_host_ends_when_it_is_told_to_with_what_it_runs(make_host: MakeHost) -> None:
    bench = make_host()
    bench.link.attach()
    [attached] = await bench.wait(HostAttached)
    bench.link.send(bench.start("s1", "sleep", "60"))
    [started] = await bench.wait(ProgramStarted)
    bench.link.end(0.2)
    await gone(started.pid)
    await gone(attached.host_pid)


async def test_a_host_that_is_being_started_is_ended_too(make_host: MakeHost, tmp_path: Any) -> None:
    bench = make_host()
    bench.link.attach()
    bench.link.end(0.2)
    await bench.link.shut()
    async with asyncio.timeout(WAIT_S):
        while (tmp_path / "state" / "host.sock").exists():
            await asyncio.sleep(0.02)
    assert (tmp_path / "state" / "host.log").exists()


async def test_a_host_that_we_lost_is_found_again_to_be_ended(make_host: MakeHost) -> None:
    first = make_host()
    first.link.attach()
    [attached] = await first.wait(HostAttached)
    await first.link.shut()
    second = make_host()
    second.link.end(0.2)
    await second.link.shut()
    await gone(attached.host_pid)


async def test_ending_a_host_that_does_not_exist_starts_none(make_host: MakeHost, tmp_path: Any) -> None:
    bench = make_host()
    bench.link.end(0.2)
    await bench.link.shut()
    assert not (tmp_path / "state" / "host.sock").exists()


async def test_output_comes_only_while_somebody_watches(make_host: MakeHost) -> None:
    bench = make_host()
    bench.link.attach()
    await bench.wait(HostAttached)
    bench.link.send(bench.start("s1", "sh", "-c", "echo first; exit"))
    await bench.wait(ProgramExited)
    assert bench.outputs == []
    bench.link.watch(on=True)
    bench.link.send(bench.start("s2", "sh", "-c", "echo second; exit"))
    await bench.wait(ProgramExited, 2)
    assert b"second" in b"".join(output.data for output in bench.outputs)


async def test_a_host_that_hangs_is_lost_until_it_answers_and_keeps_its_agents(
    make_host: MakeHost, monkeypatch: Any
) -> None:
    """SIGSTOP: a deadlock, a swapped-out process. F033-style: noticed, said, and taken up again."""
    monkeypatch.setattr(host_link, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(host_link, "HEARTBEAT_ANSWER_S", 1.0)
    bench = make_host()
    bench.link.attach()
    [attached] = await bench.wait(HostAttached)
    bench.link.send(bench.start("s1", "sleep", "600"))
    [started] = await bench.wait(ProgramStarted)
    host = psutil.Process(attached.host_pid)
    host.suspend()
    try:
        [lost] = await bench.wait(HostLost)
    finally:
        host.resume()
    assert "hangs" in lost.detail
    bench.link.attach()
    again = (await bench.wait(HostAttached, 2))[1]
    assert again.host_id == attached.host_id
    assert [session.pid for session in again.sessions] == [started.pid]


LOOK_UP = LookUp(request_id="r", session_id="gone", delivery_id="d1", door="none", place="")


async def test_a_host_is_asked_what_records_say_and_a_host_without_doors_is_not(
    make_host: MakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host of the version before would take the question for a breach of the protocol."""
    bench = make_host()
    assert await bench.link.look_up(LOOK_UP) is None, "there is no host"
    bench.link.attach()
    await bench.wait(HostAttached)
    answer = await bench.link.look_up(LOOK_UP)
    assert answer is not None
    assert answer.data == {"outcome": "unknowable", "detail": "this host has no door none"}
    monkeypatch.setattr(host_link, "PROTOCOL_VERSION", DOORS_SINCE - 1)
    bench.link.attach()
    await bench.wait(HostAttached, 2)
    answer = await bench.link.look_up(LOOK_UP)
    assert answer is not None
    assert answer.data["outcome"] == "unknowable"
    assert "earlier version" in str(answer.data["detail"])
    assert not [item for item in bench.inputs if isinstance(item, HostLost)]
