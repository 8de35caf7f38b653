"""Logs made by the real core, in real SQLite files."""

from __future__ import annotations

import asyncio

import pytest

from adapters.eventstore.journal import Journal
from domain.events import REGISTRY, UPCASTERS
from tests.world import World


@pytest.fixture
def world() -> World:
    made = World()
    made.start()
    made.online()
    return made


@pytest.fixture
def log():
    """What `tell` and `listing` read: (position, event) pairs."""
    return lambda world: [(recorded.version, recorded) for recorded in world.log]


@pytest.fixture
def written(tmp_path):
    """Write a world's log into a state directory, as the broker does."""

    def write(world: World):
        async def run() -> None:
            path = tmp_path / "journal-desk.sqlite"
            journal = Journal.open(str(path), registry=REGISTRY, upcasters=UPCASTERS, on_failure=lambda error: None)
            await journal.append(world.log)
            await asyncio.to_thread(journal.close)

        asyncio.run(run())
        return tmp_path

    return write
