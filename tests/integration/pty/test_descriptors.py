"""Few descriptors: what cannot be started says so, what runs goes on, everything is given back."""

from __future__ import annotations

import asyncio
import resource
from pathlib import Path

import pytest

from relaybroker.adapters.sessions.host.process import DESCRIPTORS
from relaybroker.adapters.sessions.host.protocol import Injected, Started, StartFailed

DEADLINE_S = 60.0

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")


def _open_files(pid):
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _limit(pid, soft):
    hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_program_that_finds_no_free_descriptors_is_refused_with_the_limit(broker):
    await broker.start("cat", wait=Started)
    (host,) = broker.host_pids
    before, usual = _open_files(host), resource.prlimit(host, resource.RLIMIT_NOFILE)[0]
    few = before + DESCRIPTORS - 1
    _limit(host, few)
    for number in range(5):
        failed = await broker.start("cat", session_id=f"b{number}", wait=StartFailed)
        assert failed.reason == "spawn_failed"
        assert "Too many open files" in failed.detail
        assert f"{few} open files" in failed.detail
    broker.inject("still there", "d1")
    await broker.fact("a1", Injected, deadline_s=DEADLINE_S)
    await broker.until(lambda: _open_files(host) <= before, "nothing is kept for what was not started", DEADLINE_S)
    _limit(host, usual)
    assert isinstance(await broker.start("cat", session_id="later", wait=Started), Started)


async def test_ended_agents_give_their_descriptors_back(broker):
    (host,) = broker.host_pids
    before = _open_files(host)
    for number in range(8):
        await broker.start("cat", session_id=f"b{number}", wait=Started)
    assert _open_files(host) > before
    for number in range(8):
        await broker.stop(f"b{number}")
    await broker.until(lambda: _open_files(host) <= before, "as many as before", DEADLINE_S)


async def test_a_program_that_cannot_be_executed_keeps_nothing_open(broker):
    script = broker.directory / "broken"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    (host,) = broker.host_pids
    before = _open_files(host)
    for number in range(5):
        await broker.start(script, session_id=f"b{number}", wait=StartFailed)
    await broker.until(lambda: _open_files(host) <= before, "as many as before", DEADLINE_S)


async def test_a_broker_that_comes_while_there_are_no_descriptors_is_served_when_there_are(broker):
    """The host neither spins nor ends."""
    (host,) = broker.host_pids
    usual = resource.prlimit(host, resource.RLIMIT_NOFILE)[0]
    await broker.client.close()
    await broker.until(lambda: not broker.client._link, "the connection is closed", DEADLINE_S)
    _limit(host, _open_files(host))
    attaching = asyncio.create_task(broker.attach())
    log = Path(broker.log_path)
    await broker.until(
        lambda: attaching.done() or "a broker cannot be accepted" in log.read_text(), "it notices", DEADLINE_S
    )
    _limit(host, usual)
    assert (await attaching).host_pid == host
    assert log.read_text().count("a broker cannot be accepted") == 1
    assert "Traceback" not in log.read_text()


async def test_the_host_raises_its_limit_and_agents_get_the_one_from_before(broker):
    """superset-sh/superset PR 5067; a program that uses select() breaks on numbers above 1023."""
    await broker.shut_down()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        broker.host_pids.clear()
        welcome = await broker.attach()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert resource.prlimit(welcome.host_pid, resource.RLIMIT_NOFILE)[0] > 256
    reported = broker.directory / "limit"
    await broker.start("sh", "-c", f"ulimit -S -n > {reported}; cat", wait=Started)
    await broker.until(lambda: reported.exists() and reported.read_text(), "the limit", DEADLINE_S)
    assert reported.read_text().strip() == "256"
