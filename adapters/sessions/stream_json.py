"""The door `stream_json`: a Claude Code without terminal (`-p`) that takes messages and tells everything as JSON lines on its pipes.

A message is a line with our id. `command_lifecycle … started` with that id is the proof: Claude Code begins with it. An id
that ended is not run again, but one whose turn was cut off may be, by a program that is started with `--resume`: nobody gets it twice but
after a look-up that found it absent. `notes` has the process, the session, what was handed over, and what was begun: two hooks, given in
`--settings` (so that no file of the user changes), append each start with its transcript, and each prompt just before the model gets it.
What it wants to be allowed or to know is a question for a person.
Source: ADR-0093, ADR-0095, ADR-0096; every fact is held by tests/agents/test_stream_json.py against the real program.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shlex
import uuid
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from relaybroker.adapters.sessions.claude_questions import Request, request
from relaybroker.adapters.sessions.claude_settings import has_settings, hooked
from relaybroker.adapters.sessions.door import (
    Absent,
    Accepted,
    Evidence,
    NotHandedOver,
    Opened,
    PassedOver,
    PipedDoor,
    Question,
    QuestionGone,
    Unknowable,
    message_id,
)
from relaybroker.adapters.sessions.host import process_table, tasks
from relaybroker.adapters.sessions.host.piped_process import NotWrittenError
from relaybroker.adapters.sessions.rows import MAX_JUNK, Row, Rows, append, inner, read_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from relaybroker.adapters.sessions.door import Door, DoorState, LookedUp
    from relaybroker.adapters.sessions.host.piped_process import PipedProcess
    from relaybroker.adapters.sessions.kinds import Launch
    from relaybroker.adapters.sessions.transcript import Style, Transcript

OPEN_S = 60.0
"""It answers the first request within this time (0.5 s are usual)."""
GONE_S = 10.0
"""A Claude Code whose host is gone ends within this time, when its input ends."""
LOOK_S = 0.05
MAX_QUESTIONS = 16
"""Requests that are open at once; more are refused, with the reason."""
MAX_PROOFS = 256
"""Messages of which it is remembered that they were begun until it is asked for; the newest ones."""
_OURS = ("-p", "--print", "--verbose", "--replay-user-messages")
"""Options that are given in any case."""
_OTHERS = frozenset((
    "--input-format", "--output-format", "--continue", "-c", "--fork-session", "--permission-prompt-tool",
))  # fmt: skip
"""Options that say what only the door may say."""
_SESSION = ("--session-id", "--resume", "-r")
"""Options that name a session: a new one, or one to go on with."""
_OVER = ("completed", "cancelled", "discarded", "refused")
_logger = logging.getLogger(__name__)


class StreamJsonKind:
    """Starts Claude Code without terminal, in a session of its own or in the one of the program before."""

    async def prepare(self, launch: Launch) -> tuple[Launch, Door] | PassedOver:
        parts = launch.split("claude")
        if isinstance(parts, PassedOver):
            return parts
        words, given = parts
        if reason := unfit(given):
            return PassedOver(reason)
        await asyncio.to_thread(launch.folder.mkdir, mode=0o700, parents=True, exist_ok=True)
        notes = launch.folder / f"stream_json-{uuid.uuid4().hex}.jsonl"  # a session that is restarted has others
        named = named_session(given)
        former = await asyncio.to_thread(conversation, launch.resumes)
        session = former or named.session or str(uuid.uuid4())
        await asyncio.to_thread(append, notes, {"session": session})
        added = options(notes, session, resumes=bool(former) or (named.is_earlier and not launch.resumes))
        argv = (*words, *added, *(word for word in named.rest if word not in _OURS))
        return replace(launch, argv=argv), StreamJson(notes, session)

    def at(self, place: str) -> Door:
        return StreamJson(place)


def unfit(given: Sequence[str]) -> str:
    """Why a Claude Code with these options is not started without terminal; "" if it is."""
    if has_settings(given):
        return "the command line has --settings of its own, beside which Claude Code takes no others"
    other = next((word for word in given if word.split("=")[0] in _OTHERS), None)
    return f"the command line has {other}, which the door says itself" if other else ""


class Named(NamedTuple):
    """The session that a command line names."""

    session: str
    """"" = none."""
    is_earlier: bool
    """It is to be gone on with."""
    rest: tuple[str, ...]
    """The other words."""


def named_session(given: Sequence[str]) -> Named:
    """What the command line says of the session, which it may name by an option with a value."""
    session, is_earlier = "", False
    rest: list[str] = []
    words = iter(given)
    for word in words:
        option, has_value, value = word.partition("=")
        if option not in _SESSION:
            rest.append(word)
        else:
            session, is_earlier = value if has_value else next(words, ""), option != _SESSION[0]
    return Named(session, is_earlier, tuple(rest))


def options(notes: Path, session: str, *, resumes: bool) -> list[str]:
    """What is put behind the program's name."""
    file = shlex.quote(str(notes))
    start = rf"""umask 077; printf '%s\n' "{{\"start\":$(tr '\n' ' ')}}" >> {file}"""
    prompt = f"""cat > /dev/null; printf '%s\\n' '{{"prompt":true}}' >> {file}"""
    return [
        *_OURS[1:], "--input-format", "stream-json", "--output-format", "stream-json", "--permission-prompt-tool", "stdio",
        "--resume" if resumes else "--session-id", session, *hooked({"SessionStart": start, "UserPromptSubmit": prompt}),
    ]  # fmt: skip


def conversation(place: str) -> str:
    """The session that went on at this place, if Claude Code wrote anything of it down, without which it cannot be resumed."""
    if not place or not Path(place).exists():
        return ""
    return StreamJson(place).written_session()


class StreamJson(PipedDoor):
    """One Claude Code on pipes. `session`: its id; "" = for a look-up alone."""

    name = "stream_json"
    folds = False
    interrupts = True
    """For a message with `steer` the turn that runs is ended first."""
    open_s = OPEN_S

    def __init__(self, notes: str | Path, session: str = "") -> None:
        self._notes = Path(notes)
        self._session = session
        self._transcripts: dict[str, Rows] = {}
        self._pipes: PipedProcess | None = None
        self._shown: Transcript | None = None
        self._numbers = iter(range(1, 2**53))
        self._called: dict[str, asyncio.Future[Row]] = {}
        """Requests of ours that are not answered."""
        self._running: set[str] = set()
        """Commands that were handed over or begun, and have not ended."""
        self._handed_over: set[str] = set()
        """Messages of which it has not said that it began with them."""
        self._proofs: dict[str, Evidence | None] = {}
        """Messages that were begun, or (None) that it will not begin; the newest `MAX_PROOFS`."""
        self._proved = asyncio.Event()
        self._asked: dict[str, Request] = {}
        self._is_open = False
        self._has_ended = False

    def connect(self, process: PipedProcess, transcript: Transcript) -> None:
        """The program was started."""
        self._pipes, self._shown = process, transcript
        process.read(self._line, self._ended, lambda: transcript.add("note", "(a line that is too long to be read)"))

    async def open(self) -> Opened | PassedOver:
        """Greet it: it answers when it takes messages."""
        assert self._pipes is not None, "it was connected"
        try:
            await asyncio.to_thread(append, self._notes, {"pid": self._pipes.pid})
            answer = await self._call({"subtype": "initialize"}, OPEN_S)
        except (OSError, TimeoutError) as error:
            return PassedOver(f"Claude Code does not answer on its pipes: {str(error) or type(error).__name__}")
        if answer.get("subtype") != "success":
            return PassedOver(f"Claude Code refused to begin: {str(answer.get('error'))[:300]}")
        self._is_open = True
        return Opened(str(self._notes))

    @property
    def state(self) -> DoorState:
        """By what it said of each message, and what it asks."""
        if self._has_ended or not self._is_open:
            return "closed"
        if self._asked:
            return "blocked"
        return "busy" if self._running else "idle"

    @property
    def question(self) -> Question | None:
        return next((one.question for one in self._asked.values()), None)

    # --- messages ------------------------------------------------------------------------------------------------------

    async def hand_over(self, delivery_id: str, text: str, *, steer: bool) -> None:  # noqa: ARG002  # whoever steers has interrupted
        """Write it; it is the next prompt."""
        state = self.state
        if state == "closed":
            raise NotHandedOver("Claude Code has ended")
        identifier = message_id(delivery_id)
        try:
            await asyncio.to_thread(append, self._notes, {"handed": identifier, "state": state})
        except OSError as error:
            raise NotHandedOver(f"the note of the hand-over cannot be written: {error}") from error
        self._proofs.pop(identifier, None)
        self._show("message", text)
        try:
            await self._prompt(identifier, text)
        except NotWrittenError as error:
            if error.begun:
                raise
            raise NotHandedOver(str(error)) from error

    async def say(self, text: str) -> None:
        """The prompt of a person. Raises OSError."""
        self._show("person", text)
        await self._prompt(str(uuid.uuid4()), text)

    async def _prompt(self, identifier: str, text: str) -> None:
        self._running.add(identifier)  # it says so later
        self._handed_over.add(identifier)
        message = {"role": "user", "content": [{"type": "text", "text": text}]}
        try:
            await self._send(
                {
                    "type": "user",
                    "uuid": identifier,
                    "message": message,
                    "parent_tool_use_id": None,
                    "session_id": self._session,
                }
            )
        except BaseException:
            self._running.discard(identifier)
            self._handed_over.discard(identifier)
            raise
        finally:
            self.on_change()

    async def evidence(self, delivery_id: str) -> Evidence:
        """What it said of the message. Raises ConnectionError: it has ended, or will not begin with it."""
        identifier = message_id(delivery_id)
        while True:
            self._proved.clear()
            if identifier in self._proofs:
                if (evidence := self._proofs.pop(identifier)) is not None:
                    return evidence
                raise ConnectionError("Claude Code does not begin with it")
            if self._has_ended:
                raise ConnectionError("Claude Code has ended")
            await self._proved.wait()

    async def interrupt(self) -> None:
        """End the turn that runs. Raises OSError: it was not told."""
        if self.state in ("busy", "blocked"):
            self._show("note", "interrupted")
            await self._send(self._control({"subtype": "interrupt"})[1])

    async def look_up(self, delivery_id: str) -> LookedUp:
        """By the transcripts of its session, and by what was noted of it."""
        identifier = message_id(delivery_id)
        afresh = StreamJson(self._notes)
        if not await asyncio.to_thread(self._notes.exists):
            return Unknowable("the notes of Claude Code's hooks are gone")
        is_alive = await _outlives(await asyncio.to_thread(afresh._read_notes))  # what is dead by then writes no more
        handed = await asyncio.to_thread(afresh._handed, identifier)
        if isinstance(handed, Evidence):
            return Accepted(handed)
        if (pointer := await asyncio.to_thread(afresh._written, identifier)) is not None:
            return Accepted(Evidence("transcript", pointer))
        if handed == "no":
            return Absent()
        if is_alive:
            return Unknowable("Claude Code still runs and may have the message in its queue")
        if handed == "begun":
            return Unknowable("Claude Code ended with a prompt begun that its transcript does not show")
        return Absent()

    def _handed(self, identifier: str) -> Literal["no", "yes", "begun"] | Evidence:
        """What the notes say of it; that of which they say nothing never left us."""
        handed: Literal["no", "yes", "begun"] = "no"
        for line, row in Rows(self._notes).new():
            if row.get("handed") == identifier:
                handed = "yes" if row.get("state") == "idle" else "begun"
            elif row.get("started") == identifier:
                return Evidence("lifecycle", f"{self._notes}:{line}")
            elif row.get("dropped") == identifier:
                handed = "no"
            elif handed == "yes" and "prompt" in row:
                handed = "begun"
        return handed

    def _written(self, identifier: str) -> str | None:
        """Where the transcript has it."""
        for path, rows in self._transcripts.items():
            for line, row in rows.new(identifier):
                if row.get("type") == "user" and row.get("uuid") == identifier:
                    return f"{path}:{line}"
        return None

    def _read_notes(self) -> int:
        """The process id of the program; 0 = it was not noted."""
        pid = 0
        for _, row in Rows(self._notes).new():
            if isinstance(path := inner(row, "start", "transcript_path"), str):
                self._transcripts.setdefault(path, Rows(path))
            elif isinstance(session := row.get("session"), str):
                self._session = session
            elif isinstance(number := row.get("pid"), int):
                pid = number
        return pid

    def written_session(self) -> str:
        """The session, if it has a transcript; else ""."""
        self._read_notes()
        return self._session if any(rows.path.exists() for rows in self._transcripts.values()) else ""

    async def close(self) -> None:
        """Nothing more is taken."""
        self._has_ended = True
        self._proved.set()
        self._asked.clear()
        for answer in self._called.values():
            if not answer.done():
                answer.set_exception(ConnectionError("the door was closed"))

    # --- questions -----------------------------------------------------------------------------------------------------

    async def answer(self, question_id: str, option_id: str) -> None:
        """Answer its request, or go on to what it asks next."""
        asked = next((one for one in self._asked.values() if one.question.id == question_id), None)
        if asked is None or self._has_ended or option_id not in {one.id for one in asked.question.options}:
            raise QuestionGone
        label = next(one.label for one in asked.question.options if one.id == option_id)
        result = asked.answer(option_id)
        if result is not None:
            del self._asked[asked.identifier]
        self._show("note", f"answered: {label}")
        self.on_change()
        if result is not None:
            await self._respond(asked.identifier, {"subtype": "success", "response": result})

    def _requested(self, identifier: str, values: Row) -> None:
        asked = request(identifier, values)
        if asked is None:
            reason = f"relaybroker does not know {str(values.get('subtype'))[:100]}"
        elif len(self._asked) >= MAX_QUESTIONS:
            reason = "too many questions are open"
        else:
            self._asked[identifier] = asked
            for step in asked.steps:
                self._show("asked", step.listed)
            self.on_change()
            return
        self._spawn(self._respond(identifier, {"subtype": "error", "error": reason}))

    # --- lines ---------------------------------------------------------------------------------------------------------

    def _line(self, line: bytes) -> None:
        row = read_row(line)
        if row is None:
            self._show("note", line[:MAX_JUNK].decode("utf-8", "replace"))
            return
        match row.get("type"):
            case "command_lifecycle":
                self._lifecycle(row)
            case "control_response" if isinstance(answer := row.get("response"), dict):
                waiting = self._called.pop(str(answer.get("request_id")), None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(answer)
            case "control_request" if isinstance(values := row.get("request"), dict):
                self._requested(str(row.get("request_id")), values)
            case "control_cancel_request":
                self._asked.pop(str(row.get("request_id")), None)
                self.on_change()
            case _:
                self._tell(row)

    def _lifecycle(self, row: Row) -> None:
        identifier, state = row.get("command_uuid"), row.get("state")
        if not isinstance(identifier, str):
            return
        if state == "started":
            self._running.add(identifier)
            self._prove(identifier, self._evidence(row))
        elif state in _OVER:
            if identifier in self._handed_over:  # it was not begun; if it is completed, it has been before
                self._prove(identifier, self._evidence(row) if state == "completed" else None)
            self._running.discard(identifier)
        self.on_change()

    def _evidence(self, frame: Row) -> Evidence:
        return Evidence("lifecycle", f"session {self._session}, frame {frame.get('uuid')}: {frame.get('state')}")

    def _prove(self, identifier: str, evidence: Evidence | None) -> None:
        self._handed_over.discard(identifier)
        self._keep({"dropped" if evidence is None else "started": identifier})
        self._proofs[identifier] = evidence
        while len(self._proofs) > MAX_PROOFS:
            del self._proofs[next(iter(self._proofs))]
        self._proved.set()

    def _tell(self, row: Row) -> None:
        """Show what it says and does."""
        content = inner(row, "message", "content")
        if row.get("type") == "assistant" and isinstance(content, list):
            for part in content:
                text = inner(part, "text") or inner(part, "thinking")
                if isinstance(text, str) and text:
                    self._show("said" if inner(part, "type") == "text" else "thought", text)
                elif inner(part, "type") == "tool_use":
                    self._show("did", f"{inner(part, 'name')} {json.dumps(inner(part, 'input'), ensure_ascii=False)}")
        elif row.get("type") == "result" and row.get("is_error"):
            self._show("failed", str(row.get("result") or row.get("subtype")))

    def _ended(self) -> None:
        self._has_ended = True
        self._asked.clear()
        for answer in self._called.values():
            if not answer.done():
                answer.set_exception(ConnectionError("Claude Code has ended"))
        self._proved.set()
        self.on_change()

    def _show(self, style: Style, text: str) -> None:
        if self._shown is not None:
            self._shown.add(style, text)

    def _keep(self, row: Row) -> None:
        """Note what a look-up of another host may need. Without it, that one is less sure, and says so."""
        try:
            append(self._notes, row)
        except OSError as error:
            _logger.warning("a note of Claude Code cannot be written: %s", error)

    def _control(self, wanted: Row) -> tuple[str, Row]:
        identifier = f"relaybroker-{next(self._numbers)}"
        return identifier, {"type": "control_request", "request_id": identifier, "request": wanted}

    async def _call(self, wanted: Row, limit_s: float) -> Row:
        """Its answer to a request of ours. Raises OSError, TimeoutError."""
        identifier, row = self._control(wanted)
        answer: asyncio.Future[Row] = asyncio.get_running_loop().create_future()
        self._called[identifier] = answer
        try:
            await self._send(row)
            async with asyncio.timeout(limit_s):
                return await answer
        finally:
            self._called.pop(identifier, None)

    async def _respond(self, identifier: str, response: Row) -> None:
        await self._send({"type": "control_response", "response": response | {"request_id": identifier}})

    async def _send(self, row: Row) -> None:
        if self._pipes is None or self._has_ended:
            raise ConnectionError("Claude Code has ended")
        await self._pipes.write(json.dumps(row).encode())

    def _spawn(self, work: Any) -> None:
        async def send() -> None:
            try:
                await work
            except OSError as error:
                _logger.warning("an answer did not reach Claude Code: %s", error)

        tasks.start(send())


async def _outlives(pid: int) -> bool:
    """Whether the program goes on although its input has ended."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + GONE_S
    while (process := process_table.listed(pid) if pid else None) is not None and process.state not in "ZX":
        if loop.time() >= deadline:
            return True
        await asyncio.sleep(LOOK_S)
    return False
