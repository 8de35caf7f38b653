"""Real programs without terminal, by the door `acp`: what is sent enters once and is acknowledged on the program's own word."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.agents.bench import Bench
from tests.agents.conftest import Opener
from tests.agents.test_tools import SEARCHES

OPTIONS = {
    "opencode": ("acp",),
    "gemini": ("--experimental-acp",),
    "qwen": ("--acp",),
    "copilot": ("--acp",),
}
"""Program -> the options with which it speaks the protocol."""
HELD_S = 3.0

Piped = Callable[..., Bench]


@pytest.fixture
def piped(opened: Opener) -> Piped:
    """`piped()` -> a broker with the program as agent w1, without terminal, its session open."""

    def make(**more: Any) -> Bench:
        bench = opened("")
        if bench.program not in OPTIONS:
            pytest.skip("it does not speak the Agent Client Protocol")
        bench.home = bench.home._replace(argv=[*bench.home.argv, *OPTIONS[bench.program]])
        bench.spawn(doors=["acp"], **more)
        bench.until(lambda: bench.agent().get("ready"), 90, "ready")
        return bench

    return make


def why(bench: Bench, identifier: str) -> str:
    return bench.run("why", identifier, fails=True)


def expect_once(bench: Bench, identifier: str, limit_s: float = 40) -> str:
    """It is at the model once, and acknowledged through the door; what `why` says."""
    bench.until_arrived([identifier], limit_s)
    bench.until_acked([identifier], limit_s)
    told = why(bench, identifier)
    assert "door acp, " in told, told
    assert bench.arrivals()[identifier] == 1, bench.account()
    return told


def screen(bench: Bench) -> str:
    """The transcript, as the local API shows it."""
    return str(bench.api("GET", "/api/spawned/w1/snapshot")["screen"])


def posts_once(bench: Bench, sent: list[str], limit_s: float) -> None:
    bench.until(lambda: all(why(bench, one).startswith("ACKED") for one in sent), limit_s, "all are acknowledged")
    bench.until_arrived(sent, 30)
    assert {bench.arrivals()[one] for one in sent} == {1}, bench.account()


@pytest.mark.holds("its own door, by the broker, idle: once, acknowledged on the program's word")
def test_a_message_enters_and_why_names_the_evidence(piped: Piped) -> None:
    bench = piped()
    for text in ("first words", "/quit is a word here", "two\nlines"):
        identifier = bench.send(text)
        assert ": end_turn" in expect_once(bench, identifier)
        bench.until(lambda: "ACK" in screen(bench), 10, "the transcript shows the answer")
    assert bench.agent()["runtime"] == "headless"


@pytest.mark.holds("its own door, by the broker, busy: waits, then once")
def test_a_message_to_a_busy_program_waits_for_the_end_of_its_turn(piped: Piped) -> None:
    bench = piped()
    first = bench.send("DELAY 6 a long thought")
    bench.until_arrived([first], 40)
    second = bench.send("behind a long thought")
    bench.until(lambda: bench.agent().get("waiting_reason") == "agent_busy", 8, "it waits for a busy agent")
    assert second not in bench.arrivals()
    expect_once(bench, second)
    expect_once(bench, first)


@pytest.mark.holds("its own door, by the broker, steer: ends the turn, is the next one")
def test_a_message_that_steers_ends_the_turn(piped: Piped) -> None:
    bench = piped()
    expect_once(bench, bench.send("before"))
    first = bench.send("DELAY 60 a very long thought")
    bench.until_arrived([first], 40)
    begun = time.monotonic()
    second = bench.send("stop that", mode="steer")
    bench.until_arrived([second], 40)
    assert time.monotonic() - begun < 45, "it waited for the end of the turn"
    bench.until_acked([first, second], 40)
    assert "cancelled" in why(bench, first)


@pytest.mark.holds("its own door, by the broker: a question holds messages, its answer frees them")
def test_a_permission_is_answered_by_command(piped: Piped, tmp_path: Path) -> None:
    bench = piped()
    marker = tmp_path / "allowed"
    first = bench.send(f"RUNSHELL touch {marker}")
    bench.until(lambda: bench.agent().get("blocked_by") == "permission", 40, "it asks")
    (asked,) = json.loads(bench.run("agent", "questions", "--json"))
    assert any(one.get("kind") == "allow_once" for one in asked["options"]), asked
    second = bench.send("behind the question")
    bench.stays(lambda: second not in bench.acked() | bench.arrivals().keys(), HELD_S, "it is held")
    assert not marker.exists()

    def allowed() -> bool:
        """It may ask several things for one command."""
        for one in json.loads(bench.run("agent", "questions", "--json")):
            once = next(option for option in one["options"] if option.get("kind") == "allow_once")
            bench.run("agent", "answer", "w1", once["key"], fails=True)
        return marker.exists()

    bench.until(allowed, 60, "what was allowed is done")
    for one in (first, second):
        expect_once(bench, one, 60)


@pytest.mark.holds("its own door: a permission that is refused is not used")
def test_what_a_person_refuses_is_not_done(piped: Piped, tmp_path: Path) -> None:
    bench = piped()
    marker = tmp_path / "refused"
    first = bench.send(f"RUNSHELL touch {marker}")
    bench.until(lambda: bench.agent().get("blocked_by") == "permission", 40, "it asks")
    (asked,) = json.loads(bench.run("agent", "questions", "--json"))
    never = next(one for one in asked["options"] if str(one.get("kind")).startswith("reject"))
    bench.run("agent", "answer", "w1", never["key"])
    bench.until_acked([first], 60)
    assert not marker.exists()


@pytest.mark.holds("its own door, by the broker: 20 messages, each once")
def test_twenty_messages_enter_once_each(piped: Piped) -> None:
    bench = piped()
    posts_once(bench, [bench.send(f"number {number} of twenty") for number in range(20)], 240)


@pytest.mark.holds("its own door, broker killed (-9) amid hand-overs: each once, with evidence")
def test_a_killed_broker_changes_nothing(piped: Piped) -> None:
    bench = piped()
    bench.meet()
    sent: list[str] = []
    for kill in range(3):
        posted = {bench.post(f"round {kill}, number {number}") for number in range(3)}
        sent += posted
        bench.until(lambda posted=posted: bench.arrivals().keys() & posted, 60, "some of them are at the model")
        bench.kill()
        bench.up()
    posts_once(bench, sent, 180)
    assert all("door acp" in why(bench, one) for one in sent)


@pytest.mark.parametrize(
    "whose",
    [
        pytest.param(
            "program",
            marks=pytest.mark.holds("its own door, program killed (-9) amid a turn: its conversation goes on, nothing twice"),
        ),
        pytest.param(
            "host", marks=pytest.mark.holds("its own door, host killed (-9) amid a turn: its conversation goes on, nothing twice")
        ),
    ],
)  # fmt: skip
def test_a_crash_amid_a_turn_repeats_nothing(piped: Piped, whose: str) -> None:
    """The look-up finds it in the loaded conversation, or says that nobody can know: never is it handed over again unasked."""
    bench = piped(restart_policy={"enabled": True, "cooldown_ms": 200})
    begun = time.time() // 60
    before = bench.send("before the crash")
    expect_once(bench, before)
    identifier = bench.send("DELAY 100 amid the crash")
    bench.until_arrived([identifier], 40)
    if bench.program == "gemini":  # it writes over a session that is loaded in the minute in which it began (0.61.0)
        bench.until(lambda: time.time() // 60 > begun, 61, "another minute")
    pid = int(bench.agent()["pid"])
    victim = pid if whose == "program" else int(next(bench.state.glob("host-*.pid")).read_text())
    os.kill(victim, signal.SIGKILL)
    told = bench.until(lambda: _looked_up(bench, identifier), 120, "it is looked up")
    assert "accepted" in told or "unknowable" in told, told
    bench.until(lambda: bench.agent().get("ready") and bench.agent()["pid"] != pid, 90, "the next program")
    since = len(bench.model.requests())
    after = bench.send("after the crash")
    expect_once(bench, after, 90)
    later = [one["ids"] for one in bench.model.requests(since) if one["main"] and after in one["ids"]]
    assert any(before in known for known in later), "the conversation goes on"
    assert bench.arrivals()[identifier] == 1, bench.account()


def _looked_up(bench: Bench, identifier: str) -> str:
    told = why(bench, identifier)
    return told if "delivery.looked_up" in told else ""


@pytest.mark.holds("its own door: a person at its transcript prompts and interrupts")
def test_a_person_types_at_the_transcript(piped: Piped) -> None:
    bench = piped()
    bench.keys("words of a person\r")
    bench.until(lambda: any("words of a person" in one for one in bench.prompts()), 40, "the prompt is at the model")
    bench.until(lambda: "ACK" in screen(bench), 20, "the answer is shown")
    bench.keys("DELAY 60 a long thought\r")
    bench.until(lambda: any("DELAY 60" in one for one in bench.prompts()), 40, "it works")
    begun = time.monotonic()
    bench.keys("\x03")
    bench.until(lambda: "cancelled" in screen(bench), 30, "the turn ended")
    assert time.monotonic() - begun < 45
    expect_once(bench, bench.send("and a message behind it"))


@pytest.mark.holds("its own door: another id is no evidence")
def test_a_frozen_program_proves_nothing(piped: Piped) -> None:
    bench = piped()
    first = bench.send("before")
    expect_once(bench, first)
    pid = int(bench.agent()["pid"])
    bench.signal(signal.SIGSTOP, pid)
    second = bench.send("to a stopped program")
    bench.until(lambda: "delivery.injecting" in why(bench, second), 30, "it is handed over")
    bench.stays(lambda: second not in bench.acked(), HELD_S, "nothing proves it")
    bench.signal(signal.SIGCONT, pid)
    expect_once(bench, second)


@pytest.mark.holds("its own door: the agent's tools are there")
def test_the_agents_tools_are_there(piped: Piped) -> None:
    bench = piped()
    if bench.program in SEARCHES:
        pytest.skip("it shows its model a tool only after it was searched for")
    known: set[str] = set()
    for _ in range(5):  # some programs begin before their servers have answered
        expect_once(bench, bench.send("hello"))
        known |= {
            str(name) for one in bench.model.requests(bench.since) if one["main"] for name in one.get("tools", ())
        }
    assert any("send_dm" in name for name in known), known


@pytest.mark.holds("its own door: nothing of it outlives its agent")
def test_nothing_outlives_the_agent(piped: Piped) -> None:
    from tests.agents.terminal import processes_with

    bench = piped()
    expect_once(bench, bench.send("hello"))
    bench.run("agent", "release", "w1")
    bench.until(lambda: not processes_with("HOME", str(bench.home.home)), 20, "nothing of it is left")
