"""An upgrade beside living agents, and the way back: broker and PTY host speak the version before, too."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from relaybroker.adapters.sessions.host.protocol import PROTOCOL_VERSION
from tests.waiting import WAIT_S

ROOT = Path(__file__).parents[2]


@pytest.fixture
def newer(tmp_path):
    """The program as its next version would be: the same, with the next version of the host's protocol."""
    tree = tmp_path / "newer"
    for name in ("domain", "adapters", "relaybroker"):
        leaves_out = shutil.ignore_patterns("__pycache__", "*.pyc")
        shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=leaves_out)
    protocol = tree / "adapters" / "sessions" / "host" / "protocol.py"
    text, changed = re.subn(
        r"^PROTOCOL_VERSION = \d+$",
        f"PROTOCOL_VERSION = {PROTOCOL_VERSION + 1}",
        protocol.read_text(),
        flags=re.MULTILINE,
    )
    assert changed == 1
    protocol.write_text(text)
    asked = "from relaybroker.adapters.sessions.host import protocol as p; print(p.PROTOCOL_VERSION, p.OLDEST_VERSION)"
    told = subprocess.run(
        [sys.executable, "-P", "-c", asked], env={"PYTHONPATH": str(tree)}, capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == [str(PROTOCOL_VERSION + 1), str(PROTOCOL_VERSION)]
    return {"PYTHONPATH": str(tree)}


async def _goes_on(made, *names):
    """What is posted is typed by these agents, and their programs are the same ones."""
    rows = (await made.until_api(lambda found: found["host"]["attached"], "the host is attached"))["agents"]
    assert {row["name"]: row["pid"] for row in rows} == {name: made.pids[name] for name in names}
    for name in names:
        await made.post(name, "hello")
    await made.until(lambda: not made.missing(), "everything is typed")
    assert made.twice() == {}


async def _instead(made, extra):
    made.kill_broker()
    made.extra = extra
    await made.start()
    await made.until_api(lambda found: found["link"]["state"] == "online", "online")


async def test_agents_live_on_over_an_upgrade_and_over_the_way_back(deployment, newer):
    made = deployment
    await made.spawn("ann")
    await _goes_on(made, "ann")
    await _instead(made, newer)  # a newer broker, the host of before
    await made.spawn("ben")
    await _goes_on(made, "ann", "ben")
    said = "".join(path.read_text() for path in (made.folder / "log").rglob("*.log"))
    assert f"version {PROTOCOL_VERSION} is spoken with it" in said
    await _instead(made, {})
    await _goes_on(made, "ann", "ben")


async def test_a_broker_of_the_version_before_goes_on_with_a_newer_host(tmp_path, make_deployment, newer):
    made = make_deployment(tmp_path, **newer)
    made.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=WAIT_S))
    try:
        await made.start()
        await made.meet()
        await made.spawn("cay")
        await _goes_on(made, "cay")
        await _instead(made, {})
        await made.spawn("dan")
        await _goes_on(made, "cay", "dan")
    finally:
        await made.close()
