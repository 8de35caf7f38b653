from __future__ import annotations

import asyncio
import errno
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from relaybroker.enrolment import engine_process
from relaybroker.enrolment.engine_process import EngineStartError
from tests.waiting import WAIT_S

Start = Callable[..., Any]


async def until(condition: Callable[[], Any], limit_s: float = WAIT_S) -> Any:
    """Wait until a (possibly awaitable) condition holds, and give its value."""
    deadline = time.monotonic() + limit_s
    while True:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        assert time.monotonic() < deadline, "the condition did not come true"
        await asyncio.sleep(0.03)


def engine_record(broker: Any) -> dict[str, int]:
    return dict(json.loads((broker.state / "engine" / "engine.json").read_text()))


async def online(broker: Any) -> dict[str, Any] | None:
    _, body = await broker.call("GET", "/state")
    return body if body["link"] == "online" else None


async def say(broker: Any, text: str) -> None:
    """Post to #general as an agent of its own, straight at the engine."""
    base = f"http://127.0.0.1:{engine_record(broker)['port']}"
    key = json.loads((broker.state / "workspace.json").read_text())["api_key"]
    async with aiohttp.ClientSession() as session:
        name = f"lead{time.monotonic_ns()}"
        async with session.post(
            f"{base}/v1/agents", json={"name": name}, headers={"Authorization": f"Bearer {key}"}
        ) as answer:
            token = (await answer.json())["data"]["token"]
        async with session.post(
            f"{base}/v1/channels/general/messages",
            json={"text": text},
            headers={"Authorization": f"Bearer {token}"},
        ) as answer:
            assert answer.status in (200, 201), await answer.text()


async def test_a_broker_without_configuration_works_with_an_engine_of_its_own(
    start_broker: Start, agent_script: Path, tmp_path: Path
) -> None:
    """No account, no configuration: message in, typed, acked; `kill -9`; the same again; everything ends."""
    first = start_broker()
    await first.ready()
    await until(lambda: online(first))
    status, body = await first.call("POST", "/api/spawn", {"name": "w1", "cli": f"python3 {agent_script}"})
    assert status == 200, body
    await say(first, "first words")
    typed = tmp_path / "typed.txt"
    await until(lambda: typed.exists() and "first words" in typed.read_text())
    record = engine_record(first)
    before = (await first.call("GET", "/state"))[1]
    first.kill()
    assert psutil.pid_exists(record["pid"])
    await say(first, "while it was down")

    second = start_broker()
    await second.ready()
    after = await until(lambda: online(second))
    assert engine_record(second) == record
    assert after["workers"]["w1"][1] == before["workers"]["w1"][1]
    await say(second, "last words")
    await until(lambda: "last words" in typed.read_text())
    assert "while it was down" in typed.read_text()
    assert typed.read_text().count("first words") == 1
    status, _, err = await second.stop()
    assert status == 0, err
    assert not psutil.pid_exists(record["pid"])

    third = start_broker()
    await third.ready()
    await until(lambda: online(third))
    assert engine_record(third)["port"] == record["port"]
    assert (await third.call("GET", "/state"))[1]["node_id"] == before["node_id"]
    await third.stop()


async def test_an_engine_that_dies_under_a_running_broker_is_started_again(
    start_broker: Start, agent_script: Path, tmp_path: Path
) -> None:
    broker = start_broker()
    await broker.ready()
    await until(lambda: online(broker))
    assert (await broker.call("POST", "/api/spawn", {"name": "w1", "cli": f"python3 {agent_script}"}))[0] == 200
    before = engine_record(broker)
    psutil.Process(before["pid"]).kill()
    await until(lambda: engine_record(broker)["pid"] != before["pid"])
    assert engine_record(broker)["port"] == before["port"]
    await until(lambda: online(broker))
    await say(broker, "after the engine died")
    typed = tmp_path / "typed.txt"
    await until(lambda: typed.exists() and "after the engine died" in typed.read_text())
    assert (await broker.stop())[0] == 0


@pytest.fixture
async def keeping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[[], asyncio.Event]]:
    """keeping() -> what is set when the engine in `tmp_path/engine` is silent; it is looked after until the end of the test."""
    for name, seconds in (("_WATCH_S", 0.05), ("LIFE_SIGN_S", 0.5), ("SILENT_S", 0.2), ("HUNG_S", 1.0)):
        monkeypatch.setattr(engine_process, name, seconds)
    keepers = []

    def keep() -> asyncio.Event:
        silent = asyncio.Event()
        keepers.append(asyncio.create_task(engine_process.keep_alive(tmp_path / "engine", silent.set)))
        return silent

    yield keep
    for keeper in keepers:
        keeper.cancel()
    await asyncio.gather(*keepers, return_exceptions=True)
    await engine_process.end(tmp_path / "engine")


async def test_an_engine_that_hangs_is_said_and_replaced(tmp_path: Path, keeping: Any) -> None:
    """SIGSTOP: a deadlock, a swapped-out process."""
    first = await engine_process.find_or_start(tmp_path / "engine")
    silent = keeping()
    psutil.Process(first.pid).suspend()
    await until(silent.is_set)
    await until(lambda: json.loads((tmp_path / "engine" / "engine.json").read_text())["pid"] != first.pid)
    second = await engine_process.find_or_start(tmp_path / "engine")
    assert (second.url, second.started_now) == (first.url, False)
    assert not psutil.pid_exists(first.pid)


async def test_a_record_that_was_removed_is_put_back(
    tmp_path: Path, keeping: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cleaners of temporary directories."""
    monkeypatch.setattr(engine_process, "HUNG_S", 600.0)
    record = tmp_path / "engine" / "engine.json"
    first = await engine_process.find_or_start(tmp_path / "engine")
    before = record.read_text()
    record.unlink()
    second = await engine_process.find_or_start(tmp_path / "engine")
    assert (second.pid, second.url, second.started_now) == (first.pid, first.url, False)
    assert record.read_text() == before
    silent = keeping()
    psutil.Process(first.pid).suspend()
    await until(silent.is_set)  # it has read the record
    psutil.Process(first.pid).resume()
    record.unlink()
    await until(record.exists)
    assert record.read_text() == before


async def test_an_engine_of_which_no_file_says_anything_is_ended(tmp_path: Path, keeping: Any) -> None:
    first = await engine_process.find_or_start(tmp_path / "engine")
    for file in ("engine.json", "ready.json"):
        (tmp_path / "engine" / file).unlink()
    second = await engine_process.find_or_start(tmp_path / "engine")
    assert second.started_now, "nobody says where the former one listens"
    assert not psutil.pid_exists(first.pid)
    (tmp_path / "engine" / "engine.json").unlink()
    assert await engine_process.end(tmp_path / "engine")
    assert not psutil.pid_exists(second.pid)


async def test_two_brokers_of_one_directory_share_the_engine_until_the_last_ends(start_broker: Start) -> None:
    one, two = start_broker(name="one"), start_broker(name="two", environment={"RELAY_NODE_ID": "node_two"})
    path = one.state
    await until(lambda: (path / "connection-one.json").exists() and (path / "connection-two.json").exists())
    record = engine_record(one)
    assert (await one.stop())[0] == 0
    assert psutil.pid_exists(record["pid"])
    assert (await two.stop())[0] == 0
    assert not psutil.pid_exists(record["pid"])


async def test_starts_at_the_same_moment_start_one_engine(tmp_path: Path) -> None:
    engines = await asyncio.gather(*(engine_process.find_or_start(tmp_path / "engine") for _ in range(4)))
    assert len({engine.pid for engine in engines}) == 1
    assert sum(engine.started_now for engine in engines) == 1
    assert await engine_process.end(tmp_path / "engine")
    assert not psutil.pid_exists(engines[0].pid)
    assert not await engine_process.end(tmp_path / "engine")


async def test_a_killed_engine_comes_back_on_its_port(tmp_path: Path) -> None:
    """Unless something else on this machine has taken the port at that moment, which several in a row will not have met."""
    second = await engine_process.find_or_start(tmp_path / "engine")
    for _ in range(5):
        first = second
        psutil.Process(first.pid).kill()
        second = await engine_process.find_or_start(tmp_path / "engine")
        assert second.pid != first.pid
        assert not psutil.pid_exists(first.pid), "no zombie stays"
        if second.url == first.url:
            break
    assert second.url == first.url
    await engine_process.end(tmp_path / "engine")


async def test_a_port_that_is_taken_meanwhile_is_given_up(tmp_path: Path) -> None:
    first = await engine_process.find_or_start(tmp_path / "engine")
    await engine_process.end(tmp_path / "engine")
    port = int(first.url.rpartition(":")[2])
    server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", port)
    second = await engine_process.find_or_start(tmp_path / "engine")
    assert second.url != first.url
    await engine_process.end(tmp_path / "engine")
    server.close()


async def test_a_pid_that_belongs_to_somebody_else_by_now_is_left_alone(tmp_path: Path) -> None:
    """F133: the process identity decides, not the pid."""
    (tmp_path / "engine").mkdir(mode=0o700)
    (tmp_path / "engine" / "engine.json").write_text(json.dumps({"pid": psutil.Process().ppid(), "port": 9}))
    assert not await engine_process.end(tmp_path / "engine")
    engine = await engine_process.find_or_start(tmp_path / "engine")
    assert engine.started_now
    await engine_process.end(tmp_path / "engine")


async def test_an_engine_that_cannot_start_says_where_its_log_is(tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir(mode=0o700)
    (tmp_path / "engine" / "engine.sqlite").write_bytes(b"this is no database" * 100)
    with pytest.raises(EngineStartError, match=r"engine\.log"):
        await engine_process.find_or_start(tmp_path / "engine")


async def test_an_engine_that_cannot_be_remembered_is_not_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full at just that moment: nobody would ever end it."""

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(engine_process, "write_private", full)
    with pytest.raises(OSError, match="No space left"):
        await engine_process.find_or_start(tmp_path / "engine")
    assert not await engine_process.end(tmp_path / "engine"), "none lived any more"
