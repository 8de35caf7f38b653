"""Doors of a real host: the choice comes before the program is ready, and a broker of the version before hears nothing of doors."""

from __future__ import annotations

import os

import pytest

from relaybroker.adapters.pty.protocol import DOORS_SINCE, DoorChosen, Hello, Injected, LookUp, Ready
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
