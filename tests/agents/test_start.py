"""Ready soon after the composer shows, never before; what is asked at the start holds every message and is named."""

from __future__ import annotations

import time

import pytest

from tests.agents import homes, install
from tests.agents.bench import Bench
from tests.agents.composers import composer
from tests.agents.conftest import Opener
from tests.agents.questions import START
from tests.agents.terminal import Screen

READY_S = 5.0
HELD_S = 8.0


@pytest.mark.holds("ready at most 5 s after its composer shows, not before")
def test_ready_soon_after_the_composer_shows(opened: Opener) -> None:
    bench = opened()
    shown: list[float] = []

    def note(screen: Screen, now: float) -> None:
        """When the composer that is still there came up."""
        if composer(bench.program, screen) is None:
            shown.clear()
        elif not shown:
            shown.append(now)

    bench.spawn()
    bench.tap().on_output.append(note)
    bench.until(lambda: bench.agent()["ready"], 75, "ready")
    ready = time.monotonic()
    bench.until_composer()
    assert shown[0] - 0.3 < ready <= shown[0] + READY_S, f"ready {ready - shown[0]:.1f} s after the composer showed"


@pytest.mark.parametrize("case", sorted({case for one in install.PROGRAMS for case in homes.cases(one)}))
def test_a_question_at_the_start_holds_messages(
    opened: Opener, installed: install.Installed, case: str, request: pytest.FixtureRequest
) -> None:
    if (shows := START.get((installed.program, case))) is None or case in ("offline", "onboarding"):
        pytest.skip(f"{installed.program} has no such start")
    request.node.add_marker(pytest.mark.holds(f"start, {case}: held and named"))
    bench = opened(case)
    bench.spawn()
    bench.until(lambda: all(_shows(bench, one) for one in shows), 40, f"the question: {shows}")
    identifier = bench.send("please begin")
    bench.until(lambda: bench.agent().get("blocked_by"), 5, "the broker names what it found")
    bench.stays(
        lambda: bench.agent() and not bench.acked() and all(_shows(bench, one) for one in shows), HELD_S,
        f"{shows} is on the screen, nothing acknowledged",
    )  # fmt: skip
    assert bench.agent()["blocked_by"], bench.account()
    assert identifier not in bench.arrivals()


def _shows(bench: Bench, text: str) -> bool:
    with bench.tap().lock:
        return "".join(text.split()) in bench.tap().screen.flat
