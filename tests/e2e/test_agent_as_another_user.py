"""SECURITY.md: an agent that runs as another user gets its messages, and nothing of the broker's is open to it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

NOBODY = "65534"
AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="only root can start a program as another user without being asked",
)


def _as_nobody(*words):
    return subprocess.run([*AS_NOBODY, *words], capture_output=True, text=True, cwd="/", check=False)


def test_an_agent_of_another_user_gets_its_messages_and_reads_nothing_of_the_broker(live_broker):
    agent = live_broker.spawn("w1", cli=" ".join([*AS_NOBODY, "cat"]))["pid"]
    assert f"Uid:\t{NOBODY}\t" in Path(f"/proc/{agent}/status").read_text()
    live_broker.expect_acked(live_broker.deliver("w1", "for another user"))

    broker = next(iter(live_broker.state_dir.glob("broker-*.lock"))).read_text().strip()
    for outer in (live_broker.folder, *live_broker.folder.parents):
        if outer.stat().st_uid == os.geteuid() and outer != Path("/"):
            outer.chmod(outer.stat().st_mode | 0o055)  # what is outside of the state directory closes nothing
    private = [path for path in live_broker.state_dir.rglob("*") if path.is_file()]
    assert len(private) > 5
    for path in (*private, f"/proc/{broker}/environ"):
        got = _as_nobody("cat", str(path))
        assert got.returncode != 0, path
        assert "Permission denied" in got.stderr, got.stderr
    assert _as_nobody("kill", "-0", broker).returncode != 0

    assert live_broker.command("agent", "release", "w1").returncode == 0
    live_broker.wait(lambda: not Path(f"/proc/{agent}").exists(), what="the program of the other user has ended")
