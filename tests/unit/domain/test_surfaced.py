"""Reactions and read marks are told to the author of a message where that is asked for, and stand in nobody's way (ADR-0081)."""

from __future__ import annotations

import msgspec
import pytest

from relaybroker.domain import inputs

REACTED, READ = "message.reacted", "message.read"


def told(world, name="w1"):
    return [text.rpartition("]: ")[2] for text in world.texts(name)]


def posted(world, name="w1", message_id="900"):
    """An agent has sent a message through this broker."""
    request = inputs.SendRequested(request_id=f"s{message_id}", to="w2", text="hi", agent_id=world.agent_ids[name])
    world.tell(request)
    world.answer("/dm", 201, {"id": message_id})
    return message_id


def happens(world, kind, key, *, to="w1", who="w2", message_id="900", **data):
    found = {"message_id": message_id, "agent_name": who, "agent_id": "77"} | data
    world.deliver(to, 0, msg_id=message_id, delivery_id=f"evt_{key}", payload={"type": kind, "data": found})


def spawned(world, surface):
    world.spawn("w1", surface=surface)
    world.spawn("w2")
    posted(world)
    return world


def test_the_author_hears_in_one_line_each_what_others_do_with_its_message(world):
    spawned(world, ("reaction", "receipt"))
    happens(world, REACTED, "r1", emoji="👍", action="added")
    happens(world, READ, "m1")
    happens(world, REACTED, "r2", emoji="👍", action="removed")
    assert told(world) == [
        "w2 reacted with 👍 to your message 900.",
        "w2 has read your message 900.",
        "w2 took 👍 back from your message 900.",
    ]
    assert all(text.startswith("Relay message from broker [notice_") for text in world.texts("w1"))
    world.assert_fold_is_live()


@pytest.mark.parametrize(
    ("surface", "expected"),
    [
        (None, 0),
        ((), 0),
        (("reaction",), 1),
        (("receipt",), 1),
    ],
)
def test_nothing_is_told_that_was_not_asked_for(world, surface, expected):
    spawned(world, surface)
    happens(world, REACTED, "r1", emoji="x", action="added")
    happens(world, READ, "m1")
    assert len(told(world)) == expected


def test_the_harness_says_it_for_all_of_its_agents_and_a_spawn_otherwise(world):
    plain = world.broker._harness_of
    world.broker._harness_of = lambda *asked: msgspec.structs.replace(plain(*asked), surface=("receipt",))
    world.spawn("w1")
    world.spawn("w2", surface=())
    posted(world)
    posted(world, "w2", "901")
    happens(world, READ, "m1")
    happens(world, READ, "m2", to="w2", who="w1", message_id="901")
    assert (len(told(world)), told(world, "w2")) == (1, [])


@pytest.mark.parametrize(
    "change",
    [
        {"who": "w1"},  # it did that itself
        {"message_id": "555"},  # somebody else's message
        {"who": ""},  # nobody says who
        {"to": "w2"},  # its author is another agent
    ],
)
def test_what_is_not_about_an_agents_own_message_by_somebody_else_is_not_told(world, change):
    spawned(world, ("reaction", "receipt"))
    happens(world, READ, "m1", **change)
    assert told(world) == told(world, "w2") == []


def test_the_same_is_told_once_also_after_a_crash(world):
    spawned(world, ("reaction",))
    happens(world, REACTED, "r1", emoji="x", action="added")
    happens(world, REACTED, "r1", emoji="x", action="added")
    world.crash()
    world.start()
    world.online()
    happens(world, REACTED, "r1", emoji="x", action="added")
    assert len(told(world)) == 1


def test_it_takes_no_place_in_the_sequence_and_can_be_fetched(world):
    spawned(world, ("reaction",))
    world.report(inputs.ProgramBlocked, world.broker.state.registration_of("w1").session_id, pattern="question")
    happens(world, REACTED, "r1", emoji="x", action="added")
    world.deliver("w1", 1, text="a message")
    world.tell(inputs.FetchRequested(request_id="f", agent_id=world.agent_ids["w1"], limit=20))
    answer = world.replies["f"].body
    assert [row["text"] for row in answer["messages"]] == ["w2 reacted with x to your message 900.", "a message"]
    world.tell(inputs.FetchEnded(agent_id=world.agent_ids["w1"], fetch_id=answer["fetch_id"], answered=True))
    assert world.acks("w1")[-1] == 1
    world.assert_fold_is_live()
