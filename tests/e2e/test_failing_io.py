"""The N-th open, read, write, fsync or rename of the broker on its own files fails, or its N-th large allocation, once or for good: it
refuses with a reason or goes on. (Without memory, Python itself may end; then nothing is said, and nothing is lost either.)

Whatever happened, the next broker on the same files starts, and everything that the engine took is typed exactly once.
`IO_FAULTS=200 IO_SEED=7 pytest tests/e2e/test_failing_io.py` runs so many of them, chosen by the seed; `IO_FAULTS=all` every one,
`all-fsync` every one of a kind; without it a few.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import random
import shutil
import subprocess
import time
from pathlib import Path

import aiohttp
import pytest

from tests.waiting import WAIT_S

SOURCE = Path(__file__).parent / "failing_io" / "failing_io.c"
KINDS = {
    "open": errno.EMFILE,
    "read": errno.EIO,
    "write": errno.ENOSPC,
    "fsync": errno.EIO,
    "rename": errno.EACCES,
    "memory": errno.ENOMEM,
}
MOST = {"open": 150, "read": 400, "write": 60, "fsync": 30, "rename": 12, "memory": 200}
"""About as many calls as a start and three messages make."""
COUNT = os.environ.get("IO_FAULTS", "2")
SEED = int(os.environ.get("IO_SEED", "1"))

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="without gcc nothing can be made to fail")


def _cases():
    every, _, only = COUNT.partition("-")
    if every == "all":
        yield from (
            (kind, at, ever)
            for kind in MOST
            if only in ("", kind)
            for at in range(1, MOST[kind] + 1)
            for ever in (False, True)
        )
        return
    chance = random.Random(SEED)
    kinds = list(KINDS)
    for number in range(int(COUNT)):
        kind = kinds[(number + SEED) % len(kinds)]
        yield kind, chance.randint(1, MOST[kind]), chance.random() < 0.5


PATIENCE_S = 60.0
"""A client's, with a broker whose disk fails."""


@pytest.fixture(scope="session")
def failing(tmp_path_factory):
    if shutil.which("gcc") is None:
        pytest.skip("no C compiler here: I/O that fails is not tried")
    made = tmp_path_factory.mktemp("failing") / "failing_io.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", str(made), str(SOURCE), "-ldl"], check=True)
    return made


async def _ready_or_ended(made):
    deadline = time.monotonic() + WAIT_S
    while made.broker.poll() is None:
        connection = made.connection()
        if connection is not None and connection["pid"] == made.broker.pid:
            return True
        assert time.monotonic() < deadline, f"neither ready nor ended\n{made.tail()}"
        await asyncio.sleep(0.05)
    return False


async def _try(what):
    """What a client may get from a broker whose disk fails: an answer, or none."""
    try:
        return await asyncio.wait_for(what, PATIENCE_S)
    except (aiohttp.ClientError, OSError, TimeoutError, AssertionError, TypeError, KeyError):
        return None


async def _start(made):
    with contextlib.suppress(AssertionError):  # it may well not become ready
        await made.start()


@pytest.mark.parametrize(("kind", "at", "ever"), list(_cases()))
async def test_a_call_that_fails_costs_nothing_and_is_said(kind, at, ever, failing, tmp_path, make_deployment):
    made = make_deployment(tmp_path)
    made.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE_S))
    failed = tmp_path / "failed"
    try:
        made.extra = {
            "LD_PRELOAD": str(failing), "FAIL_KIND": kind, "FAIL_AT": str(at), "FAIL_EVER": str(int(ever)),
            "FAIL_ERRNO": str(KINDS[kind]), "FAIL_UNDER": str(made.state), "FAIL_IN": "up", "FAIL_COUNT": str(failed),
        }  # fmt: skip
        starting = asyncio.create_task(_start(made))
        await made.until(lambda: made.broker is not None, "the process is there")
        if await _ready_or_ended(made):
            await starting
            await _try(made.meet())
            await _try(made.spawn("w1"))
            for number in range(3):
                await _try(made.post("w1", f"while it fails {number}"))
            await asyncio.sleep(0.3)
        starting.cancel()
        said = made.tail()
        if made.broker.poll() is not None and not (kind == "memory" and made.broker.returncode < 0):
            assert made.broker.returncode == 1, (SEED, said)
            assert "Traceback" not in said, (SEED, said)
            assert "relaybroker: " in said, (SEED, said)
        elif made.broker.poll() is None:
            made.kill_broker()

        made.extra = {}
        await made.start()
        await made.until_api(lambda status: status["link"]["state"] == "online", "online")
        if not made.planner:
            await made.meet()
        if not any(row["name"] == "w1" for row in (await made.status())["agents"]):
            await made.spawn("w1")
            made.sent["w1"] = []  # what was for the one before is not for this one
        await made.post("w1", "after it")
        await made.until(lambda: not made.missing(), f"everything is typed: {made.missing()} (IO_SEED={SEED})")
        assert made.twice() == {}, SEED
        await asyncio.to_thread(made.command, "down")
        verified = await asyncio.to_thread(made.command, "log", "verify")
        assert verified.returncode == 0, (SEED, verified.stdout, verified.stderr)
    finally:
        await made.close()
