"""The official Python client of the Model Context Protocol, a program that this project did not write, uses a real broker's tools.

Source: spec/conversation.md section 2.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from relaybroker.mcp.tools import EVERYBODYS
from tests.waiting import WAIT_S

pytestmark = pytest.mark.peers
SCRIPT = Path(__file__).parent / "scripts" / "mcp_client.py"
CLIENT = "mcp==2.3.0"


@pytest.fixture
def agent(live_broker):
    """The environment of an agent, with its token and where the broker is."""
    live_broker.spawn("w1")
    pid = next(row["pid"] for row in live_broker.api("GET", "/api/spawned")["agents"] if row["name"] == "w1")
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(pair.partition("=")[::2] for pair in pairs if pair)


@pytest.mark.parametrize(("mode", "version"), [("legacy", "2025-11-25"), ("auto", "2026-07-28")])
def test_the_official_client_lists_and_uses_the_tools_over_http(live_broker, agent, pypi_venv, mode, version):
    python = pypi_venv("mcp-client", CLIENT)
    planner = live_broker.engine("POST", "/v1/agents", {"name": "planner"})["token"]
    report = used(python, mode, f"{agent['RELAYBROKER_URL']}/mcp", agent)
    assert (report["server"], report["version"]) == ("agent-relay", version)
    check(live_broker, report, planner, f"hello over {mode}")


def test_the_official_client_uses_the_tools_over_the_bridge(live_broker, agent, pypi_venv):
    python = pypi_venv("mcp-client", CLIENT)
    planner = live_broker.engine("POST", "/v1/agents", {"name": "planner"})["token"]
    for mode, version in (("legacy", "2025-11-25"), ("auto", "2026-07-28")):
        report = used(python, mode, f"{sys.executable} -m relaybroker mcp", agent)
        assert (report["server"], report["version"]) == ("agent-relay", version)
        check(live_broker, report, planner, f"hello over {mode}")


def used(python, mode, where, agent):
    environment = {"PATH": os.environ["PATH"], "RELAYBROKER_URL": agent["RELAYBROKER_URL"]}
    done = subprocess.run(
        [str(python), str(SCRIPT), mode, where, agent["RELAY_AGENT_TOKEN"]],
        capture_output=True, text=True, timeout=WAIT_S, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def check(live_broker, report, planner, text):
    assert report["tools"] == list(EVERYBODYS)
    assert report["read_only"] == [name for name, tool in EVERYBODYS.items() if tool.changes == "nothing"]
    assert (report["sent"]["status"], report["sent"]["from"]) == ("published", "w1")
    assert report["lost"][0] is True
    assert "nearest: planner" in report["lost"][1]
    assert {"w1", "planner"} <= set(report["agents"])
    last = live_broker.engine("GET", "/v1/dm/conversations", token=planner)[0]["last_message"]
    assert (last["id"], last["text"]) == (report["sent"]["message_id"], text)
