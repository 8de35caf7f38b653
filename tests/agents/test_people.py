"""A person at the same terminal, a stopped program, an exit, a dead broker."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.agents.bench import Bench, is_alive
from tests.agents.conftest import Opener
from tests.agents.test_messages import expect_once

DRAFT = "fix the parser"
HELD_S = 8.0


@pytest.mark.holds("a person's draft: not typed onto, survives")
def test_nothing_is_typed_onto_a_draft(bench: Bench) -> None:
    bench.typed(DRAFT)
    bench.until_composer(DRAFT, limit_s=15)
    identifier = bench.send("from the broker")
    bench.stays(lambda: bench.composer() == DRAFT and identifier not in bench.acked(), HELD_S, "the draft stays alone")
    bench.keys("\r")
    bench.until(lambda: any(DRAFT in one for one in bench.prompts()), 30, "the draft is at the model")
    assert all("Relay message" not in one for one in bench.prompts() if DRAFT in one), bench.account()
    expect_once(bench, identifier, "from the broker", 60)


@pytest.mark.holds("a draft that is rubbed out: then delivered")
def test_a_draft_that_is_gone_holds_nothing(bench: Bench) -> None:
    bench.typed(DRAFT)
    bench.until_composer(DRAFT, limit_s=15)
    identifier = bench.send("after the draft")
    bench.stays(lambda: bench.composer() == DRAFT, 2, "the draft stays alone")
    for _ in DRAFT:
        bench.keys("\x7f")
    expect_once(bench, identifier, "after the draft")


@pytest.mark.holds("stopped (SIGSTOP): no ack meanwhile, once after")
def test_a_stopped_program_acknowledges_nothing(started: Callable[..., Bench]) -> None:
    bench = started()
    pid = int(bench.agent()["pid"])
    bench.signal(signal.SIGSTOP, pid)
    try:
        identifier = bench.send("while you were stopped")
        bench.stays(lambda: identifier not in bench.acked(), HELD_S, "no ack of a stopped program")
    finally:
        bench.signal(signal.SIGCONT, pid)
    expect_once(bench, identifier, "while you were stopped", 60)


@pytest.mark.holds("suspended (Ctrl-Z): no ack meanwhile, once after")
def test_a_suspended_program_acknowledges_nothing(started: Callable[..., Bench]) -> None:
    bench = started()
    pid = int(bench.agent()["pid"])
    bench.keys("\x1a")
    try:
        bench.until(lambda: _is_stopped(pid), 4, "suspended")
    except AssertionError:
        pytest.skip("it does not stop for Ctrl-Z")
    identifier = bench.send("while you were suspended")
    bench.stays(lambda: identifier not in bench.acked(), HELD_S, "no ack of a suspended program")
    bench.signal(signal.SIGCONT, pid)
    expect_once(bench, identifier, "while you were suspended", 60)


def _is_stopped(pid: int) -> bool:
    """It or a child of it that has the terminal (a program behind a small starter)."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return any(one.status() == psutil.STATUS_STOPPED for one in family)


@pytest.mark.holds("exit: nothing acked that did not arrive")
def test_a_program_that_ends_acknowledges_nothing_more(started: Callable[..., Bench]) -> None:
    bench = started()
    first = bench.send("DELAY 20 and say when you are done")
    bench.until_arrived([first], 40)
    second = bench.send("this can not arrive")
    bench.stays(lambda: second not in bench.acked(), 1, "it waits")
    bench.signal(signal.SIGKILL, int(bench.agent()["pid"]))
    bench.until(lambda: not bench.agent() or not bench.agent().get("ready"), 15, "the broker knows that it is gone")
    kinds = {one["kind"] for one in bench.events() if one.get("message_id") == second}
    assert second in bench.arrivals() or "delivery_injected" not in kinds, bench.account()


@pytest.mark.holds("kill -9 of the broker: 4 of 4 once, agent alive")
def test_a_dead_broker_loses_nothing(started: Callable[..., Bench]) -> None:
    bench = started()
    bench.meet()
    pid = int(bench.agent()["pid"])
    bodies = {bench.post(text): text for text in ("before, one", "before, two")}
    bench.kill()
    bodies |= {bench.post(text): text for text in ("after, one", "after, two")}
    bench.up()
    for identifier, body in bodies.items():
        expect_once(bench, identifier, body, 60)
    assert is_alive(pid)
    assert int(bench.agent()["pid"]) == pid


@pytest.mark.holds("two of one home: each has its own name and token")
def test_two_agents_of_one_home_are_two(opened: Opener) -> None:
    bench = opened()
    if bench.program not in ("codex", "claude", "opencode", "gemini"):
        pytest.skip("tried with programs that run a shell command when a person lets them")
    pids = {name: bench.spawn(name) for name in ("first", "second")}
    for name in pids:
        bench.until_composer(name=name)
        bench.until(partial(_is_ready, bench, name), 75, f"{name} is ready")
    for name in pids:
        since = len(bench.model.requests())
        bench.send("RUNSHELL printenv RELAY_AGENT_NAME RELAY_AGENT_TOKEN", to=name)
        results = bench.until(partial(_results, bench, since, name), 60, f"{name} ran a command")
        token = _environment(pids[name])["RELAY_AGENT_TOKEN"]
        assert name in results, results
        assert token in results, "it acts under another token"


def _is_ready(bench: Bench, name: str) -> bool:
    return bool(bench.agent(name)["ready"])


def _results(bench: Bench, since: int, name: str) -> str:
    """What the shell tool gave; a person approves when it asks."""
    results = [text for one in bench.model.requests(since) for text in one["results"]]
    if not results and any(word in bench.screen(name) for word in ("1. Yes", "1. Allow once", "Allow once")):
        bench.keys("\r", name)
    return "\n".join(results)


def _environment(pid: int) -> dict[str, str]:
    entries = (Path("/proc") / str(pid) / "environ").read_text().split("\0")
    return dict(one.partition("=")[::2] for one in entries if one)
