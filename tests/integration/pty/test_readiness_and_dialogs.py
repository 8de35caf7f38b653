"""Nothing is typed before a program is ready, nor into a dialog, login or password question."""

from __future__ import annotations

import asyncio
import sys

import msgspec
import pytest

from relaybroker.adapters.sessions.host.process import spawn
from relaybroker.adapters.sessions.host.protocol import Blocked, Exited, Idle, Inject, Injected, Ready, Start, Unblocked
from relaybroker.adapters.sessions.terminal import harnesses, readiness
from relaybroker.adapters.sessions.terminal.session import Session
from tests.waiting import WAIT_S


async def test_a_task_is_typed_after_the_prompt_of_a_slow_program_and_not_before(broker):
    """W2, F091: it boots for a while, writes much, and throws away what was typed meanwhile."""
    log = await broker.start_agent("boots_slowly", "2", wait=None)
    broker.inject("the task", "task")
    assert await log.wait(1) == ["the task"]
    await broker.fact("a1", Injected)
    assert broker.facts("a1", Ready)[0].evidence == "reading"
    assert len(broker.facts("a1", Injected)) == 1


async def test_a_dialog_blocks_until_a_person_answers_it(broker):
    """W2, F094, F095: painted in pieces, found on the screen; no key of ours reaches it."""
    log = await broker.start_agent("dialog", wait=Blocked, profile="claude")
    assert broker.facts("a1", Blocked)[0].pattern == "claude trust"
    broker.inject("hello", "d1")
    assert "trust the files in this folder" in (await broker.screen()).data["screen"]
    assert log.lines() == []
    assert (await broker.keys(b"y")).error == ""
    await broker.fact("a1", Unblocked)
    await broker.fact("a1", Injected, delivery_id="d1")
    assert await log.wait(2) == [{"dialog": "y"}, "\x1b[200~hello\x1b[201~"]
    assert broker.facts("a1", Ready)[0].evidence == "prompt"


async def test_a_password_question_is_never_answered_by_a_message(broker):
    """SAFE-KEYS for any program: input that is not shown belongs to a person."""
    log = await broker.start_agent("password", wait=Blocked)
    assert broker.facts("a1", Blocked)[0].pattern == "hidden input"
    broker.inject("a message", "d1")
    assert log.lines() == []
    await broker.keys(b"secret\n")
    await broker.fact("a1", Injected, delivery_id="d1")
    assert await log.wait(2) == [{"password": "secret"}, "a message"]


@pytest.mark.parametrize(
    ("script", "name", "key", "chosen"),
    [
        ("read -n 1 -p 'Really deploy the thing now ' x; echo $x", "question", b"n", "n"),
        ("select x in deploy rollback; do echo $x; break; done", "question", b"2\n", "rollback"),
        ("read -s -p 'Token of yours ' x; echo $x", "hidden input", b"mine\n", "mine"),
        ("read -p 'version: (1.0.0) ' x; echo $x", "question", b"2\n", "2"),
    ],
)
async def test_what_a_script_of_bash_asks_is_answered_by_a_person_alone(broker, script, name, key, chosen):
    """SAFE-KEYS: a single key that the kernel shows, a numbered list, hidden input, a default in brackets."""
    answer = broker.directory / "answer"
    await broker.start("bash", "-c", f"{{ {script} >{answer}; }}; cat", wait=Blocked)
    assert broker.facts("a1", Blocked)[0].pattern == name
    broker.inject("y\n1\n", "d1")
    await broker.keys(key)
    await broker.fact("a1", Injected, delivery_id="d1")
    assert answer.read_text() == f"{chosen}\n"


async def test_a_message_that_quotes_a_dialog_does_not_block_the_agent(broker):
    """W4: typed text has no power over the host."""
    log = await broker.start_agent("dialog", wait=Blocked, profile="claude")
    await broker.keys(b"y")
    await broker.fact("a1", Ready)
    await broker.type_text("I trust folder: yes, trust; no, exit", delivery_id="quote")
    await broker.type_text("next", delivery_id="next")
    assert len(await log.wait(3)) == 3
    assert len(broker.facts("a1", Blocked)) == 1


async def test_a_program_that_is_never_seen_to_wait_is_taken_for_ready_after_a_long_silence_and_that_is_said(
    tmp_path, monkeypatch
):
    """F092, F093, F096: with 0.5 s of silence instead of 20."""
    monkeypatch.setattr(readiness, "UNVERIFIED_QUIET_S", 0.5)
    session, facts = await _session(tmp_path, "import time; print('boot', flush=True); time.sleep(9)")
    await _until(lambda: any(isinstance(fact, Ready) for fact in facts))
    assert [fact.evidence for fact in facts if isinstance(fact, Ready)] == ["unverified"]
    session.stop(1.0)
    await session.exited.wait()


async def test_no_silence_makes_a_program_ready_that_has_a_composer(tmp_path, monkeypatch):
    """F091, SAFE-KEYS: what a release by time typed into was the login screen of some version."""
    monkeypatch.setattr(readiness, "UNVERIFIED_QUIET_S", 0.2)
    session, facts = await _session(tmp_path, "print('Welcome', flush=True); input()", profile="claude")
    session.inject(Inject(session_id="s", delivery_id="d", attempt=1, text="hello"))
    await _until(lambda: "Welcome" in session.terminal.plain())
    await asyncio.sleep(1.0)  # five times the silence: nothing may happen in it
    assert not any(isinstance(fact, Ready | Injected) for fact in facts)
    assert session.state == "booting"
    session.stop(1.0)
    await session.exited.wait()


async def test_a_question_outlasts_every_silence(tmp_path, monkeypatch):
    """F094: no time types into a dialog; the silence counts anew when it is gone."""
    monkeypatch.setattr(readiness, "UNVERIFIED_QUIET_S", 0.2)
    script = (
        "print('Overwrite it? [y/N] ', end='', flush=True); input(); print('\\033[2Jon'); [input() for _ in range(9)]"
    )
    session, facts = await _session(tmp_path, script)
    await _until(lambda: any(isinstance(fact, Blocked) for fact in facts))
    assert [fact.pattern for fact in facts if isinstance(fact, Blocked)] == ["question"]
    session.inject(Inject(session_id="s", delivery_id="d", attempt=1, text="hello"))
    await asyncio.sleep(1.0)  # five times the silence: nothing may happen in it
    assert not any(isinstance(fact, Ready | Injected) for fact in facts)
    session.keys(b"1\r", lambda _error: None)
    await _until(lambda: any(isinstance(fact, Injected) for fact in facts))
    kinds = [type(fact) for fact in facts]
    assert kinds.index(Unblocked) < kinds.index(Ready) < kinds.index(Injected)
    session.stop(1.0)
    await session.exited.wait()


async def test_a_menu_in_a_half_painted_screen_is_not_reported(tmp_path):
    """Nobody is called for a question that is gone with the rest of the repaint; meanwhile it keeps messages out all the same."""
    script = (
        "import os, tty, time; tty.setraw(0)\n"
        "menu = '\\033[2J\\033[H \u276f Yes, allow\\r\\n   No, reject\\033[H'\n"
        "rule = chr(0x2500) * 80\n"
        "for _ in range(20):\n"
        "    os.write(1, menu.encode()); time.sleep(0.03)\n"
        "    os.write(1, f'\\033[2J\\033[H{rule}\u276f \\033[3;1H{rule}\\033[2;3H'.encode()); time.sleep(0.03)\n"
        "os.read(0, 1)\n"
    )
    session, facts = await _session(tmp_path, script, profile="claude")
    await _until(lambda: any(isinstance(fact, Ready) for fact in facts))
    await asyncio.sleep(1.5)  # all twenty repaints
    assert not any(isinstance(fact, Blocked) for fact in facts)
    session.stop(1.0)
    await session.exited.wait()


async def test_silence_is_reported_once_and_not_again_by_a_repaint(tmp_path):
    """One idle report per quiet period; a repaint without new text does not end it."""
    repaints = "for _ in range(5): print('\\033[H\\033[2Jsame', flush=True); time.sleep(0.4)"
    script = f"import time\n{repaints}\nprint('new', flush=True); time.sleep(9)"
    session, facts = await _session(tmp_path, script, idle=0.3)
    await _until(lambda: "new" in session.terminal.plain())
    await _until(lambda: sum(isinstance(fact, Idle) for fact in facts) == 2)
    session.stop(1.0)
    await session.exited.wait()
    assert sum(isinstance(fact, Idle) for fact in facts) == 2


async def test_a_program_that_ends_while_it_boots_is_reported_with_its_last_words(broker):
    """F101: exits at once, with status and output."""
    await broker.start("/bin/sh", "-c", "echo no licence; exit 3", wait=None)
    exited = await broker.fact("a1", Exited)
    assert (exited.code, exited.signal, exited.last_output, exited.requested) == (3, None, "no licence", False)


async def _session(directory, script, profile="default", idle=0.0):
    facts = []
    quick = msgspec.structs.replace(harnesses.profile(profile), settle_ms=0, gap_ms=0)
    argv = (sys.executable, "-c", script)
    env = {"PATH": "/usr/bin:/bin", "TERM": "xterm"}
    process = await spawn(argv, env=env, cwd=str(directory), rows=24, cols=80, umask=0o022)
    start = Start(
        session_id="s", name="s", argv=argv, env=env, cwd=str(directory), profile=profile, idle_threshold_s=idle
    )
    session = Session(
        start, process, profile=quick, on_fact=lambda _id, fact: facts.append(fact), on_output=lambda *_: None
    )
    return session, facts


async def _until(condition, deadline_s=WAIT_S):
    async with asyncio.timeout(deadline_s):
        while not condition():
            await asyncio.sleep(0.01)
