"""The demo is what newcomers run first: it must be true."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from relaybroker.demo.agents.talker import QUESTIONS
from tests.waiting import WAIT_S


@pytest.mark.slow
def test_the_demo_loses_nothing_and_ends_with_its_figures():
    done = subprocess.run(
        [sys.executable, "-m", "relaybroker", "demo"], capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.strip().splitlines()[-1])
    assert list(figures) == [
        "said", "said_while_dead", "published_twice", "sent", "typed", "shown", "acked", "lost", "typed_twice", "ran",
        "agents_alive", "seconds",
    ]  # fmt: skip
    assert figures["sent"] == figures["typed"] + figures["shown"] == figures["acked"] > 250
    assert figures["typed"] > figures["shown"] > 80
    assert (figures["lost"], figures["typed_twice"], figures["ran"], figures["agents_alive"]) == (0, 0, 0, True)
    assert "ACKED" in done.stdout
    assert "evidence: read" in done.stdout
    assert (figures["said"], figures["said_while_dead"], figures["published_twice"]) == (12, 2, 0)
    for asker, answerer in (("ada", "bob"), ("bob", "ada")):
        said = [f"{asker}: {question}" for question in QUESTIONS]
        said += [f"{answerer}: {answer.format(name=answerer)}" for answer in QUESTIONS.values()]
        assert [done.stdout.count(f"{text}\n") for text in said] == [1] * 6, done.stdout
        assert done.stdout.count(f"    {asker}: acknowledged\n") == 6
