"""The broker with a Claude Code without terminal (`--door stream_json`): everything enters by its pipes, once, on its own word."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.agents.bench import Bench
from tests.agents.conftest import Opener
from tests.agents.terminal import processes_with
from tests.agents.test_answers import _answer as answer
from tests.agents.test_doors import asked, looked_up, why
from tests.agents.test_people import HELD_S
from tests.agents.test_tools import SEARCHES

Headless = Callable[..., Bench]
RESTARTS = {"enabled": True, "max_restarts": 20, "cooldown_ms": 200, "max_consecutive_failures": 20}


@pytest.fixture
def headless(opened: Opener) -> Headless:
    """`headless()` -> a broker with Claude Code as agent w1, without terminal."""

    def make(*arguments: str, **more: object) -> Bench:
        bench = opened("", *arguments)
        if bench.program != "claude":
            pytest.skip("not Claude Code")
        bench.spawn(doors=["stream_json"], **more)
        bench.until(lambda: bench.agent()["ready"], 70, "ready")
        return bench

    return make


def expect_once(bench: Bench, identifier: str, limit_s: float = 60) -> None:
    """It arrived at the model exactly once and is acknowledged on the program's word."""
    bench.until_arrived([identifier], limit_s)
    bench.until_acked([identifier], 30)
    assert bench.arrivals()[identifier] == 1, bench.account()
    proved(bench, identifier)


def proved(bench: Bench, identifier: str) -> None:
    told = why(bench, identifier)
    assert "door stream_json, lifecycle" in told, told


@pytest.mark.holds(
    "its own door, without terminal, by the broker: idle, busy, 20 messages, each once, acknowledged on its word"
)
def test_messages_enter_once_each(headless: Headless) -> None:
    bench = headless()
    for text in ("first words", "/quit is a word here", "two\nlines"):
        identifier = bench.send(text)
        expect_once(bench, identifier)
    sent = [bench.send(f"{'DELAY 2 ' if number == 3 else ''}number {number} of twenty") for number in range(20)]
    bench.until_acked(sent, 200)
    bench.until_arrived(sent, 30)
    assert {bench.arrivals()[one] for one in sent} == {1}, bench.account()
    for one in sent:
        proved(bench, one)
    assert "ACK" in bench.screen(), "its transcript shows what it said"


@pytest.mark.holds("its own door, without terminal, by the broker, steer: ends the turn that runs and enters")
def test_a_message_that_steers_does_not_wait(headless: Headless) -> None:
    bench = headless()
    first = bench.send("DELAY 60 a very long thought")
    bench.until_acked([first], 30)
    second = bench.send("stop that", mode="steer")
    bench.until_acked([second], 40)
    thoughts = [one for one in bench.model.requests(bench.since) if one["main"] and first in one["ids"]]
    assert not any(one.get("seconds", 0) >= 60 for one in thoughts), "it waited for the end of the turn"
    bench.until_arrived([second], 30)


@pytest.mark.holds(
    "its own door, without terminal, by the broker: agent answer answers a permission, and who answered is recorded"
)
@pytest.mark.parametrize("allows", [True, False], ids=["allow", "deny"])
def test_a_permission_is_answered_by_name(headless: Headless, tmp_path: Path, *, allows: bool) -> None:
    bench = headless()
    marker = tmp_path / "allowed"
    bench.send(f"RUNSHELL touch {marker}")
    one = asked(bench)
    assert one["origin"] == "stream_json", one
    assert any(str(marker) in line for line in one["text"]), one
    held = bench.send("behind the question")
    bench.stays(lambda: held not in bench.acked(), HELD_S, "it is held")
    assert not marker.exists()
    answer(bench, "Yes, once" if allows else "No, and go on")
    bench.until_acked([held], 60)
    bench.until_arrived([held], 30)
    assert marker.exists() == allows
    assert bench.run("log", "grep", "--topic", "worker.question_answered.v1", "--json").count('"by"') == 1


@pytest.mark.holds(
    "its own door, without terminal, broker killed (-9) amid messages and a question: each once; asked on, answered"
)
def test_a_killed_broker_changes_nothing(headless: Headless, tmp_path: Path) -> None:
    bench = headless()
    bench.meet()
    sent: list[str] = []
    for kill in range(3):
        posted = {bench.post(f"round {kill}, number {number}") for number in range(4)}
        sent += posted
        bench.until(lambda posted=posted: bench.arrivals().keys() & posted, 60, "some of them are at the model")
        bench.kill()
        bench.up()
    bench.until(lambda: all(why(bench, one).startswith("ACKED") for one in sent), 120, "all are acknowledged")
    assert {bench.arrivals()[one] for one in sent} == {1}, bench.account()
    marker = tmp_path / "allowed"
    bench.send(f"RUNSHELL touch {marker}")
    before = asked(bench)
    bench.kill()
    bench.up()
    assert asked(bench) == before
    answer(bench, "1")
    bench.until(marker.exists, 30, "it was allowed")


@pytest.mark.holds(
    "its own door, without terminal, program killed (-9) before it took what it was handed: looked up; the conversation goes on"
)
def test_what_a_killed_program_never_took_is_absent_and_goes_to_the_next(headless: Headless) -> None:
    bench = headless(restart_policy=RESTARTS)
    expect_once(bench, bench.send("before"))
    taker = int(bench.agent()["pid"])
    os.kill(taker, signal.SIGSTOP)
    identifier = bench.send("to a stopped program")
    bench.until(lambda: "delivery.injecting" in why(bench, identifier), 30, "it is handed over")
    os.kill(taker, signal.SIGKILL)
    told = bench.until(lambda: looked_up(bench, identifier), 120, "it is looked up")
    assert "absent" in told, told
    expect_once(bench, identifier, 90)
    (transcript,) = (bench.home.home / ".claude/projects").rglob("*.jsonl")
    assert "before" in transcript.read_text(), "one conversation"


@pytest.mark.holds(
    "its own door, without terminal, host killed (-9) behind a hand-over: looked up, accepted, acknowledged"
)
def test_what_was_taken_while_its_host_died_is_looked_up_and_acknowledged(headless: Headless) -> None:
    bench = headless(restart_policy=RESTARTS)
    expect_once(bench, bench.send("before"))
    taker, host = int(bench.agent()["pid"]), int(next(bench.state.glob("host-*.pid")).read_text())
    os.kill(taker, signal.SIGSTOP)
    identifier = bench.send("DELAY 3 while the host dies")
    bench.until(lambda: "delivery.injecting" in why(bench, identifier), 30, "it is handed over")
    os.kill(host, signal.SIGSTOP)
    os.kill(taker, signal.SIGCONT)
    bench.until_arrived([identifier], 30)
    folder = bench.home.home / ".claude/projects"
    bench.until(
        lambda: any(identifier in file.read_text() for file in folder.rglob("*.jsonl")), 10, "it is written down"
    )
    os.kill(host, signal.SIGKILL)
    told = bench.until(lambda: looked_up(bench, identifier), 120, "it is looked up")
    assert told.startswith("ACKED"), told
    assert "accepted" in told, told
    assert bench.arrivals()[identifier] == 1, bench.account()


@pytest.mark.holds("its own door, without terminal: transport headless of the local API starts it by its name")
def test_a_headless_spawn_starts_it_by_its_name(opened: Opener) -> None:
    bench = opened()
    if bench.program != "claude":
        pytest.skip("not Claude Code")
    bench.spawn(transport="headless")
    bench.until(lambda: bench.agent()["ready"], 70, "ready")
    assert bench.agent()["door"] == "stream_json"
    expect_once(bench, bench.send("to a headless one"))


@pytest.mark.holds("its own door, without terminal: the agent's tools are there")
def test_its_tools_are_there(headless: Headless) -> None:
    bench = headless()
    bench.meet()
    expect_once(
        bench,
        bench.post(f'CALLTOOL {SEARCHES["claude"]} {{"query": "select:mcp__agent-relay__send_dm", "max_results": 3}}'),
    )
    bench.post('CALLTOOL send_dm {"to": "planner", "text": "pong"}')
    one = asked(bench)
    assert any("pong" in line for line in one["text"]), one
    answer(bench, "1")
    bench.until(lambda: any(said["text"] == "pong" for said in bench.talks()), 60, "planner has the answer")


@pytest.mark.holds("its own door, without terminal: nothing of it outlives its agent")
def test_nothing_of_it_outlives_its_agent(headless: Headless) -> None:
    bench = headless()
    expect_once(bench, bench.send("the last words"))
    ours = set(processes_with("HOME", str(bench.home.home)))
    assert int(bench.agent()["pid"]) in ours
    bench.api("DELETE", "/api/spawned/w1")
    bench.until(lambda: not ours & set(processes_with("HOME", str(bench.home.home))), 30, "all have ended")
