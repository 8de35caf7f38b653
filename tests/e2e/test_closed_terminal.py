"""ADR-0043: a terminal that is closed under a foreground `up` ends the broker and nothing that it ran."""

from __future__ import annotations

import asyncio
import os
import pty
import shutil
import signal
import subprocess
import sys

import psutil
import pytest

from tests.waiting import WAIT_S


async def _ended(deployment):
    status = await asyncio.to_thread(deployment.broker.wait, WAIT_S)
    assert deployment.connection() is None
    return status


async def test_agents_and_engine_go_on_and_the_next_broker_adopts_them(deployment, is_alive):
    await deployment.spawn("ann")
    await deployment.post("ann", "before")
    await deployment.until(lambda: not deployment.missing(), "it arrives")
    pids = [deployment.pids["ann"], deployment.host_pid(), deployment.engine_pid()]
    deployment.broker.send_signal(signal.SIGHUP)
    assert await _ended(deployment) == 0
    assert all(is_alive(pid) for pid in pids)
    await deployment.post("ann", "while nobody was there")
    await deployment.start()
    status = await deployment.until_api(lambda s: s["agents"], "the agent is there")
    assert [(agent["name"], agent["pid"]) for agent in status["agents"]] == [("ann", deployment.pids["ann"])]
    await deployment.post("ann", "after")
    await deployment.until(lambda: not deployment.missing(), "everything arrives")
    assert deployment.twice() == {}
    assert deployment.host_pid() == pids[1]
    assert deployment.engine_pid() == pids[2]


@pytest.mark.parametrize("then", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
async def test_no_signal_beside_it_ends_the_agents(deployment, is_alive, then):
    """Terminals and shells send it twice, session managers SIGTERM with it; the kernel delivers them in any order."""
    await deployment.spawn("ann")
    deployment.broker.send_signal(then)
    deployment.broker.send_signal(signal.SIGHUP)
    deployment.broker.send_signal(then)
    assert await _ended(deployment) == 0
    assert is_alive(deployment.pids["ann"])


async def test_it_hurries_no_stop_that_is_under_way(deployment, is_alive):
    await deployment.spawn("ann")
    pids = [deployment.pids["ann"], deployment.host_pid(), deployment.engine_pid()]
    status, _ = await deployment.api("POST", "/api/shutdown", {})
    assert status == 200
    deployment.broker.send_signal(signal.SIGHUP)
    assert await _ended(deployment) == 0
    await deployment.until(lambda: not any(is_alive(pid) for pid in pids), "everything has ended")


async def test_without_agents_everything_ends(deployment, is_alive):
    pids = [deployment.host_pid(), deployment.engine_pid()]
    deployment.broker.send_signal(signal.SIGHUP)
    assert await _ended(deployment) == 0
    await deployment.until(lambda: not any(is_alive(pid) for pid in pids), "everything has ended")


async def test_down_ends_what_was_left(deployment, is_alive):
    await deployment.spawn("ann")
    pids = [deployment.pids["ann"], deployment.host_pid(), deployment.engine_pid()]
    deployment.broker.send_signal(signal.SIGHUP)
    await _ended(deployment)
    ended = deployment.command("down")
    assert ended.returncode == 0, ended.stderr
    await deployment.until(lambda: not any(is_alive(pid) for pid in pids), "nothing is left")


@pytest.mark.skipif(shutil.which("setsid") is None, reason="needs setsid of util-linux")
async def test_a_real_terminal_that_is_closed_is_such_a_hangup(deployment, is_alive):
    """asheshgoplani/agent-deck#958: everything dies when the ssh session ends."""
    await deployment.spawn("ann")
    deployment.kill_broker()
    ours, theirs = pty.openpty()
    command = ("up", "--state-dir", str(deployment.state), "--name", "desk")
    deployment.broker = subprocess.Popen(
        ["setsid", "--ctty", sys.executable, "-m", "relaybroker", *command],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=deployment.environment(),
        cwd=deployment.folder,
    )
    os.close(theirs)
    await deployment.until(
        lambda: (connection := deployment.connection()) is not None and connection["pid"] == deployment.broker.pid,
        "the broker is ready",
    )
    os.close(ours)
    assert await _ended(deployment) == 0
    assert is_alive(deployment.pids["ann"])
    assert psutil.pid_exists(deployment.host_pid())
