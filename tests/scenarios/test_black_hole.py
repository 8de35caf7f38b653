"""An engine that accepts everything and answers nothing: what does not need it goes on as before."""

from __future__ import annotations

import shlex
import statistics
import sys
import time
from pathlib import Path

from tests.waiting import WAIT_S

SLOW_READER = Path(__file__).parents[1] / "e2e" / "agents" / "slow_reader.py"
WAITING = 20
ROUNDS = 20
"""Of every request, before the hole; in it there are as many as it lasts."""
AS_BEFORE = 5.0
"""So many times as long may the middle one of all requests take in the hole: a wait for the engine would be a thousand times."""
WORK = (
    ("GET", "/health", None),
    ("GET", "/api/status", None),
    ("GET", "/api/spawned", None),
    ("POST", "/api/input/quick", {"data": "typed by a person\r"}),
    ("GET", "/api/spawned/quick/snapshot", None),
)


async def asked(node):
    """One round of requests to the local API, and how long each took."""
    taken = []
    for method, path, body in WORK:
        began = time.perf_counter()
        status, answer = await node.api(method, path, body)
        taken.append(time.perf_counter() - began)
        assert status == 200, (path, answer)
    return taken


async def test_a_black_hole_stalls_nothing_that_does_not_need_the_engine(make_node, engine):
    """B14, F050, F051, NO-STALL: the local API answers as before, what was queued is typed, the link is dialled again and recovers."""
    node = make_node(rate=10)
    await node.start()
    await engine.online()
    notes = node.folder / "slow.notes"
    command = shlex.join([sys.executable, str(SLOW_READER), str(notes), "0.05"])
    assert (await node.api("POST", "/api/spawn", {"name": "slow", "cli": command}))[0] == 200
    await node.spawn("quick")
    for seq in range(1, WAITING + 1):
        await engine.deliver("slow", seq, f"text {seq}")
    await node.logged("delivery.offered.v1", lambda event: event.seq == WAITING)
    before = [one for _ in range(ROUNDS) for one in await asked(node)]

    engine.freeze()
    inside = []
    deadline = time.monotonic() + WAIT_S
    while len(engine.dials) < 2:
        inside += await asked(node)
        assert time.monotonic() < deadline, "the link is not dialled again"
    await node.until(lambda: notes.read_text().count("Relay message") == WAITING, what="what was queued is typed")
    assert "typed by a person" in "\n".join(node.notes("quick"))
    assert statistics.median(inside) <= AS_BEFORE * statistics.median(before)
    engine.thaw()
    await node.until_link("online")
    await engine.frame("delivery.ack", agent="slow", up_to_seq=WAITING)
