"""After a chaotic run, the log explains each fate, with the broker running and stopped, and holds no secret (U01)."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner

from relaybroker.cli import app
from relaybroker.cli.output import _with_moments
from tests.scenarios.conftest import Node
from tests.scripted_engine import KEY, ScriptedEngine

SECRET = re.compile(rb"[an]t_live_[0-9a-f]{8,}")


def relaybroker(node, *words):
    """The command, as its users run it."""
    return subprocess.run(
        [sys.executable, "-m", "relaybroker", *words],
        capture_output=True,
        text=True,
        env=node.environment(),
        cwd=node.folder,
        check=False,
    )


def why(node, wanted):
    """Exit status and stories, by the command."""
    done = relaybroker(node, "why", wanted, "--json", "--state-dir", node.state)
    said = json.loads(done.stdout)
    return done.returncode, said["error"]["message"] if "error" in said else said


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
    await node.logged("delivery.dead_lettered.v1", lambda event: event.reason == "retired")
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
    "M-RELEASED": (10, "not delivered", "dead_lettered", "retired"),
    "M-POISON": (10, "not delivered", "dropped", "poison"),
    "M-EXPIRED": (10, "not delivered", "dropped", "expired"),
    "w1@9": (10, "not delivered", "ignored", "duplicate"),
    "M-DOUBT": (0, "delivered", "acked", ""),
    "M-HELD": (0, "delivered", "acked", ""),
    "M-WAITS": (11, "pending", "held", "manual_flush"),
    "w2": (10, "not delivered", "gone", "agent_released"),
}


class Told(NamedTuple):
    """What a chaotic run left, and what was said of it while it ran."""

    node: Node
    answers: dict[str, dict[str, Any]]
    """Fate -> the story, by the local API."""
    by_command: tuple[str, int, list[dict[str, Any]]]
    """One of the fates, and what the command said of it beside the broker."""
    exported: bytes
    secrets: set[str]


async def _tell(folder):
    async with ScriptedEngine() as engine:
        node = Node(folder, engine, rate=5)
        try:
            await node.start()
            await engine.online()
            await chaos(node, engine)
            answers = {}
            for wanted in FATES:
                answered, body = await node.api("GET", f"/api/why/{wanted}")
                assert answered == 200, body
                (answers[wanted],) = body["stories"]
            by_command = ("M-DOUBT", *(await asyncio.to_thread(why, node, "M-DOUBT")))
            exported = await asyncio.to_thread(relaybroker, node, "log", "export")
            api_key = node.connection()["api_key"]
            assert await node.stop() == 0
        finally:
            await node.close()
        given = {asked.token for asked in engine.asked if asked.token} | set(engine.given)
        assert len(given) > 3
        return Told(node, answers, by_command, exported.stdout.encode(), {KEY, api_key} | given)


@pytest.fixture(scope="module")
def explained(tmp_path_factory):
    """One run for all; its broker has ended."""
    return asyncio.run(_tell(tmp_path_factory.mktemp("chaos")))


def test_every_fate_of_a_chaotic_run_is_explained_by_a_broker_that_runs(explained):
    fates = {wanted: (story["outcome"], story["state"], story["reason"]) for wanted, story in explained.answers.items()}
    assert fates == {wanted: fate[1:] for wanted, fate in FATES.items()}
    wanted, status, stories = explained.by_command
    assert (status, stories) == (FATES[wanted][0], [_with_moments(explained.answers[wanted])]), (
        "the command says the same beside the broker"
    )


def stopped(explained, wanted):
    """Exit status and the one story, by the command, in this process."""
    done = CliRunner().invoke(app.cli, ["why", wanted, "--json", "--state-dir", str(explained.node.state)])
    (story,) = json.loads(done.stdout)
    return done.exit_code, story


def test_every_fate_of_a_chaotic_run_is_explained_after_its_end(explained):
    returned = {"M-WAITS": (10, "not delivered", "dropped", "shutdown")}
    for wanted, (status, outcome, state, reason) in (FATES | returned).items():
        ended_with, story = stopped(explained, wanted)
        assert (ended_with, story["outcome"], story["state"], story["reason"]) == (status, outcome, state, reason), (
            wanted
        )
        assert bool(story["otherwise"]) == bool(reason)


def test_the_stories_of_a_chaotic_run_are_told_in_order(explained):
    steps = [step["event"] for step in stopped(explained, "M-TYPED")[1]["steps"]]
    assert steps.index("delivery.injected.v1") < steps.index("delivery.acked.v1")
    assert steps.count("mailbox.frame_ignored.v1") == 2, "the engine's copies, before and after the kill"
    steps = [step["event"] for step in stopped(explained, "M-DOUBT")[1]["steps"]]
    assert steps.index("delivery.dead_lettered.v1") < steps.index("broker.dead_letters_asked.v1")
    assert steps.index("broker.dead_letters_asked.v1") < steps.index("delivery.injected.v1")
    held = [step for step in stopped(explained, "M-HELD")[1]["steps"] if step["event"] == "delivery.held.v1"]
    assert [step["detail"]["reason"] for step in held] == ["manual_flush"]


def test_of_what_never_was_the_log_knows_nothing(explained):
    status, said = why(explained.node, "M-NOBODY")
    assert status == 3
    assert "has nothing about" in said


def test_no_token_or_key_is_in_what_the_log_says_or_in_any_file_beside_it(explained):
    """I5: every token that was ever used in a busy run, by value."""
    node = explained.node
    kept = {
        path.relative_to(node.folder): path.read_bytes()
        for path in [*node.state.rglob("*"), *(node.folder / "log").rglob("*"), node.folder / "broker.out"]
        if path.is_file()
    }
    assert any(path.suffix == ".sqlite" for path in kept)
    kept["log export"] = explained.exported
    for path, content in kept.items():
        assert not SECRET.findall(content), path
        assert not [secret for secret in explained.secrets if secret.encode() in content], path


@pytest.mark.parametrize("more", [(), ("--redact",)], ids=["with-bodies", "redacted"])
def test_the_recording_of_a_chaotic_run_replays_to_the_same_decisions(explained, tmp_path, more):
    """D14, REPLAY: over kills and outages, with bodies and without."""
    exported = tmp_path / "session.jsonl"
    place = ("--state-dir", explained.node.state, "-o", exported)
    assert relaybroker(explained.node, "log", "export", "--session", *more, *place).returncode == 0
    played = relaybroker(explained.node, "replay", exported)
    assert played.returncode == 0, played.stdout + played.stderr
    assert ("after the outage" in exported.read_text()) == (not more)
