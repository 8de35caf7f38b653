"""What the door `stream_json` relies on, each fact with the installed Claude Code on pipes: no broker, no host."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pytest

from relaybroker.adapters.sessions.door import (
    Absent,
    Accepted,
    Evidence,
    LookedUp,
    Opened,
    PassedOver,
    message_id,
)
from relaybroker.adapters.sessions.kinds import Launch
from relaybroker.adapters.sessions.stream_json import StreamJson, StreamJsonKind
from tests.agents import homes
from tests.agents.bench import PATIENCE
from tests.agents.conftest import new_folder
from tests.agents.doors import until
from tests.agents.homes import Home
from tests.agents.install import Installed
from tests.agents.model_server import Model

KIND = StreamJsonKind()
COLOURS = [
    {"label": "Red", "description": "warm"},
    {"label": "Blue", "description": "cold"},
]


class Pipes:
    """The program's pipes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self._reading: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        return self.process.pid

    def read(
        self, on_line: Callable[[bytes], None], on_end: Callable[[], None], _on_too_long: Callable[[], None]
    ) -> None:
        async def read() -> None:
            assert self.process.stdout is not None
            async for line in self.process.stdout:
                on_line(line.rstrip(b"\n"))
            on_end()

        self._reading = asyncio.create_task(read())

    async def write(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + b"\n")
        await self.process.stdin.drain()


class Shown:
    """What people see."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str]] = []

    def add(self, style: str, text: str) -> None:
        self.entries.append((style, text))


class Piped(NamedTuple):
    """A Claude Code on pipes, its door open."""

    process: asyncio.subprocess.Process
    door: StreamJson
    place: str
    shown: Shown
    model: Model
    since: int

    def arrivals(self, text: str) -> int:
        """How often a text stands in the conversation with the model, in the fullest request."""
        main = [one for one in self.model.requests(self.since) if one["main"]]
        return max((sum(text in said for said in one["texts"]) for one in main), default=0)


class Starter(Protocol):
    def __call__(self, *more: str, resumes: str = "") -> AbstractAsyncContextManager[Piped]: ...


@asynccontextmanager
async def piped(home: Home, model: Model, folder: Path, *more: str, resumes: str = "") -> AsyncIterator[Piped]:
    argv = (*home.argv, *more)
    launch = Launch(uuid.uuid4().hex, argv, home.env, str(home.project), "claude", folder, resumes=resumes)
    prepared = await KIND.prepare(launch)
    assert not isinstance(prepared, PassedOver), prepared
    launch, door = prepared
    assert isinstance(door, StreamJson)
    since = len(model.requests())
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *launch.argv, env=launch.env, cwd=launch.cwd, stdin=pipe, stdout=pipe, limit=2**24, start_new_session=True
    )
    shown = Shown()
    door.connect(Pipes(process), shown)
    try:
        async with asyncio.timeout(60 * PATIENCE):
            opened = await door.open()
        assert isinstance(opened, Opened), opened
        yield Piped(process, door, opened.place, shown, model, since)
    finally:
        await door.close()
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.fixture
def starter(installed: Installed, model: Model) -> Starter:
    if installed.program != "claude":
        pytest.skip("not Claude Code")
    folder = new_folder()
    return partial(piped, homes.make(installed, folder / "place", model.url), model, folder / "door")


@pytest.fixture
async def one(starter: Starter) -> AsyncIterator[Piped]:
    async with starter() as started:
        yield started


async def proof(one: Piped, delivery_id: str) -> Evidence:
    async with asyncio.timeout(30 * PATIENCE):
        return await one.door.evidence(delivery_id)


async def entered(one: Piped, text: str) -> str:
    delivery_id = f"del_{uuid.uuid4().hex}"
    await one.door.hand_over(delivery_id, text, steer=False)
    assert (await proof(one, delivery_id)).kind == "lifecycle"
    return delivery_id


async def idle(one: Piped) -> None:
    await until(lambda: one.door.state == "idle", "idle")


async def looked_up(one: Piped, delivery_id: str) -> LookedUp:
    """By a door that was never opened, as after the host has died."""
    return await KIND.at(one.place).look_up(delivery_id)


async def kill(one: Piped) -> None:
    os.kill(one.process.pid, signal.SIGKILL)
    await one.process.wait()


@pytest.mark.holds(
    "its own door, without terminal: idle, busy, 20 messages, each once, in order, proved by its lifecycle"
)
async def test_messages_enter_once_each_and_in_order(one: Piped) -> None:
    for number in range(20):
        await entered(one, f"message number {number:02}.")
        await idle(one)
    arrived = [text for request in one.model.requests(one.since) if request["main"] for text in request["texts"]]
    numbers = [number for text in arrived for number in range(20) if f"message number {number:02}." in text]
    assert numbers == list(range(20))
    await entered(one, "DELAY 3 a long thought")
    assert one.door.state == "busy"
    await entered(one, "behind a long thought")
    await until(lambda: one.arrivals("behind a long thought") == 1, "at the model")
    await idle(one)
    assert ("said", "ACK") in [(style, text[:3]) for style, text in one.shown.entries]


@pytest.mark.holds("its own door, without terminal: an interrupt ends the turn, and the next message enters")
async def test_an_interrupt_makes_way(one: Piped) -> None:
    await entered(one, "DELAY 60 a very long thought")
    await one.door.interrupt()
    await idle(one)
    await entered(one, "instead of that")
    await until(lambda: one.arrivals("instead of that") == 1, "at the model")


@pytest.mark.holds(
    "its own door, without terminal: a permission is asked with its options, given, refused, and the turn stopped"
)
@pytest.mark.parametrize(("option", "runs"), [("once", True), ("always-1", True), ("no", False), ("stop", False)])
async def test_a_permission_is_asked_and_answered(one: Piped, tmp_path: Path, option: str, *, runs: bool) -> None:
    marker = tmp_path / "allowed"
    await entered(one, f"RUNSHELL touch {marker}")
    asked = await until(lambda: one.door.question, "it asks")
    assert one.door.state == "blocked"
    assert asked.kind == "permission"
    assert f"command: touch {marker}" in asked.text
    assert option in [offered.id for offered in asked.options], asked
    assert not marker.exists()
    await one.door.answer(asked.id, option)
    await idle(one)
    assert one.door.question is None
    assert marker.exists() == runs
    await entered(one, "and one more thing")
    await until(lambda: one.arrivals("and one more thing") == 1, "at the model")


@pytest.mark.holds("its own door, without terminal: a choice is asked step by step and answered by its labels")
async def test_a_choice_is_answered(one: Piped) -> None:
    wanted = [
        {"question": text, "header": "Colour", "multiSelect": False, "options": COLOURS}
        for text in ("Which colour?", "Which other one?")
    ]
    await entered(one, f"CALLTOOL AskUserQuestion {json.dumps({'questions': wanted})}")
    first = await until(lambda: one.door.question, "it asks")
    assert first.text == ("Which colour?",)
    await one.door.answer(first.id, "2")
    second = one.door.question
    assert second is not None
    assert second.text == ("Which other one?",)
    await one.door.answer(second.id, "1")
    await idle(one)
    results = [str(said) for request in one.model.requests(one.since) for said in request["results"]]
    assert any("Which colour?" in said and "Blue" in said and "Red" in said for said in results), results


@pytest.mark.holds("its own door, without terminal: a plan is asked for approval")
async def test_a_plan_is_approved(starter: Starter) -> None:
    async with starter("--permission-mode", "plan") as one:
        await entered(one, 'CALLTOOL ToolSearch {"query": "select:ExitPlanMode", "max_results": 1}')
        await idle(one)
        await entered(one, 'CALLTOOL ExitPlanMode {"plan": "First this.\\nThen that."}')
        asked = await until(lambda: one.door.question, "it asks")
        assert (asked.kind, [offered.id for offered in asked.options]) == ("plan", ["once", "no"]), asked
        await one.door.answer(asked.id, "once")
        await idle(one)


@pytest.mark.holds("its own door, without terminal: another id is no evidence")
async def test_the_id_of_another_message_is_no_evidence(one: Piped) -> None:
    await entered(one, "somebody else's")
    await idle(one)
    other = f"del_{uuid.uuid4().hex}"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await one.door.evidence(other)
    await kill(one)
    assert isinstance(await looked_up(one, other), Absent)


@pytest.mark.holds(
    "its own door, without terminal: a look-up finds what entered, by our notes and by its transcript alone"
)
async def test_what_entered_is_found_after_its_death(one: Piped) -> None:
    delivery_id = await entered(one, "to be found")
    await until(lambda: one.arrivals("to be found") == 1, "at the model")
    await idle(one)
    await kill(one)
    assert isinstance(await looked_up(one, delivery_id), Accepted)
    notes = Path(one.place)
    notes.write_text("\n".join(line for line in notes.read_text().splitlines() if '"started"' not in line) + "\n")
    found = await looked_up(one, delivery_id)
    assert isinstance(found, Accepted)
    assert found.evidence.kind == "transcript"
    path, _, line = found.evidence.pointer.rpartition(":")
    assert message_id(delivery_id) in Path(path).read_text().splitlines()[int(line) - 1]


@pytest.mark.holds("its own door, without terminal: killed between hand-over and proof, the look-up is right")
@pytest.mark.parametrize("after_s", [0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4])
async def test_a_look_up_never_says_absent_of_what_the_model_has_seen(starter: Starter, after_s: float) -> None:
    async with starter() as one:
        await entered(one, "before")
        await idle(one)
        delivery_id = f"del_{uuid.uuid4().hex}"
        await one.door.close()  # the host dies: nobody reads what it says any more
        one.door._has_ended = False
        one.door._is_open = True
        one.door._keep = lambda _row: None  # type: ignore[method-assign]
        await one.door.hand_over(delivery_id, "DELAY 5 between", steer=False)
        await asyncio.sleep(after_s)
        await kill(one)
        answer = await looked_up(one, delivery_id)
        seen = one.arrivals("DELAY 5 between")
        assert not (isinstance(answer, Absent) and seen), answer
        print(f"killed {after_s} s after the hand-over: {answer}, at the model {seen} times")


@pytest.mark.holds(
    "its own door, without terminal: a conversation is resumed; an id that ended is not run again, here nor there"
)
async def test_a_conversation_goes_on_in_the_next_program(starter: Starter) -> None:
    async with starter() as one:
        delivery_id = await entered(one, "before the death")
        await idle(one)
        await one.door.hand_over(delivery_id, "the same id again", steer=False)
        await entered(one, "something else")
        await until(lambda: one.arrivals("something else") == 1, "at the model")
        assert one.arrivals("the same id again") == 0
        await kill(one)
        place = one.place
    async with starter(resumes=place) as again:
        assert isinstance(await KIND.at(place).look_up(delivery_id), Accepted)
        await entered(again, "behind the death")
        await until(lambda: again.arrivals("behind the death") == 1, "at the model")
        (transcript,) = {rows.path for door in (again.door, KIND.at(place)) for rows in transcripts(door)}
        said = ("before the death", "behind the death")  # written down after the model was asked
        await until(lambda: all(text in transcript.read_text() for text in said), "both in one transcript")
        await idle(again)
        await again.door.hand_over(delivery_id, "run once more", steer=False)
        assert (await proof(again, delivery_id)).kind == "lifecycle"
        await idle(again)
        assert again.arrivals("run once more") == 0, "its transcript has the id"


def transcripts(door: Any) -> list[Any]:
    door._read_notes()
    return list(door._transcripts.values())
