"""Another program holds the write lock of the log: the broker waits, answers and says so; nothing is lost, nothing ends."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3

import pytest

from tests.waiting import WAIT_S


@contextlib.contextmanager
def foreign_lock(deployment):
    (database,) = deployment.state.glob("journal-*.sqlite")
    with contextlib.closing(sqlite3.connect(database, isolation_level=None, timeout=30)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


async def until_noticed(deployment):
    """Something must be to be written before anybody notices."""
    async with asyncio.timeout(WAIT_S):
        while True:
            status, answer = await deployment.api("POST", "/api/send", {"to": "ann", "text": "meanwhile"})
            if status == 503:
                assert answer["code"] == "log_locked"
                return


async def test_everything_goes_on_when_it_lets_go(deployment, is_alive):
    """openrundev/openrun#100."""
    await deployment.spawn("ann")
    with foreign_lock(deployment):
        await until_noticed(deployment)
        for number in range(20):
            await deployment.post("ann", f"posted meanwhile {number}")
        health = (await deployment.api("GET", "/health"))[1]
        assert (health["status"], health["code"]) == ("degraded", "log_locked")
        assert health["logLockedSecs"] > 0
        assert (await deployment.api("GET", "/api/spawned"))[1]["agents"][0]["name"] == "ann"
        shown = await asyncio.to_thread(deployment.command, "status")
        assert "write lock" in shown.stdout
        assert deployment.broker.poll() is None
    await deployment.until(lambda: not deployment.missing(), "everything arrives")
    assert deployment.twice() == {}
    assert is_alive(deployment.pids["ann"])
    assert (await deployment.api("GET", "/health"))[1]["logLockedSecs"] == 0
    await deployment.spawn("bob")


@pytest.mark.parametrize("held", [True, False])
async def test_down_does_not_wait_for_it(deployment, is_alive, held):
    """The stop cannot be written, and all is ended nevertheless."""
    await deployment.spawn("ann")
    pids = [deployment.pids["ann"], deployment.host_pid(), deployment.engine_pid(), deployment.broker.pid]
    with foreign_lock(deployment) if held else contextlib.nullcontext():
        ended = await asyncio.to_thread(deployment.command, "down")
        assert ended.returncode == 0, ended.stderr
        await asyncio.to_thread(deployment.broker.wait, WAIT_S)
        await deployment.until(lambda: not any(is_alive(pid) for pid in pids), "nothing is left")
    await deployment.start()


async def test_a_broker_that_starts_meanwhile_is_there_when_it_lets_go(deployment):
    await deployment.spawn("ann")
    deployment.kill_broker()
    with foreign_lock(deployment):
        await deployment.start()
        await until_noticed(deployment)
    await deployment.until_api(lambda s: s["agents"] and s["link"]["state"] == "online", "it is back")
    await deployment.post("ann", "after")
    await deployment.until(lambda: not deployment.missing(), "it arrives")
