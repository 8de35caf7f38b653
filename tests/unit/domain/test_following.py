"""A sender can follow its message: one id and one sender over all that is told of it, and an end for whatever is announced as queued."""

import pytest

from relaybroker.adapters.http.api import views
from relaybroker.domain import inputs

ENDS = {"delivery_ack", "delivery_failed", "delivery_dropped"}


def send(world, to, sender="human:ann", text="hello", **fields):
    """The message's id here, and the call that publishes it."""
    world.tell(inputs.SendRequested(request_id="s1", to=to, text=text, sender=sender, **fields))
    event_id = world.events("message.accepted.v1")[-1].event.event_id
    return event_id, next(call for call in world.calls("/messages") + world.calls("/v1/dm") if event_id in call.call_id)


def copy(world, name, *, seq=1, author="desk", text="hello", **data):
    """What the engine delivers of it."""
    data = {"id": "77", "agent_id": "900", "agent_name": author, "text": text} | data
    kind = "message.created" if "channel_name" in data else "dm.received"
    world.deliver(name, seq, msg_id="77", payload={"type": kind, "data": data})


def publish(world, call):
    world.tell(inputs.EngineAnswered(call_id=call.call_id, status=201, data={"id": "77"}))


def announced(world, prefix=""):
    return [body for body in world.notified if "event_id" in body and body["kind"].startswith(prefix)]


@pytest.fixture(params=["answer first", "copy first"])
def order(request):
    return request.param


@pytest.mark.parametrize(("to", "place"), [("w1", {}), ("@w1", {}), ("#general", {"channel_name": "general"})])
def test_a_message_has_the_id_of_its_answer_and_its_callers_name_in_everything_that_is_told(world, order, to, place):
    world.spawn("w1")
    event_id, call = send(world, to)
    if order == "answer first":
        publish(world, call)
        copy(world, "w1", **place)
    else:
        copy(world, "w1", **place)
        publish(world, call)
    world.report_verified(world.broker.state.registration_of("w1").session_id)

    assert {body["event_id"] for body in announced(world)} == {event_id, world.replies["s1"].body["event_id"]}
    (inbound,) = announced(world, "relay_inbound")
    (queued,) = announced(world, "delivery_queued")
    (confirmed,) = announced(world, "message_delivery_confirmed")
    assert inbound["from"] == queued["from"] == confirmed["from"] == "human:ann"
    assert [body["kind"] for body in announced(world, "delivery_")] == [
        "delivery_queued", "delivery_injected", "delivery_ack", "delivery_read_ack", "delivery_verified",
    ]  # fmt: skip
    world.assert_fold_is_live()


def test_an_answer_that_came_before_the_engines_has_the_same_id(world):
    """ADR-0014: whoever was told that the message is stored follows it by that id."""
    world.spawn("w1")
    event_id, call = send(world, "w1")
    world.advance(6.0)
    assert (world.replies["s1"].body["publish_pending"], world.replies["s1"].body["event_id"]) == (True, event_id)
    copy(world, "w1")
    world.tell(inputs.EngineUnanswered(call_id=call.call_id, detail="timeout"))
    assert {body["event_id"] for body in announced(world, "delivery_") + announced(world, "relay_inbound")} == {
        event_id
    }


def test_a_message_that_is_held_is_listed_under_its_id_and_its_senders_name(world):
    world.spawn("w1")
    world.tell(inputs.DeliveryModeRequested(request_id="m1", name="w1", mode="manual_flush"))
    event_id, call = send(world, "w1")
    publish(world, call)
    copy(world, "w1")
    (row,) = views.held_messages(world.broker.state, "w1")
    assert (row.event_id, row.message_id, row.sender) == (event_id, "77", "human:ann")
    (open_one,) = views.status(world.broker.state, world.now).pending_deliveries
    assert (open_one.event_id, open_one.sender) == (event_id, "human:ann")
    assert [body["reason"] for body in announced(world, "delivery_queued")] == ["inbound_delivery_manual_flush"]


@pytest.mark.parametrize(
    "other", [{"author": "alice"}, {"text": "hello!"}, {"channel_name": "lab"}], ids=["author", "text", "place"]
)
def test_another_message_is_not_taken_for_ours(world, other):
    """It has another author, other words, or another target."""
    world.spawn("w1")
    event_id, _ = send(world, "w1")
    copy(world, "w1", **other)
    assert event_id not in {body["event_id"] for body in announced(world, "delivery_")}


def test_a_dead_letter_and_its_new_attempt_keep_the_id(world):
    world.spawn("w1")
    world.auto_type = False
    event_id, call = send(world, "w1")
    publish(world, call)
    copy(world, "w1")
    world.not_typed(world.pending_text.pop(0), reason="ambiguous", typed="unknown")
    (letter,) = views.dead_letters(world.broker.state, world.now)
    assert (letter.event_id, letter.sender) == (event_id, "human:ann")
    (added,) = announced(world, "dead_letter_added")
    assert (added["id"], added["event_id"]) == (letter.id, event_id)
    world.tell(inputs.RedeliverRequested(request_id="d1", letter_ids=(letter.id,)))
    assert {body["event_id"] for body in announced(world)} == {event_id}


# --- every beginning has an end -----------------------------------------------------------------------------------------------


NEVER_TYPED = {
    "receipt": {"type": "message.read", "data": {"message_id": "M9", "agent_name": "bob"}},
    "unknown kind": {"type": "weather.changed", "data": {"id": "M9"}},
    "own echo": {"type": "message.created", "data": {"id": "M9", "agent_id": "100", "agent_name": "w1", "text": "me"}},
    "poison": None,
}


@pytest.mark.parametrize("payload", NEVER_TYPED.values(), ids=NEVER_TYPED.keys())
def test_what_is_never_typed_is_never_announced_as_queued(world, payload):
    assert world.spawn("w1") == "100"
    world.deliver("w1", 1, msg_id="M9", payload=payload)
    assert announced(world, "delivery_queued") == []
    assert views.status(world.broker.state, world.now).pending_deliveries == []


@pytest.mark.parametrize("verification", ["echo", "timeout_fallback"])
def test_what_is_typed_ends_with_an_ack_and_says_why_no_echo_was_seen(world, verification):
    world.auto_type = False
    world.spawn("w1")
    world.deliver("w1", 1)
    text = world.pending_text[0]
    world.type_next()
    world.report(inputs.TextVerified, text.session_id, delivery_id=text.delivery_id, verification=verification)
    (verified,) = announced(world, "delivery_verified")
    assert verified.get("reason") == (None if verification == "echo" else "verification_timeout")
    assert [body["status"] for body in announced(world, "delivery_read_ack")] == ["marked"]


def test_a_task_is_no_message_of_the_engine(world):
    world.spawn("w1", task="make all")
    world.report_verified(world.broker.state.registration_of("w1").session_id)
    (read,) = announced(world, "delivery_read_ack")
    assert (read["status"], read["reason"]) == ("skipped_synthetic", "initial_task_synthetic_event_id")
    assert read["event_id"].startswith("init_")


def test_what_was_typed_while_the_link_was_away_is_marked_as_read_when_the_engine_hears_of_it(world):
    world.auto_type = False
    world.spawn("w1")
    world.deliver("w1", 1)
    world.drop()
    world.type_next()
    world.report_verified(world.broker.state.registration_of("w1").session_id)
    assert announced(world, "delivery_read_ack") == []
    world.advance(5.0)
    world.online()
    assert [body["status"] for body in announced(world, "delivery_read_ack")] == ["marked"]


def test_what_was_typed_into_a_program_that_ends_before_its_echo_is_seen_has_an_end(world):
    world.spawn("w1")
    world.deliver("w1", 1)
    session = world.broker.state.registration_of("w1").session_id
    world.report(inputs.ProgramExited, session, code=0, signal=None, last_output="", uptime_s=1.0, requested=False)
    ends = [body for body in announced(world) if body["kind"] in ENDS]
    assert [body["kind"] for body in ends] == ["delivery_ack"]
    assert [body["reason"] for body in announced(world, "delivery_verified")] == ["worker_exited"]
    world.assert_fold_is_live()


def test_what_waits_for_a_program_that_ends_has_an_end(world):
    world.auto_type = False
    world.spawn("w1")
    for seq in (1, 2, 3):
        world.deliver("w1", seq)
    session = world.broker.state.registration_of("w1").session_id
    world.report(inputs.ProgramExited, session, code=1, signal=None, last_output="", uptime_s=1.0, requested=False)
    queued = {body["event_id"] for body in announced(world, "delivery_queued")}
    dropped = [body for body in world.notified if body["kind"] == "delivery_dropped"]
    assert queued == {"M1", "M2", "M3"} == {one for body in dropped for one in body["event_ids"]}


def test_a_terminal_that_refuses_a_text_is_tried_again_and_that_is_told(world):
    world.auto_type = False
    world.spawn("w1")
    world.deliver("w1", 1)
    world.not_typed(world.pending_text.pop(), reason="pty_write_failed")
    (again,) = announced(world, "delivery_retry")
    assert (again["event_id"], again["attempts"]) == ("M1", 1)


def test_silence_says_since_when(world):
    world.spawn("w1")
    world.now = 1_767_261_600.0
    world.report(inputs.ProgramIdle, world.broker.state.registration_of("w1").session_id, idle_s=30.0)
    (idle,) = [body for body in world.notified if body["kind"] == "agent_idle"]
    assert (idle["idle_secs"], idle["since"]) == (30, "2026-01-01T09:59:30.000Z")
