"""`Injected` follows a proof that the text was submitted; until then it stands, gets Enter again, or a person is called."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from relaybroker.adapters.sessions.host.protocol import (
    Blocked,
    Exited,
    Freed,
    Injected,
    InjectFailed,
    Occupied,
    Unblocked,
)


async def reluctant(broker, habit, profile="claude"):
    return await broker.start_agent("reluctant", habit, profile=profile)


async def is_stopped(broker, pid):
    await broker.until(lambda: Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T", "stopped")


@pytest.mark.parametrize("habit", ["swallows", "joins", "flushes"])
async def test_a_text_arrives_whole_and_once_whatever_becomes_of_the_first_enter_or_the_first_text(broker, habit):
    """F084, PROOF: an Enter that is swallowed or taken for a part of a paste, an input queue that is thrown away after the start."""
    log = await reluctant(broker, habit)
    injected = await broker.type_text("the first message", delivery_id="d1")
    assert injected.evidence == "composer"
    await broker.type_text("the second message", delivery_id="d2")
    assert [text.rstrip() for text in await log.wait(2)] == ["the first message", "the second message"]
    assert [fact.delivery_id for fact in broker.facts("a1", Injected)] == ["d1", "d2"]


async def test_a_completion_that_opens_on_the_last_word_is_closed_before_enter(broker):
    """A text that ends in @name is submitted as it is, not completed."""
    log = await reluctant(broker, "completes")
    await broker.type_text("look at @src/main")
    assert [text.rstrip() for text in await log.wait(1)] == ["look at @src/main"]


async def test_a_text_that_no_enter_submits_calls_a_person_and_is_reported_when_it_went_in(broker):
    """F084: no acknowledgement, no second copy, nothing on top of it; what frees it is seen without being asked."""
    log = await reluctant(broker, "keeps")
    broker.inject("stands here", "d1")
    broker.inject("waits behind it", "d2")
    await broker.fact("a1", Blocked, pattern="unsubmitted draft")
    assert broker.facts("a1", Injected) == []
    assert broker.facts("a1", InjectFailed) == []
    assert log.lines() == []
    Path(f"{log.path}.go").touch()
    await broker.keys(b"\r")
    await broker.fact("a1", Unblocked)
    await broker.fact("a1", Injected, delivery_id="d1")
    await broker.fact("a1", Injected, delivery_id="d2")
    assert "".join(await log.wait(1)).count("stands here") == 1
    await broker.until(lambda: "".join(log.lines()).count("waits behind it") == 1, "the second is in")


async def test_a_draft_that_a_person_changes_before_it_went_in_is_nobodys_message_any_more(broker):
    """F085: it may have been submitted with the person's words; it is neither typed again nor acknowledged."""
    log = await reluctant(broker, "keeps")
    broker.inject("stands here", "d1")
    await broker.fact("a1", Blocked, pattern="unsubmitted draft")
    await broker.keys(b" and more")
    failed = await broker.fact("a1", InjectFailed, delivery_id="d1")
    assert (failed.reason, failed.typed) == ("composer_unclear", "partly")
    Path(f"{log.path}.go").touch()
    await broker.keys(b"\r")
    await broker.fact("a1", Unblocked)
    assert await log.wait(1) == ["stands here and more"]
    broker.inject("stands here", "d1", attempt=2)
    assert (await broker.fact("a1", InjectFailed, attempt=2)).reason == "composer_unclear"
    await broker.type_text("later", delivery_id="d2")
    assert await log.wait(2) == ["stands here and more", "later"]


async def test_a_program_that_is_stopped_gets_nothing_and_its_messages_when_it_goes_on(broker):
    """`agent_suspended`: the kernel would echo and keep the text for a program that may never read it."""
    log = await broker.start_agent("line_reader")
    pid = await broker.pid()
    os.kill(pid, signal.SIGSTOP)
    await is_stopped(broker, pid)
    broker.inject("the message", "d1")
    failed = await broker.fact("a1", InjectFailed, delivery_id="d1")
    assert (failed.reason, failed.typed) == ("agent_suspended", "no")
    assert (await broker.fact("a1", Occupied)).reason == "agent_suspended"
    assert "the message" not in (await broker.screen()).data["screen"]
    broker.confirm_all()
    os.kill(pid, signal.SIGCONT)
    await broker.fact("a1", Freed)
    await broker.type_text("the message", delivery_id="d1", attempt=2)
    assert await log.wait(1) == ["the message"]


async def test_a_screen_that_a_stopped_program_has_not_finished_proves_nothing(broker):
    """PROOF: stopped amid a repaint, with the Enter read and not acted upon, it shows an empty composer; then the text stands again."""
    log = await reluctant(broker, "repaints")
    pid = await broker.pid()
    broker.inject("the message", "d1")
    await is_stopped(broker, pid)
    await asyncio.sleep(1.5)  # what would be claimed by time is claimed by then
    assert broker.facts("a1", Injected) == []
    os.kill(pid, signal.SIGCONT)
    await broker.fact("a1", Injected, delivery_id="d1")
    assert [text.rstrip() for text in await log.wait(1)] == ["the message"]
    assert len(broker.facts("a1", Injected)) == 1


@pytest.mark.parametrize("script", ["line_reader", "prompt_toolkit_reader"])
async def test_what_a_program_has_not_read_is_not_reported_as_typed(broker, script):
    """PROOF: stopped between text and Enter or right behind it, the echo of the kernel proves nothing."""
    log = await broker.start_agent(script)
    pid = await broker.pid()
    for number in range(5):
        broker.inject(f"m{number}", f"d{number}")
        if number == 2:
            os.kill(pid, signal.SIGSTOP)
    await is_stopped(broker, pid)
    await asyncio.sleep(1.0)  # what would be claimed by time is claimed by then
    being_read = 1  # it may be stopped between reading a text and noting it
    assert len(broker.facts("a1", Injected)) <= len(log.lines()) + being_read
    os.kill(pid, signal.SIGCONT)
    await broker.until(
        lambda: len(broker.facts("a1", Injected)) + len(broker.facts("a1", InjectFailed)) >= 5, "all are answered for"
    )
    typed = [fact.delivery_id for fact in broker.facts("a1", Injected)]
    await broker.until(lambda: len(log.lines()) >= len(typed), "what was reported is there")
    assert log.lines()[: len(typed)] == [f"m{delivery_id[1:]}" for delivery_id in typed]


async def test_a_program_that_ends_with_the_text_in_its_composer_gave_no_proof(broker):
    log = await reluctant(broker, "keeps")
    broker.inject("stands here", "d1")
    await broker.until(lambda: broker.facts("a1", Injected) == [] and log.lines() == [], "nothing yet")
    await broker.fact("a1", Blocked, pattern="unsubmitted draft")
    os.kill(await broker.pid(), signal.SIGKILL)
    await broker.fact("a1", Exited)
    failed = await broker.fact("a1", InjectFailed, delivery_id="d1")
    assert (failed.reason, failed.typed) == ("worker_exited", "partly")


async def test_nothing_is_typed_behind_a_text_that_somebody_left_in_the_composer(broker):
    """`composer_unclear`: also what stood there before the broker looked, or came by another way than its keys."""
    log = await reluctant(broker, "keeps")
    await broker.keys(b"half a line")
    await broker.keys(b"\x03")  # ends the line for all that the broker can know, and the program keeps it
    broker.inject("the message", "d1")
    failed = await broker.fact("a1", InjectFailed, delivery_id="d1")
    assert (failed.reason, failed.typed) == ("composer_unclear", "no")
    assert (await broker.fact("a1", Occupied)).reason == "composer_unclear"
    broker.confirm_all()
    Path(f"{log.path}.go").touch()
    await broker.keys(b"\x7f" * len("half a line") + b"\x15")
    await broker.fact("a1", Freed)
    await broker.type_text("the message", delivery_id="d1", attempt=2)
    assert await log.wait(1) == ["the message"]


async def test_a_program_that_left_its_cursor_elsewhere_is_asked_to_paint_anew(broker):
    """As qwen does now and then after it was stopped: its composer stands there, and nothing would ever move."""
    log = await reluctant(broker, "misplaces")
    broker.subscribe()
    os.kill(await broker.pid(), signal.SIGUSR1)
    await broker.until(lambda: b"\x1b[1;1H" in b"".join(one.data for one in broker.outputs), "the cursor is elsewhere")
    broker.inject("the message", "d1")
    await broker.until(lambda: broker.facts("a1", InjectFailed) or broker.facts("a1", Injected), "an answer")
    for failed in broker.facts("a1", InjectFailed):  # none if it was painted anew before the message came
        assert (failed.reason, failed.typed) == ("agent_busy", "no")
        broker.confirm_all()
        await broker.fact("a1", Freed)
        await broker.type_text("the message", delivery_id="d1", attempt=2)
    assert await log.wait(1) == ["the message"]
    assert ((await broker.screen()).data["rows"]) == 24


@pytest.mark.parametrize("continued", ["  ", "> ", "\u2026 "])
async def test_a_program_that_tells_pastes_by_their_speed_gets_each_text_once(broker, continued):
    """It answers the first one at once, so the next is tried without a pause; that Enter is a line break to it, and is found to be one."""
    log = await broker.start_agent("tells_pastes_by_speed", continued)
    texts = [f"message number {number}" for number in range(4)]
    for number, text in enumerate(texts):
        await broker.type_text(text, delivery_id=f"d{number}")
        assert len(log.lines()) == number + 1, "nothing is reported that was not submitted"
    assert [text.rstrip("\n") for text in log.lines()] == texts
