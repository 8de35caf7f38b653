"""Agents whose program has no terminal: how long a turn may take, what is held and why, and what the next program goes on with."""

from __future__ import annotations

import msgspec
import pytest

from relaybroker.domain import effects, inputs
from relaybroker.domain.delivery import HOST_SILENT_AGAIN_S, HOST_SILENT_S, TURN_SILENT_S
from relaybroker.domain.doors import WITHOUT_TERMINAL, fault_of_doors, is_without_terminal
from relaybroker.domain.inputs import RestartPolicy
from relaybroker.domain.questions import Option, question
from tests.world import SETTINGS, World

PLACE = "/state/doors/ws_1/acp.jsonl"


def piped(**spec):
    world = World(msgspec.structs.replace(SETTINGS, in_doubt="ask"))
    world.auto_ready = False
    world.start()
    world.online()
    world.spawn("w1", doors=("acp",), **spec)
    world.auto_type = False
    opened(world)
    return world


def session_of(world):
    return world.broker.state.registration_of("w1").session_id


def opened(world, place=PLACE):
    world.report(inputs.DoorChosen, session_of(world), door="acp", place=place, passed_over={})
    world.report(inputs.ProgramReady, session_of(world), evidence="door")


def state(world):
    return [one.state for one in world.broker.state.deliveries.values()]


def test_a_turn_of_many_hours_is_neither_doubted_nor_asked_about():
    """Its end is the proof; the broker waits longer than the host."""
    world = piped()
    world.deliver("w1", 1)
    world.advance(HOST_SILENT_S + HOST_SILENT_AGAIN_S + 1)
    assert (state(world), len(world.pending_text)) == (["injecting"], 1)
    world.advance(TURN_SILENT_S - HOST_SILENT_S)
    assert (state(world), len(world.pending_text)) == (["in_doubt"], 2)
    world.assert_fold_is_live()


def test_what_it_asks_holds_messages_with_a_reason_of_its_own():
    world = piped()
    asked = question("q1", "permission", ["May it?"], [Option("y", "Yes", "allow_once")])
    world.report(inputs.ProgramBlocked, session_of(world), pattern="permission", question=asked)
    world.deliver("w1", 1)
    assert [one.event.reason for one in world.events("delivery.held.v1")] == ["blocked_by_question"]
    world.report(inputs.ProgramUnblocked, session_of(world))
    assert state(world) == ["injecting"]


def starts(world):
    return [effect for effect in world.effects if isinstance(effect, effects.StartProgram)]


def dies(world):
    world.report(
        inputs.ProgramExited, session_of(world), code=3, signal=None, last_output="", uptime_s=60.0, requested=False
    )
    world.advance(30)


def test_the_next_program_goes_on_with_the_conversation_also_when_one_between_never_opened_its_door():
    world = piped(restart=RestartPolicy())
    world.advance(60)
    assert [one.resumes for one in starts(world)] == [""]
    dies(world)
    dies(world)  # without having opened its door
    assert [one.resumes for one in starts(world)] == ["", PLACE, PLACE]
    world.assert_fold_is_live()


def test_who_asks_for_an_agent_hears_that_it_has_no_terminal():
    world = piped()
    world.advance(60)
    (spawned,) = [frame for frame in world.notified if frame["kind"] == "agent_spawned"]
    assert spawned["runtime"] == "headless"


@pytest.mark.parametrize("door", WITHOUT_TERMINAL)
def test_such_a_door_stands_alone(door):
    assert (fault_of_doors([door]), is_without_terminal([door])) == ("", True)
    for others in ([door, "claude_inbox"], ["claude_inbox", door], [door, "pty_paste"]):
        assert "stands alone" in fault_of_doors(others)
    assert not is_without_terminal(["claude_inbox"])
