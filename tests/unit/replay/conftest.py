"""Sessions of small worlds, in memory."""

from __future__ import annotations

import asyncio
import io

import pytest

from relaybroker.adapters.eventstore.journal import Journal
from relaybroker.audit.log import reading
from relaybroker.domain import inputs
from relaybroker.domain.events import REGISTRY
from relaybroker.replay.exporting import export
from relaybroker.replay.session import Session
from tests.log_at_hand import LogAtHand
from tests.world import World


def reopened(written: bytes) -> Session:
    return Session(io.BufferedReader(io.BytesIO(written)), "test")


def session_bytes(world: World) -> bytes:
    file = io.BytesIO()
    export(LogAtHand(world.log), file)
    return file.getvalue()


@pytest.fixture
def world() -> World:
    """A day in little: typed, repeated, ahead of its turn, in doubt, crashed, restarted."""
    made = World()
    made.start()
    made.online()
    made.spawn("w1", task="look after the garden")
    made.deliver("w1", 1, text="water the roses")
    made.deliver("w1", 2, text="water the roses")
    made.deliver("w1", 2, text="water the roses")
    made.deliver("w1", 5, msg_id="M5", text='späte Nachricht: "tulips"')
    made.advance(15)
    made.online()
    made.advance(30)
    made.frame(type="ping")
    made.auto_type = False
    made.deliver("w1", 6, text="hesitation")
    made.tell(inputs.HostLost(detail="killed"))
    made.host_id, made.sessions, made.reports, made.unconfirmed = "host_2", {}, 0, []
    made.advance(30)
    made.crash()
    made.start()
    made.advance(60)
    return made


@pytest.fixture
def written(world) -> bytes:
    return session_bytes(world)


@pytest.fixture
def state_directory(world, tmp_path):
    """The world's log as a broker leaves it."""

    async def write() -> None:
        path = tmp_path / "journal-desk.sqlite"
        journal = Journal.open(str(path), registry=REGISTRY, on_failure=lambda error: None)
        await journal.append(world.log)
        await asyncio.to_thread(journal.close)

    asyncio.run(write())
    return tmp_path


@pytest.fixture
def log(state_directory):
    with reading(state_directory) as reader:
        yield reader
