"""What agents' programs ask, and a person's answer to it, without a terminal of one's own.

Where a door of the program tells its question, the answer goes there. Else the screen is read, the mark of a list is moved, looked for
where it was meant to go, and only then confirmed; so nothing is chosen that nobody named, also while the program repaints. Nothing is
ever answered by itself.

Source: spec/real-agents.md; ADR-0072, ADR-0095.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType

from relaybroker.adapters.http.api.answers import Answer
from relaybroker.adapters.http.api.bodies import AnswerBody
from relaybroker.adapters.http.api.broker_access import BrokerAccess
from relaybroker.adapters.http.api.input_stream import Write
from relaybroker.adapters.http.api.rendering import rendered
from relaybroker.adapters.http.api.routing import route
from relaybroker.adapters.sessions.host import protocol
from relaybroker.adapters.sessions.terminal import options
from relaybroker.adapters.sessions.terminal.options import Asked, Option
from relaybroker.domain import inputs
from relaybroker.domain.entities import Registration
from relaybroker.domain.errors import InvalidRequest, Refusal
from relaybroker.domain.plain_text import plain
from relaybroker.domain.questions import Question, option_meant
from relaybroker.domain.worker import DRAFT

LOOK_S = 0.05
MARK_S = 3.0
"""A program moves the mark of its list within this time after a key."""
TYPED_S = 1.0
"""A letter is an answer by itself within this time, or it wants Enter behind it."""
AGAIN_S = 1.5
"""A list that still stands after this time gets its Enter again."""
ENDED_S = 3.0
"""The end of a program is known within this time after its terminal is gone."""
RECORD_WAIT_S = 5.0
SCREEN = "screen"
"""Where a question comes from that no door tells."""
UNNAMED = "local API"
"""Who answers without a name."""
_WANTS_TEXT = "; it wants a text or keys: attach to it"

AskHost = Callable[[protocol.Snapshot | protocol.AnswerQuestion], Awaitable[protocol.Answer]]
"""Asks the PTY host. Raises InvalidRequest."""


class OptionView(Answer, frozen=True, kw_only=True):
    """One way to answer. `key`: its number or letter; `more`: what stands below its label. `id` and `kind`: as its program's door tells."""

    key: str
    label: str
    marked: bool
    more: str | UnsetType = UNSET
    id: str | UnsetType = UNSET
    kind: str | UnsetType = UNSET


class QuestionView(Answer, frozen=True, kw_only=True):
    """What a program asks. Without options it wants a text or keys: attach to it. `origin`: `screen`, or its door, which gives an `id`."""

    name: str
    question: str
    origin: str
    id: str | UnsetType = UNSET
    text: list[str]
    options: list[OptionView]


class Questions(Answer, frozen=True, kw_only=True):
    """What all agents' programs ask now."""

    questions: list[QuestionView]


class Answered(Answer, frozen=True, kw_only=True):
    """The option was chosen, and the question is gone. `by`: who is recorded as having answered."""

    success: bool
    name: str
    question: str
    option: str
    by: str


class _Standing(NamedTuple):
    """What is asked, and since when: the same question asked again is another one."""

    question: str
    """Its name; blank when nothing is asked."""
    since: float
    question_of_door: Question | None = None
    """What a door of the program tells of it; None: it is on the screen."""


class _Screen(NamedTuple):
    """One look at a terminal."""

    rows: list[str]
    row: int
    """That of the cursor, from 0."""
    offset: int
    """Bytes that the program has written."""


class _Chosen(NamedTuple):
    """An option whose keys were pressed."""

    option: Option
    standing: _Standing
    asked: Asked
    """What was on the screen before."""
    confirmed: int | None
    """For a list: how much the program had written when it got its Enter."""


class QuestionRoutes:
    """Handlers of these routes.

    Args:
        access: the broker.
        ask_host: reads a terminal, gives an answer to a door.
        write: writes to a terminal.
    """

    def __init__(self, access: BrokerAccess, ask_host: AskHost, write: Write) -> None:
        self._access, self._ask_host, self._write = access, ask_host, write
        self._answering: set[str] = set()
        """Sessions whose question is being answered: by one person at a time."""

    @route("GET /api/questions", "List the questions of agents' programs, with their options.", errors=(429, 503, 504))
    async def questions(self, _request: web.Request) -> Questions:
        """GET /api/questions."""
        shown = []
        for registration in [one for one in self._access.state.registrations.values() if self._standing(one).question]:
            try:
                shown.append(await self._shown(registration))
            except InvalidRequest:
                if self._standing(registration).question:
                    raise
        return Questions(questions=shown)

    @route(
        "GET /api/spawned/{name}/question", "Get the question of the agent's program.", errors=(404, 409, 429, 503, 504)
    )
    async def question(self, request: web.Request) -> QuestionView:
        """GET /api/spawned/{name}/question."""
        return await self._shown(self._asking(request.match_info["name"]))

    @route(
        "POST /api/spawned/{name}/answer",
        "Answer the question of the agent's program with one of its options.",
        errors=(404, 409, 429, 503, 504),
        about="name",
    )
    async def answer(self, request: web.Request, body: AnswerBody) -> Answered:
        """POST /api/spawned/{name}/answer."""
        if not body.option.strip():
            raise InvalidRequest(Refusal.INVALID, "missing_field", "Missing required field: option", field="option")
        registration = self._asking(request.match_info["name"])
        standing, session_id = self._standing(registration), registration.session_id
        if body.question and body.question not in (
            standing.question,
            standing.question_of_door.id if standing.question_of_door else "",
        ):
            raise _changed(registration.name)
        by = plain(body.by.strip()) or UNNAMED
        if standing.question_of_door is not None:
            return await self._give(registration, standing.question_of_door, body, by)
        if session_id in self._answering:
            text = f"Somebody else is answering '{registration.name}'"
            raise InvalidRequest(Refusal.CONFLICT, "question_changed", text, name=registration.name)
        self._answering.add(session_id)
        try:
            option = await self._choose(registration, standing, body)
        finally:
            self._answering.discard(session_id)
        reply = await self._access.ask(
            lambda request_id: inputs.QuestionAnswered(
                request_id=request_id,
                session_id=session_id,
                name=registration.name,
                question=standing.question,
                option=option.label,
                by=by,
            ),
            RECORD_WAIT_S,
        )
        rendered(reply)
        return Answered(success=True, name=registration.name, question=standing.question, option=option.label, by=by)

    async def _give(self, registration: Registration, asked: Question, body: AnswerBody, by: str) -> Answered:
        """Answer through the door. The host reports what was given, so that it is recorded also if this broker is killed now."""
        chosen = option_meant(asked, body.option)
        if chosen is None:
            raise _no_option(registration.name, body.option, _options_of(asked))
        await self._ask_host(
            protocol.AnswerQuestion(
                request_id=uuid.uuid4().hex,
                session_id=registration.session_id,
                question_id=asked.id,
                option_id=chosen.id,
                by=by,
            )
        )
        with suppress(TimeoutError):
            async with asyncio.timeout(RECORD_WAIT_S):
                while self._standing(registration).question_of_door == asked:  # noqa: ASYNC110  # the core wakes nobody
                    await asyncio.sleep(LOOK_S)
        return Answered(success=True, name=registration.name, question=asked.kind, option=chosen.label, by=by)

    # --- reading ------------------------------------------------------------------------------------------------------

    def _standing(self, registration: Registration) -> _Standing:
        """What the program asks now."""
        program = self._access.state.workers.get(registration.session_id)
        if program is None or program.ended or program.blocked_by == DRAFT:
            return _Standing("", 0.0)
        return _Standing(program.blocked_by, program.blocked_since, program.question)

    def _asking(self, name: str) -> Registration:
        registration = self._access.state.registration_of(name)
        program = self._access.state.workers.get(registration.session_id) if registration is not None else None
        if registration is None or program is None or program.ended:
            raise InvalidRequest(Refusal.ABSENT, "agent_not_found", f"unknown worker '{name}'", name=name)
        if not self._standing(registration).question:
            raise InvalidRequest(Refusal.CONFLICT, "no_question", f"'{registration.name}' asks nothing", name=name)
        return registration

    async def _shown(self, registration: Registration) -> QuestionView:
        standing = self._standing(registration)
        if standing.question_of_door is not None:
            return QuestionView(
                name=registration.name,
                question=standing.question,
                origin=self._access.state.workers[registration.session_id].door,
                id=standing.question_of_door.id,
                text=list(standing.question_of_door.text),
                options=[
                    OptionView(key=one.key, label=one.label, marked=False, id=option.id, kind=option.kind or UNSET)
                    for one, option in zip(
                        _options_of(standing.question_of_door), standing.question_of_door.options, strict=True
                    )
                ],
            )
        asked = await self._read(registration.session_id)
        return QuestionView(
            name=registration.name,
            question=standing.question,
            origin=SCREEN,
            text=list(asked.text),
            options=[_view(option) for option in asked.options],
        )

    async def _screen(self, session_id: str) -> _Screen:
        answer = await self._ask_host(protocol.Snapshot(request_id=uuid.uuid4().hex, session_id=session_id))
        row, _ = msgspec.convert(answer.data["cursor"], tuple[int, int])
        return _Screen(str(answer.data["screen"]).split("\n"), row - 1, msgspec.convert(answer.data["offset"], int))

    async def _read(self, session_id: str) -> Asked:
        screen = await self._screen(session_id)
        return options.asked(screen.rows, screen.row)

    # --- choosing -----------------------------------------------------------------------------------------------------

    async def _choose(self, registration: Registration, standing: _Standing, body: AnswerBody) -> Option:
        asked = await self._read(registration.session_id)
        option = options.chosen(asked.options, body.option)
        if option is None:
            raise _no_option(registration.name, body.option, asked.options)
        try:
            async with asyncio.timeout(body.timeout_ms / 1000):
                if option.keys:
                    await self._write(registration.session_id, option.keys)
                    confirmed = None
                else:
                    confirmed = await self._confirm(registration, option)
                await self._until_taken(registration, _Chosen(option, standing, asked, confirmed))
        except TimeoutError:
            raise _not_taken(registration.name) from None
        return option

    async def _confirm(self, registration: Registration, option: Option) -> int:
        """Move the mark to the option and press Enter where it stands at it; how much the program had written by then.

        Raises:
            InvalidRequest: it does not get there, or something else is asked by now; nothing was chosen.
        """
        for _ in range(2 * options.MAX_OPTIONS):
            screen = await self._screen(registration.session_id)
            asked = options.asked(screen.rows, screen.row)
            if not any(options.is_same(one, option) for one in asked.options):
                raise _changed(registration.name)
            key = options.move(asked.options, option)
            await self._write(registration.session_id, key)
            if key == options.ENTER:
                return screen.offset
            await self._until_moved(registration, asked)
        raise _not_taken(registration.name)

    async def _until_moved(self, registration: Registration, before: Asked) -> None:
        deadline = asyncio.get_running_loop().time() + MARK_S
        while _marked(await self._read(registration.session_id)) == _marked(before):
            if asyncio.get_running_loop().time() >= deadline:
                raise _not_taken(registration.name)
            await asyncio.sleep(LOOK_S)

    async def _until_taken(self, registration: Registration, chosen: _Chosen) -> None:
        """Wait until the question is gone, perhaps with its program.

        Programs ignore an Enter that comes too soon (Claude Code): one that has written nothing since gets it again.
        Where it has, what looks the same may be the same question asked again.
        """
        loop = asyncio.get_running_loop()
        pressed = loop.time()
        try:
            if chosen.option.keys.isalpha():
                await self._press_enter_behind(registration, chosen.option)
            while self._standing(registration) == chosen.standing:
                screen = await self._screen(registration.session_id)
                if not _is_asked_still(options.asked(screen.rows, screen.row), chosen.asked):
                    return
                if screen.offset == chosen.confirmed and loop.time() >= pressed + AGAIN_S:
                    await self._write(registration.session_id, options.ENTER)
                    pressed = loop.time()
                await asyncio.sleep(LOOK_S)
        except InvalidRequest:
            if not await self._has_ended(registration):
                raise

    async def _has_ended(self, registration: Registration) -> bool:
        """Whether a terminal that cannot be seen is that of a program that has ended; the core may hear of it a moment later."""
        deadline = asyncio.get_running_loop().time() + ENDED_S
        while (program := self._access.state.workers.get(registration.session_id)) is not None and not program.ended:
            if asyncio.get_running_loop().time() >= deadline:
                return False
            await asyncio.sleep(LOOK_S)
        return True

    async def _press_enter_behind(self, registration: Registration, option: Option) -> None:
        """Press Enter behind a letter or word that the program only wrote down."""
        await asyncio.sleep(TYPED_S)
        screen = await self._screen(registration.session_id)
        if screen.rows[screen.row].rstrip().endswith(option.keys.decode()):
            await self._write(registration.session_id, b"\r")


def _is_asked_still(asked: Asked, before: Asked) -> bool:
    """Whether the same is asked as before; programs often ask the next thing at once."""
    return asked.text == before.text and [one.label for one in asked.options] == [one.label for one in before.options]


def _view(option: Option) -> OptionView:
    return OptionView(key=option.key, label=option.label, marked=option.is_marked, more=option.more or UNSET)


def _options_of(asked: Question) -> list[Option]:
    """The options of a question that a door tells, each with the number by which a person may name it."""
    return [Option(one.label, str(number)) for number, one in enumerate(asked.options, 1)]


def _no_option(name: str, answer: str, offered: Sequence[Option]) -> InvalidRequest:
    text = f"'{answer[:80]}' is no option of '{name}'"
    text += f": {', '.join(f'{one.key} ({one.label})' for one in offered)}" if offered else _WANTS_TEXT
    return InvalidRequest(Refusal.INVALID, "unknown_option", text, name=name)


def _marked(asked: Asked) -> tuple[str, str] | None:
    return next(((option.key, option.label) for option in asked.options if option.is_marked), None)


def _changed(name: str) -> InvalidRequest:
    text = f"'{name}' asks something else by now; nothing was chosen"
    return InvalidRequest(Refusal.CONFLICT, "question_changed", text, name=name)


def _not_taken(name: str) -> InvalidRequest:
    text = f"'{name}' asks the same still, or the same again: look at it before you answer once more"
    return InvalidRequest(Refusal.CONFLICT, "answer_not_taken", text, name=name)
