"""`kill -9` of the broker costs nothing: no message, no second typing, no agent."""

from __future__ import annotations

import asyncio
import json
import os
import random
from pathlib import Path

import pytest

KILLS = int(os.environ.get("RELAYBROKER_KILLS", "6"))
EACH = 60
BACKLOG = 400
"""Well below the engine's mailbox depth (1000 an agent): above that it takes posts and makes no row, by contract."""
SEED = int(os.environ.get("RELAYBROKER_KILL_SEED", "20261124"))


async def _burst(deployment, names, kill):
    """Everybody is written to, many times at once."""
    await asyncio.gather(*(deployment.post(name, f"kill {kill}, number {n}") for n in range(EACH) for name in names))


@pytest.mark.slow
async def test_kills_at_random_moments_under_load_lose_and_repeat_nothing(deployment):
    """F032, F015, B02, U07, LOG-FIRST, TYPED-ONCE, ONE-OWNER.

    A failing run is repeated with RELAYBROKER_KILL_SEED; RELAYBROKER_KILLS makes it longer.
    """
    moments = random.Random(SEED)
    names = ["ann", "bob", "cid", "dot"]
    for name in names:
        await deployment.spawn(name)
    in_flight, bursts = [], []
    for kill in range(KILLS):
        await deployment.until(lambda: max(deployment.missing().values(), default=0) < BACKLOG, "some of it arrives")
        bursts.append(asyncio.create_task(_burst(deployment, names, kill)))
        await deployment.until(lambda: deployment.missing() or bursts[-1].done(), "something is in flight")
        await asyncio.sleep(moments.uniform(0.0, 0.06))
        deployment.kill_broker()
        in_flight.append(sum(deployment.missing().values()))
        await asyncio.sleep(moments.uniform(0.0, 0.2))
        await deployment.start()
    await asyncio.gather(*bursts)
    await deployment.until(lambda: not deployment.missing(), "everything arrives")
    status = await deployment.until_api(lambda s: not s["pending_delivery_count"], "everything is settled")

    print(f"seed {SEED}: {sum(map(len, deployment.sent.values()))} messages, in flight at the kills {in_flight}")
    assert sum(count > 0 for count in in_flight) >= KILLS // 2, "the kills hit a broker at work"
    assert deployment.twice() == {}
    assert {row["name"]: row["pid"] for row in status["agents"]} == deployment.pids
    for name in names:
        order = [int(message) for message in deployment.received(name)]
        assert order == sorted(order), "typed in the order of the engine"
    verified = deployment.command("log", "verify", "--json")
    assert json.loads(verified.stdout)["problems"] == []


async def test_a_restarted_broker_goes_on_with_its_event_numbers(deployment):
    """B04: `seq` continues, and `sinceSeq` from before the crash returns what was missed."""
    await deployment.spawn("ann")
    await deployment.post("ann", "one")
    await deployment.until(lambda: not deployment.missing(), "typed")
    before = (await deployment.api("GET", "/api/session"))[1]
    deployment.kill_broker()
    await deployment.start()
    await deployment.post("ann", "two")
    await deployment.until(lambda: not deployment.missing(), "typed")
    after = (await deployment.api("GET", "/api/session"))[1]
    missed = (await deployment.api("GET", f"/api/events/replay?sinceSeq={before['last_seq']}"))[1]

    assert after["epoch"] == before["epoch"]
    assert after["last_seq"] > before["last_seq"]
    assert missed["events"][0]["seq"] == before["last_seq"] + 1
    assert not missed["gap"]
    assert any(event["kind"] == "relay_inbound" for event in missed["events"])


async def test_why_tells_the_story_with_the_broker_stopped(deployment):
    """U01, U05, B07."""
    await deployment.spawn("ann")
    message = await deployment.post("ann", "tell me")
    await deployment.until_api(lambda s: s["totals"]["acked"] == 1, "acknowledged")
    deployment.kill_broker()
    done = deployment.command("why", message)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ACKED: ")
    for topic in ("delivery.offered.v1", "delivery.injecting.v1", "delivery.injected.v1", "delivery.acked.v1"):
        assert topic in done.stdout
    assert deployment.command("why", "no-such-message").returncode == 3


async def test_the_log_and_the_environment_of_agents_hold_no_secret(deployment):
    """SECRET, I7, S1."""
    await deployment.spawn("ann")
    await deployment.post("ann", "x")
    await deployment.until_api(lambda s: s["totals"]["acked"] == 1, "acknowledged")
    exported = deployment.command("log", "export").stdout
    assert "delivery.acked.v1" in exported
    for secret in ("rk_live_", "at_live_", "nt_live_", deployment.connection()["api_key"]):
        assert secret not in exported
    environment = Path(f"/proc/{deployment.pids['ann']}/environ").read_bytes()
    assert b"RELAY_AGENT_TOKEN=at_live_" in environment
    for secret in (b"rk_live_", b"nt_live_", deployment.connection()["api_key"].encode()):
        assert secret not in environment
