"""Agents without terminal, through a real broker: acknowledged on their own word, asked, restarted, and never handed the same twice."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shlex
import signal
import sys
from collections import Counter
from pathlib import Path

import aiohttp
import pytest

from tests.e2e.conftest import ID
from tests.waiting import WAIT_S

SEED = int(os.environ.get("RELAYBROKER_KILL_SEED", "20261128"))
PROGRAM = Path(__file__).parents[1] / "acp_program.py"


class Piped:
    """A deployment with one agent that speaks the Agent Client Protocol."""

    def __init__(self, made) -> None:
        self.made = made
        self.kept = made.folder / "conversations"

    async def spawn(self, version=1, **fields):
        command = shlex.join([sys.executable, str(PROGRAM), str(version), str(self.kept)])
        body = {"name": "ann", "cli": command, "cwd": str(self.made.folder), "doors": ["acp"]} | fields
        status, answer = await self.made.api("POST", "/api/spawn", body)
        assert status == 200, answer
        self.made.sent.setdefault("ann", [])
        await self.made.until_api(lambda found: found["agents"] and found["agents"][0]["ready"], "it is ready")
        return answer

    def seen(self, method):
        try:
            lines = Path(f"{self.kept}.seen").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [row["params"] for row in map(json.loads, lines) if row.get("method") == method]

    def prompts(self, text):
        return [one for one in self.seen("session/prompt") if text in one["prompt"][0]["text"]]

    async def prompted(self, text):
        await self.made.until(lambda: self.prompts(text), f"prompted: {text}")

    async def settled(self):
        await self.made.until_api(lambda found: not found["pending_delivery_count"], "everything is settled")

    def why(self, message_id):
        return str(json.loads(self.made.command("why", message_id, "--json").stdout))

    async def shows(self, text):
        async with asyncio.timeout(WAIT_S):
            while text not in (await self.made.api("GET", "/api/spawned/ann/snapshot"))[1].get("screen", ""):
                await asyncio.sleep(0.02)


@pytest.fixture
async def piped(tmp_path, make_deployment):
    made = make_deployment(tmp_path)
    made.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=WAIT_S))
    try:
        await made.start()
        await made.meet()
        yield Piped(made)
    finally:
        await made.close()


@pytest.mark.parametrize(("version", "kind"), [(1, "turn"), (2, "answer")])
async def test_a_message_is_acknowledged_on_the_programs_own_word(piped, version, kind):
    spawned = await piped.spawn(version)
    assert spawned["runtime"] == "headless"
    message = await piped.made.post("ann", "hello")
    await piped.prompted("hello")
    await piped.settled()
    assert f"door acp, {kind} session" in piped.why(message)
    agent = (await piped.made.status())["agents"][0]
    assert (agent["runtime"], agent["door"]) == ("headless", "acp")
    await piped.shows("you said:")


async def test_the_agents_tools_are_passed_with_its_session(piped):
    await piped.spawn()
    (server,) = piped.seen("session/new")[0]["mcpServers"]
    assert (server["name"], server["args"]) == ("agent-relay", ["mcp"])
    assert os.access(server["command"], os.X_OK)
    assert {"RELAY_AGENT_TOKEN", "RELAYBROKER_URL"} <= {one["name"] for one in server["env"]}


async def test_its_question_is_answered_by_command_and_the_log_says_what_was_chosen(piped):
    await piped.spawn()
    await piped.made.post("ann", "please DO:ask")
    await piped.made.until_api(lambda found: found["agents"][0]["blocked_by"] == "permission", "it asks")
    held = await piped.made.post("ann", "behind it")
    await piped.made.until_api(
        lambda found: found["agents"][0].get("waiting_reason") == "blocked_by_question", "the next one waits"
    )
    (asked,) = json.loads(piped.made.command("agent", "questions", "--json").stdout)
    assert [option["label"] for option in asked["options"]] == ["Allow once", "Reject"]
    assert "touch a file" in piped.made.command("agent", "answer", "ann").stdout
    assert "chose 'Allow once'" in piped.made.command("agent", "answer", "ann", "allow").stdout
    await piped.prompted("behind it")
    await piped.settled()
    assert "door acp" in piped.why(held)
    assert "worker.question_answered.v1" in piped.made.command("log", "grep", "--text", "Allow once").stdout


async def test_a_killed_broker_changes_nothing(piped):
    """F032: a turn goes on, and its end is reported to the next broker."""
    await piped.spawn()
    message = await piped.made.post("ann", "please DO:ask")
    await piped.made.until_api(lambda found: found["agents"][0]["blocked_by"] == "permission", "it asks")
    piped.made.kill_broker()
    await piped.made.start()
    piped.made.command("agent", "answer", "ann", "reject")
    await piped.settled()
    assert len(piped.prompts("please")) == 1
    assert "door acp, turn session" in piped.why(message)
    assert "in_doubt" not in piped.why(message)


@pytest.mark.parametrize("whose", ["program", "host"])
async def test_what_a_killed_program_has_in_its_conversation_is_not_handed_over_again(piped, whose):
    """LOOKED-UP, TYPED-ONCE, F033: the session is loaded again, and its replay has the message."""
    await piped.spawn(restart_policy={"enabled": True, "cooldown_ms": 100})
    message = await piped.made.post("ann", "a long one DO:wait")
    await piped.prompted("a long one")
    pid = (await piped.made.status())["agents"][0]["pid"]
    os.kill(pid if whose == "program" else piped.made.host_pid(), signal.SIGKILL)
    await piped.made.until(lambda: piped.seen("session/load"), "the conversation is loaded")
    await piped.settled()
    after = await piped.made.post("ann", "the next one")
    await piped.prompted("the next one")
    await piped.settled()
    assert len(piped.prompts("a long one")) == 1
    assert "found in its records after doubt" in piped.why(message)
    assert {one["sessionId"] for one in piped.seen("session/prompt")} == {piped.seen("session/load")[0]["sessionId"]}
    assert "door acp" in piped.why(after)


async def test_an_agent_for_one_task_is_released_when_its_turn_has_ended(piped):
    await piped.spawn(task="the task reply", spawn_mode="task_exit", idle_threshold_secs=1)
    await piped.prompted("the task")
    await piped.made.until_api(lambda found: not found["agents"], "it is released")
    assert "task_done" in piped.made.command("log", "grep", "--reason", "task_done").stdout


async def test_a_known_program_is_started_headless_by_its_name_alone(piped):
    folder = piped.made.folder / "bin"
    folder.mkdir()
    program = folder / "opencode"
    program.write_text(f'#!/bin/sh\n[ "$1" = acp ] || exit 9\nexec {sys.executable} {PROGRAM} 1 {piped.kept}\n')
    program.chmod(0o755)
    spawned = await piped.spawn(cli=str(program), doors=None, transport="headless")
    assert spawned["runtime"] == "headless"
    await piped.made.post("ann", "hello")
    await piped.prompted("hello")
    await piped.settled()


async def test_a_program_that_does_not_speak_it_fails_its_spawn_and_says_why(piped):
    body = {"name": "ann", "cli": "sh -c 'echo no such option >&2; exit 2'", "doors": ["acp"]}
    status, answer = await piped.made.api("POST", "/api/spawn", body)
    assert status >= 400
    assert "no such option" in answer["message"]


@pytest.mark.slow
async def test_kills_of_broker_host_and_program_at_random_moments_lose_and_repeat_nothing(piped):
    """LOOKED-UP, TYPED-ONCE: what nobody can know is told to be so, and nothing else is settled by policy."""
    moments = random.Random(SEED)
    await piped.spawn(
        restart_policy={"enabled": True, "cooldown_ms": 100, "max_restarts": 50, "max_consecutive_failures": 50}
    )
    kills = ["broker"] * 5 + ["host"] * 2 + ["program"] * 3
    moments.shuffle(kills)
    sent = []
    for number, whose in enumerate(kills):
        sent += [await piped.made.post("ann", f"round {number}, message {one} reply") for one in range(4)]
        await asyncio.sleep(moments.uniform(0.0, 0.5))  # the moment of the kill
        if whose == "broker":
            piped.made.kill_broker()
            await piped.made.start()
        elif whose == "host":
            os.kill(piped.made.host_pid(), signal.SIGKILL)
        else:
            await piped.made.until_api(lambda found: found["agents"] and found["agents"][0]["pid"], "it runs")
            os.kill((await piped.made.status())["agents"][0]["pid"], signal.SIGKILL)
    await piped.settled()
    prompted = Counter(found for one in piped.seen("session/prompt") for found in ID.findall(one["prompt"][0]["text"]))
    assert set(prompted) <= set(sent)
    assert not [one for one, times in prompted.items() if times > 1]
    letters = json.loads(piped.made.command("dead-letters", "ls", "--json").stdout)
    letters = letters["dead_letters"] if isinstance(letters, dict) else letters
    in_doubt = {letter["message_id"] for letter in letters}
    assert set(sent) - set(prompted) <= in_doubt, "what never arrived is told"
    for one in in_doubt:
        assert "unknowable" in piped.why(one)
