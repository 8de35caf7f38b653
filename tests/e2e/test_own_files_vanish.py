"""Lock, log and connection files of a running broker are removed: put back, or the broker stops and nothing is lost."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3

import pytest

from tests.waiting import WAIT_S


async def _posted(deployment, count, label):
    for number in range(count):
        await deployment.post("ann", f"{label} {number}")


async def test_a_second_broker_is_refused_though_the_lock_was_removed(deployment):
    await deployment.spawn("ann")
    first = deployment.broker.pid
    lock = deployment.state / "broker-desk.lock"
    lock.unlink()
    second = deployment.command("up", "--name", "desk")
    assert second.returncode == 1
    assert f"already running in this directory (pid: {first}" in second.stderr
    await deployment.until(lambda: lock.exists() and lock.read_text().strip() == str(first), "it is back")
    assert deployment.broker.poll() is None
    await _posted(deployment, 3, "after")
    await deployment.until(lambda: not deployment.missing(), "everything arrives")
    assert deployment.command("log", "verify").returncode == 0


async def test_removed_connection_files_are_put_back(deployment):
    before = deployment.connection()
    for file in deployment.state.glob("connection*.json"):
        file.unlink()
    await deployment.until(lambda: deployment.connection() == before, "it is back")
    await deployment.until((deployment.state / "connection-desk.json").exists, "the other one, too")


@pytest.mark.parametrize("suffixes", [[""], ["-wal"], [".mark"], ["", "-wal", "-shm", ".mark", ".snapshot"]])
async def test_a_log_that_was_removed_stops_the_broker_and_is_put_back_whole(deployment, is_alive, suffixes):
    await deployment.spawn("ann")
    await _posted(deployment, 5, "before")
    await deployment.until(lambda: not deployment.missing(), "everything arrives")
    for suffix in suffixes:
        (deployment.state / f"journal-desk.sqlite{suffix}").unlink(missing_ok=suffix == ".snapshot")
    await _posted(deployment, 5, "meanwhile")
    assert await asyncio.to_thread(deployment.broker.wait, WAIT_S) == 1
    assert "log_removed" in deployment.tail()
    assert is_alive(deployment.pids["ann"])
    await _posted(deployment, 5, "nobody there")
    await deployment.start()
    await deployment.until(lambda: not deployment.missing(), "everything arrives")
    assert deployment.twice() == {}
    assert (await deployment.status())["agents"][0]["pid"] == deployment.pids["ann"]
    assert deployment.command("log", "verify").returncode == 0


async def test_what_somebody_put_in_the_place_of_the_log_is_kept_beside_it(deployment):
    await deployment.spawn("ann")
    log = deployment.state / "journal-desk.sqlite"
    log.unlink()
    log.write_text("notes of mine")
    assert await asyncio.to_thread(deployment.broker.wait, WAIT_S) == 1
    (kept,) = deployment.state.glob("journal-desk.sqlite.foreign-*")
    assert kept.read_text() == "notes of mine"
    with sqlite3.connect(log) as connection:
        assert connection.execute("SELECT count(*) FROM stored_events").fetchone()[0] > 10
    await deployment.start()
    assert [agent["name"] for agent in (await deployment.status())["agents"]] == ["ann"]


async def test_a_state_directory_that_was_removed_stops_everything(deployment, is_alive):
    """Nothing runs on unseen."""
    await deployment.spawn("ann")
    pids = [deployment.pids["ann"], deployment.host_pid()]
    shutil.rmtree(deployment.state)
    assert await asyncio.to_thread(deployment.broker.wait, WAIT_S) == 1
    assert "log_removed" in deployment.tail()
    await deployment.until(lambda: not any(is_alive(pid) for pid in pids), "host and agent have ended")
    assert not deployment.state.exists()
