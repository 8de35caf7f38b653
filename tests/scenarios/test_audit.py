"""After a chaotic run, the log explains each fate, with the broker running and stopped, and holds no secret (issue "audit", U01)."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys

from tests.scripted_engine import KEY

SECRET = re.compile(rb"[an]t_live_[0-9a-f]{8,}")


def why(node, wanted):
    """Exit status and stories, by the command."""
    done = subprocess.run(
        [sys.executable, "-m", "relaybroker", "why", wanted, "--json", "--state-dir", node.state],
        capture_output=True,
        text=True,
        env=node.environment(),
        check=False,
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr


async def chaos(node, engine):
    """Messages that end in different ways, over kills of PTY host and broker and an outage."""
    await node.spawn("w3")
    await node.logged("worker.ready.v1")
    host = int(next(node.state.glob("host-*.pid")).read_text())
    os.kill(host, signal.SIGSTOP)
    await engine.deliver("w3", 1, "perhaps", msg_id="M-DOUBT")
    await node.logged("delivery.injecting.v1")
    os.kill(host, signal.SIGKILL)
    await node.logged("delivery.dead_lettered.v1")
    await node.spawn("w3")
    (letter,) = (await node.api("GET", "/api/dead-letters"))[1]["dead_letters"]
    again = {"id": letter["id"], "force": True}
    assert (await node.api("POST", "/api/dead-letters/redeliver", again))[0] == 200
    await node.typed("w3", "perhaps")
    mode = "/api/spawned/w3/delivery-mode"
    assert (await node.api("PUT", mode, {"mode": "manual_flush"}))[0] == 200
    await engine.deliver("w3", 2, "flushed", msg_id="M-HELD")
    await node.logged("delivery.held.v1", lambda event: event.reason == "manual_flush")
    assert (await node.api("POST", "/api/spawned/w3/flush", {}))[1]["flushed"] == 1
    await engine.until(lambda: engine.frames("delivery.ack", agent="w3", up_to_seq=2), what="the flushed one")
    await engine.deliver("w3", 3, "kept for a person", msg_id="M-WAITS")
    await node.until(
        lambda: [record.correlation for record in node.log("delivery.held.v1")][-1] == "M-WAITS", what="held"
    )
    await node.spawn("w1")
    await node.spawn("w2")
    await engine.deliver("w1", 1, "typed", msg_id="M-TYPED")
    await engine.deliver("w1", 1, "typed", msg_id="M-TYPED")
    await engine.deliver("w1", 2, "", msg_id="M-READ", payload={"type": "message.read"})
    await engine.deliver("w1", 3, "x" * 20_000, msg_id="M-LARGE")
    await node.logged("delivery.dead_lettered.v1", lambda event: event.reason == "too_large")
    node.kill()
    await node.start()
    await engine.online(2)
    await engine.deliver("w1", 1, "typed", msg_id="M-TYPED")
    await engine.drop()
    await engine.online(3)
    await engine.deliver("w1", 4, "after the outage", msg_id="M-LATER")
    await engine.deliver("w1", 6, "beyond the hole", msg_id="M-BEYOND")
    await node.logged("mailbox.range_lost.v1")
    await engine.deliver("w1", 6, "another one", msg_id="M-CONFLICT")
    await engine.deliver("w1", 7, msg_id="M-POISON", payload=None)
    stale = {"text": "stale", "expires_at": "2026-01-01T00:00:00Z"}
    await engine.deliver("w1", 8, msg_id="M-EXPIRED", payload={"type": "message.created", "data": stale})
    await engine.deliver("w1", 9, "after the outage", msg_id="M-LATER", delivery_id="del_again")
    await engine.deliver("w2", 1, "for a released agent", msg_id="M-FIRST")
    await engine.until(lambda: engine.frames("delivery.ack", agent="w2"), what="w2's acknowledgement")
    status, _ = await node.api("DELETE", "/api/spawned/w2")
    assert status == 200
    await engine.deliver("w2", 2, "too late", msg_id="M-RELEASED")
    await node.logged("mailbox.frame_ignored.v1", lambda event: event.msg_id == "M-RELEASED")
    await engine.until(
        lambda: max((f["up_to_seq"] for f in engine.frames("delivery.ack", agent="w1")), default=0) >= 9,
        what="everything of w1 is settled",
    )


FATES = {
    "M-TYPED": (0, "delivered", "acked", ""),
    "w1@1": (0, "delivered", "acked", ""),
    "M-READ": (10, "not delivered", "dropped", "receipt_only"),
    "M-LARGE": (10, "not delivered", "dead_lettered", "too_large"),
    "M-LATER": (0, "delivered", "acked", ""),
    "w1@5": (10, "not delivered", "lost", "lost"),
    "M-BEYOND": (0, "delivered", "acked", ""),
    "M-CONFLICT": (10, "not delivered", "ignored", "seq_conflict"),
    "M-FIRST": (0, "delivered", "acked", ""),
    "M-RELEASED": (10, "not delivered", "ignored", "retired"),
    "M-POISON": (10, "not delivered", "dropped", "poison"),
    "M-EXPIRED": (10, "not delivered", "dropped", "expired"),
    "w1@9": (10, "not delivered", "ignored", "duplicate"),
    "M-DOUBT": (0, "delivered", "acked", ""),
    "M-HELD": (0, "delivered", "acked", ""),
    "M-WAITS": (11, "pending", "held", "manual_flush"),
    "w2": (10, "not delivered", "gone", "agent_released"),
}


async def test_every_fate_of_a_chaotic_run_is_explained_running_and_stopped(make_node, engine):
    node = make_node(rate=5)
    await node.start()
    await engine.online()
    await chaos(node, engine)
    for wanted, (status, outcome, state, reason) in FATES.items():
        answered, body = await node.api("GET", f"/api/why/{wanted}")
        assert answered == 200, body
        (story,) = body["stories"]
        assert (story["outcome"], story["state"], story["reason"]) == (outcome, state, reason), wanted
        assert await asyncio.to_thread(why, node, wanted) == (status, [story]), (
            "the command says the same beside the broker"
        )
    assert await node.stop() == 0
    returned = {"M-WAITS": (10, "not delivered", "dropped", "shutdown")}
    for wanted, (status, outcome, state, reason) in (FATES | returned).items():
        found, (story,) = await asyncio.to_thread(why, node, wanted)
        assert (found, story["outcome"], story["state"], story["reason"]) == (status, outcome, state, reason), wanted
        assert bool(story["otherwise"]) == bool(reason)
    (typed,) = (await asyncio.to_thread(why, node, "M-TYPED"))[1]
    told = [step["event"] for step in typed["steps"]]
    assert told.index("delivery.injected.v1") < told.index("delivery.acked.v1")
    assert told.count("mailbox.frame_ignored.v1") == 2, "the engine's copies, before and after the kill"
    (doubtful,) = (await asyncio.to_thread(why, node, "M-DOUBT"))[1]
    told = [step["event"] for step in doubtful["steps"]]
    assert told.index("delivery.dead_lettered.v1") < told.index("broker.dead_letters_asked.v1")
    assert told.index("broker.dead_letters_asked.v1") < told.index("delivery.injected.v1")
    (held,) = (await asyncio.to_thread(why, node, "M-HELD"))[1]
    assert [step["detail"]["reason"] for step in held["steps"] if step["event"] == "delivery.held.v1"] == [
        "manual_flush"
    ]
    status, said = await asyncio.to_thread(why, node, "M-NOBODY")
    assert status == 3
    assert "knows nothing" in said


async def test_no_token_or_key_is_in_what_the_log_says_or_in_any_file_beside_it(make_node, engine):
    """I5: every token that was ever used in a busy run, by value."""
    node = make_node(rate=5)
    await node.start()
    await engine.online()
    await chaos(node, engine)
    api_key = node.connection()["api_key"]
    export = [sys.executable, "-m", "relaybroker", "log", "export", "--state-dir", node.state]
    exported = await asyncio.to_thread(subprocess.run, export, capture_output=True, env=node.environment(), check=True)
    assert await node.stop() == 0
    kept = {
        path.relative_to(node.folder): path.read_bytes()
        for path in [*node.state.rglob("*"), *(node.folder / "log").rglob("*"), node.folder / "broker.out"]
        if path.is_file()
    }
    assert any(path.suffix == ".sqlite" for path in kept)
    kept["log export"] = exported.stdout
    given = {asked.token for asked in engine.asked if asked.token} | set(engine.given)
    assert len(given) > 3
    secrets = {KEY, api_key} | given
    for path, content in kept.items():
        assert not SECRET.findall(content), path
        assert not [secret for secret in secrets if secret.encode() in content], path


async def test_the_recording_of_a_chaotic_run_replays_to_the_same_decisions(make_node, engine):
    """D14, REPLAY: over kills and outages, with bodies and without."""
    node = make_node(rate=5)
    await node.start()
    await engine.online()
    await chaos(node, engine)
    assert await node.stop() == 0

    async def relaybroker(*words):
        command = [sys.executable, "-m", "relaybroker", *words]
        return await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, env=node.environment(), check=False
        )

    for more in ((), ("--redact",)):
        exported = node.folder / f"session{len(more)}.jsonl"
        place = ("--state-dir", node.state, "-o", exported)
        assert (await relaybroker("log", "export", "--session", *more, *place)).returncode == 0
        played = await relaybroker("replay", exported)
        assert played.returncode == 0, played.stdout + played.stderr
    assert "after the outage" not in exported.read_text()
