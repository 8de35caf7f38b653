"""Every kind of program gets the exact text, once, and is known to be ready by the right evidence."""

from __future__ import annotations

import asyncio

import pytest

from relaybroker.adapters.sessions.host.protocol import Injected, Ready, Verified

TEXT = "Relay message from w2 [evt_4711]: Grüße, 你好 \U0001f600 — done?"


async def test_a_program_that_reads_lines_gets_each_text_once(broker):
    """input() loop: canonical mode, no prompt, ready because it reads; proven by its reading."""
    log = await broker.start_agent("line_reader")
    assert broker.facts("a1", Ready) == [Ready(evidence="reading")]
    injected = await broker.type_text(TEXT, marker="evt_4711")
    assert injected.evidence == "read"
    await broker.type_text("second")
    assert await log.wait(2) == [TEXT, "second"]
    await broker.fact("a1", Verified, verification="echo", count=2)


async def test_several_lines_are_one_line_for_a_program_that_takes_lines(broker):
    """F081: the second line of a message is no line of its own, or it would be a command, an answer, or a message without header."""
    log = await broker.start_agent("line_reader")
    await broker.type_text("hello\n!touch x\ny\n")
    await broker.type_text("next")
    assert await log.wait(2) == ["hello !touch x y", "next"]


async def test_cat_is_ready_at_once_and_repeats_what_is_typed(broker):
    """The plainest canonical program: no output of its own at all."""
    await broker.start("cat")
    await broker.type_text("hello cat", marker="hello")
    for _ in range(200):
        screen = (await broker.screen()).data["screen"]
        if screen.count("hello cat") == 2:
            return
        await asyncio.sleep(0.02)
    pytest.fail(screen)


async def test_a_raw_program_that_shows_nothing_gets_the_text_and_one_enter(broker):
    """No echo at all: Enter follows after a short bounded wait, and is proven by being read."""
    log = await broker.start_agent("raw_reader")
    injected = await broker.type_text(TEXT)
    assert injected.evidence == "read"
    assert injected.wait_ms < 500
    await broker.type_text("two\nlines")
    assert await log.wait(2) == [TEXT, "two lines"]


async def test_a_prompt_toolkit_program_gets_several_lines_as_one_paste(broker):
    """F080, F081: bracketed paste on, redraw on each key, one Enter submits all; proven by the next prompt."""
    log = await broker.start_agent("prompt_toolkit_reader")
    assert broker.facts("a1", Ready)[0].evidence == "reading"
    injected = await broker.type_text(f"first line\nsecond line {TEXT}", marker="evt_4711")
    assert injected.evidence in ("turn", "prompt", "output")
    await broker.type_text("next")
    assert await log.wait(2) == [f"first line\nsecond line {TEXT}", "next"]


async def test_a_curses_program_gets_the_text(broker):
    log = await broker.start_agent("curses_reader")
    await broker.type_text("hello curses", marker="hello")
    await broker.type_text("again")
    assert await log.wait(2) == ["hello curses", "again"]


async def test_a_long_text_of_many_lines_reaches_a_slow_reader_complete(broker):
    """F079: 16 KiB of multi-byte text, read 7 bytes at a time."""
    log = await broker.start_agent("raw_reader", "7", "0.0002")
    text = ("ä€\U0001f600\n" * 1600)[:-1]
    assert 12_000 < len(text.encode()) <= 16 * 1024
    broker.inject(text, "long")
    assert await log.wait(1, 40) == [text.replace("\n", " ")]
    await broker.fact("a1", Injected, delivery_id="long")
