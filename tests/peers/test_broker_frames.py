"""Every frame that the broker sends passes the published schemas, npm `@relaycast/types` 5.0.5.

Source: spec/engine-contract.md section 12.5; invariant N10.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from relaybroker.agents.harness import harness_of
from relaybroker.domain import frames, inputs
from tests.waiting import WAIT_S
from tests.world import World

SCRIPT = Path(__file__).parent / "scripts" / "check_frames.mjs"


@pytest.mark.peers
async def test_every_frame_of_a_busy_session_parses(npm_package, tmp_path):
    project = await asyncio.to_thread(npm_package, "@relaycast/types", "5.0.5")
    said = _frames_of_a_broker()
    assert {frame["type"] for frame in said} == {
        "node.register", "node.heartbeat", "node.deregister", "agent.register", "agent.deregister", "delivery.ack",
        "action.result", "inventory.sync",
    }  # fmt: skip
    path, script = tmp_path / "frames.jsonl", project / SCRIPT.name
    path.write_text("".join(json.dumps(frame) + "\n" for frame in said))
    await asyncio.to_thread(shutil.copy, SCRIPT, script)
    process = await asyncio.create_subprocess_exec(
        "node", str(script), str(path), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), WAIT_S)
    assert process.returncode == 0, err.decode()
    assert json.loads(out) == {"checked": len(said), "refused": []}


def _frames_of_a_broker() -> list[frames.Frame]:
    """Everything a broker says in a session with spawns, deliveries, actions, a reconnect and a stop."""
    world = World()
    world.broker._harness_of = harness_of
    world.start()
    world.online()
    world.spawn("w1", cli="claude", session_ref="7d9f1c1e-6a0b-4f6e-9a52-0d9c1f2e3a4b")
    world.deliver("w1", 1)
    world.frame(type="action.invoke", invocation_id="inv_1", action="spawn:cat", input={"name": "w2"})
    world.accept("w2")
    world.advance(0.3)
    world.frame(type="action.invoke", invocation_id="inv_2", action="echo", input={})
    world.tell(inputs.ReleaseRequested(request_id="r", name="w2"))
    world.tell(inputs.LinkClosed(dial=world.broker.state.link.dial, code=1006, detail="eof"))
    world.advance(3)
    world.online()
    world.tell(inputs.ShutdownRequested(reason="SIGTERM"))
    return world.frames
