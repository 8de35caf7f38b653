"""What is kept for a spawn is forgotten when it is needed no more, and not before."""

from __future__ import annotations

import pytest

from relaybroker.adapters.spawn_environments import SpawnEnvironments
from relaybroker.agents.retired_spawns import RetiredSpawns
from relaybroker.domain.inputs import ProgramExited, ReleaseRequested, RestartPolicy
from tests.world import World


@pytest.fixture
def kept(tmp_path):
    return SpawnEnvironments(tmp_path / "environments")


@pytest.fixture
def world():
    made = World()
    made.start()
    made.online()
    return made


def own_file(tmp_path, session_id):
    path = tmp_path / "own-files" / session_id / "hub.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    return path


async def test_variables_go_when_the_agent_lives_and_own_files_when_it_is_gone(tmp_path, kept, world):
    reference = kept.keep({"MY_KEY": "k"})
    watcher = RetiredSpawns(kept, tmp_path / "own-files", world.broker.state)
    world.spawn("w1", env_names=("MY_KEY",), env_ref=reference)
    (registration,) = world.broker.state.registrations.values()
    path = own_file(tmp_path, registration.session_id)
    topics = [one.event.topic for one in world.log]
    before = topics.index("agent.live.v1")
    watcher.observe(world.log[:before])
    await watcher.settle()
    assert kept.values(reference) == {"MY_KEY": "k"}
    watcher.observe(world.log[before:])
    await watcher.settle()
    assert kept.values(reference) is None
    assert path.exists()
    position = len(world.log)
    world.tell(ReleaseRequested(request_id="r", name="w1"))
    watcher.observe(world.log[position:])
    await watcher.settle()
    assert not path.parent.exists()


async def test_what_a_former_broker_kept_is_forgotten_by_the_next(tmp_path, kept, world):
    reference = kept.keep({"MY_KEY": "k"})
    world.spawn("w1", env_names=("MY_KEY",), env_ref=reference)
    registration = next(iter(world.broker.state.registrations.values()))
    path = own_file(tmp_path, registration.session_id)
    watcher = RetiredSpawns(kept, tmp_path / "own-files", world.broker.state)
    position = len(world.log)
    world.tell(ReleaseRequested(request_id="r", name="w1"))
    watcher.observe(world.log[position:])
    await watcher.settle()
    assert kept.values(reference) is None
    assert not path.exists()


async def test_variables_stay_for_a_program_that_may_be_started_again(tmp_path, kept, world):
    reference = kept.keep({"MY_KEY": "k"})
    watcher = RetiredSpawns(kept, tmp_path / "own-files", world.broker.state)
    world.spawn("w1", env_names=("MY_KEY",), env_ref=reference, restart=RestartPolicy())
    first = world.broker.state.registration_of("w1").session_id
    path = own_file(tmp_path, first)
    end = {"code": None, "signal": 9, "last_output": "", "uptime_s": 1.0, "requested": False}
    world.report(ProgramExited, first, **end)
    watcher.observe(world.log)
    await watcher.settle()
    assert kept.values(reference) == {"MY_KEY": "k"}
    assert not path.parent.exists()
    next_path = own_file(tmp_path, world.broker.state.registration_of("w1").session_id)
    position = len(world.log)
    world.tell(ReleaseRequested(request_id="r", name="w1"))
    watcher.observe(world.log[position:])
    await watcher.settle()
    assert kept.values(reference) is None
    assert not next_path.parent.exists()
