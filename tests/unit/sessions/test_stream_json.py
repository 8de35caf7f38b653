"""Claude Code on pipes: what is written to it, what proves that a message was begun, and what notes and transcript say afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import uuid

import pytest

from relaybroker.adapters.sessions import stream_json
from relaybroker.adapters.sessions.door import (
    Absent,
    Accepted,
    Evidence,
    NotHandedOver,
    Opened,
    PassedOver,
    QuestionGone,
    Unknowable,
    message_id,
)
from relaybroker.adapters.sessions.host.piped_process import NotWrittenError
from relaybroker.adapters.sessions.kinds import Launch
from relaybroker.adapters.sessions.rows import Rows, append
from relaybroker.adapters.sessions.stream_json import StreamJson, StreamJsonKind
from tests.waiting import WAIT_S

OURS = message_id("del_1")
SESSION = str(uuid.uuid4())


class Program:
    """What is on the other end of the pipes, as the test says it; `pid` is that of nobody."""

    pid = 0

    def __init__(self):
        self.written = []
        self.entries = []
        self.fails = None
        self.greets = {"subtype": "success", "response": {}}

    def read(self, on_line, on_end, on_too_long):
        self._line, self.end, self.too_long = on_line, on_end, on_too_long

    async def write(self, line):
        if self.fails is not None:
            raise self.fails
        row = json.loads(line)
        self.written.append(row)
        if row.get("request") == {"subtype": "initialize"} and self.greets:
            self.says(type="control_response", response=self.greets | {"request_id": row["request_id"]})

    def add(self, style, text):
        self.entries.append((style, text))

    def says(self, **row):
        self._line(json.dumps(row).encode())

    def lifecycle(self, state, identifier=OURS):
        self.says(type="command_lifecycle", command_uuid=identifier, state=state, uuid="f1")

    def wants(self, identifier="r1", **values):
        self.says(
            type="control_request",
            request_id=identifier,
            request={"subtype": "can_use_tool", "tool_name": "Bash", "input": {"command": "touch x"}} | values,
        )

    def responses(self):
        return [row["response"] for row in self.written if row["type"] == "control_response"]


@pytest.fixture
def program():
    return Program()


@pytest.fixture
def notes(tmp_path):
    notes = tmp_path / "notes.jsonl"
    append(notes, {"session": SESSION})
    return notes


@pytest.fixture
async def door(program, notes):
    door = StreamJson(notes, SESSION)
    door.connect(program, program)
    assert await asyncio.wait_for(door.open(), WAIT_S) == Opened(str(notes))
    yield door
    await door.close()


async def evidence(door):
    return await asyncio.wait_for(door.evidence("del_1"), WAIT_S)


def written_down(notes, tmp_path, *rows):
    """Its transcript, as its hook names it."""
    transcript = tmp_path / "transcript.jsonl"
    transcript.write_text("".join(json.dumps(row) + "\n" for row in rows))
    append(notes, {"start": {"transcript_path": str(transcript)}})
    return transcript


# --- start ------------------------------------------------------------------------------------------------------------


async def test_it_is_started_with_a_session_of_its_own_and_the_users_options_behind(tmp_path):
    launch = Launch("ws_1", ("nice", "claude", "-p", "--model", "m"), {}, "/", "claude", tmp_path / "door")
    launch, door = await StreamJsonKind().prepare(launch)
    words = list(launch.argv)
    assert words[:3] == ["nice", "claude", "--print"]
    assert words[-2:] == ["--model", "m"]
    assert "-p" not in words
    session = words[words.index("--session-id") + 1]
    place = next((tmp_path / "door").iterdir())
    assert [row for _, row in Rows(place).new()] == [{"session": session}]
    assert isinstance(door, StreamJson)


@pytest.mark.parametrize("has_transcript", [True, False])
async def test_the_conversation_of_the_program_before_goes_on_if_it_was_written_down(tmp_path, notes, has_transcript):
    transcript = written_down(notes, tmp_path)
    if not has_transcript:
        transcript.unlink()
    launch = Launch("ws_1", ("claude",), {}, "/", "claude", tmp_path / "door", resumes=str(notes))
    launch, _ = await StreamJsonKind().prepare(launch)
    words = list(launch.argv)
    assert (("--resume" in words) and words[words.index("--resume") + 1] == SESSION) == has_transcript
    assert ("--session-id" in words) != has_transcript


@pytest.mark.parametrize(
    ("given", "option"),
    [
        (("--session-id", SESSION), "--session-id"),
        (("--resume", SESSION), "--resume"),
        ((f"--resume={SESSION}",), "--resume"),
        (("-r", SESSION), "--resume"),
    ],
)
async def test_the_session_that_the_command_line_names_is_taken(tmp_path, given, option):
    launch = Launch("ws_1", ("claude", *given, "--model", "m"), {}, "/", "claude", tmp_path / "door")
    launch, _ = await StreamJsonKind().prepare(launch)
    words = list(launch.argv)
    assert words[words.index(option) + 1] == SESSION
    assert sum(SESSION in word for word in words) == 1
    assert words[-2:] == ["--model", "m"]


async def test_an_earlier_session_of_which_the_program_before_wrote_nothing_is_begun_anew(tmp_path, notes):
    argv = ("claude", "--resume", SESSION)
    launch = Launch("ws_1", argv, {}, "/", "claude", tmp_path / "door", resumes=str(notes))
    launch, _ = await StreamJsonKind().prepare(launch)
    words = list(launch.argv)
    assert words[words.index("--session-id") + 1] == SESSION
    assert "--resume" not in words


@pytest.mark.parametrize(
    ("argv", "profile"),
    [
        (("claude", "--settings", "{}"), "claude"),
        (("claude", "-c"), "claude"),
        (("claude", "--output-format", "text"), "claude"),
        (("codex",), "codex"),
    ],
)
async def test_what_says_itself_what_the_door_has_to_say_is_passed_over(tmp_path, argv, profile):
    outcome = await StreamJsonKind().prepare(Launch("ws_1", argv, {}, "/", profile, tmp_path))
    assert isinstance(outcome, PassedOver)


def test_its_hooks_note_starts_and_prompts(tmp_path):
    notes = tmp_path / "it's here.jsonl"
    added = stream_json.options(notes, SESSION, resumes=False)
    hooks = json.loads(added[added.index("--settings") + 1])["hooks"]
    for event, said in (("SessionStart", {"transcript_path": "/t\n"}), ("UserPromptSubmit", {"prompt": "secret"})):
        (command,) = [one["command"] for one in hooks[event][0]["hooks"]]
        subprocess.run(["sh", "-c", command], input=json.dumps(said, indent=1), text=True, check=True)
    assert [row for _, row in Rows(notes).new()] == [{"start": {"transcript_path": "/t\n"}}, {"prompt": True}]
    assert notes.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("greets", [{"subtype": "error", "error": "no"}, None])
async def test_a_program_that_does_not_greet_is_passed_over(program, notes, monkeypatch, greets):
    monkeypatch.setattr(stream_json, "OPEN_S", 0.05)
    program.greets = greets
    door = StreamJson(notes, SESSION)
    door.connect(program, program)
    assert isinstance(await asyncio.wait_for(door.open(), WAIT_S), PassedOver)
    assert door.state == "closed"


# --- messages ---------------------------------------------------------------------------------------------------------


async def test_a_message_is_one_line_with_our_id_and_its_start_is_the_proof(program, door):
    assert door.state == "idle"
    await door.hand_over("del_1", "do it", steer=False)
    assert door.state == "busy"
    row = program.written[-1]
    assert (row["type"], row["uuid"]) == ("user", OURS)
    assert row["message"]["content"] == [{"type": "text", "text": "do it"}]
    program.lifecycle("queued")
    program.lifecycle("started", "another")
    waiting = asyncio.create_task(evidence(door))
    await asyncio.sleep(0)
    assert not waiting.done()
    program.lifecycle("started")
    assert await waiting == Evidence("lifecycle", f"session {SESSION}, frame f1: started")
    program.lifecycle("completed")
    assert door.state == "busy", "the other one runs"
    program.lifecycle("completed", "another")
    assert door.state == "idle"


@pytest.mark.parametrize("state", ["cancelled", "discarded", "refused"])
async def test_what_it_will_not_begin_is_no_evidence_and_absent(program, door, state):
    await door.hand_over("del_1", "do it", steer=False)
    program.lifecycle(state)
    with pytest.raises(ConnectionError):
        await evidence(door)
    assert isinstance(await door.look_up("del_1"), Absent)
    assert door.state == "idle"


async def test_what_it_says_is_completed_without_a_start_it_had_before(program, door):
    await door.hand_over("del_1", "do it", steer=False)
    program.lifecycle("completed")
    assert (await evidence(door)).pointer.endswith("completed")


@pytest.mark.parametrize(("begun", "error"), [(False, NotHandedOver), (True, NotWrittenError)])
async def test_only_what_was_not_begun_to_be_written_may_go_elsewhere(program, door, begun, error):
    program.fails = NotWrittenError("its input is closed", begun=begun)
    with pytest.raises(error):
        await door.hand_over("del_1", "do it", steer=False)
    assert door.state == "idle"


async def test_a_program_that_has_ended_takes_nothing(program, door):
    await door.hand_over("del_1", "do it", steer=False)
    program.end()
    assert door.state == "closed"
    with pytest.raises(ConnectionError):
        await evidence(door)
    with pytest.raises(NotHandedOver):
        await door.hand_over("del_2", "do it", steer=False)


async def test_an_interrupt_is_told_while_a_turn_runs_and_a_person_may_say_something(program, door):
    await door.interrupt()
    assert len(program.written) == 1, "only the greeting"
    await door.say("hello")
    assert (program.written[-1]["type"], door.state) == ("user", "busy")
    await door.interrupt()
    assert program.written[-1]["request"] == {"subtype": "interrupt"}


async def test_what_it_says_and_does_is_shown_and_junk_does_no_harm(program, door):
    content = [
        {"type": "thinking", "thinking": "hm"},
        {"type": "text", "text": "hello"},
        {"type": "tool_use", "name": "Bash", "input": {"command": "ls"}},
        7,
    ]
    program.says(type="assistant", message={"content": content})
    program.says(type="result", is_error=True, result="no credit")
    for row in ({}, {"type": "command_lifecycle"}, {"type": "control_request"}, {"type": "assistant", "message": 3}):
        program.says(**row)
    program._line(b"[1]")
    program._line(b"\xff not json")
    assert program.entries == [
        ("thought", "hm"), ("said", "hello"), ("did", 'Bash {"command": "ls"}'), ("failed", "no credit"), ("note", "[1]"),
        ("note", "\ufffd not json"),
    ]  # fmt: skip
    assert door.state == "idle"


async def test_a_line_nested_deeper_than_the_stack_costs_nothing_that_comes_behind_it(program, door):
    """A model calls a tool with such an input; the program passes it on."""
    await door.hand_over("del_1", "hello", steer=False)
    for depth in (3_000, 100_000):
        deep = '{"a":' * depth + "1" + "}" * depth
        program._line(f'{{"type":"assistant","message":{{"content":[{{"type":"tool_use","input":{deep}}}]}}}}'.encode())
    program.lifecycle("started", OURS)
    assert (await door.evidence("del_1")).kind == "lifecycle"


async def test_no_more_proofs_than_a_bound_are_kept(program, door, monkeypatch):
    monkeypatch.setattr(stream_json, "MAX_PROOFS", 2)
    for number in range(4):
        program.lifecycle("started", f"c{number}")
    assert list(door._proofs) == ["c2", "c3"]


# --- questions --------------------------------------------------------------------------------------------------------


async def test_a_permission_is_a_question_and_its_answer_what_was_named(program, door):
    changed = []
    door.on_change = lambda: changed.append(door.question)
    rule = {"type": "addRules", "rules": [{"toolName": "Bash"}], "behavior": "allow", "destination": "session"}
    program.wants(permission_suggestions=[rule, {"type": "unheard-of"}], decision_reason="it writes")
    asked = door.question
    assert changed == [asked]
    assert door.state == "blocked"
    assert asked.text == ("May it use Bash?", "command: touch x", "Reason: it writes")
    assert [(one.id, one.kind) for one in asked.options] == [
        ("once", "allow_once"), ("always-1", "allow_always"), ("no", "reject_once"), ("stop", "reject_once"),
    ]  # fmt: skip
    assert asked.options[1].label == "Yes, and allow Bash(anything) in this session"
    for wrong in (("another", "once"), (asked.id, "never")):
        with pytest.raises(QuestionGone):
            await door.answer(*wrong)
    await door.answer(asked.id, "always-1")
    allowed = {"behavior": "allow", "updatedInput": {"command": "touch x"}, "updatedPermissions": [rule]}
    assert program.responses() == [{"subtype": "success", "response": allowed, "request_id": "r1"}]
    assert door.question is None
    with pytest.raises(QuestionGone):
        await door.answer(asked.id, "always-1")


@pytest.mark.parametrize(("option", "stops"), [("no", False), ("stop", True)])
async def test_a_refusal_may_stop_the_turn(program, door, option, stops):
    program.wants()
    await door.answer(door.question.id, option)
    (response,) = program.responses()
    assert response["response"]["behavior"] == "deny"
    assert response["response"].get("interrupt", False) == stops


async def test_several_questions_of_one_request_are_asked_one_behind_the_other(program, door):
    options = [{"label": "Red", "description": "warm"}, {"label": "Blue"}]
    given = {"questions": [{"question": text, "options": options} for text in ("Which?", "And?")]}
    program.wants(tool_name="AskUserQuestion", input=given)
    first = door.question
    assert [one.label for one in first.options] == ["Red (warm)", "Blue", "No answer"]
    await door.answer(first.id, "2")
    assert program.responses() == []
    assert (door.question.text, door.question.id != first.id) == (("And?",), True)
    await door.answer(door.question.id, "1")
    (response,) = program.responses()
    assert response["response"]["updatedInput"] == given | {"answers": {"Which?": "Blue", "And?": "Red"}}


async def test_whoever_does_not_answer_one_of_them_answers_none(program, door):
    given = {"questions": [{"question": "Which?", "options": [{"label": "Red"}]}] * 2}
    program.wants(tool_name="AskUserQuestion", input=given)
    await door.answer(door.question.id, "skip")
    (response,) = program.responses()
    assert response["response"]["behavior"] == "deny"
    assert door.question is None


async def test_a_plan_is_asked_for_approval(program, door):
    program.wants(tool_name="ExitPlanMode", input={"plan": "First this.\nThen that."})
    assert (door.question.kind, door.question.text[1:]) == ("plan", ("First this.", "Then that."))
    await door.answer(door.question.id, "no")
    assert program.responses()[0]["response"]["behavior"] == "deny"


async def test_what_it_takes_back_is_asked_no_more_and_the_oldest_is_asked_first(program, door):
    program.wants("r1")
    program.wants("r2", input={"command": "second"})
    assert "command: touch x" in door.question.text
    program.says(type="control_cancel_request", request_id="r1")
    assert "command: second" in door.question.text
    program.end()
    assert door.question is None


async def test_what_is_not_known_or_too_much_is_refused_with_the_reason(program, door, monkeypatch):
    monkeypatch.setattr(stream_json, "MAX_QUESTIONS", 1)
    program.says(type="control_request", request_id="r0", request={"subtype": "unheard-of"})
    program.wants("r1")
    program.wants("r2")
    async with asyncio.timeout(WAIT_S):
        while len(program.responses()) < 2:
            await asyncio.sleep(0.001)
    assert [(one["request_id"], one["subtype"]) for one in program.responses()] == [("r0", "error"), ("r2", "error")]


# --- look-up ----------------------------------------------------------------------------------------------------------


async def look_up(notes):
    return await StreamJsonKind().at(str(notes)).look_up("del_1")


async def test_what_was_begun_is_found_in_the_notes_and_in_the_transcript_alone(program, door, notes, tmp_path):
    await door.hand_over("del_1", "do it", steer=False)
    program.lifecycle("started")
    found = await look_up(notes)
    assert isinstance(found, Accepted)
    assert found.evidence.kind == "lifecycle"
    alone = tmp_path / "alone.jsonl"
    append(alone, {"handed": OURS, "state": "idle"})
    rows = (
        {"type": "assistant", "uuid": OURS},
        {"type": "user", "uuid": "x", "parent": OURS},
        {"type": "user", "uuid": OURS},
    )
    transcript = written_down(alone, tmp_path, *rows)
    assert await look_up(alone) == Accepted(Evidence("transcript", f"{transcript}:3"))


@pytest.mark.parametrize(
    ("rows", "outcome"),
    [
        ([], Absent),
        ([{"handed": OURS, "state": "idle"}], Absent),
        ([{"prompt": True}, {"handed": OURS, "state": "idle"}], Absent),
        ([{"handed": OURS, "state": "idle"}, {"prompt": True}], Unknowable),
        ([{"handed": OURS, "state": "busy"}], Unknowable),
        ([{"handed": OURS, "state": "busy"}, {"dropped": OURS}], Absent),
        ([{"dropped": OURS}, {"handed": OURS, "state": "idle"}, {"prompt": True}], Unknowable),
    ],
)
async def test_what_nobody_took_is_absent_and_what_may_have_been_begun_is_not(notes, rows, outcome):
    for row in rows:
        append(notes, row)
    assert isinstance(await look_up(notes), outcome)


async def test_a_program_that_goes_on_may_have_it_still(notes, monkeypatch):
    monkeypatch.setattr(stream_json, "GONE_S", 0.05)
    append(notes, {"pid": os.getpid()})
    append(notes, {"handed": OURS, "state": "idle"})
    assert isinstance(await look_up(notes), Unknowable)


async def test_a_program_that_ends_meanwhile_is_waited_for(notes):
    ends = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    append(notes, {"pid": ends.pid})
    append(notes, {"handed": OURS, "state": "idle"})
    looking = asyncio.create_task(look_up(notes))
    await asyncio.sleep(0)
    await asyncio.to_thread(ends.communicate)
    assert isinstance(await asyncio.wait_for(looking, WAIT_S), Absent)


async def test_without_notes_nothing_is_known(tmp_path):
    assert isinstance(await look_up(tmp_path / "gone.jsonl"), Unknowable)
