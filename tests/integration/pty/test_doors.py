"""Doors of a real host: the choice comes before the program is ready, and a broker of the version before hears nothing of doors."""

from __future__ import annotations

import asyncio
import os

import pytest

from relaybroker.adapters.sessions import known, route
from relaybroker.adapters.sessions.door import Door, Opened
from relaybroker.adapters.sessions.host.host import Host
from relaybroker.adapters.sessions.host.protocol import (
    DOORS_SINCE,
    Confirm,
    DoorChosen,
    Hello,
    Inject,
    Injected,
    InjectFailed,
    LookUp,
    Ready,
    Start,
)
from tests.waiting import WAIT_S

LOOK_UP = {"session_id": "gone", "delivery_id": "d1", "door": "none", "place": ""}


async def test_by_which_door_messages_enter_is_said_before_the_program_is_ready(broker):
    await broker.start("cat", doors=("none",))
    kinds = [type(report.fact) for report in broker.reports if isinstance(report.fact, DoorChosen | Ready)]
    assert kinds == [DoorChosen, Ready]
    (chosen,) = broker.facts("a1", DoorChosen)
    assert (chosen.door, chosen.passed_over) == ("", {"none": "this host has no door none"})
    typed = await broker.type_text("hello")
    assert (typed.door, typed.pointer) == ("", "")


async def test_a_program_that_was_asked_for_no_door_is_said_to_have_none(broker):
    await broker.start("cat")
    assert broker.facts("a1", DoorChosen) == []


async def test_a_host_answers_a_look_up_of_a_session_that_it_never_had(broker):
    answer = await broker.client.ask(LookUp(request_id="r", **LOOK_UP), WAIT_S)
    assert (answer.error, answer.data["outcome"]) == ("", "unknowable")


@pytest.mark.parametrize("version", [DOORS_SINCE - 1, DOORS_SINCE])
async def test_a_broker_of_the_version_before_hears_of_no_door_and_of_everything_else(broker, version):
    await broker.client.attach(Hello(version=version, broker_pid=os.getpid()))
    await broker.start("cat", doors=("none",))
    assert len(broker.facts("a1", DoorChosen)) == (version >= DOORS_SINCE)
    await broker.type_text("hello")
    broker.confirm_all()
    await broker.attach()
    assert len(broker.facts("a1", Injected)) == 1, "what was confirmed does not come again"


class Silent(Door):
    """A door of a program that takes everything and shows nothing."""

    name, folds, state = "silent", False, "idle"

    def __init__(self):
        self.taken = []

    async def prepare(self, launch):
        return launch, self

    async def open(self):
        return Opened()

    async def hand_over(self, delivery_id, text, *, steer):
        self.taken.append(delivery_id)

    async def evidence(self, delivery_id):
        await asyncio.get_running_loop().create_future()

    async def close(self):
        pass


async def test_what_was_sent_before_the_broker_knew_of_a_doubt_does_not_overtake(tmp_path, monkeypatch):
    """ORDER (found by simulation, seed 5711): d2 was on its way when nobody knew yet that d1 is to be looked up first."""
    door = Silent()
    monkeypatch.setitem(known.KINDS, door.name, door)
    monkeypatch.setattr(route, "EVIDENCE_S", 0.01)
    host = Host()

    def failures():
        facts = [report.fact for report in host._reports.since(1)]
        return [(fact.delivery_id, fact.reason) for fact in facts if isinstance(fact, InjectFailed)]

    async def until(condition):
        async with asyncio.timeout(WAIT_S):
            while not condition():
                await asyncio.sleep(0.01)

    env = {"PATH": os.environ["PATH"], "TERM": "xterm"}
    host.handle(
        Start(
            session_id="s", name="n", argv=("cat",), env=env, cwd=str(tmp_path), profile="default", doors=(door.name,)
        )
    )
    host.handle(Inject(session_id="s", delivery_id="d1", attempt=1, text="x"))
    await until(lambda: failures() == [("d1", "no_evidence")])
    host.handle(Inject(session_id="s", delivery_id="d2", attempt=1, text="x"))
    assert failures()[1:] == [("d2", "out_of_turn")]
    host.handle(Confirm(number=host._reports.next_number - 1))
    host.handle(Inject(session_id="s", delivery_id="d2", attempt=2, text="x"))
    await until(lambda: door.taken == ["d1", "d2"])
    host.end(0.1)
    await until(host.finished.is_set)
