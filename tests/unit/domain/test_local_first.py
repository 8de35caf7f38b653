"""Agents of one broker talk while the engine is away: each text is typed once, in order, and published once (ADR-0090)."""

from __future__ import annotations

import msgspec
import pytest

from relaybroker.adapters.http.engine_calls import HttpCall
from relaybroker.domain import inputs
from relaybroker.domain.message import ANSWER_S, KEEP_S, LOCAL_ANSWER_S
from relaybroker.domain.rules import local_first
from tests.world import SETTINGS, World


@pytest.fixture
def world():
    """Two agents of one broker; the engine is there."""
    made = World(msgspec.structs.replace(SETTINGS, local_first=True))
    made.start()
    made.online()
    made.spawn("ann")
    made.spawn("bob")
    return made


@pytest.fixture
def away(world):
    """The engine is gone."""
    world.drop()
    return world


def say(world, text, sender="ann", to="bob", request_id="", **fields):
    """One agent writes to another; the event id of the message."""
    request_id = request_id or f"r{len(world.log)}"
    agent_id = world.agent_ids[sender]
    world.tell(inputs.SendRequested(request_id=request_id, to=to, text=text, agent_id=agent_id, **fields))
    return next(iter(reversed(world.broker.state.messages))).removeprefix("message:")


def reply(world, message_id, text, sender="bob"):
    return say(world, text, sender, f"thread:{message_id}", thread_id=message_id)


def publishes(world):
    return [one for one in world.effects if isinstance(one, HttpCall) and one.idempotency_key]


def unanswered(world):
    """Nobody answers what is being published."""
    for message in list(world.broker.state.messages.values()):
        if message.call_id:
            world.tell(inputs.EngineUnanswered(call_id=message.call_id, detail="connection refused"))


def publish(world, event_id, message_id):
    """The engine takes a message, and gives it this id."""
    message = world.broker.state.messages[f"message:{event_id}"]
    if not message.call_id:
        world.advance(31)
    world.tell(inputs.EngineAnswered(call_id=message.call_id, status=201, data={"id": message_id}))


def come(world, message_id, seq, text, sender="ann", to="bob"):
    """The engine's copy of a direct message."""
    payload = {"type": "dm.received", "data": {"id": message_id, "from_name": sender, "to": to, "text": text}}
    world.deliver(to, seq, msg_id=message_id, payload=payload)


def words(world, name="bob"):
    return [text.rpartition(": ")[2] for text in world.texts(name)]


def back(world):
    """The link comes back."""
    world.advance(60)
    if world.broker.state.link.state == "connecting":
        world.online()
    assert world.broker.state.link.state == "online"


def states(world, event_id):
    """Events of the delivery by which a message was given from here."""
    stream = next(
        one.stream for one in world.log if getattr(one.event, "source", "") == "local" and one.event.msg_id == event_id
    )
    return [one.event.topic.split(".")[1] for one in world.log if one.stream == stream]


# --- while the engine is away -------------------------------------------------------------------------------------------------


def test_a_message_is_typed_at_once_and_its_sender_hears_that_it_is_pending(away):
    first = say(away, "one", request_id="s1")
    assert away.texts("bob")[-1].endswith(f"Relay message from ann [{first}]: one")
    away.advance(LOCAL_ANSWER_S)
    assert away.replies["s1"].body["publish_pending"] is True
    away.assert_fold_is_live()


def test_while_the_engine_is_there_it_has_every_message_first(world):
    say(world, "one", request_id="s1")
    world.advance(LOCAL_ANSWER_S + 1)
    assert words(world) == []
    assert "s1" not in world.replies


def test_without_the_setting_messages_wait_for_the_engine():
    made = World()
    made.start()
    made.online()
    made.spawn("ann")
    made.spawn("bob")
    made.drop()
    say(made, "one", request_id="s1")
    made.advance(ANSWER_S)
    assert words(made) == []
    assert made.replies["s1"].body["publish_pending"] is True


def test_a_try_that_nobody_answered_says_that_the_engine_is_away_although_the_link_is_up(world):
    say(world, "one")
    unanswered(world)
    assert words(world) == ["one"]


@pytest.mark.parametrize(("sender", "to"), [("ann", "#general"), ("ann", "stranger"), ("ann", "ann")])
def test_channels_and_agents_elsewhere_wait_for_the_engine(away, sender, to):
    say(away, "one", sender, to)
    assert words(away, "bob") == words(away, "ann") == []


def test_messages_are_typed_in_the_order_in_which_they_were_sent_and_published_so(away):
    ids = [say(away, str(number), priority=4 - number) for number in range(3)]
    assert words(away) == ["0", "1", "2"]
    unanswered(away)
    for number, event_id in enumerate(ids):
        publish(away, event_id, f"7{number}")
    order = list(dict.fromkeys(call.idempotency_key for call in publishes(away)))
    assert order == ids


# --- the engine's copy --------------------------------------------------------------------------------------------------------


def test_the_copy_is_recognised_by_its_id_takes_its_number_and_is_acknowledged(away):
    first = say(away, "one")
    unanswered(away)
    assert states(away, first) == ["offered", "queued", "injecting", "injected"]
    back(away)
    publish(away, first, "71")
    come(away, "71", 1, "one")
    assert words(away) == ["one"]
    assert away.acks("bob")[-1] == 1
    assert states(away, first)[-2:] == ["recognised", "acked"]
    assert away.broker.state.copies_to_come == {}
    come(away, "71", 1, "one")
    assert words(away) == ["one"]
    away.assert_fold_is_live()


def test_a_copy_that_comes_before_the_engines_answer_waits_for_it(away):
    """local-api 6.1 item 5."""
    first = say(away, "one")
    unanswered(away)
    back(away)
    come(away, "71", 1, "one")
    come(away, "72", 2, "and one from ann's other hand")
    held = [delivery.reason for delivery in away.broker.state.deliveries.values() if delivery.source == "engine"]
    assert held == ["publish_pending"] * 2
    assert away.acks("bob") == []
    publish(away, first, "71")
    assert words(away) == ["one", "and one from ann's other hand"]
    assert away.acks("bob")[-1] == 2
    assert states(away, first)[-2:] == ["recognised", "acked"]
    away.assert_fold_is_live()


def test_a_fetch_takes_nothing_that_may_be_a_copy_nor_what_is_behind_it(away):
    say(away, "one")
    unanswered(away)
    back(away)
    come(away, "71", 1, "one")
    away.deliver("bob", 2, msg_id="72", text="later")
    away.tell(inputs.FetchRequested(request_id="f1", agent_id=away.agent_ids["bob"], limit=20))
    assert away.replies["f1"].body["messages"] == []


def test_a_copy_that_came_before_the_outage_is_not_typed_again_from_the_outbox(world):
    """The engine pushes faster than it answers, and dies in between."""
    say(world, "one")
    come(world, "71", 1, "one")
    world.drop()
    unanswered(world)
    world.advance(5)
    assert words(world) == ["one"]
    world.assert_fold_is_live()


def test_nothing_is_given_while_an_earlier_message_of_the_pair_is_on_its_way_from_the_engine(world):
    first = say(world, "one")
    publish(world, first, "71")
    world.drop()
    second = say(world, "two")
    unanswered(world)
    assert words(world) == []
    back(world)
    come(world, "71", 1, "one")
    publish(world, second, "72")
    come(world, "72", 2, "two")
    assert words(world) == ["one", "two"]
    world.assert_fold_is_live()


def test_the_copy_is_known_however_many_messages_came_before_it(away):
    first = say(away, "one")
    unanswered(away)
    back(away)
    publish(away, first, "71")
    for seq in range(1, 601):
        away.deliver("bob", seq)
    come(away, "71", 601, "one")
    assert words(away).count("one") == 1
    assert away.acks("bob")[-1] == 601


def test_a_copy_whose_agent_still_waits_gives_its_number_and_counts_only_when_it_is_typed(away):
    program = away.broker.state.registration_of("bob").session_id
    away.report(inputs.ProgramBlocked, program, pattern="trust")
    first = say(away, "one")
    unanswered(away)
    back(away)
    publish(away, first, "71")
    come(away, "71", 1, "one")
    assert away.acks("bob") == []
    away.report(inputs.ProgramUnblocked, program)
    assert words(away) == ["one"]
    assert "[71]" in away.texts("bob")[0]
    assert away.acks("bob")[-1] == 1
    away.assert_fold_is_live()


def test_a_frame_that_does_not_name_its_sender_may_be_the_copy(away):
    first = say(away, "one")
    unanswered(away)
    back(away)
    away.deliver("bob", 1, msg_id="71", payload={"type": "dm.received", "data": {"id": "71", "text": "one"}})
    assert words(away) == ["one"]
    publish(away, first, "71")
    assert words(away) == ["one"]
    assert away.acks("bob")[-1] == 1


def test_local_clients_hear_of_the_message_once(away):
    first = say(away, "one")
    unanswered(away)
    back(away)
    come(away, "71", 1, "one")
    publish(away, first, "71")
    heard = [body["event_id"] for body in away.notified if body["kind"] == "relay_inbound"]
    assert heard == [first]
    queued = [body["event_id"] for body in away.notified if body["kind"] == "delivery_queued"]
    assert queued == [first], "the copy takes no place of its own"


def test_what_was_sent_before_its_recipient_was_here_is_not_overtaken(world):
    first = say(world, "one", to="carl")
    world.spawn("carl")
    publish(world, first, "71")
    world.drop()
    say(world, "two", to="carl")
    unanswered(world)
    assert words(world, "carl") == []


# --- crashes and ends ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["given", "back", "published", "came"])
def test_a_kill_at_any_moment_types_nothing_twice_and_loses_nothing(away, moment):
    first = say(away, "one")

    def kill():
        away.crash()
        away.start()

    steps = {
        "given": lambda: unanswered(away),
        "back": lambda: back(away),
        "published": lambda: publish(away, first, "71"),
        "came": lambda: come(away, "71", 1, "one"),
    }
    for name, step in steps.items():
        step()
        if name == moment:
            kill()
            if name != "given":
                back(away)
    come(away, "71", 1, "one")
    assert words(away) == ["one"]
    assert away.acks("bob")[-1] == 1
    assert len({call.idempotency_key for call in publishes(away)}) == 1
    away.assert_fold_is_live()


@pytest.mark.parametrize("published", [True, False])
def test_what_was_not_typed_when_the_program_ended_goes_back_to_the_outbox_and_comes_from_the_engine(away, published):
    program = away.broker.state.registration_of("bob").session_id
    away.report(inputs.ProgramBlocked, program, pattern="trust")
    first = say(away, "one")
    unanswered(away)
    if published:
        publish(away, first, "71")
    away.report(inputs.ProgramExited, program, code=1, signal=None, last_output="", uptime_s=9.0, requested=False)
    assert away.broker.state.dead_letters == {}
    assert states(away, first)[-1] == "dropped"
    away.sessions.pop(program, None)
    back(away)
    if not published:
        publish(away, first, "71")
    away.spawn("bob")
    come(away, "71", 1, "one")
    assert words(away) == ["one"]
    assert away.acks("bob")[-1] == 1
    away.assert_fold_is_live()


def test_a_message_that_the_engine_refuses_stays_typed_and_its_sender_is_told_the_truth(away):
    first = say(away, "one")
    unanswered(away)
    away.advance(5)
    back(away)
    away.advance(31)
    message = away.broker.state.messages[f"message:{first}"]
    away.tell(inputs.EngineAnswered(call_id=message.call_id, status=403, data=None, code="blocked"))
    assert words(away) == ["one"]
    assert away.texts("ann")[-1].endswith(
        f"Your message {first} to bob was given to it, but the engine does not have it: The engine answered with an error."
    )
    assert states(away, first)[-1] == "acked"
    away.assert_fold_is_live()


def test_a_message_that_expires_in_the_outbox_releases_what_may_have_been_its_copy(away):
    say(away, "one")
    unanswered(away)
    back(away)
    come(away, "71", 1, "something else")
    while away.broker.state.messages:
        away.advance(600)
        unanswered(away)
    assert away.now - 1_000_000.0 >= KEEP_S
    assert words(away) == ["one", "something else"]


def test_what_was_typed_ends_when_its_copy_can_no_longer_come(away):
    first = say(away, "one")
    publish(away, first, "71")
    assert states(away, first)[-1] == "injected"
    away.advance(local_first.COPY_S)
    assert states(away, first)[-1] == "acked"
    assert away.broker.state.copies_to_come == {}
    away.assert_fold_is_live()


@pytest.mark.parametrize("earlier", [0, 1, 2], ids=["the first of all", "the next one", "behind another"])
def test_a_copy_that_comes_after_its_time_is_not_typed(away, earlier):
    """By the clock here its time was over: it was set while the broker was dead, and that of the engine was not."""
    first = say(away, "one")
    publish(away, first, "71")
    away.advance(local_first.COPY_S)
    back(away)
    for number in range(1, earlier + 1):
        come(away, f"6{number}", number, f"other {number}", sender="planner")
    come(away, "71", earlier + 1, "one")
    assert words(away) == ["one", *(f"other {number}" for number in range(1, earlier + 1))]
    assert away.acks("bob")[-1] == earlier + 1
    away.assert_fold_is_live()


@pytest.mark.parametrize("policy", ["ask", "at_least_once", "at_most_once"])
def test_what_may_have_been_typed_is_settled_by_the_policy_and_its_copy_is_not_typed(policy):
    """The PTY host dies while the text is with it."""
    made = World(msgspec.structs.replace(SETTINGS, local_first=True, in_doubt=policy))
    made.start()
    made.online()
    made.spawn("ann")
    made.spawn("bob")
    made.drop()
    made.auto_type = False
    first = say(made, "one")
    unanswered(made)
    made.host_id, made.sessions, made.reports, made.unconfirmed, made.pending_text = "host_2", {}, 0, [], []
    made.tell(inputs.HostLost(detail="eof"))
    made.advance(1)
    assert [letter.reason for letter in made.broker.state.dead_letters.values()] == (
        [] if policy == "at_most_once" else ["ambiguous"]
    )
    made.auto_type = True
    back(made)
    publish(made, first, "71")
    made.spawn("ann")
    made.spawn("bob")
    come(made, "71", 1, "one")
    assert words(made) == []
    assert made.acks("bob")[-1] == 1
    made.assert_fold_is_live()


# --- answers ------------------------------------------------------------------------------------------------------------------


def test_an_answer_to_a_message_that_is_not_published_is_typed_and_lands_in_its_thread_later(away):
    first = say(away, "question")
    answer = reply(away, first, "answer")
    assert away.texts("ann")[-1].endswith(f"Relay message from bob [{answer} thread:{first}]: answer")
    unanswered(away)
    assert not any("/replies" in call.path for call in publishes(away))
    publish(away, first, "71")
    (call,) = [call for call in publishes(away) if call.path.endswith("/replies")]
    assert call.path == "/v1/messages/71/replies"
    publish(away, answer, "72")
    back(away)
    come(away, "71", 1, "question")
    payload = {"type": "thread.reply", "data": {"id": "72", "agent_name": "bob", "thread_id": "71", "text": "answer"}}
    away.deliver("ann", 1, msg_id="72", payload=payload)
    assert (words(away, "ann"), words(away)) == (["answer"], ["question"])
    assert away.acks("ann")[-1] == away.acks("bob")[-1] == 1
    away.assert_fold_is_live()


def test_an_answer_after_the_publication_goes_to_the_same_thread_under_either_id(away):
    first = say(away, "question")
    publish(away, first, "71")
    back(away)
    come(away, "71", 1, "question")
    for message_id in (first, "71"):
        reply(away, message_id, f"to {message_id}")
        assert publishes(away)[-1].path == "/v1/messages/71/replies"
        publish(away, next(iter(away.broker.state.messages)).removeprefix("message:"), f"8{len(away.log)}")


def test_an_answer_to_what_the_engine_delivered_before_the_outage_is_typed_too(world):
    first = say(world, "question")
    publish(world, first, "71")
    come(world, "71", 1, "question")
    world.drop()
    reply(world, "71", "answer")
    assert words(world, "ann") == ["answer"]


def test_an_answer_to_a_message_that_the_engine_refused_is_refused_as_well_and_its_sender_is_told(away):
    first = say(away, "question")
    answer = reply(away, first, "answer")
    unanswered(away)
    away.advance(31)
    message = away.broker.state.messages[f"message:{first}"]
    away.tell(inputs.EngineAnswered(call_id=message.call_id, status=403, data=None, code="blocked"))
    assert away.broker.state.messages == {}
    assert away.texts("bob")[-1].endswith(
        f"Your message {answer} to ann was given to it, but the engine does not have it: The engine knows no such recipient."
    )
    away.assert_fold_is_live()


def test_an_answer_to_a_message_that_nobody_knows_is_refused(world):
    ghost = f"http_{'0' * 32}"
    world.tell(
        inputs.SendRequested(
            request_id="s1", to=f"thread:{ghost}", text="hm", thread_id=ghost, agent_id=world.agent_ids["ann"]
        )
    )
    assert (world.replies["s1"].status, world.replies["s1"].body["code"]) == (404, "message_not_found")


def test_urgent_messages_and_answers_never_wait_for_each_other_for_ever(away):
    """What is typed in an order is published in it, whatever its priority."""
    first = say(away, "question")
    answer = reply(away, first, "answer")
    say(away, "urgent", priority=0)
    reply(away, answer, "answer to the answer", "ann")
    unanswered(away)
    number = 70
    while away.broker.state.messages:
        away.advance(31)
        for message in list(away.broker.state.messages.values()):
            if message.call_id:
                number += 1
                publish(away, message.event_id, str(number))
    assert number == 74
    assert words(away) == ["question", "urgent", "answer to the answer"]
