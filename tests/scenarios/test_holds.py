"""Held messages, dead letters and doubt: the real broker, real terminals, kill -9 of broker and PTY host."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from relaybroker.domain.delivery import HOLD_S
from tests.waiting import WAIT_S

PTY_AGENTS = Path(__file__).parents[1] / "integration" / "pty" / "agents"
MODE = "/api/spawned/w1/delivery-mode"


async def acked(engine, name, seq):
    await engine.until(
        lambda: max((f["up_to_seq"] for f in engine.frames("delivery.ack", agent=name)), default=0) >= seq,
        what=f"ack {seq} of {name}",
    )


async def agent(node, holds, name="w1", limit_s=WAIT_S):
    """What the list says of an agent, as soon as it says what is wanted."""
    deadline = time.monotonic() + limit_s
    while True:
        rows = (await node.api("GET", "/api/spawned"))[1]["agents"]
        own_row = next((row for row in rows if row["name"] == name), None)
        if own_row is not None and holds(own_row):
            return own_row
        assert time.monotonic() < deadline, f"{own_row}\n{node.output()}"
        await asyncio.sleep(0.02)


def lines(path):
    try:
        return [json.loads(line) for line in path.read_text().splitlines()]
    except FileNotFoundError:
        return []


async def test_held_messages_and_dead_letters_survive_kill_9(node, engine):
    """F019, F016, B03, B09: mode, message and letter are there again; nothing was acked; the flush acks on proof."""
    await node.spawn("w1")
    await node.spawn("w2")
    assert (await node.api("PUT", MODE, {"mode": "manual_flush", "reason": "I drive"}))[0] == 200
    await engine.deliver("w1", 1, "held one")
    await engine.deliver("w1", 2, "held two")
    await engine.deliver("w2", 1, "x" * 20_000, msg_id="BIG")
    await acked(engine, "w2", 1)
    before = await agent(node, lambda row: row["held_count"] == 2)
    node.kill()
    await node.start()
    await engine.online(2)
    for seq, text in ((1, "held one"), (2, "held two")):
        await engine.deliver("w1", seq, text)
    await engine.deliver("w2", 1, "x" * 20_000, msg_id="BIG")
    after = await agent(node, lambda row: row["registration"] == "live")
    assert (after["delivery_mode"], after["pid"]) == ("manual_flush", before["pid"])
    held = (await node.api("GET", "/api/spawned/w1/pending"))[1]["pending"]
    assert [row["body"] for row in held] == ["held one", "held two"]
    (letter,) = (await node.api("GET", "/api/dead-letters"))[1]["dead_letters"]
    assert (letter["event_id"], letter["reason"]) == ("BIG", "too_large")
    assert engine.frames("delivery.ack", agent="w1") == []
    assert node.notes("w1") == []
    assert (await node.api("POST", "/api/spawned/w1/flush", {}))[1]["flushed"] == 2
    await acked(engine, "w1", 2)
    await node.typed("w1", "held one", "held two")
    await engine.deliver("w1", 3, "later")
    await agent(node, lambda row: row["held_count"] == 1)
    await node.typed("w1", "held one", "held two")


async def test_a_hold_over_a_clock_that_jumps_by_hours_and_kills_loses_nothing(make_node, engine):
    """ADR-0039: acknowledged from custody, typed once when they are flushed; what is left at a release is a dead letter."""
    node = make_node(rate=2)
    await node.start()
    await engine.online()
    await node.spawn("w1")
    assert (await node.api("PUT", MODE, {"mode": "manual_flush"}))[0] == 200
    await engine.deliver("w1", 1, "one")
    await engine.deliver("w1", 2, "two")
    await agent(node, lambda row: row["held_count"] == 2)
    assert engine.frames("delivery.ack", agent="w1") == []
    node.set_clock(3 * 3600)
    await engine.deliver("w1", 3, "three")
    await acked(engine, "w1", 2)
    node.kill()
    node.set_clock(-3 * 3600)
    await node.start()
    await engine.online(2)
    held = (await node.api("GET", "/api/spawned/w1/pending"))[1]["pending"]
    assert [(row["body"], row["in_custody"]) for row in held] == [("one", True), ("two", True), ("three", False)]
    for seq, text in ((1, "one"), (2, "two")):
        await engine.deliver("w1", seq, text)
    assert (await node.api("POST", "/api/spawned/w1/flush", {}))[1]["flushed"] == 3
    await acked(engine, "w1", 3)
    await node.typed("w1", "one", "two", "three")
    await engine.deliver("w1", 4, "four")
    await agent(node, lambda row: row["held_count"] == 1)
    node.set_clock(24 * 3600)
    await engine.deliver("w1", 5, "five")
    await acked(engine, "w1", 4)
    status, _ = await node.api("DELETE", "/api/spawned/w1")
    assert status == 200
    (letter,) = (await node.api("GET", "/api/dead-letters"))[1]["dead_letters"]
    assert (letter["event_id"], letter["reason"], letter["in_doubt"]) == ("M4", "agent_released", False)
    totals = (await node.api("GET", "/api/status"))[1]["totals"]
    assert (totals["typed"], totals["dropped"]) == (3, 1), (
        "the fifth one went back to the engine, which has just taken it"
    )
    why = subprocess.run(
        [sys.executable, "-m", "relaybroker", "why", "M4", "--state-dir", str(node.state)],
        capture_output=True, text=True, check=False, env=node.environment(),
    ).stdout  # fmt: skip
    assert "is a dead letter: The agent was released." in why
    assert "delivery.taken_over.v1" in why


@pytest.mark.parametrize("policy", ["ask", "at_least_once", "at_most_once"])
async def test_a_host_killed_with_a_message_leaves_it_to_the_policy_also_over_a_kill_of_the_broker(
    make_node, engine, policy
):
    """F033, F027, F030, U07: intent in the log, host stopped before it can act, then killed; then the broker as well."""
    node = make_node(RELAYBROKER_IN_DOUBT=policy)
    await node.start()
    await engine.online()
    await node.spawn("w1")
    host = int(next(node.state.glob("host-*.pid")).read_text())
    os.kill(host, signal.SIGSTOP)
    await engine.deliver("w1", 1, "perhaps")
    await node.logged("delivery.injecting.v1")
    os.kill(host, signal.SIGKILL)
    topic = "delivery.dead_lettered.v1" if policy == "ask" else "delivery.dropped.v1"
    settled = await node.logged(topic)
    assert (settled.event.reason, settled.event.detail.split(":")[0]) == ("ambiguous", f"policy {policy}")
    node.kill()
    await node.start()
    await engine.online(2)
    await node.spawn("w1")
    await engine.deliver("w1", 1, "perhaps")
    if policy == "ask":
        (letter,) = (await node.api("GET", "/api/dead-letters"))[1]["dead_letters"]
        assert letter["in_doubt"]
        named = {"id": letter["id"]}
        assert (await node.api("POST", "/api/dead-letters/redeliver", named))[0] == 409
        assert (await node.api("POST", "/api/dead-letters/redeliver", named | {"force": True}))[0] == 200
    await acked(engine, "w1", 1)
    await engine.deliver("w1", 2, "after")
    expected = ["after"] if policy == "at_most_once" else ["perhaps", "after"]
    await node.typed("w1", *expected)
    assert ("possible-duplicate" in node.notes("w1")[0]) == (policy != "at_most_once")
    events = (await node.api("GET", "/api/events/replay?sinceSeq=0"))[1]["events"]
    assert [event["policy"] for event in events if event["kind"] == "delivery_ambiguous"] == [policy]
    assert (await node.api("GET", "/api/dead-letters"))[1]["count"] == 0


async def test_a_booting_agent_holds_its_messages_and_says_so(node, engine, tmp_path):
    """F091, D13: not_ready with since and until, then typed once."""
    log = tmp_path / "boots.log"
    command = shlex.join([sys.executable, str(PTY_AGENTS / "boots_slowly.py"), str(log), "3"])
    assert (await node.api("POST", "/api/spawn", {"name": "w1", "cli": command}))[0] == 200
    await engine.deliver("w1", 1, "when you are ready")
    agent_row = await agent(node, lambda row: row["waiting"])
    (hold,) = agent_row["holds"]
    assert (hold["reason"], hold["count"], agent_row["waiting_reason"]) == ("not_ready", 1, "not_ready")
    assert hold["until_ms"] - hold["since_ms"] == HOLD_S * 1000
    assert engine.frames("delivery.ack") == []
    await acked(engine, "w1", 1)
    await node.until(lambda: lines(log), what="the text")
    assert [line.rpartition(": ")[2] for line in lines(log)] == ["when you are ready"]


async def test_a_dialog_holds_messages_until_a_person_answers_it(node, engine, tmp_path):
    """F094 blocked_by_dialog, F087: no key of ours reaches it, and while a person drives nothing follows it."""
    log, program = tmp_path / "dialog.log", tmp_path / "claude"
    program.write_text(f"#!/bin/sh\nexec {shlex.join([sys.executable, str(PTY_AGENTS / 'dialog.py'), str(log)])}\n")
    program.chmod(0o700)
    assert (await node.api("POST", "/api/spawn", {"name": "w1", "cli": str(program)}))[0] == 200
    await agent(node, lambda row: row["worker"] == "blocked")
    await engine.deliver("w1", 1, "hello")
    agent_row = await agent(node, lambda row: row["waiting"])
    assert [row["reason"] for row in agent_row["holds"]] == ["blocked_by_dialog"]
    assert agent_row["blocked_by"] == "claude trust"
    assert (await node.api("PUT", MODE, {"mode": "manual_flush"}))[0] == 200
    assert (await node.api("POST", "/api/input/w1", {"data": "y"}))[0] == 200
    agent_row = await agent(node, lambda row: row["ready"])
    assert [row["reason"] for row in agent_row["holds"]] == ["manual_flush"]
    assert lines(log) == [{"dialog": "y"}]
    assert (await node.api("PUT", MODE, {"mode": "auto_inject"}))[1]["flushed"] == 1
    await acked(engine, "w1", 1)
    await node.until(lambda: len(lines(log)) == 2, what="the text")
    assert "hello" in lines(log)[1]


async def test_the_257th_held_message_is_refused_and_comes_when_there_is_room(node, engine):
    """F020 hold_full on the wire: the engine is asked again, nothing is lost, the order is kept."""
    await node.spawn("w1")
    await node.api("PUT", MODE, {"mode": "manual_flush"})
    for seq in range(1, 260):
        await engine.deliver("w1", seq, f"text {seq}")
    await agent(node, lambda row: row["held_count"] == 256)
    await node.logged("mailbox.frame_ignored.v1", lambda event: event.reason == "hold_full" and event.seq == 259)
    assert engine.frames("delivery.ack") == []
    registers = len(engine.frames("node.register"))
    assert (await node.api("PUT", MODE, {"mode": "auto_inject"}))[1]["flushed"] == 256
    await engine.frame("node.register", count=registers + 1)
    for seq in range(257, 260):
        await engine.deliver("w1", seq, f"text {seq}")
    await acked(engine, "w1", 259)
    await node.typed("w1", *[f"text {seq}" for seq in range(1, 260)])


async def test_a_message_waits_while_the_shell_runs_a_command(node, engine, tmp_path):
    """F021 agent_busy: pending with its reason, not read by the command, no try used up, typed once, also after kill -9."""
    swallowed = node.folder / "swallowed.txt"
    assert (await node.api("POST", "/api/spawn", {"name": "w1", "cli": "bash --norc", "cwd": str(node.folder)}))[
        0
    ] == 200
    await agent(node, lambda row: row["ready"])
    await node.api("POST", "/api/input/w1", {"data": f"cat > {swallowed}\r"})
    await node.until(swallowed.exists, what="cat")
    await engine.deliver("w1", 1, "one")
    await engine.deliver("w1", 2, "two", mode="steer")
    agent_row = await agent(node, lambda row: row["held_count"] == 2)
    assert ([row["reason"] for row in agent_row["holds"]], agent_row["worker"]) == (["agent_busy"], "busy")
    story = (await node.api("GET", "/api/why/w1"))[1]["stories"][0]
    assert (story["outcome"], story["reason"]) == ("pending", "agent_busy")
    assert "busy (cat has the terminal)" in story["verdict"]
    node.kill()
    await node.start()
    await engine.online(2)
    assert engine.frames("delivery.ack", agent="w1") == []
    await node.api("POST", "/api/input/w1", {"data": "\x04"})
    await acked(engine, "w1", 2)
    assert swallowed.read_text() == ""
    screen = (await node.api("GET", "/api/spawned/w1/snapshot?format=plain"))[1]["screen"]
    assert (screen.count(": one"), screen.count(": two")) == (1, 1)
    assert node.log("delivery.dead_lettered.v1") == []


async def test_a_message_waits_until_a_person_has_submitted_the_line(node, engine):
    """F087 human_driving: whoever steers waits, too; the person's line and the message reach the program apart."""
    await node.spawn("w1")
    assert (await node.api("POST", "/api/input/w1", {"data": "half a "}))[0] == 200
    await engine.deliver("w1", 1, "the message", mode="steer")
    agent_row = await agent(node, lambda row: row["held_count"] == 1)
    assert [row["reason"] for row in agent_row["holds"]] == ["human_driving"]
    assert (await node.api("POST", "/api/input/w1", {"data": "line\r"}))[0] == 200
    await acked(engine, "w1", 1)
    await node.until(lambda: len(node.notes("w1")) == 2, what="both")
    assert node.notes("w1")[0] == "half a line"
    assert node.notes("w1")[1].endswith(": the message")
