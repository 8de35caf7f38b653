"""`up --record`: what is durable is written, and nothing waits for it."""

from __future__ import annotations

import stat

import pytest

from relaybroker.domain import effects
from relaybroker.domain.state import State
from relaybroker.replay.playing import Outcome, Player
from relaybroker.replay.recording import Recording
from relaybroker.replay.session import open_session
from tests.waiting import WAIT_S
from tests.world import World


class _RecordedWorld(World):
    def __init__(self, recording: Recording) -> None:
        super().__init__()
        self.recording = recording

    def _take(self, decision) -> None:
        self.recording.take([decision])
        super()._take(decision)


def _work(world: World) -> None:
    world.start()
    world.online()
    world.spawn("w1")
    for seq in range(1, 20):
        world.deliver("w1", seq)
    world.advance(60)


def play(path) -> Outcome:
    with open_session(path) as session:
        return Player(session).play()


def test_a_live_recording_has_every_turn_with_its_effects_and_plays_the_same(tmp_path):
    recording = Recording(tmp_path / "run.jsonl", State())
    world = _RecordedWorld(recording)
    _work(world)
    recording.close()
    with open_session(tmp_path / "run.jsonl") as session:
        turns = list(session)
    assert [one for turn in turns for one in turn.events] == world.log
    assert all(turn.effects is not None for turn in turns)
    assert session.end is not None
    assert session.end.end == "shutdown"
    assert play(tmp_path / "run.jsonl").differences == []


def test_a_changed_effect_of_the_same_events_is_found(tmp_path, monkeypatch):
    recording = Recording(tmp_path / "run.jsonl", State())
    _work(_RecordedWorld(recording))
    recording.close()
    monkeypatch.setattr(
        "relaybroker.domain.rules.process.AttachHost", lambda: effects.CloseLink(dial=0, detail="another effect")
    )
    (difference,) = play(tmp_path / "run.jsonl").differences
    assert difference.cause == "BrokerStarted"


def test_a_recording_that_begins_with_a_state_goes_on_from_it(tmp_path):
    world = World()
    _work(world)
    before = world.fold()
    recording = Recording(tmp_path / "run.jsonl", before)
    later = _RecordedWorld(recording)
    later.__dict__.update({name: value for name, value in world.__dict__.items() if name != "recording"})
    later.crash()
    later.start()
    later.online()
    recording.close()
    outcome = play(tmp_path / "run.jsonl")
    assert outcome.differences == []
    assert outcome.state.position == later.broker.state.position


def test_a_recording_is_private_and_overwrites_nothing(tmp_path):
    path = tmp_path / "run.jsonl"
    Recording(path, State()).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        Recording(path, State())


def test_a_full_queue_ends_the_recording_loudly_and_not_the_broker(tmp_path, caplog, monkeypatch):
    world = World()
    _work(world)
    stuck, writing = _stick_the_writer(monkeypatch)
    recording = Recording(tmp_path / "run.jsonl", State(), limit=4)
    recorded = _RecordedWorld(recording)
    _work(recorded)
    assert writing.wait(WAIT_S)
    assert recording.given_up == "overflow"
    assert [record for record in caplog.records if "the broker goes on" in record.getMessage()]
    assert recorded.acks("w1")[-1] == 19
    stuck.set()
    recording.close()
    with open_session(tmp_path / "run.jsonl") as session:
        assert 1 <= len(list(session)) < 10
    assert session.end is not None
    assert session.end.end == "overflow"


def _stick_the_writer(monkeypatch):
    """A disk that takes one turn and then no more until it is told to."""
    import threading

    from relaybroker.replay import session

    stuck, writing = threading.Event(), threading.Event()
    real = session.Writer.turn

    def turn(self, one):
        writing.set()
        stuck.wait(WAIT_S)
        real(self, one)

    monkeypatch.setattr(session.Writer, "turn", turn)
    return stuck, writing


def test_a_disk_that_refuses_ends_the_recording_loudly_and_not_the_broker(tmp_path, caplog, monkeypatch):
    from relaybroker.replay import session

    def turn(self, one):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(session.Writer, "turn", turn)
    recording = Recording(tmp_path / "run.jsonl", State())
    recorded = _RecordedWorld(recording)
    _work(recorded)
    recording.close()
    assert recording.given_up == "disk"
    assert [record for record in caplog.records if "No space left" in record.getMessage()]
    assert recorded.acks("w1")[-1] == 19
