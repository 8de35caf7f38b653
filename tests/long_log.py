"""A log of any length, made by the real core: messages for fifty agents, each offered, typed, acknowledged and verified.

`write` is used by the tests of recovery and by `make bench`; what comes out is what a broker would have written.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from relaybroker.adapters.eventstore import recorders
from relaybroker.adapters.eventstore.mapper import GENESIS, Mapper
from relaybroker.domain import inputs
from relaybroker.domain.events import REGISTRY
from relaybroker.domain.inputs import Settings
from relaybroker.domain.state import State
from tests.world import SETTINGS, World

AGENTS = tuple(f"agent-{number}" for number in range(50))
TEXT = "hello, could you look at the failing build please? it is on main"
_ROUNDS = 20


def write(
    path: Path,
    events: int,
    agents: Sequence[str] = AGENTS,
    settings: Settings = SETTINGS,
    before: tuple[int, Path] | None = None,
) -> State:
    """Make the database at `path` with at least this many events of a broker with these settings; the live state at its end.

    `before`: a number of events, and where the same log goes as it was when it had so many.
    """
    recorders.create_sqlite(path)
    recorder = recorders.open_sqlite(path)
    mapper, chain, written = Mapper(REGISTRY), GENESIS, 0
    world = _peopled(agents, settings)
    seq = 0
    while written < events:
        for _ in range(_ROUNDS):
            seq += 1
            for name in agents:
                world.deliver(name, seq, msg_id=f"M{seq}_{name}", text=TEXT)
            world.now += 0.5
        for delivery in list(world.broker.state.deliveries.values()):
            world.report(
                inputs.TextVerified,
                delivery.session_id,
                delivery_id=delivery.typing_id,
                verification="timeout_fallback",
            )
        rows = []
        for recorded in world.log:
            row, chain = mapper.to_stored(recorded, chain)
            rows.append(row)
        recorder.insert_events(rows)
        written += len(rows)
        if before is not None and written >= before[0]:
            recorder.checkpoint()
            shutil.copy(path, before[1])
            before = None
        _forget_the_past(world)
    recorder.checkpoint()
    recorder.close()
    return world.broker.state


def _peopled(agents: Sequence[str], settings: Settings) -> World:
    world = World(settings)
    world.start()
    world.online()
    for name in agents:
        world.spawn(name)
    return world


def _forget_the_past(world: World) -> None:
    for kept in (world.log, world.effects, world.frames, world.notified, world.typed, world.replies, world.done):
        kept.clear()
