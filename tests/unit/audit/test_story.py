"""`why` says the verdict first, and the chain that led there."""

from __future__ import annotations

import pytest

from domain import inputs
from relaybroker.audit.story import DELIVERED, NOT_DELIVERED, PENDING, AmbiguousError, NotFoundError, tell


def test_a_typed_message_is_told_from_the_frame_to_the_acknowledgement(world, log):
    """U01."""
    world.spawn("w1")
    world.deliver("w1", 1)
    (story,) = tell(log(world), "M1")
    assert (story.outcome, story.state, story.reason) == (DELIVERED, "acked", "")
    assert [step.event for step in story.steps] == [
        "delivery.offered.v1",
        "delivery.queued.v1",
        "delivery.injecting.v1",
        "delivery.injected.v1",
        "delivery.acked.v1",
    ]
    assert "evidence: echo" in story.verdict


@pytest.mark.parametrize("wanted", ["M1", "del_M1_100", "w1@1", "del_M1"])
def test_a_delivery_is_found_by_each_of_its_names(world, log, wanted):
    world.spawn("w1")
    world.deliver("w1", 1)
    assert [story.subject for story in tell(log(world), wanted)] == ["delivery:del_M1_100"]


def test_a_message_for_two_agents_has_two_stories(world, log):
    for name in ("w1", "w2"):
        world.spawn(name)
        world.deliver(name, 1, msg_id="M")
    assert len(tell(log(world), "M")) == 2


def test_a_waiting_message_says_what_it_waits_for(world, log):
    """U03."""
    world.auto_ready = False
    world.spawn("w1")
    world.deliver("w1", 1)
    (story,) = tell(log(world), "M1")
    assert (story.outcome, story.reason) == (PENDING, "not_ready")


def test_a_returned_message_says_that_the_engine_keeps_it(world, log):
    world.auto_ready = False
    world.spawn("w1")
    world.deliver("w1", 1)
    world.tell(inputs.ReleaseRequested(request_id="r", name="w1"))
    (story,) = tell(log(world), "M1")
    assert (story.outcome, story.state, story.reason) == (NOT_DELIVERED, "dropped", "agent_released")
    assert "keeps it" in story.verdict


def test_copies_of_the_frame_and_restarts_in_between_belong_to_the_story(world, log):
    world.spawn("w1")
    world.auto_type = False
    world.deliver("w1", 1)
    world.crash()
    world.auto_type = True
    world.start()
    world.online()
    world.deliver("w1", 1)
    (story,) = tell(log(world), "M1")
    told = [step.event for step in story.steps]
    assert "broker.started.v1" in told
    assert "mailbox.frame_ignored.v1" in told


def test_an_ignored_frame_has_a_story_of_its_own(world, log):
    world.agent_ids["ghost"] = "4711"
    world.deliver("ghost", 7, msg_id="G7")
    (story,) = tell(log(world), "G7")
    assert (story.outcome, story.reason) == (NOT_DELIVERED, "unknown")


def test_agents_actions_and_messages_have_stories(world, log):
    world.spawn("w1")
    world.frame(type="action.invoke", invocation_id="inv_1", action="echo", input={})
    world.tell(inputs.SendRequested(request_id="s", to="w9", text="hello", sender=""))
    assert tell(log(world), "w1")[0].state == "live"
    assert tell(log(world), "inv_1")[0].reason == "handler_unavailable"
    accepted = world.events("message.accepted.v1")[0].event.event_id
    assert tell(log(world), accepted)[0].outcome == PENDING


def test_unknown_and_ambiguous_ids_are_errors(world, log):
    world.spawn("w1")
    world.deliver("w1", 1, msg_id="MESSAGE-1")
    world.deliver("w1", 2, msg_id="MESSAGE-2")
    with pytest.raises(NotFoundError):
        tell(log(world), "nobody-knows")
    with pytest.raises(AmbiguousError) as caught:
        tell(log(world), "MESS")
    assert caught.value.choices == ["MESSAGE-1", "MESSAGE-2"]


def test_no_story_shows_a_body_or_a_secret(world, log):
    world.spawn("w1")
    world.deliver("w1", 1, text="very private words")
    (story,) = tell(log(world), "M1")
    assert "very private words" not in str(story)


def test_each_ignored_or_waiting_frame_of_one_agent_has_its_own_reason(world, log):
    """All frames of an agent share one stream; what happened to a later one is not this one's story."""
    world.spawn("w1")
    world.deliver("w1", 1)
    world.deliver("w1", 1, msg_id="STALE")
    world.deliver("w1", 5, msg_id="AHEAD")
    (stale,) = tell(log(world), "STALE")
    assert (stale.outcome, stale.state) == (NOT_DELIVERED, "ignored")
    assert [step.event for step in stale.steps] == ["mailbox.frame_ignored.v1"]
    (ahead,) = tell(log(world), "AHEAD")
    assert (ahead.outcome, ahead.state, ahead.reason) == (PENDING, "buffered", "gap_wait")


def test_an_empty_id_means_nothing(world, log):
    world.spawn("w1")
    with pytest.raises(NotFoundError):
        tell(log(world), "")
