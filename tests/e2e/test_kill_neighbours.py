"""`kill -9` of the PTY host and of the engine: everything is said, nothing hangs, work goes on."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from tests.waiting import WAIT_S


async def test_a_killed_host_is_said_and_the_next_agents_work(deployment, is_alive):
    """F033, F096, F110: agents lost with reasons, deliveries settled or returned, names free again."""
    for name in ("ann", "bob"):
        await deployment.spawn(name)
    posting = asyncio.gather(*(deployment.post("ann", f"n {n}") for n in range(100)))
    os.kill(deployment.host_pid(), signal.SIGKILL)
    await posting
    await deployment.until_api(lambda s: s["host"]["attached"] and s["agent_count"] == 0, "a new host, no agents")
    await deployment.until(lambda: not any(is_alive(pid) for pid in deployment.pids.values()), "the agents are gone")

    status = await deployment.until_api(lambda s: not s["pending_delivery_count"], "nothing is left open")
    assert status["pending_deliveries"] == []
    events = await deployment.until_events(lambda e: sum(x["kind"] == "agent_exited" for x in e) == 2, "both ends")
    exits = {event["name"]: event["reason"] for event in events if event["kind"] == "agent_exited"}
    assert exits == {"ann": "worker_lost", "bob": "worker_lost"}

    in_doubt = [event["event_id"] for event in events if event["kind"] == "delivery_ambiguous"]
    await deployment.spawn("ann")
    await deployment.until(
        lambda: set(deployment.sent["ann"]) <= set(deployment.received("ann")) | set(in_doubt),
        "what was not in doubt arrives at the successor",
    )
    assert deployment.twice() == {}


async def test_a_killed_engine_comes_back_and_everything_resumes(deployment, is_alive):
    """U28: local work goes on, the link comes back by itself, nothing that was answered 201 is lost."""
    await deployment.spawn("ann")
    for number in range(20):
        await deployment.post("ann", f"before {number}")
    os.kill(deployment.engine_pid(), signal.SIGKILL)
    await deployment.until_api(lambda s: s["link"]["state"] != "online", "the broker sees that the engine is gone")
    status = await deployment.until_api(lambda s: s["link"]["state"] == "online", "the engine is back")
    assert status["agents"][0]["pid"] == deployment.pids["ann"]
    await deployment.post("ann", "after")
    await deployment.until(lambda: not deployment.missing(), "everything arrives")
    assert deployment.twice() == {}
    assert is_alive(deployment.pids["ann"])


async def test_down_ends_everything_also_after_a_kill(deployment, is_alive):
    await deployment.spawn("ann")
    pids = [deployment.pids["ann"], deployment.host_pid(), deployment.engine_pid()]
    deployment.kill_broker()
    assert all(is_alive(pid) for pid in pids)
    ended = deployment.command("down")
    assert ended.returncode == 0, ended.stderr
    await deployment.until(lambda: not any(is_alive(pid) for pid in pids), "nothing is left")


@pytest.mark.parametrize("hung", ["broker", "host", "engine", "agent"])
async def test_down_ends_what_hangs(deployment, is_alive, hung):
    """SIGSTOP: a deadlock, a swapped-out process."""
    await deployment.spawn("ann")
    pids = {"agent": deployment.pids["ann"], "host": deployment.host_pid(), "engine": deployment.engine_pid()}
    pids["broker"] = deployment.broker.pid
    os.kill(pids[hung], signal.SIGSTOP)
    ended = await asyncio.to_thread(deployment.command, "down")
    assert ended.returncode == 0, ended.stderr
    assert ("did not answer" in ended.stdout) == (hung == "broker")
    await asyncio.to_thread(deployment.broker.wait, WAIT_S)
    await deployment.until(lambda: not any(is_alive(pid) for pid in pids.values()), "nothing is left")


async def test_a_clean_stop_leaves_nothing(deployment, is_alive):
    await deployment.spawn("ann")
    pids = [deployment.pids["ann"], deployment.host_pid(), deployment.engine_pid()]
    status, answer = await deployment.api("POST", "/api/shutdown", {})
    assert (status, answer) == (200, {"status": "shutting_down"})
    code = await asyncio.to_thread(deployment.broker.wait, WAIT_S)
    assert code == 0
    await deployment.until(lambda: not any(is_alive(pid) for pid in pids), "nothing is left")
    assert deployment.connection() is None
