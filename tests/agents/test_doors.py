"""The broker with the programs' own doors: what is sent enters through them, once, and is acknowledged on the program's own word."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.agents.bench import Bench
from tests.agents.conftest import Opener
from tests.agents.doors import DOORS, question
from tests.agents.install import Installed
from tests.agents.terminal import processes_with
from tests.agents.test_answers import AT_START
from tests.agents.test_answers import _answer as answer
from tests.agents.test_messages import expect_once
from tests.agents.test_people import DRAFT, HELD_S
from tests.agents.test_tools import SEARCHES

Doorway = Callable[..., Bench]


@pytest.fixture
def doorway(opened: Opener) -> Doorway:
    """`doorway()` -> a broker with the program as agent w1, its own door open."""

    def make(*arguments: str) -> Bench:
        bench = opened("", *arguments)
        if bench.program not in DOORS:
            pytest.skip("no door of its own")
        bench.spawn(doors=[DOORS[bench.program]])
        bench.until_composer()
        bench.until(lambda: bench.agent()["ready"], 70, "ready")
        return bench

    return make


def why(bench: Bench, identifier: str) -> str:
    return bench.run("why", identifier, fails=True)


def evidence(bench: Bench, identifier: str) -> str:
    """The kind of evidence with which it entered through the program's own door."""
    told = why(bench, identifier)
    assert f"door {DOORS[bench.program]}" in told, told
    return told


@pytest.mark.holds("its own door, by the broker, idle: once, acknowledged on the program's word")
def test_a_message_enters_through_the_door_and_why_names_the_evidence(doorway: Doorway) -> None:
    bench = doorway()
    for text in ("first words", "/quit is a word here", "two\nlines"):
        identifier = bench.send(text)
        expect_once(bench, identifier, text)
        assert {"claude": "transcript", "codex": "item"}[bench.program] in evidence(bench, identifier)


@pytest.mark.holds("its own door, by the broker, busy: waits, then once")
def test_a_message_to_a_busy_program_waits_for_the_end_of_its_turn(doorway: Doorway) -> None:
    bench = doorway()
    first = bench.send("DELAY 6 a long thought")
    bench.until_acked([first], 30)
    second = bench.send("behind a long thought")
    bench.until(lambda: bench.agent().get("waiting_reason") == "agent_busy", 5, "it waits for a busy agent")
    expect_once(bench, second, "behind a long thought")
    evidence(bench, second)


@pytest.mark.holds("its own door, by the broker, steer: enters while it works")
def test_a_message_that_steers_does_not_wait(doorway: Doorway) -> None:
    bench = doorway()
    first = bench.send("DELAY 60 a very long thought")
    bench.until_acked([first], 30)
    second = bench.send("stop that", mode="steer")
    bench.until_acked([second], 40)
    thoughts = [one for one in bench.model.requests(bench.since) if one["main"] and first in one["ids"]]
    assert not any(one.get("seconds", 0) >= 60 for one in thoughts), "it waited for the end of the turn"
    evidence(bench, second)


@pytest.mark.holds("its own door, by the broker: a draft stays, messages enter beside it")
def test_messages_enter_beside_a_draft(doorway: Doorway) -> None:
    bench = doorway()
    bench.typed(DRAFT)
    bench.until_composer(DRAFT, limit_s=15)
    identifier = bench.send("beside a draft")
    bench.until_arrived([identifier], 30)
    bench.until_acked([identifier], 15)
    bench.until_composer(DRAFT)
    assert not any(DRAFT in one for one in bench.prompts())
    evidence(bench, identifier)


@pytest.mark.holds("its own door, by the broker: a question holds messages, its answer frees them")
def test_a_question_holds_messages(doorway: Doorway, tmp_path: Path) -> None:
    bench = doorway()
    marker = tmp_path / "allowed"
    first = bench.send(question(bench.program, marker))
    bench.until_acked([first], 30)
    bench.until(lambda: bench.agent().get("blocked_by"), 30, "blocked")
    second = bench.send("behind the question")
    bench.stays(lambda: second not in bench.acked() | bench.arrivals().keys(), HELD_S, "it is held")
    assert not marker.exists()

    def answered() -> bool:
        bench.keys("1" if bench.program == "claude" else "y")
        return marker.exists()

    bench.until(answered, 30, "the answer was taken")
    bench.until_arrived([second], 60)
    bench.until_acked([second], 15)
    evidence(bench, second)


def asked(bench: Bench) -> dict[str, Any]:
    """The one question of the agent, once it has options."""

    def one() -> dict[str, Any] | None:
        questions = bench.api("GET", "/api/questions")["questions"]
        assert len(questions) <= 1, questions
        return questions[0] if questions and questions[0]["options"] else None

    return bench.until(one, 40, "it asks")


@pytest.mark.holds("its own door, by the broker: agent answer answers its question, one question and not two")
@pytest.mark.parametrize("allows", [True, False], ids=["allow", "deny"])
def test_a_question_is_answered_by_name(doorway: Doorway, tmp_path: Path, *, allows: bool) -> None:
    bench = doorway()
    marker = tmp_path / "allowed"
    bench.send(question(bench.program, marker))
    one = asked(bench)
    assert one["origin"] == {"claude": "screen", "codex": "codex_app_server"}[bench.program], one
    assert any(str(marker) in line for line in one["text"]), one
    held = bench.send("behind the question")
    bench.stays(lambda: held not in bench.acked(), HELD_S, "it is held")
    answer(bench, "Yes" if bench.program == "claude" and allows else "1" if allows else "No")
    if allows:
        bench.until(marker.exists, 30, "it was allowed")
    bench.until(lambda: not bench.agent().get("blocked_by"), 15, "it asks nothing")
    if bench.program == "claude" and not allows:
        bench.until_composer()
    bench.until_acked([held], 60)
    assert marker.exists() == allows
    answers = bench.run("log", "grep", "--topic", "worker.question_answered.v1", "--json")
    assert answers.count('"by"') == 1, answers


@pytest.mark.holds("its own door, broker killed (-9) amid a question: asked on, answered, recorded once")
def test_a_question_outlives_the_broker(doorway: Doorway, tmp_path: Path) -> None:
    bench = doorway()
    marker = tmp_path / "allowed"
    bench.send(question(bench.program, marker))
    before = asked(bench)
    bench.kill()
    bench.up()
    assert asked(bench) == before
    answer(bench, before["options"][0]["key"])
    bench.until(marker.exists, 30, "it was allowed")
    bench.until(lambda: not bench.agent().get("blocked_by"), 15, "it asks nothing")
    assert bench.run("log", "grep", "--topic", "worker.question_answered.v1", "--json").count('"by"') == 1


@pytest.mark.holds("its own door, by the broker: a choice of Codex is answered by its label")
def test_a_choice_is_answered_by_its_label(opened: Opener) -> None:
    bench = opened("", "--enable", "default_mode_request_user_input")
    if bench.program != "codex":
        pytest.skip("not Codex")
    bench.spawn(doors=[DOORS["codex"]])
    bench.until_composer()
    bench.until(lambda: bench.agent()["ready"], 70, "ready")
    options = [{"label": "Red", "description": "warm"}, {"label": "Blue", "description": "cold"}]
    wanted = {"questions": [{"id": "c", "header": "Colour", "question": "Which colour?", "options": options}]}
    bench.send(f"CALLTOOL request_user_input {json.dumps(wanted)}")
    assert [one["label"] for one in asked(bench)["options"]] == ["Red (warm)", "Blue (cold)"]
    answer(bench, "Blue")
    bench.until(lambda: any("Blue" in str(one["results"]) for one in bench.model.requests(bench.since)), 30, "it heard")


@pytest.mark.holds("its own door, by the broker: 20 messages, each once")
def test_twenty_messages_enter_once_each(doorway: Doorway) -> None:
    bench = doorway()
    sent = [bench.send(f"number {number} of twenty") for number in range(20)]
    bench.until_acked(sent, 200)
    bench.until_arrived(sent, 30)
    assert {bench.arrivals()[one] for one in sent} == {1}, bench.account()
    for one in sent:
        evidence(bench, one)


@pytest.mark.holds("its own door, broker killed (-9) amid hand-overs: each once, with evidence")
def test_a_killed_broker_changes_nothing(doorway: Doorway) -> None:
    bench = doorway()
    bench.meet()
    sent: list[str] = []
    for kill in range(4):
        posted = {bench.post(f"round {kill}, number {number}") for number in range(4)}
        sent += posted
        bench.until(lambda posted=posted: bench.arrivals().keys() & posted, 60, "some of them are at the model")
        bench.kill()
        bench.up()
    bench.until(lambda: all(why(bench, one).startswith("ACKED") for one in sent), 120, "all are acknowledged")
    bench.until_arrived(sent, 30)
    assert {bench.arrivals()[one] for one in sent} == {1}, bench.account()
    for one in sent:
        evidence(bench, one)


@pytest.mark.holds("its own door, program killed (-9) before it took what it was handed: looked up, absent")
def test_what_a_killed_program_never_took_is_looked_up_and_absent(doorway: Doorway) -> None:
    bench = doorway()
    expect_once(bench, bench.send("before"), "before")
    taker = takes(bench)
    bench.until(lambda: rests(bench), 30, "it is idle")
    os.kill(taker, signal.SIGSTOP)
    identifier = bench.send("to a stopped program")
    bench.until(lambda: "delivery.injecting" in why(bench, identifier), 30, "it is handed over")
    os.kill(taker, signal.SIGKILL)
    told = bench.until(lambda: looked_up(bench, identifier), 120, "it is looked up")
    assert "absent" in told, told
    if bench.program == "codex":  # its server is started again, and its terminal goes on
        expect_once(bench, identifier, "to a stopped program", 90)
        evidence(bench, identifier)
    else:
        assert identifier not in bench.arrivals()


@pytest.mark.holds("its own door, host killed (-9) behind a hand-over: looked up, accepted, acknowledged")
def test_what_was_taken_while_its_host_died_is_looked_up_and_acknowledged(doorway: Doorway) -> None:
    bench = doorway()
    expect_once(bench, bench.send("before"), "before")
    taker, host = takes(bench), int(next(bench.state.glob("host-*.pid")).read_text())
    bench.until(lambda: rests(bench), 30, "it is idle")
    os.kill(taker, signal.SIGSTOP)
    identifier = bench.send("DELAY 3 while the host dies")
    bench.until(lambda: "delivery.injecting" in why(bench, identifier), 30, "it is handed over")
    os.kill(host, signal.SIGSTOP)
    os.kill(taker, signal.SIGCONT)
    bench.until_arrived([identifier], 30)
    bench.until(lambda: written_down(bench, identifier), 10, "its records have it")
    os.kill(host, signal.SIGKILL)
    told = bench.until(lambda: looked_up(bench, identifier), 120, "it is looked up")
    assert told.startswith("ACKED"), told
    assert "accepted" in told, told
    assert bench.arrivals()[identifier] == 1, bench.account()


def takes(bench: Bench) -> int:
    """The process that takes messages: the program, or its server."""
    if bench.program == "claude":
        return int(bench.agent()["pid"])
    ours = processes_with("HOME", str(bench.home.home))
    return next(one for one in ours if b"app-server" in (Path("/proc") / str(one) / "cmdline").read_bytes())


def rests(bench: Bench) -> bool:
    """Whether it says itself that no turn runs: in its registry, or as the last word of its rollout."""
    folder = bench.home.home / {"claude": ".claude/sessions", "codex": ".codex/sessions"}[bench.program]
    if bench.program == "claude":
        return any('"status":"idle"' in file.read_text() for file in folder.glob("*.json"))
    rows = [row for file in folder.rglob("*.jsonl") for row in file.read_text().splitlines()]
    return any('"task_complete"' in row for row in rows[-3:])


def looked_up(bench: Bench, identifier: str) -> str:
    told = why(bench, identifier)
    return told if "delivery.looked_up" in told else ""


def written_down(bench: Bench, identifier: str) -> int:
    """How many rows of transcripts or rollouts took the message."""
    folder = bench.home.home / {"claude": ".claude/projects", "codex": ".codex/sessions"}[bench.program]
    mark = {"claude": '"msg_id"', "codex": '"client_id"'}[bench.program]
    rows = [row for file in folder.rglob("*.jsonl") for row in file.read_text().splitlines()]
    return sum(f"[{identifier}]" in row and mark in row for row in rows)


@pytest.mark.holds(
    "its own door, 100 messages amid kills (-9) of broker and host: each once, proved, or looked up and in no record"
)
def test_a_hundred_messages_amid_kills_enter_once_each(opened: Opener) -> None:
    bench = opened()
    if bench.program not in DOORS:
        pytest.skip("no door of its own")
    seed = int(os.environ.get("SEED", "7"))
    print(f"SEED={seed}")
    chance = random.Random(seed)
    policy = {"enabled": True, "max_restarts": 20, "cooldown_ms": 500, "max_consecutive_failures": 20}
    bench.spawn(doors=[DOORS[bench.program]], restart_policy=policy)
    bench.until(partial(is_ready, bench, "w1"), 70, "ready")
    bench.meet()
    kills = dict.fromkeys(chance.sample(range(4, MESSAGES), BROKERS + HOSTS), "broker")
    kills |= dict.fromkeys(chance.sample(sorted(kills), HOSTS), "host")
    sent: list[str] = []
    for number in range(MESSAGES):
        sent.append(bench.post(f"{'DELAY 1 ' if number % 4 == 0 else ''}message {number}"))
        time.sleep(chance.random() / 2)
        if kills.get(number) == "broker":
            bench.kill()
            bench.up()
        elif kills.get(number) == "host":
            os.kill(int(next(bench.state.glob("host-*.pid")).read_text()), signal.SIGKILL)
            bench.until(lambda: bench.agent().get("pid") and bench.agent()["ready"], 120, "it is there again")
    settled: dict[str, str] = {}

    def all_settled() -> bool:
        for one in sent:
            if one not in settled and (told := why(bench, one)).startswith(("ACKED", "DEAD", "DROPPED")):
                settled[one] = told
        return len(settled) == len(sent)

    bench.until(all_settled, 400, "all are settled")
    wrong = {one: (written_down(bench, one), told) for one, told in settled.items() if not is_right(bench, one, told)}
    assert not wrong, wrong
    rest = [told.splitlines()[0] for told in settled.values() if not told.startswith("ACKED")]
    looks = sum("delivery.looked_up" in told for told in settled.values())
    print(f"{bench.program}: {len(sent) - len(rest)} acknowledged, {looks} looked up, settled otherwise: {rest}")


MESSAGES, BROKERS, HOSTS = 100, 10, 3


def is_right(bench: Bench, identifier: str, told: str) -> bool:
    """It entered once and that was proved, or its program's records have nothing of it."""
    rows = written_down(bench, identifier)
    return (rows == 1 and DOORS[bench.program] in told) if told.startswith("ACKED") else rows == 0


@pytest.mark.holds("its own door: hand-over to proof, measured beside the terminal")
def test_hand_over_to_proof_is_measured_beside_the_terminal(opened: Opener) -> None:
    bench = opened()
    if bench.program not in DOORS:
        pytest.skip("no door of its own")
    doors = {"own": [DOORS[bench.program]], "typed": ["pty_paste"]}
    for name, chosen in doors.items():
        bench.spawn(name, doors=chosen)
        bench.until_composer(name=name)
        bench.until(partial(is_ready, bench, name), 70, f"{name} is ready")
    took: dict[str, list[float]] = {name: [] for name in doors}
    for number in range(FIGURES):
        for name in doors:
            identifier = bench.send(f"figure {number}", to=name)
            bench.until_acked([identifier], 30)
            bench.until_composer(name=name)
            took[name].append(hand_over_ms(bench, identifier))
    for name, figures in took.items():
        said = (
            f"{bench.program} {bench.home.version}: hand-over to proof, {doors[name][0]}: "
            f"median {statistics.median(figures):.0f} ms, {FIGURES} messages, idle"
        )
        print(said)
        if (place := os.environ.get("FIGURES")) is not None:
            with Path(place).open("a") as file:
                file.write(said + "\n")


FIGURES = 15


def is_ready(bench: Bench, name: str) -> bool:
    return bool(bench.agent(name)["ready"])


def hand_over_ms(bench: Bench, identifier: str) -> float:
    """Between the event of the hand-over and that of the evidence."""
    told = why(bench, identifier)
    steps = re.findall(r"([+-][\d.]+) (m?s) +\w+ +(delivery\.\w+)\.v\d", told)
    at = {topic: float(number) * {"ms": 1, "s": 1000}[unit] for number, unit, topic in steps}
    return at["delivery.injected"] - at["delivery.injecting"]


@pytest.mark.holds("its own door: the agent's tools are there")
def test_the_tools_of_the_agent_are_there_beside_the_door(doorway: Doorway) -> None:
    bench = doorway()
    if (search := SEARCHES.get(bench.program)) is not None:
        bench.send(f'CALLTOOL {search} {{"query": "select:mcp__agent-relay__send_dm", "max_results": 3}}')
    else:
        bench.send("which tools are there")
    bench.until(lambda: any("send_dm" in tool for tool in bench.model.tools()), 20, "our tools")


@pytest.mark.holds("its own door: opens behind the question of a first start")
def test_the_door_opens_behind_the_question_of_a_first_start(opened: Opener, installed: Installed) -> None:
    if installed.program not in DOORS:
        pytest.skip("no door of its own")
    bench = opened("trust")
    bench.spawn(doors=[DOORS[bench.program]])
    if bench.program == "claude":  # a Codex at a server of its own asks for no trust
        answer(bench, AT_START[bench.program, "trust"])
    bench.until_composer()
    bench.until(lambda: bench.agent()["ready"], 70, "ready")
    identifier = bench.send("behind the question")
    expect_once(bench, identifier, "behind the question")
    evidence(bench, identifier)


@pytest.mark.holds("its own door: passed over with the reason, then typed")
def test_a_command_line_that_leaves_no_room_for_the_door_is_typed_to(opened: Opener, installed: Installed) -> None:
    if installed.program != "claude":
        pytest.skip("tried with claude")
    bench = opened("", "--settings", "{}")
    bench.spawn(doors=["claude_inbox"])
    bench.until_composer()
    bench.until(lambda: bench.agent()["ready"], 70, "ready")
    assert bench.agent()["door"] == "pty_paste"
    identifier = bench.send("typed after all")
    expect_once(bench, identifier, "typed after all")
    assert "settings of its own" in bench.run("log", "grep", "--topic", "worker.door_chosen.v1", "--json")


@pytest.mark.holds("its own door: nothing of it outlives its agent")
def test_nothing_of_the_door_outlives_its_agent(doorway: Doorway) -> None:
    bench = doorway()
    expect_once(bench, bench.send("the last words"), "the last words")
    ours = set(processes_with("HOME", str(bench.home.home)))
    assert takes(bench) in ours
    bench.api("DELETE", "/api/spawned/w1")
    bench.until(lambda: not ours & set(processes_with("HOME", str(bench.home.home))), 30, "all have ended")
