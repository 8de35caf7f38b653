"""A backlog that goes in as one paste: one Enter, and for each message reports of its own."""

from __future__ import annotations

from relaybroker.adapters.sessions.host.protocol import Blocked, Injected, InjectFailed, Unblocked


async def working(broker, profile="claude"):
    """A composer that works: what comes meanwhile is a backlog."""
    work = broker.directory / "work"
    work.touch()
    return await broker.start_agent("works", work, profile=profile), work


async def typed(broker, delivery_id):
    return await broker.fact("a1", Injected, delivery_id=delivery_id)


async def test_what_waits_together_is_submitted_once_and_reported_one_by_one(broker):
    """ADR-0033: every message keeps its own events; the sizes add up to what was written."""
    log, _ = await working(broker)
    for number in range(5):
        broker.inject(f"message {number} [M{number}]", f"d{number}", marker=f"M{number}", while_busy=True)
    facts = [await typed(broker, f"d{number}") for number in range(5)]
    assert [fact.delivery_id for fact in broker.facts("a1", Injected)] == [f"d{number}" for number in range(5)]
    await broker.until(lambda: "".join(log.lines()).endswith("[M4]"), "the program has the last one")
    everything = "".join(log.lines())
    assert [everything.count(f"[M{number}]") for number in range(5)] == [1] * 5
    first, *rest = [entry.count("[M") for entry in log.lines()]
    assert first + sum(rest) == 5
    assert len(log.lines()) < 5
    pastes = len(log.lines())
    assert sum(fact.bytes_written for fact in facts) == len(everything.encode()) + 13 * pastes
    assert {fact.evidence for fact in facts} == {"composer"}


async def test_a_message_that_steers_goes_alone(broker):
    log, _ = await working(broker)
    for number in range(3):
        broker.inject(f"before {number}", f"b{number}", while_busy=True)
    broker.inject("stop", "s", while_busy=True, steer=True)
    broker.inject("after", "a", while_busy=True)
    await typed(broker, "a")
    await broker.until(lambda: log.lines()[-1:] == ["after"], "the program has the last one")
    assert log.lines()[-2:] == ["<esc><esc>stop", "after"]


async def test_a_program_whose_profile_does_not_say_so_gets_each_message_by_itself(broker):
    log, _ = await working(broker, profile="raw")
    for number in range(4):
        broker.inject(f"plain {number}", f"p{number}")
    assert await log.wait(4) == [f"plain {number}" for number in range(4)]


async def test_a_dialog_between_the_paste_and_enter_leaves_one_draft_of_all_of_them(broker):
    """F084, TYPED-ONCE: Enter alone is missing, whichever is asked for again; none of the others is typed again."""
    log = await broker.start_agent("pops_up", profile="claude", wait=None)
    for delivery_id in ("one", "two", "three"):
        broker.inject(delivery_id, delivery_id)
    for delivery_id in ("one", "two", "three"):
        failed = await broker.fact("a1", InjectFailed, delivery_id=delivery_id)
        assert (failed.reason, failed.typed) == ("blocked_by_dialog", "partly")
    await broker.fact("a1", Blocked, pattern="claude trust")
    await broker.keys(b"y")
    await broker.fact("a1", Unblocked)
    broker.inject("two", "two", attempt=2)
    for delivery_id in ("one", "two", "three"):
        await typed(broker, delivery_id)
    for delivery_id in ("one", "three"):
        broker.inject(delivery_id, delivery_id, attempt=2)
        await broker.fact("a1", Injected, delivery_id=delivery_id, attempt=2, repeated=True)
    assert log.lines() == ["one\n\ntwo\n\nthree"]


async def test_a_draft_of_several_that_a_person_submitted_is_typed_again_for_none_of_them(broker):
    """F085."""
    log = await broker.start_agent("pops_up", profile="claude", wait=None)
    broker.inject("one", "one")
    broker.inject("two", "two")
    await broker.fact("a1", InjectFailed, delivery_id="two")
    await broker.fact("a1", Blocked, pattern="claude trust")
    await broker.keys(b"y")
    await broker.fact("a1", Unblocked)
    await broker.keys(b"\r")
    await broker.fact("a1", Unblocked, count=2)
    for delivery_id in ("two", "one"):
        broker.inject(delivery_id, delivery_id, attempt=2)
        failed = await broker.fact("a1", InjectFailed, delivery_id=delivery_id, attempt=2)
        assert (failed.reason, failed.typed) == ("composer_unclear", "partly")
    assert await log.wait(1) == ["one\n\ntwo"]
