"""The door `acp`: a program without terminal that speaks the Agent Client Protocol on its standard input and output.

`initialize` offers version 2 and takes what the program answers, 2 or 1. A message is `session/prompt`, one at a time. Version 2 answers
as soon as the message is in the conversation; version 1 answers at the end of the turn, and only that is the proof. What the program
wants to be allowed (`session/request_permission`) is a question for a person; on `session/cancel` every open one is answered `cancelled`.
`notes` has the session's id, and of each message that it was about to be handed over, and what the program answered: the look-up reads
these. When a program that crashed is started again, its session is resumed, or loaded; what the loaded one replays is noted, too.
Source: ADR-0093, ADR-0094; agentclientprotocol.com.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from relaybroker.adapters.sessions.host import tasks
from relaybroker.adapters.sessions.host.piped_process import NotWrittenError
from relaybroker.adapters.sessions.host.process import find_command
from relaybroker.adapters.sessions.rows import Row, Rows, append, inner
from relaybroker.adapters.sessions.rpc_pipes import NOT_FOUND, RefusedError, RpcPipes
from relaybroker.domain.questions import Option, question

if TYPE_CHECKING:
    from collections.abc import Callable

    from relaybroker.adapters.sessions.door import Door, DoorState, LookedUp
    from relaybroker.adapters.sessions.host.piped_process import PipedProcess
    from relaybroker.adapters.sessions.kinds import Launch
    from relaybroker.adapters.sessions.transcript import Transcript

VERSIONS = (2, 1)
"""Of the protocol, the newest first."""
OPEN_S = 90.0
"""A program that fetches itself first (npx) answers within this time."""
RESTART_S = 30.0
"""So long a look-up waits for a program that is started again and replays its conversation."""
LOOK_S = 0.2
MAX_QUESTIONS = 16
"""Questions of one program that are open at once; more are answered `cancelled`."""
MAX_TOOLS = 256
"""Running tools whose title is remembered."""
SERVER = "agent-relay"
"""The name of our MCP server in the program."""
LOGIN_WANTED = -32000
"""The error of a program that nobody has logged in to."""
_NOT_TAKEN = (LOGIN_WANTED, -32600, -32601, -32602)
"""Errors by which a prompt was not begun."""
_OURS = re.compile(r"(RELAY_|RELAYBROKER_|AGENT_RELAY_)")

_logger = logging.getLogger(__name__)


class AcpKind:
    """Starts the program as it is: its command line says that it speaks the protocol."""

    async def prepare(self, launch: Launch) -> tuple[Launch, Door] | PassedOver:
        await asyncio.to_thread(launch.folder.mkdir, mode=0o700, parents=True, exist_ok=True)
        return launch, Acp(launch.folder / f"acp-{uuid.uuid4().hex}.jsonl", launch)

    def at(self, place: str) -> Door:
        return Acp(place)


class Acp(PipedDoor):
    """One session of one program."""

    name = "acp"
    folds = False
    interrupts = True
    open_s = OPEN_S

    def __init__(self, notes: str | Path, launch: Launch | None = None) -> None:
        self._notes = Path(notes)
        self._launch = launch
        """None: for a look-up alone."""
        self._rpc: RpcPipes | None = None
        self._transcript: Transcript | None = None
        self._version = 0
        self._session = ""
        self._prompt: asyncio.Future[Row] | None = None
        """In flight."""
        self._runs = False
        """Version 2: a turn runs, after its prompt was answered."""
        self._cancelled = False
        """The turn that runs was told to end."""
        self._proofs: dict[str, asyncio.Future[Evidence]] = {}
        """Of messages that were handed over and that somebody waits for."""
        self._questions: dict[str, tuple[Any, Question]] = {}
        """Id of the question -> the program's request, and what it asks; the oldest first."""
        self._tools: dict[str, str] = {}
        self._replay: _Replay | None = None
        self._is_closed = False

    def connect(self, process: PipedProcess, transcript: Transcript) -> None:
        self._transcript = transcript
        self._rpc = RpcPipes(
            process,
            on_notification=self._notified,
            on_request=self._requested,
            on_end=self._ended,
            on_junk=lambda said: transcript.add("note", said),
        )

    # --- opening -------------------------------------------------------------------------------------------------------

    async def open(self) -> Opened | PassedOver:
        """Greet the program and begin its session, or go on with the one of the program before."""
        assert self._rpc is not None, "it was connected"
        try:
            greeting = await self._greet(self._rpc)
            if isinstance(greeting, PassedOver):
                return greeting
            await self._begin(self._rpc, greeting)
            await asyncio.to_thread(append, self._notes, {"session": self._session, "version": self._version})
        except RefusedError as error:
            wants = "wants a login, which a person does with the program itself" if error.code == LOGIN_WANTED else ""
            return PassedOver(f"the program {wants}: {error}" if wants else f"the program refused the session: {error}")
        except OSError as error:
            return PassedOver(f"the program does not speak the Agent Client Protocol here: {error}")
        return Opened(str(self._notes))

    async def _greet(self, rpc: RpcPipes) -> Row | PassedOver:
        """What the program can, by its answer to `initialize`."""
        us = {"name": "relaybroker", "title": "relaybroker", "version": "1"}
        can = {"fs": {"readTextFile": False, "writeTextFile": False}, "terminal": False}
        greeting: Row = {}
        for version in VERSIONS:
            values = {"clientInfo": us, "clientCapabilities": can}
            if version >= 2:
                values |= {"info": us, "capabilities": {}}
            try:
                greeting = await rpc.call("initialize", OPEN_S, protocolVersion=version, **values)
            except RefusedError:
                if version == VERSIONS[-1]:
                    raise
                continue  # it does not even say which version it speaks when it is asked for another one
            break
        taken = greeting.get("protocolVersion")
        if taken not in VERSIONS:
            return PassedOver(f"the program speaks version {taken} of the Agent Client Protocol, not 1 or 2")
        self._version = int(taken)
        return greeting

    async def _begin(self, rpc: RpcPipes, greeting: Row) -> None:
        assert self._launch is not None, "only a door of a program that starts is opened"
        where = {"cwd": self._launch.cwd, "mcpServers": self._servers(self._launch)}
        former = await asyncio.to_thread(_session_in, self._launch.resumes) if self._launch.resumes else ""
        open_ones = bool(former) and bool(await asyncio.to_thread(_left_open, Path(self._launch.resumes)))
        for method in _ways_back(greeting, replay=open_ones) if former else ():
            replay = self._replay = _Replay()
            try:
                await rpc.call(method, OPEN_S, sessionId=former, **where)
            except RefusedError as error:
                self._show("note", f"the conversation before cannot be gone on with: {error}")
                continue
            finally:
                self._replay = None
            self._session = former
            self._show("note", "the conversation before goes on")
            await asyncio.to_thread(_note_replayed, Path(self._launch.resumes), replay.messages())
            return
        answer = await rpc.call("session/new", OPEN_S, **where)
        if not isinstance(session := answer.get("sessionId"), str):
            raise RefusedError({"message": "it named no session"})
        self._session = session

    def _servers(self, launch: Launch) -> list[Row]:
        """Our MCP server, as the program is to start it. The token goes to the program's own input, and into no argument."""
        if not launch.tools or (command := find_command(launch.tools[0], launch.env, launch.cwd)) is None:
            return []
        server = {
            "name": SERVER,
            "command": str(Path(launch.cwd) / command),
            "args": list(launch.tools[1:]),
            "env": [{"name": name, "value": value} for name, value in launch.env.items() if _OURS.match(name)],
        }
        return [server | ({"type": "stdio"} if self._version >= 2 else {})]

    # --- state ---------------------------------------------------------------------------------------------------------

    @property
    def proves_at_end(self) -> bool:  # type: ignore[override]  # known once the program has said its version
        """Version 1 answers a prompt when its turn ends."""
        return self._version == 1

    @property
    def state(self) -> DoorState:
        """By what is in flight, and what the program asks."""
        if self._is_closed or self._rpc is None or self._rpc.has_ended:
            return "closed"
        if self._questions:
            return "blocked"
        return "busy" if self._prompt is not None or self._runs else "idle"

    @property
    def question(self) -> Question | None:
        """The oldest that is open."""
        return next((question for _, question in self._questions.values()), None)

    # --- messages ------------------------------------------------------------------------------------------------------

    async def hand_over(self, delivery_id: str, text: str, *, steer: bool) -> None:  # noqa: ARG002  # whoever steers has interrupted
        """Begin a turn with it."""
        if self._rpc is None or self.state != "idle":
            raise NotHandedOver(f"the program is {self.state}")
        identifier = message_id(delivery_id)
        try:
            await asyncio.to_thread(append, self._notes, {"handed": identifier, "digest": _digest(text)})
        except OSError as error:
            raise NotHandedOver(f"the note of the hand-over cannot be written: {error}") from error
        self._show("message", text)
        proof: asyncio.Future[Evidence] = asyncio.get_running_loop().create_future()
        proof.add_done_callback(lambda one: one.cancelled() or one.exception())
        self._proofs[delivery_id] = proof
        try:
            await self._begin_turn(text, lambda answer: self._answered(identifier, proof, answer))
        except BaseException as error:
            self._proofs.pop(delivery_id, None)
            if isinstance(error, NotWrittenError) and not error.begun:
                raise NotHandedOver(str(error)) from error
            raise

    async def say(self, text: str) -> None:
        """The prompt of a person."""
        self._show("person", text)
        await self._begin_turn(text, lambda _answer: None)

    async def _begin_turn(self, text: str, on_answer: Callable[[asyncio.Future[Row]], None]) -> None:
        assert self._rpc is not None, "it was connected"
        holding: asyncio.Future[Row] = asyncio.get_running_loop().create_future()
        self._prompt, self._cancelled = holding, False  # nothing else goes in while this is being written
        try:
            prompt = [{"type": "text", "text": text}]
            answer = await self._rpc.ask("session/prompt", sessionId=self._session, prompt=prompt)
        except BaseException:
            self._prompt = None
            self.on_change()
            raise
        self._prompt, self._runs = answer, self._version >= 2
        self.on_change()
        answer.add_done_callback(on_answer)
        answer.add_done_callback(self._turn_answered)

    def _turn_answered(self, answer: asyncio.Future[Row]) -> None:
        """Version 1: the turn has ended. Version 2: the prompt is in the conversation, or was refused."""
        self._prompt = None
        if answer.exception() is not None:
            self._runs = False
            self._show("failed", str(answer.exception()))
        elif self._version == 1 and (reason := answer.result().get("stopReason")) != "end_turn":
            self._show("note", f"the turn ended: {reason}")
        if self._version == 1:
            self._end_pieces()
        self.on_change()

    def _answered(self, identifier: str, proof: asyncio.Future[Evidence], answer: asyncio.Future[Row]) -> None:
        """Note what the program said to a message: nothing that was taken is asked about twice."""
        error = answer.exception()
        if isinstance(error, ConnectionError):
            proof.set_exception(error)
            return
        if isinstance(error, RefusedError) and error.code in _NOT_TAKEN:
            _keep(self._notes, {"refused": identifier, "detail": str(error)[:300]})
            proof.set_exception(error)
            return
        pointer = f"session {self._session}: {_said(answer)}"
        _keep(self._notes, {"taken": identifier, "kind": self._kind, "pointer": pointer})
        proof.set_result(Evidence(self._kind, pointer))

    @property
    def _kind(self) -> str:
        return "turn" if self._version == 1 else "answer"

    async def evidence(self, delivery_id: str) -> Evidence:
        """The program's answer to the prompt."""
        try:
            return await asyncio.shield(self._proofs[delivery_id])
        finally:
            self._proofs.pop(delivery_id, None)

    async def look_up(self, delivery_id: str) -> LookedUp:
        """By our notes of what the program answered, and of what a session that was loaded anew replayed."""
        identifier = message_id(delivery_id)
        deadline = asyncio.get_running_loop().time() + RESTART_S
        while True:
            known = await asyncio.to_thread(_noted, self._notes, identifier)
            if known is not None:
                return known
            if self._prompt is not None:
                return Unknowable("the turn that began with it, or one before it, still runs")
            if asyncio.get_running_loop().time() >= deadline:
                return Unknowable("the program ended before it said that it took the message")
            await asyncio.sleep(LOOK_S)

    async def interrupt(self) -> None:
        """Tell the program to end its turn, once; what it asks is answered `cancelled`."""
        if self._rpc is None or self.state not in ("busy", "blocked") or self._cancelled:
            return
        self._cancelled = True
        self._show("note", "interrupted")
        await self._rpc.notify("session/cancel", sessionId=self._session)
        while self._questions:
            await self._respond(next(iter(self._questions)), {"outcome": "cancelled"})

    # --- questions -----------------------------------------------------------------------------------------------------

    async def answer(self, question_id: str, option_id: str) -> None:
        """Give the program what a person chose."""
        _, asked = self._questions.get(question_id, (None, None))
        option = next((one for one in asked.options if one.id == option_id), None) if asked is not None else None
        if option is None:
            raise QuestionGone
        self._show("note", f"answered: {option.label}")
        await self._respond(question_id, {"outcome": "selected", "optionId": option.id})

    async def _respond(self, question_id: str, outcome: Row) -> None:
        number, _ = self._questions.pop(question_id)
        self.on_change()
        assert self._rpc is not None, "it asked"
        await self._rpc.respond(number, {"outcome": outcome})

    def _requested(self, number: Any, method: str, values: Row) -> None:
        if method != "session/request_permission":
            self._send(self._refuse(number, method))
        elif len(self._questions) >= MAX_QUESTIONS or self._cancelled:
            self._send(self._cancel(number))
        else:
            asked = _question(values)
            self._questions[asked.id] = (number, asked)
            self._show("asked", asked.listed)
            self.on_change()

    async def _refuse(self, number: Any, method: str) -> None:
        assert self._rpc is not None, "it asked"
        await self._rpc.refuse(number, NOT_FOUND, f"relaybroker does not offer {method[:100]}")

    async def _cancel(self, number: Any) -> None:
        assert self._rpc is not None, "it asked"
        await self._rpc.respond(number, {"outcome": {"outcome": "cancelled"}})

    def _send(self, work: Any) -> None:
        async def send() -> None:
            try:
                await work
            except OSError as error:
                _logger.warning("an answer did not reach the program: %s", error)

        tasks.start(send())

    # --- what the program does -----------------------------------------------------------------------------------------

    def _notified(self, method: str, values: Row) -> None:
        update = values.get("update")
        if method != "session/update" or not isinstance(update, dict):
            return
        kind = str(update.get("sessionUpdate"))
        text = inner(update, "content", "text")
        if kind == "state_update":
            self._state_said(update.get("state"))
        elif kind == "user_message_chunk":
            if self._replay is not None and isinstance(text, str):
                self._replay.add(text)
        elif kind in ("agent_message_chunk", "agent_thought_chunk") and isinstance(text, str):
            if self._replay is not None:
                self._replay.next()
            if self._transcript is not None:
                self._transcript.piece("said" if kind == "agent_message_chunk" else "thought", text)
        elif kind in ("tool_call", "tool_call_update"):
            self._tool(update)
        elif kind == "plan" and isinstance(entries := update.get("entries"), list):
            lines = [f"{inner(one, 'status')}: {inner(one, 'content')}" for one in entries[:50]]
            self._show("note", "\n".join(lines))

    def _state_said(self, state: object) -> None:
        """Version 2. What is said while a prompt waits for its answer is of the turn before."""
        if self._prompt is None:
            self._runs = state != "idle"
            if not self._runs:
                self._end_pieces()
            self.on_change()

    def _tool(self, update: Row) -> None:
        identifier, title, status = (update.get(key) for key in ("toolCallId", "title", "status"))
        is_new = identifier not in self._tools
        if isinstance(identifier, str):
            self._tools[identifier] = str(title or self._tools.get(identifier) or "a tool")
            while len(self._tools) > MAX_TOOLS:
                del self._tools[next(iter(self._tools))]
        if is_new or status in ("completed", "failed"):
            name = self._tools.get(str(identifier), "a tool")
            self._show("failed" if status == "failed" else "did", f"{name}: {status}" if status else name)

    def _ended(self) -> None:
        self._questions.clear()
        self._end_pieces()
        self.on_change()

    def _end_pieces(self) -> None:
        if self._transcript is not None:
            self._transcript.end_piece()

    def _show(self, style: Any, text: str) -> None:
        if self._transcript is not None:
            self._transcript.add(style, text)

    async def close(self) -> None:
        """The pipes are the session's; a delivery that is given to the door afterwards is refused."""
        self._is_closed = True


class _Replay:
    """The messages of people in a conversation that is loaded, each of which may come in pieces."""

    def __init__(self) -> None:
        self._messages: list[list[str]] = [[]]

    def add(self, piece: str) -> None:
        self._messages[-1].append(piece)

    def next(self) -> None:
        if self._messages[-1]:
            self._messages.append([])

    def messages(self) -> list[str]:
        """All of them, and each piece by itself: some programs send several messages in a row."""
        whole = ["".join(pieces) for pieces in self._messages]
        return whole + [piece for pieces in self._messages for piece in pieces]


def _question(values: Row) -> Question:
    """What a request for a permission asks."""
    call = values.get("toolCall")
    said = [str(inner(call, "title") or "it wants to use a tool")]
    contents = inner(call, "content")
    for content in contents if isinstance(contents, list) else ():
        text = inner(content, "content", "text")
        path = inner(content, "path")
        said += [str(one) for one in (text, path) if one]
    places = inner(call, "locations")
    said += [str(path) for one in (places if isinstance(places, list) else ()) if (path := inner(one, "path"))]
    options = values.get("options")
    offered = [
        Option(
            str(inner(one, "optionId")),
            str(inner(one, "name") or inner(one, "optionId")),
            str(inner(one, "kind") or ""),
        )
        for one in (options if isinstance(options, list) else ())
    ]
    return question(uuid.uuid4().hex, "permission", said, offered)


def _ways_back(greeting: Row, *, replay: bool) -> list[str]:
    """The requests by which the program goes on with a session, the best first; `replay`: one that tells what is in it."""
    if isinstance(inner(greeting, "capabilities", "session"), dict):
        return ["session/resume"]  # of version 2: it is part of having sessions
    can = greeting.get("agentCapabilities")
    ways = ["session/resume"] if inner(can, "sessionCapabilities", "resume") is not None else []
    ways += ["session/load"] if inner(can, "loadSession") else []
    return sorted(ways, key="session/load".__ne__) if replay else ways


def _said(answer: asyncio.Future[Row]) -> str:
    """The program's answer to a prompt, in a few words."""
    if (error := answer.exception()) is not None:
        return f"the turn failed: {error}"[:300]
    result = answer.result()
    return str(result.get("messageId") or result.get("stopReason") or "answered")[:200]


def _digest(text: str) -> str:
    """Of a message, however its white space was treated."""
    return hashlib.sha256(" ".join(text.split()).encode("utf-8", "replace")).hexdigest()


def _keep(notes: Path, row: Row) -> None:
    """Note what is known; a disk that takes no notes costs the look-up its answer, and nothing else."""
    try:
        append(notes, row)
    except OSError as error:
        _logger.warning("what the program answered cannot be noted: %s", error)


def _session_in(notes: str) -> str:
    """The session that the notes of a door have; "" = none."""
    sessions = [row["session"] for _, row in Rows(notes).new("session") if isinstance(row.get("session"), str)]
    return sessions[-1] if sessions else ""


def _note_replayed(notes: Path, messages: list[str]) -> None:
    """Note which of the messages that the program before left open are in its conversation."""
    digests = {_digest(message) for message in messages}
    for row in _left_open(notes):
        if row.get("digest") in digests:
            _keep(notes, {"taken": row["handed"], "kind": "replay", "pointer": f"replayed; {notes}"})


def _left_open(notes: Path) -> list[Row]:
    """The messages that were handed over and of which the notes do not tell what became."""
    rows = [row for _, row in Rows(notes).new()]
    settled = {row.get("taken") or row.get("refused") for row in rows}
    return [row for row in rows if isinstance(row.get("handed"), str) and row["handed"] not in settled]


def _noted(notes: Path, identifier: str) -> LookedUp | None:
    """What the notes say of a message; None: it was handed over, and they do not tell what became of it."""
    if not notes.exists():
        return Unknowable("the notes of the door are gone")
    known: LookedUp | None = Absent()
    for _, row in Rows(notes).new(identifier):
        if row.get("handed") == identifier:
            known = None
        elif row.get("refused") == identifier:
            known = Absent()
        elif row.get("taken") == identifier:
            known = Accepted(Evidence(str(row.get("kind")), str(row.get("pointer"))))
    return known
