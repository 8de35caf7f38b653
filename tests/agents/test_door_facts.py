"""What the adapters of the programs' own doors rely on, each fact with the installed version: no broker, no host."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from pathlib import Path
from typing import Protocol

import pytest

from relaybroker.adapters.sessions.door import (
    Absent,
    Accepted,
    Evidence,
    LookedUp,
    NotHandedOver,
    QuestionGone,
    Unknowable,
    message_id,
)
from relaybroker.adapters.sessions.known import KINDS
from relaybroker.adapters.sessions.rows import Rows
from tests.agents.bench import PATIENCE
from tests.agents.conftest import new_folder
from tests.agents.doors import DOORS, Doored, doored, question, until
from tests.agents.install import Installed
from tests.agents.model_server import Model
from tests.agents.test_messages import BODIES, LONG, is_whole

DRAFT = "half a draft"


class Starter(Protocol):
    def __call__(self, *more: str) -> AbstractAsyncContextManager[Doored]: ...


@pytest.fixture
def starter(installed: Installed, model: Model) -> Starter:
    """Starts the program with its door; skips one that has none."""
    if installed.program not in DOORS:
        pytest.skip("no door of its own")
    return partial(doored, installed, model, new_folder())


@pytest.fixture
async def one(starter: Starter) -> AsyncIterator[Doored]:
    async with starter() as started:
        yield started


def new_id() -> str:
    return f"del_{uuid.uuid4().hex}"


async def evidence_of(one: Doored, delivery_id: str, limit_s: float = 30.0) -> Evidence:
    async with asyncio.timeout(limit_s * PATIENCE):
        return await one.door.evidence(delivery_id)


async def entered(one: Doored, text: str, *, steer: bool = False) -> str:
    """Hand a text over and wait for the proof."""
    delivery_id = new_id()
    await one.door.hand_over(delivery_id, text, steer=steer)
    evidence = await evidence_of(one, delivery_id)
    assert_shows(evidence, delivery_id)
    return delivery_id


def assert_shows(evidence: Evidence, delivery_id: str) -> None:
    """The pointer leads to a row with the id."""
    place, _, line = evidence.pointer.rpartition(" in ")[2].rpartition(":")
    rows = Path(place).read_text().splitlines()
    assert message_id(delivery_id) in rows[int(line) - 1], evidence


async def looked_up(one: Doored, delivery_id: str) -> LookedUp:
    """By a door that was never opened, as after the host has died."""
    return await KINDS[one.door.name].at(one.place).look_up(delivery_id)


async def idle(one: Doored, limit_s: float = 30.0) -> None:
    await until(lambda: one.door.state == "idle", "idle", limit_s)


async def kill(one: Doored) -> None:
    """`kill -9` of what takes the messages: the program, or its server."""
    process = None if one.server is None else one.server.process
    os.kill(one.terminal.pid if process is None else process.pid, signal.SIGKILL)
    await until(one.terminal.exited.is_set if process is None else lambda: process.has_ended, "it is dead")


@pytest.mark.holds("its own door, idle: entered once, proved")
async def test_a_message_to_an_idle_program_enters_once_and_is_proved(one: Doored) -> None:
    for text in (*BODIES.values(), LONG):
        since = len(one.model.requests())
        await entered(one, text)
        await idle(one)
        said = [said for request in one.model.requests(since) if request["main"] for said in request["texts"]]
        assert sum(is_whole(text, one_said) for one_said in said) == 1, said


@pytest.mark.holds("its own door, busy: known as busy, enters all the same")
async def test_a_busy_program_says_so_and_takes_a_message_into_its_turn_or_the_next(one: Doored) -> None:
    await entered(one, "DELAY 4 long thought")
    await until(lambda: one.door.state == "busy", "busy", 3)
    late = new_id()
    await one.door.hand_over(late, "while you are busy", steer=False)
    assert_shows(await evidence_of(one, late), late)
    await until(lambda: one.arrivals("while you are busy") == 1, "at the model")
    await idle(one)


@pytest.mark.holds("its own door, steer: enters before the turn ends")
async def test_a_message_that_steers_enters_the_turn_that_runs(one: Doored) -> None:
    await entered(one, "DELAY 20 long thought")
    await until(lambda: one.door.state == "busy", "busy", 3)
    await entered(one, "stop that", steer=True)
    thoughts = [
        request for request in one.model.requests(one.since) if any("long thought" in said for said in request["texts"])
    ]
    assert not any(request.get("seconds", 0) >= 20 for request in thoughts if request["main"]), (
        "it waited for the turn's end"
    )


@pytest.mark.holds("its own door: a draft stays as it is")
async def test_a_draft_in_the_composer_stays(one: Doored) -> None:
    one.terminal.keys(DRAFT)
    await until(lambda: one.composer() == DRAFT, "the draft shows")
    await entered(one, "beside a draft")
    await until(lambda: one.arrivals("beside a draft") == 1, "at the model")
    await idle(one)
    await until(lambda: one.composer() == DRAFT, "the draft is still there")
    assert not one.arrivals(DRAFT)


@pytest.mark.holds("its own door: a question makes it blocked, an answer idle")
async def test_a_permission_question_blocks_and_its_answer_unblocks(one: Doored, tmp_path: Path) -> None:
    marker = tmp_path / "allowed"
    await entered(one, question(one.program, marker))
    await until(lambda: one.door.state == "blocked", "blocked")
    asks = "proceed?" if one.program == "claude" else "followingcommand?"
    await until(lambda: asks in one.terminal.screen.flat, "the question shows")
    assert not marker.exists()
    for _ in range(30):  # a key that comes with the question is not taken for its answer
        one.terminal.keys("1" if one.program == "claude" else "y")
        with suppress(AssertionError):
            await until(marker.exists, "it was allowed", 0.5)
            break
    await idle(one)


@pytest.mark.holds("its own door: tells what it asks and takes the answer; an answer at the terminal ends it, too")
async def test_a_question_is_told_with_its_options_and_answered(one: Doored, tmp_path: Path) -> None:
    if one.program != "codex":
        pytest.skip("its screen tells its questions")
    for name, answers in (("allowed", True), ("typed", False), ("refused", True)):
        marker = tmp_path / name
        await entered(one, question(one.program, marker))
        asked = await until(lambda: one.door.question, "it is told")
        assert any(str(marker) in line for line in asked.text), asked
        kinds = [option.kind for option in asked.options]
        assert {"allow_once", "reject_once"} <= set(kinds), asked
        await until(lambda: "followingcommand?" in one.terminal.screen.flat, "the terminal shows it as well")
        if answers:
            option = asked.options[kinds.index("allow_once" if name == "allowed" else "reject_once")]
            await one.door.answer(asked.id, option.id)
            await until(lambda: "followingcommand?" not in one.terminal.screen.flat, "the terminal takes it away")
            with pytest.raises(QuestionGone):
                await one.door.answer(asked.id, option.id)
        else:
            for _ in range(30):  # a key that comes with the question is not taken for its answer
                one.terminal.keys("y")
                with suppress(AssertionError):
                    await until(marker.exists, "it was allowed", 0.5)
                    break
        await idle(one)
        assert one.door.question is None
        assert marker.exists() == (name != "refused")


@pytest.mark.holds("its own door: 20 messages, each once, in order")
async def test_twenty_messages_enter_each_once_and_in_order(one: Doored) -> None:
    texts = [f"message number {number:02}." for number in range(20)]
    for text in texts:
        await entered(one, text)
        await idle(one)
    arrived = [text for request in one.model.requests(one.since) if request["main"] for text in request["texts"]]
    numbers = [number for said in arrived for number, text in enumerate(texts) if text in said]
    assert numbers == list(range(20))


@pytest.mark.holds("its own door: 45 messages as fast as they go, none dropped")
async def test_more_messages_than_an_inbox_takes_at_once_are_all_taken(one: Doored) -> None:
    for number in range(45):
        await entered(one, f"of forty-five {number:02}")
        await idle(one)


@pytest.mark.holds("its own door: another id is no evidence")
async def test_the_id_of_another_message_is_no_evidence(one: Doored) -> None:
    await entered(one, "somebody else's")
    await idle(one)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await one.door.evidence(new_id())
    assert isinstance(await looked_up(one, new_id()), Absent | Unknowable)


@pytest.mark.holds("its own door: a look-up finds what entered, alive and dead")
async def test_what_entered_is_found_while_it_runs_and_after_its_death(one: Doored) -> None:
    delivery_id = await entered(one, "to be found")
    await until(lambda: one.arrivals("to be found") == 1, "at the model")
    assert isinstance(await looked_up(one, delivery_id), Accepted)
    await kill(one)
    found = await looked_up(one, delivery_id)
    assert isinstance(found, Accepted)
    assert_shows(found.evidence, delivery_id)


@pytest.mark.holds("its own door: killed between hand-over and proof, the look-up is right")
@pytest.mark.parametrize("after_s", [0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4])
async def test_a_look_up_never_says_absent_of_what_the_model_has_seen(starter: Starter, after_s: float) -> None:
    async with starter() as one:
        await entered(one, "before")
        await idle(one)
        delivery_id = new_id()
        await one.door.hand_over(delivery_id, "DELAY 5 between", steer=False)
        await asyncio.sleep(after_s)
        await kill(one)
        answer = await looked_up(one, delivery_id)
        seen = one.arrivals("DELAY 5 between")
        assert not (isinstance(answer, Absent) and seen), answer
        print(f"{one.program} killed {after_s} s after the hand-over: {answer}, at the model {seen} times")


@pytest.mark.holds("its own door: what never left is absent; a dead program takes nothing")
async def test_a_dead_program_is_handed_nothing(one: Doored) -> None:
    await entered(one, "before")
    await idle(one)
    await kill(one)
    delivery_id = new_id()
    with pytest.raises(NotHandedOver if one.server is None else ConnectionError):
        await one.door.hand_over(delivery_id, "too late", steer=False)
    assert isinstance(await looked_up(one, delivery_id), Absent)


@pytest.mark.holds("its own door: follows the person to another conversation")
async def test_after_the_person_cleared_the_conversation_messages_enter_the_new_one(one: Doored) -> None:
    first = await entered(one, "before the break")
    await idle(one)
    one.terminal.typed("/clear" if one.program == "claude" else "/new")
    one.terminal.keys("\r")
    await until(
        lambda: len(list(Rows(one.place).new("start" if one.program == "claude" else "thread"))) > 1, "a new one"
    )
    await until(lambda: one.composer() == "", "the composer shows")
    second = await entered(one, "behind the break")
    await until(lambda: one.arrivals("behind the break") == 1, "at the model")
    last = [request for request in one.model.requests(one.since) if request["main"]][-1]
    assert not any("before the break" in said for said in last["texts"])
    for delivery_id in (first, second):
        assert isinstance(await looked_up(one, delivery_id), Accepted)


@pytest.mark.holds("its own door: a server that died is there again, with its terminal")
async def test_a_server_that_died_is_there_again_and_its_terminal_with_it(one: Doored) -> None:
    if one.server is None:
        pytest.skip("no server")
    before = await entered(one, "before the death")
    await idle(one)
    dead = one.server.process
    assert dead is not None
    await kill(one)
    await until(lambda: one.server and one.server.process is not dead and one.door.state == "idle", "there again", 60)
    await until(lambda: one.composer() == "", "the composer shows")
    await entered(one, "behind the death")
    await until(lambda: one.arrivals("behind the death") == 1, "at the model")
    assert isinstance(await looked_up(one, before), Accepted)
