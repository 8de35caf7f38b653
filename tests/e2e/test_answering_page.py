"""The page "Write an agent that answers" (docs/answering.md) says what works: its programs are run as they stand there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.waiting import WAIT_S

PAGE = (Path(__file__).parents[2] / "docs" / "answering.md").read_text(encoding="utf-8")
PROGRAMS = dict(re.findall(r"<!-- ([\w.]+) -->\n```\w+\n(.*?)```", PAGE, re.DOTALL))


def test_the_agent_of_the_page_answers_in_the_thread(live_broker):
    program = live_broker.folder / "answerer.py"
    program.write_text(PROGRAMS["answerer.py"])
    live_broker.spawn("echo", cli=f"python3 {program}")
    me = live_broker.engine("POST", "/v1/agents", {"name": "lead"})["token"]
    asked = live_broker.engine("POST", "/v1/dm", {"to": "echo", "text": "are you there?"}, token=me)["id"]

    def answered():
        return live_broker.engine("GET", f"/v1/messages/{asked}/replies", token=me)["replies"]

    live_broker.wait(answered, what="the agent answered", about=(asked,))
    (reply,) = answered()
    assert (reply["agent_name"], reply["text"]) == ("echo", "lead, you said: are you there?")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_commands_of_the_page_work_with_an_agents_environment(live_broker):
    live_broker.spawn("w1")
    pid = next(row["pid"] for row in live_broker.api("GET", "/api/spawned")["agents"] if row["name"] == "w1")
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    environment = dict(pair.partition("=")[::2] for pair in pairs if pair)

    def run(name):
        done = subprocess.run(
            ["bash", "-c", PROGRAMS[name]], capture_output=True, text=True, env=environment, timeout=WAIT_S, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    assert run("send.sh")["status"] == "published"
    agents = run("call.sh")["result"]["structuredContent"]["agents"]
    assert "w1" in {row["name"] for row in agents}
