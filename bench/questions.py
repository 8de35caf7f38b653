"""What this broker's tools cost: a question to a long log, and a day of traffic in the simulated broker of the pytest plugin."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench import brokers
from relaybroker.audit.log import reading
from relaybroker.audit.story import tell
from relaybroker.testing.simulated import SimulatedBroker
from tests import long_log

if TYPE_CHECKING:
    from bench.measures import Figures, Plan

ASKED = ("M10_agent-7", "del_M11_agent-9_109", "agent-3@12", "agent-5", "node")
DAY_MESSAGES = 480


async def questions(name: str, plan: Plan) -> Figures:
    """The slowest of several questions, each asked three times and counted once; seconds of a simulated day."""
    if name != brokers.OURS:
        return {}
    return await asyncio.to_thread(_measured, plan)


def _measured(plan: Plan) -> Figures:
    with tempfile.TemporaryDirectory() as place:
        long_log.write(Path(place) / "journal-desk.sqlite", plan.events)
        why_s = max(min(_asked(Path(place), wanted) for _ in range(3)) for wanted in ASKED)
    began = time.perf_counter()
    _day()
    return {"why_ms": round(1000 * why_s, 1), "simulated_day_s": round(time.perf_counter() - began, 2)}


def _asked(folder: Path, wanted: str) -> float:
    with reading(folder) as log:
        began = time.perf_counter()
        tell(log, wanted)
        return time.perf_counter() - began


def _day() -> None:
    broker, names = SimulatedBroker(), ("ann", "bob", "cleo")
    for name in names:
        broker.spawn(name)
    for number in range(DAY_MESSAGES):
        broker.deliver(names[number % 3], f"message {number}")
        broker.advance(minutes=3)
    broker.verify()
