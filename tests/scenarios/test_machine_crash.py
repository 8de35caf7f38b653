"""A machine that crashes: broker and host are gone, and the kernel says that it is another run."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest


@pytest.mark.parametrize(("second_run", "is_marked"), [("run_2", True), ("run_1", False)])
async def test_what_may_have_been_typed_before_the_machine_crashed_is_marked(
    make_node, engine, tmp_path, monkeypatch, second_run, is_marked
):
    """TYPED-ONCE, ADR-0082."""
    run = tmp_path / "boot_id"
    run.write_text("run_1\n")
    node = make_node(MACHINE_BOOT=str(run))
    monkeypatch.setattr(node, "_program", lambda: [str(Path(__file__).with_name("machine_run_broker.py"))])
    await node.start()
    await engine.online()
    os.kill(int(next(node.state.glob("host-*.pid")).read_text()), signal.SIGKILL)
    node.kill()
    run.write_text(f"{second_run}\n")
    await node.start()
    await engine.online(2)
    await node.spawn("w1")
    await engine.deliver("w1", 1, "perhaps")
    await node.typed("w1", "perhaps")
    assert ("possible-duplicate" in node.notes("w1")[0]) == is_marked
    assert [one.event.machine_boot for one in node.log("broker.started.v1")] == ["run_1", second_run]
