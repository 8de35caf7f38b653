"""No byte of a message acts as a key, text and Enter are one unit, and what fails is told exactly."""

from __future__ import annotations

import asyncio
import os
import signal
import time

from relaybroker.adapters.sessions.host.protocol import Blocked, Exited, Injected, InjectFailed, Unblocked


async def test_control_characters_of_a_message_press_no_key(broker):
    """W3, SAFE-KEYS, F082: CR, ESC, ^C, ^D, the end of a paste."""
    log = await broker.start_agent("line_reader")
    await broker.type_text("a\rb\x1b[201~c\x03d\x04e\x7ff\x9bg", delivery_id="evil")
    await broker.type_text("still alive", delivery_id="ok")
    assert await log.wait(2) == ["a b[201~cdefg", "still alive"]


async def test_control_characters_do_not_leave_a_paste(broker):
    """W3, F082 with bracketed paste on: one submission, whatever is in the text."""
    log = await broker.start_agent("prompt_toolkit_reader")
    await broker.type_text("one\x1b[201~\r\ntwo\x03three", delivery_id="evil")
    await broker.type_text("next", delivery_id="ok")
    assert await log.wait(2) == ["one[201~\ntwothree", "next"]


async def test_terminal_queries_and_human_keys_never_stand_between_text_and_enter(broker):
    """F078: the program asks for the cursor with every key it gets, and a person types all the time."""
    log = await broker.start_agent("queries")
    for number in range(8):
        broker.inject(f"text{number:02}", f"q{number}")
        await broker.keys(b"K\r")
    await broker.fact("a1", Injected, count=8)
    await broker.until(lambda: sum(line.count("\r") for line in log.lines()) == 16, "16 enters")
    typed = "".join(log.lines())
    for number in range(8):
        assert f"\x1b[200~text{number:02}\x1b[201~\r" in typed
    assert typed.count("K") == 8
    assert "\x1b[1;" in typed
    assert typed.count("\x1b[?62;22c") >= 1


async def test_frames_for_one_session_are_handled_whole_and_in_order_when_all_come_at_once(broker):
    """F075: injections, keys, resizes and snapshots together on one connection."""
    log = await broker.start_agent("line_reader")
    broker.subscribe()
    asks = [broker.screen() for _ in range(20)]
    for number in range(50):
        broker.inject(f"line {number}", f"f{number}")
    answers = await asyncio.gather(*asks)
    assert all(answer.error == "" for answer in answers)
    assert await log.wait(50) == [f"line {number}" for number in range(50)]


async def test_keys_are_answered_when_they_are_in_the_terminal_and_fail_when_the_agent_is_gone(broker):
    """F086: success is said only of what happened."""
    log = await broker.start_agent("line_reader")
    answer = await broker.keys(b"by hand\n")
    assert answer.error == ""
    assert answer.data == {"bytes_written": 8}
    assert await log.wait(1) == ["by hand"]
    assert (await broker.keys(b"x", session_id="nobody")).error == "agent_not_found"
    os.kill(await broker.pid(), signal.SIGKILL)
    await broker.fact("a1", Exited)
    assert (await broker.keys(b"x")).error == "worker_disappeared"


async def test_keys_for_a_program_that_never_reads_wait_and_fail_when_it_ends(broker):
    """F086: neither lost nor confirmed."""
    await broker.start(broker.python, broker.agent("deaf"), "10")
    asks = [asyncio.create_task(broker.keys(b"x" * 8192, timeout_s=20)) for _ in range(20)]
    await broker.until(lambda: any(ask.done() for ask in asks), "some of it is taken")
    assert not all(ask.done() for ask in asks)
    await broker.stop(grace_s=0.1)
    errors = [(await ask).error for ask in asks]
    assert set(errors) <= {"", "worker_disappeared"}
    assert errors[-1] == "worker_disappeared"


async def test_a_message_over_the_limit_is_refused_and_nothing_of_it_is_typed(broker):
    """F083."""
    log = await broker.start_agent("line_reader")
    broker.inject("x" * (16 * 1024 + 1), "big")
    assert (await broker.fact("a1", InjectFailed, delivery_id="big")) == InjectFailed(
        delivery_id="big", attempt=1, reason="too_large", typed="no"
    )
    await broker.type_text("small")
    assert await log.wait(1) == ["small"]


async def test_a_line_that_the_terminal_would_cut_is_refused(broker):
    """A canonical terminal holds 4095 bytes per line; the rest would vanish in silence."""
    log = await broker.start_agent("line_reader")
    broker.inject("x" * 4095, "cut")
    failed = await broker.fact("a1", InjectFailed, delivery_id="cut")
    assert (failed.reason, failed.typed) == ("too_large", "no")
    whole = "y" * 4094
    await broker.type_text(whole)
    assert await log.wait(1) == [whole]


async def test_the_queue_of_a_session_is_bounded(broker):
    """W6, BOUNDED: 256 wait for a program that is not ready; the next is refused."""
    await broker.start_agent("line_reader", "60", wait=None)
    for number in range(258):
        broker.inject(f"{number}", f"n{number}")
    failed = await broker.fact("a1", InjectFailed)
    assert (failed.delivery_id, failed.reason, failed.typed) == ("n256", "queue_full", "no")


async def test_a_program_that_floods_and_never_reads_stalls_neither_its_output_nor_other_agents(broker):
    """W6, NO-STALL, F076, F077: no success is claimed for what is not in the terminal; another agent is typed to meanwhile."""
    broker.subscribe()
    await broker.start(broker.python, broker.agent("deaf"), "0", session_id="deaf")
    log = await broker.start_agent("line_reader", session_id="other")
    for number in range(30):
        broker.inject("y" * 15000, f"w{number}", session_id="deaf")
    injected = await broker.type_text("hello", session_id="other", delivery_id="o1")
    assert injected.evidence == "read"
    assert await log.wait(1) == ["hello"]
    before = len(broker.outputs)
    await broker.until(lambda: sum(o.session_id == "deaf" for o in broker.outputs[before:]) > 3, "output flows")
    await broker.stop("deaf", grace_s=0.1)
    typed = {fact.delivery_id for fact in broker.facts("deaf", Injected)}
    handed_back = {fact.delivery_id: fact.typed for fact in broker.facts("deaf", InjectFailed)}
    assert typed.isdisjoint(handed_back)
    assert len(typed) + len(handed_back) == 30
    assert len(handed_back) >= 20
    assert list(handed_back.values()).count("partly") <= 1


async def test_a_flood_does_not_delay_an_injection_into_another_agent(broker):
    """NO-STALL: `yes` next to an agent; a reader that drained it first would take a thousand times as long as without it."""

    async def median_of(name, count=15):
        waits = []
        for number in range(count):
            began = time.monotonic()
            await broker.type_text(f"{name}{number}", delivery_id=f"{name}{number}")
            waits.append(time.monotonic() - began)
        return sorted(waits)[count // 2]

    broker.subscribe()
    await broker.start_agent("line_reader", session_id="a1")
    alone = await median_of("alone")
    await broker.start("yes", session_id="yes", wait=None)
    await broker.until(lambda: any(one.session_id == "yes" for one in broker.outputs), "the flood has begun")
    assert await median_of("beside") <= 50 * alone


async def test_a_text_that_stands_unsubmitted_is_completed_and_not_typed_again(broker):
    """W1, F084: a dialog pops up between text and Enter; when it is gone, the same delivery gets its Enter only."""
    log = await broker.start_agent("pops_up", profile="claude")
    broker.inject("the message", "d1")
    failed = await broker.fact("a1", InjectFailed, delivery_id="d1")
    assert (failed.reason, failed.typed) == ("blocked_by_dialog", "partly")
    await broker.until(lambda: len(broker.facts("a1", Blocked)) == 2, "dialog and draft are announced")
    assert {fact.pattern for fact in broker.facts("a1", Blocked)} == {"claude trust", "unsubmitted draft"}
    broker.inject("another one", "d2")
    await broker.keys(b"y")
    await broker.fact("a1", Unblocked)
    assert (await broker.keys(b"")).error == ""
    assert broker.facts("a1", Injected) == []
    broker.inject("the message", "d1", attempt=2)
    injected = await broker.fact("a1", Injected, delivery_id="d1")
    assert injected.attempt == 2
    await broker.fact("a1", Injected, delivery_id="d2")
    assert await log.wait(2) == ["the message", "another one"]


async def test_a_draft_that_a_person_submitted_is_never_typed_again(broker):
    """F085: nobody knows what became of it; the delivery is given back, later ones go on."""
    log = await broker.start_agent("pops_up", profile="claude")
    broker.inject("the message", "d1")
    await broker.fact("a1", InjectFailed, delivery_id="d1")
    await broker.fact("a1", Blocked, pattern="claude trust")
    await broker.keys(b"y")
    await broker.fact("a1", Unblocked)
    await broker.keys(b"\r")
    await broker.fact("a1", Unblocked, count=2)
    broker.inject("the message", "d1", attempt=2)
    failed = await broker.fact("a1", InjectFailed, attempt=2)
    assert (failed.reason, failed.typed) == ("composer_unclear", "partly")
    await broker.type_text("later", delivery_id="d2")
    assert await log.wait(2) == ["the message", "later"]


async def test_steering_a_program_that_does_not_work_sends_no_escape(broker):
    """Two of them open a menu in Claude Code (Rewind), and the text would go there."""
    log = await broker.start_agent("pops_up", "quiet", profile="claude")
    await broker.type_text("stop that", delivery_id="d1", steer=True)
    assert await log.wait(1) == ["stop that"]


async def test_steering_interrupts_a_working_program_with_as_few_escapes_as_it_needs(broker):
    work = broker.directory / "work"
    work.touch()
    log = await broker.start_agent("works", work, "stops", profile="claude")
    await broker.type_text("stop that", delivery_id="d1", while_busy=True, steer=True)
    assert await log.wait(1) == ["<esc>stop that"]


async def test_what_an_interrupted_program_gives_back_is_cleared_before_the_text(broker):
    """Claude Code puts the prompt that it had begun with into its composer again."""
    work = broker.directory / "work"
    work.touch()
    log = await broker.start_agent("works", work, "gives-back", profile="claude")
    await broker.type_text("long work", delivery_id="d1", while_busy=True)
    await broker.type_text("stop that", delivery_id="d2", while_busy=True, steer=True)
    assert await log.wait(2) == ["long work", "<esc><esc><esc>stop that"]
