"""What an agent fetches itself is delivered: once, in order, and never typed afterwards (ADR-0062)."""

from __future__ import annotations

import pytest

from relaybroker.domain import inputs
from relaybroker.domain.delivery import CUSTODY_S, FETCH_S, MAX_BODY_BYTES


def fetch(world, name="w1", limit=20, request_id="f1"):
    world.tell(inputs.FetchRequested(request_id=request_id, agent_id=world.agent_ids[name], limit=limit))
    return world.replies[request_id].body


def end(world, body, *, answered=True, name="w1"):
    world.tell(inputs.FetchEnded(agent_id=world.agent_ids[name], fetch_id=body["fetch_id"], answered=answered))


def ids(body):
    return [row["message_id"] for row in body["messages"]]


def ready(world):
    world.report(inputs.ProgramReady, world.broker.state.registration_of("w1").session_id, evidence="prompt")


def why(world):
    return [str(delivery.reason or "") for delivery in world.broker.state.deliveries.values()]


@pytest.fixture
def waiting(world):
    """Two messages wait for an agent whose program is not ready."""
    world.auto_ready = False
    world.spawn("w1")
    world.deliver("w1", 1, text="one")
    world.deliver("w1", 2, text="two")
    return world


def test_what_waits_is_given_acknowledged_and_never_typed(waiting):
    """FETCHED-ONCE."""
    body = fetch(waiting)
    assert [(row["message_id"], row["from"], row["target"], row["text"]) for row in body["messages"]] == [
        ("M1", "alice", "#general", "one"),
        ("M2", "alice", "#general", "two"),
    ]
    assert waiting.acks("w1") == []
    end(waiting, body)
    assert waiting.acks("w1")[-1] == 2
    assert waiting.broker.state.deliveries == {}
    ready(waiting)
    assert waiting.texts("w1") == []
    assert [body["evidence"] for body in waiting.notified if body["kind"] == "delivery_injected"] == ["fetched"] * 2
    waiting.assert_fold_is_live()


def test_while_the_answer_is_on_its_way_nothing_is_typed_and_a_broken_one_leaves_all_as_it_was(waiting):
    """FETCHED-ONCE."""
    body = fetch(waiting)
    assert why(waiting) == ["being_fetched"] * 2
    ready(waiting)
    assert waiting.texts("w1") == []
    end(waiting, body, answered=False)
    assert [text.rpartition(": ")[2] for text in waiting.texts("w1")] == ["one", "two"]
    assert not any("possible-duplicate" in text for text in waiting.texts("w1"))
    waiting.assert_fold_is_live()


@pytest.mark.parametrize("how", ["time", "crash", "again"])
def test_an_answer_that_nobody_hears_of_again_may_have_been_read_and_says_so(waiting, how):
    fetch(waiting)
    if how == "time":
        waiting.advance(FETCH_S + 1)
    elif how == "crash":
        waiting.crash()
        waiting.start()
        waiting.online()
    else:
        again = fetch(waiting, request_id="f2")
        assert [row["possible_duplicate"] for row in again["messages"]] == [True, True]
        end(waiting, again, answered=False)
    ready(waiting)
    assert [("possible-duplicate" in text) for text in waiting.texts("w1")] == [True, True]
    waiting.assert_fold_is_live()


def test_a_late_word_of_a_fetch_that_is_over_changes_nothing(waiting):
    body = fetch(waiting)
    waiting.advance(FETCH_S + 1)
    end(waiting, body)
    assert waiting.acks("w1") == []
    ready(waiting)
    assert len(waiting.texts("w1")) == 2


def test_a_limit_takes_the_first_ones(waiting):
    body = fetch(waiting, limit=1)
    assert ids(body) == ["M1"]
    end(waiting, body)
    assert waiting.acks("w1")[-1] == 1
    ready(waiting)
    assert len(waiting.texts("w1")) == 1


def test_what_a_person_holds_is_not_taken(world):
    world.spawn("w1")
    world.tell(inputs.DeliveryModeRequested(request_id="m", name="w1", mode="manual_flush"))
    world.deliver("w1", 1)
    body = fetch(world)
    assert (body["messages"], body["fetch_id"]) == ([], "")
    assert why(world) == ["manual_flush"]


def test_nothing_is_taken_past_what_the_terminal_has(world):
    world.auto_type = False
    world.spawn("w1")
    world.deliver("w1", 1)
    session = world.broker.state.registration_of("w1").session_id
    world.report(inputs.ProgramOccupied, session, reason="agent_busy", detail="works", patience_s=300.0)
    world.deliver("w1", 2)
    assert fetch(world)["messages"] == []
    world.not_typed(world.pending_text.pop(0), reason="agent_busy")
    body = fetch(world, request_id="f2")
    assert ids(body) == ["M1", "M2"]


def test_the_task_of_a_spawn_is_typed_and_not_fetched(world):
    world.auto_ready = False
    world.spawn("w1", task="build it")
    world.deliver("w1", 1)
    assert fetch(world)["messages"] == []


def test_an_agent_that_ends_while_it_fetches_leaves_a_doubt(waiting):
    fetch(waiting)
    session = waiting.broker.state.registration_of("w1").session_id
    waiting.report(inputs.ProgramExited, session, code=0, signal=None, last_output="", uptime_s=1.0, requested=False)
    assert [letter.in_doubt for letter in waiting.broker.state.dead_letters.values()] == [True, True]
    waiting.assert_fold_is_live()


@pytest.mark.parametrize("held_s", [0.0, CUSTODY_S])
def test_the_doubt_of_a_fetch_stays_with_a_message_that_goes_back_to_the_engine(waiting, held_s):
    """TYPED-ONCE: nobody said what came of the fetch, and then the program ended; the next one is told that it may be a copy.

    Also if it was taken into custody meanwhile (found by simulation, seed 3177).
    """
    fetch(waiting)
    waiting.advance(FETCH_S + 1)
    session = waiting.broker.state.registration_of("w1").session_id
    waiting.report(inputs.ProgramExited, session, code=0, signal=None, last_output="", uptime_s=1.0, requested=False)
    for frame in waiting.sent("agent.deregister"):
        waiting.frame(type="reply", id=frame["id"], ok=True, data={"deregistered": True})
    waiting.spawn("w1")
    waiting.deliver("w1", 1, text="one")
    waiting.advance(held_s)
    ready(waiting)
    (text,) = waiting.texts("w1")
    assert "[M1 possible-duplicate]" in text
    waiting.assert_fold_is_live()


def test_what_is_in_custody_and_notices_are_fetched_too(world):
    world.auto_ready = False
    world.spawn("w1")
    world.spawn("w2")
    world.deliver("w1", 1)
    world.advance(CUSTODY_S + 60)
    payload = {"type": "dm.received", "data": {"text": "x" * (MAX_BODY_BYTES + 1), "agent_name": "w1"}}
    world.deliver("w2", 1, msg_id="D1", payload=payload)
    body = fetch(world)
    assert [row["from"] for row in body["messages"]] == ["alice", "broker"]
    end(world, body)
    assert world.broker.state.workers[world.broker.state.registration_of("w1").session_id].waiting == []
    world.assert_fold_is_live()


def test_who_is_not_registered_here_fetches_nothing(world):
    world.agent_ids["ghost"] = "4711"
    assert fetch(world, "ghost")["code"] == "unauthorized"
