"""The program's own sessions: the one that a spawn is answered with is the one that the program has, and resumes."""

from __future__ import annotations

import os
import signal

import pytest

from tests.agents.bench import Bench
from tests.agents.conftest import Opener
from tests.agents.install import Installed
from tests.agents.test_messages import expect_once

BEGINS = ("claude",)
"""Programs that take the id of a new session."""


def _session(bench: Bench) -> str:
    """The id of the program's own session: as it was answered, else as the program has written it down."""
    if bench.program in BEGINS:
        return str(bench.agent()["sessionId"])
    written = bench.until(lambda: list(bench.home.home.rglob("rollout-*.jsonl")), 20, "it writes its session down")
    return str(written[0].stem)[-36:]


def _ready(bench: Bench) -> None:
    bench.until_composer(limit_s=60)
    bench.until(lambda: bench.agent().get("ready"), 70, "ready")


def _said(bench: Bench, text: str) -> str:
    """The id of a message that has arrived at the model."""
    identifier = bench.send(text)
    expect_once(bench, identifier, text, 60)
    return identifier


def _remembers(bench: Bench, former: str, newest: str) -> bool:
    """Whether the model was shown the former message beside the newest one."""
    return any({former, newest} <= one["ids"].keys() for one in bench.model.requests(bench.since) if one["main"])


@pytest.mark.holds("a session is resumed by its id, with its history")
def test_a_session_is_resumed_by_its_id(installed: Installed, opened: Opener) -> None:
    if installed.program not in (*BEGINS, "codex"):
        pytest.skip(f"nobody knows where {installed.program} writes its sessions down")
    bench = opened()
    bench.spawn()
    _ready(bench)
    former = _said(bench, "remember the heron")
    session = _session(bench)
    bench.until(lambda: bench.agent()["current_state"] != "working", 30, "it has answered")
    bench.api("DELETE", "/api/spawned/w1")
    bench.spawn(session_id=session)
    assert bench.agent()["sessionId"] == session
    _ready(bench)
    assert _remembers(bench, former, _said(bench, "and now?"))


@pytest.mark.holds("killed under a restart policy: goes on with its session")
@pytest.mark.parametrize("typed", [True, False], ids=["spoken to", "not spoken to"])
def test_a_program_that_is_started_again_goes_on_with_its_session(
    installed: Installed, opened: Opener, typed: bool
) -> None:
    if installed.program not in BEGINS:
        pytest.skip(f"{installed.program} makes its ids itself")
    bench = opened()
    bench.spawn(restart_policy={"enabled": True, "cooldown_ms": 100})
    _ready(bench)
    first = _said(bench, "remember the heron") if typed else ""
    former = bench.agent()
    os.kill(former["pid"], signal.SIGKILL)
    bench.until(lambda: bench.agent()["pid"] not in (None, former["pid"]), 30, "it runs again")
    _ready(bench)
    assert bench.agent()["sessionId"] == former["sessionId"]
    newest = _said(bench, "and now?")
    assert not typed or _remembers(bench, first, newest)
