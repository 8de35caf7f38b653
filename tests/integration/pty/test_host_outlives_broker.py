"""The host survives its broker, repeats what was not confirmed, types nothing twice, and takes its agents with it."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from relaybroker.adapters.sessions.host.client import HostClient, HostUnavailable
from relaybroker.adapters.sessions.host.framing import encode, response_decoder
from relaybroker.adapters.sessions.host.protocol import (
    PROTOCOL_VERSION,
    Confirm,
    Exited,
    Forget,
    Hello,
    Inject,
    Injected,
    Output,
    Ready,
    Report,
    Start,
    Started,
    Stop,
    Subscribe,
)
from tests.waiting import WAIT_S


async def test_a_broker_that_comes_back_gets_every_unconfirmed_report_in_order(broker):
    log = await broker.start_agent("line_reader")
    await broker.type_text("one", delivery_id="d1")
    broker.confirm_all()
    confirmed = broker.reports[-1].number
    await broker.type_text("two", delivery_id="d2")
    await broker.client.close()
    broker.reports.clear()
    welcome = await broker.attach()
    assert [session.session_id for session in welcome.sessions] == ["a1"]
    assert welcome.sessions[0].state == "ready"
    await broker.fact("a1", Injected, delivery_id="d2")
    numbers = [report.number for report in broker.reports]
    assert numbers == list(range(confirmed + 1, confirmed + 1 + len(numbers)))
    assert await log.wait(2) == ["one", "two"]


async def test_a_delivery_is_typed_once_however_often_it_is_asked_for(broker):
    """TYPED-ONCE: before and after the report was confirmed, and over a reconnect."""
    log = await broker.start_agent("line_reader")
    await broker.type_text("once", delivery_id="d1")
    broker.inject("once", "d1")
    assert (await broker.fact("a1", Injected, count=2)).repeated
    broker.confirm_all()
    await broker.client.close()
    await broker.attach()
    broker.inject("once", "d1", attempt=2)
    repeated = await broker.fact("a1", Injected, count=3)
    assert (repeated.repeated, repeated.attempt, repeated.evidence) == (True, 2, "read")
    await broker.type_text("end")
    assert await log.wait(2) == ["once", "end"]


async def test_a_connection_that_breaks_in_the_middle_of_injections_costs_nothing(broker):
    """W5: Killed broker: each of 40 deliveries is typed once and in order, each proof arrives."""
    log = await broker.start_agent("line_reader")
    for number in range(40):
        broker.inject(f"n{number}", f"d{number}")
        if number == 10:
            await broker.fact("a1", Injected)
    broker.break_connection()
    await broker.until(lambda: broker.lost, "the loss is told")
    await broker.attach()
    proven = {fact.delivery_id for fact in broker.facts("a1", Injected)}
    for number in range(40):
        if f"d{number}" not in proven:
            broker.inject(f"n{number}", f"d{number}", attempt=2)
    await broker.until(lambda: len({f.delivery_id for f in broker.facts("a1", Injected)}) == 40, "40 proofs")
    assert await log.wait(40) == [f"n{number}" for number in range(40)]
    assert len(broker.lost) == 1


async def test_a_killed_broker_process_leaves_host_and_agent_alive(broker, is_alive):
    """kill -9 of a real broker process that started the host."""
    directory = broker.directory / "other"
    directory.mkdir(mode=0o700)
    script = (
        "import asyncio, os, sys\n"
        "from relaybroker.adapters.sessions.host.client import HostClient\n"
        "from relaybroker.adapters.sessions.host.protocol import *\n"
        "async def main(path):\n"
        "    news = asyncio.Event()\n"
        "    def take(response):\n"
        "        if isinstance(response, Report) and isinstance(response.fact, Started):\n"
        "            print(response.fact.pid, flush=True)\n"
        "    client = HostClient(path, log_path=path + '.log', on_response=take, on_lost=print)\n"
        "    welcome = await client.attach(Hello(version=1, broker_pid=os.getpid()))\n"
        "    print(welcome.host_pid, flush=True)\n"
        "    client.send(Start(session_id='s', name='s', argv=('cat',), env={'PATH': '/bin:/usr/bin'}, cwd='/', profile='default'))\n"
        "    await news.wait()\n"
        "asyncio.run(main(sys.argv[1]))\n"
    )
    path = str(directory / "h.sock")
    first = subprocess.Popen([sys.executable, "-c", script, path], stdout=subprocess.PIPE, cwd=Path.cwd())
    host, agent = int(first.stdout.readline()), int(first.stdout.readline())
    broker.host_pids.add(host)
    first.kill()
    first.wait()
    first.stdout.close()
    assert is_alive(host)
    assert is_alive(agent)
    reports = []
    client = HostClient(path, log_path=path + ".log", on_response=reports.append, on_lost=lambda _why: None)
    welcome = await client.attach(Hello(version=PROTOCOL_VERSION, broker_pid=os.getpid()), start=False)
    assert welcome.host_pid == host
    assert welcome.sessions[0].pid == agent
    await broker.until(lambda: any(isinstance(r.fact, Started) for r in reports if isinstance(r, Report)), "report")
    await client.close()
    os.kill(host, signal.SIGTERM)
    await broker.until(lambda: not is_alive(host) and not is_alive(agent), "both gone")


async def test_a_killed_host_takes_its_agents_with_it(broker, is_alive):
    """F109: no orphan, not even a grandchild deaf to HUP; the broker is told; a new host has a new id."""
    log = broker.directory / "pids"
    await broker.start(broker.python, broker.agent("family"), log)
    await broker.start("cat", session_id="cat")
    pids = await broker.until(lambda: len(p := log.read_text().split()) == 3 and [int(x) for x in p], "three pids")
    pids += [await broker.pid("cat")]
    welcome_id = (await broker.attach()).host_id
    (host,) = broker.host_pids
    os.kill(host, signal.SIGKILL)
    await broker.until(lambda: broker.lost, "the loss is told")
    await broker.until(lambda: not is_alive(pids[0]) and not is_alive(pids[3]), "agents gone")
    welcome = await broker.attach()
    assert welcome.host_id != welcome_id
    assert welcome.sessions == ()
    await broker.until(lambda: not any(is_alive(pid) for pid in pids), "those deaf to HUP are ended by the new host")


async def test_two_brokers_that_start_at_once_share_one_host(broker):
    """Never two hosts on one socket."""
    directory = broker.directory / "race"
    directory.mkdir(mode=0o700)
    path = str(directory / "h.sock")
    clients = [
        HostClient(path, log_path=path + ".log", on_response=lambda _r: None, on_lost=lambda _w: None) for _ in range(4)
    ]
    welcomes = await asyncio.gather(
        *(client.attach(Hello(version=PROTOCOL_VERSION, broker_pid=os.getpid())) for client in clients),
        return_exceptions=True,
    )
    hosts = {welcome.host_pid for welcome in welcomes if not isinstance(welcome, BaseException)}
    broker.host_pids |= hosts
    assert len(hosts) == 1
    for client in clients:
        await client.close()
    os.kill(hosts.pop(), signal.SIGTERM)


async def test_a_newer_connection_replaces_the_older(broker):
    lost = []
    other = HostClient(broker.socket_path, log_path=broker.log_path, on_response=lambda _r: None, on_lost=lost.append)
    await other.attach(Hello(version=PROTOCOL_VERSION, broker_pid=os.getpid()))
    await broker.until(lambda: broker.lost, "the older one is told")
    assert lost == []
    await other.close()
    await broker.attach()


async def test_a_host_ends_when_its_lease_is_over_and_not_before(broker, is_alive):
    """The lease of Hello: counted from the loss of the broker; a broker that comes back renews it."""
    await broker.start("cat")
    pid = await broker.pid()
    await broker.attach(lease_s=0.4)
    await broker.client.close()
    await broker.attach(lease_s=0.4)
    await asyncio.sleep(0.6)  # longer than the lease, attached: nothing may happen
    assert is_alive(pid)
    await broker.client.close()
    (host,) = broker.host_pids
    await broker.until(lambda: not is_alive(pid) and not is_alive(host), "agent and host end")
    assert not Path(broker.socket_path).exists()


async def test_a_forgotten_session_is_gone_and_a_living_one_is_not_forgotten(broker):
    await broker.start("cat", session_id="a")
    await broker.start("cat", session_id="b")
    broker.client.send(Forget(session_id="b"))
    await broker.stop("a")
    broker.client.send(Forget(session_id="a"))
    assert [session.session_id for session in (await broker.attach()).sessions] == ["b"]


async def test_the_socket_belongs_to_its_owner_only(broker):
    mode = Path(broker.socket_path).stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    assert stat.S_IMODE(Path(broker.log_path).stat().st_mode) == 0o600


async def test_a_directory_that_others_can_write_is_refused(tmp_path):
    open_directory = tmp_path / "open"
    open_directory.mkdir()
    open_directory.chmod(0o777)
    client = HostClient(
        str(open_directory / "h.sock"), log_path=str(tmp_path / "log"), on_response=print, on_lost=print
    )
    with pytest.raises(HostUnavailable, match="chmod 700"):
        await client.attach(Hello(version=PROTOCOL_VERSION, broker_pid=1))


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become another user")
async def test_another_user_is_refused(broker):
    """Peer credentials: even when file modes would let it in."""
    broker.directory.chmod(0o755)
    for parent in itertools.takewhile(lambda parent: str(parent) != tempfile.gettempdir(), broker.directory.parents):
        parent.chmod(0o711)
    Path(broker.socket_path).chmod(0o666)
    script = (
        "import os, socket, sys\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "s = socket.socket(socket.AF_UNIX); s.settimeout(60); s.connect(sys.argv[1])\n"
        "data = s.recv(1000); print(data)\n"
    )
    done = await asyncio.to_thread(
        subprocess.run,
        ["/usr/bin/python3", "-c", script, broker.socket_path],
        capture_output=True,
        timeout=WAIT_S,
        check=False,
    )
    assert b"serves user 0 only" in done.stdout, done.stderr
    assert await broker.start("cat")


async def test_a_socket_path_longer_than_an_address_may_be_works(broker):
    """sun_path has 108 bytes; a deep state directory must not matter."""
    deep = broker.directory / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True, mode=0o700)
    path = str(deep / "host.sock")
    client = HostClient(path, log_path=str(deep / "log"), on_response=lambda _r: None, on_lost=lambda _w: None)
    welcome = await client.attach(Hello(version=PROTOCOL_VERSION, broker_pid=os.getpid()))
    broker.host_pids.add(welcome.host_pid)
    await client.close()
    os.kill(welcome.host_pid, signal.SIGTERM)


async def test_nonsense_on_the_socket_is_answered_with_a_violation_and_hurts_nobody(broker):
    await broker.start("cat")
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(broker.socket_path)
        stranger.sendall(struct.pack(">I", 2**31) + b"x")
        stranger.settimeout(60)
        assert b"frame has at most" in await asyncio.to_thread(stranger.recv, 4096)
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(broker.socket_path)
        frame = b"\x82\xa1t\xa7Confirm\xa6number\x01"
        stranger.sendall(struct.pack(">I", len(frame)) + frame)
        stranger.settimeout(60)
        assert b"not Hello" in await asyncio.to_thread(stranger.recv, 4096)
    assert await broker.type_text("fine")
    assert broker.lost == []


async def test_attach_without_start_says_that_no_host_lives(tmp_path):
    client = HostClient(str(tmp_path / "h.sock"), log_path=str(tmp_path / "l"), on_response=print, on_lost=print)
    with pytest.raises(HostUnavailable, match="no PTY host"):
        await client.attach(Hello(version=PROTOCOL_VERSION, broker_pid=1), start=False)


async def test_a_host_told_to_end_ends_its_sessions_and_reports_them(broker, is_alive):
    await broker.start("cat")
    (host,) = broker.host_pids
    os.kill(host, signal.SIGTERM)
    exited = await broker.fact("a1", Exited)
    assert exited.requested
    broker.confirm_all()
    await broker.until(lambda: not is_alive(host), "the host is gone")


async def test_secrets_of_a_start_appear_neither_in_the_log_nor_in_the_arguments_of_the_host(broker):
    """SECRET."""
    await broker.start("cat", env={"RELAY_AGENT_TOKEN": "at_live_secret"})
    (host,) = broker.host_pids
    assert "at_live_secret" not in Path(broker.log_path).read_text()
    assert b"at_live_secret" not in Path(f"/proc/{host}/cmdline").read_bytes()
    assert json.dumps("RELAY_") not in Path(f"/proc/{host}/environ").read_text()
    assert broker.facts("a1", Ready)
    broker.client.send(Confirm(number=1))


async def test_a_broker_that_reads_slowly_loses_output_visibly_and_no_report(broker):
    """Output is dropped with a jump of the offset; reports come complete and in order."""
    await broker.client.close()
    (host,) = broker.host_pids
    before = _bytes_read_by(host)
    reader, writer = await asyncio.open_unix_connection(broker.socket_path, limit=2**20)

    def send(message):
        writer.write(encode(message))

    env = {"PATH": "/usr/bin:/bin"}
    send(Hello(version=PROTOCOL_VERSION, broker_pid=1))
    send(Subscribe(on=True))
    send(Start(session_id="yes", name="yes", argv=("yes",), env=env, cwd="/", profile="default"))
    send(Start(session_id="cat", name="cat", argv=("cat",), env=env, cwd="/", profile="default"))
    for number in range(100):
        send(Inject(session_id="cat", delivery_id=f"d{number}", attempt=1, text=f"line {number}"))
    await writer.drain()
    await broker.until(lambda: _bytes_read_by(host) - before > 16 * 2**20, "output overflows the host's buffers")
    decoder, got = response_decoder(), []
    stopped = False
    async with asyncio.timeout(WAIT_S):
        while not any(isinstance(m, Report) and isinstance(m.fact, Exited) for m in got[-50:]):
            got += decoder.feed(await reader.read(2**18))
            if not stopped and _jumps(got):
                stopped = True
                send(Stop(session_id="yes", grace_s=0.1, reason="enough"))
    reports = [m for m in got if isinstance(m, Report)]
    assert [r.number for r in reports] == list(range(1, len(reports) + 1))
    assert sum(isinstance(r.fact, Injected) for r in reports) == 100
    assert _jumps(got) >= 1
    writer.close()
    await writer.wait_closed()
    await broker.attach()


def _bytes_read_by(pid: int) -> int:
    return int(Path(f"/proc/{pid}/io").read_text().split()[1])


def _jumps(messages) -> int:
    """How often the output of `yes` left something out; it never goes back."""
    expected, jumps = 0, 0
    for output in (m for m in messages if isinstance(m, Output) and m.session_id == "yes"):
        assert output.offset >= expected
        jumps += output.offset > expected
        expected = output.offset + len(output.data)
    return jumps
