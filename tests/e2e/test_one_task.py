"""An agent for one task, on a real broker: it is released when its program is idle after that."""

from __future__ import annotations

import shlex
import sys

from tests.e2e.conftest import AGENTS


async def test_an_agent_for_one_task_gets_it_and_is_released(deployment):
    """F141."""
    notes = deployment.folder / "ann.notes"
    command = shlex.join([sys.executable, str(AGENTS / "note_taker.py"), str(notes)])
    body = {"name": "ann", "cli": command, "task": "count to three", "spawn_mode": "task_exit"}
    status, answer = await deployment.api("POST", "/api/spawn", body | {"idle_threshold_secs": 1})
    assert status == 200, answer
    await deployment.until_api(lambda s: not s["agents"], "it is released")
    assert "count to three" in notes.read_text()
    events = await deployment.until_events(
        lambda events: any(event["kind"] == "agent_released" for event in events), "clients hear of it"
    )
    kinds = [event["kind"] for event in events if event.get("name") == "ann"]
    assert kinds.index("agent_idle") < kinds.index("agent_released")
    assert "agent_exited" not in kinds
    assert "task_done" in deployment.command("why", "ann").stdout
