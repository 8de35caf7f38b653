"""The command, run in this process or as a process of its own."""

from __future__ import annotations

import asyncio

import pytest
from click.testing import CliRunner

from relaybroker.adapters.eventstore.journal import Journal
from relaybroker.cli.app import cli
from relaybroker.domain.events import REGISTRY
from tests.world import World


@pytest.fixture
def run():
    return lambda *words: CliRunner().invoke(cli, [str(word) for word in words])


@pytest.fixture
def state(tmp_path):
    """A state directory whose broker was killed after one delivery, with another one waiting."""
    return write_state(tmp_path)


def write_state(folder):
    """Such a state directory, made of this folder."""
    world = World()
    world.start()
    world.online()
    world.spawn("w1")
    world.deliver("w1", 1, msg_id="M1", text="what was said")
    world.auto_type = False
    world.deliver("w1", 2, msg_id="M2")

    async def write() -> None:
        path = folder / "journal-desk.sqlite"
        journal = Journal.open(str(path), registry=REGISTRY, on_failure=lambda error: None)
        await journal.append(world.log)
        await asyncio.to_thread(journal.close)

    asyncio.run(write())
    return folder
