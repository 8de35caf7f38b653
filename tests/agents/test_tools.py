"""The tools that a real program gets when it is started: its model uses them, and the program's user loses nothing."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from relaybroker.adapters.sessions.terminal import harnesses
from tests.agents import homes
from tests.agents.bench import Bench
from tests.agents.conftest import Installed, new_folder
from tests.agents.model_server import Model

SEARCHES = {"claude": "ToolSearch", "qwen": "tool_search"}
"""Programs that show their model a tool only after it was searched for; a model that is asked in earnest does so by itself."""


@pytest.fixture
def answering(installed: Installed, model: Model) -> Iterator[Bench]:
    """A broker whose operator lets agents use their tools, and one that is ready."""
    if harnesses.profile_for([installed.program]).mcp is None:
        pytest.skip(f"{installed.program}: it is not known yet how it takes tools")
    folder = new_folder()
    home = homes.make(installed, folder / "place", model.url)
    bench = Bench(folder, model, home, RELAYBROKER_AUTO_ANSWER="mcp-approval")
    bench.up()
    try:
        bench.spawn()
        bench.until_composer()
        bench.until(lambda: bench.agent()["ready"], 70, "ready")
        bench.meet()
        yield bench
    finally:
        bench.close()


@pytest.mark.holds("answers with its own tools, unattended")
def test_a_model_answers_with_the_agents_tools(answering: Bench) -> None:
    bench = answering
    if (search := SEARCHES.get(bench.program)) is not None:
        search_call = bench.post(f'CALLTOOL {search} {{"query": "select:mcp__agent-relay__send_dm", "max_results": 3}}')
        bench.until_arrived([search_call], 30)
        bench.until_acked([search_call], 30)
    send = '{"to": "planner", "text": "pong"}'
    through = f'tool_call {{"name": "mcp__agent-relay__send_dm", "arguments": {send}}}'
    bench.post(f"CALLTOOL {through}" if bench.program == "qwen" else f"CALLTOOL send_dm {send}")
    bench.until(partial(_has_answered, bench, "pong"), 60, "planner has the answer")
    pid = int(bench.agent()["pid"])
    token = dict(pair.partition("=")[::2] for pair in Path(f"/proc/{pid}/environ").read_text().split("\0") if pair)[
        "RELAY_AGENT_TOKEN"
    ]
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert token.encode() not in entry.read_bytes(), entry
        except FileNotFoundError:
            continue
    for path in bench.home.project.rglob("*"):
        assert not path.is_file() or token.encode() not in path.read_bytes(), path


def _has_answered(bench: Bench, text: str) -> bool:
    return any(one["text"] == text for one in bench.talks())
