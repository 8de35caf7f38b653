"""What an agent leaves to whoever goes on with its work (local-api.md section 5.5)."""

from __future__ import annotations

import msgspec
import pytest

from relaybroker.domain import effects, events, inputs
from relaybroker.domain.continuity import CUT, MAX_PIECE, MAX_SUMMARY, Continuity, Heard, preface
from tests.world import World

LEFT = Continuity(
    agent_name="planner",
    initial_task="plan the garden",
    message_history=(Heard("bob", "mind the frost"), Heard("eve", "x" * 2000)),
    summary="beds are dug",
)


def test_the_preface_says_task_summary_and_last_messages():
    text = preface(LEFT, 16_384)
    assert text.startswith("## Continued from planner\nIts task: plan the garden\nIts summary:\nbeds are dug\n")
    assert f"- bob: mind the frost\n- eve: {'x' * MAX_PIECE}{CUT}\n" in text
    assert text.endswith("\n## Current Task\n")


def test_the_oldest_messages_give_way_where_there_is_no_room():
    whole = preface(LEFT, 16_384)
    less = preface(LEFT, len(whole) - 1)
    assert ("bob" in less, "eve" in less, "beds are dug" in less) == (False, True, True)
    assert "messages" not in preface(LEFT, 10)


def test_a_file_has_the_members_of_the_reference():
    written = msgspec.json.decode(msgspec.json.encode(LEFT))
    assert set(written) == {
        "agent_name", "cli", "initial_task", "released_at", "lifetime_seconds", "message_history", "summary",
    }  # fmt: skip
    assert written["message_history"][0] == {"from": "bob", "text": "mind the frost"}


def test_what_is_continued_is_typed_in_front_of_the_task(world: World):
    world.spawn("w1", task="sow carrots", preface=preface(LEFT, 9000), continue_from="planner")
    (text,) = [one.text for one in world.effects if isinstance(one, effects.TypeText)]
    assert text.startswith("## Continued from planner")
    assert text.endswith("## Current Task\nsow carrots")


def test_a_summary_is_recorded_as_the_agents_own(world: World):
    agent_id = world.spawn("w1")
    world.tell(inputs.SummaryGiven(request_id="s", agent_id=agent_id, summary="half done"))
    assert world.replies["s"].status == 200
    saved = [one for one in world.log if isinstance(one.event, events.SummarySaved)]
    assert [(one.stream, one.event.summary) for one in saved] == [("agent:w1:1", "half done")]
    world.assert_fold_is_live()


@pytest.mark.parametrize(("gone", "size", "status"), [(True, 1, 401), (False, MAX_SUMMARY + 1, 413)])
def test_a_summary_of_nobody_or_without_end_is_refused(world: World, gone: bool, size: int, status: int):
    agent_id = world.spawn("w1")
    if gone:
        world.tell(inputs.ReleaseRequested(request_id="r", name="w1"))
    world.tell(inputs.SummaryGiven(request_id="s", agent_id=agent_id, summary="x" * size))
    assert world.replies["s"].status == status
    assert not any(isinstance(one.event, events.SummarySaved) for one in world.log)
