"""The demo is what newcomers run first: it must be true."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.waiting import WAIT_S


@pytest.mark.slow
def test_the_demo_loses_nothing_and_ends_with_its_figures():
    done = subprocess.run(
        [sys.executable, "-m", "relaybroker", "demo"], capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.strip().splitlines()[-1])
    assert list(figures) == ["sent", "typed", "shown", "acked", "lost", "typed_twice", "ran", "agents_alive", "seconds"]
    assert figures["sent"] == figures["typed"] + figures["shown"] == figures["acked"] > 250
    assert figures["typed"] > figures["shown"] > 80
    assert (figures["lost"], figures["typed_twice"], figures["ran"], figures["agents_alive"]) == (0, 0, 0, True)
    assert "ACKED" in done.stdout
    assert "evidence: read" in done.stdout
