"""Logs made by the real core, in real SQLite files."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest

from relaybroker.adapters.eventstore.journal import Journal
from relaybroker.audit.log import reading
from relaybroker.domain.events import REGISTRY
from tests.world import World


@pytest.fixture
def world() -> World:
    made = World()
    made.start()
    made.online()
    return made


@pytest.fixture
def written(tmp_path):
    """Write a world's log into a state directory, as the broker does; again = what is new."""
    path = tmp_path / "journal-desk.sqlite"

    def write(world: World):
        async def run() -> None:
            journal = Journal.open(str(path), registry=REGISTRY, on_failure=lambda error: None)
            await journal.append(world.log[journal.position :])
            await asyncio.to_thread(journal.close)

        asyncio.run(run())
        return tmp_path

    return write


@pytest.fixture
def log(written):
    """A world's log, open for reading."""
    with ExitStack() as stack:
        yield lambda world: stack.enter_context(reading(written(world)))
