"""Starting, ending and dying: exact causes, nobody left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from pathlib import Path

import pytest

from relaybroker.adapters.sessions.host.protocol import (
    Exited,
    Injected,
    InjectFailed,
    Ready,
    Started,
    StartFailed,
    Stop,
)


async def test_a_command_that_does_not_exist_is_refused_with_the_cause(broker):
    """F101."""
    failed = await broker.start("no-such-agent")
    assert failed.reason == "cli_not_found"
    assert "no-such-agent" in failed.detail


@pytest.mark.parametrize("cwd", ["relative/dir", "/no/such/dir"])
async def test_a_relative_or_missing_working_directory_is_refused(broker, cwd):
    """F113."""
    failed = await broker.start("cat", cwd=cwd)
    assert failed.reason == "invalid_cwd"


async def test_a_file_that_cannot_be_executed_says_why(broker):
    script = broker.directory / "broken"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    failed = await broker.start(script)
    assert failed.reason == "spawn_failed"
    assert "broken" in failed.detail


async def test_a_program_file_that_is_still_being_written_is_tried_again(broker):
    """F099: ETXTBSY goes away within the bound."""
    program = broker.directory / "prog"
    program.write_bytes(Path("/bin/cat").read_bytes())
    program.chmod(0o755)
    writing = os.open(program, os.O_WRONLY)
    threading.Timer(0.3, os.close, [writing]).start()
    assert isinstance(await broker.start(program), Ready)


async def test_a_program_file_that_stays_busy_fails_within_the_bound(broker):
    """F099: with the cause."""
    program = broker.directory / "prog"
    program.write_bytes(Path("/bin/cat").read_bytes())
    program.chmod(0o755)
    with program.open("r+b"):
        failed = await broker.start(program)
    assert failed.reason == "spawn_failed"
    assert "busy" in failed.detail.lower()


async def test_a_command_that_is_a_symlink_is_called_by_its_own_name(broker):
    """F100: a shim that acts by its name, found in the PATH of the agent."""
    shims = broker.directory / "shims"
    shims.mkdir()
    shim = shims / "shim"
    shim.write_text('#!/bin/sh\necho "$0|$1|$2"\n')
    shim.chmod(0o755)
    (shims / "my-agent").symlink_to(shim)
    await broker.start("my-agent", "a b", "c", env={"PATH": f"{shims}:/usr/bin:/bin"}, wait=None)
    exited = await broker.fact("a1", Exited)
    assert exited.last_output == f"{shims}/my-agent|a b|c"


async def test_the_environment_is_exactly_what_start_says(broker, monkeypatch):
    """F116; no variable of the host or broker leaks. The host adds one: whose process it is (ADR-0044)."""
    monkeypatch.setenv("RELAY_API_KEY", "secret")
    await broker.start("env", env={"ONLY": "this"}, wait=None)
    lines = (await broker.fact("a1", Exited)).last_output.splitlines()
    assert "ONLY=this" in lines
    assert "RELAYBROKER_SESSION=a1" in lines
    names = {line.split("=")[0] for line in lines}
    assert names == {"PATH", "TERM", "HOME", "LANG", "PS1", "ONLY", "RELAYBROKER_SESSION"}


async def test_exit_codes_and_signals_are_exact(broker):
    await broker.start("/bin/sh", "-c", "exit 42", session_id="code", wait=None)
    await broker.start("/bin/sh", "-c", "kill -USR1 $$", session_id="sig", wait=None)
    code, number = await broker.fact("code", Exited), await broker.fact("sig", Exited)
    assert (code.code, code.signal) == (42, None)
    assert (number.code, number.signal) == (None, signal.SIGUSR1)


async def test_all_output_of_a_program_that_ends_is_drained_first(broker):
    """The last words are complete, cut at a character."""
    broker.subscribe()
    await broker.start("/bin/sh", "-c", "seq 1 20000; printf 'ä%.0s' $(seq 3000)", wait=None)
    exited = await broker.fact("a1", Exited)
    assert exited.last_output == "ä" * 2000
    data = b"".join(output.data for output in broker.outputs)
    assert data.count(b"\n") == 20000
    assert data.endswith("ä".encode() * 3000)


async def test_release_ends_children_and_grandchildren_that_ignore_signals(broker, is_alive):
    """W8, F109: a child and a grandchild in a group of its own, both deaf to TERM and HUP."""
    log = broker.directory / "pids"
    await broker.start(broker.python, broker.agent("family"), log)
    pids = await broker.until(lambda: len(p := log.read_text().split()) == 3 and [int(x) for x in p], "three pids")
    exited = await broker.stop(grace_s=0.5)
    assert exited.requested
    assert not any(is_alive(pid) for pid in pids)


async def test_an_interactive_shell_ends_at_once_although_it_ignores_term(broker):
    """Nothing waits for the grace to be over, which would be an hour here."""
    await broker.start("bash", "--norc")
    await broker.stop(grace_s=3600)


async def test_a_suspended_program_can_be_released(broker):
    await broker.start("cat")
    os.kill(await broker.pid(), signal.SIGSTOP)
    exited = await broker.stop(grace_s=5)
    assert exited.signal == signal.SIGTERM


async def test_what_a_program_leaves_behind_when_it_ends_is_ended_too(broker, is_alive):
    """No orphan of a session that ended by itself; the exit is told at once."""
    log = broker.directory / "pids"
    await broker.start(broker.python, broker.agent("family"), log, "7", wait=None)
    exited = await broker.fact("a1", Exited)
    assert exited.code == 7
    pids = [int(x) for x in log.read_text().split()]
    await broker.until(lambda: not any(is_alive(pid) for pid in pids), "nobody left")


async def test_a_stopped_program_hands_back_what_is_queued_before_its_exit(broker):
    """W5, ONE-END: reasons in order, exit last."""
    await broker.start_agent("line_reader", "60", wait=Started)
    for number in range(5):
        broker.inject("x", f"d{number}")
    await broker.stop(grace_s=0.2)
    kinds = [type(r.fact) for r in broker.reports]
    assert kinds[-1] is Exited
    failed = broker.facts("a1", InjectFailed)
    assert [(f.delivery_id, f.reason, f.typed) for f in failed] == [
        (f"d{number}", "agent_released", "no") for number in range(5)
    ]
    broker.inject("late", "late")
    assert (await broker.fact("a1", InjectFailed, delivery_id="late")).reason == "not_running"


async def test_a_killed_program_is_noticed_and_leaves_no_zombie(broker):
    """F110, F097: the exit is a fact about the process."""
    await broker.start_agent("line_reader")
    pid = await broker.pid()
    broker.inject("x", "before")
    await broker.fact("a1", Injected)
    os.kill(pid, signal.SIGKILL)
    exited = await broker.fact("a1", Exited)
    assert (exited.signal, exited.requested) == (signal.SIGKILL, False)
    assert not Path(f"/proc/{pid}").exists()


async def test_a_program_that_closes_its_terminal_before_it_is_ready_is_ended(broker):
    """F102: nothing that is typed would ever reach it; its whole group goes."""
    await broker.start("sh", "-c", "sleep 300 & exec sleep 301 <&- >&- 2>&-", wait=Started)
    pid = broker.facts("a1", Started)[0].pid
    assert broker.facts("a1", Exited) == []
    await broker.start("sh", "-c", "exec sleep 302 <&- >&- 2>&-", wait=Started, session_id="a2")
    exited = await broker.fact("a2", Exited)
    assert (exited.cause, exited.signal, exited.requested) == ("terminal_closed", signal.SIGKILL, False)
    assert not Path(f"/proc/{broker.facts('a2', Started)[0].pid}").exists()
    assert Path(f"/proc/{pid}").exists(), "a child of the first one still has the terminal open"


async def test_a_program_that_ends_by_itself_keeps_its_own_cause(broker):
    """Its terminal is closed too, for a moment, before its exit is seen."""
    await broker.start("sh", "-c", "exit 3", wait=Started)
    exited = await broker.fact("a1", Exited)
    assert (exited.cause, exited.code) == ("", 3)


async def test_a_late_request_for_an_old_session_does_not_touch_its_successor(broker):
    """F103: sessions are known by id, not by name."""
    await broker.start("cat", session_id="old")
    await broker.stop("old")
    await broker.start("cat", session_id="new")
    broker.client.send(Stop(session_id="old", grace_s=0.1, reason="late"))
    broker.inject("x", "late", session_id="old")
    assert (await broker.fact("old", InjectFailed)).reason == "not_running"
    assert await broker.type_text("alive", session_id="new")


async def test_the_screen_can_be_seen_and_resized(broker):
    await broker.start("/bin/sh", "-c", "printf '\\033[1;31mred\\033[0m plain\\n'; stty size; cat", profile="default")
    answer = await broker.screen()
    assert answer.data["screen"].startswith("red plain\n24 80\n")
    assert answer.data["cursor"] == (3, 1)
    assert (await broker.screen(form="ansi")).data["format"] == "ansi"
    assert (await broker.screen(form="jpeg")).error == "invalid_format"
    assert (await broker.screen("nobody")).error == "agent_not_found"
    assert (await broker.resize(0, 80)).error == "invalid_dimensions"
    assert (await broker.resize(40, 100)).data == {"rows": 40, "cols": 100}
    answer = await broker.screen()
    assert (answer.data["rows"], answer.data["cols"]) == (40, 100)


async def test_a_session_id_is_started_once(broker):
    """A broker that was killed asks again; nothing is started twice."""
    await broker.start("cat", wait=None)
    await broker.start("cat")
    await broker.start("cat")
    await asyncio.sleep(0)
    assert len(broker.facts("a1", Started)) == 1
    assert broker.facts("a1", StartFailed) == []


async def test_the_output_of_an_agent_is_logged_for_its_owner_only(broker):
    """local-api.md 3.2: the worker log, 0600."""
    log = broker.directory / "worker.log"
    await broker.start("/bin/sh", "-c", "umask; echo logged", wait=None, log_path=str(log))
    exited = await broker.fact("a1", Exited)
    assert log.read_bytes().endswith(b"logged\r\n")
    assert log.stat().st_mode & 0o777 == 0o600
    assert int(exited.last_output.split()[0], 8) == _own_umask(), (
        "the agent has the umask of its broker, not the host's"
    )


async def test_a_tab_of_a_message_is_no_key(broker):
    """SAFE-KEYS: in a program that takes single keys it would complete or jump."""
    log = await broker.start_agent("raw_reader")
    await broker.type_text("a\tb")
    assert await log.wait(1) == ["a    b"]


def _own_umask():
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("Umask:")), 8)
