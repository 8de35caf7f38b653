"""ADR-0044: what an agent's program started ends with it, wherever it went, and what ended is no zombie."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import psutil

from relaybroker.adapters.sessions.host import kin as kin_module
from relaybroker.adapters.sessions.host.kin import Kin
from relaybroker.adapters.sessions.host.orphans import SessionRecord
from relaybroker.adapters.sessions.host.process_table import Listed
from relaybroker.adapters.sessions.host.protocol import Exited, Started, Stop

DEADLINE_S = 60.0


async def _daemons(broker, then="stay", session_id="a1", wait=Started):
    """Start the agent that leaves daemons; their process ids by what they are."""
    pids = broker.directory / f"{session_id}.pids"
    pids.touch()
    await broker.start(broker.python, broker.agent("daemons"), pids, then, session_id=session_id, wait=wait)
    await broker.until(lambda: pids.read_text().count("\n") == 3, "three daemons", DEADLINE_S)
    return {what: int(pid) for what, pid in (line.split() for line in pids.read_text().splitlines())}


async def _release(broker, session_id="a1"):
    broker.client.send(Stop(session_id=session_id, grace_s=0.3, reason="test"))
    await broker.fact(session_id, Exited, deadline_s=DEADLINE_S)


async def test_a_release_ends_helpers_in_sessions_of_their_own_and_daemons(broker, is_alive):
    """F109; also one that left its parents and has no environment."""
    daemons = await _daemons(broker)
    assert all(is_alive(pid) for pid in daemons.values())
    await _release(broker)
    await broker.until(lambda: not any(is_alive(pid) for pid in daemons.values()), "all are gone", DEADLINE_S)


async def test_the_exit_of_a_program_is_told_although_daemons_live_and_they_end(broker, is_alive):
    daemons = await _daemons(broker, then="exit")
    exited = await broker.fact("a1", Exited, deadline_s=DEADLINE_S)
    assert (exited.code, exited.requested) == (3, False)
    await broker.until(lambda: not any(is_alive(pid) for pid in daemons.values()), "all are gone", DEADLINE_S)


async def test_daemons_of_a_killed_host_are_ended_by_the_next_one(broker, is_alive):
    """F109: by their mark, and those without it because the killed host had seen them."""
    daemons = await _daemons(broker)
    record = Path(f"{broker.socket_path}.sessions")
    await broker.until(
        lambda: all(str(pid) in record.read_text() for pid in daemons.values()), "all were seen", DEADLINE_S
    )
    (host,) = broker.host_pids
    os.kill(host, signal.SIGKILL)
    await broker.until(lambda: broker.lost, "the loss is told", DEADLINE_S)
    await broker.attach()
    await broker.until(lambda: not any(is_alive(pid) for pid in daemons.values()), "all are gone", DEADLINE_S)


async def test_a_release_leaves_the_daemons_of_another_agent_alone(broker, is_alive):
    ours = await _daemons(broker, session_id="a1")
    theirs = await _daemons(broker, session_id="a2")
    await _release(broker, "a1")
    recognisable = (ours["session"], ours["daemon"])
    await broker.until(
        lambda: not any(is_alive(pid) for pid in recognisable), "those that can be told are gone", DEADLINE_S
    )
    assert all(is_alive(pid) for pid in theirs.values())
    await _release(broker, "a2")
    every = [*ours.values(), *theirs.values()]
    await broker.until(lambda: not any(is_alive(pid) for pid in every), "all are gone", DEADLINE_S)


def name_of(process):
    """Its name, blank when it has just ended."""
    with suppress(psutil.NoSuchProcess):
        return process.name()
    return ""


async def test_orphans_that_end_leave_no_zombies(broker):
    await broker.start("sh", "-c", "for n in $(seq 30); do (setsid sleep 0.01 &); done; exec cat", wait=Started)
    (pid,) = broker.host_pids
    host, agent = psutil.Process(pid), await broker.pid()
    await broker.until(
        lambda: [(child.pid, name_of(child)) for child in host.children(recursive=True)] == [(agent, "cat")],
        "only the agent is below the host",
        DEADLINE_S,
    )


def test_an_orphan_of_whom_nothing_is_known_ends_with_the_last_agent_that_may_have_started_it(monkeypatch):
    me = os.getpid()
    table = {
        me: Listed(me, "S", 1, me, 0),
        10: Listed(10, "S", me, 10, 100),
        20: Listed(20, "S", me, 20, 200),
        30: Listed(30, "S", me, 30, 400),
        99: Listed(99, "S", me, 99, 300),
    }
    monkeypatch.setattr(kin_module, "processes", lambda: table)
    monkeypatch.setattr(kin_module, "listed", table.get)
    monkeypatch.setattr(kin_module, "mark_of", lambda _pid: "")
    kin = Kin(adopts=True)
    for pid in (10, 20, 30):
        kin.add(pid, f"s{pid}")
    assert 99 not in kin.of(10) + kin.of(20) + kin.of(30), "10 or 20: nobody knows"
    kin.remove(10)
    assert kin.of(20) == [20, 99]
    assert kin.of(30) == [30], "it is younger than the orphan"


def test_a_server_that_was_there_before_its_agent_belongs_to_no_other(monkeypatch):
    me = os.getpid()
    table = {me: Listed(me, "S", 1, me, 0), 10: Listed(10, "S", me, 10, 100), 99: Listed(99, "S", me, 99, 300)}
    monkeypatch.setattr(kin_module, "processes", lambda: table)
    monkeypatch.setattr(kin_module, "listed", table.get)
    monkeypatch.setattr(kin_module, "mark_of", lambda pid: "s20" if pid == 99 else "")
    kin = Kin(adopts=True)
    kin.add(10, "s10")
    assert kin.of(10) == [10]
    table[20] = Listed(20, "S", me, 20, 400)
    kin.add(20, "s20")
    kin._looked = float("-inf")
    assert sorted(kin.of(20)) == [20, 99]
    assert kin.of(10) == [10]


def test_a_number_that_a_stranger_got_is_not_the_agents_any_more(monkeypatch):
    me = os.getpid()
    table = {me: Listed(me, "S", 1, me, 0), 10: Listed(10, "S", me, 10, 100)}
    monkeypatch.setattr(kin_module, "processes", lambda: table)
    monkeypatch.setattr(kin_module, "listed", table.get)
    kin = Kin(adopts=False)
    kin.add(10, "s")
    table[10] = Listed(10, "S", 1, 10, 900)
    table[11] = Listed(11, "S", 10, 10, 901)
    kin._looked = float("-inf")
    assert kin.of(10) == []


async def test_a_copy_of_a_living_hosts_record_ends_nobody(broker, is_alive, tmp_path):
    """A state directory is copied while its broker runs; what is done in the copy leaves the original alone."""
    daemons = await _daemons(broker)
    record = Path(f"{broker.socket_path}.sessions")
    await broker.until(
        lambda: all(str(pid) in record.read_text() for pid in daemons.values()), "all were seen", DEADLINE_S
    )
    copy = tmp_path / "copy.sessions"
    copy.write_bytes(record.read_bytes())
    assert SessionRecord(str(copy)).end_orphans() == []
    assert all(is_alive(pid) for pid in (await broker.pid(), *daemons.values()))
