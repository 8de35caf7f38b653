"""The host's own bounds, with the host in the test's loop and its limits made small."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

import msgspec
import pytest

from relaybroker.adapters.sessions.host import host as host_module
from relaybroker.adapters.sessions.host.host import Host
from relaybroker.adapters.sessions.host.ledger import ReportLog
from relaybroker.adapters.sessions.host.local_socket import Place
from relaybroker.adapters.sessions.host.process import spawn
from relaybroker.adapters.sessions.host.protocol import (
    Blocked,
    Confirm,
    Exited,
    Inject,
    Injected,
    InjectFailed,
    Input,
    Ready,
    Start,
    StartFailed,
    Unblocked,
)
from relaybroker.adapters.sessions.terminal import harnesses, injection, proof
from relaybroker.adapters.sessions.terminal.session import Session
from tests.integration.pty.conftest import AGENTS
from tests.waiting import WAIT_S

ENV = {"PATH": "/usr/bin:/bin", "TERM": "xterm"}


def _start(directory, session_id="s", argv=("cat",), **fields):
    return Start(
        session_id=session_id, name="n", argv=argv, env=ENV, cwd=str(directory), **{"profile": "default"} | fields
    )


async def _until(condition, deadline_s=WAIT_S):
    async with asyncio.timeout(deadline_s):
        while not condition():
            await asyncio.sleep(0.01)


def _facts(host, kind):
    return [report.fact for report in host._reports.since(1) if isinstance(report.fact, kind)]


async def test_a_full_report_log_refuses_new_work_and_drops_no_report(tmp_path):
    """BOUNDED without loss: the bound is on what is accepted."""
    host = Host()
    host._reports = ReportLog(limit=4)
    host.handle(_start(tmp_path))
    host.handle(Inject(session_id="s", delivery_id="d1", attempt=1, text="x"))
    await _until(lambda: _facts(host, Injected) and host._reports.is_full)
    host.handle(Inject(session_id="s", delivery_id="d2", attempt=1, text="x"))
    assert [(f.delivery_id, f.reason, f.typed) for f in _facts(host, InjectFailed)] == [("d2", "queue_full", "no")]
    host.end(0.1)
    await _until(host.finished.is_set)
    assert [report.number for report in host._reports.since(1)] == list(range(1, host._reports.next_number))


async def test_what_was_sent_before_the_broker_knew_of_a_failure_does_not_overtake(tmp_path):
    """ORDER: d2 will be tried again; d3 was on its way behind it and is handed back too, until the broker has confirmed the failure."""
    host = Host()
    host._reports = ReportLog(limit=4)
    host.handle(_start(tmp_path))
    host.handle(Inject(session_id="s", delivery_id="d1", attempt=1, text="x"))
    await _until(lambda: _facts(host, Injected) and host._reports.is_full)
    host.handle(Inject(session_id="s", delivery_id="d2", attempt=1, text="x"))
    refused = host._reports.next_number - 1
    host.handle(Confirm(number=refused - 1))
    host.handle(Inject(session_id="s", delivery_id="d3", attempt=1, text="x"))
    assert [(f.delivery_id, f.reason) for f in _facts(host, InjectFailed)] == [
        ("d2", "queue_full"),
        ("d3", "out_of_turn"),
    ]
    host.handle(Confirm(number=refused))
    host.handle(Inject(session_id="s", delivery_id="d4", attempt=1, text="x"))
    assert [fact.reason for fact in _facts(host, InjectFailed)][-2:] == ["out_of_turn", "out_of_turn"]
    host.handle(Confirm(number=refused + 2))
    host.handle(Inject(session_id="s", delivery_id="d2", attempt=2, text="x"))
    await _until(lambda: any(fact.delivery_id == "d2" for fact in _facts(host, Injected)))
    host.end(0.1)
    await _until(host.finished.is_set)


async def test_what_is_asked_again_before_its_failure_was_read_is_not_tried(tmp_path):
    """ORDER, F032: a broker that attaches asks for everything under way; typed now, it would overtake what was handed back before it."""
    host = Host()
    host._reports = ReportLog(limit=4)
    host.handle(_start(tmp_path))
    host.handle(Inject(session_id="s", delivery_id="d1", attempt=1, text="x"))
    await _until(lambda: _facts(host, Injected) and host._reports.is_full)
    host.handle(Inject(session_id="s", delivery_id="d2", attempt=1, text="x"))
    refused = host._reports.next_number - 1
    host.handle(Confirm(number=refused - 1))
    host.handle(Inject(session_id="s", delivery_id="d2", attempt=1, text="x"))
    assert [fact.delivery_id for fact in _facts(host, InjectFailed)] == ["d2"]
    host.handle(Confirm(number=refused))
    host.handle(Inject(session_id="s", delivery_id="d2", attempt=2, text="x"))
    await _until(lambda: any(fact.delivery_id == "d2" for fact in _facts(host, Injected)))
    host.end(0.1)
    await _until(host.finished.is_set)


async def test_a_host_with_nothing_to_keep_and_no_broker_ends(tmp_path, monkeypatch):
    """No host is left behind by a broker that was killed before it attached."""
    monkeypatch.setattr(host_module, "EMPTY_LINGER_S", 0.05)
    tmp_path.chmod(0o700)
    place = Place(str(tmp_path / "h.sock"), str(tmp_path / "h.pid"))
    async with asyncio.timeout(WAIT_S):
        await Host().serve(place)


async def test_an_unknown_profile_or_a_text_that_exec_cannot_take_fails_the_start(tmp_path):
    """CLEAN-FAIL: nothing is forked for it."""
    host = Host()
    host.handle(_start(tmp_path, "a", profile="nobody"))
    host.handle(_start(tmp_path, "b", argv=("cat", "a\0b")))
    host.handle(_start(tmp_path, "c", argv=()))
    await _until(lambda: len(_facts(host, StartFailed)) == 3)
    assert sorted(f.reason for f in _facts(host, StartFailed)) == ["cli_not_found", "spawn_failed", "spawn_failed"]


async def test_the_number_of_sessions_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(host_module, "MAX_SESSIONS", 1)
    host = Host()
    host.handle(_start(tmp_path, "a"))
    host.handle(_start(tmp_path, "b"))
    await _until(lambda: _facts(host, StartFailed))
    assert "sessions exist" in _facts(host, StartFailed)[0].detail
    host.end(0.1)
    await _until(host.finished.is_set)


async def test_a_fault_of_the_host_in_one_session_ends_that_session_and_says_so(tmp_path, caplog):
    """ONE-END: nobody waits for ever for a delivery that cannot be typed any more."""
    facts = []
    broken = msgspec.structs.replace(harnesses.profile("default"), echo_wait_ms="no number", silent_wait_ms="no number")
    argv = (sys.executable, "-c", "import os, tty; tty.setraw(0); os.write(1, b'> '); os.read(0, 99); input()")
    process = await spawn(argv, env=ENV, cwd=str(tmp_path), rows=24, cols=80, umask=0o022)
    session = Session(
        _start(tmp_path, argv=argv),
        process,
        profile=broken,
        on_fact=lambda _id, fact: facts.append(fact),
        on_output=lambda *_: None,
    )
    session.inject(Inject(session_id="s", delivery_id="d", attempt=1, text="x"))
    async with asyncio.timeout(WAIT_S):
        await session.exited.wait()
    assert isinstance(facts[-1], Exited)
    assert [(f.delivery_id, f.typed) for f in facts if isinstance(f, InjectFailed)] == [("d", "partly")]
    assert "a task of the host failed" in caplog.text


async def test_a_text_whose_moment_is_over_is_handed_back_and_the_next_one_typed(tmp_path):
    """ADR-0029: looked at right before the first byte, however long it waited in the host."""
    facts = []
    process = await spawn(("cat",), env=ENV, cwd=str(tmp_path), rows=24, cols=80, umask=0o022)
    session = Session(
        _start(tmp_path), process, on_fact=lambda _id, fact: facts.append(fact), on_output=lambda *_: None
    )
    session.inject(Inject(session_id="s", delivery_id="old", attempt=1, text="too late", expires_at=time.time() - 1))
    session.inject(Inject(session_id="s", delivery_id="new", attempt=1, text="in time", expires_at=time.time() + 600))
    await _until(lambda: any(isinstance(fact, Injected) for fact in facts))
    assert [(f.delivery_id, f.reason, f.typed) for f in facts if isinstance(f, InjectFailed)] == [
        ("old", "expired", "no")
    ]
    assert [fact.delivery_id for fact in facts if isinstance(fact, Injected)] == ["new"]
    assert b"too late" not in session.ring.since(0)
    session.stop(0.2)
    await session.exited.wait()


async def test_a_text_that_the_terminal_takes_only_in_part_is_completed_later_and_arrives_once(tmp_path):
    """F079, F084: the rest and Enter follow when the same delivery is asked for again; nothing is typed on top."""
    script = (
        "import os, sys, time, tty; tty.setraw(0); os.write(1, b'->pty:ready')\n"
        "out = open('got', 'wb', buffering=0)\n"
        "while not os.path.exists('sip'): time.sleep(0.02)\n"
        "sipped = 0\n"
        "while sipped < 8000: sipped += out.write(os.read(0, 4000))\n"
        "open('sipped', 'w').close()\n"
        "while not os.path.exists('go'): time.sleep(0.02)\n"
        "while True: out.write(os.read(0, 65536))\n"
    )
    facts = []
    argv = (sys.executable, "-c", script)
    process = await spawn(argv, env=ENV, cwd=str(tmp_path), rows=24, cols=80, umask=0o022)
    session = Session(
        _start(tmp_path, argv=argv), process, on_fact=lambda _id, fact: facts.append(fact), on_output=lambda *_: None
    )
    session.writer._no_progress_s = 0.3
    await _until(lambda: any(isinstance(fact, Ready) for fact in facts))
    filled = await _fill(process.fd)
    (tmp_path / "sip").touch()
    await _until((tmp_path / "sipped").exists)
    texts = [f"<{number}>" + chr(97 + number) * 15000 for number in range(5)]
    injects = [
        Inject(session_id="s", delivery_id=f"d{number}", attempt=1, text=text) for number, text in enumerate(texts)
    ]
    for inject in injects:
        session.inject(inject)
    await _until(lambda: any(isinstance(fact, InjectFailed) for fact in facts))
    (failed,) = [fact for fact in facts if isinstance(fact, InjectFailed)]
    assert (failed.delivery_id, failed.reason, failed.typed) == ("d0", "pty_write_failed", "partly")
    assert [fact.pattern for fact in facts if isinstance(fact, Blocked)] == ["unsubmitted draft"]
    (tmp_path / "go").touch()
    session.inject(msgspec.structs.replace(injects[0], attempt=2))
    await _until(lambda: sum(isinstance(fact, Injected) for fact in facts) == len(texts))
    assert any(isinstance(fact, Unblocked) for fact in facts)
    assert [fact.delivery_id for fact in facts if isinstance(fact, Injected)] == [f"d{number}" for number in range(5)]
    whole = filled + "".join(text + "\r" for text in texts).encode()
    await _until(lambda: len((tmp_path / "got").read_bytes()) >= len(whole))
    assert (tmp_path / "got").read_bytes() == whole
    session.stop(0.2)
    await session.exited.wait()


async def _fill(fd):
    """Write into a terminal until it takes nothing more; what it took. The kernel moves it along in the background."""
    taken, refusals = b"", 0
    while refusals < 5:
        try:
            taken += b"f" * os.write(fd, b"f" * 4000)
            refusals = 0
        except BlockingIOError:
            refusals += 1
            await asyncio.sleep(0.02)
    return taken


@pytest.mark.parametrize(
    ("habit", "outcome"), [("ignores", ("pty_write_failed", "no")), ("forgets", ("composer_unclear", "partly"))]
)
async def test_a_text_that_stands_nowhere_is_given_back_and_holds_up_nothing(tmp_path, monkeypatch, habit, outcome):
    """F084, PROOF: a program that reads and ignores what comes at a bad moment. What it showed of it decides what is known."""
    for module, bound, seconds in (
        (injection, "STANDS_S", 0.2), (injection, "DROPPED_QUIET_S", 0.1), (injection, "MUTE_S", 0.4), (proof, "LATE_S", 0.5),
        (proof, "VANISHED_S", 0.3),
    ):  # fmt: skip
        monkeypatch.setattr(module, bound, seconds)
    log = tmp_path / "log"
    host = Host()
    host.handle(
        _start(tmp_path, argv=(sys.executable, str(AGENTS / "reluctant.py"), str(log), habit), profile="claude")
    )
    await _until(lambda: _facts(host, Ready))
    for name in ("d1", "d2"):
        host.handle(Inject(session_id="s", delivery_id=name, attempt=1, text=f"the text of {name}", marker=name))
    await _until(lambda: len(_facts(host, InjectFailed)) == 2)
    given_back = {one.delivery_id: (one.reason, one.typed) for one in _facts(host, InjectFailed)}
    assert given_back["d1"] == outcome
    assert given_back["d2"] in (outcome, ("out_of_turn", "no"))  # in the same paste, or behind it
    assert not _facts(host, Injected)
    (tmp_path / "log.go").touch()
    host.handle(Confirm(number=host._reports.next_number - 1))
    host.handle(Inject(session_id="s", delivery_id="d3", attempt=1, text="the text of d3"))
    await _until(lambda: _facts(host, Injected))
    assert [json.loads(line).rstrip() for line in log.read_text().splitlines()] == ["the text of d3"]
    host.end(0.1)
    await _until(host.finished.is_set)


async def test_a_text_that_is_asked_for_again_while_a_person_changes_it_is_given_back(tmp_path):
    """F085: it waits for its turn when the keys come; it is not typed a second time."""
    log = tmp_path / "log"
    host = Host()
    host.handle(_start(tmp_path, argv=(sys.executable, str(AGENTS / "pops_up.py"), str(log)), profile="claude"))
    await _until(lambda: _facts(host, Ready))
    host.handle(Inject(session_id="s", delivery_id="d1", attempt=1, text="the message"))
    await _until(lambda: _facts(host, InjectFailed))
    await _until(lambda: len(_facts(host, Blocked)) == 2)
    host.handle(Input(request_id="r1", session_id="s", data=b"y"))
    await _until(lambda: _facts(host, Unblocked))
    host.handle(Confirm(number=host._reports.next_number - 1))
    host.handle(Inject(session_id="s", delivery_id="d1", attempt=2, text="the message"))
    host.handle(Input(request_id="r2", session_id="s", data=b" and more\r"))
    await _until(lambda: _facts(host, InjectFailed))
    (failed,) = _facts(host, InjectFailed)
    assert (failed.attempt, failed.reason, failed.typed) == (2, "composer_unclear", "partly")
    host.handle(Confirm(number=host._reports.next_number - 1))
    host.handle(Inject(session_id="s", delivery_id="d2", attempt=1, text="later"))
    await _until(lambda: _facts(host, Injected))
    assert log.read_text().count("the message") == 1
    host.end(0.1)
    await _until(host.finished.is_set)
