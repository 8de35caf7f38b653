"""Programs without terminal on a real host, by the door `acp`: proved, asked, interrupted and ended, as agents in terminals are."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from relaybroker.adapters.sessions.host.protocol import (
    Answered,
    AnswerQuestion,
    Blocked,
    DoorChosen,
    Exited,
    Freed,
    Injected,
    InjectFailed,
    LookUp,
    Occupied,
    Ready,
    Started,
    StartFailed,
    Stop,
    Unblocked,
)
from tests.waiting import WAIT_S

PROGRAM = Path(__file__).parents[2] / "acp_program.py"


class Piped:
    """One such program, and the broker at its host."""

    def __init__(self, broker, tmp_path):
        self.broker, self.kept = broker, tmp_path / "conversations"

    async def start(self, version=1, *, session_id="a1", wait=Ready, env=None, **fields):
        argv = (self.broker.python, PROGRAM, version, self.kept)
        return await self.broker.start(
            *argv, doors=("acp",), session_id=session_id, wait=wait, profile="default", env=env, **fields
        )

    def seen(self, method):
        lines = Path(f"{self.kept}.seen").read_text().splitlines()
        return [row["params"] for row in map(json.loads, lines) if row.get("method") == method]

    def prompts(self):
        return [one["prompt"][0]["text"] for one in self.seen("session/prompt")]

    async def screen(self):
        return (await self.broker.screen()).data["screen"]

    async def shows(self, text):
        async with asyncio.timeout(WAIT_S):
            while text not in await self.screen():
                await asyncio.sleep(0.01)

    async def types(self, data):
        answer = await self.broker.keys(data)
        assert answer.error == ""

    async def look_up(self, delivery_id, session_id="a1"):
        place = self.broker.facts(session_id, DoorChosen)[0].place
        request = LookUp(request_id="l", session_id=session_id, delivery_id=delivery_id, door="acp", place=place)
        return (await self.broker.client.ask(request, WAIT_S)).data


@pytest.fixture
def piped(broker, tmp_path):
    return Piped(broker, tmp_path)


VERSIONS = pytest.mark.parametrize("version", [1, 2])


@VERSIONS
async def test_a_message_enters_and_is_proved_by_the_programs_answer(piped, version):
    await piped.start(version)
    chosen = piped.broker.facts("a1", DoorChosen)[0]
    assert (chosen.door, chosen.passed_over) == ("acp", {})
    injected = await piped.broker.type_text("hello reply")
    assert (injected.door, injected.evidence) == ("acp", "turn" if version == 1 else "answer")
    assert injected.pointer.endswith(": end_turn") if version == 1 else ": m" in injected.pointer
    assert piped.prompts() == ["hello reply"]
    await piped.shows("you said: hello reply")


async def test_it_is_ready_once_its_door_is_open(piped):
    await piped.start()
    kinds = [type(report.fact) for report in piped.broker.reports]
    assert kinds == [Started, DoorChosen, Ready]


async def test_a_program_that_wants_a_login_has_no_way_in_and_is_ended(piped):
    await piped.start(env={"ACP_LOGIN": "1"}, wait=Exited)
    exited = piped.broker.facts("a1", Exited)[0]
    assert (exited.cause, exited.signal, exited.requested) == ("no_way_in", signal.SIGKILL, False)
    assert "wants a login, which a person does with the program itself: Authentication required" in exited.last_output


async def test_a_program_that_refuses_the_newer_version_is_asked_for_the_older_one(piped):
    await piped.start(1, env={"ACP_STRICT": "1"})
    assert [one["protocolVersion"] for one in piped.seen("initialize")] == [2, 1]
    assert (await piped.broker.type_text("hello reply")).evidence == "turn"


async def test_a_version_that_nobody_knows_is_passed_over(piped):
    await piped.start(7, wait=Exited)
    assert "speaks version 7 of the Agent Client Protocol" in piped.broker.facts("a1", Exited)[0].last_output


async def test_a_program_that_does_not_speak_it_is_ended_with_its_last_words(piped):
    await piped.broker.start("sh", "-c", "echo no such option >&2; exit 2", doors=("acp",), wait=Exited)
    exited = piped.broker.facts("a1", Exited)[0]
    assert (exited.code, exited.cause) == (2, "")
    assert exited.last_output.endswith("no such option")


async def test_a_command_that_is_not_there_is_not_started(piped):
    failed = await piped.broker.start("no-such-program", doors=("acp",), wait=StartFailed)
    assert failed.reason == "cli_not_found"


@VERSIONS
async def test_what_comes_while_a_turn_runs_waits_with_the_broker(piped, version):
    await piped.start(version)
    piped.broker.inject("one wait", "d1")
    await piped.shows("working")
    piped.broker.inject("two", "d2")
    failed = await piped.broker.fact("a1", InjectFailed)
    assert (failed.delivery_id, failed.reason, failed.typed) == ("d2", "agent_busy", "no")
    assert piped.broker.facts("a1", Occupied)[0].patience_s > 0
    assert len(piped.broker.facts("a1", Injected)) == (version == 2), "the end of the turn is the proof of version 1"
    await piped.types(b"\x03")
    await piped.broker.fact("a1", Freed)
    injected = await piped.broker.fact("a1", Injected, delivery_id="d1")
    assert injected.pointer.endswith("cancelled") == (version == 1)


@VERSIONS
async def test_a_message_that_steers_ends_the_turn_and_is_the_next_one(piped, version):
    await piped.start(version)
    piped.broker.inject("one wait", "d1")
    await piped.shows("working")
    piped.broker.inject("two reply", "d2", steer=True)
    await piped.broker.fact("a1", Injected, delivery_id="d2")
    assert [fact.delivery_id for fact in piped.broker.facts("a1", Injected)] == ["d1", "d2"]
    assert (piped.prompts(), len(piped.seen("session/cancel"))) == (["one wait", "two reply"], 1)


@VERSIONS
async def test_a_permission_is_a_question_that_a_person_answers(piped, version):
    await piped.start(version)
    piped.broker.inject("do ask", "d1")
    asked = (await piped.broker.fact("a1", Blocked)).question
    assert (asked.kind, asked.text) == ("permission", ("touch a file",))
    assert [(one.id, one.label, one.kind) for one in asked.options] == [
        ("yes", "Allow once", "allow_once"),
        ("no", "Reject", "reject_once"),
    ]
    piped.broker.inject("two", "d2")
    failed = await piped.broker.fact("a1", InjectFailed)
    assert (failed.delivery_id, failed.reason) == ("d2", "blocked_by_question")

    async def answer(question_id, option_id):
        request = AnswerQuestion(
            request_id="q", session_id="a1", question_id=question_id, option_id=option_id, by="ann"
        )
        return (await piped.broker.client.ask(request, WAIT_S)).error

    assert await answer("another", "yes") == "question_changed"
    assert await answer(asked.id, "maybe") == "question_changed"
    assert await answer(asked.id, "yes") == ""
    assert await answer(asked.id, "yes") == "question_changed", "it is answered once"
    await piped.broker.fact("a1", Unblocked)
    given = await piped.broker.fact("a1", Answered)
    assert (given.question_id, given.option_id, given.by) == (asked.id, "yes", "ann")
    await piped.shows('answer: {"optionId": "yes", "outcome": "selected"}')
    await piped.broker.fact("a1", Injected, delivery_id="d1")


async def test_a_person_at_the_transcript_prompts_answers_and_interrupts(piped):
    await piped.start()
    await piped.types("grüße".encode()[:4])
    await piped.types("grüße".encode()[4:] + b" replyX\x7f\r")
    await piped.shows("you said: grüße reply")
    await piped.types(b"do ask\r")
    await piped.shows("2  Reject")
    await piped.types(b"9\r")
    await piped.shows("none of the 2 options")
    await piped.types(b"2\r")
    await piped.shows('answer: {"optionId": "no", "outcome": "selected"}')
    await piped.types(b"do wait\r\x1b[200~two\nlines\x1b[201~\r")
    await piped.shows("working")
    await piped.types(b"half\x03")
    assert piped.seen("session/cancel") == [], "Ctrl-C first clears the line"
    await piped.types(b"\x03")
    await piped.shows("the turn ended: cancelled")
    await piped.types(b"then reply\r")
    await piped.shows("you said: then reply")
    assert piped.prompts() == ["grüße reply", "do ask", "do wait", "then reply"], "an interrupt forgets what waits"


async def test_an_interrupt_answers_what_is_asked_with_cancelled(piped):
    await piped.start()
    piped.broker.inject("do ask", "d1")
    await piped.broker.fact("a1", Blocked)
    await piped.types(b"\x03")
    await piped.shows('answer: {"outcome": "cancelled"}')
    await piped.broker.fact("a1", Unblocked)


async def test_junk_torn_and_huge_lines_hurt_nothing(piped):
    await piped.start()
    for word in ("junk", "torn", "huge", "tools", "files"):
        injected = await piped.broker.type_text(f"send {word}", delivery_id=word)
        assert injected.pointer.endswith("end_turn")
    screen = await piped.screen()
    for shown in ("no message at all", "torn ünd whole", "too long", "after the huge one", r"ls \x1b[31m-l: completed"):
        assert shown in screen
    assert "answer: -32601" in screen, "no file of ours is offered"


async def test_a_refused_prompt_is_looked_up_and_absent_and_a_failed_turn_is_taken(piped):
    await piped.start()
    piped.broker.inject("please refuse", "d1")
    failed = await piped.broker.fact("a1", InjectFailed)
    assert (failed.reason, failed.typed) == ("no_evidence", "unknown")
    assert (await piped.look_up("d1"))["outcome"] == "absent"
    piped.broker.confirm_all()
    injected = await piped.broker.type_text("please fail", delivery_id="d2")
    assert injected.pointer.endswith("the turn failed: Internal error: no model")


async def test_what_never_left_is_absent_and_another_id_is_no_evidence(piped):
    await piped.start()
    await piped.broker.type_text("one reply", delivery_id="d1")
    assert (await piped.look_up("d1"))["outcome"] == "accepted"
    assert (await piped.look_up("d2"))["outcome"] == "absent"


@pytest.mark.parametrize(("word", "outcome"), [("die", "accepted"), ("unseen", "unknowable")])
async def test_a_crash_amid_a_turn_is_looked_up_in_the_conversation_that_is_loaded_again(
    piped, monkeypatch, word, outcome
):
    await piped.start()
    await piped.broker.type_text("one reply", delivery_id="d0")
    piped.broker.inject(f"two {word}", "d1")
    exited = await piped.broker.fact("a1", Exited)
    failed = await piped.broker.fact("a1", InjectFailed)
    assert (exited.code, exited.cause, failed.reason, failed.typed) == (3, "", "worker_exited", "unknown")
    place = piped.broker.facts("a1", DoorChosen)[0].place
    looking = asyncio.create_task(piped.look_up("d1"))
    await piped.start(session_id="a2", resumes=place)
    assert [one["sessionId"] for one in piped.seen("session/load")] == [piped.seen("session/prompt")[0]["sessionId"]]
    if outcome == "accepted":
        found = await looking
        assert (found["outcome"], found["evidence"]) == ("accepted", "replay")
    else:
        looking.cancel()
        rows = [json.loads(line) for line in Path(place).read_text().splitlines() if line]
        assert (sum("handed" in row for row in rows), sum("taken" in row for row in rows)) == (2, 1)


async def test_version_2_resumes_without_replay(piped):
    await piped.start(2)
    await piped.broker.type_text("one reply", delivery_id="d0")
    os.kill(piped.broker.facts("a1", Started)[0].pid, signal.SIGKILL)
    exited = await piped.broker.fact("a1", Exited)
    assert (exited.signal, exited.cause) == (signal.SIGKILL, "")
    await piped.start(2, session_id="a2", resumes=piped.broker.facts("a1", DoorChosen)[0].place)
    session = piped.seen("session/prompt")[0]["sessionId"]
    assert [one["sessionId"] for one in piped.seen("session/resume")] == [session]


async def test_a_session_that_is_gone_begins_anew(piped):
    await piped.start(resumes=str(piped.kept) + "-nowhere")
    assert len(piped.seen("session/new")) == 1


async def test_a_program_that_closes_its_output_is_ended(piped):
    await piped.start()
    piped.broker.inject("please leave", "d1")
    exited = await piped.broker.fact("a1", Exited)
    assert (exited.cause, exited.signal) == ("no_way_in", signal.SIGKILL)


async def test_a_new_broker_finds_it_alive_and_a_dead_host_leaves_nothing(piped):
    await piped.start()
    pid = piped.broker.facts("a1", Started)[0].pid
    await piped.broker.client.close()
    welcome = await piped.broker.attach()
    assert [(one.pid, one.state) for one in welcome.sessions] == [(pid, "ready")]
    await piped.broker.type_text("hello reply")
    os.kill(welcome.host_pid, signal.SIGKILL)
    async with asyncio.timeout(WAIT_S):
        while Path(f"/proc/{pid}").exists():
            await asyncio.sleep(0.01)


async def test_it_is_released_as_every_agent_is(piped):
    await piped.start()
    piped.broker.inject("one wait", "d1")
    await piped.shows("working")
    piped.broker.client.send(Stop(session_id="a1", grace_s=1.0, reason="released"))
    exited = await piped.broker.fact("a1", Exited)
    assert (exited.signal, exited.requested) == (signal.SIGTERM, True)
    failed = await piped.broker.fact("a1", InjectFailed)
    assert (failed.reason, failed.typed) == ("agent_released", "unknown")
