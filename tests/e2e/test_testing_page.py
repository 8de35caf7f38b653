"""Every example of docs/testing.md and README.md is a user's test, run by a user's pytest."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "docs" / "testing.md", ROOT / "README.md")
BLOCKS = [
    block for page in PAGES for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
]


def user(folder, *contents):
    """A user's pytest on these files, `test_0.py` and so on."""
    for number, content in enumerate(contents):
        (folder / f"test_{number}.py").write_text(content)
    options = ("-rA", "-p", "no:cacheprovider", "-p", "no:asyncio", "-p", "no:randomly", "-W", "error")
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options], cwd=folder, capture_output=True, text=True, check=False
    )


def test_every_example_passes(tmp_path):
    done = user(tmp_path, *BLOCKS)
    passed = Counter(map(int, re.findall(r"^PASSED test_(\d+)\.py::", done.stdout, re.MULTILINE)))
    expected = {
        number: text.count("def test_") + 4 * text.count("range(5)") + text.count("(any_broker)")
        for number, text in enumerate(BLOCKS)
    }
    assert passed == expected, done.stdout + done.stderr


def test_the_page_shows_each_fixture():
    assert {"simulated_broker", "live_broker", "any_broker", "replay_session"} <= set(
        re.findall(r"\w+", " ".join(BLOCKS))
    )


def test_the_plugin_loads_nothing_before_it_is_used():
    program = (
        "import sys, relaybroker.testing.plugin; "
        "print({'relaybroker.domain', 'relaybroker.adapters', 'aiohttp', 'msgspec'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_failure_tells_the_story(tmp_path):
    done = user(tmp_path, BLOCKS[0].replace("broker.restart()", "pass"))
    assert done.returncode == 1
    assert "not within 60 simulated s: acknowledged" in done.stdout
    assert "delivery.acked.v1" in done.stdout or "the log has nothing about" in done.stdout


SAYS_NOTHING = """
def test_simulated(simulated_broker):
    simulated_broker.spawn("w1")
    simulated_broker.expect_acked(simulated_broker.deliver("w1", "hello"))
    assert simulated_broker.typed("w1") == []


def test_live(live_broker):
    live_broker.spawn("w1")
    live_broker.expect_acked(live_broker.deliver("w1", "hello"))
    assert live_broker.typed("w1") == []
"""


def test_any_failed_test_shows_what_its_broker_can_say(tmp_path):
    done = user(tmp_path, SAYS_NOTHING)
    assert "2 failed" in done.stdout
    assert "simulated s; the broker runs; the newest messages:\nACKED: message 25" in done.stdout
    assert "w1@1" in done.stdout
    assert "API listening on" in done.stdout
