"""Programs that work and persons who type: nothing is typed at them, and what becomes of it is told."""

from __future__ import annotations

import pytest

from relaybroker.adapters.sessions.host.protocol import Freed, Injected, InjectFailed, Occupied


async def handed_back(broker, delivery_id, attempt=1):
    failed = await broker.fact("a1", InjectFailed, delivery_id=delivery_id, attempt=attempt)
    assert failed.typed == "no"
    broker.confirm_all()
    return failed.reason


async def test_a_program_that_says_that_it_works_is_typed_at_when_it_is_free(broker):
    """F021: seen on its screen, whoever else waits; free again without a new message."""
    work = broker.directory / "work"
    work.touch()
    log = await broker.start_agent("works", work, profile="claude")
    broker.inject("first", "d1")
    broker.inject("second", "d2")
    assert [await handed_back(broker, "d1"), await handed_back(broker, "d2")] == ["agent_busy", "agent_busy"]
    assert (await broker.fact("a1", Occupied)).patience_s > 0
    assert broker.facts("a1", Freed) == []
    work.unlink()
    await broker.fact("a1", Freed)
    broker.inject("first", "d1", attempt=2)
    broker.inject("second", "d2", attempt=2)
    await broker.fact("a1", Injected, delivery_id="d2")
    await broker.until(lambda: "".join(log.lines()).replace("\n", "") == "firstsecond", "both are there, once")
    assert len(broker.facts("a1", Occupied)) == 1


async def test_a_working_program_is_typed_at_when_the_broker_says_so(broker):
    """The message that steers, and what stands before it."""
    work = broker.directory / "work"
    work.touch()
    log = await broker.start_agent("works", work, profile="claude")
    await broker.type_text("before it", while_busy=True)
    await broker.type_text("stop that", while_busy=True, steer=True)
    assert await log.wait(2) == ["before it", "<esc><esc>stop that"]


async def test_a_steering_message_goes_in_although_another_one_was_handed_back(broker):
    """The terminal is looked at for each message anew, also while it is known to be occupied."""
    work = broker.directory / "work"
    work.touch()
    log = await broker.start_agent("works", work, profile="claude")
    broker.inject("waits", "d1")
    assert await handed_back(broker, "d1") == "agent_busy"
    await broker.type_text("stop that", while_busy=True, steer=True)
    assert await log.wait(1) == ["<esc><esc>stop that"]
    broker.inject("waits", "d1", attempt=2)
    assert await handed_back(broker, "d1", 2) == "agent_busy"


async def test_nothing_is_typed_into_a_line_that_a_person_has_begun(broker):
    """F085, F087: the injection yields; it is typed when the line is submitted, as a text of its own."""
    log = await broker.start_agent("raw_reader")
    await broker.keys(b"half a li")
    broker.inject("the message", "d1", while_busy=True)
    assert await handed_back(broker, "d1") == "human_driving"
    assert (await broker.fact("a1", Occupied)).reason == "human_driving"
    await broker.keys(b"ne\r")
    await broker.fact("a1", Freed)
    await broker.type_text("the message", delivery_id="d1", attempt=2)
    assert await log.wait(2) == ["half a line", "the message"]


@pytest.mark.parametrize(
    "keys", [b"\x1b[I", b"\x1b[O", b"\x1b[<0;3;4M", b"\x1b[?62;22c", b"\x1b]11;rgb:0/0/0\x07", b"done\r"]
)
async def test_what_a_terminal_sends_by_itself_and_a_submitted_line_hold_nothing_up(broker, keys):
    log = await broker.start_agent("raw_reader")
    await broker.keys(keys)
    await broker.type_text("the message")
    await broker.until(lambda: "the message" in " ".join(log.lines()), "it was typed")
    assert broker.facts("a1", Occupied) == []
    assert len(broker.facts("a1", Injected)) == 1
