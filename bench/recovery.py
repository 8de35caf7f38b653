"""What a long history costs a broker that starts: a log of a million events, made by the real core, and one of a few thousand.

Both logs tell of the same fifty agents and end with the same live state. Source: tests/long_log.py.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import psutil

from bench import brokers
from bench.session import Session
from relaybroker.config.paths import paths_of
from tests import long_log
from tests.scripted_engine import WORKSPACE
from tests.world import SETTINGS

if TYPE_CHECKING:
    from bench.measures import Figures, Plan

SHORT = 3_000
"""Events in the log of the broker that counts as fresh."""


async def recovery(name: str, plan: Plan) -> Figures:
    """Start on the long log without and with a snapshot, and on the short log; memory of the broker process each time."""
    if name != brokers.OURS:
        return {}
    written: list[float] = []

    def long(folder: Path, engine: str) -> None:
        began = time.monotonic()
        _write(folder, engine, plan.events)
        written.append(time.monotonic() - began)

    async with Session(name, long) as session:
        bare_s, bare_mib = session.start_s, await _rested(session, plan)
        await session.stop()
        await session.start()
        kept_s, kept_mib = session.start_s, await _rested(session, plan)
    async with Session(name, lambda folder, engine: _write(folder, engine, SHORT)) as session:
        fresh_s, fresh_mib = session.start_s, await _rested(session, plan)
    return {
        "recovery_events": plan.events,
        "recovery_bare_s": round(bare_s, 2),
        "recovery_snapshot_s": round(kept_s, 2),
        "recovery_fresh_s": round(fresh_s, 2),
        "recovery_bare_resident": bare_mib,
        "recovery_snapshot_resident": kept_mib,
        "recovery_fresh_resident": fresh_mib,
        "recovery_memory_ratio": round(max(bare_mib, kept_mib) / fresh_mib, 3),
        "recovery_written_s": round(written[0], 1),
    }


def _write(folder: Path, engine: str, events: int) -> None:
    paths = paths_of("bench", folder / "state", {"HOME": str(folder)}, ephemeral=False)
    paths.state.mkdir(mode=0o700, parents=True)
    settings = msgspec.structs.replace(
        SETTINGS, node_id=brokers.NODE_ID, workspace_id=WORKSPACE, base_url=engine, broker_name="bench"
    )
    long_log.write(paths.journal, events, settings=settings)


async def _rested(session: Session, plan: Plan) -> float:
    await asyncio.sleep(plan.rest_s)
    return round(psutil.Process(session.pid).memory_info().rss / 2**20, 1)
