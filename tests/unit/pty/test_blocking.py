"""ADR-0095: what the screen shows and what the door tells is one question, reported once."""

from __future__ import annotations

import asyncio

import pytest

from relaybroker.adapters.sessions.host.protocol import Blocked, Unblocked
from relaybroker.adapters.sessions.terminal import blocking
from relaybroker.adapters.sessions.terminal.blocking import Blocking
from relaybroker.domain.questions import Option, question
from tests.waiting import WAIT_S

SCREEN = Blocked(pattern="permission on the screen")
BARE = Blocked(pattern="question")
FIRST, SECOND = (
    Blocked(pattern="permission", question=question(name, "permission", ["May it?"], [Option("y", "Yes")]))
    for name in ("q1", "q2")
)
END = Unblocked()


@pytest.fixture
def told():
    return []


@pytest.fixture
async def both(told):
    one = Blocking(told.append)
    yield one
    one.close()


async def test_what_a_door_tells_takes_the_place_of_what_the_screen_shows(both, told):
    both.screen_shows(SCREEN)
    both.door_tells(FIRST)
    both.screen_shows(None)
    both.door_tells(None)
    assert told == [SCREEN, END, FIRST, END]


async def test_what_the_screen_shows_of_the_same_question_is_not_told_besides(both, told):
    both.door_tells(FIRST)
    both.screen_shows(SCREEN)
    assert both.is_told
    both.door_tells(None)
    assert told == [FIRST, END]
    assert not both.is_told
    both.screen_shows(None)
    assert told == [FIRST, END]


async def test_what_the_screen_shows_long_after_is_another_question(both, told, monkeypatch):
    monkeypatch.setattr(blocking, "WIPED_S", 0.01)
    both.door_tells(FIRST)
    both.screen_shows(SCREEN)
    both.door_tells(None)
    assert told == [FIRST, END]
    async with asyncio.timeout(WAIT_S):
        while told != [FIRST, END, SCREEN]:
            await asyncio.sleep(0.001)


async def test_the_screens_next_question_is_told_at_once(both, told):
    both.door_tells(FIRST)
    both.screen_shows(SCREEN)
    both.door_tells(None)
    both.screen_shows(None)
    both.screen_shows(SCREEN)
    assert told == [FIRST, END, SCREEN]


async def test_one_question_behind_another_is_told_as_two(both, told):
    both.door_tells(FIRST)
    both.door_tells(FIRST)
    both.door_tells(SECOND)
    assert told == [FIRST, END, SECOND]


async def test_a_door_that_tells_no_more_than_that_there_is_one_leaves_the_word_to_the_screen(both, told):
    both.door_tells(BARE)
    both.screen_shows(SCREEN)
    both.door_tells(None)
    both.screen_shows(None)
    assert told == [BARE, END, SCREEN, END]
