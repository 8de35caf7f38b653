"""Agents with a restart policy, on a real broker: their programs are killed, and so is the broker."""

from __future__ import annotations

import os
import shlex
import signal
import sys

from tests.e2e.conftest import AGENTS


async def spawn(deployment, name, **policy):
    command = shlex.join([sys.executable, str(AGENTS / "note_taker.py"), str(deployment.folder / f"{name}.notes")])
    body = {"name": name, "cli": command, "restart_policy": policy, "env": {"MY_KEY": "kept"}}
    status, answer = await deployment.api("POST", "/api/spawn", body)
    assert status == 200, answer
    deployment.sent.setdefault(name, [])
    return answer["pid"]


def row_of(status, name):
    return next((row for row in status["agents"] if row["name"] == name), None)


async def test_a_killed_program_runs_again_though_the_broker_is_killed_in_its_pause(deployment):
    """B01, B02: every step is in the history, the count survives, and no message is lost or typed twice."""
    first = await spawn(deployment, "ann", cooldown_ms=3000)
    await deployment.post("ann", "before")
    await deployment.until(lambda: not deployment.missing(), "the first message is typed")
    os.kill(first, signal.SIGKILL)
    await deployment.until_api(lambda s: row_of(s, "ann")["registration"] == "restarting", "the end is seen")
    await deployment.post("ann", "meanwhile")
    await deployment.until_api(lambda s: row_of(s, "ann")["waiting_reason"] == "agent_restarting", "it waits")
    deployment.kill_broker()
    await deployment.start()
    status = await deployment.until_api(lambda s: row_of(s, "ann")["registration"] == "live", "it runs again")
    row = row_of(status, "ann")
    assert row["restart_count"] == 1
    assert row["pid"] not in (None, first)
    with open(f"/proc/{row['pid']}/environ", "rb") as environ:
        assert b"MY_KEY=kept" in environ.read()
    await deployment.post("ann", "after")
    await deployment.until(lambda: not deployment.missing(), "what came meanwhile and after is typed")
    assert deployment.twice() == {}
    assert deployment.received("ann") == deployment.sent["ann"], "in order"
    events = await deployment.until_events(
        lambda events: any(event["kind"] == "agent_restarted" for event in events), "clients hear of it"
    )
    kinds = [event["kind"] for event in events if event.get("name") == "ann" and event["kind"].startswith("agent_")]
    assert kinds == ["agent_spawned", "agent_restarting", "agent_restarted"]
    told = deployment.command("why", "ann").stdout
    assert "agent.restart_planned.v1" in told
    assert "agent.restarted.v1" in told


async def test_an_agent_that_is_released_in_its_pause_stays_gone(deployment):
    """F108: what would have come next is cancelled, also for the broker that starts after it."""
    pid = await spawn(deployment, "bob", cooldown_ms=60_000)
    os.kill(pid, signal.SIGKILL)
    await deployment.until_api(lambda s: row_of(s, "bob")["registration"] == "restarting", "the end is seen")
    status, answer = await deployment.api("DELETE", "/api/spawned/bob")
    assert (status, answer["success"]) == (200, True)
    assert row_of(await deployment.status(), "bob") is None
    deployment.kill_broker()
    await deployment.start()
    assert row_of(await deployment.status(), "bob") is None


async def test_a_program_that_fails_too_often_is_given_up(deployment):
    """B01: at most the allowed number of times; its client hears that it is over."""
    pid = await spawn(deployment, "cid", max_restarts=1, cooldown_ms=10)
    os.kill(pid, signal.SIGKILL)
    status = await deployment.until_api(
        lambda s: (row := row_of(s, "cid"))["registration"] == "live" and row["restart_count"] == 1, "it runs again"
    )
    os.kill(row_of(status, "cid")["pid"], signal.SIGKILL)
    await deployment.until_api(lambda s: row_of(s, "cid") is None, "it is gone")
    events = await deployment.until_events(
        lambda events: any(event["kind"] == "agent_permanently_dead" for event in events), "clients hear of it"
    )
    ends = [event for event in events if event["kind"] in ("agent_exited", "agent_permanently_dead")]
    assert [(event["kind"], event["reason"]) for event in ends] == [
        ("agent_exited", "worker_exited"),
        ("agent_permanently_dead", "restart_limit"),
    ]
