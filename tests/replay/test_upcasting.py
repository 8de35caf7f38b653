"""A superseded event is read everywhere as its successor: in a log, in its state, and in a session that is played.

No event has been superseded so far, so these tests pretend that `delivery.held.v1` is the second version of an event.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, ClassVar

import msgspec
import pytest

from relaybroker.adapters.eventstore.integrity import verify
from relaybroker.adapters.eventstore.journal import Journal
from relaybroker.adapters.eventstore.reader import LogReader
from relaybroker.domain import inputs
from relaybroker.domain.events import REGISTRY, DeliveryHeld, Event
from relaybroker.replay import session
from relaybroker.replay.session import SessionError
from tests.replay import recordings
from tests.world import World


class Waited(Event, frozen=True, kw_only=True):
    """What is now `delivery.held.v1`, as an older version wrote it."""

    topic: ClassVar[str] = "delivery.waited.v1"
    machine: ClassVar[str] = "delivery"
    why: str
    deadline: float


def to_held(body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return DeliveryHeld.topic, {"reason": body["why"], "until": body["deadline"]}


OLDER = {**REGISTRY, Waited.topic: Waited}
UPCAST = {Waited.topic: to_held}


@pytest.fixture
def world():
    made = World()
    made.start()
    made.online()
    made.spawn("w1")
    made.tell(inputs.DeliveryModeRequested(request_id="m", name="w1", mode="manual_flush"))
    made.deliver("w1", 1, text="held")
    made.deliver("w1", 2, text="held as well")
    return made


def test_a_log_of_an_older_version_has_the_same_state_and_its_chain_holds(world, tmp_path):
    older = [
        msgspec.structs.replace(one, event=Waited(why=one.event.reason, deadline=one.event.until))
        if isinstance(one.event, DeliveryHeld)
        else one
        for one in world.log
    ]
    assert sum(isinstance(one.event, Waited) for one in older) == 2
    path = tmp_path / "journal-desk.sqlite"

    async def write() -> None:
        journal = Journal.open(str(path), registry=OLDER, upcasters={}, on_failure=pytest.fail)
        await journal.append(older)
        journal.close()

    asyncio.run(write())
    reader = LogReader.open(path, registry=REGISTRY, upcasters=UPCAST)
    try:
        assert [recorded for _, recorded in reader.read()] == world.log
        assert [found for found in verify(reader) if found.severity == "error"] == []
    finally:
        reader.close()


@pytest.fixture
def old_recording(tmp_path):
    """`dialog-hold` as an older version would have written it."""
    lines = []
    for line in recordings.path_of("dialog-hold").read_text(encoding="utf-8").splitlines():
        turn = json.loads(line)
        for event in turn.get("events", ()):
            if event["topic"] == DeliveryHeld.topic:
                body = event["body"]
                event |= {"topic": Waited.topic, "body": {"why": body["reason"], "deadline": body["until"]}}
        lines.append(json.dumps(turn, separators=(",", ":")))
    path = tmp_path / "old.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert path.read_text(encoding="utf-8").count(Waited.topic) >= 2
    return path


def test_a_recording_of_an_older_version_is_decided_the_same(old_recording, monkeypatch):
    with pytest.raises(SessionError, match=r"unknown_topic.*delivery\.waited\.v1"):
        recordings.play(old_recording)
    monkeypatch.setattr(session, "UPCASTERS", UPCAST)
    assert recordings.play(old_recording).differences == []


def test_an_upcaster_that_changes_the_meaning_is_a_difference(old_recording, monkeypatch):
    def hasty(body):
        topic, held = to_held(body)
        return topic, held | {"until": held["until"] - 1.0}

    monkeypatch.setattr(session, "UPCASTERS", {Waited.topic: hasty})
    assert recordings.play(old_recording).differences
